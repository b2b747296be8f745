"""A cascade of DSP48E2: each multiplies one weight with two tokens' activations and adds its
neighbour's sum.

The activations stay, the weights pass: operand ``x1 * 2**18 + x0`` of a pair of tokens sits in the
pre-adder's registers of a DSP48E2 (A holds x1, D holds x0, AD their sum) for a whole chunk, while
the next chunk's x1 and x0 already wait in A and D. The 48-bit cascade carries both tokens' sums in
fields of 18 bits, enough for 64 products.
"""

from amaranth import ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from spec import numeric

P_BITS = 48
"""Width of a DSP48E2's result and cascade."""

FIELD = numeric.PRODUCT_FIELD_BITS


class Cascade(wiring.Component):
    """``sum = sum over i of weights[i] * (x1[i] * 2**18 + x0[i])``, a DSP48E2 per position.

    Position i must get its weight and ``swap`` i cycles after position 0 (the cascade adds one
    position a cycle). Latency: 3 cycles from the last position's weight. Every register of the
    DSPs is on. Source: AMD UG579, UltraScale Architecture DSP Slice: INMODE 00100 adds D and A2,
    OPMODE adds the product and the cascade.

    Members:
        x: In, [position] signed mantissas to load.
        load0, load1: In, ``x`` is for the pair's first, second token.
        swap: In, [position] the loaded mantissas take over for the weight of this cycle.
        weights: In, [position] signed.
        sum: Out.
    """

    latency = 3

    def __init__(self, length: int):
        self._length = length
        super().__init__(
            {
                "x": In(data.ArrayLayout(8, length)),
                "load0": In(1),
                "load1": In(1),
                "swap": In(length),
                "weights": In(data.ArrayLayout(numeric.WEIGHT_BITS, length)),
                "sum": Out(signed(P_BITS)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        cascade = None
        for i in range(self._length):
            x = self.x[i].as_signed()
            a, d, b = Signal(30, name=f"a{i}"), Signal(27, name=f"d{i}"), Signal(18, name=f"b{i}")
            p, chained = Signal(P_BITS, name=f"p{i}"), Signal(P_BITS, name=f"pc{i}")
            m.d.comb += [
                a.eq(x.shift_left(FIELD)), d.eq(x), b.eq(self.weights[i].as_signed()),
            ]  # fmt: skip
            m.submodules[f"dsp{i}"] = dsp48e2(
                opmode=0b000_00_01_01 if cascade is None else 0b000_01_01_01,
                pre_add=True, a=a, d=d, b=b, p=p, pcin=cascade, pcout=chained,
                enable_a=self.load1, enable_d=self.load0, enable_ad=self.swap[i],
            )  # fmt: skip
            cascade = chained
        m.d.comb += self.sum.eq(p)
        return m


def dsp48e2(
    *, opmode: int, a, b, p, pre_add: bool = False, d=None, pcin=None, pcout=None,
    enable_a=1, enable_d=1, enable_ad=1,
) -> Instance:  # fmt: skip
    """A DSP48E2 with A, B, M and P registers (and AD and D when it pre-adds), never reset."""
    zero = Const(0, 48)
    return Instance(
        "DSP48E2",
        p_AMULTSEL="AD" if pre_add else "A",
        p_BMULTSEL="B",
        p_A_INPUT="DIRECT", p_B_INPUT="DIRECT",
        p_USE_MULT="MULTIPLY", p_USE_SIMD="ONE48", p_USE_PATTERN_DETECT="NO_PATDET",
        p_AREG=1, p_ACASCREG=1, p_BREG=1, p_BCASCREG=1, p_CREG=1, p_DREG=1, p_ADREG=1,
        p_MREG=1, p_PREG=1, p_INMODEREG=0, p_OPMODEREG=0, p_ALUMODEREG=0, p_CARRYINREG=0,
        p_CARRYINSELREG=0,
        i_CLK=ClockSignal(),
        i_A=a, i_B=b, i_C=zero, i_D=Const(0, 27) if d is None else d,
        i_PCIN=zero if pcin is None else pcin,
        i_ACIN=Const(0, 30), i_BCIN=Const(0, 18), i_CARRYCASCIN=Const(0), i_MULTSIGNIN=Const(0),
        i_OPMODE=Const(opmode, 9), i_ALUMODE=Const(0, 4), i_CARRYIN=Const(0),
        i_CARRYINSEL=Const(0, 3), i_INMODE=Const(0b00100 if pre_add else 0, 5),
        i_CEA1=Const(0), i_CEA2=enable_a, i_CEB1=Const(0), i_CEB2=Const(1), i_CEC=Const(0),
        i_CED=enable_d, i_CEAD=enable_ad, i_CEM=Const(1), i_CEP=Const(1), i_CEALUMODE=Const(1),
        i_CECARRYIN=Const(1), i_CECTRL=Const(1), i_CEINMODE=Const(1),
        i_RSTA=Const(0), i_RSTALLCARRYIN=Const(0), i_RSTALUMODE=Const(0), i_RSTB=Const(0),
        i_RSTC=Const(0), i_RSTCTRL=Const(0), i_RSTD=Const(0), i_RSTINMODE=Const(0),
        i_RSTM=Const(0), i_RSTP=Const(0),
        o_P=p, **({} if pcout is None else {"o_PCOUT": pcout}),
    )  # fmt: skip
