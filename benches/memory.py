"""What the DDR4 model gives without any design: the reference for the engine's share of it.

Prints a JSON line per kind of traffic at the ``kv260`` preset's ports and clock. ``sequential`` is
the reference: four streams staggered as weights are, each port with as many bursts in flight as the
preset has.
"""

from __future__ import annotations

import dataclasses
import json

from sim import memory, traffic
from spec.config import KV260
from spec.errors import exit_with_sentence

BURSTS = 40_000
"""By port: 10 MB."""

PEAK_MHZ = 300.0
"""Ports at this clock carry more than the memory gives."""


def kinds(ddr4: memory.Ddr4) -> dict[str, traffic.Outcome]:
    """Outcomes by kind of traffic."""
    found = {"sequential": traffic.plain(ddr4, KV260)}
    found |= {
        f"sequential, {n} outstanding": traffic.plain(ddr4, KV260, n) for n in (1, 4, 12, 16, 32)
    }
    for ports in (1, 2, 3):
        streams = traffic.staggered(ports, BURSTS)
        found[f"{ports} ports"] = traffic.run(ddr4, streams, clock_mhz=KV260.clock_mhz)
    staggered = traffic.staggered(4, BURSTS)
    written = [
        dataclasses.replace(stream, write_every=10, write_address=stream.address + (1 << 30))
        for stream in staggered
    ]
    for name, streams in (
        ("interleaved", traffic.interleaved(4, BURSTS)),
        ("staggered by 16 KB", staggered),
        ("64 KB apart in phase", traffic.staggered(4, BURSTS, 0)),
        ("a tenth writes", written),
    ):
        for clock in (KV260.clock_mhz, PEAK_MHZ):
            found[f"{name}, {clock:g} MHz"] = traffic.run(ddr4, streams, clock_mhz=clock)
    return found


def line(ddr4: memory.Ddr4, name: str, outcome: traffic.Outcome) -> dict[str, object]:
    """One figure."""
    seen = outcome.statistics
    return {
        "bench": "memory",
        "label": "modelled",
        "memory": ddr4.name,
        "traffic": name,
        "bytes_per_cycle": round(outcome.bytes_per_cycle, 3),
        "gb_per_second": round(outcome.gb_per_second, 3),
        "share_of_peak": round(outcome.gb_per_second / ddr4.peak_gb_per_second, 4),
        "row_conflicts": seen.row_conflicts,
        "latency_ns": [round(value) for value in seen.latency_ns],
    }


def main() -> None:
    """Prints the figures of both presets."""
    for ddr4 in memory.PRESETS.values():
        for name, outcome in kinds(ddr4).items():
            print(json.dumps(line(ddr4, name, outcome)), flush=True)


if __name__ == "__main__":
    exit_with_sentence(main)
