"""What a result depends on besides its point: our own sources, by digest, and the tools.

Two workers whose versions differ would fill one table with results of two programs, so they are
compared before a worker gets a point.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sim import build
from sim.source import AFTERWARDS
from spec.errors import ToolError

ROOT = Path(__file__).parents[2]

RATES = ("sim/timing.py", "sim/traffic.py", "sim/memory*.py", "sim/harness/*",
         "sim/sweep/rates.py")  # fmt: skip
"""Of a memory's rate."""

FABRIC = (*RATES, "spec/*.py", "sim/cycles.py", "sim/workload.py", "sim/sweep/fabric.py")
"""Of the analytic model of cycles."""

DESIGN = ("spec/*.py", "hwgen/*.py")
"""Of the Verilog."""

SOURCES = {
    "rates": RATES,
    "estimate": (
        *FABRIC,
        "sim/area.py",
        "host/plan/*",
        "sim/sweep/estimate.py",
        "sim/sweep/overhead.py",
        "sim/sweep/energy.py",
    ),
    "simulate": (*FABRIC, *DESIGN, "sim/build.py", "sim/device.py", "sim/sweep/simulate.py"),
    "synth": (*DESIGN, "hwgen/synthesis/*.py", "sim/sweep/synth.py"),
    "build": (*DESIGN, "hwgen/board/**/*", "sim/sweep/build.py"),
}
"""By stage, and for the memories' rates, the files whose contents decide a result."""

TOOLS = {
    "estimate": (),
    "simulate": ("amaranth", "verilator"),
    "synth": ("amaranth", "yosys"),
    "build": ("amaranth", "vivado"),
}
"""By stage, the tools that do."""


def versions(stage: str) -> dict[str, str]:
    """``sources`` and each tool of a stage; a tool that is missing is an empty text."""
    return {"sources": sources(stage), **{name: tool(name) for name in TOOLS[stage]}}


@lru_cache(maxsize=8)
def sources(stage: str) -> str:
    """16 hexadecimal digits over the sources of a stage."""
    digest = hashlib.sha256()
    paths = {path for pattern in SOURCES[stage] for path in ROOT.glob(pattern) if path.is_file()}
    for path in sorted(paths):
        if path.suffix == ".pyc" or path.name in AFTERWARDS:
            continue
        data = path.read_bytes()
        name = path.relative_to(ROOT).as_posix()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=8)
def tool(name: str) -> str:
    """Version of a tool, or an empty text."""
    try:
        if name == "verilator":
            return build.verilator_version()
        if name == "yosys":
            from hwgen.synthesis import yosys  # loads what hwgen synth needs

            return yosys.find().version
        if name == "vivado":
            from sim.sweep import build as implementation

            return implementation.version()
        return version(name)
    except (ToolError, PackageNotFoundError, ImportError):
        return ""
