"""Block floating point against its definition, and its places in the memory image."""

from __future__ import annotations

import numpy as np
import pytest

from host.layout import blockfloat
from spec import numeric
from spec.config import KV260, TINY, Config
from spec.layout import Matrix, port_stride, region_bytes

EDGES = [
    0.0, -0.0, 1.0, 127.0, 127.00001, 127.49, 127.5, 128.0, 63.5, 0.5, 1.5, 2.5, -2.5, 1e-38,
    1e-45, -1e-45, 3.4028235e38, -3.4028235e38, 2.0**80, 2.0**-80, 127 * 2.0**-80, 1.17549435e-38,
]  # fmt: skip


def check(activations: np.ndarray) -> None:
    bases, shifts, mantissas = blockfloat.quantise(activations)
    assert (bases.dtype, shifts.dtype, mantissas.dtype) == (np.int8, np.uint8, np.int8)
    for token, row in enumerate(activations):
        base, shift, mantissa = numeric.quantise([float(value) for value in row])
        assert bases[token] == base
        assert shifts[token].tolist() == shift
        assert mantissas[token].tolist() == mantissa


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 320])
def test_edges_equal_the_definition(columns):
    rows = [np.resize(np.roll(np.float32(EDGES), turn), columns) for turn in range(len(EDGES))]
    check(np.stack(rows))
    check(np.zeros((2, columns), np.float32))
    for value in EDGES:
        single = np.zeros((1, columns), np.float32)
        single[0, columns // 2] = value
        check(single)


@pytest.mark.parametrize("seed", range(20))
def test_random_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    columns = int(rng.integers(1, 400))
    exponents = rng.integers(-60, 60, (3, -(-columns // 64))) * rng.integers(0, 3)
    values = rng.standard_normal((3, columns)) * 2.0 ** np.repeat(exponents, 64, 1)[:, :columns]
    check(values.astype(np.float32))


def test_any_fp32_pattern_equals_the_definition():
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 1 << 32, (40, 192), np.uint32)
    values = patterns.view(np.float32)
    values[~np.isfinite(values)] = 1
    check(values)


def test_dequantise_is_within_half_a_step():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((4, 200)).astype(np.float32)
    bases, shifts, mantissas = blockfloat.quantise(values)
    again = blockfloat.dequantise(bases, shifts, mantissas)
    steps = np.ldexp(1.0, np.repeat(bases[:, None] - shifts.astype(int), 64, axis=1)[:, :200])
    assert (abs(again - values) <= steps / 2).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_non_finite_is_refused(value):
    activations = np.zeros((2, 70), np.float32)
    activations[1, 69] = value
    with pytest.raises(blockfloat.ActivationError, match=r"activation \[1, 69\] is"):
        blockfloat.quantise(activations)


def test_other_types_are_refused():
    with pytest.raises(blockfloat.ActivationError, match="float64"):
        blockfloat.quantise(np.zeros((1, 64)))


CONFIGS = [
    TINY,
    Config(name="narrow", ports=4, port_bits=32, group=32, tokens=16, tile_rows=16),
    Config(name="two", ports=2, port_bits=128, group=32, tokens=5, tile_rows=16),
    KV260,
]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [64, 192, 320])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_region_is_the_layouts(config, columns, bits):
    rng = np.random.default_rng(columns)
    matrix = Matrix(config, 3, columns, bits, 64)
    for tokens in sorted({1, config.tokens}):
        values = rng.standard_normal((tokens, columns)).astype(np.float32)
        bases, shifts, mantissas = blockfloat.quantise(values)
        beats = matrix.activation_beats(tokens)
        stride = port_stride(config, beats)
        out = np.full(region_bytes(config, beats), 0xA5, np.uint8)
        blockfloat.pack_activations(config, matrix, bases, shifts, mantissas, out, stride)
        expected = np.full_like(out, 0xA5)
        for port in range(config.ports):
            expected[port * stride : port * stride + beats * config.port_bytes] = 0
        for token in range(tokens):
            place = matrix.locate_base(token)
            expected[place.port * stride + place.offset] = int(bases[token]) & 255
            for k in range(columns):
                place = matrix.locate_activation(tokens, token, k)
                expected[place.port * stride + place.offset] = int(mantissas[token, k]) & 255
            for k in range(-(-columns // 64) * 64):  # a block is whole, its tail is padding
                place = matrix.locate_shift(tokens, token, k)
                if k // config.span < matrix.spans:
                    expected[place.port * stride + place.offset] = shifts[token, k // 64]
        assert np.array_equal(out, expected)


def test_disagreeing_shapes_are_refused():
    matrix = Matrix(TINY, 3, 64, 4, 64)
    parts = blockfloat.quantise(np.ones((1, 128), np.float32))
    with pytest.raises(blockfloat.ActivationError, match="must have shapes"):
        blockfloat.pack_activations(TINY, matrix, *parts, np.zeros(4096, np.uint8), 4096)
    parts = blockfloat.quantise(np.ones((3, 64), np.float32))
    with pytest.raises(blockfloat.ActivationError, match=r"tokens must lie in 1\.\.2, got 3"):
        blockfloat.pack_activations(TINY, matrix, *parts, np.zeros(4096, np.uint8), 4096)


@pytest.mark.parametrize("fmt", ["fp32", "bf16"])
@pytest.mark.parametrize("rows", [1, 64, 100])
def test_results_come_from_their_places(rows, fmt):
    matrix = Matrix(KV260, rows, 64, 4, 64)
    tokens = 3
    rng = np.random.default_rng(rows)
    values = rng.standard_normal((tokens, rows)).astype(np.float32)
    size = numeric.RESULT_BITS[fmt] // 8
    patterns = values.view(np.uint32) >> (32 - 8 * size)
    raw = np.zeros(matrix.result_bytes(tokens, fmt), np.uint8)
    for token in range(tokens):
        for n in range(rows):
            at = matrix.locate_result(tokens, token, n, fmt)
            raw[at : at + size] = list(int(patterns[token, n]).to_bytes(size, "little"))
    found = blockfloat.result_patterns(KV260, matrix, tokens, fmt, raw)
    assert np.array_equal(found, patterns)
    shifted = (patterns << np.uint32(32 - 8 * size)).view(np.float32)
    assert np.array_equal(blockfloat.unpack_results(KV260, matrix, tokens, fmt, raw), shifted)
    with pytest.raises(blockfloat.ActivationError, match="results have"):
        blockfloat.unpack_results(KV260, matrix, tokens, fmt, raw[:-1])
