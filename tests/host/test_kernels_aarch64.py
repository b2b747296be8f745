"""The kernels on an emulated Cortex-A53 give the same bits as here, floats included.

So a text does not depend on the machine that wrote it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from host.device import cpu
from host.kernels import Drawing, address
from host.kernels.rescore import Rescore
from spec import commands
from tests.host import kernel_case, replay
from tests.host.kernel_case import Call
from tests.host.matmul_case import MEMORY, Run, random_case

SEEDS = range(12)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return replay.build(tmp_path_factory.mktemp("aarch64"))


def compare(program, folder, calls: list[Call]) -> None:
    there = replay.replay(program, folder, calls)
    for call, (result, buffers) in zip(calls, there, strict=True):
        assert (call.run() or 0) == result
        for place, (ours, theirs) in enumerate(zip(replay.after(call), buffers, strict=True)):
            assert ours == theirs, f"{call.name}: buffer {place} differs"
        call.check()


@pytest.mark.parametrize("kind", kernel_case.KINDS)
def test_the_same_bits(program, tmp_path, kind):
    """Scratch and the cache's entries too."""
    compare(program, tmp_path, [kernel_case.KINDS[kind](seed) for seed in SEEDS])


def matmul(seed: int) -> Call:
    """A random command, as the device cpu performs it; every other one gives a top-k."""
    case = random_case(seed)
    case = dataclasses.replace(case, fmt="fp32" if seed % 2 else case.fmt)
    run = Run(cpu.open(case.config, MEMORY, threads=1 + seed % 3), case)
    fields = commands.unpack(commands.pack(run.fields))
    top_k = min(8, case.weights.rows // 2 * 2)
    if seed % 2 and top_k and len(case.activations[0]) * top_k * 8 <= run.results.array.nbytes:
        fields["top_k"] = top_k
    command = run.device.prepare(fields)
    arrays = [buffer.array for buffer in (run.weights, run.activations, run.results)]
    return Call("matmul", [command], [command, *arrays], lambda: None, [run.results.array])


def test_matmuls_have_the_same_bits(program, tmp_path):
    compare(program, tmp_path, [matmul(seed) for seed in range(40)])


def rescore(seed: int) -> Call:
    """A few rows of an int8 matrix; weights and activations at the ends of their ranges too."""
    rng = np.random.default_rng(seed)
    group, terms = int(rng.choice([32, 64, 128])), 1 + seed % 2
    rows, columns, tokens, count = 40, 128 * int(rng.integers(1, 9)), int(rng.integers(1, 4)), 12
    limit = int(rng.choice([3, 127]))
    scales = rng.uniform(1e-3, 0.1, (rows, columns // group)).astype(np.float16)
    wanted = rng.integers(0, rows, tokens * count).astype(np.int32)
    arrays = {
        "activations": kernel_case.floats(rng, tokens, columns),
        "values": rng.integers(-limit, limit + 1, (rows, columns)).astype(np.int8),
        "scales": scales.view(np.uint16), "rows": wanted,
        "results": np.zeros(tokens * count, np.float32), "mantissas": np.zeros(columns, np.int8),
        "lifts": np.zeros(columns // 64, np.uint8),
    }  # fmt: skip
    one = Rescore(columns=columns, group=group, tokens=tokens, count=count, terms=terms)
    for name, array in arrays.items():
        setattr(one, name, address(array))
    return Call("rescore", [one], [one, *arrays.values()], lambda: None, [arrays["results"]])


def test_rescored_rows_are_the_same(program, tmp_path):
    compare(program, tmp_path, [rescore(seed) for seed in range(30)])


def draw(seed: int) -> Call:
    rng = np.random.default_rng(seed)
    scores = (rng.standard_normal(int(rng.integers(1, 2000))) * 5).astype(np.float32)
    one = Drawing(
        temperature=float(rng.uniform(0.3, 2)), top_p=float(rng.choice([1.0, 0.8])),
        point=rng.random(), top_k=int(rng.choice([0, 40])),
    )  # fmt: skip
    entries, sums = np.zeros(len(scores), np.uint64), np.zeros(len(scores))
    one.hold(entries=entries, sums=sums)
    arguments = [scores, len(scores), one]
    return Call("draw", arguments, [scores, one, entries, sums], lambda: None, [sums])


def test_draws_choose_the_same_token(program, tmp_path):
    calls = [draw(seed) for seed in range(30)]
    assert len({call.run() for call in calls}) > 10
    compare(program, tmp_path, calls)
