"""Registers of the processing system that decide whether the logic can be reached, and how wide.

Addresses: AMD UG1087, Zynq UltraScale+ Devices Register Reference. They lie in the PS and answer
always; an access to logic without a clock or in reset hangs the machine, so these are read first.
"""

from __future__ import annotations

from dataclasses import dataclass

from host.transports.machine import Machine
from spec.config import Config
from spec.errors import DeviceError

MEMORY = "/dev/mem"

PL0_REF_CTRL = 0xFF5E_00C0
CLOCK_ACTIVE = 1 << 24
PL0_100_MHZ = 0x0101_0F00
"""1,499.985 MHz / 15, what the stock firmware leaves and the MMCM in the design expects."""
PLL_MHZ = 1499.985
CLOCK_MHZ = 100.0
DIVIDERS = 0x3F << 8 | 0x3F << 16
"""DIVISOR0 and DIVISOR1."""

GPIO_DATA_5 = 0xFF0A_0054
RESET_RELEASED = 1 << 31
"""Bit 95 of the EMIO GPIO is ``pl_resetn0``: the last bit of bank 5."""

AFI_FS = 0xFD61_5000
HPM0_BITS = {0: 32, 1: 64, 2: 128}
"""Field 9..8 of AFI_FS: width of HPM0_FPD."""

AFIFM = (0xFD38_0000, 0xFD39_0000, 0xFD3A_0000, 0xFD3B_0000)
"""HP0..HP3."""
RDCTRL, WRCTRL = 0x00, 0x14
HP_CODE = {128: 0, 64: 1, 32: 2}

RDISSUE, WRISSUE = 0x04, 0x18
"""Bursts outstanding at a port, minus one; one alone reaches a fifth of the rate."""

CONTROL_BITS = 128
"""Width of HPM0 in the design: the stock firmware's."""

CONTROL_BASE = 0xA000_0000

DDR = ((0x0, 0x8000_0000), (0x8_0000_0000, 0x8_8000_0000))
"""The board's 4 GB as the HP ports see them: begin and end of both parts."""


@dataclass(frozen=True)
class Width:
    """Width of a port: what a register says and what the design has."""

    port: str
    found: int | None
    """Bits; None: a code that means nothing."""
    wanted: int


class SystemRegisters:
    """The PS's registers through ``/dev/mem``.

    Raises:
        AccessError: ``/dev/mem`` cannot be mapped.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def read(self, address: int) -> int:
        """A 32-bit register at a physical address."""
        window = self._machine.map(MEMORY, 4, address)
        try:
            return window.read(0)
        finally:
            window.close()

    def write(self, address: int, value: int) -> None:
        """Writes a 32-bit register."""
        window = self._machine.map(MEMORY, 4, address)
        try:
            window.write(0, value)
        finally:
            window.close()

    def clock_runs(self) -> bool:
        """Whether ``pl_clk0`` is switched on."""
        return bool(self.read(PL0_REF_CTRL) & CLOCK_ACTIVE)

    def clock_mhz(self) -> float:
        """``pl_clk0`` as its dividers make it."""
        value = self.read(PL0_REF_CTRL)
        return PLL_MHZ / max(1, value >> 8 & 0x3F) / max(1, value >> 16 & 0x3F)

    def reset_released(self) -> bool:
        """Whether ``pl_resetn0`` is high."""
        return bool(self.read(GPIO_DATA_5) & RESET_RELEASED)

    def widths(self, config: Config) -> list[Width]:
        """Widths of HPM0 and of each HP port's two directions."""
        field = self.read(AFI_FS) >> 8 & 3
        found = [Width("HPM0", HPM0_BITS.get(field), CONTROL_BITS)]
        bits = {code: width for width, code in HP_CODE.items()}
        for port in range(config.ports):
            for name, offset in (("read", RDCTRL), ("write", WRCTRL)):
                code = self.read(AFIFM[port] + offset) & 3
                found.append(Width(f"HP{port} {name}", bits.get(code), config.port_bits))
        return found

    def set_widths(self, config: Config) -> None:
        """Sets every width to the design's and reads it back.

        Raises:
            DeviceError: a register does not keep what is written.
        """
        codes = {bits: code for code, bits in HPM0_BITS.items()}
        fs = self.read(AFI_FS)
        if fs >> 8 & 3 != codes[CONTROL_BITS]:
            self.write(AFI_FS, fs & ~(3 << 8) | codes[CONTROL_BITS] << 8)
        for port in range(config.ports):
            for offset in (RDCTRL, WRCTRL):
                value = self.read(AFIFM[port] + offset)
                if value & 3 != HP_CODE[config.port_bits]:
                    self.write(AFIFM[port] + offset, value & ~3 | HP_CODE[config.port_bits])
        for width in self.widths(config):
            if width.found != width.wanted:
                raise DeviceError(
                    f"port {width.port} stays {width.found} bits wide after it was set to"
                    f" {width.wanted}: the firmware protects it; load the overlay with xmutil"
                    " loadapp"
                )

    def bursts(self, config: Config) -> list[tuple[str, int]]:
        """Bursts that each port lets be outstanding: (port, number)."""
        return [
            (f"HP{port} {name}", (self.read(AFIFM[port] + offset) & 0xF) + 1)
            for port in range(config.ports)
            for name, offset in (("read", RDISSUE), ("write", WRISSUE))
        ]

    def set_bursts(self, config: Config) -> None:
        """Lets as many bursts be outstanding as the engine issues, at most the port's 16."""
        wanted = min(config.outstanding, 16) - 1
        for port in range(config.ports):
            for offset in (RDISSUE, WRISSUE):
                value = self.read(AFIFM[port] + offset)
                if value & 0xF < wanted:
                    self.write(AFIFM[port] + offset, value & ~0xF | wanted)

    def set_clock(self) -> None:
        """Sets ``pl_clk0`` to the 100 MHz that the design's MMCM expects and reads it back.

        Raises:
            DeviceError: the register does not keep what is written.
        """
        if abs(self.clock_mhz() - CLOCK_MHZ) < 1:
            return
        # The dividers alone: the source is the firmware's choice.
        kept = self.read(PL0_REF_CTRL) & ~DIVIDERS
        wanted = kept | PL0_100_MHZ & DIVIDERS | CLOCK_ACTIVE
        self.write(PL0_REF_CTRL, wanted)
        found = self.read(PL0_REF_CTRL)
        if found != wanted:
            raise DeviceError(
                f"pl_clk0's register reads {found:#010x} after {wanted:#010x} was written: the"
                " firmware protects it; load the overlay with xmutil loadapp"
            )

    def check_reachable(self) -> None:
        """Refuses to touch logic that would hang the machine.

        Raises:
            DeviceError: no clock, or reset held.
        """
        if not self.clock_runs():
            raise DeviceError(
                "pl_clk0 is switched off, and reading logic without a clock hangs the machine: load"
                " the overlay with xmutil loadapp"
            )
        if not self.reset_released():
            raise DeviceError(
                "pl_resetn0 is held low, and reading logic in reset hangs the machine: a bitstream"
                " was loaded without its overlay; load it with xmutil loadapp"
            )


def in_memory(address: int, size: int) -> bool:
    """Whether a buffer lies in one part of the memory that the ports reach."""
    return any(begin <= address and address + size <= end for begin, end in DDR)
