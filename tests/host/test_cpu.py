"""The compiled kernels against the golden model, bit for bit, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from host import kernels
from host.device import cpu
from host.weights import Quantised
from sim import golden_device
from spec.config import TINY, Config
from spec.errors import ToolError
from tests.host.matmul_case import MEMORY, Case, Run, random_case, results


@pytest.mark.parametrize("seed", range(240))
def test_equals_golden(seed):
    case = random_case(seed)
    expected = results(golden_device.open, case)
    threads = 1 + seed % 3
    assert np.array_equal(results(cpu.open, case, threads=threads), expected), f"seed {seed}"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(60))
def test_every_processor_s_version_equals_golden(seed, version):
    case = random_case(seed)
    kernels.library().kernels_prefer(version)
    try:
        found = results(cpu.open, case)
    finally:
        kernels.library().kernels_prefer(0)
    assert np.array_equal(found, results(golden_device.open, case)), f"seed {seed}"


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("tokens", [1, 16])
def test_equals_golden_at_the_longest_row(tokens, bits):
    """K at its maximum with everything at its largest, where sums reach their full width."""
    rng = np.random.default_rng(bits)
    config = Config(ports=4, group=128, tile_rows=16, tokens=16, max_k=32768)
    groups = config.max_k // 128
    scales = np.full((3, groups), 65504, np.float16)
    signs = rng.choice([-1, 1], (3, 1))
    if bits == 8:
        values = np.broadcast_to(np.where(signs > 0, 127, -128), (3, config.max_k))
        weights = Quantised(8, 128, values.astype(np.int8), scales)
    else:
        values = np.broadcast_to(np.where(signs > 0, 15, 0), (3, config.max_k))
        zeros = np.broadcast_to(np.where(signs > 0, 0, 15), (3, groups))
        weights = Quantised(4, 128, values.astype(np.uint8), scales, zeros.astype(np.uint8))
    activations = (
        np.full(tokens, 80, np.int8),
        np.zeros((tokens, config.max_k // 64), np.uint8),
        np.full((tokens, config.max_k), 127, np.int8),
    )
    case = Case(config, weights, activations, "fp32")
    assert np.array_equal(results(cpu.open, case), results(golden_device.open, case))


@pytest.mark.parametrize("seed", range(30))
def test_equals_golden_on_any_bytes(seed):
    """Flipped bits in memory: infinite scales, mantissas of -128, exponents out of bounds."""
    found = []
    for factory in (cpu.open, golden_device.open):
        case = random_case(seed)
        run = Run(factory(case.config, MEMORY), case)
        rng = np.random.default_rng(seed)
        for buffer in (run.weights, run.activations):
            buffer.array[:] = rng.integers(0, 256, buffer.array.size, np.uint8)
        error = run.ring()
        assert not any(value for name, value in error.items() if name != "range")
        found.append((run.results.array.tobytes(), error))
    assert found[0] == found[1], f"seed {seed}"


def test_names_and_options():
    with pytest.raises(ToolError, match="device cpu has no option 'speed'"):
        cpu.open(TINY, MEMORY, speed=1)
    with pytest.raises(ToolError, match="device golden has no option 'threads'"):
        golden_device.open(TINY, MEMORY, threads=1)
    for threads in (0, 65, "two"):
        with pytest.raises(ToolError, match=r"threads must lie in 1\.\.64, got"):
            cpu.open(TINY, MEMORY, threads=threads)


def test_missing_kernels_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolError, match=r"kernels are missing: .* C compiler"):
        kernels.library.__wrapped__()


def test_kernels_of_another_version_are_refused(monkeypatch):
    monkeypatch.setattr(kernels, "ABI", 99)
    with pytest.raises(ToolError, match=r"have version \d+, not 99"):
        kernels.library.__wrapped__()
