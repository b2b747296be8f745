"""The module that enters the block design: the engine's ports with Vivado's attributes on each.

Vivado infers buses from names alone; the attributes say the same outright (UG994, UG1118), so a
port that it would put on another bus, or leave loose, cannot happen silently. ``infer`` does what
Vivado does with names, and ``check`` compares both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from amaranth import Shape

from hwgen import axi, generate
from hwgen.top import CONTROL, master
from spec.config import Config

MODULE = "kria_llm_board"
"""Name of the module and stem of its file."""

SIGNALS = frozenset(
    f"{channel}{name}"
    for channel, names in {
        "aw": "id addr len size burst lock cache prot qos region user valid ready",
        "w": "id data strb last user valid ready",
        "b": "id resp user valid ready",
        "ar": "id addr len size burst lock cache prot qos region user valid ready",
        "r": "id data resp last user valid ready",
    }.items()
    for name in names.split()
)
"""Logical ports of ``xilinx.com:interface:aximm:1.0``, in small letters."""

PORT = re.compile(r"^\s*(input|output) wire(?: \[(\d+):0\])? (\w+)", re.MULTILINE)


@dataclass
class Bus:
    """An AXI interface: what its ports make of it."""

    name: str
    mode: str
    """``master`` or ``slave``."""
    signals: dict[str, int] = field(default_factory=dict)
    """Logical port -> width."""

    @property
    def protocol(self) -> str:
        """``AXI4`` or ``AXI4LITE``: Vivado goes by the burst's length."""
        return "AXI4" if {"arlen", "awlen"} & set(self.signals) else "AXI4LITE"

    @property
    def access(self) -> str:
        """``READ_ONLY``, ``WRITE_ONLY`` or ``READ_WRITE``."""
        reads, writes = "araddr" in self.signals, "awaddr" in self.signals
        return "READ_WRITE" if reads and writes else "READ_ONLY" if reads else "WRITE_ONLY"

    @property
    def data_bits(self) -> int:
        """Width of the data."""
        return self.signals.get("rdata") or self.signals.get("wdata", 0)

    @property
    def address_bits(self) -> int:
        """Width of the addresses."""
        return self.signals.get("araddr") or self.signals.get("awaddr", 0)


def top_ports(config: Config) -> dict[str, tuple[str, int]]:
    """The engine's ports, as ``hwgen.top`` declares them: name -> (direction, width)."""
    found = {"aclk": ("in", 1), "aresetn": ("in", 1), "irq": ("out", 1)}
    groups = [axi.flat_control(CONTROL)] + [
        axi.flat_master(master(port), config.port_bits, writes=port == 0)
        for port in range(config.ports)
    ]
    for group in groups:
        found |= {name: (way, Shape.cast(shape).width) for name, (way, shape) in group.items()}
    return {name: (f"{way}put", width) for name, (way, width) in found.items()}


def buses(config: Config) -> list[str]:
    """Names of the interfaces: the control port, then the memory ports."""
    return [CONTROL, *(master(port) for port in range(config.ports))]


def verilog(config: Config) -> str:
    """The wrapper: attributes, ports, one instance, no logic."""
    names = buses(config)
    associated = f"ASSOCIATED_BUSIF {':'.join(names)}, ASSOCIATED_RESET aresetn"
    fixed = {
        "aclk": _attributes("clock:1.0 aclk CLK", f"XIL_INTERFACENAME aclk, {associated}"),
        "aresetn": _attributes(
            "reset:1.0 aresetn RST", "XIL_INTERFACENAME aresetn, POLARITY ACTIVE_LOW"
        ),
        "irq": _attributes(
            "interrupt:1.0 irq INTERRUPT", "XIL_INTERFACENAME irq, SENSITIVITY LEVEL_HIGH"
        ),
    }
    first: set[str] = set()
    ports = []
    listed = top_ports(config)
    for name, (direction, width) in listed.items():
        attribute = fixed.get(name)
        if attribute is None:
            bus = next(bus for bus in names if name.startswith(f"{bus}_"))
            parameter = "" if bus in first else _parameter(config, bus)
            first.add(bus)
            logical = name[len(bus) + 1 :].upper()
            attribute = _attributes(f"aximm:1.0 {bus} {logical}", parameter)
        span = f" [{width - 1}:0]" if width > 1 else ""
        ports.append(f"  {attribute}\n  {direction} wire{span} {name}")
    connections = ",\n".join(f"    .{name}({name})" for name in listed)
    return (
        "// The engine with Vivado's interface attributes; generated, no logic of its own.\n"
        f"`default_nettype none\n\nmodule {MODULE} (\n" + ",\n".join(ports) + "\n);\n\n"
        f"  {generate.MODULE} engine (\n{connections}\n  );\n\nendmodule\n\n`default_nettype wire\n"
    )


