"""What a model costs in memory once it is on a device, and while it goes there."""

from __future__ import annotations

import numpy as np
import pytest

from host.checkpoint import tables
from host.checkpoint.errors import CheckpointError
from host.checkpoint.tables import Table, embedding_of, materialise
from host.device import cpu
from host.layout import image
from host.sampling import Sampling
from host.session import Session
from host.weights import Quantised, StoredEmbedding, outline
from spec.config import TINY
from tests.host.test_generate import Letters
from tests.host.tiny_model import random_model, random_quantised, shape


def table(values: np.ndarray, single: bool = False) -> Table:
    read = lambda start, stop: values[start:stop].astype(np.float32)  # noqa: E731
    return Table("w", *values.shape, read, single)


@pytest.mark.parametrize("single", [False, True])
def test_a_large_embedding_stays_in_its_file(monkeypatch, single):
    values = np.random.default_rng(1).standard_normal((3000, 32)).astype(np.float32)
    wanted = materialise(table(values, single))
    assert isinstance(embedding_of(table(values, single)), np.ndarray)
    monkeypatch.setattr(tables, "STORED_BYTES", 1000)
    found = embedding_of(table(values, single))
    assert isinstance(found, StoredEmbedding) and len(found) == 3000
    assert found.nbytes == wanted.nbytes and np.array_equal(found.whole(), wanted)
    ids = np.array([5, 2999, 5, 0])
    assert np.array_equal(found[ids], wanted[ids]) and found[ids].dtype == wanted.dtype


def test_a_bad_value_in_it_is_found_when_it_is_opened(monkeypatch):
    monkeypatch.setattr(tables, "STORED_BYTES", 1000)
    values = np.zeros((3000, 32), np.float32)
    values[2500, 3] = 1e5
    with pytest.raises(CheckpointError, match="too large value"):
        embedding_of(table(values))


def test_the_same_text_from_a_stored_embedding(monkeypatch):
    model = random_model(3, shape("qwen2", context=32))
    plain = np.array(model.embedding, np.float16)
    stored = StoredEmbedding(*plain.shape, lambda start, stop: plain[start:stop], np.float16)
    object.__setattr__(model, "embedding", plain)
    texts = []
    for embedding in (plain, stored):
        object.__setattr__(model, "embedding", embedding)
        monkeypatch.setattr("host.session.open_device", lambda name, *given: cpu.open(*given))
        session = Session.open(model, "cpu", TINY, 32)
        texts.append(session.run([3, 4, 5, 6, 7], Letters(), Sampling(), 6).generation.tokens)
        session.close()
    assert texts[0] == texts[1]
    assert np.array_equal(image.tensors(model)["embedding"], plain)


def test_an_outline_has_the_shape_and_no_memory():
    whole = random_quantised(1, 40, 256)
    found = outline(whole)
    assert isinstance(found, Quantised)
    assert (found.rows, found.columns, found.bits, found.group) == (40, 256, 4, whole.group)
    assert not any(found.values.strides) and not any(found.scales.strides)


def test_layers_go_as_they_are_packed(monkeypatch):
    """And only if the caller says so."""
    monkeypatch.setattr("host.session.open_device", lambda name, *given: cpu.open(*given))
    model = random_model(3, shape("qwen2", context=32))
    object.__setattr__(model, "layers", list(model.layers))
    texts = []
    for consume in (False, True):
        session = Session.open(model, "cpu", TINY, 32, consume=consume)
        texts.append(session.run([3, 4, 5, 6, 7], Letters(), Sampling(), 6).generation.tokens)
        assert any(model.layers[0].qkv.values.strides) != consume
        assert not any(session.model.head.values.strides)
        session.close()
    assert texts[0] == texts[1]
