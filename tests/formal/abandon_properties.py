"""``hwgen.abandon.Abandon``: no handshake is dropped by a reset of the engine."""

from __future__ import annotations

from amaranth import Module, Signal

from tests.formal.prove import Harness, Mutation

MODULES = ("hwgen.abandon",)


class AbandonHarness(Harness):
    """Everything around it is free, save that a stopped master offers nothing new."""

    def __init__(self, abandon) -> None:
        super().__init__()
        self._abandon = abandon

    def build(self, m: Module) -> None:
        m.submodules.abandon = unit = self._abandon.Abandon()
        for signal in (unit.cause, unit.give_up, unit.offering, unit.owing):
            self.chosen(signal)
        before, earlier = (
            {name: Signal(name=f"{name}_{when}")
             for name in ("reset", "epoch", "offering", "owing", "cause")}
            for when in ("before", "earlier")
        )  # fmt: skip
        for name, past in before.items():
            m.d.sync += [past.eq(getattr(unit, name)), earlier[name].eq(past)]
        given_up = Signal()
        stopped = Signal(4)  # cycles of draining
        with m.If(~unit.draining):
            m.d.sync += [stopped.eq(0), given_up.eq(unit.give_up & unit.cause)]
        with m.Else():
            m.d.sync += given_up.eq(given_up | unit.give_up)
            with m.If(~stopped.all()):
                m.d.sync += stopped.eq(stopped + 1)
        self.assumptions.append((stopped < 4) | before["offering"] | ~unit.offering)
        rises = unit.reset & ~before["reset"]
        self.holds("no reset while a handshake is open", ~unit.reset | ~unit.offering)
        self.holds("no reset while answers are missing", ~rises | ~earlier["owing"] | given_up)
        self.holds("no new list before the reset is over", ~unit.reset | unit.draining)
        self.holds("a reset gives another ID", (unit.epoch != before["epoch"]) == rises)
        self.holds("a cause is heeded", ~before["cause"] | unit.draining)


def make(abandon) -> AbandonHarness:
    """The harness around the ``Abandon`` of a module."""
    return AbandonHarness(abandon)


OVER = "over.eq(~self.offering & (~self.owing | given_up))"

MUTATIONS = {
    "no reset while a handshake is open": Mutation(
        "hwgen.abandon", OVER, "over.eq(~self.owing | given_up)",
    ),
    "no reset while answers are missing": Mutation(
        "hwgen.abandon", OVER, "over.eq(~self.offering)",
    ),
    "no new list before the reset is over": Mutation(
        "hwgen.abandon", "self.reset.eq(1), self.epoch",
        "self.reset.eq(1), self.draining.eq(0), self.epoch",
    ),
    "a reset gives another ID": Mutation(
        "hwgen.abandon", "self.epoch.eq(~self.epoch)", "self.epoch.eq(self.epoch)",
    ),
    "a cause is heeded": Mutation(
        "hwgen.abandon", "self.draining.eq(self.cause)",
        "self.draining.eq(self.cause & ~self.owing)",
    ),
}  # fmt: skip
