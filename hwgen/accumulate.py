"""Exact sums over K: one accumulator per row of the tile and token, wide enough for any sum."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hwgen.pipeline import delay
from spec.config import Config

LIMB_BITS_MAX = 31
"""With the place where the carry enters, no carry chain exceeds 32 bits: wide sums are taken limb
by limb, each limb a cycle after the last."""


def limbs(config: Config) -> tuple[int, int]:
    """Number of limbs and bits of each."""
    count = -(-config.accumulator_bits // LIMB_BITS_MAX)
    return count, -(-config.accumulator_bits // count)


class Accumulate(wiring.Component):
    """``sum[row][token] += terms of all subs``; a tile's first chunk starts it, the last takes it.

    The limbs of a sum are staggered in time, so that carries pass from register to register. A row
    returns after ``tile_rows`` beats, long after its sum is back in memory.

    Latency: ``latency`` cycles from ``terms`` to ``sums``.

    Members:
        valid: In, terms are of a row. row, first, last: In, its position, with ``terms``.
        terms: In, [token][sub] signed.
        sums: Out, [token] signed. sums_valid: Out. sums_row: Out.
    """

    def __init__(self, config: Config):
        self._config = config
        terms = data.ArrayLayout(signed(config.accumulator_bits), config.subs)
        row_bits = (config.tile_rows - 1).bit_length()
        super().__init__(
            {
                "valid": In(1),
                "row": In(row_bits),
                "first": In(1),
                "last": In(1),
                "terms": In(data.ArrayLayout(terms, config.tokens)),
                "sums": Out(data.ArrayLayout(signed(config.accumulator_bits), config.tokens)),
                "sums_valid": Out(1),
                "sums_row": Out(row_bits),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        """Cycles: the tree over subs, the addition, and the last limb's lag."""
        return (config.subs - 1).bit_length() + 1 + limbs(config)[0] - 1

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        count, width = limbs(config)
        tree = (config.subs - 1).bit_length()
        # carries[token] holds, per adder of the token's tree, the carry out of the limb below.
        carries: list[list] = [[None] * config.subs for _ in range(config.tokens)]
        results: list[list] = [[] for _ in range(config.tokens)]
        for limb in range(count):
            late = tree + limb
            row_before = delay(m, self.row, late - 1, name=f"row_before{limb}")
            row = delay(m, self.row, late, name=f"row{limb}")
            first = delay(m, self.first, late, name=f"first{limb}")
            valid = delay(m, self.valid, late, name=f"valid{limb}", reset=True)
            m.submodules[f"sums{limb}"] = sums = memory.Memory(
                shape=width * config.tokens, depth=config.tile_rows, init=[],
                attrs={"ram_style": "distributed"},
            )  # fmt: skip
            read, write = sums.read_port(), sums.write_port()
            write_en = Signal(name=f"write{limb}")
            write_row = Signal.like(self.row, name=f"write_row{limb}", reset_less=True)
            m.d.sync += [write_en.eq(valid), write_row.eq(row)]
            m.d.comb += [
                read.en.eq(1), read.addr.eq(row_before), write.en.eq(write_en),
                write.addr.eq(write_row),
            ]  # fmt: skip
            for token in range(config.tokens):
                addends = [self._limb(m, self.terms[token][sub], limb) for sub in
                           range(config.subs)]  # fmt: skip
                adder = 0
                while len(addends) > 1:
                    pairs = list(zip(addends[::2], addends[1::2], strict=True))
                    addends = []
                    for left, right in pairs:
                        addends.append(_add(m, left, right, carries[token], adder))
                        adder += 1
                held = Mux(first, 0, read.data.word_select(token, width))
                total = _add(m, addends[0], held, carries[token], adder)
                m.d.comb += write.data.word_select(token, width).eq(total)
                results[token].append(delay(m, total, count - 1 - limb, name=f"sum{limb}_{token}"))
        for token in range(config.tokens):
            m.d.comb += self.sums[token].eq(Cat(results[token]))
        latency = self.latency(config)
        m.d.comb += [
            self.sums_valid.eq(
                delay(m, self.valid & self.last, latency, name="sums_valid", reset=True)
            ),
            self.sums_row.eq(delay(m, self.row, latency, name="sums_row")),
        ]
        return m

    def _limb(self, m: Module, term, limb: int):
        """Limb ``limb`` of a signed term, ``limb`` cycles late."""
        _, width = limbs(self._config)
        whole = term.as_signed()
        part = whole[limb * width : (limb + 1) * width]
        missing = width - len(part)
        if missing:
            part = Cat(part, whole[-1].replicate(missing))
        return delay(m, part, limb, name="limb")


def _add(m: Module, left, right, carries: list, adder: int) -> Signal:
    """One limb of a sum; its carry is left for the next limb, which comes a cycle later."""
    total = Signal(len(left), reset_less=True)
    carry = Signal(reset_less=True)
    below = carries[adder]
    if below is None:
        m.d.sync += Cat(total, carry).eq(left + right)
    else:  # one place more, whose carry is the limb's below: one chain instead of two
        m.d.sync += Cat(total, carry).eq((Cat(1, left) + Cat(below, right))[1:])
    carries[adder] = carry
    return total
