"""Notices an engine that waits for ever."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Watchdog(wiring.Component):
    """Fires when a busy engine has moved nothing for ``limit`` cycles (and three more).

    A new limit counts from the next move on.

    Members:
        limit: In, cycles; 0: never.
        busy: In, a list runs. moved: In, a beat or a handshake passed.
        expired: Out, until the engine moves or is not busy.
    """

    def __init__(self):
        super().__init__({"limit": In(32), "busy": In(1), "moved": In(1), "expired": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        left = Signal(32)
        ended = Signal()
        limited = Signal()
        alive = Signal(init=1)
        m.d.sync += [
            alive.eq(self.moved | ~self.busy),
            limited.eq(self.limit.any()),
            ended.eq(left == 0),
            self.expired.eq(~alive & limited & (ended | self.expired)),
        ]
        with m.If(alive):
            m.d.sync += [left.eq(self.limit), ended.eq(0)]
        with m.Else():
            m.d.sync += left.eq(left - 1)
        return m
