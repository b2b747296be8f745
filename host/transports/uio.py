"""The board through plain Linux: UIO for registers, u-dma-buf for memory, /dev/mem for the PS."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from host.device.transport import Buffer
from host.transports import zynq
from host.transports.board import BoardDevice, app_name
from host.transports.machine import Attribute, Machine
from spec import registers
from spec.config import Config
from spec.errors import DeviceError, ToolError

UIO_NAME = "kria_llm"
"""Name of the node in the overlay."""

STATE = "/sys/class/fpga_manager/fpga0/state"

TO_DEVICE, FROM_DEVICE = 1, 2
"""Directions of u-dma-buf's synchronisation."""

SYNC_GRAIN = 16
"""u-dma-buf's size field drops the low four bits."""

OPTIONS = ("machine", "udmabuf")


class UioDevice(BoardDevice):
    """The transport ``uio`` (see host/device/transport.py).

    Nothing in the logic is touched before the PS says that it has a clock and is out of reset.

    Args:
        memory_bytes: what the model needs; the whole of the u-dma-buf region is taken.
        machine: whose files; tests give their own.
        udmabuf: name of the region; the first one if not given.

    Raises:
        ToolError: a driver, device file or permission is missing.
        DeviceError: the logic cannot be reached, has another clock, or memory is short.
    """

    name = "uio"

    def __init__(
        self, config: Config, memory_bytes: int, machine: Machine | None = None,
        udmabuf: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config)
        self._machine = machine or Machine()
        self.system = zynq.SystemRegisters(self._machine)
        state = self._machine.read(STATE)
        if state != "operating":
            raise DeviceError(
                f"device uio: the FPGA manager's state is {state or 'unknown'}, not operating: load"
                f" the firmware with xmutil loadapp {app_name(config)}"
            )
        self.system.check_reachable()
        self.system.set_clock()
        self.system.set_widths(config)
        self.system.set_bursts(config)
        node = f"/dev/{find_uio(self._machine)}"
        self._lock = self._machine.lock(node)
        try:
            self._open(node, memory_bytes, udmabuf)
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self, node: str, memory_bytes: int, udmabuf: str | None) -> None:
        """Maps registers and memory once the node is this process's alone."""
        self._window = self._machine.map(node, registers.WINDOW_BYTES)
        self._buffer = udmabuf or find_udmabuf(self._machine)
        self._open_memory(memory_bytes)
        self.clock_mhz = self.check_clock()

    def read_register(self, offset: int) -> int:
        return self._window.read(offset)

    def write_register(self, offset: int, value: int) -> None:
        self._window.write(offset, value)

    def flush(self, buffer: Buffer) -> None:
        """Writes the host's cache lines back."""
        self._sync(buffer, self._for_device, TO_DEVICE)

    def invalidate(self, buffer: Buffer) -> None:
        """Drops the host's cache lines."""
        self._sync(buffer, self._for_cpu, FROM_DEVICE)

    def _window_address(self) -> int | None:
        return self._window.address

    def close(self) -> None:
        """Unmaps registers and memory."""
        self._region = np.zeros(0, np.uint8)
        self._window.close()
        self._memory.close()
        self._for_device.close()
        self._for_cpu.close()
        os.close(self._lock)

    def _open_memory(self, memory_bytes: int) -> None:
        folder = f"/sys/class/u-dma-buf/{self._buffer}"
        size = _number(self._machine, f"{folder}/size")
        base = _number(self._machine, f"{folder}/phys_addr")
        if size < memory_bytes:
            raise DeviceError(
                f"device uio: the region {self._buffer} has {size} bytes, {memory_bytes} are"
                f" needed: load its driver with modprobe u-dma-buf udmabuf0={memory_bytes}"
            )
        self._for_device = self._machine.attribute(f"{folder}/sync_for_device")
        self._for_cpu = self._machine.attribute(f"{folder}/sync_for_cpu")
        # Cached: without it the CPU reads five times slower. Flushes are explicit.
        self._memory = self._machine.map(f"/dev/{self._buffer}", size, cached=True)
        self._take_region(
            np.frombuffer(self._memory.memory, np.uint8, size, self._memory.start), base
        )

    def _sync(self, buffer: Buffer, attribute: Attribute, direction: int) -> None:
        """One write names offset, size and direction (u-dma-buf's README)."""
        offset = buffer.address - self._base
        begin = offset - offset % SYNC_GRAIN
        size = -(-(offset + buffer.array.nbytes - begin) // SYNC_GRAIN) * SYNC_GRAIN
        word = begin << 32 | size & 0xFFFFFFF0 | direction << 2 | 1
        attribute.write(f"0x{word:016X}")


def find_uio(machine: Machine) -> str:
    """The UIO device of the overlay's node.

    Raises:
        ToolError: there is none.
    """
    for name in machine.names("/sys/class/uio/uio*"):
        if machine.read(f"{name}/name") == UIO_NAME:
            return name.rpartition("/")[2]
    raise ToolError(
        f"no UIO device is called {UIO_NAME}: load the overlay with xmutil loadapp, and the driver"
        " with modprobe uio_pdrv_genirq of_id=generic-uio"
    )


def find_udmabuf(machine: Machine) -> str:
    """The first region of the u-dma-buf driver.

    Raises:
        ToolError: there is none.
    """
    names = machine.names("/sys/class/u-dma-buf/*")
    if not names:
        raise ToolError(
            "there is no u-dma-buf region: install the driver (Debian: u-dma-buf-dkms) and load it"
            " with modprobe u-dma-buf udmabuf0=1000000000"
        )
    return names[0].rpartition("/")[2]


def _number(machine: Machine, name: str) -> int:
    text = machine.read(name) or ""
    try:
        return int(text, 0)
    except ValueError:
        raise ToolError(f"{name} holds {text!r}, no number: is u-dma-buf loaded?") from None


def open(config: Config, memory_bytes: int, **options: Any) -> UioDevice:
    """Opens the board; the entry point of ``kria_llm.devices``.

    Raises:
        ToolError: an option that it does not have, or as for ``UioDevice``.
        DeviceError: as for ``UioDevice``.
    """
    unknown = set(options) - set(OPTIONS)
    if unknown:
        raise ToolError(f"device uio has no option {min(unknown)!r}; it has: {', '.join(OPTIONS)}")
    return UioDevice(config, memory_bytes, **options)
