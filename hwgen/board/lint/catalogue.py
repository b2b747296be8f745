"""What the lint knows of Vivado's cells: properties and values, pins, buses, address segments.

Sources: AMD UG1087 and PG201 (Zynq UltraScale+ PS), PG065 (clocking wizard), PG164 (processor
system reset), PG247 (SmartConnect), PG373 (AXI register slice), and published block designs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Properties = Mapping[str, str]


@dataclass(frozen=True)
class Pin:
    """A pin of a cell."""

    way: str
    """``in`` or ``out``."""
    width: int = 1
    kind: str = "data"
    """``data``, ``clock``, ``reset_n`` (active low) or ``reset`` (active high)."""
    required: bool = True
    """An input that the cell gives no value to when it is left open."""


@dataclass(frozen=True)
class Bus:
    """An AXI interface of a cell."""

    mode: str
    """``master`` or ``slave``."""
    clock: str
    """The pin that clocks it."""
    protocol: str = ""
    """``AXI4`` or ``AXI4LITE``; empty: whatever is at the other end."""
    bits: int = 0
    """Data width; 0: whatever is at the other end."""
    through: str = ""
    """The bus of the same cell on which a transfer goes on."""
    converts: bool = False
    """The cell changes protocol and width between this bus and ``through``."""


@dataclass(frozen=True)
class Segment:
    """Addresses that answer behind a slave bus."""

    base: int | None
    """Fixed base; None: free."""
    size: int
    bus: str


@dataclass(frozen=True)
class Cell:
    """A kind of cell."""

    properties: Mapping[str, str]
    """Name -> pattern of its values."""
    pins: Callable[[Properties], dict[str, Pin]]
    buses: Callable[[Properties], dict[str, Bus]] = field(default=lambda properties: {})
    segments: Callable[[Properties], dict[str, Segment]] = field(default=lambda properties: {})
    spaces: Mapping[str, str] = field(default_factory=dict)
    """Address space -> the master buses that it covers, as a pattern."""
    defaults: Mapping[str, str] = field(default_factory=dict)


BOOLEAN = "0|1"
TRUTH = "true|false"
WIDTH = "32|64|128"
NUMBER = r"\d+(\.\d+)?"

HIGH_PORTS = {2: "HP0", 3: "HP1", 4: "HP2", 5: "HP3"}
"""Number of a slave port in the PS's properties -> its name on the cell."""


def _ps_pins(chosen: Properties) -> dict[str, Pin]:
    pins = {}
    if chosen.get("PSU__FPGA_PL0_ENABLE") == "1":
        pins["pl_clk0"] = Pin("out", kind="clock")
    if int(chosen.get("PSU__NUM_FABRIC_RESETS", "1")) >= 1:
        pins["pl_resetn0"] = Pin("out", kind="reset_n")
    if chosen.get("PSU__USE__IRQ0") == "1":
        pins["pl_ps_irq0"] = Pin("in", required=False)
    if chosen.get("PSU__TTC0__WAVEOUT__ENABLE") == "1":
        pins["emio_ttc0_wave_o"] = Pin("out", 3)
    for number, name in ((0, "hpm0_fpd"), (1, "hpm1_fpd"), (2, "hpm0_lpd")):
        if chosen.get(f"PSU__USE__M_AXI_GP{number}") == "1":
            pins[f"maxi{name}_aclk"] = Pin("in", kind="clock")
    for number, name in HIGH_PORTS.items():
        if chosen.get(f"PSU__USE__S_AXI_GP{number}") == "1":
            pins[f"saxi{name.lower()}_fpd_aclk"] = Pin("in", kind="clock")
    return pins


