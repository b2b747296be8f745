"""Dot products of one beat: every weight meets every token, sums per ``sub_lanes`` lanes.

The activations stay, the weights pass. A pair of tokens shares one multiplier per lane: the operand
``x1 * 2**18 + x0`` times a weight gives both products, and sums of up to 64 of them stay in their
fields of 18 bits. Two twins with the same ports, latency and function: ``CascadeDot`` made of
DSP48E2 cascades, ``TreeDot`` in plain logic.
"""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.activations import Load
from hwgen.cascade import FIELD, Cascade
from hwgen.pipeline import delay
from spec import numeric
from spec.config import Config

WEIGHT = numeric.WEIGHT_BITS
PAIR_SUM_BITS = 2 * FIELD


class Dot(wiring.Component):
    """``sums[token][sub] = sum over the sub's lanes of weights[lane] * x[token][lane]``, exact.

    ``latency`` cycles from ``weights`` to ``sums``, one beat a cycle.

    Members:
        load: In, mantissas for the next chunk.
        swap: In, with the first weights of a chunk: what was loaded takes over.
        weights: In, [lane] signed 5 bits.
        sums: Out, [token][sub] signed 18 bits.
    """

    def __init__(self, config: Config):
        self._config = config
        sub_sums = data.ArrayLayout(signed(FIELD), config.subs)
        super().__init__(
            {
                "load": In(Load(config)),
                "swap": In(1),
                "weights": In(data.ArrayLayout(WEIGHT, config.lanes)),
                "sums": Out(data.ArrayLayout(sub_sums, config.tokens)),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        """Cycles from weights to sums: cascade, split into tokens, tree over cascades."""
        tree = (config.sub_lanes // config.chain - 1).bit_length()
        return config.chain - 1 + Cascade.latency + 1 + tree

    def _loads(self, pair: int, lane: int) -> tuple:
        """Mantissa for a lane's operands, and whether it is the pair's first or second token's."""
        config = self._config
        half, byte = self.load.half[lane // config.span], lane % config.span
        second = 2 * pair + 1
        return (
            self.load.mantissas[8 * byte : 8 * byte + 8],
            half & self.load.token[2 * pair],
            half & self.load.token[second] if second < config.tokens else 0,
        )

    def _give(self, m: Module, pair: int, sub: int, first, second) -> None:
        """Both tokens' sums of a sub; an odd number of tokens leaves the last one alone."""
        m.d.comb += self.sums[2 * pair][sub].eq(first)
        if 2 * pair + 1 < self._config.tokens:
            m.d.comb += self.sums[2 * pair + 1][sub].eq(second)


class CascadeDot(Dot):
    """The vendor twin: each cascade adds ``config.chain`` lanes, each lane a cycle after the one
    before; the ends of a sub's cascades are split into tokens and added in a tree."""

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        length = config.chain
        skewed, swaps = self._skew(m)
        for pair in range(config.token_pairs):
            for sub in range(config.subs):
                ends: list[tuple] = []
                for index in range(config.sub_lanes // length):
                    start = sub * config.sub_lanes + index * length
                    m.submodules[f"pair{pair}_lane{start}"] = cascade = Cascade(length)
                    mantissas, load0, load1 = zip(
                        *[self._loads(pair, lane) for lane in range(start, start + length)],
                        strict=True,
                    )
                    m.d.comb += [
                        cascade.x.eq(Cat(mantissas)),
                        cascade.load0.eq(load0[0]),
                        cascade.load1.eq(load1[0]),
                        cascade.swap.eq(swaps),
                        cascade.weights.eq(Cat(skewed[i][start // length] for i in range(length))),
                    ]
                    ends.append(_split(m, cascade.sum))
                first, second = (_tree(m, list(terms), 2) for terms in zip(*ends, strict=True))
                self._give(m, pair, sub, first, second)
        return m

    def _skew(self, m: Module) -> tuple[list[list], Signal]:
        """Weights by position and cascade, and swap by position, each position a cycle later."""
        config = self._config
        length = config.chain
        cascades = config.lanes // length
        skewed, swaps = [], []
        for i in range(length):
            at_position = Cat(self.weights[c * length + i] for c in range(cascades))
            late = delay(m, at_position, i, name=f"weights{i}")
            skewed.append([late[WEIGHT * c : WEIGHT * (c + 1)] for c in range(cascades)])
            swaps.append(delay(m, self.swap, i, name=f"swap{i}", reset=True))
        return skewed, Cat(swaps)


class TreeDot(Dot):
    """The portable twin, in plain logic: products, then sums of four a cycle. Its sums wait until
    those of the cascades would be there."""

    FAN_IN = 4

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        levels, terms = 0, config.sub_lanes
        while terms > 1:
            terms, levels = -(-terms // self.FAN_IN), levels + 1
        wait = self.latency(config) - 2 - levels - 1  # operands and products, tree, split
        weights = []
        for lane in range(config.lanes):
            weight = Signal(signed(WEIGHT), name=f"weight{lane}", reset_less=True)
            m.d.sync += weight.eq(self.weights[lane])
            weights.append(weight)
        for pair in range(config.token_pairs):
            for sub in range(config.subs):
                lanes = range(sub * config.sub_lanes, (sub + 1) * config.sub_lanes)
                products = [self._product(m, pair, lane, weights[lane]) for lane in lanes]
                packed = delay(m, _tree(m, products, self.FAN_IN), wait, name="packed")
                self._give(m, pair, sub, *_split(m, packed))
        return m

    def _product(self, m: Module, pair: int, lane: int, weight: Signal) -> Signal:
        """A lane's weight times the operand of a pair of tokens, or of a last token alone."""
        mantissa, load0, load1 = self._loads(pair, lane)
        name = f"{pair}_{lane}"
        d, a = (Signal(signed(8), name=f"{n}{name}", reset_less=True) for n in "da")
        alone = 2 * pair + 1 == self._config.tokens
        operand = d if alone else a.shift_left(FIELD) + d
        ad = Signal(signed(8 if alone else 27), name=f"ad{name}", reset_less=True)
        product = Signal(signed(len(ad) + WEIGHT), name=f"m{name}", reset_less=True)
        with m.If(load0):
            m.d.sync += d.eq(mantissa)
        if not alone:
            with m.If(load1):
                m.d.sync += a.eq(mantissa)
        with m.If(self.swap):
            m.d.sync += ad.eq(operand)
        m.d.sync += product.eq(ad * weight)
        return product


def _split(m: Module, packed) -> tuple[Signal, Signal]:
    """The two tokens' sums of a packed one: the upper gives back what the lower borrowed. Of one
    token's sum alone, that and nothing of use."""
    low = Signal(signed(FIELD), reset_less=True)
    high = Signal(signed(FIELD), reset_less=True)
    m.d.sync += [
        low.eq(packed[:FIELD]),
        high.eq(packed[FIELD : 2 * FIELD] + packed[FIELD - 1]),
    ]
    return low, high


def _tree(m: Module, terms: list, fan_in: int) -> Signal:
    """Sum of ``terms``, ``fan_in`` at a time, a level a cycle; no sum outgrows its fields."""
    bits = max(PAIR_SUM_BITS if len(terms[0]) > FIELD else FIELD, len(terms[0]))
    while len(terms) > 1:
        sums = []
        for start in range(0, len(terms), fan_in):
            whole = sum(terms[start + 1 : start + fan_in], terms[start])
            total = Signal(signed(min(bits, len(whole))), reset_less=True)
            m.d.sync += total.eq(whole)
            sums.append(total)
        terms = sums
    return terms[0]


def dot(config: Config) -> Dot:
    """The twin that the configuration asks for."""
    return (CascadeDot if config.dsp == "vendor" else TreeDot)(config)
