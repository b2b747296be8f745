"""The stage ``simulate``: a point's matmuls on its generated Verilog behind the memory's timing.

``sampled`` shapes have a model's K and some of its rows: enough tiles for ``SAMPLE_BEATS`` beats.
What the RTL takes beyond the estimate there, or less, is applied to the estimate of the whole
matrix. ``full`` shapes are the whole matrices. Every byte of memory is compared with what the
device ``cpu`` computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from host.device.counters import Counters
from sim import cycles, device, workload
from sim import memory as memories
from sim.cycles import MemoryRate
from sim.sweep import fabric, rates
from sim.sweep.fabric import Matmul
from sim.sweep.point import Point
from sim.timing import Runner
from sim.workload import Operation
from spec import commands
from spec.config import Config

SAMPLE_BEATS = 12_000
"""Beats of weights of a sampled matmul: six refreshes or more at 250 MHz, so that one more or less
is 1 %."""


@dataclasses.dataclass(frozen=True)
class Ran:
    """The matmuls of one pass."""

    cycles: float
    """Of the whole pass: the estimate, corrected by what was simulated."""
    estimated: float
    simulated_cycles: int
    """That really ran."""
    counters: Counters
    products: float
    """Multiplications of the whole pass."""


def run(point: Point, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Cycles of a pass of decode and of one of prefill by simulation. What the processor adds comes
    when the stages' figures are joined (``sim.sweep.run``), so that these hold whatever that costs.

    Raises:
        MismatchError: a byte of memory is wrong.
        DeviceError, ToolError: as ``sim.device.open``.
    """
    config = dataclasses.replace(device.simulated(point.config), name="point")
    task = point.workload
    rate = rates.rate(rates.key(config, task.memory))
    timing = memories.load(task.memory)
    passes = [
        fabric.matmuls(config, task, task.pass_tokens, True),
        fabric.matmuls(config, task, fabric.prefill_tokens(config, task), False),
    ]
    most = SAMPLE_BEATS if options["shapes"] == "sampled" else None
    samples = [[sample(job, most) for job in jobs] for jobs in passes]
    operations = [job for jobs in samples for job in jobs]
    with Runner(
        config, operations, seed, memory=timing or memories.IDEAL, short=most is not None
    ) as runner:
        decode = _pass(runner, 0, passes[0], samples[0], rate)
        prefill = _pass(runner, len(samples[0]), passes[1], samples[1], rate)
        runner.check()
    hertz = config.clock_mhz * 1e6
    return {
        "decode_cycles": round(decode.cycles),
        "prefill_cycles": round(prefill.cycles),
        "fabric_tokens_per_second": round(task.pass_tokens * hertz / decode.cycles, 4),
        "simulated_cycles": decode.simulated_cycles + prefill.simulated_cycles,
        "decode_error": round(decode.estimated / decode.cycles - 1, 5),
        "prefill_error": round(prefill.estimated / prefill.cycles - 1, 5),
        "decode_gmac_per_second": round(decode.products / decode.cycles * hertz / 1e9, 4),
        "prefill_gmac_per_second": round(prefill.products / prefill.cycles * hertz / 1e9, 4),
        **_stalls("decode", decode.counters),
        **_stalls("prefill", prefill.counters),
        "shapes": options["shapes"],
    }


def sample(job: Matmul, beats: int | None) -> Operation:
    """A matmul of the same K, format and vectors, and of about so many beats; None: all of it."""
    matrix = job.matrix
    if beats is not None:
        tile = matrix.chunks * matrix.chunk_beats
        rows = max(2, round(beats / tile)) * matrix.config.tile_rows
        rows = max(rows, job.top_k)
        matrix = dataclasses.replace(matrix, rows=min(matrix.rows, rows))
    return Operation(job.name, matrix, job.vectors, "fp32", job.top_k)


def _pass(
    runner: Runner, first: int, jobs: list[Matmul], samples: list[Operation], rate: MemoryRate
) -> Ran:
    """Runs a pass's matmuls, each from a list of its own."""
    whole = estimated = products = 0.0
    ran = 0
    counters = Counters()
    for index, (job, operation) in enumerate(zip(jobs, samples, strict=True)):
        config: Config = job.matrix.config
        placed = runner.placed[first + index]
        timed = runner.run([placed])
        guess = cycles.estimate(config, [commands.unpack(placed.descriptor)], rate).cycles
        full = job.times * cycles.estimate(config, [workload.fields(_full(job))], rate).cycles
        assert operation.matrix.columns == job.matrix.columns
        whole += full * timed.counters.cycles / guess
        estimated += full
        products += job.times * job.vectors * job.matrix.rows * job.matrix.columns
        ran += timed.counters.cycles
        counters.add(timed.counters)
    return Ran(whole, estimated, ran, counters, products)


def _full(job: Matmul) -> Operation:
    return Operation(job.name, job.matrix, job.vectors, "fp32", job.top_k)


def _stalls(name: str, counters: Counters) -> dict[str, float]:
    """Shares of the cycles that ran, by cause."""
    return {
        f"{name}_{cause}": round(count / counters.cycles, 5)
        for cause, count in counters.stalls.items()
    }
