"""What both ways to the board share: one region of memory, polling, the clock's measurement."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from host.device.transport import Buffer
from host.kernels.runner import Port
from host.transports import zynq
from host.transports.port import board_port
from spec import registers
from spec.config import Config
from spec.digest import digest
from spec.errors import DeviceError
from spec.layout import REGION_ALIGN

SPIN_SECONDS = 200e-6
"""A matmul of one layer ends within this: polling it is cheaper than sleeping."""
NAP_SECONDS = 50e-6

CLOCK_TOLERANCE = 0.02
"""Share by which the measured clock may miss: the scheduler disturbs the measurement, and 100 MHz
in place of 250 misses by far more."""
MEASURE_SECONDS = 0.02
TRIES = 5

FIRMWARE_FOLDER = "/lib/firmware/xilinx"


def app_name(config: Config) -> str:
    """Name of the firmware of a configuration."""
    return f"kria-llm-{digest(config):016x}"


class BoardDevice(ABC):
    """A transport over registers and one contiguous region; subclasses reach both.

    Subclasses set ``_region`` (uint8) and ``_base`` and give ``read_register``, ``write_register``,
    ``flush`` and ``invalidate``.
    """

    name = "board"

    def __init__(self, config: Config) -> None:
        self.config = config
        self._region = np.zeros(0, np.uint8)
        self._base = 0
        self._used = 0

    @abstractmethod
    def read_register(self, offset: int) -> int:
        """The 32 bits of the register at ``offset``."""

    @abstractmethod
    def write_register(self, offset: int, value: int) -> None:
        """Writes 32 bits to the register at ``offset``."""

    @abstractmethod
    def flush(self, buffer: Buffer) -> None:
        """Writes the processor's cached lines of ``buffer`` to memory."""

    @abstractmethod
    def invalidate(self, buffer: Buffer) -> None:
        """Drops the processor's cached lines of ``buffer``."""

    def _take_region(self, region: np.ndarray, base: int) -> None:
        """Takes the memory that buffers come from, zeroed, in the caches and behind them.

        Raises:
            DeviceError: it lies where the ports do not reach.
        """
        if not zynq.in_memory(base, len(region)):
            raise DeviceError(
                f"device {self.name}: the memory at {base:#x}..{base + len(region):#x} does not lie"
                " in one part of the board's DDR, an access there is answered DECERR: take it from"
                " CMA below 2 GB"
            )
        if base % REGION_ALIGN:
            raise DeviceError(f"device {self.name}: the memory at {base:#x} is not page-aligned")
        self._region, self._base = region, base
        # Zeros that stayed in the caches would be written back later, over the engine's results.
        region[:] = 0
        self.flush(Buffer(base, region))

    def allocate(self, size: int) -> Buffer:
        """``size`` zeroed bytes on a 4 KB boundary of the region."""
        free = len(self._region) - self._used
        if not 0 < size <= free:
            raise DeviceError(
                f"device {self.name} has {free} of {len(self._region)} bytes left, {size} were"
                " asked for: open it with more memory"
            )
        start = self._used
        self._used = min(start + -(-size // REGION_ALIGN) * REGION_ALIGN, len(self._region))
        return Buffer(self._base + start, self._region[start : start + size])

    def wait(self, timeout: float) -> None:
        """Polls until the engine is idle. Raises DeviceError after ``timeout`` seconds."""
        status = registers.OFFSETS["status"]
        busy = registers.encode("status", busy=1)
        begin = time.monotonic()
        while self.read_register(status) & busy:
            spent = time.monotonic() - begin
            if spent > timeout:
                raise DeviceError(
                    f"device {self.name} is still busy after {timeout:g} s: see kria-llm doctor"
                    f" --device {self.name}, or load the firmware again"
                )
            if spent > SPIN_SECONDS:
                time.sleep(NAP_SECONDS)

    def port(self) -> Port:
        """Registers and caches for the compiled runner."""
        return board_port(self, self._window_address())

    def buffer_at(self, pointer: int, size: int) -> Buffer:
        """Memory of the region by the host's address of it."""
        start = pointer - self._region.ctypes.data
        return Buffer(self._base + start, self._region[start : start + size])

    def _window_address(self) -> int | None:
        """Where this process has the registers mapped; None: nowhere."""
        return None

    def check_clock(self) -> float:
        """Measures the clock that the design runs at.

        Returns:
            MHz.

        Raises:
            DeviceError: it is not the configuration's.
        """
        found = measure_clock(self.read_register)
        sentence = clock_sentence(found, self.config)
        if sentence:
            raise DeviceError(f"device {self.name}: {sentence}")
        return found


def measure_clock(
    read_register: Callable[[int], int], seconds: float = MEASURE_SECONDS
) -> float:  # fmt: skip
    """MHz of the free-running cycle counter against the machine's own clock."""
    begin, first = _sample(read_register)
    time.sleep(seconds)
    end, last = _sample(read_register)
    return ((last - first) & 0xFFFFFFFF) / (end - begin) / 1e6


def _sample(read_register: Callable[[int], int]) -> tuple[float, int]:
    """Time and cycle counter, of the try that the scheduler disturbed least."""
    offset = registers.OFFSETS["cycles_low"]
    tries = []
    for _ in range(TRIES):
        before = time.monotonic()
        count = read_register(offset)
        after = time.monotonic()
        tries.append((after - before, (before + after) / 2, count))
    _, when, count = min(tries)
    return when, count


def clock_sentence(found: float, config: Config) -> str:
    """What is wrong with a measured clock; empty when it is the configuration's."""
    if abs(found - config.clock_mhz) <= CLOCK_TOLERANCE * config.clock_mhz:
        return ""
    if found < 0.01:
        return (
            "its cycle counter stands still: the MMCM has no clock or did not lock; load the"
            " overlay with xmutil loadapp"
        )
    return (
        f"the design runs at {found:.1f} MHz, not at the configuration's {config.clock_mhz:g}:"
        " answers are right and slow; load the overlay with xmutil loadapp, which sets pl_clk0"
    )
