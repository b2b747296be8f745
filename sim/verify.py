"""``hwgen verify``: one random matmul on the simulated design, compared bit for bit with golden."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from host.device import largest, vectors
from sim import cases, device, replay, verify_report
from sim import memory as memories
from sim.comparison import Report
from sim.options import ConfigOption, Format, MemoryOption, Weights
from spec import config as configuration
from spec.config import Config
from spec.errors import MismatchError, UserError
from spec.layout import MAX_ROWS, Matrix

WEIGHTS_MAX = 1 << 28
"""Most weights of one run: beyond it, minutes become hours."""


def variant(config: Config, group: int) -> Config:
    """``config``, or its variant with a finer group when ``group`` asks for one."""
    if group >= config.group:
        return config
    return dataclasses.replace(config, name=f"{config.name}-group{group}", group=group)


def parse_shape(text: str) -> tuple[int, int]:
    """``NxK`` as two numbers.

    Raises:
        UserError: not of that form, or too large for the layout.
    """
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text)
    if not match:
        raise UserError(f"the shape must be NxK, for example 896x4864, got {text!r}")
    rows, columns = int(match[1]), int(match[2])
    if not 1 <= rows <= MAX_ROWS or columns < 1:
        raise UserError(f"the shape must be 1..{MAX_ROWS} rows by 1 or more columns, got {text}")
    return rows, columns


def command(
    config: ConfigOption = "tiny",
    shape: Annotated[
        str, typer.Option(help="The weight matrix: N outputs by K inputs.", metavar="NxK")
    ] = "100x256",
    tokens: Annotated[
        int | None, typer.Option(help="Activation vectors; all that the engine takes if not given.")
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="int4 with zero points (AWQ), or symmetric int8.")
    ] = Weights.INT4,
    group: Annotated[
        int | None,
        typer.Option(help="Weights per scale: 32, 64 or 128; the configuration's if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the values.")] = 0,
    result_format: Annotated[
        Format, typer.Option("--format", help="How results are written.")
    ] = Format.FP32,
    top_k: Annotated[
        int | None,
        typer.Option(
            help="Only each token's K largest results and their rows: 1..64, rounded up to an even"
            " number.",
            metavar="K",
            show_default=False,
        ),
    ] = None,
    stall_seed: Annotated[
        int | None, typer.Option(min=0, help="Random pauses on every AXI channel.")
    ] = None,
    memory: MemoryOption = memories.IDEAL,
    recorded: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            help="Run a vector or replay file again instead; only --json goes with it.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path, typer.Option(help="Where the replay file of a difference goes.", metavar="FILE")
    ] = Path("replay.json"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Simulate one random matmul and compare it with the reference, bit for bit.

    \b
    Examples:
      hwgen verify --config tiny --shape 100x256 --tokens 2
      hwgen verify --config kv260 --shape 896x4864 --weights int8 --group 128 --seed 7
      hwgen verify --config kv260 --shape 70x896 --stall-seed 3 --json
      hwgen verify --config kv260 --shape 9728x896 --tokens 1 --memory ddr4-2133
      hwgen verify --config kv260 --shape 3000x896 --weights int8 --top-k 64
      hwgen verify --replay replay.json

    The design is the generated Verilog, simulated cycle by cycle by Verilator; the first run of a
    configuration builds its simulator and keeps it. A group finer than the configuration's
    verifies the variant of the configuration that has it. Vendor DSPs are simulated by their
    portable twin. The report's "config" is what ran.

    Values are drawn from the seed, corners included: zero, subnormal and largest scales, extreme
    weights and activations. Exit code 5 and the first difference when a result is not equal; the
    case then runs once more with a trace, the report names the stage of the engine that went wrong
    first, and a replay file is written.
    """
    if recorded is not None:
        asked = replay.read(recorded)
        _finish(asked, replay.perform(asked), recorded, as_json)
        return
    base = configuration.load(config)
    memories.load(memory)  # a bad one is told before anything is built
    shown = variant(base, group if group is not None else base.group)
    rows, columns = parse_shape(shape)
    bits = 4 if weights is Weights.INT4 else 8
    # Checked before anything of this size is drawn.
    matrix = Matrix(device.simulated(shown), rows, columns, bits, group or shown.group)
    if rows * columns > WEIGHTS_MAX:
        raise UserError(f"the shape must have at most {WEIGHTS_MAX} weights, got {shape}")
    count = shown.tokens if tokens is None else tokens
    if not 1 <= count <= shown.tokens:
        raise UserError(f"tokens must lie in 1..{shown.tokens} for {shown.name}, got {count}")
    entries = 0 if top_k is None else largest.even(largest.checked(matrix, top_k))
    if entries and result_format is not Format.FP32:
        raise UserError("top-k compares fp32 results: drop --format bf16 or --top-k")
    case = cases.draw(rows, columns, bits, matrix.group, count, seed)
    asked = replay.Asked(
        shown, case, result_format.value, entries, stall_seed=stall_seed,
        memory=memory,
        seed=seed,
    )  # fmt: skip
    _finish(asked, replay.perform(asked), save, as_json)


def _finish(asked: replay.Asked, report: Report, save: Path, as_json: bool) -> None:
    """Tells the report; a difference ends the command with the stage that it comes from."""
    answer = report.as_dict() | asked.as_dict()
    if not report.mismatches:
        typer.echo(json.dumps(answer, indent=2) if as_json else verify_report.told(answer))
        return
    found, failing = replay.explain(asked, report)
    kept = failing.case.weights.values.size <= vectors.MAX_WEIGHTS
    if kept:
        replay.write(failing, save)
    answer["divergence"] = found.as_dict() if found else None
    answer["replay"] = str(save) if kept else None
    typer.echo(json.dumps(answer, indent=2) if as_json else verify_report.told(answer))
    where = found.sentence() if found else "the run with a trace showed no difference"
    again = f"; run it again with hwgen verify --replay {save}" if kept else ""
    raise MismatchError(f"{_difference(report, answer)}; {where}{again}")


def _difference(report: Report, asked: dict[str, Any]) -> str:
    first = report.first_mismatch
    assert first is not None
    total, place = report.wanted.size, "entry" if report.top_k else "row"
    return (
        f"{report.mismatches} of {total} results differ from golden, first token {first['token']}"
        f" {place} {first[place]}: rtl {first['rtl']}, golden {first['golden']};"
        f" seed {asked['seed']}, stall seed {asked['stall_seed']}"
    )
