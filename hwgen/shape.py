"""Whether a descriptor's counts of beats are those of its shape: else the engine would wait."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.formats import formats
from spec import commands
from spec.config import Config
from spec.layout import MAX_ROWS, Matrix

Shape = data.StructLayout(
    {
        name: commands.BY_NAME[name].width
        for name in (
            "weights8", "group", "result_format", "tokens", "top_k", "chunks", "tiles",
            "last_rows", "activation_beats", "weight_beats", "result_beats",
        )
    }
)  # fmt: skip
"""Fields of a descriptor that must agree with each other."""


class ShapeCheck(wiring.Component):
    """Multiplies shapes out, a bit a cycle (Horner's scheme), and compares.

    Formulas, with spans = chunks, or twice as many for int4:

        activation_beats = 1 + spans (tokens + 1)
        weight_beats = tiles chunks (tile_rows + beats of scales + beats of zeros)
        result_beats = tiles tokens (words of a tile), or tokens top_k (words of an entry)

    and the limits of ``spec.commands.check``. Latency: ``latency`` cycles from ``begin``, for
    which ``shape`` must hold.

    Members:
        shape: In. begin: In, one cycle.
        wrong: Out, from ``latency`` cycles after ``begin`` on.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({"shape": In(Shape), "begin": In(1), "wrong": Out(1)})

    @staticmethod
    def _steps(config: Config) -> tuple[int, int]:
        """Cycles of the multiplications by chunks and tokens, and by the beats of a chunk."""
        chunks = _most_chunks(config, 8)
        most = max(matrix.chunk_beats for _, matrix in formats(config))
        return max(chunks, config.tokens).bit_length(), most.bit_length()

    @classmethod
    def latency(cls, config: Config) -> int:
        """Cycles from ``begin`` to ``wrong``."""
        return sum(cls._steps(config)) + 4

    def elaborate(self, platform) -> Module:
        m = Module()
        steps, more = self._steps(self._config)
        shape = self.shape
        begin = Signal()  # a cycle late, as what `_operands` derives
        passing = Signal(steps + more)
        first, second = Signal(), Signal()
        m.d.sync += [
            begin.eq(self.begin),
            passing.eq(Cat(begin, passing)),
            first.eq(begin | (first & ~passing[steps - 1])),
            second.eq(passing[steps - 1] | (second & ~passing[-1])),
        ]
        tokens_more, rows_or_choices, beats_more, chunk_beats = self._operands(m, more)
        chunks, tokens, per_chunk = Signal(steps), Signal(steps), Signal(more)
        activations, weights, results = Signal(24), Signal(32), Signal(32)
        groups = Signal(32)  # tiles x chunks
        with m.If(begin):
            m.d.sync += [
                chunks.eq(shape.chunks), tokens.eq(shape.tokens), per_chunk.eq(chunk_beats),
                activations.eq(0), groups.eq(0), results.eq(0), weights.eq(0),
            ]  # fmt: skip
        with m.If(first):
            m.d.sync += [
                chunks.eq(chunks << 1),
                tokens.eq(tokens << 1),
                activations.eq((activations << 1) + (tokens_more & _all(chunks[-1], 6))),
                groups.eq((groups << 1) + (shape.tiles & _all(chunks[-1], 20))),
                results.eq((results << 1) + (rows_or_choices & _all(tokens[-1], 20))),
            ]
        with m.If(second):
            m.d.sync += [
                per_chunk.eq(per_chunk << 1),
                weights.eq((weights << 1) + (groups & _all(per_chunk[-1], 32))),
            ]
        scaled = Signal(32)
        different = Signal(3)
        limits = self._limits(m)
        m.d.sync += [
            scaled.eq(self._words(results)),
            different[0].eq(beats_more != Mux(shape.weights8, activations, activations << 1)),
            different[1].eq(shape.weight_beats != weights),
            different[2].eq(shape.result_beats != scaled),
            self.wrong.eq(different.any() | limits),
        ]
        return m

    def _operands(self, m: Module, more: int):
        """What the products need beside the fields, from registers: tokens + 1, what each token
        writes, activation beats - 1, beats of a chunk."""
        shape = self.shape
        tokens_more, written, beats_more, chunk_beats = (
            Signal(6), Signal(20), Signal(24), Signal(more),
        )  # fmt: skip
        halved = max(0, (self._config.port_bytes // commands.CHOICE_BYTES).bit_length() - 1)
        m.d.sync += [
            tokens_more.eq(shape.tokens + 1),
            written.eq(Mux(shape.top_k.any(), shape.top_k[halved:], shape.tiles)),
            beats_more.eq(shape.activation_beats - 1),
        ]
        with m.Switch(Cat(shape.weights8, shape.group)):
            for pattern, matrix in formats(self._config):
                with m.Case(pattern):
                    m.d.sync += chunk_beats.eq(matrix.chunk_beats)
        return tokens_more, written, beats_more, chunk_beats

    def _words(self, results):
        """Beats of so many tiles or list entries."""
        config, shape = self._config, self.shape
        tile = (config.tile_rows * 4 // config.port_bytes).bit_length() - 1
        entry = max(0, (commands.CHOICE_BYTES // config.port_bytes).bit_length() - 1)
        return Mux(
            shape.top_k.any(),
            results << entry,
            Mux(shape.result_format, results << tile - 1, results << tile),
        )

    def _limits(self, m: Module):
        """Whether a field is out of bounds by itself, or top-k beyond the rows; from a register."""
        config, shape = self._config, self.shape
        last_row = Signal(20 + 8)  # number of the last row that is not padding
        row_bits = (config.tile_rows - 1).bit_length()
        most = [_most_chunks(config, bits) for bits in (4, 8)]
        faults = Signal(8)
        rows = Signal(8)  # that are not padding, when fewer than 128
        many_rows = Signal()  # 128 or more
        m.d.sync += [
            last_row.eq(Cat(shape.last_rows[:row_bits], shape.tiles - 1)),
            rows.eq(last_row[:7] + 1),
            many_rows.eq(last_row[7:].any()),
        ]
        # The most tiles are a power of two, so no comparison is needed.
        top = (MAX_ROWS // config.tile_rows).bit_length() - 1
        too_many_tiles = shape.tiles[top + 1 :].any() | (shape.tiles[top] & shape.tiles[:top].any())
        some = shape.top_k.any()
        for index, fault in enumerate((
            shape.chunks > most[0], shape.chunks > most[1], too_many_tiles,
            shape.last_rows[row_bits:].any(), shape.top_k > commands.TOP_K_MAX, shape.top_k[0],
            some & shape.result_format, some & ~many_rows & (shape.top_k > rows),
        )):  # fmt: skip
            m.d.sync += faults[index].eq(fault)
        beyond = Signal()
        m.d.sync += beyond.eq(Mux(shape.weights8, faults[1], faults[0]) | faults[2:].any())
        return beyond


def _most_chunks(config: Config, bits: int) -> int:
    return config.max_k // Matrix(config, 1, 128, bits, 128).chunk_columns


def _all(bit, width: int):
    return bit.replicate(width)
