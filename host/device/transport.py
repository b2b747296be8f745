"""What a device must offer so that the one driver can use it: registers, buffers, progress.

Devices are found by name through the entry-point group ``kria_llm.devices``; each entry is a
callable ``open(config: Config, memory_bytes: int, **options) -> Transport``. So the runtime never
imports the simulator, and the board installs no simulator.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np

from spec.config import Config
from spec.errors import ToolError

GROUP = "kria_llm.devices"


@dataclass(frozen=True)
class Buffer:
    """Memory that host and device share."""

    address: int
    """Where the device sees it; a multiple of 4096."""
    array: np.ndarray
    """The same bytes for the host: uint8, one dimension."""

    def part(self, start: int, size: int | None = None) -> Buffer:
        """``size`` bytes from ``start`` on, all that follow if None; only they are flushed."""
        end = None if size is None else start + size
        return Buffer(self.address + start, self.array[start:end])


class Transport(Protocol):
    """One device. Nothing here knows what a matmul is."""

    name: str
    """``golden``, ``cpu``, ``rtl``, ...: what ran is in every report."""
    config: Config

    def read_register(self, offset: int) -> int:
        """The 32-bit register at a byte offset of the control window."""

    def write_register(self, offset: int, value: int) -> None:
        """Writes a 32-bit register."""

    def allocate(self, size: int) -> Buffer:
        """``size`` zeroed bytes on a 4 KB boundary. Raises DeviceError when memory is short."""

    def flush(self, buffer: Buffer) -> None:
        """Makes the host's writes visible to the device."""

    def invalidate(self, buffer: Buffer) -> None:
        """Makes the device's writes visible to the host."""

    def wait(self, timeout: float) -> None:
        """Returns when the engine is idle. Raises DeviceError after ``timeout`` seconds."""

    def close(self) -> None:
        """Releases the device and its buffers."""


def names() -> list[str]:
    """Devices installed here."""
    return sorted(point.name for point in entry_points(group=GROUP))


def open_device(name: str, config: Config, memory_bytes: int, **options: Any) -> Transport:
    """Opens the device asked for, or says why not; never another one.

    Raises:
        ToolError: no such device, or one of its tools is missing.
    """
    for point in entry_points(group=GROUP):
        if point.name == name:
            try:
                return point.load()(config, memory_bytes, **options)
            except ImportError as error:
                raise ToolError(
                    f"device {name} needs what is not installed here ({error}): install it with"
                    " pip install 'kria-llm[simulation]' on Python 3.11 or newer"
                ) from None
    raise ToolError(f"no device {name!r}; installed: {', '.join(names()) or 'none'}")
