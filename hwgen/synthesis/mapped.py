"""A design after mapping: cells of the device, what drives each net, and whose each cell is.

Read from Yosys's JSON netlist. Names of modules are the hierarchy's, as ``engine.datapath.round``.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

OWNER = "module:"
"""Marks the source attribute that says which module a cell comes from (hwgen.synthesis sets it)."""

LUT = re.compile(r"LUT[1-6]$|INV$")
WIDE_MUX = re.compile(r"MUXF[789]$")
CARRY = re.compile(r"CARRY[48]$")
FLIP_FLOP = re.compile(r"FD[RSCP]E(_1)?$|LD[CP]E$")
SHIFT_REGISTER = re.compile(r"SRL(16|C32)E$")
LUT_RAM = re.compile(r"RAM(\d+)(X1[DS]|M\d*)$")
BLOCK_RAM = re.compile(r"RAMB(18|36)E[12]$")
ULTRA_RAM = re.compile(r"URAM288(_BASE)?$")
MEMORY = re.compile("|".join(kind.pattern for kind in (LUT_RAM, BLOCK_RAM, ULTRA_RAM)))
"""Yosys names these module.memory.row.column."""
DSP = re.compile(r"DSP48E[12]$")
HARD = re.compile(r"PS8$|MMCME4_")

CLOCKS = frozenset({"C", "CLK", "WCLK", "CLKARDCLK", "CLKBWRCLK", "G"})

Bit = int | str
"""A net by number; constants are the strings "0", "1", "x" and "z"."""


@dataclass
class Cell:
    """One cell of the device."""

    name: str
    type: str
    parameters: dict[str, Any]
    inputs: dict[str, list[Bit]]
    outputs: dict[str, list[Bit]]
    owner: str = ""
    """Module that it belongs to."""


@dataclass
class Netlist:
    """The flattened top module."""

    cells: list[Cell]
    names: dict[int, list[str]]
    """Public names of a net, ``module.signal[index]``."""
    inputs: dict[str, list[Bit]]
    outputs: dict[str, list[Bit]]
    drivers: dict[int, tuple[Cell, str, int]] = field(default_factory=dict)
    """Cell, port and index that drive a net."""
    sinks: dict[int, list[tuple[Cell, str, int]]] = field(default_factory=dict)

    def name(self, bit: Bit, owner: str) -> str:
        """The net's name in ``owner``, or else its shortest name; empty if it has none."""
        names = self.names.get(bit, []) if isinstance(bit, int) else []
        return min(names, key=lambda name: (module_of(name) != owner, len(name), name), default="")


def module_of(name: str) -> str:
    """The module part of a hierarchical name."""
    return name.rpartition(".")[0]


def is_register(cell: Cell) -> bool:
    """Flip-flops and shift registers: a path starts at their output and ends at their inputs."""
    return bool(FLIP_FLOP.match(cell.type) or SHIFT_REGISTER.match(cell.type))


def is_block(cell: Cell) -> bool:
    """Cells with registers of their own: DSP, block RAM, UltraRAM, processor, clock generator."""
    return any(kind.match(cell.type) for kind in (BLOCK_RAM, ULTRA_RAM, DSP, HARD))


def label(netlist: Netlist, cell: Cell) -> str:
    """A register by the name of what it holds, other cells by their own."""
    if is_register(cell):
        for bits in cell.outputs.values():
            for bit in bits:
                name = netlist.name(bit, cell.owner)
                if name:
                    return name
    return plain(cell.name) if not cell.name.startswith("$") else cell.type


