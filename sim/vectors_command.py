"""``hwgen vectors``: test vectors as files, and running them on any level."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from host.device import vectors
from sim import vector_set
from sim.options import ConfigOption
from spec import config as configuration
from spec.errors import MismatchError, UserError
from spec.files import OutputError, write_whole

COUNT_MAX = 1000
"""Most vectors of one set."""


def command(
    config: ConfigOption = "tiny",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory for new vectors.", show_default=False),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Run the vectors in this directory.", show_default=False),
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(help="golden, cpu, rtl, gates or a device; golden, cpu and rtl if not given.",
                     show_default=False),
    ] = None,
    count: Annotated[int, typer.Option(help="Vectors to write.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Draws the values.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:  # fmt: skip
    """Write test vectors, or run them on any level of the design: the same files everywhere.

    \b
    golden   the golden model, NumPy
    cpu      the compiled kernels
    rtl      the generated Verilog, simulated by Verilator
    gates    the Verilog mapped to gates by Yosys (memories kept), simulated by Verilator
    others   any device of kria-llm by name, a board too

    \b
    Examples:
      hwgen vectors --config tiny -o build/vectors
      hwgen vectors --config tiny --run build/vectors --level cpu --level rtl
      hwgen vectors --config tiny --run build/vectors --level gates --json

    A file is JSON and holds operands and golden's results, not packed memory, so it runs on every
    configuration that has its tokens, group and columns. Exit code 5 when a level is not equal.
    """
    shape = configuration.load(config)
    if (output is None) == (run is None):
        raise UserError("give either --output DIR to write vectors or --run DIR to run them")
    if output is not None:
        _write(shape, output, count, seed, as_json)
    else:
        assert run is not None
        _run(shape, run, level or ["golden", "cpu", "rtl"], as_json)


def _write(shape: configuration.Config, output: Path, count: int, seed: int, as_json: bool) -> None:
    if not 1 <= count <= COUNT_MAX:
        raise UserError(f"count must lie in 1..{COUNT_MAX}, got {count}")
    try:
        output.mkdir(parents=True, exist_ok=True)
        paths = []
        for vector in vector_set.draw(shape, count, seed):
            paths.append(output / f"{vector.name}.json")
            write_whole(paths[-1], vectors.dump(vector))
    except OSError as error:
        raise OutputError(f"cannot write to {output} ({error.strerror})") from None
    names = [str(path) for path in paths]
    typer.echo(json.dumps({"files": names}, indent=2) if as_json else "\n".join(names))


def _run(shape: configuration.Config, place: Path, levels: list[str], as_json: bool) -> None:
    paths = sorted(place.glob("*.json")) if place.is_dir() else []
    if not paths:
        raise UserError(f"{place} holds no vectors: write some with hwgen vectors -o {place}")
    chosen = [vectors.load(path) for path in paths]
    report: dict[str, Any] = {"config": shape.name, "vectors": len(chosen), "levels": {}}
    wrong: list[str] = []
    for level in levels:
        told = vector_set.run(level, shape, chosen)
        equal = sum(one["equal"] for one in told)
        report["levels"][level] = {
            "ran": len(told), "equal": equal, "differences": [o for o in told if not o["equal"]],
        }  # fmt: skip
        wrong += [f"{level}: {one['name']}" for one in told if not one["equal"]]
        if not as_json:
            unsuited = f", {len(chosen) - len(told)} do not suit" if len(told) < len(chosen) else ""
            typer.echo(f"{level:8} {equal} of {len(told)} equal to golden's results{unsuited}")
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    if wrong:
        raise MismatchError(f"{len(wrong)} vectors are not equal, first {wrong[0]}")
