"""Counts where the stream stands within a command: span, row, chunk, tile."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.fetch import Item
from hwgen.formats import formats
from spec.config import Config


class Progress(wiring.Component):
    """What is asked of a count is answered a cycle or more ahead, by a flag beside it.

    So every output is a register, and holds for the beat that is waited for.

    Members:
        item: In, the command. begin: In, its operands have not begun: in each such cycle the counts
            start over.
        span_passed: In, a beat of block shifts passed. row_passed: In, a weights beat passed.
        last_span: Out, the mantissas that are waited for are of the last span.
        row: Out. fresh, last_row: Out, it is the chunk's first, last one.
        zeros_end, scales_end: Out, it is the last one that its zeros, its scales serve.
        first_chunk, last_chunk, last_tile: Out, the row is of the tile's first, last chunk, of the
            last tile.
    """

    def __init__(self, config: Config):
        self._config = config
        flags = (
            "last_span", "fresh", "last_row", "zeros_end", "scales_end", "first_chunk",
            "last_chunk", "last_tile",
        )  # fmt: skip
        super().__init__(
            {
                "item": In(Item),
                "begin": In(1),
                "span_passed": In(1),
                "row_passed": In(1),
                "row": Out(8),
                **{name: Out(1) for name in flags},
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        self._spans(m)
        self._rows(m)
        self._chunks(m)
        return m

    def _spans(self, m: Module) -> None:
        left = Signal(17)
        one_left = Signal()
        m.d.sync += one_left.eq(left == 1)
        with m.If(self.span_passed):
            m.d.sync += [left.eq(left - 1), self.last_span.eq(one_left)]
        with m.If(self.begin):
            chunks = self.item.chunks
            m.d.sync += left.eq(Mux(self.item.weights8, chunks, chunks.shift_left(1)))

    def _rows(self, m: Module) -> None:
        next_row = Signal(8)
        scale_mask, zero_mask = self._masks(m)
        with m.If(self.row_passed):
            m.d.sync += [
                self.row.eq(next_row), next_row.eq(next_row + 1), self.fresh.eq(0),
                self.last_row.eq(next_row == self._config.tile_rows - 1),
                self.zeros_end.eq((next_row | ~zero_mask).all()),
                self.scales_end.eq((next_row | ~scale_mask).all()),
            ]  # fmt: skip
        with m.If(self.begin | (self.row_passed & self.last_row)):
            m.d.sync += [
                self.row.eq(0), next_row.eq(1), self.fresh.eq(1), self.last_row.eq(0),
                self.zeros_end.eq(0), self.scales_end.eq(0),
            ]  # fmt: skip

    def _chunks(self, m: Module) -> None:
        """A tile has 16 rows or more, so the counts of chunks and tiles may follow late."""
        chunks = Signal(16)  # of the tile, left with the present one
        tiles = Signal(20)
        one_chunk = Signal()
        two_left = Signal()
        chunk_over = Signal()
        tile_over = Signal()
        ends = self.row_passed & self.last_row
        m.d.sync += [
            one_chunk.eq(self.item.chunks == 1),
            two_left.eq(chunks == 2),
            self.last_tile.eq(tiles == 1),
            chunk_over.eq(ends),
            tile_over.eq(ends & self.last_chunk),
        ]
        with m.If(ends):
            m.d.sync += [
                self.first_chunk.eq(self.last_chunk),
                self.last_chunk.eq(Mux(self.last_chunk, one_chunk, two_left)),
            ]
        with m.If(chunk_over):
            m.d.sync += chunks.eq(chunks - 1)
        with m.If(tile_over):
            m.d.sync += tiles.eq(tiles - 1)
        with m.If(tile_over | self.begin):
            m.d.sync += chunks.eq(self.item.chunks)
        with m.If(self.begin):
            m.d.sync += [
                tiles.eq(self.item.tiles), self.first_chunk.eq(1), self.last_chunk.eq(one_chunk),
            ]  # fmt: skip

    def _masks(self, m: Module) -> tuple[Signal, Signal]:
        """Rows served by a scales and by a zeros beat, minus one, for the command's format."""
        scale_mask = Signal(8)
        zero_mask = Signal(8)
        with m.Switch(Cat(self.item.weights8, self.item.group)):
            for pattern, matrix in formats(self._config):
                with m.Case(pattern):
                    m.d.sync += [
                        scale_mask.eq(min(matrix.scale_rows, 256) - 1),
                        zero_mask.eq(min(matrix.zero_rows, 256) - 1),
                    ]
        return scale_mask, zero_mask
