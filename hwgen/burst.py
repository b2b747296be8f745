"""Cuts a run of beats into aligned bursts: none crosses 4 KB, each is as long as it may be."""

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen import axi
from spec.config import ADDRESS_BITS, Config

PAGE_BITS = 12
"""AXI forbids a burst to cross a 4 KB boundary (IHI 0022, A3.4.1)."""


class Run(data.Struct):
    """Consecutive beats of one port: start address (a multiple of the port's bytes) and count."""

    address: unsigned(ADDRESS_BITS)
    beats: unsigned(32)


class BurstCutter(wiring.Component):
    """Turns runs into bursts: up to the next multiple of ``burst_beats``, then whole ones.

    Bursts aligned to their longest size cannot cross 4 KB, as that size divides 4 KB.
    One burst every four cycles at most. A run of zero beats gives none.

    Members:
        run: In stream of ``Run``.
        burst: Out stream of ``axi.Burst``.
        final: Out, the burst offered is its run's last.
        idle: Out, nothing is held.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "run": In(stream.Signature(Run)),
                "burst": Out(stream.Signature(axi.Burst)),
                "final": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        size_bits = (config.port_bytes - 1).bit_length()
        burst_bits = (config.burst_beats - 1).bit_length()
        # The address is kept as page and offset, so that no carry chain exceeds 32 bits.
        page = Signal(ADDRESS_BITS - PAGE_BITS)
        offset = Signal(PAGE_BITS - size_bits)
        carry = Signal()
        left = Signal(32)
        to_boundary = Signal(burst_bits + 1)
        many = Signal()
        length = Signal(burst_bits + 1)
        m.d.comb += [
            self.burst.payload.address.eq(Cat(Signal(size_bits), offset, page)),
            self.burst.payload.length.eq((length - 1)[:burst_bits]),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.run.ready.eq(1), self.idle.eq(1)]
                m.d.sync += [
                    offset.eq(self.run.payload.address[size_bits:PAGE_BITS]),
                    page.eq(self.run.payload.address[PAGE_BITS:]),
                    left.eq(self.run.payload.beats),
                    carry.eq(0),
                ]
                with m.If(self.run.valid):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += [
                    to_boundary.eq(config.burst_beats - offset[:burst_bits]),
                    many.eq(left[burst_bits:].any()),
                    page.eq(page + carry),
                ]
                with m.If(left == 0):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "CUT"
            with m.State("CUT"):
                fits = many | (left[:burst_bits] >= to_boundary)
                m.d.sync += [
                    length.eq(Mux(fits, to_boundary, left[:burst_bits])),
                    self.final.eq(left == to_boundary),
                ]
                with m.If(~fits):
                    m.d.sync += self.final.eq(1)
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.burst.valid.eq(1)
                with m.If(self.burst.ready):
                    m.next = "STEP"
            with m.State("STEP"):
                m.d.sync += [Cat(offset, carry).eq(offset + length), left.eq(left - length)]
                m.next = "MEASURE"
        return m
