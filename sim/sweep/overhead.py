"""What the processor adds to a pass: the planner's figure less what it counts for the fabric.

It depends on the workload and on M, not on the rest of a configuration, so that a sweep asks the
planner once for each; the fabric's part comes from ``sim.sweep.fabric`` point by point.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

from host.plan import fabric as stored
from host.plan import planner
from sim.sweep import fabric
from sim.sweep.work import Workload
from spec.config import KV260
from spec.shapes import find

MATMULS_ON_FABRIC = dict.fromkeys(planner.MATMULS, "fabric")


@dataclasses.dataclass(frozen=True)
class Overhead:
    """Seconds of a pass that the fabric does not stream."""

    decode: float
    prefill: float


@lru_cache(maxsize=4096)
def overhead(workload: Workload, tokens: int) -> Overhead:
    """Of an engine of ``tokens`` tokens, at the ``kv260`` preset's other values.

    Raises:
        PlanError: the planner cannot plan the workload.
    """
    config = dataclasses.replace(KV260, tokens=tokens, group=64)
    shape = find(workload.model)
    plan = planner.plan(
        workload.model, shape, config, workload.context, workload.prompt, workload.head,
        overrides=MATMULS_ON_FABRIC,
    )  # fmt: skip
    decode = 1 / plan.decode_tokens_per_second
    if workload.pass_tokens > 1:
        cost = planner.pass_cost(shape, config, workload.head)
        decode = cost(workload.pass_tokens, workload.context)
    prefill = plan.pass_tokens / plan.prefill_tokens_per_second
    return Overhead(
        max(0.0, decode - _streaming(workload, tokens, workload.pass_tokens, True)),
        max(0.0, prefill - _streaming(workload, tokens, plan.pass_tokens, False)),
    )


def _streaming(workload: Workload, tokens: int, vectors: int, head: bool) -> float:
    """Seconds that the planner counts for the fabric's streaming."""
    config = dataclasses.replace(KV260, tokens=tokens, group=64)
    listed = fabric.matmuls(config, workload, vectors, head)
    cycles = sum(
        job.times * stored.timed(job.matrix, job.vectors, job.top_k).cycles for job in listed
    )
    return cycles / (config.clock_mhz * 1e6)
