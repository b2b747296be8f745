"""Splits a striped region into one run of beats per port."""

from amaranth import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.burst import Run
from spec.config import ADDRESS_BITS, Config


class Region(data.Struct):
    """A striped region: port p reads ``beats`` beats from ``address + p * stride``."""

    address: unsigned(ADDRESS_BITS)
    stride: unsigned(32)
    beats: unsigned(32)


class Scatter(wiring.Component):
    """Gives each port its run, port by port: 1 + 2 x ports cycles a region.

    Members:
        region: In stream of ``Region``.
        run: one Out stream of ``Run`` per port.
        idle: Out, nothing is held.
    """

    def __init__(self, config: Config):
        self._ports = config.ports
        super().__init__(
            {
                "region": In(stream.Signature(Region)),
                "run": Out(stream.Signature(Run)).array(config.ports),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        address = Signal(ADDRESS_BITS)
        # Low bits of the next port's address.
        following = Signal(32)
        carry = Signal()
        stride = Signal(32)
        beats = Signal(32)
        port = Signal(self._ports)  # one-hot
        accepted = Signal()
        for run in self.run:
            m.d.comb += [
                run.payload.address.eq(address),
                run.payload.beats.eq(beats),
            ]
        m.d.sync += Cat(following, carry).eq(address[:32] + stride)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.region.ready.eq(1), self.idle.eq(~self.region.valid)]
                m.d.sync += [
                    address.eq(self.region.payload.address),
                    stride.eq(self.region.payload.stride),
                    beats.eq(self.region.payload.beats),
                    port.eq(1),
                ]
                with m.If(self.region.valid):
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += [
                    *[run.valid.eq(port[index]) for index, run in enumerate(self.run)],
                    accepted.eq(
                        Cat(run.ready & port[index] for index, run in enumerate(self.run)).any()
                    ),
                ]
                with m.If(accepted):
                    m.next = "STEP"
            with m.State("STEP"):  # the carry goes into the high bits a cycle later
                m.d.sync += [
                    address[:32].eq(following), address[32:].eq(address[32:] + carry),
                    port.eq(port.shift_left(1)),
                ]  # fmt: skip
                m.next = "OFFER"
                with m.If(port[-1]):
                    m.next = "IDLE"
        return m
