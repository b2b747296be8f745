"""``hwgen.burst.BurstCutter``: the bursts together are the run, and none crosses 4 KB."""

from __future__ import annotations

import dataclasses

from amaranth import Module, Signal

from spec.config import TINY
from tests.formal.prove import Harness, Mutation

MODULES = ("hwgen.burst",)
CONFIG = dataclasses.replace(TINY, name="formal", burst_beats=4)
MOST = 9
"""Longest run that is looked at: three bursts from any place within the first."""


class BurstHarness(Harness):
    """Runs of up to ``MOST`` beats from any address; their bursts follow each other."""

    def __init__(self, burst) -> None:
        super().__init__()
        self._burst = burst

    def build(self, m: Module) -> None:
        m.submodules.cutter = cutter = self._burst.BurstCutter(CONFIG)
        run, burst = cutter.run, cutter.burst
        for signal in (run.valid, run.payload.as_value(), burst.ready):
            self.chosen(signal)
        size_bits = (CONFIG.port_bytes - 1).bit_length()
        self.assumptions += [
            run.payload.beats <= MOST,
            run.payload.address[:size_bits] == 0,
            run.payload.address[20:] == 0,  # a carry further up is the simulation's
        ]
        expected = Signal(21)  # address of the next burst
        left = Signal(5)  # beats of the run that no burst has covered
        taken, came = burst.valid & burst.ready, run.valid & run.ready
        beats = burst.payload.length + 1
        with m.If(came):
            m.d.sync += [expected.eq(run.payload.address), left.eq(run.payload.beats)]
        with m.If(taken):
            m.d.sync += [
                expected.eq(burst.payload.address + (beats << size_bits)), left.eq(left - beats),
            ]  # fmt: skip
        offset = burst.payload.address[:12]
        self.holds("no burst crosses 4 KB", ~burst.valid | (offset + (beats << size_bits) <= 4096))
        self.holds("no burst is too long", ~burst.valid | (beats <= CONFIG.burst_beats))
        self.holds(
            "a burst begins where the one before ended",
            ~burst.valid | (burst.payload.address == expected),
        )
        self.holds("no beat is asked for twice", ~burst.valid | (beats <= left))
        self.holds("the last burst is marked", ~burst.valid | (cutter.final == (beats == left)))
        self.holds("a run ends when all is asked for", ~cutter.idle | (left == 0))
        self.stays(m, "burst", burst)
        waits = Signal(4)
        m.d.sync += waits.eq(0)
        with m.If(~burst.valid & ~run.ready):
            m.d.sync += waits.eq(waits + 1)
        self.holds("every run ends", waits < 5)


def make(burst) -> BurstHarness:
    """The harness around the ``BurstCutter`` of a module."""
    return BurstHarness(burst)


LENGTH = "length.eq((last_beat | (~final).replicate(burst_bits)) - beat)"

MUTATIONS = {
    "no burst crosses 4 KB": Mutation("hwgen.burst", LENGTH, LENGTH.replace(" - beat", "")),
    "no burst is too long": Mutation(
        "hwgen.burst", "burst_bits = (config.burst_beats - 1)",
        "burst_bits = (2 * config.burst_beats - 1)",
    ),
    "a burst begins where the one before ended": Mutation(
        "hwgen.burst", "page.eq(page + carry)", "page.eq(page)",
    ),
    "no beat is asked for twice": Mutation(
        "hwgen.burst", "reach[:32].eq(reach[:32] - 1)", "reach[:32].eq(reach[:32])",
    ),
    "the last burst is marked": Mutation(
        "hwgen.burst", "self.final.eq(final),", "self.final.eq(~some_further[1:].any()),",
    ),
    "a run ends when all is asked for": Mutation(
        "hwgen.burst", "with m.If(self.final):", "with m.If(1):",
    ),
    "burst stays while it waits": Mutation(
        "hwgen.burst", "with m.If(self.burst.ready):", "with m.If(1):",
    ),
    "every run ends": Mutation(
        "hwgen.burst", 'm.next = "LENGTH"', 'm.next = "SETTLE"',
    ),
}  # fmt: skip
