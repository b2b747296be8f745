"""Runs placed commands on the simulated design and says where the cycles went."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.device.commandlist import Command, Memory
from host.device.counters import Counters
from sim import cycles, device, traffic, workload
from sim import memory as memories
from sim.workload import Operation
from spec import registers
from spec.config import Config
from spec.errors import DeviceError

TIMEOUT = 6 * 3600.0
"""Seconds; the device notices a hang long before."""

SLICE_CYCLES = 250
"""Cycles between two looks at the number of completed commands."""

WRITE_EVERY = 20
"""Of a port's bursts one is a write: like M = 8 tokens' bf16 results."""

WRITE_ADDRESS = 1 << 30
"""Of the writes: other rows than the reads'."""

SWITCH_NS = 230.0
"""What turning to the next command's regions costs a DDR memory: rows to open and bursts shorter
than the rest; found by comparison with the simulated design."""

Progress = Callable[[int], None]
"""Called with the cycles since the list began."""


@dataclass(frozen=True)
class Timed:
    """One command list on the design."""

    counters: Counters
    by_command: list[int]
    """Cycles from one command's last acknowledged write to the next one's, seen every
    ``SLICE_CYCLES``; for a single command all of its list's."""


class Runner:
    """A simulated device whose memory holds the operands of some operations.

    Args:
        options: of ``sim.device.open``: ``memory``.

    Raises:
        DeviceError: memory cannot be had.
    """

    def __init__(
        self, config: Config, operations: list[Operation], seed: int, **options: Any
    ) -> None:
        self.operations = operations
        self.device = device.open(config, workload.memory_needed(operations), **options)
        self._memory = Memory(self.device)
        self.placed: list[Command] = workload.place(self._memory, operations, seed)
        self._reference = workload.Reference(self.device)

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *reason: object) -> None:
        self.device.close()

    def run(self, placed: list[Command], progress: Progress | None = None) -> Timed:
        """Runs commands from one list with one doorbell.

        Raises:
            DeviceError: the design hangs, breaks AXI or reports an error.
        """
        buffer = self._memory.command_list(placed).buffer
        self._reference.wrote(buffer)
        self._write("list_address_low", buffer.address & 0xFFFFFFFF)
        self._write("list_address_high", buffer.address >> 32)
        before = self._counters()
        ends: list[int] = []

        def look(cycles: int) -> None:
            done = self._read("completed") - before[0] & 0xFFFFFFFF
            ends.extend([cycles] * (done - len(ends)))
            if progress is not None:
                progress(cycles)

        self.device.progress, self.device.slice_cycles = look, SLICE_CYCLES
        self._write("doorbell", len(placed))
        self.device.wait(TIMEOUT)
        error = registers.decode("error", self._read("error"))
        if any(error.values()):
            causes = ", ".join(name for name, value in error.items() if value)
            raise DeviceError(f"the simulated design reports an error ({causes}) of legal commands")
        counters = Counters.between(self.device.config, before, self._counters())
        ends[-1] = counters.cycles
        starts = [0, *ends[:-1]]
        spent = [end - start for start, end in zip(starts, ends, strict=True)]
        return Timed(counters, spent)

    def check(self) -> None:
        """Compares all of memory with what the device ``cpu`` makes of the same commands.

        Raises:
            WrongBytes: a byte differs.
        """
        self._reference.check(self.placed)

    @property
    def operands(self) -> np.ndarray:
        """Memory as the host filled it: what the design wrote is not in it."""
        return self._reference.memory

    def _read(self, name: str) -> int:
        return self.device.read_register(registers.OFFSETS[name])

    def _write(self, name: str, value: int) -> None:
        self.device.write_register(registers.OFFSETS[name], value)

    def _counters(self) -> list[int]:
        return [self._read(name) for name in registers.COUNTERS]


def ceiling(config: Config, timing: memories.Memory) -> float:
    """Bytes per cycle that the memory gives to a plain sequential stream on all ports."""
    if timing is None:
        return float(config.beat_bytes)
    return traffic.plain(timing, config).bytes_per_cycle


def rate(config: Config, timing: memories.Memory) -> cycles.MemoryRate:
    """A memory as the analytic model takes it: from the memory's own model, without a design.

    A burst written costs what it takes from a stream on all ports when one in ``WRITE_EVERY`` of
    the writing port's bursts is a write.
    """
    if timing is None:
        return cycles.ideal(config)
    top = ceiling(config, timing)
    size = config.burst_beats * config.port_bytes
    bursts = traffic.PLAIN_BYTES // size
    options = {"burst_bytes": size, "outstanding": config.outstanding}
    first, *others = traffic.staggered(config.ports, bursts, **options)
    reads = bursts - bursts // WRITE_EVERY
    streams = [
        dataclasses.replace(first, write_every=WRITE_EVERY, write_address=WRITE_ADDRESS),
        *(dataclasses.replace(stream, bursts=reads) for stream in others),
    ]
    mixed = traffic.run(timing, streams, clock_mhz=config.clock_mhz, port_bytes=config.port_bytes)
    writes = bursts // WRITE_EVERY
    lost = mixed.cycles - (mixed.bytes - writes * size) / top
    return cycles.MemoryRate(
        bytes_per_cycle=top,
        latency=timing.read_latency_ns * config.clock_mhz / 1000,
        write_cost=max(0.0, lost / writes),
        switch=SWITCH_NS * config.clock_mhz / 1000,
    )
