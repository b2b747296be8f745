"""Queue: first in, first out, at every mix of pauses; its level and its two cycles of latency."""

from __future__ import annotations

import random

import pytest

from hwgen.queue import Queue
from tests.hwgen.bench import PAUSES, pipeline, simulate, sink, source


@pytest.mark.parametrize("depth", [1, 2, 4, 16, 33])
@pytest.mark.parametrize("seed", range(len(PAUSES)))
def test_all_leave_in_order_and_the_level_is_what_is_held(depth: int, seed: int) -> None:
    idle, backpressure = PAUSES[seed]
    queue = Queue(16, depth)
    chance = random.Random(seed)
    payloads = [chance.getrandbits(16) for _ in range(150)]
    found: list[int] = []
    held, most = 0, 0

    def watch(level: int, came: int, went: int) -> None:
        nonlocal held, most
        assert level == held
        held += came - went
        most = max(most, held)

    watched = (queue.level, queue.i.valid & queue.i.ready, queue.o.valid & queue.o.ready)
    simulate(
        queue, source(queue.i, payloads, seed, idle),
        sink(queue.o, len(payloads), found, seed, backpressure), monitors=[(watch, watched)],
    )  # fmt: skip
    assert found == payloads
    assert depth <= queue.capacity
    assert most <= queue.capacity
    if (idle, backpressure) == (0.0, 0.5):
        assert most == queue.capacity, "the source never filled it"


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_an_element_is_offered_two_cycles_after_it_came(depth: int) -> None:
    queue = Queue(8, depth)
    inputs = [[(queue.i.payload, 9), (queue.i.valid, 1)], [(queue.i.valid, 0)], [], []]
    shown = pipeline(queue, inputs, [queue.o.valid, queue.o.payload])
    assert [valid for valid, _ in shown] == [0, 0, 1, 1]
    assert shown[2][1] == 9
