"""Streams of bursts on the DDR4 model without any design: what the memory alone gives.

The same C++ as the simulated device's memory, built by g++ alone, so it answers in milliseconds.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache

from sim import build
from sim.memory import Ddr4
from sim.memory_binding import (
    Ddr4Counters,
    Ddr4Parameters,
    Ddr4Statistics,
    parameters,
    statistics,
)
from spec.config import Config
from spec.errors import UserError

CYCLES_MAX = 1 << 32
"""Most cycles of one run: minutes."""

PLAIN_BYTES = 10_240_000
"""By port, of the plain stream: longer ones have the same rate."""


@dataclass(frozen=True)
class Stream:
    """What one port asks for: bursts ``step`` bytes apart, as fast as the memory answers."""

    address: int
    bursts: int
    """Reads and writes together."""
    burst_bytes: int = 256
    step: int | None = None
    """Bytes from one read burst to the next; a burst's own length if not given."""
    outstanding: int = 8
    write_every: int = 0
    """One burst in so many is a write; 0: none."""
    write_address: int = 0
    fifo_bytes: int = 8192
    """Data that may wait for the other ports' (512 beats of 16 bytes, as in ``kv260``)."""


@dataclass(frozen=True)
class Outcome:
    """What the streams got."""

    cycles: int
    """Of the ports' clock, until the first stream ended."""
    bytes: int
    """Read and written by all ports."""
    seconds: float
    """Simulated."""
    statistics: Ddr4Statistics

    @property
    def bytes_per_cycle(self) -> float:
        """Of the ports' clock."""
        return self.bytes / self.cycles

    @property
    def gb_per_second(self) -> float:
        """1e9 bytes per second."""
        return self.bytes / self.seconds / 1e9


def run(
    memory: Ddr4,
    streams: list[Stream],
    *,
    clock_mhz: float = 250.0,
    port_bytes: int = 16,
    every_clock: bool = False,
) -> Outcome:
    """Runs one stream on each HP port, from HP0 on, until the first one ends.

    The ports deliver one wide beat together, as the engine's do: none runs ahead of another by more
    than its FIFO holds.

    Args:
        every_clock: the model skips no clock: slower, and the same.

    Raises:
        ToolError: the model cannot be built.
        UserError: the streams do not end.
    """
    raw, moved = Ddr4Counters(), ctypes.c_uint64()
    native = parameters(memory, port_bytes)
    cycles = _library().traffic_run(
        ctypes.byref(native), round(clock_mhz * 1000),
        (_Stream * len(streams))(*(_native(stream, port_bytes) for stream in streams)),
        len(streams), CYCLES_MAX, every_clock, ctypes.byref(moved), ctypes.byref(raw),
    )  # fmt: skip
    if cycles >= CYCLES_MAX:
        raise UserError(f"the streams run for {CYCLES_MAX} cycles and more: give fewer bursts")
    return Outcome(
        cycles=cycles,
        bytes=moved.value,
        seconds=cycles / clock_mhz / 1e6,
        statistics=statistics(memory, raw, len(streams)),
    )


def staggered(ports: int, bursts: int, stagger: int = 1 << 14, **options: int) -> list[Stream]:
    """Streams in memory of their own, bases ``stagger`` bytes apart modulo 64 KB: the layout of
    weights. A stagger of 0 is the worst case."""
    return [Stream((port << 26) + port * stagger, bursts, **options) for port in range(ports)]


def interleaved(ports: int, bursts: int, burst_bytes: int = 256) -> list[Stream]:
    """One sequential stream, its bursts dealt to the ports in turn."""
    return [
        Stream(port * burst_bytes, bursts, burst_bytes, step=ports * burst_bytes)
        for port in range(ports)
    ]


def plain(memory: Ddr4, config: Config, outstanding: int | None = None) -> Outcome:
    """The plain sequential stream at a configuration's ports and clock: the engine's ceiling.

    Four streams staggered as weights are, each port with as many bursts in flight as the
    configuration has.
    """
    if outstanding is None:
        outstanding = config.outstanding
    burst_bytes = config.burst_beats * config.port_bytes
    streams = staggered(
        config.ports, PLAIN_BYTES // burst_bytes, burst_bytes=burst_bytes,
        outstanding=outstanding, fifo_bytes=config.fifo_beats * config.port_bytes,
    )  # fmt: skip
    return run(memory, streams, clock_mhz=config.clock_mhz, port_bytes=config.port_bytes)


class _Stream(ctypes.Structure):
    """``Stream`` of sim/harness/traffic.cpp."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("address", "step", "bursts", "write_address")),
        *((name, ctypes.c_uint32) for name in (
            "write_every", "burst_bytes", "outstanding", "port_bytes", "fifo_bytes",
        )),
    )  # fmt: skip


def _native(stream: Stream, port_bytes: int) -> _Stream:
    step = stream.burst_bytes if stream.step is None else stream.step
    return _Stream(
        stream.address, step, stream.bursts, stream.write_address,
        stream.write_every, stream.burst_bytes, stream.outstanding, port_bytes,
        stream.fifo_bytes,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(build.plain_library("traffic")))
    library.traffic_run.restype = ctypes.c_uint64
    library.traffic_run.argtypes = (
        ctypes.POINTER(Ddr4Parameters), ctypes.c_uint32, ctypes.POINTER(_Stream), ctypes.c_int,
        ctypes.c_uint64, ctypes.c_int, ctypes.POINTER(ctypes.c_uint64),
        ctypes.POINTER(Ddr4Counters),
    )  # fmt: skip
    return library
