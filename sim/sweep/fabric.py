"""The matmuls of a workload on the fabric, and their cycles by the analytic model.

Each matmul is rung by itself, as the runtime does, with as many activation vectors as the planner
gives it (host/plan/planner.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from host.plan.planner import TWO_TERMS
from sim import cycles
from sim.cycles import MemoryRate
from sim.sweep.work import Workload
from spec import commands
from spec.config import Config
from spec.layout import Matrix
from spec.shapes import find

RUNTIME_NAMES = {"o": "output"}
"""The planner's name of a matmul where spec.shapes has another."""


@dataclass(frozen=True)
class Matmul:
    """One matrix and how often a pass streams it."""

    name: str
    matrix: Matrix
    vectors: int
    """Activation vectors of one streaming."""
    times: int
    """Streamings per pass: layers, twice where the vectors do not fit at once."""
    top_k: int = 0

    def fields(self) -> dict[str, int]:
        """Of its descriptor, at no address."""
        return commands.matmul(
            self.matrix, self.vectors, weights=0, weight_stride=0, activations=0,
            activation_stride=0, results=0, top_k=self.top_k,
        )  # fmt: skip


def matmuls(config: Config, workload: Workload, tokens: int, head: bool) -> list[Matmul]:
    """The matmuls of a pass of ``tokens`` tokens; ``head``: with the LM head, as in decode.

    Raises:
        LayoutError: the configuration cannot hold a matrix.
    """
    shape = find(workload.model)
    two_step = workload.head == "two-step"
    listed = [(name, size, 4, shape.layers) for name, size in shape.linears.items()]
    if head:
        listed.append(("head", shape.head, 8 if workload.head == "int8" else 4, 1))
    found = []
    for name, (rows, columns), bits, times in listed:
        chosen = name == "head" and two_step
        known = RUNTIME_NAMES.get(name, name)
        vectors = tokens * (2 if known in TWO_TERMS and config.tokens > 1 and not chosen else 1)
        if vectors > config.tokens:
            vectors, times = tokens, 2 * times
        top_k = min(commands.TOP_K_MAX, rows // 2 * 2) if chosen else 0
        matrix = Matrix(config, rows, columns, bits, config.group)
        found.append(Matmul(name, matrix, vectors, times, top_k))
    return found


def prefill_tokens(config: Config, workload: Workload) -> int:
    """Of a pass of prefill."""
    return min(config.tokens, workload.prompt)


def spent(config: Config, jobs: list[Matmul], rate: MemoryRate) -> tuple[float, float, float]:
    """Cycles, bytes read and multiplications of a pass."""
    total = read = products = 0.0
    for job in jobs:
        fields = job.fields()
        found = cycles.estimate(config, [fields], rate)
        total += job.times * found.cycles
        read += job.times * found.bytes_read
        products += job.times * job.vectors * job.matrix.rows * job.matrix.columns
    return total, read, products


def roofs(config: Config, rate: MemoryRate) -> dict[str, Any]:
    """What bounds a pass: the memory's rate and the multipliers."""
    hertz = config.clock_mhz * 1e6
    return {
        "memory_gb_per_second": rate.bytes_per_cycle * hertz / 1e9,
        "engine_gmac_per_second": config.lanes * config.tokens * hertz / 1e9,
    }
