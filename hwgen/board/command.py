"""``hwgen build`` and ``hwgen report``: a board's files, and what Vivado made of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hwgen.board import boards, files, plain, reports, vivado
from spec import config as configuration
from spec.digest import digest
from spec.errors import MismatchError, ToolError

FLOWS = ("block-design", "plain")


def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    board: Annotated[str, typer.Option("--board", "-b", help="kv260 or kr260.")] = "kv260",
    config: Annotated[
        str, typer.Option("--config", "-c", help="A preset (tiny, kv260) or a TOML file.")
    ] = "kv260",
    run: Annotated[
        str | None,
        typer.Option(
            "--vivado",
            help="Run Vivado too: local, container:IMAGE or ssh:HOST. Without: only write.",
            metavar="WHERE",
        ),
    ] = None,
    flow: Annotated[
        str,
        typer.Option(
            help="block-design, or plain: PS and MMCM as instances, by Amaranth's own Vivado flow."
        ),
    ] = FLOWS[0],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write everything that a person with Vivado needs to make a board's firmware.

    Verilog, block design, build script with the timing gate, constraints, bootgen's input, overlay
    source, shell.json, Makefile and README. The Tcl is then checked by a lint: it is run against
    what is known of Vivado's commands, cells, properties, pins and addresses. It is no Vivado.

    \b
    Examples:
      hwgen build --board kv260 --config kv260 -o build/board
      hwgen build --board kv260 --config my.toml -o build/board --vivado ssh:builder

    With --vivado the exit code is 0 only if a bitstream was packaged; negative slack prevents it.
    """
    shape = configuration.load(config)
    chosen = boards.find(board)
    if flow not in FLOWS:
        raise boards.BoardError(f"--flow must be {' or '.join(FLOWS)}, got {flow!r}")
    _say(f"writing the design for the {chosen.name}")
    texts = plain.contents(chosen, shape) if flow == "plain" else None
    paths = files.write(chosen, shape, output, texts)
    lint = (
        "not run: it knows the block design alone"
        if flow == "plain"
        else _lint(output, chosen, shape)
    )
    if run is not None:
        vivado.run(run, output, files.app(shape))
    columns = _columns(output) if run is not None else []
    report = {
        "board": chosen.name,
        "config": shape.as_dict(),
        "digest": f"{digest(shape):016x}",
        "app": files.app(shape),
        "files": [str(path) for path in paths],
        "flow": flow,
        "lint": lint,
        "vivado": [column.as_dict() for column in columns] if run is not None else "not run",
    }
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(f"{chosen.title}, configuration {shape.name}, firmware {files.app(shape)}")
    for path in paths:
        typer.echo(f"  {path}")
    typer.echo(f"lint of the Tcl: {report['lint']}")
    if run is None:
        typer.echo(f"Vivado: not run; on a machine that has it: make -C {output}")
    for line in reports.lines(columns) if columns else []:
        typer.echo(line)


def _lint(output: Path, board: boards.Board, shape: configuration.Config) -> str:
    """Runs the lint and says how it went. A finding is a bug of the generator."""
    _say("checking the Tcl")
    try:
        from hwgen.board.lint import check

        findings = check.lint(output, board, shape)
    except (ImportError, ToolError):
        return "not run: this Python has no Tcl (Debian: python3-tk)"
    if findings:
        raise MismatchError(f"the generated Tcl fails its own lint: {'; '.join(findings)}")
    return "clean"


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def report(
    directory: Annotated[Path, typer.Argument(help="Where hwgen build wrote and Vivado ran.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Put Vivado's utilisation, timing and power beside the estimates of hwgen synth.

    \b
    Examples:
      hwgen synth --config kv260 -o build/board
      hwgen report build/board
    """
    columns = _columns(directory)
    if as_json:
        typer.echo(json.dumps([column.as_dict() for column in columns], indent=2))
        return
    for line in reports.lines(columns):
        typer.echo(line)


def _columns(directory: Path) -> list[reports.Column]:
    estimate = reports.estimated(directory)
    return [*([estimate] if estimate else []), reports.implemented(directory)]
