"""In which order a pass's kernels and matmuls run, for one pass or for two under way at a time.

A layer is four matmuls, each behind the kernel that makes its activations. Of two passes, the
engine takes a matmul of one and a matmul of the other in turn; while it works for one, the
processor does the kernels of the other. The runtime follows these events (``lanes.py``), and the
planner adds up their times (``host.plan``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SHIFT = 2
"""Matmuls by which the second pass lags behind: its attention then falls beside the first one's
widest matmuls, and its own beside the first one's attention."""


class Event(NamedTuple):
    """One thing to do."""

    what: str
    """``kernel``, ``start`` (the matmul behind it) or ``finish``."""
    lane: int
    matmul: int
    """Of its pass, from 0 on; a kernel has the number of the matmul that it prepares."""


def events(matmuls: int, lanes: int, shift: int = SHIFT) -> Iterator[Event]:
    """What to do for one pass or two, in order.

    A later position's attention needs the keys of earlier ones: the second pass stays behind.

    Args:
        matmuls: of one pass.
        lanes: passes, 1 or 2; lane 0 has the earlier tokens.
    """
    under_way: Event | None = None
    for lane, matmul in _turns(matmuls, lanes, shift):
        if under_way is not None and under_way.lane == lane:  # its kernel needs those results
            yield under_way._replace(what="finish")
            under_way = None
        yield Event("kernel", lane, matmul)
        if under_way is not None:
            yield under_way._replace(what="finish")
        under_way = Event("start", lane, matmul)
        yield under_way
    if under_way is not None:
        yield under_way._replace(what="finish")


def _turns(matmuls: int, lanes: int, shift: int) -> Iterator[tuple[int, int]]:
    """(lane, matmul) as the engine takes them."""
    if lanes == 1:
        yield from ((0, matmul) for matmul in range(matmuls))
        return
    for turn in range(matmuls + shift):
        if turn < matmuls:
            yield 0, turn
        if turn >= shift:
            yield 1, turn - shift
