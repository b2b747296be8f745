"""A 27 x 18 bit signed multiplier with the three registers of a DSP48E2."""

from amaranth import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.cascade import P_BITS, dsp48e2

A_BITS, B_BITS = 27, 18


class Multiplier(wiring.Component):
    """``product = a * b``, three cycles later, one a cycle.

    Members:
        a: In, signed 27 bits. b: In, signed 18 bits.
        product: Out, signed 45 bits.
    """

    latency = 3

    a: In(signed(A_BITS))
    b: In(signed(B_BITS))
    product: Out(signed(A_BITS + B_BITS))

    def __init__(self, dsp: str):
        self._dsp = dsp
        super().__init__()

    def elaborate(self, platform) -> Module:
        m = Module()
        if self._dsp == "vendor":
            a = Signal(30)
            b = Signal(18)
            p = Signal(P_BITS)
            m.d.comb += [a.eq(self.a), b.eq(self.b), self.product.eq(p)]
            m.submodules.dsp = dsp48e2(opmode=0b000_00_01_01, a=a, b=b, p=p)
        else:
            a, b = Signal.like(self.a, reset_less=True), Signal.like(self.b, reset_less=True)
            product = Signal.like(self.product, reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b), self.product.eq(product)]
        return m
