"""Ends a list in the middle without breaking AXI: no handshake is dropped, no answer mistaken."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

SETTLE = 8
"""Cycles after which what was under way in the masters' registers has reached its flags."""


class Abandon(wiring.Component):
    """Stops new bursts, waits until those under way have ended, then resets the engine.

    What is offered (a request, write data) must be taken, whatever happens: AXI lets nobody
    withdraw it. Answers are waited for until the host gives them up; then, as after every reset,
    the ID of all further bursts is another one, so that a late answer is known for what it is. One
    bit of ID tells the present bursts from those before; answers that stay away for two such
    resets are taken for new ones, unless the memory's side was reset in between.

    Members:
        cause: In, one cycle or more, abandon the list.
        give_up: In, one cycle, do not wait for answers; remembered while draining.
        offering: In, a handshake is not over. owing: In, answers are missing.
        draining: Out, from the cause until the engine may start again; no burst may be begun.
        reset: Out, of everything but the control port.
        epoch: Out, the ID of bursts.
    """

    def __init__(self):
        super().__init__(
            {
                "cause": In(1),
                "give_up": In(1),
                "offering": In(1),
                "owing": In(1),
                "draining": Out(1),
                "reset": Out(1),
                "epoch": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        elapsed = Signal(SETTLE)  # one-hot
        given_up = Signal()
        over = Signal()
        m.d.sync += over.eq(~self.offering & (~self.owing | given_up))
        with m.FSM():
            with m.State("RUN"):
                m.d.sync += [elapsed.eq(1), given_up.eq(0), self.draining.eq(self.cause)]
                with m.If(self.cause):
                    m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.sync += [
                    elapsed.eq(Cat(elapsed[-1], elapsed)),
                    given_up.eq(given_up | self.give_up),
                ]
                with m.If(elapsed[-1]):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                with m.If(self.give_up):
                    m.d.sync += given_up.eq(1)
                with m.If(over):
                    m.d.sync += [self.reset.eq(1), self.epoch.eq(~self.epoch)]
                    m.next = "RESET"
            with m.State("RESET"):
                m.d.sync += elapsed.eq(Cat(elapsed[-1], elapsed))
                with m.If(elapsed[-1]):
                    m.d.sync += self.reset.eq(0)
                    m.next = "START"
            with m.State("START"):
                m.d.sync += elapsed.eq(Cat(elapsed[-1], elapsed))
                with m.If(elapsed[-1]):
                    m.d.sync += self.draining.eq(0)
                    m.next = "RUN"
        return m
