"""``kria-llm firmware``: installs firmware, goes back to the one before, says what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from host.board import firmware as store
from host.cli.options import Json
from host.transports.machine import Machine

app = typer.Typer(
    name="firmware",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Installs the accelerator's firmware on the board, and takes it back.\n\n"
    "The previous version stays; `rollback` makes it the current one with a single rename.",
)


@app.command()
def install(
    folder: Annotated[Path, typer.Argument(help="What make package wrote: firmware/kria-llm-...")],
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Do not ask for a signature.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Checks hashes and signature, and makes the folder the current version.

    The hashes in SHA256SUMS must agree, and SHA256SUMS.minisig must be by the key in
    /etc/kria-llm/minisign.pub. Nothing changes if they do not.

    Examples:

        kria-llm firmware install firmware/kria-llm-0123456789abcdef

        kria-llm firmware install firmware/kria-llm-0123456789abcdef --unsigned
    """
    _tell(store.install(Machine(), folder, unsigned), "installed", as_json)


@app.command()
def rollback(as_json: Json = False) -> None:
    """Makes the previous version the current one.

    Example:

        kria-llm firmware rollback
    """
    _tell(store.rollback(Machine()), "back to", as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Says which versions are installed.

    Example:

        kria-llm firmware status --json
    """
    machine = Machine()
    now, before = store.current(machine), store.previous(machine)
    told = {
        "current": now.folder if now else None,
        "previous": before.folder if before else None,
        "app": now.app if now else None,
    }
    if as_json:
        print(json.dumps(told, indent=2))
        return
    print(f"current   {told['current'] or 'none'}")
    print(f"previous  {told['previous'] or 'none'}")


def _tell(version: store.Version, what: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"version": version.folder, "app": version.app}, indent=2))
        return
    print(f"{what} {version.folder}; load it with: xmutil unloadapp; xmutil loadapp {version.app}")