def _ps_buses(chosen: Properties) -> dict[str, Bus]:
    buses = {}
    for number, name in ((0, "HPM0_FPD"), (1, "HPM1_FPD"), (2, "HPM0_LPD")):
        if chosen.get(f"PSU__USE__M_AXI_GP{number}") == "1":
            bits = int(chosen.get(f"PSU__MAXIGP{number}__DATA_WIDTH", "128"))
            buses[f"M_AXI_{name}"] = Bus("master", f"maxi{name.lower()}_aclk", "AXI4", bits)
    for number, name in HIGH_PORTS.items():
        if chosen.get(f"PSU__USE__S_AXI_GP{number}") == "1":
            bits = int(chosen.get(f"PSU__SAXIGP{number}__DATA_WIDTH", "128"))
            clock = f"saxi{name.lower()}_fpd_aclk"
            buses[f"S_AXI_{name}_FPD"] = Bus("slave", clock, "AXI4", bits)
    return buses


def _ps_segments(chosen: Properties) -> dict[str, Segment]:
    segments = {}
    for number, name in HIGH_PORTS.items():
        if chosen.get(f"PSU__USE__S_AXI_GP{number}") == "1":
            bus = f"S_AXI_{name}_FPD"
            for part, base, size in (
                ("DDR_LOW", 0x0, 2 << 30), ("DDR_HIGH", 0x8_0000_0000, 32 << 30),
                ("QSPI", 0xC000_0000, 512 << 20), ("LPS_OCM", 0xFF00_0000, 16 << 20),
            ):  # fmt: skip
                segments[f"SAXIGP{number}/{name}_{part}"] = Segment(base, size, bus)
    return segments


PS = Cell(
    properties={
        "PSU__FPGA_PL[0-3]_ENABLE": BOOLEAN,
        "PSU__CRL_APB__PL[0-3]_REF_CTRL__FREQMHZ": NUMBER,
        "PSU__NUM_FABRIC_RESETS": "[1-4]",
        "PSU__USE__IRQ[01]": BOOLEAN,
        "PSU__USE__M_AXI_GP[012]": BOOLEAN,
        "PSU__USE__S_AXI_GP[0-6]": BOOLEAN,
        "PSU__MAXIGP[012]__DATA_WIDTH": WIDTH,
        "PSU__SAXIGP[0-6]__DATA_WIDTH": WIDTH,
        "PSU__TTC0__WAVEOUT__ENABLE": BOOLEAN,
        "PSU__TTC0__WAVEOUT__IO": "EMIO",
    },
    pins=_ps_pins,
    buses=_ps_buses,
    segments=_ps_segments,
    spaces={"Data": "M_AXI_.*"},
    # What the board's preset leaves on: both FPD masters.
    defaults={
        "PSU__FPGA_PL0_ENABLE": "1", "PSU__USE__M_AXI_GP0": "1", "PSU__USE__M_AXI_GP1": "1",
        "PSU__USE__IRQ0": "1", "PSU__MAXIGP0__DATA_WIDTH": "128",
        "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": "100",
    },
)  # fmt: skip


def _clock_pins(chosen: Properties) -> dict[str, Pin]:
    pins = {"clk_in1": Pin("in", kind="clock"), "clk_out1": Pin("out", kind="clock")}
    if chosen.get("USE_LOCKED", "true") == "true":
        pins["locked"] = Pin("out")
    if chosen.get("USE_RESET", "true") == "true":
        low = chosen.get("RESET_TYPE") == "ACTIVE_LOW"
        pins["resetn" if low else "reset"] = Pin("in", kind="reset_n" if low else "reset")
    return pins


CLOCK = Cell(
    properties={
        "PRIM_SOURCE": "Global_buffer|No_buffer|Single_ended_clock_capable_pin",
        "PRIM_IN_FREQ": NUMBER,
        "CLKOUT1_REQUESTED_OUT_FREQ": NUMBER,
        "USE_LOCKED": TRUTH,
        "USE_RESET": TRUTH,
        "RESET_TYPE": "ACTIVE_LOW|ACTIVE_HIGH",
    },
    pins=_clock_pins,
)

