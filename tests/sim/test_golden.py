"""The reference against the plain-integer definitions, and one example worked by hand."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest

from host.layout import blockfloat, pack
from host.weights import Quantised
from sim import golden
from spec import commands, numeric
from spec.config import KV260, TINY, Config
from spec.layout import Matrix, port_stride, region_bytes


class Memory:
    """A flat memory with a matrix and activations packed into it, and room for results."""

    def __init__(self, config: Config, weights: Quantised, activations: tuple, fmt: str):
        self.config, self.fmt, self.tokens = config, fmt, len(activations[0])
        self.matrix = matrix = pack.matrix(config, weights)
        beats = (matrix.beats, matrix.activation_beats(self.tokens))
        self.weights_at = region_bytes(config, beats[1])
        self.results_at = self.weights_at + region_bytes(config, beats[0])
        strides = [port_stride(config, count) for count in beats]
        self.data = np.zeros(self.results_at + matrix.result_bytes(self.tokens, fmt), np.uint8)
        pack.pack_weights(config, weights, self.data[self.weights_at :], strides[0])
        blockfloat.pack_activations(config, matrix, *activations, self.data, strides[1])
        fields = commands.matmul(
            matrix, self.tokens, weights=self.weights_at, weight_stride=strides[0],
            activations=0, activation_stride=strides[1], results=self.results_at,
            result_format=fmt,
        )  # fmt: skip
        self.descriptor = commands.pack(fields)

    def read(self, address: int, size: int) -> np.ndarray:
        return self.data[address : address + size]

    def write(self, address: int, data: np.ndarray) -> None:
        self.data[address : address + len(data)] = data

    def run(self) -> np.ndarray:
        """Result patterns [tokens, N] after one command."""
        assert golden.execute(self.config, self.read, self.write, self.descriptor)
        raw = self.data[self.results_at :]
        return blockfloat.result_patterns(self.config, self.matrix, self.tokens, self.fmt, raw)


def by_definition(weights: Quantised, activations: tuple, fmt: str) -> list[list[int]]:
    """Patterns by the formula at the head of ``spec.numeric``, in Python integers."""
    bases, shifts, mantissas = activations
    rows, columns = weights.values.shape
    results = []
    for token, base in enumerate(bases):
        results.append([])
        for n in range(rows):
            total = 0
            for k in range(columns):
                g = k // weights.group
                zero = 0 if weights.zeros is None else int(weights.zeros[n, g])
                mantissa, shift = numeric.scale_fields(int(weights.scales[n].view(np.uint16)[g]))
                shift += numeric.SHIFT_MAX - int(shifts[token, k // numeric.BLOCK])
                value = (int(weights.values[n, k]) - zero) * int(mantissas[token, k])
                total += value * mantissa << shift
            results[-1].append(numeric.round_result(total, int(base), fmt))
    return results


def test_example_by_hand():
    """Two rows, 32 columns: y0 = (3 - 1) * 0.5 * 5 + (0 - 1) * 0.5 * -2 = 6, y1 = -15 * 2 * 5."""
    values = np.ones((2, 32), np.uint8)
    values[0, 0], values[0, 31] = 3, 0
    values[1] = 15
    values[1, 0] = 0
    weights = Quantised(4, 32, values, np.float16([[0.5], [2]]), np.uint8([[1], [15]]))
    mantissas = np.zeros((1, 32), np.int8)
    mantissas[0, 0], mantissas[0, 31] = 5, -2
    activations = (np.int8([0]), np.uint8([[0]]), mantissas)
    patterns = Memory(TINY, weights, activations, "fp32").run()
    assert patterns.tolist() == [[0x40C00000, 0xC3160000]]  # 6.0 and -150.0
    assert Memory(TINY, weights, activations, "bf16").run().tolist() == [[0x40C0, 0xC316]]


def random_case(seed: int) -> tuple[Config, Quantised, tuple, str]:
    rng = np.random.default_rng(seed)
    ports, port_bits = [(1, 128), (2, 64), (4, 32), (4, 128)][rng.integers(4)]
    config = Config(
        ports=ports,
        port_bits=port_bits,
        group=32,
        tile_rows=16,
        max_k=1024,
        tokens=3,
        burst_beats=4,
    )
    group = int(rng.choice([32, 64, 128]))
    rows, columns = int(rng.integers(1, 20)), group * int(rng.integers(1, 384 // group + 1))
    shape = (rows, columns // group)
    patterns = rng.integers(0, 0x7C00, shape).astype(np.uint16)
    patterns[rng.random(shape) < 0.2] = rng.choice([0, 1, 0x3FF, 0x400, 0x7BFF])
    scales = patterns.view(np.float16)
    if rng.random() < 0.5:
        values = rng.integers(-128, 128, (rows, columns)).astype(np.int8)
        weights = Quantised(8, group, values, scales)
    else:
        values = rng.integers(0, 16, (rows, columns)).astype(np.uint8)
        weights = Quantised(4, group, values, scales, rng.integers(0, 16, shape).astype(np.uint8))
    tokens = int(rng.integers(1, 4))
    activations = (
        rng.choice([-80, 80, 0, 7], tokens).astype(np.int8),
        rng.integers(0, 16, (tokens, blockfloat.blocks(columns))).astype(np.uint8),
        rng.choice([-128, -127, 127, 0, 1, 55], (tokens, columns)).astype(np.int8),
    )
    return config, weights, activations, str(rng.choice(["fp32", "bf16"]))


@pytest.mark.parametrize("seed", range(40))
def test_execute_equals_the_formula(seed):
    config, weights, activations, fmt = random_case(seed)
    patterns = Memory(config, weights, activations, fmt).run()
    assert patterns.tolist() == by_definition(weights, activations, fmt), f"seed {seed}"


@pytest.mark.parametrize("bits", [4, 8])
def test_largest_sum_fits(bits):
    """Maximum K, largest scale, mantissas and weights, no shift: the accumulator's extreme."""
    config = Config(ports=1, group=32, tile_rows=16, max_k=32768)
    columns = config.max_k
    values = np.zeros((2, columns), np.uint8)
    values[1] = 15
    zeros = np.repeat(np.uint8([[15], [0]]), columns // 128, axis=1)
    scales = np.full((2, columns // 128), np.float16(65504))
    weights = Quantised(4, 128, values, scales, zeros)
    if bits == 8:
        signed = np.repeat(np.int8([[-128], [127]]), columns, axis=1)
        weights = Quantised(8, 128, signed, scales)
    shifts = np.zeros((1, columns // 64), np.uint8)
    activations = (np.int8([80]), shifts, np.full((1, columns), -128, np.int8))
    patterns = Memory(config, weights, activations, "fp32").run().view(np.float32)
    lowest = -15 if bits == 4 else -128
    exact = [lowest * -128 * columns * 65504 * Fraction(2) ** 80]
    exact.append((15 if bits == 4 else 127) * -128 * columns * 65504 * Fraction(2) ** 80)
    assert patterns[0].tolist() == [float(np.float32(float(value))) for value in exact]


def limbs_of(value: int) -> list[int]:
    return [value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF, value >> 64]


def value_of(limbs: np.ndarray) -> int:
    return sum(int(limb) << (32 * index) for index, limb in enumerate(limbs))


def interesting_sums(rng: np.random.Generator) -> list[int]:
    """Zero, powers of two and their neighbours, ties at both formats' last bit, random widths."""
    values = [0]
    for power in range(90):
        values += [1 << power, (1 << power) + 1, (1 << power) - 1]
        for significant in (8, 24):
            for odd in (0, 1):
                kept = (1 << (significant - 1)) + 6 + odd
                tie = (2 * kept + 1) << power
                values += [tie, tie + 1, tie - 1, ((1 << (significant + 1)) - 1) << power]
    for _ in range(3000):
        values.append(int(rng.integers(1, 1 << 62)) << 31 >> int(rng.integers(0, 93)))
    return [sign * value for value in values if value < 1 << 94 for sign in (1, -1)]


@pytest.mark.parametrize("fmt", ["fp32", "bf16"])
def test_round_results_equals_the_definition(fmt):
    rng = np.random.default_rng(11)
    values = interesting_sums(rng)
    limbs = np.array([limbs_of(value) for value in values], np.int64)
    for base in (numeric.BASE_MIN, -3, 0, 70):
        patterns, in_range = golden.round_results(limbs, np.array(base), fmt)
        assert in_range.all()
        expected = [numeric.round_result(value, base, fmt) for value in values]
        assert patterns.tolist() == expected, f"base {base}"


def test_out_of_range_is_reported():
    limbs = np.array([limbs_of(value) for value in (0, 1, -1, 1 << 85)], np.int64)
    _, in_range = golden.round_results(limbs, np.array(-128), "fp32")
    assert in_range.tolist() == [True, False, False, True]
    _, in_range = golden.round_results(limbs, np.array(127), "fp32")
    assert in_range.tolist() == [True, True, True, False]


@pytest.mark.parametrize("seed", range(30))
def test_accumulate_is_exact(seed):
    rng = np.random.default_rng(seed)
    terms, spread = int(rng.integers(1, 400)), int(rng.choice([1, 20, numeric.TOTAL_SHIFT_MAX + 1]))
    products = rng.integers(-(1 << 31) + 1, 1 << 31, (terms, 2, 3))
    products[rng.random(products.shape) < 0.3] = 0
    shifts = rng.integers(
        numeric.TOTAL_SHIFT_MAX + 1 - spread, numeric.TOTAL_SHIFT_MAX + 1, (terms, 2, 3)
    )
    limbs = golden.accumulate(products, shifts)
    for row in range(2):
        for token in range(3):
            pairs = zip(products[:, row, token], shifts[:, row, token], strict=True)
            expected = sum(int(product) << int(shift) for product, shift in pairs)
            assert value_of(limbs[row, token]) == expected, f"seed {seed}"
    assert ((limbs[..., :2] >= 0) & (limbs[..., :2] < 1 << 32)).all()


def test_scale_is_the_fp16_value():
    patterns = np.arange(0x7C00)
    products, shifts = golden.scale(np.array(-3), patterns, np.array(15), False)
    values = patterns.astype(np.uint16).view(np.float16).astype(np.float64)
    assert np.array_equal(products * 2.0 ** (shifts + numeric.SCALE_EXPONENT_LSB), -3 * values)
    signed = golden.scale(np.array(-3), patterns | 0x8000, np.array(15), False)
    assert np.array_equal(signed[0], products)
    _, high = golden.scale(np.array(1), patterns, np.array(4), True)
    assert np.array_equal(high, shifts + (15 - 4) + numeric.HIGH_NIBBLE_SHIFT)


def test_weights_of_joins_int8_halves():
    codes = np.arange(256)
    lanes = np.concatenate([codes & 15, codes >> 4]).astype(np.uint8)
    signed = golden.weights_of(lanes, None).astype(int)
    assert (signed[:256] + 16 * signed[256:]).tolist() == list(range(-128, 128))


@pytest.mark.parametrize("weights8", [False, True])
@pytest.mark.parametrize("group", [64, 128])
def test_chunk_order_agrees_with_the_layout(weights8, group):
    matrix = Matrix(KV260, 64, 128, 8 if weights8 else 4, group)
    order = golden.chunk_order(KV260, weights8, group)
    assert len(order) == matrix.chunk_beats
    rows = [index for index, kind in enumerate(order) if kind == "weights"]
    for n, beat in enumerate(rows):
        assert matrix.locate(n, 0)[0].offset == beat * KV260.port_bytes
        kind = order[matrix.locate_scale(n, 0).offset // KV260.port_bytes]
        assert kind == "scales"


def test_patterns_are_ieee_singles():
    limbs = np.array([limbs_of(3 << 39)], np.int64)
    pattern = int(golden.round_results(limbs, np.array(0), "fp32")[0][0])
    assert struct.unpack("<f", struct.pack("<I", pattern))[0] == 3.0