def read(document: dict[str, Any]) -> Netlist:
    """The netlist of a Yosys JSON document; its top module is the one marked so."""
    module = next(
        module for module in document["modules"].values()
        if int(module["attributes"].get("top", "0"), 2)
    )  # fmt: skip
    cells = [_cell(name, raw) for name, raw in sorted(module["cells"].items())
             if not raw["type"].startswith("$")]  # fmt: skip
    names: dict[int, list[str]] = {}
    for name, net in module["netnames"].items():
        if not net["hide_name"]:
            for index, bit in enumerate(net["bits"]):
                if isinstance(bit, int):
                    suffix = f"[{index}]" if len(net["bits"]) > 1 else ""
                    names.setdefault(bit, []).append(plain(name) + suffix)
    ports: dict[str, dict[str, list[Bit]]] = {"input": {}, "output": {}}
    for name, port in module["ports"].items():
        ports.get(port["direction"], {})[name] = port["bits"]
    netlist = Netlist(cells, names, ports["input"], ports["output"])
    for cell in cells:
        for port, bits in cell.outputs.items():
            for index, bit in enumerate(bits):
                if isinstance(bit, int):
                    netlist.drivers[bit] = (cell, port, index)
        for port, bits in cell.inputs.items():
            for index, bit in enumerate(bits):
                if isinstance(bit, int):
                    netlist.sinks.setdefault(bit, []).append((cell, port, index))
    _find_owners(netlist)
    return netlist


def plain(name: str) -> str:
    """A hierarchical name without the numbers that keep equal names apart."""
    return re.sub(r"\$\d+", "", name).replace("\\", "")


def _cell(name: str, raw: dict[str, Any]) -> Cell:
    directions, connections = raw["port_directions"], raw["connections"]
    cell = Cell(
        name=name,
        type=raw["type"],
        parameters=raw["parameters"],
        inputs={port: bits for port, bits in connections.items() if directions[port] == "input"},
        outputs={port: bits for port, bits in connections.items() if directions[port] != "input"},
    )
    sources = raw["attributes"].get("src", "").split("|")
    owners = [source.removeprefix(OWNER) for source in sources if source.startswith(OWNER)]
    if owners:
        cell.owner = plain(max(owners, key=lambda owner: (owner.count("."), owner)))
    elif not name.startswith("$") and name.count(".") > 2 and MEMORY.match(raw["type"]):
        cell.owner = plain(name).rsplit(".", 3)[0]
    return cell


def _find_owners(netlist: Netlist) -> None:
    """A register belongs to the module that names it, logic to what it feeds most of."""
    order: list[Cell] = []
    modules = {""}
    for cell in netlist.cells:
        parts = cell.owner.split(".")
        modules |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    for cell in netlist.cells:
        if cell.owner:
            continue
        names = [name for bits in cell.outputs.values() for bit in bits if isinstance(bit, int)
                 for name in netlist.names.get(bit, [])]  # fmt: skip
        if is_register(cell) and names:
            owner = module_of(max(names, key=lambda name: (name.count("."), name)))
            while owner not in modules:  # the dots of a structure's fields
                owner = module_of(owner)
            cell.owner = owner
        else:
            order.append(cell)
    for cell in _sinks_first(netlist, order):
        votes: Counter[str] = Counter()
        for bits in cell.outputs.values():
            for bit in bits:
                if isinstance(bit, int):
                    votes.update(sink.owner for sink, _, _ in netlist.sinks.get(bit, []))
        if not votes:  # it feeds a port: it belongs to what it comes from
            votes.update(
                netlist.drivers[bit][0].owner for bits in cell.inputs.values() for bit in bits
                if isinstance(bit, int) and bit in netlist.drivers
            )  # fmt: skip
        cell.owner = min(votes, key=lambda owner: (-votes[owner], owner), default="")


def _sinks_first(netlist: Netlist, cells: list[Cell]) -> list[Cell]:
    """``cells`` ordered so that each comes after those of them that it feeds."""
    wanted = {id(cell) for cell in cells}
    seen: set[int] = set()
    ordered: list[Cell] = []
    for start in cells:
        stack = [(start, False)]
        while stack:
            cell, done = stack.pop()
            if done:
                ordered.append(cell)
            elif id(cell) not in seen:
                seen.add(id(cell))
                stack.append((cell, True))
                stack += [
                    (sink, False) for bits in cell.outputs.values() for bit in bits
                    for sink, _, _ in (netlist.sinks.get(bit, []) if isinstance(bit, int) else [])
                    if id(sink) in wanted and id(sink) not in seen
                ]  # fmt: skip
    return ordered
