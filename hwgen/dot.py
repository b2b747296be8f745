"""Dot products of one beat: every weight meets every token, sums per ``sub_lanes`` lanes."""

from amaranth import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.activations import Load
from hwgen.chain import FIELD, PortableChain, chain
from hwgen.pipeline import delay
from spec import numeric
from spec.config import Config


class Dot(wiring.Component):
    """``sums[token][sub] = sum over the sub's lanes of weights[lane] * x[token][lane]``, exact.

    Lanes are summed in DSP cascades of ``config.chain`` positions, each position a cycle behind
    the one before; the ends of a sub's cascades are added in a tree.

    Latency: ``latency`` cycles from ``weights`` to ``sums``, one beat a cycle.

    Members:
        load: In, mantissas for the next chunk.
        swap: In, with the first weights of a chunk.
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
                "weights": In(data.ArrayLayout(numeric.WEIGHT_BITS, config.lanes)),
                "sums": Out(data.ArrayLayout(sub_sums, config.tokens)),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        """Cycles from weights to sums: cascade, split into tokens, tree."""
        tree = (config.sub_lanes // config.chain - 1).bit_length()
        return config.chain - 1 + PortableChain.latency + 1 + tree

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        length = config.chain
        skewed, swaps = self._skew(m)
        for pair in range(config.token_pairs):
            first, second = 2 * pair, 2 * pair + 1
            has_second = second < config.tokens
            for sub in range(config.subs):
                ends: list[list] = [[], []]
                for index in range(config.sub_lanes // length):
                    start = sub * config.sub_lanes + index * length
                    name = f"pair{pair}_lane{start}"
                    m.submodules[name] = cascade = chain(length, config.dsp)
                    half = self.load.half[start // config.span]
                    byte = start % config.span
                    loads = self.load.token
                    m.d.comb += [
                        cascade.x.eq(self.load.mantissas[8 * byte : 8 * (byte + length)]),
                        cascade.load0.eq(half & loads[first]),
                        cascade.load1.eq(half & loads[second] if has_second else 0),
                        cascade.swap.eq(swaps),
                        cascade.weights.eq(Cat(skewed[i][start // length] for i in range(length))),
                    ]
                    self._split(m, cascade.sum, ends)
                m.d.comb += self.sums[first][sub].eq(_tree(m, ends[0]))
                if has_second:
                    m.d.comb += self.sums[second][sub].eq(_tree(m, ends[1]))
        return m

    def _skew(self, m: Module) -> tuple[list[list], Signal]:
        """Weights by position and cascade, and swap by position, each position a cycle later."""
        config = self._config
        length, width = config.chain, numeric.WEIGHT_BITS
        cascades = config.lanes // length
        skewed, swaps = [], []
        for i in range(length):
            at_position = Cat(self.weights[c * length + i] for c in range(cascades))
            late = delay(m, at_position, i, name=f"weights{i}")
            skewed.append([late[width * c : width * (c + 1)] for c in range(cascades)])
            swaps.append(delay(m, self.swap, i, name=f"swap{i}", reset=True))
        return skewed, Cat(swaps)

    @staticmethod
    def _split(m: Module, packed: Signal, ends: list[list]) -> None:
        """The two tokens' sums of a cascade: the upper one gives back what the lower borrowed."""
        low = Signal(signed(FIELD), reset_less=True)
        high = Signal(signed(FIELD), reset_less=True)
        m.d.sync += [
            low.eq(packed[:FIELD]),
            high.eq(packed[FIELD : 2 * FIELD] + packed[FIELD - 1]),
        ]
        ends[0].append(low)
        ends[1].append(high)


def _tree(m: Module, terms: list) -> Signal:
    """Sum of ``terms``, two at a time, a level a cycle."""
    while len(terms) > 1:
        sums = [Signal(signed(FIELD), reset_less=True) for _ in terms[::2]]
        for total, left, right in zip(sums, terms[::2], terms[1::2], strict=True):
            m.d.sync += total.eq(left + right)
        terms = sums
    return terms[0]
