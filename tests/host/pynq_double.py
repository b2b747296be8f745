"""What this project uses of PYNQ 3.1.2, for environments without it: same names, same arguments.

PYNQ pins NumPy below 2 and cannot live beside the rest. ``test_transport_pynq.py`` runs against
this double here and, in its slow test, against the real package in an environment of its own,
which is what shows that the two agree.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np


class PynqBuffer(np.ndarray):
    """``pynq.buffer.PynqBuffer``."""

    device: Any = None  # NumPy 2 has a read-only attribute of this name; PYNQ's own needs NumPy 1

    def __new__(cls, *args, device=None, device_address=0, bo=0, coherent=False, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        self.device_address, self.coherent, self.bo = device_address, coherent, bo
        self.device, self.offset = device, 0
        return self

    def __array_finalize__(self, obj):
        if isinstance(obj, PynqBuffer) and obj.coherent is not None:
            offset = self.virtual_address - obj.virtual_address
            self.coherent, self.bo, self.device = obj.coherent, obj.bo, obj.device
            self.device_address = obj.device_address + offset
            self.offset = obj.offset + offset
        else:
            self.device_address = self.coherent = None

    @property
    def virtual_address(self):
        return self.__array_interface__["data"][0]

    def freebuffer(self):
        pass

    def flush(self):
        if not self.coherent:
            self.device.flush(self.bo, self.offset, self.virtual_address, self.nbytes)

    def invalidate(self):
        if not self.coherent:
            self.device.invalidate(self.bo, self.offset, self.virtual_address, self.nbytes)


class Device:
    """``pynq.Device``."""

    active_device: Any = None

    def __init__(self, tag: str, warn: bool = False):
        self.tag = tag

    def set_bitfile_name(self, bitfile_name: str) -> None:
        self.bitfile_name = bitfile_name
        self.parser = self.get_bitfile_metadata(bitfile_name)


class MMIO:
    """``pynq.MMIO`` on a device with the capability REGISTER_RW."""

    def __init__(self, base_addr, length=4, device=None):
        assert device.capabilities["REGISTER_RW"]
        self.base_addr, self.length, self.device = base_addr, length, device

    def read(self, offset=0, length=4):
        assert offset % 4 == 0 and offset < self.length
        return int.from_bytes(
            bytes(self.device.read_registers(self.base_addr + offset, 4)), "little"
        )

    def write(self, offset, data):
        assert type(data) is int and offset % 4 == 0 and offset < self.length
        self.device.write_registers(self.base_addr + offset, data.to_bytes(4, "little"))


class Bitstream:
    """``pynq.Bitstream``."""

    def __init__(self, bitfile_name, dtbo=None, partial=False, device=None):
        if not Path(bitfile_name).is_file():
            raise OSError(f"Bitstream file {bitfile_name} does not exist.")
        self.bitfile_name, self.device, self.partial = bitfile_name, device, partial

    def download(self, parser=None):
        self.device.download(self, parser)


class Overlay(Bitstream):
    """``pynq.Overlay``."""

    def __init__(self, bitfile_name, dtbo=None, download=True, ignore_version=False, device=None):
        super().__init__(bitfile_name, dtbo, partial=False, device=device)
        device.set_bitfile_name(self.bitfile_name)
        if download:
            self.download(device.parser)


def allocate(shape, dtype="u4", target=None, **kwargs):
    return target.allocate(shape, dtype, **kwargs)


def module() -> types.ModuleType:
    """The double as a module named ``pynq``."""
    made = types.ModuleType("pynq")
    for item in (Device, MMIO, Bitstream, Overlay, PynqBuffer, allocate):
        setattr(made, item.__name__, item)
    made.buffer = types.SimpleNamespace(PynqBuffer=PynqBuffer)  # type: ignore[attr-defined]
    return made
