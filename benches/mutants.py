"""Mutants of the generated design: one simulator holds all, a register selects one.

Yosys's ``mutate`` inverts a bit of a cell's port, ties it to 0 or 1, or makes it depend on another
bit. Each change is behind a comparison with the input ``mutant``, so that hundreds of mutants cost
one build. A wrapper keeps that input in a register at an offset of the control window that the
design does not use; it listens to the pins alone, because the mutant may have broken the port.
"""

from __future__ import annotations

import itertools
import random
import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from hwgen import generate
from hwgen.synthesis import yosys
from spec.config import Config

SELECT_OFFSET = 0xF000
"""A write to this offset plus a mutant's number selects it; 0 is the design as it is."""

TOP = "kria_llm"
"""The flattened module."""

CANDIDATES = 4000
"""Mutations that Yosys proposes, spread over the design; the sample is drawn from them."""

PREPARE = """read_rtlil {source}
hierarchy -top kria_llm
proc
flatten
opt_expr
opt_merge
opt_clean
memory_collect
"""

LIST = "mutate -list {count} -seed {seed} -o list.txt\nwrite_rtlil flat.il\n"

EMIT = """{mutations}
rename kria_llm mutants
attrmap -remove generator -remove top -remove src
write_verilog -norename mutants.v
"""


@dataclass(frozen=True)
class Mutant:
    """One change of the design."""

    number: int
    module: str
    """Path of the module that it lies in: ``engine.reader0.cutter``."""
    options: str
    """What ``mutate`` takes: mode, cell, port and bit, and the name of the wire."""


def sample(config: Config, count: int, seed: int) -> tuple[str, list[Mutant]]:
    """Verilog of the design with ``count`` mutants, drawn evenly over its modules."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        flatten(generate.rtlil(config), directory, LIST.format(count=CANDIDATES, seed=seed))
        mutants = _drawn((directory / "list.txt").read_text().splitlines(), count, seed)
        width = count.bit_length()
        commands = [
            f"mutate {re.sub(r' -(wire|wirebit|src) [^ ]+', '', mutant.options)}"
            f" -ctrl mutant {width} {mutant.number}"
            for mutant in mutants
        ]
        script = "read_rtlil flat.il\n" + EMIT.format(mutations="\n".join(commands))
        yosys.find().run(script, directory)
        verilog = (directory / "mutants.v").read_text()
    return verilog + _wrapper(config, width), mutants


def flatten(text: str, directory: Path, further: str) -> None:
    """Flattens RTLIL in ``directory``, then lets Yosys do something further with it."""
    (directory / "design.il").write_text(text)
    yosys.find().run(PREPARE.format(source="design.il") + further, directory)


def _drawn(lines: list[str], count: int, seed: int) -> list[Mutant]:
    """A module's turn comes as often as any other's, until its candidates are used up."""
    by_module: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        options = line.removeprefix("mutate ").strip()
        cell = re.search(r"-cell (\S+)", options)
        assert cell is not None
        if re.search(r"-port \S*CLK", options):
            continue  # another clock is another design
        by_module[module(cell[1])].append(options)
    chance = random.Random(seed)
    for candidates in by_module.values():
        chance.shuffle(candidates)
    drawn: list[Mutant] = []
    while len(drawn) < count and any(by_module.values()):
        for path in sorted(by_module):
            if by_module[path] and len(drawn) < count:
                drawn.append(Mutant(len(drawn) + 1, path, by_module[path].pop()))
    return drawn


def module(cell: str) -> str:
    """The path in a flattened cell's name."""
    parts = cell.removeprefix("$flatten").replace("\\", "").split(".")
    return ".".join(itertools.takewhile(lambda part: not part.startswith("$"), parts)) or "top"


def _wrapper(config: Config, width: int) -> str:
    """The top module under its own name, with the register that selects."""
    ports = generate.ports(config)
    declared = ", ".join(
        f"{port['direction']} [{port['width'] - 1}:0] {port['name']}" for port in ports
    )
    joined = ", ".join(f".{port['name']}({port['name']})" for port in ports)
    return f"""
module kria_llm({declared});
  reg [{width - 1}:0] selected = 0;
  always @(posedge aclk)
    if (s_axi_control_awvalid & s_axi_control_awaddr >= {SELECT_OFFSET})
      selected <= s_axi_control_awaddr[{width - 1}:0];
  mutants held(.mutant(selected), {joined});
endmodule
"""
