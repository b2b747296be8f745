"""What a run cost, from the device's free-running counters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from spec import registers
from spec.config import Config

_COMPLETED, _BUSY, _PORT0, _WRITTEN, _STALL0 = map(
    registers.COUNTERS.index,
    ("completed", "busy_cycles", "beats_port0", "beats_written", "stall_data"),
)
"""Places in ``registers.COUNTERS``; ports and stalls follow one another, the stalls last."""

STALLS = tuple(name for name in registers.COUNTERS if name.startswith("stall_"))


@dataclass
class Counters:
    """Cost of one or more runs; adds up."""

    commands: int = 0
    cycles: int = 0
    """Cycles with a list running."""
    bytes_read: int = 0
    """Over all ports: weights, scales, zeros, activations and descriptors."""
    bytes_written: int = 0
    stalls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STALLS, 0))
    """Cycles by cause, named like the registers: ``stall_data``, ``stall_output``, ..."""

    @classmethod
    def between(cls, config: Config, before: Sequence[int], after: Sequence[int]) -> Counters:
        """From two readings of ``registers.COUNTERS``, which wrap at 2**32."""
        pairs = zip(before, after, strict=True)
        return cls.of(config, [(new - old) & 0xFFFFFFFF for old, new in pairs])

    @classmethod
    def of(cls, config: Config, amounts: Sequence[int]) -> Counters:
        """From what was added to each of ``registers.COUNTERS``."""
        made = cls()
        made.take(config, amounts)
        return made

    def take(self, config: Config, amounts: Sequence[int]) -> None:
        """Adds what was added to each of ``registers.COUNTERS``."""
        self.commands += amounts[_COMPLETED]
        self.cycles += amounts[_BUSY]
        self.bytes_read += sum(amounts[_PORT0 : _PORT0 + config.ports]) * config.port_bytes
        self.bytes_written += amounts[_WRITTEN] * config.port_bytes
        stalls = self.stalls
        for name, cycles in zip(STALLS, amounts[_STALL0:], strict=False):
            stalls[name] += cycles

    def add(self, other: Counters) -> None:
        """Adds another run's cost to this one."""
        self.commands += other.commands
        self.cycles += other.cycles
        self.bytes_read += other.bytes_read
        self.bytes_written += other.bytes_written
        for name, cycles in other.stalls.items():
            self.stalls[name] += cycles

    def minus(self, other: Counters) -> Counters:
        """What came on top of ``other``, an earlier reading of the same sum."""
        return Counters(
            self.commands - other.commands,
            self.cycles - other.cycles,
            self.bytes_read - other.bytes_read,
            self.bytes_written - other.bytes_written,
            {name: cycles - other.stalls[name] for name, cycles in self.stalls.items()},
        )

    def copy(self) -> Counters:
        """A value that later runs do not change."""
        return self.minus(Counters())


def total(parts: Iterable[Counters]) -> Counters:
    """The sum."""
    result = Counters()
    for part in parts:
        result.add(part)
    return result
