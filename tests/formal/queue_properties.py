"""``hwgen.queue.Queue``: first in, first out, whatever the pauses."""

from __future__ import annotations

from amaranth import Module, Signal

from tests.formal.prove import Harness, Mutation

MODULES = ("hwgen.queue",)
DEPTH, BITS, NUMBER_BITS = 2, 2, 4


class QueueHarness(Harness):
    """Some element, by its number, is followed through; numbers count modulo 16."""

    def __init__(self, queue) -> None:
        super().__init__()
        self._queue = queue

    def build(self, m: Module) -> None:
        m.submodules.queue = queue = self._queue.Queue(BITS, DEPTH)
        for signal in (queue.i.valid, queue.i.payload, queue.o.ready):
            self.chosen(signal)
        number = self.constant(m, NUMBER_BITS, "number")
        came, left = Signal(NUMBER_BITS), Signal(NUMBER_BITS)
        held = Signal(BITS)
        inside = Signal()
        push, pop = queue.i.valid & queue.i.ready, queue.o.valid & queue.o.ready
        m.d.sync += [came.eq(came + push), left.eq(left + pop)]
        with m.If(pop & (left == number)):
            m.d.sync += inside.eq(0)
        with m.If(push & (came == number)):
            m.d.sync += [held.eq(queue.i.payload), inside.eq(1)]
        count = (came - left)[:NUMBER_BITS]
        self.holds("level counts what is held", queue.level == count)
        self.holds("no more than its capacity", count <= queue.capacity)
        self.holds("at least its depth fits", queue.i.ready | (queue.level >= DEPTH))
        self.holds(
            "what leaves is what came in its place",
            ~(queue.o.valid & (left == number) & inside) | (queue.o.payload == held),
        )
        self.holds("nothing is repeated", ~queue.o.valid | (count != 0))
        self.stays(m, "output", queue.o)
        idle = Signal()  # two cycles ago something was inside that has not left
        m.d.sync += idle.eq((count != 0) & ~pop)
        self.holds("what is inside is offered after a cycle", ~idle | queue.o.valid)


def make(queue) -> QueueHarness:
    """The harness around the ``Queue`` of a module."""
    return QueueHarness(queue)


MUTATIONS = {
    "level counts what is held": Mutation(
        "hwgen.queue", "stepped(self.level, push, self.o.valid & self.o.ready)",
        "stepped(self.level, push, self.o.ready)",
    ),
    "no more than its capacity": Mutation(
        "hwgen.queue", "full.eq(~fetch & (full | (push & nearly)))", "full.eq(0)",
    ),
    "at least its depth fits": Mutation(
        "hwgen.queue", "full.eq(~fetch & (full | (push & nearly)))", "full.eq(push | some)",
    ),
    "what leaves is what came in its place": Mutation(
        "hwgen.queue", "m.d.sync += read.addr.eq(read.addr + 1)", "m.d.sync += read.addr.eq(0)",
    ),
    "nothing is repeated": Mutation(
        "hwgen.queue", "some.eq(push | (some & (~fetch | several)))", "some.eq(push | some)",
    ),
    "output stays while it waits": Mutation(
        "hwgen.queue", "fetch.eq(some & (~self.o.valid | self.o.ready))", "fetch.eq(some)",
    ),
    "what is inside is offered after a cycle": Mutation(
        "hwgen.queue", "some.eq(push | (some & (~fetch | several)))", "some.eq(push)",
    ),
}  # fmt: skip
