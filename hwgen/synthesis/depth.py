"""The depth rule: how much logic lies between registers, counted in the mapped netlist.

A stand-in for timing where no timing analysis exists: at most ``LEVELS`` LUTs in a row between
registers, at most ``CHAINS`` carry chain among them, of at most ``CHAIN_BITS`` bits; DSPs with all
their registers, memories with a register behind their output. It says "depth rule met", never
"timing met".

* A level is a LUT6, or the read of a LUT RAM; MUXF7..9 count with the LUT that they follow.
* A carry chain counts the bits that a path adds on its way; bits that only pass the carry out,
  whose propagate input is constant, are not counted.
* Paths start at registers, at the outputs of DSPs and memories and at the top's inputs; they end
  at every input of those but the clock, and at the top's outputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hwgen.synthesis import block_registers, mapped
from hwgen.synthesis.mapped import Bit, Cell, Netlist

LEVELS = 3
CHAINS = 1
CHAIN_BITS = 32

WORST = 20
"""Paths that a report shows."""


@dataclass(frozen=True)
class Path:
    """The deepest path into one register."""

    start: str
    end: str
    start_module: str
    end_module: str
    levels: int
    chains: int
    chain_bits: int

    @property
    def met(self) -> bool:
        """Whether the path keeps the rule."""
        return self.levels <= LEVELS and self.chains <= CHAINS and self.chain_bits <= CHAIN_BITS

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "start_module": self.start_module, "start": self.start, "end_module": self.end_module,
            "end": self.end, "levels": self.levels, "carries": self.chains,
            "carry_bits": self.chain_bits, "met": self.met,
        }  # fmt: skip


@dataclass
class Verdict:
    """The rule applied to a whole design."""

    paths: list[Path]
    """One per pair of start and end register, the worst first."""
    unregistered: list[str]
    """A sentence for each DSP or memory that lacks a register."""

    @property
    def met(self) -> bool:
        """Whether the whole design keeps the rule."""
        return not self.unregistered and all(path.met for path in self.paths)

    def as_dict(self, count: int = WORST) -> dict[str, Any]:
        """For the report."""
        return {
            "met": self.met,
            "limits": {"levels": LEVELS, "carries": CHAINS, "carry_bits": CHAIN_BITS},
            "violations": sum(not path.met for path in self.paths) + len(self.unregistered),
            "worst": [path.as_dict() for path in self.paths[:count]],
            "unregistered": self.unregistered[:count],
        }


@dataclass
class _Measure:
    """The largest of one quantity over all paths to a net, and the net that it came through."""

    value: dict[Bit, int] = field(default_factory=dict)
    through: dict[Bit, Bit] = field(default_factory=dict)

    def reach(self, bit: Bit, choices: Iterator[tuple[int, Bit]]) -> None:
        value, through = max(choices, key=lambda choice: choice[0], default=(0, None))
        self.value[bit] = value
        if through is not None:
            self.through[bit] = through

    def at(self, bit: Bit) -> int:
        return self.value.get(bit, 0)

    def start(self, bit: Bit) -> Bit:
        while bit in self.through:
            bit = self.through[bit]
        return bit


class Depths:
    """Levels, carry chains and carry bits to every net of a netlist."""

    def __init__(self, netlist: Netlist):
        self._netlist = netlist
        self.levels, self.chains, self.longest = _Measure(), _Measure(), _Measure()
        self._run: dict[Bit, int] = {}  # bits of the chain that the net leaves
        for bit in _drivers_first(netlist):
            self._visit(bit)

    def _visit(self, bit: int) -> None:
        cell, port, index = self._netlist.drivers[bit]
        if mapped.CARRY.match(cell.type):
            self._carry(bit, cell, index)
            return
        sources = _sources(cell, port, index)
        step = 0 if mapped.WIDE_MUX.match(cell.type) else 1
        self.levels.reach(bit, ((self.levels.at(source) + step, source) for source in sources))
        self.chains.reach(bit, ((self.chains.at(source), source) for source in sources))
        self.longest.reach(bit, ((self.longest.at(source), source) for source in sources))

    def _carry(self, bit: int, cell: Cell, index: int) -> None:
        """A sum or carry output: entered at any lower bit or from the slice below."""
        entries = list(_carry_entries(cell, index))
        chains, runs = [], []
        for source, bits in entries:
            joined = self._run.get(source, 0)  # the chain goes on from the slice below
            chains.append((self.chains.at(source) + (not self._continues(source, cell)), source))
            run = bits + (joined if self._continues(source, cell) else 0)
            runs.append((run, source))
        self.levels.reach(bit, ((self.levels.at(source), source) for source, _ in entries))
        self.chains.reach(bit, iter(chains))
        self._run[bit] = max((run for run, _ in runs), default=0)
        before = [(self.longest.at(source), source) for source, _ in entries]
        self.longest.reach(bit, iter(runs + before))

    def _continues(self, source: Bit, cell: Cell) -> bool:
        driver = self._netlist.drivers.get(source) if isinstance(source, int) else None
        return (
            driver is not None
            and mapped.CARRY.match(driver[0].type) is not None
            and driver[1] == "CO"
            and source in cell.inputs.get("CI", [])
        )


def _carry_entries(cell: Cell, index: int) -> Iterator[tuple[Bit, int]]:
    """Inputs that reach output ``index`` of a carry cell, with the bits that are added between."""
    propagate = cell.inputs["S"]

    def added(first: int) -> int:
        return sum(isinstance(bit, int) for bit in propagate[first : index + 1])

    for port in ("CI", "CYINIT", "CI_TOP"):
        for bit in cell.inputs.get(port, []):
            if isinstance(bit, int):
                yield bit, added(0)
    for place in range(index + 1):
        for bit in (propagate[place], cell.inputs["DI"][place]):
            if isinstance(bit, int):
                yield bit, added(place)


def _sources(cell: Cell, port: str, index: int) -> list[Bit]:
    """Inputs that an output depends on without a clock."""
    ram = mapped.LUT_RAM.match(cell.type)
    if not ram:
        return [bit for bits in cell.inputs.values() for bit in bits if isinstance(bit, int)]
    if ram[2].startswith("M"):
        wanted = [f"ADDR{port[-1]}"]
    elif ram[2] == "X1D" and port == "DPO":
        wanted = [name for name in cell.inputs if name.startswith("DPRA")]
    else:
        wanted = [name for name in cell.inputs if name.startswith("A")]
    return [bit for name in wanted for bit in cell.inputs.get(name, []) if isinstance(bit, int)]


def _combinational(cell: Cell) -> bool:
    return not (mapped.is_register(cell) or mapped.is_block(cell))


def _drivers_first(netlist: Netlist) -> list[int]:
    """Nets driven by logic, each after those that it depends on."""
    seen: set[int] = set()
    ordered: list[int] = []

    def before(bit: int) -> list[int]:
        cell, port, index = netlist.drivers[bit]
        if mapped.CARRY.match(cell.type):
            sources: list[Bit] = [source for source, _ in _carry_entries(cell, index)]
        else:
            sources = _sources(cell, port, index)
        return [source for source in sources if isinstance(source, int) and inner(source)]

    def inner(bit: int) -> bool:
        return bit in netlist.drivers and _combinational(netlist.drivers[bit][0])

    for start in netlist.drivers:
        stack = [(start, False)] if inner(start) else []
        while stack:
            bit, done = stack.pop()
            if done:
                ordered.append(bit)
            elif bit not in seen:
                seen.add(bit)
                stack.append((bit, True))
                stack += [(source, False) for source in before(bit) if source not in seen]
    return ordered


def check(netlist: Netlist) -> Verdict:
    """Applies the rule to a netlist."""
    depths = Depths(netlist)
    worst: dict[tuple[str, ...], Path] = {}
    for bit, end, module in _ends(netlist):
        for measure in (depths.levels, depths.chains, depths.longest):
            start, start_module = _start(netlist, measure.start(bit))
            path = Path(
                start, end, start_module, module, depths.levels.at(bit), depths.chains.at(bit),
                depths.longest.at(bit),
            )  # fmt: skip
            key = (_register(start), _register(end))
            if key not in worst or _badness(path) > _badness(worst[key]):
                worst[key] = path
            if path.met:
                break
    paths = sorted(worst.values(), key=lambda path: (*(-x for x in _badness(path)), path.end,
                                                     path.start))  # fmt: skip
    return Verdict(paths, list(block_registers.missing(netlist)))


def _badness(path: Path) -> tuple[int, ...]:
    return (not path.met, path.levels, path.chains, path.chain_bits)


def _register(name: str) -> str:
    """A register's name without the bit."""
    return name.partition("[")[0]


