"""Multiplies each partial sum with its group's scale and shifts it into the accumulator's frame."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.activations import LIFT_BITS
from hwgen.multiplier import Multiplier
from spec import numeric
from spec.config import Config

MANTISSA_BITS = 11
FINE_BITS = 4
"""Bits of the shift done on the scale's mantissa ahead of the multiplier, whose operand of 27 bits
holds 11 + 15; the product is then shifted by 0, 16, 32 or 48."""


class Scale(wiring.Component):
    """``terms[token][sub] = sums[token][sub] * mantissa << (shift + lift)``, exact.

    Every product of an fp16 scale, a block's power of two and an integer sum is an integer in units
    of the accumulator's last bit (spec.numeric), so aligning loses nothing.

    Latency: ``ahead`` cycles from ``scales`` to the multiplier, where ``sums`` enter;
    ``latency`` from ``sums`` to ``terms``.

    Members:
        scales: In, [sub] fp16 patterns of the row, ``ahead`` cycles before its sums.
        lifts: In, [half][token] of the next chunk.
        swap: In, one cycle before the first scales of a chunk: ``lifts`` take effect.
        sums: In, [token][sub] signed.
        terms: Out, [token][sub] signed, ``accumulator_bits`` wide.
    """

    ahead = 3
    latency = Multiplier.latency + 1

    def __init__(self, config: Config):
        self._config = config
        tokens, subs = config.tokens, config.subs
        sums = data.ArrayLayout(signed(numeric.PRODUCT_FIELD_BITS), subs)
        terms = data.ArrayLayout(signed(config.accumulator_bits), subs)
        super().__init__(
            {
                "scales": In(data.ArrayLayout(16, subs)),
                "lifts": In(data.ArrayLayout(data.ArrayLayout(LIFT_BITS, tokens), 2)),
                "swap": In(1),
                "sums": In(data.ArrayLayout(sums, tokens)),
                "terms": Out(data.ArrayLayout(terms, tokens)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        lifts = Signal(self.lifts.shape(), reset_less=True)
        with m.If(self.swap):
            m.d.sync += lifts.eq(self.lifts)
        for sub in range(config.subs):
            fraction, exponent = self.scales[sub][:10], self.scales[sub][10:15]
            normal = exponent.any()
            mantissa = Cat(fraction, normal)
            shift = _decremented(exponent)
            for token in range(config.tokens):
                lift = lifts[sub // (config.subs // 2)][token]
                term = self._term(m, mantissa, shift, lift, self.sums[token][sub], token, sub)
                m.d.comb += self.terms[token][sub].eq(term)
        return m

    def _term(self, m: Module, mantissa, shift, lift, total, token: int, sub: int) -> Signal:
        """One token's and sub's path."""
        # Cycle 1: the whole shift, 0..49.
        amount = Signal(6, reset_less=True)
        plain = Signal(MANTISSA_BITS, reset_less=True)
        m.d.sync += [amount.eq(lift + shift), plain.eq(mantissa)]
        # Cycles 2 and 3: shifted by 0..3, then by 0, 4, 8 or 12.
        by_ones = Signal(MANTISSA_BITS + 3, reset_less=True)
        by_fours = Signal(MANTISSA_BITS + 15, reset_less=True)
        amount_2 = Signal(4, reset_less=True)
        coarse = Signal(2, reset_less=True)
        m.d.sync += [
            by_ones.eq(_select(amount[:2], plain, 1)), amount_2.eq(amount[2:]),
            by_fours.eq(_select(amount_2[:2], by_ones, 4)), coarse.eq(amount_2[2:]),
        ]  # fmt: skip
        m.submodules[f"multiply_{token}_{sub}"] = multiply = Multiplier(self._config.dsp)
        m.d.comb += [multiply.a.eq(by_fours), multiply.b.eq(total)]
        coarse_then = Signal(2 * Multiplier.latency, reset_less=True)
        m.d.sync += coarse_then.eq(Cat(coarse, coarse_then))
        term = Signal(signed(self._config.accumulator_bits), reset_less=True)
        m.d.sync += term.eq(_select(coarse_then[-2:], multiply.product, 16))
        return term


def _decremented(exponent):
    """``max(exponent, 1) - 1`` bit by bit, in logic: it joins the sum behind it in one LUT."""
    some = exponent.any()
    return Cat(bit ^ (~exponent[:i].any() & some) for i, bit in enumerate(exponent))


def _select(amount, value, step: int):
    """``value << (step * amount)`` for a two-bit ``amount``: one multiplexer of four."""
    low = Mux(amount[0], value.shift_left(step), value)
    high = Mux(amount[0], value.shift_left(3 * step), value.shift_left(2 * step))
    return Mux(amount[1], high, low)
