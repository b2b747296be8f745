"""Golden's top-k against sorting in Python."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from host.device.transport import Buffer
from sim import golden, golden_device
from spec import commands
from tests.host.matmul_case import MEMORY, Case, Run, random_case


def pattern(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def sorted_entries(patterns: list[int], count: int) -> list[list[int]]:
    """The ``count`` largest by value, equal ones by row."""
    values = [struct.unpack("<f", struct.pack("<I", word))[0] for word in patterns]
    order = sorted((-value, row) for row, value in enumerate(values))
    return [[patterns[row], row] for _, row in order[:count]]


def test_by_hand():
    """2.0 in rows 1 and 4, then 0.5, then -1.0: the lower row of equal ones is first."""
    rows = [[pattern(value) for value in (-1.0, 2.0, 0.5, -8.0, 2.0)]]
    chosen = golden.choose(np.array(rows, np.uint32), 4)
    two, half, minus_one = 0x40000000, 0x3F000000, 0xBF800000
    assert chosen.tolist() == [[[two, 1], [two, 4], [half, 2], [minus_one, 0]]]


def drawn(kind: str, rng: np.random.Generator, tokens: int, rows: int) -> np.ndarray:
    """fp32 values [tokens, rows]."""
    ramp = np.tile(np.arange(rows) - rows / 3, (tokens, 1))
    values = {
        "random": rng.normal(size=(tokens, rows)) * 10.0 ** rng.integers(-30, 30, (tokens, rows)),
        "equal": np.full((tokens, rows), -2.5),
        "ties": rng.integers(-3, 4, (tokens, rows)),
        "rising": ramp,
        "falling": -ramp,
    }[kind]
    return values.astype(np.float32) + np.float32(0)  # no minus zero: a sum that is 0 has no sign


@pytest.mark.parametrize("kind", ["random", "equal", "ties", "rising", "falling"])
@pytest.mark.parametrize("seed", range(6))
def test_choose_is_sorting(kind, seed):
    rng = np.random.default_rng(seed)
    tokens, rows = int(rng.integers(1, 5)), int(rng.integers(2, 200))
    patterns = drawn(kind, rng, tokens, rows).view(np.uint32)
    for count in (2, min(64, rows // 2 * 2), rows):
        chosen = golden.choose(patterns, count)
        expected = [sorted_entries(token, count) for token in patterns.tolist()]
        assert chosen.tolist() == expected, f"seed {seed}"


@pytest.mark.parametrize("seed", range(40))
def test_a_top_k_command_gives_the_largest_of_the_full_command(seed, monkeypatch):
    """Also when weights are decoded a tile at a time; padding rows never enter."""
    case = next(found for found in map(random_case, range(100 * seed, 10**6)) if usable(found))
    rows = len(case.weights.values)
    rng = np.random.default_rng(seed)
    monkeypatch.setattr("sim.golden.command.TILE_BYTES", int(rng.choice([1, 4 << 20])))
    run = Run(golden_device.open(case.config, MEMORY), case)
    assert not any(run.ring().values())
    tokens = len(case.activations[0])
    tiled = run.results.array.view("<u4").reshape(-1, tokens, case.config.tile_rows)
    patterns = tiled.transpose(1, 0, 2).reshape(tokens, -1)[:, :rows]
    top_k = min(int(rng.choice([2, 10, 64])), rows // 2 * 2)
    chosen = rung(run, top_k).view("<u4").reshape(tokens, top_k, 2)
    assert chosen.tolist() == [sorted_entries(t, top_k) for t in patterns.tolist()], f"seed {seed}"


def usable(case: Case) -> bool:
    return len(case.weights.values) >= 2 and case.fmt == "fp32"


def rung(run: Run, top_k: int) -> np.ndarray:
    """The bytes that the same command writes with ``top_k``; nothing after them is written."""
    size = run.fields["tokens"] * top_k * commands.CHOICE_BYTES
    target: Buffer = run.device.allocate(size + 64)
    target.array[:] = 0xEE
    beats = size // run.case.config.port_bytes
    run.fields |= {"results": target.address, "top_k": top_k, "result_beats": beats}
    assert not any(run.ring().values())
    assert (target.array[size:] == 0xEE).all()
    return target.array[:size]
