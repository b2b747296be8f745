"""A board made of files: what Linux shows on a KV260, with a simulated device behind the registers.

Registers and memory are regular files, mapped as on the board. A hook beside each mapped access
passes it to the device; memory is copied between file and device only when the driver synchronises,
as caches do on ports that are not coherent.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from host.transports import zynq
from host.transports.board import app_name
from host.transports.machine import Attribute, Machine, Window
from host.transports.uio import STATE
from spec import registers
from spec.config import Config

REGION = 1 << 20
DMESG = """[    1.000000] Linux version 6.8.0-1017-xilinx
[   30.100000] fpga_manager fpga0: writing {app}.bit.bin to Xilinx ZynqMP FPGA Manager
"""


class Registers(Window):
    """The control window: each access goes to the device too."""

    board: FakeBoard
    address = None  # the runner goes by way of the functions below

    def read(self, offset: int) -> int:
        super().write(offset, self.board.read(offset))
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        super().write(offset, value)
        self.board.device.write_register(offset, super().read(offset))


class FakeBoard(Machine):
    """A healthy board. Faults: attributes, files that tests overwrite, ``programs``.

    Args:
        device: what computes; its memory is an array ``memory`` that begins at ``base``.
    """

    def __init__(self, root: Path, config: Config, device: Any, base: int) -> None:
        super().__init__(root)
        self.config, self.device, self.base = config, device, base
        self.app = app_name(config)
        self.clock_mhz = config.clock_mhz
        self.register_bits = 32
        """128: what a design of 32 bits behind a port of 128 reads."""
        self.stuck: set[int] = set()
        """PS registers that ignore writes, by address."""
        self.programs: dict[str, tuple[int, str]] = {
            "dmesg": (0, DMESG.format(app=self.app)),
            "xmutil": (0, f"Accelerator  Active_slot\n{self.app}  0,\n"),
        }
        self.calls: list[tuple[str, ...]] = []
        self.synced: list[tuple[str, int, int]] = []
        self._tree()
        # Before its overlay is loaded and after, as the stock firmware leaves the PS.
        self.poke(zynq.PL0_REF_CTRL, zynq.PL0_100_MHZ)
        self.poke(zynq.GPIO_DATA_5, zynq.RESET_RELEASED)
        self.poke(zynq.AFI_FS, 0x200)
        for address in zynq.AFIFM[: config.ports]:
            for offset in (zynq.RDCTRL, zynq.WRCTRL):
                self.poke(address + offset, 0xFA0 | zynq.HP_CODE[config.port_bits])
            for offset in (zynq.RDISSUE, zynq.WRISSUE):
                self.poke(address + offset, 7)

    def file(self, name: str, text: str | bytes) -> Path:
        """Writes a file of the tree."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def poke(self, address: int, value: int) -> None:
        """Sets a PS register, as firmware would."""
        window = super().map(zynq.MEMORY, 4, address)
        window.write(0, value)
        window.close()

    def firmware(self, bitstream: bytes = b"bits", build: bytes | None = None) -> Path:
        """Installs firmware. ``build``: what SHA256SUMS was made of, if something else."""
        folder = f"/lib/firmware/xilinx/{self.app}"
        files = {
            f"{self.app}.bit.bin": bitstream,
            f"{self.app}.dtbo": b"overlay",
            "shell.json": b'{"shell_type": "XRT_FLAT", "num_slots": "1"}',
            "design.json": json.dumps(
                {"digest": self.app.rpartition("-")[2], "config": self.config.as_dict()}
            ).encode(),
        }
        for name, data in files.items():
            self.file(f"{folder}/{name}", data)
        files[f"{self.app}.bit.bin"] = bitstream if build is None else build
        sums = "".join(
            f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()
        )
        self.file(f"{folder}/SHA256SUMS", sums)
        return self.path(folder)

    def _tree(self) -> None:
        memory = self.file(zynq.MEMORY, b"")
        with memory.open("r+b") as file:
            file.truncate(1 << 32)  # sparse
        self.file("/dev/uio4", bytes(registers.WINDOW_BYTES))
        self.file("/sys/class/uio/uio4/name", "kria_llm\n")
        self.file("/sys/class/uio/uio0/name", "axi-pmon\n")
        self.file("/dev/udmabuf0", bytes(REGION))
        buffer = "/sys/class/u-dma-buf/udmabuf0"
        self.file(f"{buffer}/size", f"{REGION}\n")
        self.file(f"{buffer}/phys_addr", f"{self.base:#018x}\n")
        for name in ("sync_for_device", "sync_for_cpu"):
            self.file(f"{buffer}/{name}", "0\n")
        self.file(STATE, "operating\n")
        self.file("/proc/meminfo", "MemTotal: 4025000 kB\nMemAvailable: 3100000 kB\n"
                  "CmaTotal: 1024000 kB\nCmaFree: 900000 kB\n")  # fmt: skip
        self.file("/proc/modules", "u_dma_buf 40960 0 - Live\nuio_pdrv_genirq 20480 0 - Live\n")
        self.file("/proc/cmdline", "earlycon cma=1000M root=/dev/mmcblk1p2\n")
        self.file("/proc/device-tree/model", "ZynqMP SMK-K26 Rev1/B/A\0")
        for core in range(4):
            self.file(f"/sys/devices/system/cpu/cpu{core}/cpuidle/state1/disable", "1\n")
        self.file("/sys/class/hwmon/hwmon0/name", "ina260_u14\n")
        self.file("/sys/class/hwmon/hwmon0/power1_input", "4870000\n")
        self.firmware()

    # What the driver does

    def map(self, name: str, size: int, offset: int = 0, cached: bool = False) -> Window:
        window = super().map(name, size, offset, cached)
        if name.startswith("/dev/uio"):
            hooked = Registers(window.memory, window.start, window.size)
            hooked.board = self
            return hooked
        if name == zynq.MEMORY and offset in self.stuck:
            window.write = lambda offset, value: None  # type: ignore[method-assign]
        return window

    def read(self, name: str | int) -> Any:
        """A file's text, or (an offset) a register as the design answers it."""
        if isinstance(name, str):
            return super().read(name)
        if self.register_bits == 128 and name % 16:
            return 0
        if name == registers.OFFSETS["cycles_low"]:
            return int(time.monotonic() * self.clock_mhz * 1e6) & 0xFFFFFFFF
        if name == registers.OFFSETS["status"] and hasattr(self.device, "step"):
            self.device.step(500)
        return self.device.read_register(name)

    def attribute(self, name: str) -> Attribute:
        plain = super().attribute(name)
        kind = name.rpartition("/")[2]
        if kind.startswith("sync_for_"):
            kept = plain.write

            def write(text: str) -> None:
                kept(text)
                word = int(text, 0)
                assert word & 1
                offset, size = word >> 32, word & 0xFFFFFFF0
                self.synced.append((kind, offset, size))
                self._synchronise(kind, offset, size)

            plain.write = write  # type: ignore[method-assign]
        return plain

    def _synchronise(self, attribute: str, offset: int, size: int) -> None:
        with self.path("/dev/udmabuf0").open("r+b") as file:
            file.seek(offset)
            if attribute == "sync_for_device":
                data = np.frombuffer(file.read(size), np.uint8)
                self.device.memory[offset : offset + size] = data
                if hasattr(self.device, "flush"):
                    self._tell(offset, size)
            else:
                file.write(self.device.memory[offset : offset + size].tobytes())

    def _tell(self, offset: int, size: int) -> None:
        """The golden device keeps decoded weights until their bytes may have changed."""
        from host.device.transport import Buffer

        array = self.device.memory[offset : offset + size]
        self.device.flush(Buffer(self.base + offset, array))

    def run(self, *command: str) -> tuple[int, str]:
        self.calls.append(command)
        return self.programs.get(command[0], (127, f"{command[0]} is not installed"))
