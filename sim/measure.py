"""Measures a model's matmuls at full size on the simulated design: cycles, bytes, shares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from host.device.counters import Counters
from sim import bench_replay, cycles, device, timing, workload
from sim import memory as memories
from sim.timing import Runner, Timed
from sim.workload import Operation, WrongBytes
from spec import commands
from spec.config import Config
from spec.digest import digest
from spec.shapes import ModelShape

REPEAT_CYCLES = 100_000
"""A matmul that is shorter by itself is repeated to about as many cycles."""

REPEATS_MAX = 12


REPLAY = Path("replay.json")
"""Where a wrong result's replay file goes if nobody says."""


class Kind(StrEnum):
    """What is timed."""

    MATMUL = "matmul"
    TOKEN = "token"


def operations(
    kind: Kind, config: Config, shape: ModelShape, tokens: int, fmt: str, head: Operation | None
) -> list[Operation]:
    """The matmuls of one layer, or of all layers, and the head.

    Raises:
        LayoutError: the configuration cannot hold a matrix.
    """
    layer = workload.layer_operations(config, shape, tokens, fmt)
    repeats = shape.layers if kind is Kind.TOKEN else 1
    return layer * repeats + ([head] if head else [])


def run(
    kind: Kind, config: Config, jobs: list[Operation], memory: str, seed: int, console: Console,
    save: Path = REPLAY,
) -> dict[str, Any]:  # fmt: skip
    """Times the jobs, each from a list of its own (``matmul``) or all from one (``token``).

    Args:
        save: where a replay file of a wrong result goes.

    Raises:
        MismatchError: a byte of memory differs from what the device ``cpu`` computes.
        DeviceError, ToolError, TimingError: as ``sim.device.open``.
    """
    config = device.simulated(config)
    timed = memories.load(memory)
    top = timing.ceiling(config, timed)
    speed = timing.rate(config, timed)
    console.print(f"memory image of {len(jobs)} matmuls", style="dim")
    with Runner(config, jobs, seed, memory=timed or memories.IDEAL) as runner:
        steps = plan(kind, runner, speed)
        ran = _run(runner, steps, console)
        try:
            runner.check()
        except WrongBytes as wrong:
            raise bench_replay.told(runner, wrong, memory, seed, save) from None
        ddr4 = runner.device.memory_statistics.ddr4
    done = [runner.operations[index] for step in steps for index in step.places]
    spent = [one for run in ran for one in run.by_command]
    guessed = [one for step in steps for one in step.estimate.by_command]
    return {
        "label": "simulated",
        "equal": True,
        **_costs([run.counters for run in ran], config, top),
        "estimated_cycles": sum(guessed),
        "error": _error(sum(guessed), sum(spent)),
        "operations": _by_operation(config, done, spent, guessed, top),
        "memory": memories.name(timed),
        "ddr4": ddr4.as_dict() if ddr4 else None,
        "clock_mhz": config.clock_mhz,
        "ceiling_bytes_per_cycle": round(top, 3),
        "digest": f"{digest(config):016x}",
        "config": config.as_dict(),
    }


@dataclass(frozen=True)
class Step:
    """One list to run."""

    places: list[int]
    """Its commands among the runner's."""
    estimate: cycles.Estimate


def plan(kind: Kind, runner: Runner, speed: cycles.MemoryRate) -> list[Step]:
    """One list of all, or each command by itself, short ones several times: a refresh more or
    less is 1 % of them."""
    places = range(len(runner.placed))
    steps: list[Step] = []
    for part in [list(places)] if kind is Kind.TOKEN else [[place] for place in places]:
        fields = [commands.unpack(runner.placed[place].descriptor) for place in part]
        step = Step(part, cycles.estimate(runner.device.config, fields, speed))
        repeats = 1 if kind is Kind.TOKEN else REPEAT_CYCLES // step.estimate.cycles
        steps += [step] * min(max(repeats, 1), REPEATS_MAX)
    return steps


def _run(runner: Runner, steps: list[Step], console: Console) -> list[Timed]:
    """Runs the lists with a bar that shows cycles."""
    ran: list[Timed] = []
    with _bar(console) as bar:
        task = bar.add_task("simulated cycles", total=sum(step.estimate.cycles for step in steps))
        for step in steps:
            done = sum(run.counters.cycles for run in ran)

            def show(now: int, done: int = done) -> None:
                bar.update(task, completed=done + now)

            ran.append(runner.run([runner.placed[place] for place in step.places], show))
    return ran


def _costs(runs: list[Counters], config: Config, top: float) -> dict[str, Any]:
    """What the lists cost together."""
    whole = Counters()
    for run in runs:
        whole.add(run)
    rate = whole.bytes_read / whole.cycles
    return {
        "cycles": whole.cycles,
        "milliseconds": round(whole.cycles / config.clock_mhz / 1000, 4),
        "bytes_read": whole.bytes_read,
        "bytes_written": whole.bytes_written,
        "bytes_per_cycle": round(rate, 3),
        "share_of_ceiling": round(rate / top, 4),
        "stalls": {name.removeprefix("stall_"): count for name, count in whole.stalls.items()},
    }


def _by_operation(
    config: Config, jobs: list[Operation], spent: list[int], guessed: list[int], top: float
) -> list[dict[str, Any]]:
    """Cycles and bytes by operation, all layers together."""
    found = []
    for name in dict.fromkeys(job.name for job in jobs):
        places = [index for index, job in enumerate(jobs) if job.name == name]
        job = jobs[places[0]]
        matrix = job.matrix
        beats = matrix.beats + matrix.activation_beats(job.tokens) + commands.beats(config)
        read = len(places) * beats * config.beat_bytes
        simulated = sum(spent[index] for index in places)
        estimated = sum(guessed[index] for index in places)
        found.append({
            "operation": name,
            "rows": matrix.rows,
            "columns": matrix.columns,
            "weights": f"int{matrix.bits}",
            "group": matrix.group,
            "results": f"top-{job.top_k}" if job.top_k else job.fmt,
            "count": len(places),
            "cycles": simulated,
            "bytes_read": read,
            "bytes_per_cycle": round(read / simulated, 3),
            "share_of_ceiling": round(read / simulated / top, 4),
            "estimated_cycles": estimated,
            "error": _error(estimated, simulated),
        })  # fmt: skip
    return found


def _error(estimated: float, simulated: float) -> float:
    """Of the estimate, as a share of what was simulated."""
    return round(estimated / simulated - 1, 4)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