def _ends(netlist: Netlist) -> Iterator[tuple[Bit, str, str]]:
    """Nets where paths end, with the name and module of what they end at."""
    for cell in netlist.cells:
        memory = mapped.LUT_RAM.match(cell.type)
        if _combinational(cell) and not memory:
            continue
        label = mapped.label(netlist, cell)
        for port, bits in cell.inputs.items():
            if port in mapped.CLOCKS or (memory and not _written(port, cell)):
                continue
            for bit in bits:
                if isinstance(bit, int):
                    yield bit, f"{label}.{port}", cell.owner
    for name, bits in netlist.outputs.items():
        for index, bit in enumerate(bits):
            if isinstance(bit, int):
                yield bit, f"{name}[{index}] (output)", ""


def _written(port: str, cell: Cell) -> bool:
    """Whether a LUT RAM's port belongs to its clocked write side."""
    if re.match(r"RAM\d+M", cell.type):
        return port == "WE" or port.startswith("DI") or port == max(
            name for name in cell.inputs if name.startswith("ADDR")
        )  # fmt: skip
    return port in ("WE", "D", "A") or (port.startswith("A") and port[1:].isdigit())


def _start(netlist: Netlist, bit: Bit) -> tuple[str, str]:
    """Name and module of what drives the first net of a path."""
    if bit in netlist.drivers:
        cell, port, _ = netlist.drivers[bit]
        label = mapped.label(netlist, cell)
        if mapped.FLIP_FLOP.match(cell.type):
            label = netlist.name(bit, cell.owner) or label
        else:
            label = f"{label}.{port}"
        return label, cell.owner
    return f"{netlist.name(bit, '') or 'constant'} (input)", ""
