"""Number formats against rational arithmetic and the IEEE 754 of struct."""

from __future__ import annotations

import random
import struct
from fractions import Fraction

import pytest

from spec import numeric


def value_of(pattern: int, fmt: str) -> Fraction:
    """The exact value of an fp32 or bf16 pattern, by struct."""
    bits = pattern if fmt == "fp32" else pattern << 16
    return Fraction(struct.unpack("<f", struct.pack("<I", bits))[0])


def interesting(seed: int) -> list[int]:
    random.seed(seed)
    values = [0, 1, 3]
    for power in range(1, 86, 7):
        values += [1 << power, (1 << power) - 1, (1 << power) + 1]
        for significant in (8, 24):  # ties to even and to odd, and their neighbours
            for odd in (0, 1):
                tie = ((1 << significant) + 2 * odd + 1) << power
                values += [tie - 1, tie, tie + 1]
            values.append(((1 << significant + 1) - 1) << power)
    values += [random.getrandbits(random.randint(1, 86)) for _ in range(100)]
    return [value * sign for value in values if value < 1 << 86 for sign in (1, -1)]


@pytest.mark.parametrize("fmt", ["fp32", "bf16"])
@pytest.mark.parametrize("base", [numeric.BASE_MIN, -1, 0, 13, numeric.BASE_MAX - 2])
def test_round_result_is_the_nearest_even(base, fmt):
    for value in interesting(base & 0xFF):
        exact = Fraction(value) * Fraction(2) ** numeric.result_exponent(base)
        pattern = numeric.round_result(value, base, fmt)
        error = abs(value_of(pattern, fmt) - exact)
        if value == 0:
            assert pattern == 0
            continue
        for neighbour in (pattern - 1, pattern + 1):
            other = abs(value_of(neighbour, fmt) - exact)
            assert error <= other, f"{value} at base {base}"
            assert error < other or pattern % 2 == 0, f"tie {value} at base {base}"


def test_round_result_equals_struct_where_a_double_is_exact():
    random.seed(2)
    for _ in range(500):
        value = random.getrandbits(50) - (1 << 49)
        exact = float(value) * 2.0 ** numeric.result_exponent(5)
        expected = struct.unpack("<I", struct.pack("<f", exact))[0]
        assert numeric.round_result(value, 5, "fp32") == (expected if value else 0)


def test_extreme_sums_stay_in_fp32s_normal_range():
    largest = 32768 * 128 * 128 * 2047 << (numeric.SCALE_SHIFT_MAX + numeric.SHIFT_MAX)
    top = numeric.round_result(largest, numeric.BASE_MAX, "fp32")
    assert top >> 23 < 255
    assert numeric.round_result(1, numeric.BASE_MIN, "fp32") >> 23 > 0


def test_scale_fields_are_the_fp16_value():
    for pattern in [*range(0, 0x7C00, 13), 0, 1, 0x3FF, 0x400, 0x3C00, 0x7BFF]:
        mantissa, shift = numeric.scale_fields(pattern)
        value = Fraction(struct.unpack("<e", struct.pack("<H", pattern))[0])
        assert mantissa * Fraction(2) ** (shift + numeric.SCALE_EXPONENT_LSB) == value
        assert mantissa < 2048
        assert numeric.scale_fields(pattern | 0x8000) == (mantissa, shift)
    assert numeric.scale_fields(0x7FFF)[1] == numeric.SCALE_SHIFT_MAX


def next_float(value: float, step: int) -> float:
    bits = struct.unpack("<I", struct.pack("<f", value))[0] + step
    return struct.unpack("<f", struct.pack("<I", bits))[0]


@pytest.mark.parametrize("power", [-119, -64, -1, 0, 1, 63, 100, 121])
def test_block_exponent_is_the_smallest_that_fits(power):
    edge = 127.0 * 2.0**power
    for value in (edge, next_float(edge, -1), next_float(edge, 1), 64.0 * 2.0**power, 2.0**power):
        exponent = numeric.block_exponent(value)
        assert Fraction(value) <= 127 * Fraction(2) ** exponent
        assert Fraction(value) > 127 * Fraction(2) ** (exponent - 1)


def test_block_exponent_of_subnormals_is_the_least():
    assert numeric.block_exponent(1e-45) == numeric.BASE_MIN
    assert numeric.block_exponent(next_float(2.0**-126, -1)) == numeric.BASE_MIN


def test_quantise_by_hand():
    """Blocks of 127 and 1: the second one is seven powers of two finer, less the fit into 127."""
    base, shifts, mantissas = numeric.quantise([127.0] + [0.0] * 63 + [1.0, -0.5])
    assert (base, shifts) == (0, [0, 6])
    assert (mantissas[0], mantissas[64], mantissas[65]) == (127, 64, -32)
    assert numeric.quantise([0.0]) == (numeric.BASE_MIN, [0], [0])


@pytest.mark.parametrize("seed", range(10))
def test_quantise_is_within_half_a_step(seed):
    random.seed(seed)
    vector = [random.gauss(0, 1) * 2.0 ** random.randint(-6, 6) for _ in range(200)]
    vector = [struct.unpack("<f", struct.pack("<f", value))[0] for value in vector]
    base, shifts, mantissas = numeric.quantise(vector)
    for index, (value, mantissa) in enumerate(zip(vector, mantissas, strict=True)):
        step = Fraction(2) ** (base - shifts[index // numeric.BLOCK])
        assert abs(mantissa * step - Fraction(value)) <= step / 2, f"seed {seed}"
        assert abs(mantissa) <= numeric.MANTISSA_MAX


def test_quantise_of_values_out_of_reach():
    base, shifts, mantissas = numeric.quantise([3e38] + [0.0] * 63 + [1e-30])
    assert base == numeric.BASE_MAX
    assert (mantissas[0], mantissas[64]) == (127, 0)
    assert shifts == [0, numeric.SHIFT_MAX]
