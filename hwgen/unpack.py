"""Takes a beat apart: nibbles minus zero points, and the scales of the row."""

from amaranth import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.formats import formats, scale_index
from hwgen.sequence import Kind
from spec import numeric
from spec.config import Config


class Unpack(wiring.Component):
    """``w[lane] = nibble - zero`` and, per partial sum, the fp16 scale of its group.

    Zeros and scales beats are held and shifted down by one row's worth with each weights beat, so
    the row at hand always finds its own at the bottom. An int8 weight w is stored as w + 128: its
    low nibbles lie in the low half of the beat (zero 0), its high ones in the high half (zero 8).

    Latency: 2 cycles from beat to ``weights`` and ``scales``.

    Members:
        data, kind: In, the beat that passed.
        weights8, group: In, of the command.
        weights: Out, [lane] signed 5 bits.
        scales: Out, [partial sum] fp16 patterns.
    """

    latency = 2

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "data": In(config.beat_bits),
                "kind": In(Kind),
                "weights8": In(1),
                "group": In(2),
                "weights": Out(data.ArrayLayout(numeric.WEIGHT_BITS, config.lanes)),
                "scales": Out(data.ArrayLayout(16, config.subs)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        zeros, scales = self._held(m, 4, "zeros"), self._held(m, 16, "scales")

        selector = Cat(self.weights8, self.group)
        nibbles = Signal(config.beat_bits, reset_less=True)
        zero = Signal(data.ArrayLayout(4, config.subs), reset_less=True)
        scale, scale_late = (
            Signal(data.ArrayLayout(16, config.subs), name=name, reset_less=True)
            for name in ("scale", "scale_late")
        )
        m.d.sync += nibbles.eq(self.data)
        for sub in range(config.subs):
            places = {pattern: scale_index(matrix, sub) for pattern, matrix in formats(config)}
            fixed = 8 if sub >= config.subs // 2 else 0  # of int8's high and low nibbles
            held = _by_place(selector, places, zeros, 4)
            m.d.sync += [
                scale[sub].eq(_by_place(selector, places, scales, 16)),
                zero[sub].eq(Mux(self.weights8, fixed, held)),
            ]
        for lane in range(config.lanes):
            nibble = nibbles.word_select(lane, 4)
            # A register each, not one of 640 bits: simulators need not cut fields out of it.
            weight = Signal(signed(numeric.WEIGHT_BITS), name=f"weight{lane}", reset_less=True)
            m.d.sync += weight.eq(nibble - zero[lane // config.sub_lanes])
            m.d.comb += self.weights[lane].eq(weight)
        m.d.sync += scale_late.eq(scale)
        m.d.comb += self.scales.eq(scale_late)
        return m

    def _held(self, m: Module, width: int, name: str) -> Signal:
        """Register of per-group values: loaded by a beat of its kind, shifted by each row."""
        config = self._config
        held = Signal(config.beat_bits, name=f"held_{name}", reset_less=True)
        per_row = {pattern: matrix.row_scales for pattern, matrix in formats(config)}
        with m.If(self.kind[name]):
            m.d.sync += held.eq(self.data)
        with m.Elif(self.kind.weights):
            with m.Switch(Cat(self.weights8, self.group)):
                for count in sorted(set(per_row.values())):
                    with m.Case(*[key for key, value in per_row.items() if value == count]):
                        m.d.sync += held.eq(held[width * count :])
        return held


def _by_place(selector, places: dict[int, int], held, width: int):
    """The value of the place that the selected format has; formats with one place share it."""
    chosen, *others = sorted(set(places.values()))
    value = held.word_select(chosen, width)
    for place in others:
        patterns = [pattern for pattern, found in places.items() if found == place]
        value = Mux(selector.matches(*patterns), held.word_select(place, width), value)
    return value
