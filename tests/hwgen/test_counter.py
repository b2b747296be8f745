"""Counter: one more, one less or neither, wrapping at its width, for every state."""

from __future__ import annotations

import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.counter import stepped
from tests.hwgen.bench import pipeline


class Step(wiring.Component):
    """The next value of a counter, a cycle late."""

    def __init__(self, width: int):
        super().__init__({"now": In(width), "up": In(1), "down": In(1), "after": Out(width)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.sync += self.after.eq(stepped(self.now, self.up, self.down))
        return m


@pytest.mark.parametrize("width", [1, 2, 5])
def test_every_state_and_direction(width: int) -> None:
    core = Step(width)
    cases = [(now, up, down) for now in range(1 << width) for up in (0, 1) for down in (0, 1)]
    inputs = [
        list(zip((core.now, core.up, core.down), case, strict=True)) for case in cases
    ]  # fmt: skip
    found = [after for (after,) in pipeline(core, [*inputs, []], [core.after])][1:]
    assert found == [(now + up - down) % (1 << width) for now, up, down in cases]


def test_the_directions_may_be_expressions() -> None:
    value = stepped(Signal(4), Signal(3) == 2, Signal() & Signal())
    assert len(value) == 4
