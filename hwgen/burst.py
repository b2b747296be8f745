"""Cuts a run of beats into aligned bursts: none crosses 4 KB, each is as long as it may be."""

from amaranth import Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen import axi
from spec.config import ADDRESS_BITS, Config

PAGE_BITS = 12
"""AXI forbids a burst to cross a 4 KB boundary (IHI 0022, A3.4.1)."""


GROUP = 6
"""Bits whose OR is one LUT."""


class Run(data.Struct):
    """Consecutive beats of one port: start address (a multiple of the port's bytes) and count."""

    address: unsigned(ADDRESS_BITS)
    beats: unsigned(32)


class BurstCutter(wiring.Component):
    """Turns runs into bursts: up to the next multiple of ``burst_beats``, then whole ones.

    Bursts aligned to their longest size cannot cross 4 KB, as that size divides 4 KB.
    One burst every four cycles at most; three cycles before a run's first. A run of zero beats
    gives none.

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
        # The address in three parts, so that no carry chain exceeds 32 bits: page, burst within
        # the page, beat within the burst (zero after the first one).
        page = Signal(ADDRESS_BITS - PAGE_BITS)
        burst = Signal(PAGE_BITS - size_bits - burst_bits)
        beat = Signal(burst_bits)
        carry = Signal()
        # The run's last beat, counted from the start of its first burst; its upper part counts
        # down to the last burst.
        reach = Signal(33)
        last_beat, further = reach[:burst_bits], reach[burst_bits:]
        # Whether groups of its bits, a cycle ago, held a one.
        some_beats = Signal()
        some_further = Signal(-(-len(further) // GROUP))
        length = Signal(burst_bits)  # beats - 1
        m.d.sync += [
            some_beats.eq(last_beat.any()),
            some_further.eq(
                Cat(further[start : start + GROUP].any() for start in range(0, len(further), GROUP))
            ),
        ]
        m.d.comb += [
            self.burst.payload.address.eq(Cat(Const(0, size_bits), beat, burst, page)),
            self.burst.payload.length.eq(length),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.run.ready.eq(1), self.idle.eq(1)]
                m.d.sync += [
                    Cat(beat, burst, page).eq(self.run.payload.address[size_bits:]),
                    reach.eq(self.run.payload.beats),
                    carry.eq(0),
                ]
                with m.If(self.run.valid):
                    m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += reach[:32].eq(reach[:32] - 1)
                m.next = "REACH"
            with m.State("REACH"):
                m.d.sync += reach.eq(reach[:32] + beat)
                m.next = "SETTLE"
                with m.If(~some_beats & ~some_further.any()):  # a run of zero beats
                    m.next = "IDLE"
            with m.State("SETTLE"):
                m.d.sync += page.eq(page + carry)
                m.next = "LENGTH"
            with m.State("LENGTH"):
                final = ~some_further.any()
                m.d.sync += [
                    self.final.eq(final),
                    length.eq((last_beat | (~final).replicate(burst_bits)) - beat),
                ]
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.burst.valid.eq(1)
                with m.If(self.burst.ready):
                    m.next = "STEP"
            with m.State("STEP"):
                m.d.sync += [
                    beat.eq(0), Cat(burst, carry).eq(burst + 1), further.eq(further - 1),
                ]  # fmt: skip
                m.next = "SETTLE"
                with m.If(self.final):
                    m.next = "IDLE"
        return m
