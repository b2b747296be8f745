"""Rounds exact sums once, to nearest even, to fp32 or bf16."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.pipeline import delay
from spec import numeric
from spec.config import Config

GROUP = 16
"""Bits of the coarse normalisation's groups."""

LEADING = 24
"""Significant bits of fp32; bf16 keeps the upper 8 of them."""

BIAS = 127


class Round(wiring.Component):
    """``results[token] = round(sums[token] * 2**result_exponent(base))`` as a bit pattern.

    A negative sum x is normalised as its complement -x - 1, whose missing 1 is settled together
    with the rounding: with every dropped bit equal to one (``level``) it carries into the part
    that is kept. bf16 patterns stand in the upper half.

    Latency: ``latency`` cycles. Registers hold while nothing passes.

    Members:
        valid, row, sums: In, [token] signed ``accumulator_bits``.
        bases: In, [token] signed token exponents. tokens, bf16: In, of the command.
        results: Out, [token] 32 bits. results_valid, results_row: Out.
        out_of_range: Out, a result of this row left fp32's normal range.
    """

    latency = 11

    def __init__(self, config: Config):
        self._config = config
        row_bits = (config.tile_rows - 1).bit_length()
        super().__init__(
            {
                "valid": In(1),
                "row": In(row_bits),
                "sums": In(data.ArrayLayout(signed(config.accumulator_bits), config.tokens)),
                "bases": In(data.ArrayLayout(signed(8), config.tokens)),
                "tokens": In(5),
                "bf16": In(1),
                "results": Out(data.ArrayLayout(32, config.tokens)),
                "results_valid": Out(1),
                "results_row": Out(row_bits),
                "out_of_range": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        valid = [self.valid]
        for stage in range(self.latency):
            step = Signal(name=f"valid{stage + 1}")
            m.d.sync += step.eq(valid[-1])
            valid.append(step)
        outside = Signal(self._config.tokens)
        for token in range(self._config.tokens):
            self._path(m, token, valid, outside[token])
        m.d.comb += [
            self.results_valid.eq(valid[-1]),
            self.results_row.eq(delay(m, self.row, self.latency, name="row")),
            self.out_of_range.eq(valid[-1] & outside.any()),
        ]
        return m

    def _path(self, m: Module, token: int, valid: list, outside: Signal) -> None:
        """One token's pipeline; stage i works while valid[i]."""
        bits = self._config.accumulator_bits - 1  # without the sign
        groups = -(-bits // GROUP) + 1
        width = groups * GROUP
        pad = width - bits

        def stage(number: int, *pairs) -> list[Signal]:
            """Registers of a stage: (name, value) each."""
            registers = []
            with m.If(valid[number]):
                for name, value in pairs:
                    register = Signal(
                        len(value), name=f"{name}{number + 1}_{token}", reset_less=True
                    )
                    m.d.sync += register.eq(value)
                    registers.append(register)
            return registers

        total = self.sums[token]
        sign = total[-1]
        # 1: magnitude, or one less; below its last bit it goes on with the sign.
        vector, s = stage(
            0,
            ("vector", Cat(sign.replicate(pad), total[:bits] ^ sign.replicate(bits))),
            ("sign", sign),
        )
        # 2: which leading groups of 16 are empty.
        empty = [~vector[GROUP * g : GROUP * (g + 1)].any() for g in reversed(range(1, groups))]
        vector, s, empty = stage(1, ("vector", vector), ("sign", s), ("empty", Cat(empty)))
        # 3: how many; 4: shifted by that many groups.
        leading = Signal(range(groups), name=f"leading_{token}")
        m.d.comb += leading.eq(groups - 1)
        for g in reversed(range(groups - 1)):
            with m.If(~empty[g]):
                m.d.comb += leading.eq(g)
        vector, s, leading = stage(2, ("vector", vector), ("sign", s), ("leading", leading))
        by_groups = _shifted(vector, s, leading, GROUP, groups)
        vector, s, leading = stage(3, ("vector", by_groups), ("sign", s), ("leading", leading))
        # 5: how many groups of 4 are empty. From here 40 bits suffice; `level` stands for the rest.
        kept = LEADING + 1 + GROUP - 1
        top = vector[-kept:]
        fours = _leading_zeros([top[-4 * (g + 1) : len(top) - 4 * g].any() for g in range(3)])
        level = vector[:-kept] == s.replicate(width - kept)
        top, s, level, fours, leading = stage(
            4, ("top", top), ("sign", s), ("level", level), ("fours", fours), ("coarse", leading)
        )
        # 6: shifted by 0, 4, 8 or 12.
        top, s, level, amount = stage(
            5,
            ("top", _shifted(top, s, fours, 4, 4)),
            ("sign", s),
            ("level", level),
            ("amount", Cat(fours, leading)),
        )
        # 7: shifted by 0, 1, 2 or 3.
        ones = _leading_zeros([top[-1], top[-2], top[-3]])
        lower = kept - (LEADING + 4)
        shifted = _shifted(top[lower:], s, ones, 1, 4)
        level = level & (top[:lower] == s.replicate(lower))
        top, s, level, amount = stage(
            6,
            ("top", shifted),
            ("sign", s),
            ("level", level),
            ("amount", Cat(ones, amount)),
        )
        # 8: the carry of rounding in either format; the exponent.
        below, short_below = len(top) - LEADING, len(top) - 8
        lead_exponent = numeric.result_exponent(0) + bits - 1 + BIAS
        highest = Signal(signed(11), name=f"highest_{token}", reset_less=True)
        m.d.sync += highest.eq(self.bases[token] + lead_exponent)
        mantissa, s, zero, exponent, wide, short = stage(
            7,
            ("mantissa", top[below:]),
            ("sign", s),
            ("zero", ~top[-1] & ~s),
            ("exponent", (highest - amount)[:11]),
            ("wide", _increment(top[below:], top[:below], s, level)),
            ("short", _increment(top[short_below:], top[:short_below], s, level)),
        )
        # 9: the sum; a carry out of it doubles, and leaves zeros behind.
        step = Mux(self.bf16, short.shift_left(LEADING - 8), wide)
        carried, s, zero, exponent = stage(
            8,
            ("carried", (mantissa + step)[: LEADING + 1]),
            ("sign", s),
            ("zero", zero),
            ("exponent", exponent),
        )
        # 10: the exponent with that carry; 11: the pattern, and whether fp32 has it.
        fraction, s, zero, final = stage(
            9,
            ("fraction", carried[: LEADING - 1]),
            ("sign", s),
            ("zero", zero),
            ("final", (exponent.as_signed() + carried[-1])[:12]),
        )
        below_range = final[-1] | ~final.any()
        above_range = ~final[-1] & (final[8:].any() | final[:8].all())
        with m.If(valid[10]):
            m.d.sync += [
                self.results[token].eq(Mux(zero, 0, Cat(fraction, final[:8], s))),
                outside.eq(~zero & (token < self.tokens) & (below_range | above_range)),
            ]


def _shifted(vector, fill, amount, step: int, choices: int):
    """``vector`` shifted up by ``amount * step``, ``fill`` behind it."""
    long = Cat(fill.replicate(step * (choices - 1)), vector)
    base = step * (choices - 1)
    result = long[: len(vector)]
    for choice in reversed(range(choices - 1)):
        start = base - step * choice
        result = Mux(amount == choice, long[start : start + len(vector)], result)
    return result


def _leading_zeros(occupied: list):
    """How many of three groups from the top are empty, as two bits."""
    a, b, c = occupied
    return Cat(~a & (b | ~c), ~a & ~b)


def _increment(kept, rest, sign, level):
    """Whether rounding to nearest even, of a sum or of a complement that lacks 1, adds one.

    ``rest`` is what is dropped of the vector; ``level`` says that all bits below it equal ``sign``.
    """
    half, odd = rest[-1], kept[0]
    flat = level & (rest[:-1] == sign.replicate(len(rest) - 1))
    positive = half & (~flat | odd)
    negative = Mux(flat, half | odd, half)
    return Mux(sign, negative, positive)
