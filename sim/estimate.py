"""``hwgen estimate``: what a configuration gives and takes: estimated, simulated, synthesised."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sim import area, cycles, device, measure, timing, workload
from sim import memory as memories
from sim.measure import Kind
from sim.options import ConfigOption, HeadOption, MemoryOption, ModelOption, TokensOption, Weights
from sim.workload import Operation
from spec import commands
from spec import config as configuration
from spec.config import Config
from spec.device import XCK26
from spec.digest import digest
from spec.errors import UserError
from spec.shapes import find

SEED = 1
"""Of the operands that are simulated."""

TABLE_WIDTH = 100


@dataclass(frozen=True)
class Row:
    """One figure at the levels that know it."""

    figure: str
    estimate: float
    simulated: float | None = None
    """By the RTL with the memory's timing."""
    synthesised: float | None = None
    """By Yosys's mapping, itself an estimate of Vivado's."""
    limit: float | None = None
    """What the device has."""

    @property
    def error(self) -> float | None:
        """Of the estimate, as a share of what was simulated or synthesised."""
        found = self.simulated if self.simulated is not None else self.synthesised
        if found is None:
            return None
        return self.estimate / found - 1 if found else float(self.estimate != 0)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        error = None if self.error is None else round(self.error, 4)
        return {**vars(self), "error": error}


def command(
    config: ConfigOption = "kv260",
    model: ModelOption = "qwen2.5-0.5b",
    tokens: TokensOption = 1,
    head: HeadOption = Weights.INT4,
    memory: MemoryOption = memories.DDR4_2133.name,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Run the whole pass on the RTL too: a minute.")
    ] = False,
    synthesise: Annotated[
        bool, typer.Option("--synthesise", help="Map the design with Yosys too: minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Estimate speed and resources of a configuration, and hold the estimates against the design.

    \b
    Examples:
      hwgen estimate
      hwgen estimate --config my.toml --model qwen2.5-1.5b --tokens 8
      hwgen estimate --simulate --synthesise --json

    Cycles of one pass over all layers and the LM head come from the analytic model of sim.cycles,
    resources from that of sim.area (of the vendor twin). --simulate adds the cycles of the
    generated Verilog behind the memory's timing, --synthesise the resources of its mapping; the
    error is the estimate's. Neither is a board or Vivado.
    """
    base = configuration.load(config)
    timed = memories.load(memory)
    if not 1 <= tokens <= base.tokens:
        raise UserError(f"tokens must lie in 1..{base.tokens} for {base.name}, got {tokens}")
    simulated_config = device.simulated(base)
    fmt = "fp32" if tokens == 1 else "bf16"
    bits = 4 if head is Weights.INT4 else 8
    last = workload.head_operation(
        simulated_config, find(model), tokens, fmt, bits, commands.TOP_K_MAX
    )
    jobs = measure.operations(Kind.TOKEN, simulated_config, find(model), tokens, fmt, last)
    progress = Console(stderr=True)
    ran = measure.run(Kind.TOKEN, base, jobs, memory, SEED, progress) if simulate else None
    mapped = _mapped(base) if synthesise else None
    rows = [*_speed(base, jobs, timed, tokens, ran), *_resources(base, mapped)]
    answer = {
        "model": model, "tokens": tokens, "head": head.value, "memory": memories.name(timed),
        "config": base.as_dict(), "digest": f"{digest(base):016x}",
        "labels": {"estimate": "modelled", "simulated": "simulated", "synthesised": "estimate"},
        "fits": not area.over(mapped or area.estimate(base)),
        "rows": [row.as_dict() for row in rows],
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        _show(answer, rows)


def _speed(
    config: Config, jobs: list[Operation], timed: memories.Memory, tokens: int,
    ran: dict[str, Any] | None,
) -> list[Row]:  # fmt: skip
    """Cycles of each operation and of the pass, and what they make."""
    listed = [workload.fields(job) for job in jobs]
    guess = cycles.estimate(config, listed, timing.rate(config, timed))
    by_name: dict[str, int] = {}
    for job, spent in zip(jobs, guess.by_command, strict=True):
        by_name[job.name] = by_name.get(job.name, 0) + spent
    found = {row["operation"]: row["cycles"] for row in ran["operations"]} if ran else {}
    rows = [Row(f"{name} cycles", spent, found.get(name)) for name, spent in by_name.items()]
    total, clock = ran["cycles"] if ran else None, config.clock_mhz
    rows.append(Row("pass cycles", guess.cycles, total))
    rows.append(Row("bytes read", guess.bytes_read, ran["bytes_read"] if ran else None))
    for figure, scale in (("pass ms", None), ("tokens/s", tokens * clock * 1e6)):
        values = [
            None if spent is None else spent / clock / 1000 if scale is None else scale / spent
            for spent in (guess.cycles, total)
        ]
        rows.append(Row(figure, *(None if v is None else round(v, 3) for v in values)))  # type: ignore[arg-type]
    return rows


def _resources(config: Config, mapped: dict[str, float] | None) -> list[Row]:
    """What the device must have."""
    return [
        Row(name, used, synthesised=mapped[name] if mapped else None, limit=XCK26.limits[name])
        for name, used in area.estimate(config).items()
    ]


def _mapped(config: Config) -> dict[str, float]:
    """Resources by Yosys's mapping."""
    from hwgen.synthesis.command import synthesise  # loads Amaranth: a second

    return synthesise(config).modules[""]


def _show(answer: dict[str, Any], rows: list[Row]) -> None:
    """The table for a person; a level that was not asked for has no figures."""
    title = (
        f"{answer['model']}, {answer['tokens']} tokens, {answer['head']} head, {answer['memory']},"
        f" {answer['config']['name']}"
    )
    table = Table(title=title, title_justify="left")
    for name in ("figure", "estimate", "simulated", "synthesised", "error", "XCK26"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for row in rows:
        values = (row.estimate, row.simulated, row.synthesised)
        error = "" if row.error is None else f"{row.error:+.2%}"
        table.add_row(row.figure, *map(_number, values), error, _number(row.limit))
    Console(soft_wrap=True, width=TABLE_WIDTH).print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")
