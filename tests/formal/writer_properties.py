"""``hwgen.writer.Writer``: an AXI write master that requests only what it holds."""

from __future__ import annotations

import dataclasses

from amaranth import Array, Module, Mux, Signal

from spec.config import TINY
from tests.formal.prove import Harness, Mutation

MODULES = ("hwgen.queue", "hwgen.burst", "hwgen.writer")
CONFIG = dataclasses.replace(TINY, name="formal", ports=4, port_bits=32, burst_beats=2)
ACKNOWLEDGED = 1
"""Bursts that may wait for their acknowledgement here, so that the limit is reached soon."""

SIZE_BITS = 2
NUMBER_BITS = 4


class WriterHarness(Harness):
    """A memory that takes when it likes and acknowledges at the earliest a cycle after the data."""

    def __init__(self, queue, burst, writer) -> None:
        super().__init__()
        self._writer = writer

    def build(self, m: Module) -> None:
        # A class of its own: the design's is what other tests emit.
        few = type("Writer", (self._writer.Writer,), {"ACKNOWLEDGED": ACKNOWLEDGED})
        m.submodules.writer = unit = few(CONFIG)
        run, aw, w, b = unit.run, unit.aw, unit.w, unit.b
        for signal in (run.valid, run.payload.as_value(), unit.beat.valid, unit.beat.payload,
                       unit.stop, aw.ready, w.ready, b.valid, b.payload.as_value()):  # fmt: skip
            self.chosen(signal)
        took, wrote = aw.valid & aw.ready, w.valid & w.ready
        open_beats = Signal(9)  # of the burst that is being written
        whole, acknowledged, taken = Signal(4), Signal(4), Signal(4)  # bursts
        waiting = (whole - acknowledged)[:4]
        self.assumptions += [
            run.payload.beats <= 5, run.payload.address[:SIZE_BITS] == 0,
            run.payload.address[20:] == 0, b.payload.id == 0, ~b.valid | (waiting != 0),
        ]  # fmt: skip
        m.d.sync += [
            open_beats.eq(open_beats + Mux(took, aw.payload.length + 1, 0) - wrote),
            taken.eq(taken + took),
            whole.eq(whole + (wrote & (open_beats == 1))),
            acknowledged.eq(acknowledged + b.valid),
        ]
        number = self.constant(m, NUMBER_BITS, "number")
        came, left = Signal(NUMBER_BITS), Signal(NUMBER_BITS)
        wanted, inside = Signal(32), Signal()
        push = unit.beat.valid & unit.beat.ready
        m.d.sync += [came.eq(came + push), left.eq(left + wrote)]
        with m.If(wrote & (left == number)):
            m.d.sync += inside.eq(0)
        with m.If(push & (came == number)):
            m.d.sync += [wanted.eq(unit.beat.payload), inside.eq(1)]
        runs = Array(Signal(3, name=f"beats{i}") for i in range(8))
        begun, ended, covered = Signal(3), Signal(3), Signal(4)
        last_burst = Signal(4)
        with m.If(run.valid & run.ready & (run.payload.beats != 0)):
            m.d.sync += [begun.eq(begun + 1), runs[begun].eq(run.payload.beats)]
        m.d.sync += ended.eq(ended + unit.completed)
        m.d.comb += last_burst.eq(covered + aw.payload.length + 1)
        finished = Signal(3)  # runs whose every burst has been requested
        with m.If(took):
            m.d.sync += covered.eq(Mux(last_burst == runs[finished], 0, last_burst))
            m.d.sync += finished.eq(finished + (last_burst == runs[finished]))
        offset, size = aw.payload.address[:12], (aw.payload.length + 1) << SIZE_BITS
        self.holds("no burst crosses 4 KB", ~aw.valid | (offset + size <= 4096))
        self.holds(
            "no more bursts than may be unacknowledged",
            (taken - acknowledged)[:4] <= ACKNOWLEDGED,
        )
        self.holds("data exactly while a burst is open", w.valid == (open_beats != 0))
        self.holds("WLAST is on the last beat", ~w.valid | (w.payload.last == (open_beats == 1)))
        self.holds(
            "what is written is what came in its place",
            ~(w.valid & (left == number) & inside) | (w.payload.data == wanted),
        )
        self.holds("a run is completed once", (finished - ended)[:3] <= (begun - ended)[:3])
        self.holds("right answers are no misfits", ~unit.misfit)
        past = Signal()  # idle is a cycle late
        m.d.sync += past.eq((waiting != 0) | (open_beats != 0) | aw.valid)
        self.holds("idle means that nothing is owed", ~unit.idle | ~past)
        stopped, waited = Signal(3), Signal()
        m.d.sync += [
            stopped.eq(Mux(unit.stop, Mux(stopped.all(), stopped, stopped + 1), 0)),
            waited.eq(aw.valid & ~aw.ready),
        ]
        self.holds("a stopped writer requests nothing", (stopped < 3) | ~aw.valid | waited)
        self.stays(m, "request", aw)
        self.stays(m, "data", w)


def make(queue, burst, writer) -> WriterHarness:
    """The harness around the ``Writer`` of a module."""
    return WriterHarness(queue, burst, writer)


def _change(old: str, new: str) -> Mutation:
    return Mutation("hwgen.writer", old, new)


MUTATIONS = {
    "no burst crosses 4 KB": Mutation(
        "hwgen.burst", "length.eq((last_beat | (~final).replicate(burst_bits)) - beat)",
        "length.eq(last_beat | (~final).replicate(burst_bits))",
    ),
    "no more bursts than may be unacknowledged": _change(
        "& (in_flight != self.ACKNOWLEDGED)", "& (in_flight != 3)",
    ),
    "data exactly while a burst is open": _change(
        "beats.level > cutter", "beats.level + 1 > cutter",
    ),
    "WLAST is on the last beat": _change(
        "self.w.payload.last.eq(left == 0)", "self.w.payload.last.eq(left == 1)",
    ),
    "what is written is what came in its place": Mutation(
        "hwgen.queue", "m.d.sync += read.addr.eq(read.addr + 1)", "m.d.sync += read.addr.eq(0)",
    ),
    "a run is completed once": _change(
        "self.completed.eq(acknowledged & flying.o.payload.final)",
        "self.completed.eq(acknowledged)",
    ),
    "right answers are no misfits": _change("came & ~flying.o.valid", "came & flying.o.valid"),
    "idle means that nothing is owed": _change("& (in_flight == 0) & cutter.idle", "& cutter.idle"),
    "a stopped writer requests nothing": _change("& ~self.stop", "& 1"),
    "request stays while it waits": _change(
        "busy.eq(1), self.aw.valid.eq(1)]", "busy.eq(1), self.aw.valid.eq(~self.stop)]",
    ),
    "data stays while it waits": Mutation(
        "hwgen.queue", "fetch.eq(some & (~self.o.valid | self.o.ready))", "fetch.eq(some)",
    ),
}  # fmt: skip
