"""The analytic model: cycles of a command list from its descriptors, without simulating anything.

    list    = start + sum over commands of max(engine, memory) + tail
    engine  = max(beats, what chunks and tiles need) + activation load + drain + top-k waits
    memory  = bytes / sequential rate + written bursts x their cost + switching regions

The memory is three numbers (``MemoryRate``); pipeline depths follow hwgen's, which this module may
not import: tests/sim/test_cycles.py compares every estimate with the simulated design.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from spec import commands
from spec.config import Config

PIPELINE = 23
"""Stages of the datapath beyond a dot product's chain and its trees: unpack 2, cascade 3 and split
1, scale 4, accumulate 3, round 11, less the one that the chain counts itself."""

DRAIN_MARGIN = 4
"""Cycles that the sequencer waits beyond the pipeline's depth (hwgen.engine)."""

NEXT_COMMAND = 3
"""Cycles from the end of the drain to the next command's first beat."""

START = 68
"""Doorbell to the first burst's address, and the two ends of descriptor and data: fetch, scatter,
cutter, FIFO, checks of sum and shape; memory latency apart."""

LOAD = 3
"""Cycles from the last activation to the first weights, beyond one for each token and span."""

SWAP = 8
"""Cycles between two chunks' swaps beyond the load, the chain and its tree."""

READ_ROUND = 6
"""Cycles that a read burst is in flight beyond the memory's latency."""

WRITE_BURST = 3
"""Cycles between two write bursts."""

CHOICE_TAIL = 7
"""Cycles of the readout of a top-k beyond one for each word."""

INSERT = 5
"""Cycles to insert a result in a top-k, beyond one for each entry passed."""

ACTIVATION_COST = 0.23
"""Cycles that an activation beat costs a DDR memory beyond the sequential rate: short runs."""


@dataclass(frozen=True)
class MemoryRate:
    """What a memory gives, in cycles of the engine's clock."""

    bytes_per_cycle: float
    """Sustained by sequential reads on all ports."""
    latency: float
    """From a burst's address to its first beat."""
    write_cost: float = 0.0
    """Cycles that reading loses for each burst written; 0: writes have a path of their own."""
    switch: float = 0.0
    """Cycles lost when the ports turn to another command's regions."""


@dataclass(frozen=True)
class Estimate:
    """Of one command list."""

    by_command: tuple[int, ...]
    """Cycles; the first contains the list's start, the last its end."""
    bytes_read: int
    """Over all ports."""
    bytes_written: int

    @property
    def cycles(self) -> int:
        """With a list running."""
        return sum(self.by_command)


@dataclass(frozen=True)
class Roofline:
    """What bounds one command, in cycles: the larger one."""

    memory: float
    """Its bytes at the memory's sequential rate."""
    engine: float
    """Its beats, one a cycle."""
    weights_per_byte: float
    """Multiplications with a weight, all tokens', by byte read."""


def ideal(config: Config, latency: int = 50) -> MemoryRate:
    """The memory whose bursts all take ``latency`` cycles: ports and bursts in flight bound it."""
    in_flight = config.outstanding * config.burst_beats
    rate = config.beat_bytes * min(1.0, in_flight / (latency + READ_ROUND))
    return MemoryRate(rate, latency)


@lru_cache(maxsize=4096)
def datapath_latency(config: Config) -> int:
    """Cycles from a beat of weights to its rounded results."""
    return PIPELINE + _dot_latency(config) + _levels(config.subs)


def estimate(config: Config, listed: list[dict[str, int]], memory: MemoryRate) -> Estimate:
    """Cycles of a command list.

    Args:
        listed: the fields of its descriptors (``spec.commands``), in order; one or more.
    """
    engines = [_engine(config, command) for command in listed]
    spent = [
        _steady(config, command, engine, memory)
        for command, engine in zip(listed, engines, strict=True)
    ]
    spent = [cost + (memory.switch if index else 0) for index, cost in enumerate(spent)]
    spent[0] += _start(config, memory)
    spent[-1] += _tail(config, listed[-1], engines[-1], memory)
    ends = [round(sum(spent[: index + 1])) for index in range(len(spent))]
    read = sum(_beats(command) + commands.beats(config) for command in listed) * config.beat_bytes
    return Estimate(
        by_command=tuple(end - start for start, end in zip([0, *ends], ends, strict=False)),
        bytes_read=read,
        bytes_written=sum(commands.written_bytes(config, command) for command in listed),
    )


def roofline(config: Config, command: dict[str, int], memory: MemoryRate) -> Roofline:
    """The two bounds of a command and its intensity."""
    beats = _beats(command)
    spans = 1 if command["weights8"] else 2
    products = command["tiles"] * config.tile_rows * command["chunks"] * spans * config.span
    read = beats * config.beat_bytes
    return Roofline(
        memory=_streaming(config, command, memory),
        engine=float(beats),
        weights_per_byte=command["tokens"] * products / read,
    )


