"""The board through PYNQ: Overlay or Bitstream, MMIO, cacheable buffers. PYNQ stays optional."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from host.device.transport import Buffer
from host.transports import zynq
from host.transports.board import FIRMWARE_FOLDER, BoardDevice, app_name
from host.transports.machine import Machine
from spec import registers
from spec.config import Config
from spec.errors import DeviceError, ToolError

OPTIONS = ("bitstream", "machine", "target", "load")


class PynqDevice(BoardDevice):
    """The transport ``pynq`` (see host/device/transport.py).

    Args:
        memory_bytes: one region of this size is allocated, once.
        bitstream: a ``.bit``; the installed firmware's of this configuration if not given.
        machine: whose PS registers are checked; tests give their own.
        target: a ``pynq.Device``; the active one if not given.
        load: False when the firmware has been loaded already (xmutil).

    Raises:
        ToolError: PYNQ or the bitstream is missing.
        DeviceError: loading or allocation failed, the logic cannot be reached, another clock.
    """

    name = "pynq"

    def __init__(
        self, config: Config, memory_bytes: int, bitstream: str | Path | None = None,
        machine: Machine | None = None, target: Any = None, load: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(config)
        try:
            import pynq
        except ImportError as error:
            raise ToolError(
                f"device pynq needs PYNQ ({error}): install it with pip install 'kria-llm[board]',"
                " or use --device uio"
            ) from None
        name = app_name(config)
        path = Path(bitstream or f"{FIRMWARE_FOLDER}/{name}/{name}.bit")
        self.system = zynq.SystemRegisters(machine or Machine())
        try:
            self._target = target if target is not None else pynq.Device.active_device
        except RuntimeError as error:
            raise ToolError(f"PYNQ finds no device ({error}): run on the board, as root") from None
        if load:
            self._load(pynq, path)
        self.system.check_reachable()
        # With a .hwh PYNQ has set the widths; without one nobody has. Both are read back here.
        self.system.set_widths(config)
        self.system.set_bursts(config)
        self._mmio = pynq.MMIO(zynq.CONTROL_BASE, registers.WINDOW_BYTES, device=self._target)
        self._buffer = self._allocate(pynq, memory_bytes)
        self._take_region(self._buffer.view(np.ndarray), int(self._buffer.device_address))
        self.clock_mhz = self.check_clock()

    def read_register(self, offset: int) -> int:
        return int(self._mmio.read(offset))

    def write_register(self, offset: int, value: int) -> None:
        self._mmio.write(offset, int(value) & 0xFFFFFFFF)

    def flush(self, buffer: Buffer) -> None:
        """Writes the host's cache lines back."""
        self._sync(buffer, "XCL_BO_SYNC_BO_TO_DEVICE", "flush")

    def invalidate(self, buffer: Buffer) -> None:
        """Drops the host's cache lines."""
        self._sync(buffer, "XCL_BO_SYNC_BO_FROM_DEVICE", "invalidate")

    def _window_address(self) -> int | None:
        array = getattr(self._mmio, "array", None)  # NumPy's only where PYNQ has mapped it
        return array.ctypes.data if isinstance(array, np.ndarray) else None

    def close(self) -> None:
        """Gives the region back as soon as no buffer holds it: PYNQ would unmap it under them."""
        self._region = np.zeros(0, np.uint8)
        self._buffer = None

    def _load(self, pynq: Any, path: Path) -> None:
        """With the hand-off file beside it an Overlay (PYNQ sets clock and widths), else plain."""
        if not path.is_file():
            raise ToolError(
                f"there is no bitstream {path}: install it with kria-llm firmware install,"
                " or give another configuration"
            )
        if path.with_suffix(".dtbo").is_file():
            path = self._alone(path)
        try:
            if path.with_suffix(".hwh").is_file():
                self._overlay = pynq.Overlay(str(path), device=self._target)
            else:
                pynq.Bitstream(str(path), device=self._target).download()
        except (RuntimeError, OSError, ValueError) as error:
            raise DeviceError(
                f"device pynq: {path.name} was not loaded ({error}): unload what is there with"
                " xmutil unloadapp and see kria-llm doctor --device pynq"
            ) from None

    def _alone(self, path: Path) -> Path:
        """The bitstream and its hand-off file in a folder of their own.

        PYNQ inserts an overlay that lies beside them; this one has the kernel load the firmware by
        name, which is xmutil's way and would load it twice.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="kria-llm-")
        for suffix in (".bit", ".hwh"):
            if path.with_suffix(suffix).is_file():
                link = Path(self._folder.name) / path.with_suffix(suffix).name
                link.symlink_to(path.with_suffix(suffix).resolve())
        return Path(self._folder.name) / path.name

    def _allocate(self, pynq: Any, size: int) -> Any:
        try:
            return pynq.allocate((size,), "u1", target=self._target, cacheable=1)
        except (RuntimeError, MemoryError, OSError) as error:
            raise DeviceError(
                f"device pynq: {size} contiguous bytes cannot be had ({error}): raise cma= on the"
                " kernel command line (1900M works), or restart, since CMA fragments"
            ) from None

    def _sync(self, buffer: Buffer, direction: str, whole: str) -> None:
        """Synchronises one buffer's lines.

        PYNQ's own ``flush`` writes back the whole allocation, here all of the weights, for every
        small buffer in it; XRT's buffer object takes offset and size.
        """
        offset = buffer.address - self._base
        view = self._buffer[offset : offset + buffer.array.nbytes]
        sync = getattr(view.bo, "sync", None)
        if sync is None:
            getattr(view, whole)()
            return
        try:
            import pyxrt

            code = getattr(pyxrt.xclBOSyncDirection, direction)
        except ImportError:
            getattr(view, whole)()
            return
        sync(code, buffer.array.nbytes, offset)


def open(config: Config, memory_bytes: int, **options: Any) -> PynqDevice:
    """Opens the board; the entry point of ``kria_llm.devices``.

    Raises:
        ToolError: an option that it does not have, or as for ``PynqDevice``.
        DeviceError: as for ``PynqDevice``.
    """
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise ToolError(f"device pynq has no option {min(unknown)!r}; it has: {', '.join(OPTIONS)}")
    return PynqDevice(config, memory_bytes, **options)
