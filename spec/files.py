"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from spec.errors import UserError


class OutputError(UserError):
    """A directory that cannot take the generated files."""


@contextmanager
def written_beside(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name ``path`` when the block ends without an exception.

    Until then it has another name in the same folder; an exception (a full disk, Ctrl-C) removes
    it. The errors of a full disk name ``path``.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


def write_files(directory: Path, contents: dict[str, str]) -> list[Path]:
    """Writes files by name into a directory, made where it is missing, each whole or not at all.

    Raises:
        OutputError: ``directory`` is a file or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_whole(directory / name, content)
    except OSError as error:
        raise OutputError(
            f"cannot write to {directory} ({error.strerror}): give a directory that is writable"
        ) from None
    return [directory / name for name in contents]


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes beside ``path`` and renames, so that no reader sees half a file."""
    with written_beside(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