def ports(text: str) -> dict[str, tuple[str, int]]:
    """The ports of a module of this file's form: name -> (direction, width)."""
    return {
        name: (direction, int(high) + 1 if high else 1)
        for direction, high, name in PORT.findall(text)
    }


def infer(text: str) -> dict[str, Bus]:
    """The AXI interfaces that names alone make, as Vivado's inference does (UG1118)."""
    found: dict[str, Bus] = {}
    for name, (direction, width) in ports(text).items():
        bus, _, signal = name.rpartition("_")
        if bus and signal in SIGNALS:
            driver = signal in ("araddr", "awaddr")
            mode = ("master" if direction == "output" else "slave") if driver else ""
            known = found.setdefault(bus, Bus(bus, mode))
            known.mode = known.mode or mode
            known.signals[signal] = width
    return found


def check(config: Config, text: str) -> list[str]:
    """What is wrong with the wrapper's interfaces; empty when attributes, names and spec agree."""
    wrong = []
    inferred = infer(text)
    if list(inferred) != buses(config):
        wrong.append(f"names make the interfaces {', '.join(inferred)}, not {buses(config)}")
    stated = re.findall(r'aximm:1\.0 (\w+) (\w+)"[^\n]*\n[^\n]* (\w+)(?:,|\n)', text)
    for bus, logical, port in stated:
        if port != f"{bus}_{logical.lower()}" or logical.lower() not in SIGNALS:
            wrong.append(f"port {port} is stated to be {logical} of {bus}")
    if len(stated) != sum(len(bus.signals) for bus in inferred.values()):
        wrong.append("a port of a bus has no attribute")
    for bus in inferred.values():
        slave = bus.name == CONTROL
        wanted = ("slave", "AXI4LITE", 32) if slave else ("master", "AXI4", config.port_bits)
        if (bus.mode, bus.protocol, bus.data_bits) != wanted:
            wrong.append(f"{bus.name} is {bus.mode} {bus.protocol} of {bus.data_bits} bits")
        for channel in ("ar", "r") if bus.access == "READ_ONLY" else ("ar", "r", "aw", "w", "b"):
            for signal in (f"{channel}valid", f"{channel}ready"):
                if signal not in bus.signals:
                    wrong.append(f"{bus.name} has no {signal}")
    return wrong


def _attributes(interface: str, parameter: str = "") -> str:
    group = "signal" if not interface.startswith("aximm") else "interface"
    text = f'X_INTERFACE_INFO = "xilinx.com:{group}:{interface}"'
    if parameter:
        text += f', X_INTERFACE_PARAMETER = "{parameter}"'
    return f"(* {text} *)"


def _parameter(config: Config, bus: str) -> str:
    if bus == CONTROL:
        return f"XIL_INTERFACENAME {bus}, PROTOCOL AXI4LITE, DATA_WIDTH 32"
    access = "READ_WRITE" if bus == master(0) else "READ_ONLY"
    return (
        f"XIL_INTERFACENAME {bus}, PROTOCOL AXI4, DATA_WIDTH {config.port_bits},"
        f" READ_WRITE_MODE {access}, MAX_BURST_LENGTH {config.burst_beats},"
        f" NUM_READ_OUTSTANDING {config.outstanding}, SUPPORTS_NARROW_BURST 0"
    )
