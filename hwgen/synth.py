"""``hwgen synth``: what a configuration costs on the XCK26, by Yosys, and the depth rule.

An estimate: Yosys's mapping is not Vivado's, and nothing here knows placement or routing.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from hwgen import depth, mapped, resources, treemap, yosys
from hwgen.files import write_whole
from hwgen.top import Top
from spec import config as configuration
from spec.config import Config
from spec.digest import digest

TOP = "kria_llm"

SCRIPT = f"""
read_rtlil design.il
scratchpad -set synth_xilinx.abc9.W 5000
synth_xilinx -family xcup -top {TOP} -flatten -uram -noclkbuf -noiopad
delete t:$scopeinfo
write_json mapped.json
"""
"""Flattened: Amaranth emits a module per instance, and paths cross modules."""

ELEMENT = re.compile(r"\\[\w$.]+(\[\d+\])+\S*")
"""An RTLIL identifier with an index in its name; slices stand apart."""

LABEL = "estimate"


@dataclass(frozen=True)
class Report:
    """What one synthesis showed."""

    config: Config
    tool: str
    modules: dict[str, resources.Counts]
    verdict: depth.Verdict
    device: resources.Device = resources.XCK26

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "label": LABEL,
            "config": self.config.as_dict(),
            "digest": f"{digest(self.config):016x}",
            "tool": self.tool,
            "device": {"name": self.device.name, **self.device.limits},
            "total": self.modules[""],
            "modules": {name: counts for name, counts in self.modules.items() if name},
            "depth_rule": self.verdict.as_dict(),
        }


def synthesise(config: Config) -> Report:
    """Maps the whole design; a mapping that was made before is taken from the cache.

    Raises:
        ToolError: no Yosys, or it failed.
    """
    netlist = map_design(Top(config), f"mapping {config.name} (once, then cached)")
    return Report(config, yosys.find().version, resources.count(netlist), depth.check(netlist))


def map_design(design: Elaboratable, what: str = "mapping") -> mapped.Netlist:
    """The netlist of a design, mapped to UltraScale+ cells."""
    text = with_owners(rtlil.convert(design, name=TOP, emit_src=False))
    return mapped.read(json.loads(_mapped_json(text, SCRIPT, what)))


def with_owners(text: str) -> str:
    """Marks every cell of a design in RTLIL with its module, which flattening would lose.

    Elements of arrays, ``name[0]``, are renamed to ``name:0``: ABC's results come back bit by bit
    under such names, and Yosys then stops at the collision.
    """
    lines, owner = [], ""
    for line in ELEMENT.sub(_renamed, text).splitlines():
        if line.startswith("module "):
            owner = line.removeprefix("module ").strip().lstrip("\\")
            owner = owner.removeprefix(TOP).removeprefix(".")
        elif re.match(r"  (cell|process) ", line):
            lines.append(f'  attribute \\src "{mapped.OWNER}{owner}"')
        lines.append(line)
    return "\n".join(lines) + "\n"


def _renamed(name: re.Match) -> str:
    return name[0].replace("[", ":").replace("]", "")


def _mapped_json(text: str, script: str, what: str) -> bytes:
    """Yosys's JSON for a design and a script, cached by both and by the tool's version."""
    tool = yosys.find()
    key = hashlib.sha256("\0".join((text, script, tool.version)).encode()).hexdigest()[:32]
    kept = cache_directory() / f"{key}.json.gz"
    if kept.is_file():
        return gzip.decompress(kept.read_bytes())
    print(what, file=sys.stderr, flush=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".synth-", dir=kept.parent) as name:
        work = Path(name)
        (work / "design.il").write_text(text)
        tool.run(script, work)
        document = (work / "mapped.json").read_bytes()
    write_whole(kept, gzip.compress(document, compresslevel=3, mtime=0))
    return document


def cache_directory() -> Path:
    """Where mappings are kept: ``$XDG_CACHE_HOME/kria-llm/synth`` or ``~/.cache/...``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "kria-llm" / "synth"
