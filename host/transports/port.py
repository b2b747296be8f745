"""A board's registers and caches as the compiled runner reaches them.

Mapped registers are read and written by the runner itself, and it empties the caches with the
instructions that Linux leaves to user space. What is mapped nowhere (a device of PYNQ's that is
read by calls, a board made of files) goes by way of the transport's own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from host.device.transport import Buffer
from host.kernels.runner import READ, SYNCHRONISE, WRITE, Port, synchronises
from spec import registers

PATIENCE = 0.1
"""Seconds that the runner waits for a list; Python waits for the rest, where Ctrl-C ends it."""


class Board(Protocol):
    """What this needs of ``host.transports.board.BoardDevice``."""

    def read_register(self, offset: int) -> int: ...
    def write_register(self, offset: int, value: int) -> None: ...
    def flush(self, buffer: Buffer) -> None: ...
    def invalidate(self, buffer: Buffer) -> None: ...
    def buffer_at(self, pointer: int, size: int) -> Buffer: ...


def board_port(board: Board, window: int | None) -> Port:
    """The port of a board.

    Args:
        window: where its registers are mapped; None: nowhere.
    """
    port = Port(
        window=window, patience=PATIENCE, list_low=registers.OFFSETS["list_address_low"],
        list_high=registers.OFFSETS["list_address_high"], doorbell=registers.OFFSETS["doorbell"],
        status=registers.OFFSETS["status"], busy=registers.encode("status", busy=1),
        error=registers.encode("status", error=1),
    )  # fmt: skip
    port.counters[:] = [registers.OFFSETS[name] for name in registers.COUNTERS]
    if window is None:
        port.read = READ(_failing(board.read_register, port))
        port.write = WRITE(_failing(board.write_register, port))
    if window is None or not synchronises():
        port.synchronise = SYNCHRONISE(_failing(_Synchronise(board), port))
    return port


class _Synchronise:
    """Flushes or invalidates memory by its pointer."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __call__(self, to_engine: int, pointer: int, size: int) -> None:
        buffer = self._board.buffer_at(pointer, size)
        (self._board.flush if to_engine else self._board.invalidate)(buffer)


def _failing(function: Callable[..., int | None], port: Port) -> Callable[..., int]:
    """A function that answers -1 where the other raises: no exception passes through compiled code.

    The runner then leaves the step to Python, where the same is tried again and the reason told.
    Ctrl-C is kept for ``host.forward.program``.
    """

    def call(*arguments: Any) -> int:
        try:
            return function(*arguments) or 0
        except Exception:
            return -1
        except BaseException as interrupt:
            port.interrupt = interrupt
            return -1

    return call
