"""From HPM0 (AXI4, 128 bits) to the engine's control port (AXI4-Lite, 32 bits)."""

from amaranth import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen import axi

BITS = 128
ID_BITS = 16

Request = data.StructLayout(
    {"address": axi.CONTROL_ADDRESS_BITS, "id": ID_BITS, "length": 8, "size": 3}
)
Beat = data.StructLayout({"data": BITS, "strobe": BITS // 8, "last": 1})
Answer = data.StructLayout({"id": ID_BITS, "resp": 2})
Word = data.StructLayout({"id": ID_BITS, "data": BITS, "resp": 2, "last": 1})


class ControlBridge(wiring.Component):
    """One request at a time in each direction; a burst becomes single accesses of 32 bits.

    Each beat reads or writes the word at its own address; a read's word appears in all four lanes.
    A beat wider than 32 bits acts on its first word alone: a register map on a 16-byte stride has
    no other.

    Members:
        aw, ar: In streams of ``Request``; w: of ``Beat``; b: Out stream of ``Answer``; r: ``Word``.
        lite: the AXI4-Lite master side of ``axi.ControlPort``.
    """

    def __init__(self):
        super().__init__(
            {
                "aw": In(stream.Signature(Request)),
                "w": In(stream.Signature(Beat)),
                "b": Out(stream.Signature(Answer)),
                "ar": In(stream.Signature(Request)),
                "r": Out(stream.Signature(Word)),
                "lite": In(axi.ControlPort),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        self._reads(m)
        self._writes(m)
        return m

    def _reads(self, m: Module) -> None:
        now = Signal(Request)
        word = Signal(32)
        with m.FSM(name="read"):
            with m.State("IDLE"):
                m.d.comb += self.ar.ready.eq(1)
                m.d.sync += now.eq(self.ar.payload)
                with m.If(self.ar.valid):
                    m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += self.lite.ar.valid.eq(1)
                with m.If(self.lite.ar.ready):
                    m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += self.lite.r.ready.eq(1)
                m.d.sync += [
                    word.eq(self.lite.r.payload.data),
                    self.r.payload.resp.eq(self.lite.r.payload.resp),
                ]
                with m.If(self.lite.r.valid):
                    m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += self.r.valid.eq(1)
                with m.If(self.r.ready):
                    m.d.sync += [
                        now.length.eq(now.length - 1),
                        now.address.eq(now.address + (1 << now.size)),
                    ]
                    m.next = "ASK"
                    with m.If(now.length == 0):
                        m.next = "IDLE"
        m.d.comb += [
            self.lite.ar.payload.eq(now.address),
            self.r.payload.id.eq(now.id),
            self.r.payload.data.eq(word.replicate(BITS // 32)),
            self.r.payload.last.eq(now.length == 0),
        ]

    def _writes(self, m: Module) -> None:
        now = Signal(Request)
        beat = Signal(Beat)
        failed = Signal(2)
        addressed = Signal()
        written = Signal()
        with m.FSM(name="write"):
            with m.State("IDLE"):
                m.d.comb += self.aw.ready.eq(1)
                m.d.sync += [now.eq(self.aw.payload), failed.eq(0)]
                with m.If(self.aw.valid):
                    m.next = "BEAT"
            with m.State("BEAT"):
                m.d.comb += self.w.ready.eq(1)
                m.d.sync += beat.eq(self.w.payload)
                with m.If(self.w.valid):
                    m.next = "ACCESS"
            with m.State("ACCESS"):
                # Neither channel waits for the other: a slave may want both at once.
                m.d.comb += [
                    self.lite.aw.valid.eq(~addressed),
                    self.lite.w.valid.eq(~written),
                ]
                m.d.sync += [
                    addressed.eq(addressed | self.lite.aw.ready),
                    written.eq(written | self.lite.w.ready),
                ]
                with m.If((addressed | self.lite.aw.ready) & (written | self.lite.w.ready)):
                    m.d.sync += [addressed.eq(0), written.eq(0)]
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += self.lite.b.ready.eq(1)
                with m.If(self.lite.b.valid):
                    m.d.sync += [
                        failed.eq(Mux(failed == 0, self.lite.b.payload, failed)),
                        now.address.eq(now.address + (1 << now.size)),
                    ]
                    m.next = "BEAT"
                    with m.If(beat.last):
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += self.b.valid.eq(1)
                with m.If(self.b.ready):
                    m.next = "IDLE"
        lane = now.address[2:4]
        m.d.comb += [
            self.lite.aw.payload.eq(now.address),
            self.lite.w.payload.data.eq(
                Array(beat.data.word_select(i, 32) for i in range(4))[lane]
            ),
            self.lite.w.payload.strobe.eq(
                Array(beat.strobe.word_select(i, 4) for i in range(4))[lane]
            ),
            self.b.payload.id.eq(now.id),
            self.b.payload.resp.eq(failed),
        ]
