"""The DDR4 model's structures (sim/harness/ddr4_parameters.hpp) as ctypes sees them, and what the
model counted as Python shows it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from sim.memory import BURST_LENGTH, BUS_BYTES, PORTS, Ddr4

ACCESS_BYTES = BURST_LENGTH * BUS_BYTES


class Ddr4Parameters(ctypes.Structure):
    """``Ddr4Parameters``: whole numbers only."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in (
            "clock_khz",
            "cl", "cwl", "trcd", "trp", "tras", "trfc", "trefi", "trrd_s", "trrd_l", "tfaw",
            "tccd_s", "tccd_l", "twr", "trtp", "twtr_s", "twtr_l", "burst_clocks",
            "group_low", "group_bits", "bank_low", "bank_bits", "row_low", "row_bits",
            "read_queue", "write_queue", "bank_window", "write_high", "write_low", "write_idle",
            "row_hits_max", "request_clocks", "return_clocks", "access_clocks", "outstanding",
            "burst_bytes",
        )),
        ("controller_port", ctypes.c_uint32 * PORTS),
    )  # fmt: skip


class Ddr4Counters(ctypes.Structure):
    """``Ddr4Statistics``."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in (
            "clocks", "reads", "writes", "row_hits", "row_misses", "row_conflicts", "refreshes",
            "turnarounds", "busy_clocks",
        )),
        *((name, ctypes.c_uint64 * PORTS) for name in ("bursts", "latency_sum", "latency_max")),
    )  # fmt: skip


def parameters(memory: Ddr4, port_bytes: int) -> Ddr4Parameters:
    """A memory as the model takes it, behind ports of ``port_bytes``."""
    links = sorted(set(memory.controller_ports))
    request, back = memory.path_clocks
    derived = {
        "request_clocks": request,
        "return_clocks": back,
        "burst_bytes": memory.burst_beats * port_bytes,
        "controller_port": tuple(links.index(link) for link in memory.controller_ports),
    }
    names = [field[0] for field in Ddr4Parameters._fields_]
    own = {name: getattr(memory, name) for name in names if name not in derived}
    return Ddr4Parameters(**derived, **own)


@dataclass(frozen=True)
class Ddr4Statistics:
    """What the DDR4 model counted since the device was opened."""

    memory: str
    """Its name."""
    clocks: int
    """DRAM clocks."""
    bytes_read: int
    """On the DRAM's bus, whole accesses of 64 bytes."""
    bytes_written: int
    row_hits: int
    """Accesses whose row was open."""
    row_misses: int
    """Accesses whose bank was closed."""
    row_conflicts: int
    """Accesses whose bank had another row open."""
    refreshes: int
    turnarounds: int
    """Changes between reading and writing."""
    busy_clocks: int
    """DRAM clocks in which the bus carried data."""
    bursts: tuple[int, ...]
    """Read bursts by HP port."""
    latency_ns: tuple[float, ...]
    """Average from a read burst's address to its first bytes, by HP port; 0 for none."""
    latency_max_ns: tuple[float, ...]

    @property
    def utilisation(self) -> float:
        """Share of the DRAM clocks in which the bus carried data."""
        return self.busy_clocks / max(1, self.clocks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON reports."""
        return {
            "row_hits": self.row_hits,
            "row_misses": self.row_misses,
            "row_conflicts": self.row_conflicts,
            "refreshes": self.refreshes,
            "turnarounds": self.turnarounds,
            "bus_bytes_read": self.bytes_read,
            "bus_bytes_written": self.bytes_written,
            "latency_ns": [round(value, 1) for value in self.latency_ns],
            "latency_max_ns": [round(value, 1) for value in self.latency_max_ns],
        }


def statistics(memory: Ddr4, raw: Ddr4Counters, ports: int) -> Ddr4Statistics:
    """What the model counted, for the first ``ports`` HP ports."""
    sums = zip(raw.latency_sum[:ports], raw.bursts[:ports], strict=True)
    return Ddr4Statistics(
        memory=memory.name,
        clocks=raw.clocks,
        bytes_read=raw.reads * ACCESS_BYTES,
        bytes_written=raw.writes * ACCESS_BYTES,
        row_hits=raw.row_hits,
        row_misses=raw.row_misses,
        row_conflicts=raw.row_conflicts,
        refreshes=raw.refreshes,
        turnarounds=raw.turnarounds,
        busy_clocks=raw.busy_clocks,
        bursts=tuple(raw.bursts[:ports]),
        latency_ns=tuple(memory.clocks_to_ns(total / max(1, count)) for total, count in sums),
        latency_max_ns=tuple(memory.clocks_to_ns(value) for value in raw.latency_max[:ports]),
    )
