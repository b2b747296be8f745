"""``hwgen.reader.Reader``: an AXI read master that never asks for more than it can take."""

from __future__ import annotations

import dataclasses

from amaranth import Array, Module, Mux, Signal

from spec.config import TINY, Config
from tests.formal.prove import Harness, Mutation

MODULES = ("hwgen.queue", "hwgen.burst", "hwgen.reader")
SHORT = dataclasses.replace(
    TINY, name="short", ports=4, port_bits=32, burst_beats=2, outstanding=2, fifo_beats=16
)
LONG = dataclasses.replace(SHORT, name="long", burst_beats=16)
"""One burst fills the FIFO, so room runs out at once."""

SIZE_BITS = 2
NUMBER_BITS = 6


class ReaderHarness(Harness):
    """A memory that answers when it likes, a cycle after the request at the earliest."""

    def __init__(self, reader, config: Config) -> None:
        super().__init__()
        self._reader, self._config = reader, config

    def build(self, m: Module) -> None:
        m.submodules.reader = unit = self._reader.Reader(self._config)
        run, ar, r = unit.run, unit.ar, unit.r
        for signal in (run.valid, run.payload.as_value(), ar.ready, r.valid, unit.beat.ready,
                       unit.stop, r.payload.as_value()):  # fmt: skip
            self.chosen(signal)
        lengths = Array(Signal(9, name=f"length{i}") for i in range(4))  # bursts in the memory
        asked, answered = Signal(2), Signal(2)  # their numbers, modulo 4
        position = Signal(9)
        there = (asked - answered)[:2]
        took, came = ar.valid & ar.ready, r.valid & (r.payload.id == unit.epoch)
        self.assumptions += [
            run.payload.beats <= 40, run.payload.address[:SIZE_BITS] == 0,
            run.payload.address[20:] == 0, r.payload.id == 0,
            ~r.valid | (there != 0), r.payload.last == (position == lengths[answered]),
        ]  # fmt: skip
        with m.If(took):
            m.d.sync += [asked.eq(asked + 1), lengths[asked].eq(ar.payload.length)]
        with m.If(came):
            m.d.sync += position.eq(position + 1)
            with m.If(r.payload.last):
                m.d.sync += [position.eq(0), answered.eq(answered + 1)]
        number = self.constant(m, NUMBER_BITS, "number")
        received, left = Signal(NUMBER_BITS), Signal(NUMBER_BITS)
        wanted, inside = Signal(32), Signal()
        requested = Signal(8)  # beats, less those that have left
        popped = unit.beat.valid & unit.beat.ready
        m.d.sync += [received.eq(received + came), left.eq(left + popped)]
        m.d.sync += requested.eq(requested + Mux(took, ar.payload.length + 1, 0) - popped)
        with m.If(popped & (left == number)):
            m.d.sync += inside.eq(0)
        with m.If(came & (received == number)):
            m.d.sync += [wanted.eq(r.payload.data), inside.eq(1)]
        offset, size = ar.payload.address[:12], (ar.payload.length + 1) << SIZE_BITS
        self.holds("no burst crosses 4 KB", ~ar.valid | (offset + size <= 4096))
        self.holds("no more bursts than may be outstanding", there <= self._config.outstanding)
        self.holds("no more is asked for than fits", requested <= self._config.fifo_beats)
        self.holds(
            "what leaves is what came in its place",
            ~(unit.beat.valid & (left == number) & inside) | (unit.beat.payload == wanted),
        )
        self.holds("nothing is repeated", ~unit.beat.valid | (received != left))
        self.holds("right answers are no misfits", ~unit.misfit)
        quiet, stopped = Signal(3), Signal(3)
        waited = Signal()
        m.d.sync += [
            quiet.eq(Mux(took | r.valid | ar.valid, 0, Mux(quiet.all(), quiet, quiet + 1))),
            stopped.eq(Mux(unit.stop, Mux(stopped.all(), stopped, stopped + 1), 0)),
            waited.eq(ar.valid & ~ar.ready),
        ]
        self.holds(
            "owing says whether data are missing", (quiet < 5) | (unit.owing == (there != 0))
        )
        self.holds("a stopped reader asks for nothing", (stopped < 3) | ~ar.valid | waited)
        self.stays(m, "request", ar)
        self.stays(m, "beat", unit.beat)


def make(queue, burst, reader) -> ReaderHarness:
    """The harness around the ``Reader`` of a module, with short bursts."""
    return ReaderHarness(reader, SHORT)


def make_long(queue, burst, reader) -> ReaderHarness:
    """The same with bursts as long as the FIFO is deep."""
    return ReaderHarness(reader, LONG)


OTHERS = {"no more is asked for than fits": make_long}
"""Properties that need another configuration to be seen to fail."""


def _change(old: str, new: str) -> Mutation:
    return Mutation("hwgen.reader", old, new)


MUTATIONS = {
    "no burst crosses 4 KB": Mutation(
        "hwgen.burst", "length.eq((last_beat | (~final).replicate(burst_bits)) - beat)",
        "length.eq(last_beat | (~final).replicate(burst_bits))",
    ),
    "no more bursts than may be outstanding": _change(
        " & (in_flight != config.outstanding) & ~self.stop", " & ~self.stop",
    ),
    "no more is asked for than fits": _change("room[burst_bits:].any() & ", ""),
    "what leaves is what came in its place": Mutation(
        "hwgen.queue", "m.d.sync += read.addr.eq(read.addr + 1)", "m.d.sync += read.addr.eq(0)",
    ),
    "nothing is repeated": Mutation(
        "hwgen.queue", "some.eq(push | (some & (~fetch | several)))", "some.eq(push | some)",
    ),
    "right answers are no misfits": _change("position.eq(Mux(marked, 0,", "position.eq(Mux(0, 0,"),
    "owing says whether data are missing": _change(
        "change.eq(spent + (returned & owed[-1]))", "change.eq(spent)",
    ),
    "a stopped reader asks for nothing": _change(" & ~self.stop", ""),
    "request stays while it waits": _change(
        "issue.eq(cutter.burst.valid & allowed & ~self.ar.valid)",
        "issue.eq(cutter.burst.valid & allowed)",
    ),
    "beat stays while it waits": Mutation(
        "hwgen.queue", "fetch.eq(some & (~self.o.valid | self.o.ready))", "fetch.eq(some)",
    ),
}  # fmt: skip
