"""The tiny Qwen2 against the logits of transformers (tests/make_qwen2_fixture.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from host import checkpoint
from host.device.driver import Accelerator
from host.device.transport import open_device
from host.forward.linear import AcceleratorBackend, FloatBackend
from host.forward.model import Transformer
from spec.config import KV260, TINY
from tests import make_qwen2_fixture
from tests.host.checkpoint_files import FIXTURES

PACKINGS = ("qwen2-tiny", "qwen2-tiny-awq")


def logits_of(folder: Path, backend) -> tuple[np.ndarray, np.ndarray]:
    """Ours and the reference's, [tokens, vocabulary]."""
    reference = np.load(folder.parent / "qwen2-tiny-logits.npz")
    model = checkpoint.find(folder).model()
    transformer = Transformer(model, backend, context=64)
    ours = transformer.forward(reference["tokens"].tolist(), all_logits=True)
    return ours, reference["logits"]


def check(ours: np.ndarray, reference: np.ndarray, tolerance: float) -> None:
    """Top-1 equal at each position, error under ``tolerance`` of the logits' length."""
    np.testing.assert_array_equal(ours.argmax(axis=1), reference.argmax(axis=1))
    error = np.linalg.norm(ours - reference) / np.linalg.norm(reference)
    assert error < tolerance, f"relative error of the logits {error:.4%}"


@pytest.mark.parametrize("packing", PACKINGS)
def test_in_floating_point(packing):
    """Loader and forward pass: nothing is lost but float32's rounding."""
    check(*logits_of(FIXTURES / packing, FloatBackend(16)), tolerance=1e-5)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("config", [KV260, TINY], ids=lambda config: config.name)
def test_on_the_golden_device(packing, config):
    """With int8 activations: under 1 %."""
    device = open_device("golden", config, 64 << 20)
    try:
        backend = AcceleratorBackend(Accelerator(device))
        check(*logits_of(FIXTURES / packing, backend), tolerance=0.01)
    finally:
        device.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_weights_with_transformers(tmp_path, seed):
    """Fresh fixtures, the reference computed here."""
    make_qwen2_fixture.make(tmp_path, seed)
    for packing in PACKINGS:
        check(*logits_of(tmp_path / packing, FloatBackend(16)), tolerance=1e-5)
        device = open_device("golden", KV260, 64 << 20)
        backend = AcceleratorBackend(Accelerator(device))
        check(*logits_of(tmp_path / packing, backend), tolerance=0.01)
        device.close()
