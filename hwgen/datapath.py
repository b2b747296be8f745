"""From beats to rounded rows: fixed latency, never waits. Composes, computes nothing."""

from amaranth import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.accumulate import Accumulate
from hwgen.activations import Activations
from hwgen.dot import Dot, dot
from hwgen.fetch import Item
from hwgen.pipeline import delay
from hwgen.round import Round
from hwgen.scale import Scale
from hwgen.sequence import Kind, Position
from hwgen.unpack import Unpack
from spec.config import Config


class Datapath(wiring.Component):
    """Beats with their kind in, rows of results out.

    Latency: ``latency`` cycles from a tile's last weights beat to its last row.

    Members:
        data, kind, position: In, the beat that passed. item, loaded: In, of the sequencer.
        chunk_ready: Out, the next chunk's activations wait.
        results, results_valid, results_row: Out, [token] 32 bits.
        out_of_range: Out, a result was too large or too small for fp32.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "data": In(config.beat_bits),
                "kind": In(Kind),
                "position": In(Position),
                "item": In(Item),
                "loaded": In(1),
                "chunk_ready": Out(1),
                "results": Out(data.ArrayLayout(32, config.tokens)),
                "results_valid": Out(1),
                "results_row": Out((config.tile_rows - 1).bit_length()),
                "out_of_range": Out(1),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        """Sum of the parts' latencies."""
        to_terms = Unpack.latency + Dot.latency(config) + Scale.latency
        return to_terms + Accumulate.latency(config) + Round.latency

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.activations = activations = Activations(config)
        m.submodules.unpack = unpack = Unpack(config)
        m.submodules.dot = products = dot(config)
        m.submodules.scale = scale = Scale(config)
        m.submodules.accumulate = accumulate = Accumulate(config)
        m.submodules.round = rounding = Round(config)

        swap = Signal()
        to_scales = Unpack.latency + Dot.latency(config) - Scale.ahead
        to_terms = to_scales + Scale.ahead + Scale.latency
        weights = self.kind.weights
        last = weights & self.position.last
        swap_done = delay(m, swap, to_scales - 1, name="swap_done", reset=True)
        m.d.comb += [
            swap.eq(weights & self.position.swap),
            activations.data.eq(self.data),
            activations.kind.eq(self.kind),
            activations.loaded.eq(self.loaded),
            activations.tokens.eq(self.item.tokens),
            activations.weights8.eq(self.item.weights8),
            activations.chunks.eq(self.item.chunks),
            activations.swap.eq(swap),
            activations.swap_done.eq(swap_done),
            self.chunk_ready.eq(activations.chunk_ready),
            unpack.data.eq(self.data),
            unpack.kind.eq(self.kind),
            unpack.weights8.eq(self.item.weights8),
            unpack.group.eq(self.item.group),
            products.load.eq(activations.load),
            products.swap.eq(delay(m, swap, Unpack.latency, name="dot_swap", reset=True)),
            products.weights.eq(unpack.weights),
            scale.scales.eq(delay(m, unpack.scales, to_scales - Unpack.latency, name="scales")),
            scale.lifts.eq(activations.lifts),
            scale.swap.eq(swap_done),
            scale.sums.eq(products.sums),
            accumulate.valid.eq(delay(m, weights, to_terms, name="terms_valid", reset=True)),
            accumulate.row.eq(delay(m, self.position.row, to_terms, name="terms_row")),
            accumulate.first.eq(delay(m, self.position.first, to_terms, name="terms_first")),
            accumulate.last.eq(delay(m, last, to_terms, name="terms_last", reset=True)),
            accumulate.terms.eq(scale.terms),
            rounding.valid.eq(accumulate.sums_valid),
            rounding.row.eq(accumulate.sums_row),
            rounding.sums.eq(accumulate.sums),
            rounding.bases.eq(activations.bases),
            rounding.tokens.eq(self.item.tokens),
            rounding.bf16.eq(self.item.result_format),
            self.results.eq(rounding.results),
            self.results_valid.eq(rounding.results_valid),
            self.results_row.eq(rounding.results_row),
            self.out_of_range.eq(rounding.out_of_range),
        ]
        return m
