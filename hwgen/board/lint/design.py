"""The block design as the Tcl makes it: cells, nets, buses, addresses; what must hold then."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hwgen.board.lint.catalogue import Bus, Cell, Pin, Segment

HPM0 = (
    (0xA000_0000, 0x1000_0000),
    (0x4_0000_0000, 0x1_0000_0000),
    (0x10_0000_0000, 0x38_0000_0000),
)
"""Base and size of HPM0_FPD's windows (UG1085, table 10-1)."""


@dataclass
class Instance:
    """A cell of the design."""

    name: str
    kind: Cell
    properties: dict[str, str] = field(default_factory=dict)
    automated: bool = False
    """The board's preset has been applied."""

    @property
    def pins(self) -> dict[str, Pin]:
        """Its pins, as its properties make them."""
        return self.kind.pins(self.properties)

    @property
    def buses(self) -> dict[str, Bus]:
        """Its AXI interfaces."""
        return self.kind.buses(self.properties)

    @property
    def segments(self) -> dict[str, Segment]:
        """Its address segments."""
        return self.kind.segments(self.properties)


@dataclass(frozen=True)
class Assignment:
    """A segment in an address space; ``offset`` None: left out on purpose."""

    space: str
    segment: str
    offset: int | None
    size: int


@dataclass
class Design:
    """What the Tcl built so far."""

    cells: dict[str, Instance] = field(default_factory=dict)
    ports: dict[str, Pin] = field(default_factory=dict)
    """External ports; an output of the design is an input of the outside."""
    nets: list[set[str]] = field(default_factory=list)
    """Pins by name that are one net: ``cell/pin`` or ``port``."""
    links: list[tuple[str, str]] = field(default_factory=list)
    """Connected buses: ``cell/bus``, master and slave in any order."""
    assignments: list[Assignment] = field(default_factory=list)

    def pin(self, name: str) -> Pin | None:
        """A pin or port by name."""
        if "/" not in name:
            return self.ports.get(name)
        cell, _, pin = name.partition("/")
        return self.cells[cell].pins.get(pin) if cell in self.cells else None

    def bus(self, name: str) -> Bus | None:
        """A bus by name."""
        cell, _, bus = name.partition("/")
        return self.cells[cell].buses.get(bus) if cell in self.cells else None

    def connect(self, pins: list[str]) -> None:
        """Joins pins, and the nets that they are on."""
        joined = set(pins)
        for net in [net for net in self.nets if net & joined]:
            self.nets.remove(net)
            joined |= net
        self.nets.append(joined)

    def net(self, pin: str) -> set[str]:
        """The net that a pin is on; empty when it is open."""
        return next((net for net in self.nets if pin in net), set())

    def driver(self, pin: str) -> str | None:
        """What drives a pin's net."""
        return next((name for name in sorted(self.net(pin)) if self._drives(name)), None)

    def _drives(self, name: str) -> bool:
        found = self.pin(name)
        return found is not None and found.way == "out"

    def findings(self) -> list[str]:
        """Everything that is wrong."""
        return [*self._pins(), *self._nets(), *self._buses(), *self._addresses()]

    def _pins(self) -> list[str]:
        wrong = []
        for cell in self.cells.values():
            for pin, facts in cell.pins.items():
                name = f"{cell.name}/{pin}"
                if facts.way == "in" and facts.required and self.driver(name) is None:
                    wrong.append(f"pin {name} is not connected to anything that drives it")
        wrong += [f"port {name} is not driven" for name in self.ports if self.driver(name) is None]
        return wrong

    def _nets(self) -> list[str]:
        wrong = []
        for net in self.nets:
            drivers = sorted(name for name in net if self._drives(name))
            if len(drivers) > 1:
                wrong.append(f"{' and '.join(drivers)} drive the same net")
            for driver in drivers[:1]:
                source = self.pin(driver)
                for name in sorted(net - {driver}):
                    sink = self.pin(name)
                    if source and sink:
                        wrong += self._pair(driver, source, name, sink)
        return wrong

    def _pair(self, driver: str, source: Pin, name: str, sink: Pin) -> list[str]:
        """What is wrong with one pin driving another."""
        if source.width != sink.width:
            return [f"{driver} has {source.width} bits and drives {name} of {sink.width}"]
        if {source.kind, sink.kind} == {"reset", "reset_n"}:
            return [f"{driver} and {name} are resets of opposite polarity"]
        if sink.kind == "clock" and source.kind != "clock":
            return [f"{name} is a clock and {driver} is none"]
        if source.kind == "clock" and sink.kind != "clock":
            return [f"{driver} is a clock and drives {name}"]
        if sink.kind in ("reset", "reset_n") and source.kind == "data":
            return [f"{name} is a reset and {driver} is none"]
        return []

    def _buses(self) -> list[str]:
        wrong = []
        linked: dict[str, int] = {}
        for link in self.links:
            for end in link:
                linked[end] = linked.get(end, 0) + 1
        for cell in self.cells.values():
            for bus in cell.buses:
                name = f"{cell.name}/{bus}"
                if not linked.get(name):
                    wrong.append(f"bus {name} is not connected")
                elif linked[name] > 1:
                    wrong.append(f"bus {name} is connected {linked[name]} times")
        for first, second in self.links:
            wrong += self._link(first, second)
        return wrong

    def _link(self, first: str, second: str) -> list[str]:
        ends = {name: self.bus(name) for name in (first, second)}
        if None in ends.values():
            return []
        modes = sorted(bus.mode for bus in ends.values() if bus)
        if modes != ["master", "slave"]:
            return [f"buses {first} and {second} are both {modes[0]}s"]
        master, slave = sorted(ends, key=lambda name: ends[name].mode)  # type: ignore[union-attr]
        wrong = []
        clocks = {
            self.driver(f"{name.partition('/')[0]}/{bus.clock}")
            for name, bus in ends.items()
            if bus
        }
        if len(clocks) > 1:
            wrong.append(f"buses {first} and {second} are clocked by {sorted(map(str, clocks))}")
        upstream, downstream = self._source(master), self._target(slave)
        if upstream and downstream:
            if upstream.bits != downstream.bits:
                wrong.append(
                    f"{master} moves {upstream.bits} bits and {slave}"
                    f" {downstream.bits}: widths differ"
                )
            if upstream.protocol != downstream.protocol:
                wrong.append(
                    f"{master} speaks {upstream.protocol} and {slave} {downstream.protocol}"
                )
        return wrong

    def _source(self, master: str) -> Bus | None:
        """The bus that a master's transfers begin with; None where a converter lies between."""
        bus = self.bus(master)
        if bus is None or bus.protocol:
            return bus
        cell = master.partition("/")[0]
        for name, entry in self.cells[cell].buses.items():
            if entry.through == master.partition("/")[2]:
                if entry.converts:
                    return None
                other = self._other(f"{cell}/{name}")
                return self._source(other) if other else None
        return None

    def _target(self, slave: str) -> Bus | None:
        """The bus that a slave's transfers end with; None where a converter lies between."""
        bus = self.bus(slave)
        if bus is None or bus.protocol:
            return bus
        if bus.converts:
            return None
        other = self._other(f"{slave.partition('/')[0]}/{bus.through}")
        return self._target(other) if other else None

    def _other(self, name: str) -> str | None:
        for first, second in self.links:
            if name in (first, second):
                return second if name == first else first
        return None

    def reachable(self, master: str) -> list[str]:
        """Address segments that a master bus's transfers can end in."""
        other = self._other(master)
        bus = self.bus(other) if other else None
        if other is None or bus is None:
            return []
        cell = other.partition("/")[0]
        if bus.through:
            return self.reachable(f"{cell}/{bus.through}")
        segments = self.cells[cell].segments
        return [
            f"{cell}/{name}" for name, segment in segments.items()
            if segment.bus == other.partition("/")[2]
        ]  # fmt: skip

    def spaces(self) -> dict[str, list[str]]:
        """Address spaces and the master buses that they cover."""
        found = {}
        for cell in self.cells.values():
            for space, pattern in cell.kind.spaces.items():
                found[f"{cell.name}/{space}"] = [
                    f"{cell.name}/{bus}" for bus, facts in cell.buses.items()
                    if facts.mode == "master" and re.fullmatch(pattern, bus)
                ]  # fmt: skip
        return found

    def _addresses(self) -> list[str]:
        wrong = []
        for space, masters in self.spaces().items():
            placed = [entry for entry in self.assignments if entry.space == space]
            reachable = {segment for master in masters for segment in self.reachable(master)}
            for segment in sorted(reachable - {entry.segment for entry in placed}):
                wrong.append(f"{segment} is neither assigned in {space} nor left out")
            for entry in placed:
                if entry.segment not in reachable:
                    wrong.append(f"{entry.segment} cannot be reached from {space}")
                elif entry.offset is not None:
                    wrong += self._placement(entry)
            wrong += _overlaps([entry for entry in placed if entry.offset is not None])
        return wrong

    def _placement(self, entry: Assignment) -> list[str]:
        cell, _, name = entry.segment.partition("/")
        segment = self.cells[cell].segments[name]
        offset = entry.offset or 0
        wrong = []
        if entry.size & (entry.size - 1) or offset % entry.size:
            wrong.append(f"{entry.segment} at {offset:#x} is not aligned to {entry.size:#x} bytes")
        if segment.base is not None and offset != segment.base:
            wrong.append(f"{entry.segment} lies at {segment.base:#x}, not at {offset:#x}")
        if entry.size > segment.size:
            wrong.append(f"{entry.segment} has {segment.size:#x} bytes, not {entry.size:#x}")
        if segment.base is None:
            inside = any(
                base <= offset and offset + entry.size <= base + size for base, size in HPM0
            )
            if not inside:
                wrong.append(f"{entry.segment} at {offset:#x} lies outside HPM0_FPD's windows")
            if entry.size < segment.size:
                wrong.append(
                    f"{entry.segment} answers {segment.size:#x} bytes, {entry.size:#x} are assigned"
                )
        return wrong


def _overlaps(placed: list[Assignment]) -> list[str]:
    wrong = []
    for index, one in enumerate(placed):
        for other in placed[index + 1 :]:
            first, second = one.offset or 0, other.offset or 0
            if first < second + other.size and second < first + one.size:
                wrong.append(f"{one.segment} and {other.segment} overlap in {one.space}")
    return wrong
