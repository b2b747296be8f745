"""The golden model as a device: the reference behind the runtime's transport protocol."""

from __future__ import annotations

from typing import Any

import numpy as np

from host.device.software import SoftwareDevice
from host.device.transport import Buffer
from sim import golden
from spec import commands
from spec.config import Config
from spec.errors import ToolError

CACHE_BYTES = 768 << 20
"""Decoded weights that are kept, bytes: enough for a model of half a billion weights."""


class GoldenDevice(SoftwareDevice):
    """A device whose arithmetic is ``sim.golden``.

    Decoded weights are kept until their bytes may change: until the host flushes a buffer over
    them (what it wrote before is not the device's to see) or a command's results reach them.
    """

    name = "golden"

    def __init__(self, config: Config, memory_bytes: int, cache_bytes: int = CACHE_BYTES) -> None:
        super().__init__(config, memory_bytes)
        self._cache: dict[tuple, golden.Weights] = {}
        self._cached = 0
        self._cache_bytes = cache_bytes

    def execute(self, fields: dict[str, int]) -> bool:
        """Performs one checked command on ``memory``."""
        descriptor = commands.pack({key: fields[key] for key in fields if key != "check"})
        return golden.execute(self.config, self.read, self.write, descriptor, self._decode)

    def write(self, address: int, data: np.ndarray) -> None:
        """Writes results, and forgets weights that they overwrite."""
        self._forget(address, len(data))
        super().write(address, data)

    def flush(self, buffer: Buffer) -> None:
        """Makes the host's writes visible."""
        self._forget(buffer.address, buffer.array.nbytes)

    def close(self) -> None:
        """Releases memory and cache."""
        self._cache.clear()
        super().close()

    def _decode(
        self, config: Config, read: golden.Reader, fields: dict[str, int], first: int, tiles: int
    ) -> golden.Weights:
        """``golden.read_weights``, kept."""
        end = fields["weights"] + (config.ports - 1) * fields["weight_stride"]
        end += fields["weight_beats"] * config.port_bytes
        names = ("weights", "weight_stride", "weights8", "group", "chunks", "tiles")
        key = (fields["weights"], end, first, tiles, *(fields[name] for name in names))
        found = self._cache.get(key)
        if found is None:
            found = golden.read_weights(config, read, fields, first, tiles)
            size = found.lanes.nbytes + found.scales.nbytes
            if self._cached + size <= self._cache_bytes:
                self._cache[key] = found
                self._cached += size
        return found

    def _forget(self, address: int, size: int) -> None:
        """Drops decoded weights whose bytes lie in a range."""
        for key in [key for key in self._cache if key[0] < address + size and address < key[1]]:
            found = self._cache.pop(key)
            self._cached -= found.lanes.nbytes + found.scales.nbytes


def open(config: Config, memory_bytes: int, **options: Any) -> GoldenDevice:
    """Opens the golden device; the entry point of ``kria_llm.devices``.

    Raises:
        ToolError: an option that it does not have.
        DeviceError: no such amount of memory.
    """
    unknown = set(options) - {"cache_bytes"}
    if unknown:
        raise ToolError(f"device golden has no option {min(unknown)!r}; it has: cache_bytes")
    return GoldenDevice(config, memory_bytes, **options)
