"""How fast the simulated device runs here, and what the engine reached in it.

Prints a JSON line per configuration: the ``kv260`` preset with M = 8 tokens and its variant with
M = 1, one matmul each as large as Qwen2.5-0.5B's gate and up matrix, equal to golden or no figure.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform

from sim import cases, comparison
from spec.config import KV260, Config
from spec.errors import MismatchError, exit_with_sentence

ROWS, COLUMNS = 9728, 896
REPEATS = 3
SEED = 1


def measure(config: Config) -> dict[str, object]:
    """The best of some runs of one matmul with all tokens of ``config``.

    Raises:
        MismatchError: the design and golden differ.
    """
    case = cases.draw(ROWS, COLUMNS, 4, 64, config.tokens, SEED)
    reports = [comparison.run(config, case) for _ in range(REPEATS)]
    if any(report.mismatches for report in reports):
        raise MismatchError(f"{config.name} differs from golden: a speed would mean nothing")
    best = min(reports, key=lambda report: report.seconds)
    figures = best.as_dict()
    return {
        "bench": "simulation_speed",
        "label": "simulated",
        "config": config.name,
        "tokens": config.tokens,
        "digest": figures["digest"],
        "shape": f"{ROWS}x{COLUMNS} int4 group 64",
        "cycles": figures["cycles"],
        "bytes_per_cycle": figures["bytes_per_cycle"],
        "seconds": figures["seconds"],
        "simulated_cycles_per_second": round(best.counters.cycles / best.seconds),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def main() -> None:
    """Prints the figures of both configurations."""
    for config in (KV260, dataclasses.replace(KV260, name="kv260-tokens1", tokens=1)):
        print(json.dumps(measure(config)), flush=True)


if __name__ == "__main__":
    exit_with_sentence(main)