RESET = Cell(
    properties={"C_EXT_RST_WIDTH": r"\d+", "C_EXT_RESET_HIGH": BOOLEAN},
    pins=lambda chosen: {
        "slowest_sync_clk": Pin("in", kind="clock"),
        "ext_reset_in": Pin("in", kind="reset_n"),
        "aux_reset_in": Pin("in", required=False),
        "mb_debug_sys_rst": Pin("in", required=False),
        # Left open it reads 1: the logic would leave reset before the clock is stable.
        "dcm_locked": Pin("in"),
        "mb_reset": Pin("out", kind="reset"),
        "bus_struct_reset": Pin("out", kind="reset"),
        "peripheral_reset": Pin("out", kind="reset"),
        "interconnect_aresetn": Pin("out", kind="reset_n"),
        "peripheral_aresetn": Pin("out", kind="reset_n"),
    },
)


def _connect_buses(chosen: Properties) -> dict[str, Bus]:
    buses = {}
    for index in range(int(chosen.get("NUM_SI", "1"))):
        buses[f"S{index:02}_AXI"] = Bus("slave", "aclk", through="M00_AXI", converts=True)
    for index in range(int(chosen.get("NUM_MI", "1"))):
        buses[f"M{index:02}_AXI"] = Bus("master", "aclk")
    return buses


CONNECT = Cell(
    properties={"NUM_SI": r"\d+", "NUM_MI": r"\d+", "NUM_CLKS": "1"},
    pins=lambda chosen: {
        "aclk": Pin("in", kind="clock"), "aresetn": Pin("in", kind="reset_n"),
    },
    buses=_connect_buses,
)  # fmt: skip

SLICE = Cell(
    properties={f"REG_{channel}": "0|1|7|9|10|12|15" for channel in ("AR", "R", "AW", "W", "B")},
    pins=lambda chosen: {
        "aclk": Pin("in", kind="clock"), "aresetn": Pin("in", kind="reset_n"),
    },
    buses=lambda chosen: {
        "S_AXI": Bus("slave", "aclk", through="M_AXI"), "M_AXI": Bus("master", "aclk"),
    },
)  # fmt: skip

BITS = Cell(
    properties=dict.fromkeys(("DIN_WIDTH", "DIN_FROM", "DIN_TO", "DOUT_WIDTH"), r"\d+"),
    pins=lambda chosen: {
        "Din": Pin("in", int(chosen.get("DIN_WIDTH", "32"))),
        "Dout": Pin("out", int(chosen.get("DOUT_WIDTH", "1"))),
    },
)

CELLS = {
    "xilinx.com:ip:zynq_ultra_ps_e": PS,
    "xilinx.com:ip:clk_wiz": CLOCK,
    "xilinx.com:ip:proc_sys_reset": RESET,
    "xilinx.com:ip:smartconnect": CONNECT,
    "xilinx.com:ip:axi_register_slice": SLICE,
    "xilinx.com:ip:xlslice": BITS,
}
"""Cells by vendor, library and name; a version may follow."""

PROJECT_PROPERTIES = {
    "board_part": r"xilinx\.com:k[vr]260_som:part0:.+",
    "board_connections": r"(som240_[12]_connector xilinx\.com:\w+:som240_[12]_connector:\S+ ?)+",
    "target_language": "Verilog|VHDL",
}

RUN_PROPERTIES = {
    "STEPS.SYNTH_DESIGN.ARGS.KEEP_EQUIVALENT_REGISTERS": "true|false|1|0",
    "strategy": r"Performance_ExplorePostRoutePhysOpt|Performance_Explore|Flow_\w+|Vivado \w+.*",
}

STEPS = (
    "opt_design", "place_design", "phys_opt_design", "route_design", "post_route_phys_opt_design",
    "write_bitstream",
)  # fmt: skip

XDC_PORT_PROPERTIES = {
    "PACKAGE_PIN": r"[A-Z]{1,2}\d+",
    "IOSTANDARD": "LVCMOS33|LVCMOS18",
    "SLEW": "SLOW|FAST",
    "DRIVE": "2|4|8|12|16|24",
}


def domain(properties: Mapping[str, str], name: str) -> str | None:
    """The pattern of a property's values; None for an unknown property."""
    return next(
        (values for pattern, values in properties.items() if re.fullmatch(pattern, name)), None
    )
