"""The layout is a bijection: no two values share a bit, and every one lies inside its region."""

from __future__ import annotations

import dataclasses

import pytest

from spec import layout
from spec.config import KV260, TINY, Config
from spec.layout import LayoutError, Matrix, Place

CONFIGS = [
    TINY,
    Config(name="thin", ports=4, port_bits=32, group=32, tile_rows=64, tokens=16, max_k=1024),
    Config(name="two", ports=2, port_bits=64, group=32, tile_rows=16, tokens=3, max_k=1024),
    Config(name="four", ports=4, port_bits=128, group=32, tile_rows=16, max_k=1024),
    dataclasses.replace(KV260, name="fine", group=32, tile_rows=128),
]
SHAPES = [(1, 128), (17, 384), (33, 640)]


class Claims:
    """Bits taken so far in the ports' parts of a region."""

    def __init__(self, config: Config, beats: int) -> None:
        self.taken = [bytearray(beats * config.port_bits) for _ in range(config.ports)]

    def take(self, place: Place, width: int) -> None:
        first = 8 * place.offset + place.bit
        bits = self.taken[place.port]
        assert place.offset >= 0
        assert first + width <= len(bits), f"{place} leaves the region"
        assert not any(bits[first : first + width]), f"{place} is taken"
        bits[first : first + width] = b"\1" * width


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_weight_region_is_a_bijection(config, group, bits):
    for rows, columns in SHAPES:
        matrix = Matrix(config, rows, columns, bits, group)
        claims = Claims(config, matrix.beats)
        step = min(group, matrix.chunk_columns)
        for n in range(rows):
            for k in range(columns):
                for place in matrix.locate(n, k):
                    claims.take(place, 4)
                    assert place.bit % 4 == 0
            for k in range(0, columns, step):
                claims.take(matrix.locate_scale(n, k), 16)
                assert matrix.locate_scale(n, k + step - 1) == matrix.locate_scale(n, k)
                if bits == 4:
                    claims.take(matrix.locate_zero(n, k), 4)
                    assert matrix.locate_zero(n, k + step - 1) == matrix.locate_zero(n, k)


def beat_of(config: Config, place: Place) -> int:
    return place.offset // config.port_bytes


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("config", [TINY, *CONFIGS[1:], KV260], ids=lambda config: config.name)
def test_scales_and_zeros_come_before_their_weights(config, bits):
    matrix = Matrix(config, config.tile_rows, 256, bits, 128)
    used = set()
    for n in range(config.tile_rows):
        weights = beat_of(config, matrix.locate(n, 0)[0])
        scales = beat_of(config, matrix.locate_scale(n, 0))
        assert scales < weights < scales + matrix.scale_rows + 3
        used |= {weights, scales}
        if bits == 4:
            zeros = beat_of(config, matrix.locate_zero(n, 0))
            assert zeros < weights
            used.add(zeros)
    assert used == set(range(matrix.chunk_beats))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_activation_region_is_a_bijection(config, bits):
    for tokens in {1, config.tokens}:
        matrix = Matrix(config, 5, 384, bits, 128)
        claims = Claims(config, matrix.activation_beats(tokens))
        for token in range(tokens):
            claims.take(matrix.locate_base(token), 8)
            for k in range(384):
                claims.take(matrix.locate_activation(tokens, token, k), 8)
            for k in range(0, 384, config.span):
                claims.take(matrix.locate_shift(tokens, token, k), 8)
                last = matrix.locate_shift(tokens, token, k + config.span - 1)
                assert last == matrix.locate_shift(tokens, token, k)


@pytest.mark.parametrize("fmt", ["fp32", "bf16"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_results_are_a_bijection(config, fmt):
    matrix, size = Matrix(config, 100, 128, 4, 128), {"fp32": 4, "bf16": 2}[fmt]
    tokens = config.tokens
    offsets = {
        matrix.locate_result(tokens, token, n, fmt) for token in range(tokens) for n in range(100)
    }
    assert len(offsets) == 100 * tokens
    assert all(offset % size == 0 for offset in offsets)
    assert min(offsets) >= 0
    assert max(offsets) + size <= matrix.result_bytes(tokens, fmt)


@pytest.mark.parametrize("config", [*CONFIGS, KV260], ids=lambda config: config.name)
def test_parts_are_staggered_and_apart(config):
    for beats in [1, 2, 255, 256, 257, 1024, 1025, 4096, 4097, 100_003]:
        stride, part = layout.port_stride(config, beats), beats * config.port_bytes
        assert stride >= part
        assert stride % layout.REGION_ALIGN == 0
        if config.ports > 1:
            assert stride % layout.STAGGER_PERIOD == layout.STAGGER
            assert stride < part + layout.STAGGER_PERIOD
        size = layout.region_bytes(config, beats)
        assert size % layout.REGION_ALIGN == 0
        assert 0 <= size - ((config.ports - 1) * stride + part) < layout.REGION_ALIGN


def test_example_by_hand():
    """KV260, int4, group 64: 2 scales a row, so 16 rows a scales beat and 64 a zeros beat."""
    matrix = Matrix(KV260, 64, 256, 4, 64)
    assert (matrix.chunk_beats, matrix.chunks, matrix.beats) == (64 + 4 + 1, 2, 138)
    assert matrix.locate_zero(0, 0) == Place(0, 0, 0)
    assert matrix.locate_scale(0, 64) == Place(0, 16 + 2, 0)
    assert matrix.locate(0, 0) == (Place(0, 2 * 16, 0),)
    assert matrix.locate(0, 33) == (Place(1, 2 * 16, 4),)
    assert matrix.locate(16, 127) == (Place(3, (16 + 3) * 16 + 15, 4),)
    assert matrix.locate(0, 128) == (Place(0, (69 + 2) * 16, 0),)
    eight = Matrix(KV260, 64, 256, 8, 64)
    assert eight.locate(0, 2) == (Place(0, 16 + 1, 0), Place(2, 16 + 1, 0))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows": 0}, r"rows must lie in 1\.\.1048576, got 0"),
        ({"rows": (1 << 20) + 1}, r"rows must lie in 1\.\.1048576, got 1048577"),
        ({"columns": 0}, r"columns must lie in 1\.\.9216 \(max_k\), got 0"),
        ({"columns": 9217}, r"columns must lie in 1\.\.9216 \(max_k\), got 9217"),
        ({"columns": 100}, "K = 100 is not a multiple of the group 64"),
        ({"bits": 3}, "weights must have 4 or 8 bits, got 3"),
        ({"group": 48}, "group must be one of"),
        ({"group": 32}, "group 32 is finer than the engine's 64"),
    ],
    ids=str,
)
def test_matrices_that_do_not_fit(changes, sentence):
    good = {"rows": 4, "columns": 128, "bits": 4, "group": 64}
    with pytest.raises(LayoutError, match=sentence):
        Matrix(KV260, **{**good, **changes})


def test_int8_has_no_zero_points():
    with pytest.raises(LayoutError, match="no zero points"):
        Matrix(KV260, 4, 128, 8, 64).locate_zero(0, 0)
