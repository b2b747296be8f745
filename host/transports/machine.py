"""The machine's files as transports and doctor see them, below a root that tests may choose."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import subprocess
from pathlib import Path

import numpy as np

from spec.errors import ToolError

MAX_TEXT = 1 << 20
"""Most bytes that are read of a file or a program's output."""

PAGE = mmap.PAGESIZE


class AccessError(ToolError):
    """A file or program of the machine that cannot be used."""


class Window:
    """Mapped registers or memory.

    Registers are read and written through a memoryview of words, which copies each as one: one
    transfer of 32 bits. ``struct`` with a byte order would go byte by byte, four transfers, and a
    register ignores a write of less than a word.
    """

    def __init__(self, memory: mmap.mmap, start: int, size: int) -> None:
        self.memory, self.start, self.size = memory, start, size
        self._words = memoryview(memory)[start : start + size // 4 * 4].cast("I")

    @property
    def address(self) -> int | None:
        """Where this process has it mapped."""
        return np.frombuffer(self._words, np.uint32).ctypes.data

    def read(self, offset: int) -> int:
        """The 32 bits at an offset, a multiple of 4."""
        return self._words[_word(offset)]

    def write(self, offset: int, value: int) -> None:
        """Writes 32 bits."""
        self._words[_word(offset)] = value & 0xFFFFFFFF

    def close(self) -> None:
        """Unmaps, once no array refers to the memory."""
        self._words.release()
        # Where an array still looks at it, the mapping goes with the array.
        with contextlib.suppress(BufferError):
            self.memory.close()


def _word(offset: int) -> int:
    """Number of the word at a byte offset."""
    if offset < 0 or offset & 3:
        raise ValueError(f"no word at offset {offset:#x}")
    return offset >> 2


class Attribute:
    """A file open for writing. A buffer is synchronised twice a matmul: opening it each time would
    take longer than the synchronisation."""

    def __init__(self, handle: int, name: str) -> None:
        self._handle, self.name = handle, name

    def write(self, text: str) -> None:
        """Writes from the file's beginning, as one write of the kernel's.

        Raises:
            AccessError: the kernel refuses.
        """
        try:
            os.pwrite(self._handle, text.encode(), 0)
        except OSError as error:
            raise _not_written(self.name, error) from None

    def close(self) -> None:
        """Closes the file."""
        os.close(self._handle)


def _not_written(name: str, error: OSError) -> AccessError:
    return AccessError(f"{name} cannot be written ({error.strerror}): run as root")


class Machine:
    """Files and programs of one machine.

    Args:
        root: the directory that stands for ``/``.
    """

    def __init__(self, root: str | Path = "/") -> None:
        self.root = Path(root)

    def path(self, name: str) -> Path:
        """Where a file with this absolute name is."""
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        return self.path(name).exists()

    def names(self, pattern: str) -> list[str]:
        """Absolute names that match, sorted."""
        found = self.root.glob(pattern.lstrip("/"))
        return sorted(f"/{path.relative_to(self.root)}" for path in found)

    def read(self, name: str) -> str | None:
        """A small text file, stripped; None when it is not there or may not be read."""
        try:
            with self.path(name).open("rb") as file:
                return file.read(MAX_TEXT).decode(errors="replace").strip()
        except OSError:
            return None

    def attribute(self, name: str) -> Attribute:
        """A file that exists, such as an attribute in ``/sys``, kept open for writing.

        Raises:
            AccessError: it is not there or may not be written.
        """
        try:
            return Attribute(os.open(self.path(name), os.O_WRONLY), name)
        except OSError as error:
            raise _not_written(name, error) from None

    def write(self, name: str, text: str) -> None:
        """Writes an attribute once.

        Raises:
            AccessError: it cannot be written.
        """
        attribute = self.attribute(name)
        try:
            attribute.write(text)
        finally:
            attribute.close()

    def map(self, name: str, size: int, offset: int = 0, cached: bool = False) -> Window:
        """Maps ``size`` bytes of a file, for reading and writing.

        Args:
            cached: memory rather than registers: the processor's caches may keep it.

        Raises:
            AccessError: it is not there or may not be mapped.
        """
        start = offset % PAGE
        try:
            handle = os.open(self.path(name), os.O_RDWR | (0 if cached else os.O_SYNC))
            try:
                memory = mmap.mmap(handle, start + size, offset=offset - start)
            finally:
                os.close(handle)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise AccessError(
                f"{name} cannot be mapped at {offset:#x} ({reason}): run as root"
            ) from None
        return Window(memory, start, size)

    def lock(self, name: str) -> int:
        """Takes a file for this process until the handle is closed.

        Raises:
            AccessError: another process has it, or it is not there.
        """
        try:
            handle = os.open(self.path(name), os.O_RDWR)
        except OSError as error:
            raise AccessError(f"{name} cannot be opened ({error.strerror}): run as root") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise AccessError(
                f"another process uses {name}: end it, or wait until it is done"
            ) from None
        return handle

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and output of a program; 127 when it is not installed."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=60, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            return 127, f"{command[0]} is not installed"
        except subprocess.TimeoutExpired:
            return 124, f"{command[0]} did not end in 60 s"
        return done.returncode, done.stdout[-MAX_TEXT:].decode(errors="replace")
