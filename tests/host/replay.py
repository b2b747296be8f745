"""Kernel calls on a processor that is only emulated here: built, written down, run, compared."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from host.kernels import address
from tests.host.kernel_case import Call

KERNELS = Path(__file__).parents[2] / "host" / "kernels"
DRIVER = Path(__file__).with_name("replay.c")
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
REMEDY = (
    "run `make setup`, or `apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user`"
)
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-fno-math-errno",
    "-march=armv8-a",
    "-mtune=cortex-a53",
    "-static",
]
"""Baseline Armv8, scheduled for the KV260's cores. Static: the emulator needs no libraries."""


def build(folder: Path) -> Path:
    """The driver with all kernels, for aarch64."""
    for tool in (COMPILER, EMULATOR):
        assert shutil.which(tool), f"{tool} is missing: {REMEDY}"
    program = folder / "replay"
    sources = [*sorted(map(str, KERNELS.glob("*.c"))), str(DRIVER)]
    command = [COMPILER, *FLAGS, f"-I{KERNELS}", "-pthread", *sources, "-lm", "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


def replay(program: Path, folder: Path, calls: list[Call]) -> list[tuple[int, list[bytes]]]:
    """Runs calls on an emulated Cortex-A53; each one's result and its buffers afterwards."""
    asked, answered = folder / "calls", folder / "answers"
    asked.write_bytes(b"".join(written(call) for call in calls))
    command = [EMULATOR, "-cpu", "cortex-a53", str(program), str(asked), str(answered)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    data, found = answered.read_bytes(), []
    for call in calls:
        result, data = int.from_bytes(data[:8], "little", signed=True), data[8:]
        parts = []
        for buffer in call.buffers:
            size = _bytes(buffer).nbytes
            parts.append(data[:size])
            data = data[size:]
        found.append((result, parts))
    assert not data
    return found


def after(call: Call) -> list[bytes]:
    """The buffers as they are here, pointers as zeros."""
    images = [_bytes(buffer).copy() for buffer in call.buffers]
    for buffer, at, _, _ in _pointers(call):
        images[buffer][at : at + 8] = 0
    return [image.tobytes() for image in images]


def written(call: Call) -> bytes:
    """A call as ``replay.c`` reads it."""
    pointers = _pointers(call)
    counts = (len(call.arguments), len(call.buffers), len(pointers))
    out = [call.name.encode().ljust(16, b"\0"), struct.pack("<3q", *counts)]
    for value in call.arguments:
        place = (0, value, 0) if isinstance(value, int) else (1, *_find(call, address(value)))
        out.append(struct.pack("<3q", *place))
    for buffer in call.buffers:
        image = _bytes(buffer)
        out += [struct.pack("<q", image.nbytes), image.tobytes()]
    out += [struct.pack("<4q", *pointer) for pointer in pointers]
    return b"".join(out)


def _pointers(call: Call) -> list[tuple[int, int, int, int]]:
    """Every pointer in the call's structures: (in buffer, at offset, to buffer, at offset)."""
    found = []
    for index, buffer in enumerate(call.buffers):
        if isinstance(buffer, np.ndarray):
            continue
        kind = buffer._type_ if isinstance(buffer, ctypes.Array) else type(buffer)
        many = len(buffer) if isinstance(buffer, ctypes.Array) else 1
        fields = [name for name, type_ in kind._fields_ if type_ is ctypes.c_void_p]
        image = _bytes(buffer)
        for start in range(0, many * ctypes.sizeof(kind), ctypes.sizeof(kind)):
            for name in fields:
                at = start + getattr(kind, name).offset
                pointer = int(image[at : at + 8].view(np.uint64)[0])
                if pointer:
                    found.append((index, at, *_find(call, pointer)))
    return found


def _find(call: Call, pointer: int | None) -> tuple[int, int]:
    """The buffer that holds an address, and where in it."""
    for index, buffer in enumerate(call.buffers):
        start, size = address(buffer) or 0, max(1, _bytes(buffer).nbytes)
        if pointer is not None and start <= pointer < start + size:
            return index, pointer - start
    raise AssertionError(f"{call.name}: no buffer holds {pointer}")


def _bytes(buffer: Any) -> np.ndarray:
    """The bytes of an array or a structure, a view."""
    if isinstance(buffer, np.ndarray):
        return buffer.reshape(-1).view(np.uint8)
    return np.frombuffer(buffer, np.uint8)
