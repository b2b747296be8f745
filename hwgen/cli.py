"""The ``hwgen`` command: from a configuration to Verilog, and to the proof that it computes right.

Commands that need more than the generator (``verify`` needs the simulator) are found through the
entry-point group ``hwgen.commands``, so that this package imports none of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from spec import config as configuration
from spec.digest import digest
from spec.errors import ToolError, exit_with_sentence

GROUP = "hwgen.commands"

MINIMUM_PYTHON = (3, 11)
"""Of the generator; the runtime is content with the board's 3.10."""

app = typer.Typer(
    name="hwgen",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""Generates the accelerator.

    \b
    Examples:
      hwgen generate --config kv260 -o build/kv260
      hwgen verify --config tiny --shape 100x256 --tokens 2

    Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 2 bad input, 3 a tool
    is missing, 4 the device failed, 5 a comparison is not equal.
    """,
)


@app.callback()
def _group() -> None:
    """Keeps ``generate`` a named command when it is the only one installed."""


@app.command()
def generate(
    config: Annotated[
        str, typer.Option("--config", "-c", help="A preset (tiny, kv260) or a TOML file.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the files; made if need be.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the Verilog of an accelerator and what describes it.

    \b
    kria_llm.v    the design: one file, top module kria_llm, AXI ports in Xilinx's naming
    design.json   configuration, digest, derived shape, versions, ports
    csr.json      the register map

    \b
    Examples:
      hwgen generate --config kv260 -o build/kv260
      hwgen generate --config my.toml -o build/mine --json

    A TOML file holds any of the fields that design.json shows under "config", on top of a preset:

    \b
      preset = "kv260"
      tokens = 4
      group = 32

    The same configuration always gives the same files.
    """
    shape = configuration.load(config)
    generator = _generator()
    files = [str(path) for path in generator(shape, output)]
    if as_json:
        report = {"config": shape.as_dict(), "digest": f"{digest(shape):016x}", "files": files}
        typer.echo(json.dumps(report, indent=2))
        return
    typer.echo(f"{shape.name}, digest {digest(shape):016x}")
    for name in files:
        typer.echo(f"  {name}")


def _generator() -> Callable[[configuration.Config, Path], list[Path]]:
    try:
        from hwgen.generate import write
    except ModuleNotFoundError as error:
        raise _missing("generate", error, "generator") from None
    return write


def _missing(command: str, error: ModuleNotFoundError, extra: str) -> ToolError:
    """A command whose package is not installed."""
    return ToolError(
        f"hwgen {command} needs the package {error.name}: install it with"
        f" pip install 'kria-llm[{extra}]'"
    )


def _add_installed_commands() -> None:
    """Adds what other packages offer; one that cannot be imported says why when it is called."""
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            function = point.load()
        except ModuleNotFoundError as error:
            function = _refusal(_missing(point.name, error, "simulation"))
            settings = {"ignore_unknown_options": True, "allow_extra_args": True}
            app.command(point.name, context_settings=settings)(function)
        else:
            app.command(point.name)(function)


def _refusal(error: ToolError) -> Callable[[], None]:
    def refuse() -> None:
        """Not installed: run it for the package that it needs."""
        raise error

    return refuse


def main() -> None:
    """The console script."""
    exit_with_sentence(_run)


def _run() -> None:
    if sys.version_info < MINIMUM_PYTHON:
        raise ToolError(
            f"hwgen needs Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer, this is"
            f" {sys.version.split()[0]}; the board needs only kria-llm"
        )
    _add_installed_commands()
    app()
