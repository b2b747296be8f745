"""Rounding to int4 and int8 against the formula written value by value."""

from __future__ import annotations

import numpy as np
import pytest

from host.checkpoint.errors import CheckpointError
from host.checkpoint.rounding import round_int4, round_int8, round_tables
from host.checkpoint.tables import Table, materialise


def table(weights: np.ndarray, name: str = "w") -> Table:
    return Table(name, *weights.shape, lambda start, stop: weights[start:stop].copy())


def int4_by_formula(group: list[float]) -> tuple[list[int], np.float16, int]:
    """AutoAWQ's formula with a range that includes zero and the fp16 scale in use."""
    low, high = min(0.0, *group), max(0.0, *group)
    scale = np.float16(max(high - low, 1e-5) / 15)
    zero = min(max(round(-low / float(scale)), 0), 15)
    return [min(max(round(w / float(scale)) + zero, 0), 15) for w in group], scale, zero


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("group", [32, 64, 128])
def test_int4_is_the_formula(seed, group):
    rng = np.random.default_rng(seed)
    weights = (rng.normal(rng.normal(0, 0.05), 0.05, (5, 256))).astype(np.float32)
    weights[0] = np.abs(weights[0])
    weights[1] = -np.abs(weights[1])
    weights[2, :group] = 0
    rounded = round_tables([table(weights)], 4, group)
    for row in range(5):
        for index in range(256 // group):
            part = slice(index * group, (index + 1) * group)
            values, scale, zero = int4_by_formula(weights[row, part].tolist())
            # A tie may fall either way between float32 here and float64 there.
            difference = np.abs(rounded.values[row, part].astype(int) - values)
            assert difference.max() <= 1 and (difference > 0).mean() < 0.02
            assert rounded.scales[row, index] == scale
            assert rounded.zeros[row, index] == zero


@pytest.mark.parametrize("magnitude", [1e-7, 1e-6, 1e-4, 1.0, 1e4, 4e5])
def test_errors_stay_within_half_a_step(magnitude):
    rng = np.random.default_rng(7)
    weights = (rng.uniform(-1, 1, (16, 8, 64)) * magnitude).astype(np.float32)
    values, scales, zeros = round_int4(weights)
    steps = scales.astype(np.float64)[..., None]
    back = (values.reshape(weights.shape) - zeros[..., None].astype(float)) * steps
    # Zero points are whole numbers, so that either end may be cut by another half step.
    assert (np.abs(back - weights) <= 1.001 * steps).all()
    values, scales = round_int8(weights)
    steps = scales.astype(np.float64)[..., None]
    assert (np.abs(values.reshape(weights.shape) * steps - weights) <= 0.501 * steps).all()


def test_a_group_worked_by_hand():
    group = [-0.5, 1.0, 0.26] + [0.0] * 61
    values, scales, zeros = round_int4(np.array([[group]], np.float32))
    assert (scales[0, 0], zeros[0, 0]) == (np.float16(0.1), 5)
    assert values[0, :4].tolist() == [0, 15, 8, 5]
    values, scales = round_int8(np.array([[[-127.0, 64.4] + [0.0] * 62]], np.float32))
    assert (scales[0, 0], values[0, :3].tolist()) == (1, [-127, 64, 0])


def test_zeros_round_to_zero():
    values, scales, zeros = round_int4(np.zeros((1, 1, 64), np.float32))
    assert (values == zeros[0, 0]).all() and scales[0, 0] > 0
    values, scales = round_int8(np.zeros((1, 1, 64), np.float32))
    assert not values.any() and scales[0, 0] == 0


def test_blocks_of_rows_join_to_the_whole(monkeypatch):
    rng = np.random.default_rng(3)
    parts = [rng.normal(size=(rows, 128)).astype(np.float32) for rows in (7, 1, 12)]
    whole = round_tables([table(np.concatenate(parts))], 4, 64)
    monkeypatch.setattr("host.checkpoint.tables.BLOCK_VALUES", 3 * 128)
    pieces = round_tables([table(part) for part in parts], 4, 64)
    np.testing.assert_array_equal(whole.values, pieces.values)
    np.testing.assert_array_equal(whole.scales, pieces.scales)
    np.testing.assert_array_equal(whole.zeros, pieces.zeros)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_weights_that_no_scale_holds_are_named(bits, value):
    weights = np.ones((4, 64), np.float32)
    weights[2, 5] = value
    with pytest.raises(CheckpointError, match=r"tensor w, rows 0\.\.3: a weight"):
        round_tables([table(weights)], bits, 64)


@pytest.mark.parametrize(
    ("columns", "group", "remedy"),
    [(96, 64, "use --group 32$"), (192, 128, "use --group 32 or 64$"), (40, 32, "no group size")],
)
def test_a_group_that_does_not_divide_k_names_one_that_does(columns, group, remedy):
    with pytest.raises(CheckpointError, match=f"tensor w has K = {columns}.*{remedy}"):
        round_tables([table(np.zeros((1, columns), np.float32))], 4, group)


def test_an_embedding_that_float16_cannot_hold_is_refused():
    with pytest.raises(CheckpointError, match="too large value"):
        materialise(table(np.full((2, 32), 1e5, np.float32)))