def _steady(config: Config, command: dict[str, int], engine: float, memory: MemoryRate) -> float:
    """Cycles of a command whose predecessor's data streamed just before; ``engine``'s are known."""
    waits = _choice_waits(config, command)
    written = commands.written_bytes(config, command) / (config.burst_beats * config.port_bytes)
    bound = _streaming(config, command, memory) + written * memory.write_cost + waits
    if memory.switch:
        bound += ACTIVATION_COST * command["activation_beats"]
    return max(engine + waits, bound)


def _engine(config: Config, command: dict[str, int]) -> float:
    """Cycles of the engine alone, from a command's first beat to the next one's."""
    tokens, spans = command["tokens"], 1 if command["weights8"] else 2
    chunks, tiles = command["chunks"], command["tiles"]
    load = tokens * spans + LOAD + command["weights8"]
    swap = tokens * spans + _dot_latency(config) + SWAP
    chunk = max(command["weight_beats"] / (tiles * chunks), swap if chunks * tiles > 1 else 0)
    tile = chunk * chunks
    if not command["top_k"]:
        tile = max(tile, _write_cycles(config, commands.written_bytes(config, command) / tiles))
    drain = datapath_latency(config) + DRAIN_MARGIN + NEXT_COMMAND
    return command["activation_beats"] + 1 + load + tile * tiles + drain + _readout(command)


def _start(config: Config, memory: MemoryRate) -> float:
    """Doorbell to steady streaming: the descriptor's latency, then the data's. What is in flight
    when the first data arrive has been paid with it."""
    in_flight = config.outstanding * config.burst_beats
    slack = in_flight * max(0.0, config.beat_bytes / memory.bytes_per_cycle - 1)
    return 2 * memory.latency + START - (0 if memory.switch else slack)


def _tail(config: Config, command: dict[str, int], engine: float, memory: MemoryRate) -> float:
    """From a list's last weights to its last acknowledged write, less what ``_engine`` counts."""
    waited = memory.latency
    if not command["top_k"]:
        last = commands.written_bytes(config, command) / command["tiles"]
        waited += _write_cycles(config, last)
    # Then the drain was hidden behind the next command's reads, and there is none now.
    if _streaming(config, command, memory) > engine:
        waited += datapath_latency(config) + DRAIN_MARGIN + _readout(command)
    else:
        waited -= NEXT_COMMAND
    return waited


def _choice_waits(config: Config, command: dict[str, int]) -> float:
    """Cycles that tiles, and the readout, wait for the insertions of a top-k: the first rows all
    enter, row i of the rest with probability k / i in random order (expected records)."""
    top_k, rows = command["top_k"], config.tile_rows
    if not top_k:
        return 0.0
    period = command["weight_beats"] / command["tiles"]
    held = rows / 2 * (top_k / 2 + INSERT)  # may still queue when a tile begins
    work = rows * (min(top_k, rows) / 4 + INSERT)
    waits = 0.0
    last = command["tiles"] - 1
    for tile in range(1, last + 1):
        work = max(0.0, work - period)
        waits += max(0.0, work - held)
        entering = min(rows, top_k / tile) * (top_k / 2 + INSERT)
        work = min(work, held) + entering
        if work <= period and tile < last:  # fewer enter with every tile: none waits any more
            work = min(rows, top_k / last) * (top_k / 2 + INSERT)
            break
    return waits + max(0.0, work - rows)


def _readout(command: dict[str, int]) -> float:
    """Cycles of a top-k's way out: two words an entry, token by token."""
    if not command["top_k"]:
        return 0.0
    return 2 * command["top_k"] * command["tokens"] + CHOICE_TAIL


def _write_cycles(config: Config, size: float) -> float:
    """Cycles that ``size`` bytes of results take on their port."""
    beats = size / config.port_bytes
    return beats * (1 + WRITE_BURST / config.burst_beats)


@lru_cache(maxsize=4096)
def _dot_latency(config: Config) -> int:
    """Cycles of a dot product's chain and of the tree behind it."""
    return config.chain + _levels(config.sub_lanes // config.chain)


def _streaming(config: Config, command: dict[str, int], memory: MemoryRate) -> float:
    """Cycles of a command's bytes at the memory's sequential rate."""
    return _beats(command) * config.beat_bytes / memory.bytes_per_cycle


def _beats(command: dict[str, int]) -> int:
    """Beats of activations and weights."""
    return command["activation_beats"] + command["weight_beats"]


def _levels(count: int) -> int:
    """Levels of an adder tree."""
    return math.ceil(math.log2(count)) if count > 1 else 0
