"""The stage ``build``: Vivado's implementation of a point; not run where Vivado is missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from sim.build import cache_directory
from sim.sweep.point import Point
from spec.digest import digest
from spec.errors import ToolError, UserError

BOARD = "kv260"


def version() -> str:
    """What Vivado says about itself.

    Raises:
        ToolError: it is not on PATH.
    """
    if shutil.which("vivado") is None:
        raise ToolError(
            "vivado is not on PATH: source its settings64.sh and run the same command again"
        )
    done = subprocess.run(
        ["vivado", "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return next(iter(done.stdout.splitlines()), "vivado")


def run(point: Point, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Utilisation, slack and power by Vivado, of the board's whole design.

    Raises:
        ToolError: Vivado, or what its Makefile calls, is not on PATH.
        UserError: it gave no design that may be packaged.
    """
    version()
    from hwgen.board import boards, files, reports, vivado  # loads Amaranth: a second

    directory = cache_directory().parent / "sweep" / "build" / f"{digest(point.config):016x}"
    directory.mkdir(parents=True, exist_ok=True)
    files.write(boards.find(BOARD), point.config, directory, None)
    try:
        vivado.run("local", directory, files.app(point.config))
    except vivado.BuildError as problem:  # Vivado ran: the point is what failed
        raise UserError(str(problem)) from None
    found = reports.implemented(directory)
    return {
        **found.resources,
        "worst_slack_ns": found.worst_slack_ns,
        "power_watt": found.power_watt,
        "fmax_mhz": min(found.fmax_mhz.values(), default=None),
    }
