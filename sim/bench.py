"""``hwgen bench``: a model's matmuls at full size on the simulated design, timed and checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sim import device, measure, workload
from sim import memory as memories
from sim.measure import Kind
from sim.options import (
    ConfigOption,
    Format,
    HeadOption,
    MemoryOption,
    ModelOption,
    TokensOption,
    Weights,
)
from spec import commands
from spec import config as configuration
from spec.errors import UserError
from spec.shapes import find

TABLE_WIDTH = 120
"""Columns, where there is no terminal."""


def command(
    kind: Annotated[
        Kind, typer.Argument(help="Each matrix by itself, or one pass over the whole model.")
    ],
    config: ConfigOption = "kv260",
    model: ModelOption = "qwen2.5-0.5b",
    tokens: TokensOption = 1,
    head: HeadOption = Weights.INT4,
    no_head: Annotated[
        bool, typer.Option("--no-head", help="Leave the LM head out, as in prefill.")
    ] = False,
    logits: Annotated[
        bool, typer.Option("--logits", help="All logits leave, not only the 64 largest.")
    ] = False,
    result_format: Annotated[
        Format | None,
        typer.Option(
            "--format", help="How results are written; fp32 for one token, else bf16, if not given."
        ),
    ] = None,
    memory: MemoryOption = memories.DDR4_2133.name,
    seed: Annotated[int, typer.Option(min=0, help="Draws the operands.")] = 1,
    save: Annotated[
        Path, typer.Option(help="Where the replay file of a difference goes.", metavar="FILE")
    ] = measure.REPLAY,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Time a model's matmuls at full size on the simulated design, memory timing included.

    \b
    Examples:
      hwgen bench matmul
      hwgen bench token --head int8
      hwgen bench token --tokens 8 --no-head --json
      hwgen bench matmul --model qwen2.5-1.5b --memory ideal

    "token" runs all layers and the LM head from one command list with one doorbell; attention,
    norms and the host's work between them are not in it. Operands are random; all of memory is
    compared, byte for byte, with what the device "cpu" makes of the same commands; exit code 5
    tells a difference, with the layer, the matmul and the stage where it begins, and a replay file
    for hwgen verify --replay. The ceiling is what the same memory gives to a plain sequential
    stream on all ports. The estimate is sim.cycles'. The layers are int4, group 64.
    """
    base = configuration.load(config)
    memories.load(memory)  # a bad one is told before anything is built
    shape = find(model)
    if not 1 <= tokens <= base.tokens:
        raise UserError(f"tokens must lie in 1..{base.tokens} for {base.name}, got {tokens}")
    if no_head and logits:
        raise UserError("there are no logits without a head: drop --logits or --no-head")
    fmt = (result_format or (Format.FP32 if tokens == 1 else Format.BF16)).value
    last = None
    if not no_head:
        bits, top_k = 4 if head is Weights.INT4 else 8, 0 if logits else commands.TOP_K_MAX
        simulated = device.simulated(base)
        last = workload.head_operation(simulated, shape, tokens, fmt, bits, top_k)
    jobs = measure.operations(kind, device.simulated(base), shape, tokens, fmt, last)
    report = measure.run(kind, base, jobs, memory, seed, Console(stderr=True), save)
    per_second = round(tokens * base.clock_mhz * 1e6 / report["cycles"], 2)
    asked = {
        "bench": kind.value, "model": model, "tokens": tokens, "format": fmt, "seed": seed,
        "head": None if no_head else head.value,
        "tokens_per_second": per_second if kind is Kind.TOKEN else None,
    }  # fmt: skip
    answer = asked | report
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    """The report for a person."""
    timed = answer["config"]
    heading = (
        f"{answer['model']}, {answer['tokens']} tokens, {answer['format']} results,"
        f" {answer['memory']}, {timed['name']} at {timed['clock_mhz']:g} MHz"
    )
    table = Table(title=f"{answer['bench']}: {heading} (simulated)", title_justify="left")
    for name in (
        "operation", "matrix", "weights", "results", "x", "cycles", "B/cycle", "of ceiling",
        "estimate", "error",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name == "operation" else "right")
    whole = {"operation": "all", "rows": "", "columns": "", "weights": "", "results": "",
             "count": sum(row["count"] for row in answer["operations"]), **answer}  # fmt: skip
    for row in [*answer["operations"], whole]:
        table.add_row(
            row["operation"],
            f"{row['rows']}x{row['columns']}" if row["rows"] else "",
            row["weights"], row["results"], str(row["count"]), str(row["cycles"]),
            f"{row['bytes_per_cycle']:.2f}", f"{row['share_of_ceiling']:.1%}",
            str(row["estimated_cycles"]), f"{row['error']:+.2%}",
        )  # fmt: skip
    # A pipe has no width of its own; a table must not lose columns there.
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    console.print(table)
    stalls = ", ".join(f"{cause} {count}" for cause, count in answer["stalls"].items())
    speed = answer["tokens_per_second"]
    rate = f", {speed:g} tokens/s" if speed else ""
    console.print(f"{answer['milliseconds']:g} ms{rate}; results equal; stalls: {stalls} (cycles)")
    console.print(
        f"ceiling {answer['ceiling_bytes_per_cycle']:g} bytes per cycle; {answer['bytes_read']}"
        f" bytes read, {answer['bytes_written']} written; digest {answer['digest']}"
    )
