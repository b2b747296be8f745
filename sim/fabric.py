"""The analytic model for the runtime's planner: the entry point ``fabric_cycles``."""

from __future__ import annotations

from functools import lru_cache

from sim import cycles, timing
from sim import memory as memories
from spec.config import Config


def fabric_cycles(config: Config, fields: dict[str, int], memory: str) -> int:
    """Cycles of one command in a list of its own, within 2 % of the simulated design.

    Args:
        fields: of its descriptor (``spec.commands``).
        memory: a timing of sim/memory.py.
    """
    return cycles.estimate(config, [fields], _rate(config, memory)).cycles


@lru_cache(maxsize=8)
def _rate(config: Config, memory: str) -> cycles.MemoryRate:
    return timing.rate(config, memories.load(memory))
