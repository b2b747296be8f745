"""The packer against the layout's definition, value by value."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest

from host.layout import pack
from host.weights import Quantised
from spec.config import KV260, TINY, Config
from spec.layout import LayoutError, Matrix, port_stride, region_bytes

CONFIGS = [
    TINY,
    Config(name="four", group=32, tile_rows=16, max_k=1024),
    Config(name="narrow", ports=4, port_bits=32, group=32, tile_rows=32, max_k=1024),
    Config(name="two", ports=2, port_bits=64, group=32, tile_rows=16, max_k=1024),
    dataclasses.replace(KV260, name="wide-tile", group=32, tile_rows=128),
]
SHAPES = [(1, 128), (17, 384), (33, 256), (130, 640)]


def random_weights(rng, rows: int, columns: int, bits: int, group: int) -> Quantised:
    groups = columns // group
    scales = rng.uniform(0, 2, (rows, groups)).astype(np.float16)
    if bits == 8:
        values = rng.integers(-128, 128, (rows, columns), np.int8)
        return Quantised(8, group, values, scales)
    values = rng.integers(0, 16, (rows, columns), np.uint8)
    return Quantised(4, group, values, scales, rng.integers(0, 16, (rows, groups), np.uint8))


def packed(config: Config, weights: Quantised) -> tuple[Matrix, np.ndarray, int]:
    matrix = pack.matrix(config, weights)
    stride = port_stride(config, matrix.beats)
    region = np.full(region_bytes(config, matrix.beats), 0xA5, np.uint8)
    pack.pack_weights(config, weights, region, stride)
    return matrix, region, stride


def image_by_definition(matrix: Matrix, weights: Quantised, stride: int, size: int) -> np.ndarray:
    """The region by ``Matrix.locate*``, padding zero, gaps between the parts left at 0xA5."""
    config = matrix.config
    region = np.full(size, 0xA5, np.uint8)
    for port in range(config.ports):
        region[port * stride : port * stride + matrix.beats * config.port_bytes] = 0

    def put(place, value):
        region[place.port * stride + place.offset] |= value << place.bit

    for n in range(matrix.rows):
        for k in range(matrix.columns):
            code = int(weights.values[n, k]) + (128 if matrix.bits == 8 else 0)
            for index, place in enumerate(matrix.locate(n, k)):
                put(place, code >> 4 * index & 15)
        for k in range(0, matrix.columns, min(matrix.group, matrix.chunk_columns)):
            pattern = int(weights.scales[n].view(np.uint16)[k // matrix.group])
            place = matrix.locate_scale(n, k)
            put(place, pattern & 255)
            put(dataclasses.replace(place, offset=place.offset + 1), pattern >> 8)
            if weights.zeros is not None:
                put(matrix.locate_zero(n, k), int(weights.zeros[n, k // matrix.group]))
    return region


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_image_is_the_layouts(config, bits, group):
    seed = 100 * bits + group
    rng = np.random.default_rng(seed)
    for rows, columns in SHAPES[:3]:
        columns = max(group, columns - columns % group - group * (rows % 2))
        weights = random_weights(rng, rows, columns, bits, group)
        matrix, region, stride = packed(config, weights)
        expected = image_by_definition(matrix, weights, stride, region.size)
        assert np.array_equal(region, expected), f"seed {seed}, shape {rows}x{columns}"


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("config", [*CONFIGS, KV260], ids=lambda config: config.name)
def test_unpack_gives_back_what_was_packed(config, bits):
    rng = np.random.default_rng(bits)
    for rows, columns in SHAPES:
        group = max(64, config.group)
        weights = random_weights(rng, rows, columns, bits, group)
        matrix, region, stride = packed(config, weights)
        again = pack.unpack_weights(config, matrix, region, stride)
        assert np.array_equal(again.values, weights.values)
        assert np.array_equal(again.scales, weights.scales)
        assert (again.zeros is None) == (bits == 8)
        if weights.zeros is not None:
            assert np.array_equal(again.zeros, weights.zeros)


def test_large_matrix_packs_in_bounded_memory():
    weights = random_weights(np.random.default_rng(5), 20_000, 896, 8, 64)
    matrix = pack.matrix(KV260, weights)
    stride = port_stride(KV260, matrix.beats)
    region = np.empty(region_bytes(KV260, matrix.beats), np.uint8)
    tracemalloc.start()
    pack.pack_weights(KV260, weights, region, stride)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * pack.BLOCK_BYTES, peak


def broken(**changes) -> Quantised:
    weights = random_weights(np.random.default_rng(1), 4, 128, 4, 64)
    return dataclasses.replace(weights, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scales": np.full((4, 2), np.inf, np.float16)}, r"scale \[0, 0\] is inf: .* finite"),
        ({"scales": np.full((4, 2), np.nan, np.float16)}, r"scale \[0, 0\] is nan"),
        ({"scales": np.full((4, 2), -1, np.float16)}, r"scale \[0, 0\] is -1.0: .* not negative"),
        ({"scales": np.ones((4, 2), np.float32)}, r"scales must be float16 .* got float32"),
        ({"scales": np.ones((4, 3), np.float16)}, r"scales must be .*\(4, 2\), got .*\(4, 3\)"),
        ({"values": np.full((4, 128), 16, np.uint8)}, r"value \[0, 0\] is 16: .* 0\.\.15"),
        ({"values": np.zeros((4, 128), np.int32)}, r"values must be uint8"),
        ({"values": np.zeros(128, np.uint8)}, r"weights must be a matrix"),
        ({"zeros": np.full((4, 2), 200, np.uint8)}, r"zero \[0, 0\] is 200"),
        ({"zeros": None}, r"need zero points"),
        ({"bits": 8, "values": np.zeros((4, 128), np.int8)}, r"have no zero points"),
    ],
)
def test_bad_weights_are_refused_in_a_sentence(changes, sentence):
    with pytest.raises(pack.PackError, match=sentence):
        packed(TINY, broken(**changes))


def test_group_finer_than_the_engines_is_refused():
    weights = random_weights(np.random.default_rng(1), 4, 128, 4, 32)
    with pytest.raises(LayoutError, match="finer"):
        pack.matrix(KV260, weights)


def test_short_region_is_refused():
    weights = random_weights(np.random.default_rng(1), 4, 128, 4, 64)
    with pytest.raises(pack.PackError, match=r"a region of .* beats needs"):
        pack.pack_weights(KV260, weights, np.zeros(1000, np.uint8), 16384)
