"""A memory's rate for the analytic model, kept between points: the traffic model takes 0.2 s."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache

from sim import memory as memories
from sim import timing
from sim.build import cache_directory
from sim.cycles import MemoryRate
from sim.sweep.versions import sources
from spec.config import Config
from spec.files import write_whole

FIELDS = ("ports", "port_bits", "burst_beats", "outstanding", "fifo_beats", "clock_mhz")
"""Of a configuration: what a memory's rate depends on."""

Key = tuple[tuple[int | float, ...], str]


def key(config: Config, memory: str) -> Key:
    """What tells two rates apart."""
    return tuple(getattr(config, name) for name in FIELDS), memory


@lru_cache(maxsize=65536)
def rate(wanted: Key) -> MemoryRate:
    """The rate of a configuration and a memory, by their ``key``; from disk if it is there.

    Raises:
        ToolError: g++ is missing.
    """
    values, memory = wanted
    config = Config(**dict(zip(FIELDS, values, strict=True)))  # type: ignore[arg-type]
    timed = memories.load(memory)
    identity = [values, timed.as_dict() if timed else memory, sources("rates")]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    kept = cache_directory().parent / "sweep" / "rates" / f"{name}.json"
    if kept.is_file():
        return MemoryRate(**json.loads(kept.read_text()))
    found = timing.rate(config, timed)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps(dataclasses.asdict(found)))
    return found
