"""Steps of a pass as one program for the compiled runner: a token is one call from Python.

Where the runner stops, the step is done here in Python, which knows how to tell what is wrong; the
runner then goes on behind it. On a device whose registers only Python reaches it stops at every
doorbell.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from host.device.launcher import Launcher
from host.forward.buffers import check_finite
from host.kernels import FINE, address
from host.kernels.runner import DONE, STEPS, Runner, Step, run

HEAD_LANE = 2
"""Of the runner: how many tokens get logits."""


@dataclass(frozen=True)
class Action:
    """One step.

    Args:
        kind: one of ``host.kernels.runner.STEPS``.
        lane: whose tokens.
        call: the step's structure, or launches for 1..M tokens; None: Python alone can do it.
        by_hand: the same in Python, for a number of tokens.
        columns: of the activations that it makes.
    """

    kind: str
    lane: int
    call: Any
    by_hand: Callable[[int], None] | None = None
    columns: int = 0


class Program:
    """Actions in the order in which they run.

    Args:
        launcher: what runs command lists; None: there are none.
    """

    def __init__(self, actions: Sequence[Action], launcher: Launcher | None) -> None:
        self._actions, self._launcher = actions, launcher
        self._steps = (Step * len(actions))(
            *(Step(STEPS.index(one.kind), one.lane, _address(one.call)) for one in actions)
        )
        self._call = Runner(count=len(actions))
        self._call.hold(steps=self._steps, port=None if launcher is None else launcher.port)
        self._pointer, self._run = ctypes.byref(self._call), run()

    def set(self, lane: int, tokens: int, start: int = 0, first: int = 0, count: int = 0) -> None:
        """Gives a lane its tokens.

        Args:
            start: position of the first one.
            first, count: of them, those that the last norm takes.
        """
        one = self._call.lanes[lane]
        one.tokens, one.start, one.first, one.count = tokens, start, first, count

    def __call__(self) -> None:
        """Runs everything.

        Raises:
            ActivationError: a value that is not finite.
            DeviceError: as ``host.device.launcher.Launcher.ring``.
        """
        launcher = self._launcher
        try:
            if launcher is not None:
                launcher.settle()
            index = self._go(0)
            while index != DONE:
                index = self._go(self._by_hand(index))
        except BaseException:  # Ctrl-C too
            if launcher is not None:
                launcher.abandon()
            raise

    def _go(self, index: int) -> int:
        """Runs from a step on; the step to do by hand, or ``DONE``."""
        stopped = self._run(self._pointer, index)
        if self._launcher is not None:
            self._launcher.fold()
            port = self._launcher.port
            if port is not None and port.interrupt is not None:
                interrupt, port.interrupt = port.interrupt, None
                raise interrupt
        return stopped

    def _by_hand(self, index: int) -> int:
        """Does a step; the next one to do."""
        action = self._actions[index]
        if self._call.wrong != FINE:
            check_finite(self._call.wrong, action.columns)
        assert action.by_hand is not None
        tokens = self._call.lanes[action.lane].tokens
        action.by_hand(tokens)
        following = self._actions[index + 1 : index + 2]
        if action.kind == "start" and [one.kind for one in following] == ["finish"]:
            self._by_hand(index + 1)  # started in Python, so to be finished in Python
            return index + 2
        return index + 1


def _address(call: Any) -> int | None:
    return None if call is None else address(call)


def launches(lane: Any, tokens_of: int) -> tuple[Action, Action]:
    """Start and finish of a matmul.

    Args:
        lane: ``host.forward.linear.Lane``.
        tokens_of: the runner's lane that says for how many tokens.
    """
    return (
        Action("start", tokens_of, lane.launches, lane.start),
        Action("finish", tokens_of, lane.launches, lane.finish),
    )
