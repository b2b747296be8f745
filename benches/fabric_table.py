"""Writes host/plan/fabric.json: cycles of Qwen2.5-0.5B's matmuls on the generated RTL behind DDR4.

``python -m benches.fabric_table`` after a change of the design; a board without the simulator plans
with this table.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from rich.console import Console

from host.plan import fabric
from sim import device, measure, memory, workload
from sim.measure import Kind
from spec import commands
from spec.config import KV260
from spec.digest import digest
from spec.errors import exit_with_sentence
from spec.shapes import find

MODEL = "qwen2.5-0.5b"
VECTORS = (1, 2, 8)
FIELDS = (
    "ports", "port_bits", "burst_beats", "outstanding", "fifo_beats", "tokens", "group",
    "tile_rows", "max_k", "clock_mhz",
)  # fmt: skip
"""Of the configuration: what decides cycles."""
SEED = 1


def rows(vectors: int, console: Console) -> list[list[int]]:
    """Each matmul as the table has it: rows, columns, bits, group, vectors, top-k, cycles."""
    config, shape = device.simulated(KV260), find(MODEL)
    head = workload.head_operation(config, shape, vectors, "fp32", 4, commands.TOP_K_MAX)
    jobs = measure.operations(Kind.MATMUL, config, shape, vectors, "fp32", head)
    report = measure.run(Kind.MATMUL, KV260, jobs, memory.DDR4_2133.name, SEED, console)
    listed = []
    for found, job in zip(report["operations"], jobs, strict=True):
        matrix = job.matrix
        spent = round(found["cycles"] / found["count"])
        listed.append(
            [matrix.rows, matrix.columns, matrix.bits, matrix.group, vectors, job.top_k, spent]
        )
    return listed


def table(console: Console) -> dict[str, Any]:
    """The whole file."""
    return {
        "label": "simulated",
        "made_by": f"python -m benches.fabric_table ({MODEL}, {memory.DDR4_2133.name})",
        "date": datetime.date.today().isoformat(),
        "digest": f"{digest(device.simulated(KV260)):016x}",
        "columns": "rows columns bits group vectors top_k cycles",
        "config": {name: getattr(KV260, name) for name in FIELDS},
        "matmuls": [row for vectors in VECTORS for row in rows(vectors, console)],
    }


def main() -> None:
    """Runs and writes."""
    found = json.dumps(table(Console(stderr=True)), indent=1)
    flat = found.replace("[\n   ", "[").replace(",\n   ", ", ").replace("\n  ]", "]")
    fabric.PATH.write_text(flat + "\n")


if __name__ == "__main__":
    exit_with_sentence(main)
