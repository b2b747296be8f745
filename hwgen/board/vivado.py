"""Runs a build in Vivado: here, in a container, or on another machine over ssh."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from spec.errors import ToolError, UserError

GATE = 5
"""Exit code of build.tcl when the slack is negative; the other codes are its own failures."""

LOCAL = ("vivado", "bootgen", "dtc", "make")
"""What the Makefile calls."""

KINDS = "local, container:IMAGE or ssh:HOST"


class VivadoError(UserError):
    """A way to Vivado that makes no sense."""


class BuildError(ToolError):
    """Vivado ran and did not give a design that may be packaged."""


def steps(where: str, directory: Path, app: str) -> list[list[str]]:
    """The commands that build a directory, in order.

    Args:
        where: ``local``, ``container:IMAGE`` or ``ssh:HOST``.
        app: the firmware's name, which names the directory on another machine.

    Raises:
        VivadoError: another ``where``.
        ToolError: no container engine or no ssh here.
    """
    kind, _, target = where.partition(":")
    folder = str(directory.resolve())
    if kind == "local" and not target:
        for tool in LOCAL:
            if shutil.which(tool) is None:
                raise ToolError(
                    f"--vivado local needs {tool} on PATH: source Vivado's settings64.sh, or use"
                    " container:IMAGE or ssh:HOST"
                )
        return [["make", "-C", folder, "package"]]
    if target.startswith("-") or kind not in ("container", "ssh") or not target:
        raise VivadoError(f"--vivado must be {KINDS}, got {where!r}")
    if kind == "container":
        engine = next((name for name in ("podman", "docker") if shutil.which(name)), None)
        if engine is None:
            raise ToolError("--vivado container needs podman or docker: install one of them")
        run = [engine, "run", "--rm", "-v", f"{folder}:/work", "-w", "/work", target]
        return [[*run, "make", "package"]]
    if shutil.which("ssh") is None or shutil.which("rsync") is None:
        raise ToolError("--vivado ssh needs ssh and rsync: install them")
    remote = f"kria-llm-builds/{app}"
    # A login shell: Vivado's settings come from there.
    command = f"bash -lc {shlex.quote(f'cd {remote} && make package')}"
    return [
        ["ssh", target, f"mkdir -p {remote}"],
        ["rsync", "-a", f"{folder}/", f"{target}:{remote}/"],
        ["ssh", target, command],
        ["rsync", "-a", "--exclude=vivado", f"{target}:{remote}/", f"{folder}/"],
    ]


def run(where: str, directory: Path, app: str) -> None:
    """Builds, Vivado's messages on stderr.

    Raises:
        VivadoError, ToolError: as for ``steps``.
        BuildError: a step failed; of a missed clock the sentence says so.
    """
    commands = steps(where, directory, app)
    failed: Sequence[str] = ()
    code = 0
    for command in commands:
        # What there is comes back from another machine even when Vivado failed: the reports.
        if failed and command is not commands[-1]:
            continue
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        except FileNotFoundError:
            raise ToolError(f"{command[0]} is not installed: --vivado {where} needs it") from None
        if done.returncode and not failed:
            failed, code = command, done.returncode
    log = directory / "vivado.log"
    text = log.read_text(errors="replace") if log.is_file() else ""
    if "timing is not met" in text:
        line = next(line for line in text.splitlines() if "timing is not met" in line)
        raise BuildError(line.partition("[kria_llm]")[2].strip() or line)
    if failed:
        raise BuildError(
            f"{' '.join(failed)} ended with {code}: see {log if text else 'its messages above'}"
        )
    if not (directory / "firmware" / app / f"{app}.bit.bin").is_file():
        raise BuildError(f"Vivado ended but there is no firmware/{app}/{app}.bit.bin")
