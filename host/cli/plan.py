"""``kria-llm plan``: where each operation runs on the board, and what it costs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from host import checkpoint
from host.cli.options import AUTO, head_kind, overrides, planned_head
from host.plan.chart import page
from host.plan.planner import PREFILL, Dimensions, Operation, Plan
from host.plan.planner import plan as make
from spec import config as configuration
from spec import shapes
from spec.files import write_whole

CONTEXTS = (1, 256, 512, 1024, 2048, 4096)
"""Of the table that shows what changes with context."""


def plan(
    model: Annotated[
        str, typer.Argument(help="A known shape such as qwen2.5-0.5b, or a checkpoint.")
    ],
    config: Annotated[str, typer.Option("--config", "-c", help="A preset or TOML file.")] = "kv260",
    context: Annotated[int, typer.Option(help="Positions filled when a token is decoded.")] = 512,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt, for prefill.")] = PREFILL,
    head: Annotated[
        str,
        typer.Option(
            help="The LM head: int8, int4, two-step, or auto: the faster one of int8 and two-step."
        ),
    ] = AUTO,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help="Puts a matmul elsewhere: OPERATION=cpu or fabric; decode.OPERATION or"
            " prefill.OPERATION for one phase. May be repeated.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Writes a chart to this file.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Says where each operation runs on the board, why, and what it costs.

    Examples:

        kria-llm plan qwen2.5-0.5b --context 512

        kria-llm plan smollm2-135m --override output=cpu --html plan.html

        kria-llm plan qwen2.5-0.5b --context 4096 --prompt 2048 --json

    The fabric's cycles are simulated where the table of simulated matmuls has them, else modelled;
    the processor's are modelled from cross-built code; launches are assumed (docs/planner.md).
    Nothing here was measured on a board.
    """
    base, shape = configuration.load(config), _shape(model)
    chosen = overrides(override or [])
    kind = planned_head(shape, base) if head == AUTO else head_kind(head)

    def at(positions: int) -> Plan:
        return make(model, shape, base, positions, prompt, kind, overrides=chosen)

    made = at(context)
    speeds = {one: at(one).decode_tokens_per_second for one in sorted({*CONTEXTS, context})}
    if html is not None:
        write_whole(html, page(made, speeds))
    if as_json:
        told = {str(key): round(value, 3) for key, value in speeds.items()}
        print(json.dumps(made.as_dict() | {"contexts": told}, indent=2))
        return
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    for heading, operations in (
        (f"one decoded token at {context} positions, head {made.head}", made.decode),
        (f"{made.pass_tokens} tokens of a prompt of {prompt}", made.prefill),
    ):
        console.print(_table(f"{model} on {base.name}: {heading}", operations))
    console.print(
        f"decode {made.decode_tokens_per_second:.1f} tokens/s, prefill"
        f" {made.prefill_tokens_per_second:.0f} tokens/s; processor {made.arm_ms_per_token:.1f} ms"
        " per decoded token, launches included (modelled)"
    )
    turn = made.turn
    if turn.passes > 1:
        console.print(
            f"prefill: {turn.passes} passes take turns, {turn.seconds * 1e3:.1f} ms together;"
            f" fabric {turn.fabric_seconds * 1e3:.1f} ms, processor {turn.arm_seconds * 1e3:.1f} ms"
        )
    listed = ", ".join(f"{positions}: {speed:.1f}" for positions, speed in speeds.items())
    console.print(f"decode tokens/s by context: {listed}")


def _shape(model: str) -> Dimensions:
    """A known shape, or a checkpoint's."""
    if model in shapes.SHAPES or not Path(model).exists():
        return shapes.find(model)
    found = checkpoint.find(model)
    shape = getattr(found, "shape", None)
    return shape if shape is not None else found.model().shape


def _table(title: str, operations: tuple[Operation, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("operation", "x", "runs on", "ms", "share", "processor ms", "figure", "why"):
        left = name in ("operation", "runs on", "figure", "why")
        table.add_column(name, justify="left" if left else "right")
    whole = sum(one.seconds for one in operations)
    for one in operations:
        table.add_row(
            one.name, str(one.count), one.place, f"{one.seconds * 1e3:.3f}",
            f"{one.seconds / whole:.1%}", f"{one.arm_seconds * 1e3:.3f}", one.label, one.why,
        )  # fmt: skip
    arm = sum(one.arm_seconds for one in operations)
    table.add_row("all", "", "", f"{whole * 1e3:.3f}", "100 %", f"{arm * 1e3:.3f}", "", "")
    return table
