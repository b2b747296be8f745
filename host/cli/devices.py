"""``kria-llm devices``: what can run the accelerator here."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from host.device.transport import names


def devices(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of names.")] = False,
) -> None:
    """Lists the devices that are installed.

    `golden` is the reference in NumPy, `cpu` the same integers in compiled code, `rtl` the
    generated Verilog simulated clock by clock; `uio` and `pynq` are the board.

    Example:

        kria-llm generate "Hello" --device golden
    """
    found = names()
    print(json.dumps(found) if as_json else "\n".join(found))
