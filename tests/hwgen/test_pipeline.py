"""Delays: values and flags as they were so many cycles ago, through a reset too."""

from __future__ import annotations

import random

import pytest
from amaranth import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.pipeline import delay
from tests.hwgen.bench import pipeline


class Line(wiring.Component):
    """A delay behind ports, with a reset of its own."""

    def __init__(self, width: int, cycles: int, reset: bool):
        self._cycles, self._reset = cycles, reset
        super().__init__({"i": In(width), "o": Out(width), "clear": In(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.inner = inner = Module()
        m.d.sync += Signal(name="clocked").eq(0)  # a line of no cycles has no register
        inner.d.comb += self.o.eq(delay(inner, self.i, self._cycles, reset=self._reset))
        return ResetInserter(self.clear)(m)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("cycles", [0, 1, 2, 7])
@pytest.mark.parametrize("width", [1, 9])
def test_a_value_arrives_after_its_cycles(width: int, cycles: int, seed: int) -> None:
    chance = random.Random(seed)
    values = [chance.getrandbits(width) for _ in range(40)]
    core = Line(width, cycles, reset=False)
    found = [o for (o,) in pipeline(core, [[(core.i, value)] for value in values], [core.o])]
    assert found == [0] * cycles + values[: len(values) - cycles]


@pytest.mark.parametrize("cycles", [1, 4])
@pytest.mark.parametrize("reset", [False, True])
def test_a_flag_is_forgotten_in_a_reset_and_a_value_is_not(reset: bool, cycles: int) -> None:
    core = Line(1, cycles, reset)
    inputs = [[(core.i, 1)]] * 6 + [[(core.clear, 1)], [(core.clear, 0), (core.i, 0)]]
    inputs += [[]] * cycles
    found = [o for (o,) in pipeline(core, inputs, [core.o])]
    after = found[7 : 7 + cycles]  # what was on its way when the reset came
    assert after == ([0] * cycles if reset else [1] * cycles)
