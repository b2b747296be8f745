"""A device that is a program: memory, registers and command lists as the hardware has them.

What a matmul computes is left to the subclass (``execute``): the golden model and the compiled
kernels. Nothing is timed, so cycles and stalls stay 0; beats are counted from the commands. A list
runs when it is waited for; reading ``status`` runs one command of it, so polling ends too.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from host.device.transport import Buffer
from spec import commands, registers
from spec.config import ADDRESS_BITS, Config
from spec.digest import digest
from spec.errors import DeviceError
from spec.layout import REGION_ALIGN

BASE_ADDRESS = 0x1000_0000
"""Where the device sees its memory; everything outside answers DECERR."""

DECERR = 3
"""AXI response of an address that nothing decodes (AMBA AXI, IHI 0022)."""

MASK = 0xFFFFFFFF

BUFFER_ALIGN = 64
"""Alignment of the memory in the process: a cache line, and any vector register."""


READABLE = {
    registers.OFFSETS[register.name]: register.name
    for register in registers.REGISTERS
    if register.access != "wo"
}
PORT_BEATS = [name for name in registers.COUNTERS if name.startswith("beats_port")]


class _Fault(Exception):
    """Ends a command list; carries the bits of the ``error`` register and the address."""

    def __init__(self, address: int = 0, **bits: int) -> None:
        super().__init__()
        self.address, self.bits = address, bits


class SoftwareDevice:
    """``host.device.transport.Transport`` over memory of this process.

    Args:
        config: the accelerator to stand for.
        memory_bytes: size of its memory; whole 4 KB pages.

    Raises:
        DeviceError: a size that is not positive, too large to address, or not to be had.
    """

    name = "software"

    def __init__(self, config: Config, memory_bytes: int) -> None:
        self.config = config
        size = -(-memory_bytes // REGION_ALIGN) * REGION_ALIGN
        if not 0 < size <= (1 << ADDRESS_BITS) - BASE_ADDRESS:
            raise DeviceError(
                f"device {self.name} needs a memory of 1..2**{ADDRESS_BITS} bytes, got"
                f" {memory_bytes}"
            )
        try:
            raw = np.zeros(size + BUFFER_ALIGN, np.uint8)
        except MemoryError:
            raise DeviceError(
                f"device {self.name} cannot get {size} bytes of memory: ask for less"
            ) from None
        skip = -raw.ctypes.data % BUFFER_ALIGN
        self.memory = raw[skip : skip + size]
        """All of the memory, uint8; byte 0 is at ``BASE_ADDRESS``."""
        self._used = 0
        self._waiting = 0
        self._next = 0
        self._commands: dict[int, tuple[bytes, Any, list[tuple[str, int]]]] = {}
        self._registers = dict.fromkeys(registers.OFFSETS, 0)
        value = digest(config)
        self._registers.update(
            magic=registers.MAGIC, version=registers.VERSION,
            digest_low=value & MASK, digest_high=value >> 32,
            watchdog=registers.WATCHDOG_CYCLES,
        )  # fmt: skip

    def prepare(self, fields: dict[str, int]) -> Any:
        """What ``execute`` wants of a checked command, once for as long as its descriptor stays."""
        return fields

    def execute(self, command: Any) -> bool:
        """Performs one checked command on ``memory``; all its regions lie inside.

        Returns:
            Whether every result was in the range of fp32.
        """
        raise NotImplementedError(f"device {self.name} has no arithmetic")

    # Transport

    def read_register(self, offset: int) -> int:
        """The 32-bit register at a byte offset; offsets without one read 0."""
        name = READABLE.get(offset)
        if name is None:
            self._register_at(offset)
            return 0
        if name == "status":
            busy = int(self._waiting > 0)
            if busy:
                self._run_one()
            return registers.encode("status", busy=busy, error=int(self._registers["error"] != 0))
        return self._registers[name]

    def write_register(self, offset: int, value: int) -> None:
        """Writes a 32-bit register; offsets without one and read-only ones ignore it."""
        name, value = self._register_at(offset), value & MASK
        if name is None or registers.BY_NAME[name].access == "ro":
            return
        if name == "doorbell":
            self._ring(value & commands.COUNT_MAX)
        elif name == "control":
            bits = registers.decode("control", value)
            if bits["reset"]:
                self._waiting = 0
            if bits["clear"] and not self._waiting:
                for held in ("error", "error_address_low", "error_address_high"):
                    self._registers[held] = 0
            self._registers[name] = registers.encode("control", irq_enable=bits["irq_enable"])
        elif name == "list_address_high":
            self._registers[name] = value & (1 << ADDRESS_BITS - 32) - 1
        else:
            self._registers[name] = value

    def allocate(self, size: int) -> Buffer:
        """``size`` zeroed bytes on a 4 KB boundary. Raises DeviceError when memory is short."""
        free = len(self.memory) - self._used
        if not 0 < size <= free:
            raise DeviceError(
                f"device {self.name} cannot allocate {size} bytes: {free} of"
                f" {len(self.memory)} are free"
            )
        start = self._used
        self._used += -(-size // REGION_ALIGN) * REGION_ALIGN
        return Buffer(BASE_ADDRESS + start, self.memory[start : start + size])

    def flush(self, buffer: Buffer) -> None:
        """Makes the host's writes visible to the device: they are, the memory is one."""

    def invalidate(self, buffer: Buffer) -> None:
        """Makes the device's writes visible to the host: they are, the memory is one."""

    def wait(self, timeout: float) -> None:
        """Runs what is left of the list. Raises DeviceError when it takes too long."""
        end = time.monotonic() + timeout
        while self._waiting:
            if time.monotonic() > end:
                raise DeviceError(
                    f"device {self.name} did not end its list in {timeout} s:"
                    f" {self._waiting} commands are left"
                )
            self._run_one()

    def close(self) -> None:
        """Releases the memory as soon as no buffer holds it."""
        self.memory = np.zeros(0, np.uint8)
        self._commands.clear()
        self._used = self._waiting = 0

    # The engine

    def read(self, address: int, size: int) -> np.ndarray:
        """The bytes at a device address, a view; the range has been checked."""
        start = address - BASE_ADDRESS
        return self.memory[start : start + size]

    def write(self, address: int, data: np.ndarray) -> None:
        """Writes bytes at a device address; the range has been checked."""
        start = address - BASE_ADDRESS
        self.memory[start : start + len(data)] = data

    def _register_at(self, offset: int) -> str | None:
        if not 0 <= offset < registers.WINDOW_BYTES:
            raise DeviceError(
                f"the control window has {registers.WINDOW_BYTES:#x} bytes, got offset {offset:#x}"
            )
        index, rest = divmod(offset, registers.STRIDE)
        return (
            None if rest or index >= len(registers.REGISTERS) else registers.REGISTERS[index].name
        )

    def _ring(self, count: int) -> None:
        if self._waiting:
            self._hold(_Fault(doorbell=1))
            return
        self._waiting = count
        high, low = self._registers["list_address_high"], self._registers["list_address_low"]
        self._next = high << 32 | low

    def _run_one(self) -> None:
        try:
            command, counts = self._known(self._next)
            if not self.execute(command):
                self._hold(_Fault(range=1))
        except _Fault as fault:
            self._hold(fault)
            self._waiting = 0
            return
        for name, amount in counts:
            self._count(name, amount)
        self._waiting -= 1
        self._next += commands.BYTES

    def _known(self, address: int) -> tuple[Any, list[tuple[str, int]]]:
        """A descriptor made ready, and what it counts; looked at again when its bytes differ."""
        start = address - BASE_ADDRESS
        image = self.memory[start : start + commands.BYTES].tobytes() if start >= 0 else b""
        known = self._commands.get(address)
        if known is None or known[0] != image or len(image) != commands.BYTES:
            fields = self._fetch(address)
            self._check_regions(fields)
            known = self._commands[address] = image, self.prepare(fields), self._counts(fields)
        else:
            self._count_descriptor()
        return known[1:]

    def _hold(self, fault: _Fault) -> None:
        """Keeps an error until it is cleared; the first read or write error keeps its address."""
        held = registers.decode("error", self._registers["error"])
        bits = dict(fault.bits)
        if "response" in bits:
            if held["read"] or held["write"]:
                bits = {key: bits[key] for key in ("read", "write") if key in bits}
            else:
                self._registers["error_address_low"] = fault.address & MASK
                self._registers["error_address_high"] = fault.address >> 32
        self._registers["error"] |= registers.encode("error", **bits)

    def _count(self, name: str, amount: int) -> None:
        self._registers[name] = (self._registers[name] + amount) & MASK

    def _fetch(self, address: int) -> dict[str, int]:
        """The fields of the descriptor at ``address``, if this engine can run it."""
        self._check_striped(
            address, commands.BYTES // self.config.ports, commands.beats(self.config)
        )
        self._count_descriptor()
        try:
            fields = commands.unpack(self.read(address, commands.BYTES).tobytes())
            commands.check(self.config, fields)
        except commands.CommandError:
            raise _Fault(descriptor=1) from None
        return fields

    def _check_regions(self, fields: dict[str, int]) -> None:
        for kind, beats in (("activation", "activation_beats"), ("weight", "weight_beats")):
            self._check_striped(fields[f"{kind}s"], fields[f"{kind}_stride"], fields[beats])
        size = commands.written_bytes(self.config, fields)
        outside = self._first_outside(fields["results"], size)
        if outside is not None:
            raise _Fault(outside, write=1, response=DECERR)

    def _check_striped(self, address: int, stride: int, beats: int) -> None:
        """Raises the fault of the first port whose part of a striped region leaves the memory."""
        for port in range(self.config.ports):
            outside = self._first_outside(address + port * stride, beats * self.config.port_bytes)
            if outside is not None:
                raise _Fault(outside, read=1, response=DECERR, port=port)

    def _first_outside(self, start: int, size: int) -> int | None:
        """Start of the first burst outside the memory: bursts do not cross its page-aligned end."""
        end = BASE_ADDRESS + len(self.memory)
        if start >= BASE_ADDRESS and start + size <= end:
            return None
        return end if BASE_ADDRESS <= start < end else start

    def _count_descriptor(self) -> None:
        for name in PORT_BEATS[: self.config.ports]:
            self._count(name, commands.beats(self.config))

    def reaches(self, fields: dict[str, int]) -> bool:
        """Whether all regions of a command lie in the memory."""
        try:
            self._check_regions(fields)
        except _Fault:
            return False
        return True

    def costs(self, fields: dict[str, int]) -> list[tuple[str, int]]:
        """What a command adds to the counters, its descriptor's beats included."""
        beats = commands.beats(self.config)
        descriptor = [(name, beats) for name in PORT_BEATS[: self.config.ports]]
        return [*self._counts(fields), *descriptor]

    def _counts(self, fields: dict[str, int]) -> list[tuple[str, int]]:
        """What a command adds to the counters when it is done, its descriptor's beats apart."""
        beats = fields["activation_beats"] + fields["weight_beats"]
        counts = [(name, beats) for name in PORT_BEATS[: self.config.ports]]
        return [*counts, ("beats_written", fields["result_beats"]), ("completed", 1)]
