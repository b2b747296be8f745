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

from hwgen.synthesis import depth, mapped, resources, treemap, yosys
from hwgen.top import Top
from spec import config as configuration
from spec.config import Config
from spec.device import XCK26, Device
from spec.digest import digest
from spec.files import write_files, write_whole

TOP = "kria_llm"

WIRE_DELAY = 5000
"""Picoseconds that the mapping takes a wire between LUTs for: so much more than a LUT or a carry
that it counts levels, as the depth rule does, and saves area only where no level is lost."""

SYNTH = f"synth_xilinx -family xcup -top {TOP} -uram -noclkbuf -noiopad"

SCRIPT = f"""
read_rtlil design.il
scratchpad -set synth_xilinx.abc9.W {WIRE_DELAY}
{SYNTH} -run begin:prepare
proc
flatten
opt_expr
opt_clean
opt -nodffe -nosdff
fsm
opt
wreduce
peepopt
opt_clean
{SYNTH} -run map_dsp:
delete t:$scopeinfo
write_json mapped.json
"""
"""Flattened: Amaranth emits a module per instance, and paths cross modules. The step ``prepare`` is
spelt out without ``pmux2shiftx``, which makes a selection by a state's number a shift by a
difference: a carry chain in each state machine, and not what Vivado does."""

ELEMENT = re.compile(r"\\[\w$.]+(\[\d+\])+\S*")
"""An RTLIL identifier with an index in its name; slices stand apart."""

LABEL = "estimate"

FILES = ("synth.json", "treemap.html")


@dataclass(frozen=True)
class Report:
    """What one synthesis showed."""

    config: Config
    tool: str
    modules: dict[str, resources.Counts]
    verdict: depth.Verdict
    device: Device = XCK26

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

    def lines(self, count: int = 5) -> list[str]:
        """For a person: totals against the device, the verdict and its worst paths."""
        total = self.modules[""]
        tool = self.tool.split(" (")[0]
        text = [f"{self.config.name} on the {self.device.name}, an estimate by {tool}"]
        for resource, limit in self.device.limits.items():
            used = f"{total[resource]:,.1f}".removesuffix(".0")
            text.append(f"  {resource:<7}{used:>9} of {limit:>8,}  {total[resource] / limit:6.1%}")
        verdict = self.verdict
        text.append("depth rule met" if verdict.met else "depth rule NOT met")
        for path in verdict.paths[:count]:
            text.append(
                f"  {path.levels} levels, {path.chains} carry of {path.chain_bits} bits:"
                f" {path.start} -> {path.end}{'' if path.met else '  (breaks the rule)'}"
            )
        return text + [f"  {sentence}" for sentence in verdict.unregistered[:count]]


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


def write(report: Report, directory: Path) -> list[Path]:
    """Writes ``synth.json`` and ``treemap.html``; each appears whole or not at all.

    Raises:
        OutputError: ``directory`` is a file or cannot be written.
    """
    title = f"{report.config.name}: resources by module"
    texts = (
        json.dumps(report.as_dict(), indent=2) + "\n",
        treemap.page(title, report.modules, report.device),
    )
    return write_files(directory, dict(zip(FILES, texts, strict=True)))


def command(
    config: Annotated[
        str, typer.Option("--config", "-c", help="A preset (tiny, kv260) or a TOML file.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory for the report and the treemap."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Estimate what a configuration costs on the Kria's device, and check the depth rule.

    \b
    synth.json     LUT, FF, DSP, BRAM36, URAM in total and by module; the worst paths
    treemap.html   the same as areas

    The depth rule stands in for timing: at most 3 LUTs and one carry chain of 32 bits between
    registers, and the registers of DSPs and memories in use. No timing analysis is done. A mapping
    takes minutes for kv260; it is kept, and the same design is not mapped twice.

    \b
    Examples:
      hwgen synth --config kv260 -o build/kv260
      hwgen synth --config my.toml --json
    """
    report = synthesise(configuration.load(config))
    paths = write(report, output) if output else []
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for line in [*report.lines(), *(f"  {path}" for path in paths)]:
            typer.echo(line)
    resources.check_fit(report.config.name, report.modules[""], report.device)
