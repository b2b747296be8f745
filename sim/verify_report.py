"""What ``hwgen verify`` tells a person."""

from __future__ import annotations

from typing import Any


def told(answer: dict[str, Any]) -> str:
    """The report, line by line."""
    rows, columns = answer["shape"]
    config = answer["config"]
    verdict = "equal" if answer["equal"] else f"NOT EQUAL: {answer['mismatches']} results differ"
    results = f"top-{answer['top_k']}" if answer["top_k"] else f"{answer['format']} results"
    peak = config["ports"] * config["port_bits"] // 8
    stalls = ", ".join(f"{cause} {cycles}" for cause, cycles in answer["stalls"].items())
    return "\n".join(
        [
            f"{verdict}  (simulated, digest {answer['digest']})",
            f"  matmul   {rows} x {columns}, {answer['weights']} group {answer['group']},"
            f" {answer['tokens']} tokens, {results}, seed {answer['seed']}",
            f"  config   {config['name']} (dsp {config['dsp']}, tokens {config['tokens']})",
            f"  cycles   {answer['cycles']}",
            f"  memory   {answer['memory']}: {answer['bytes_read']} bytes read,"
            f" {answer['bytes_written']} written,"
            f" {answer['bytes_per_cycle']} read per cycle of {peak}",
            f"  stalls   {stalls} (cycles)",
            *_told_ddr4(answer["ddr4"]),
        ]
    )


def _told_ddr4(found: dict[str, Any] | None) -> list[str]:
    """The DDR4 model's line, if it ran."""
    if found is None:
        return []
    latency = "/".join(f"{value:.0f}" for value in found["latency_ns"])
    return [
        f"  ddr4     rows: {found['row_hits']} hits, {found['row_misses']} misses,"
        f" {found['row_conflicts']} conflicts; {found['refreshes']} refreshes,"
        f" {found['turnarounds']} turnarounds; read latency {latency} ns by port"
    ]
