"""Knows what each beat of the stream is, and when it may pass.

Within a command the order is fixed (spec.layout): the next descriptor, the activations (token
exponents; per span its block shifts and mantissas), then for each tile and chunk the rows' weights
with zeros and scales ahead of the first row that they serve. Everything behind this module is a
pipeline that never waits; all waiting is done here.
"""

from amaranth import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.fetch import Item
from hwgen.formats import formats
from spec import commands
from spec.config import Config


class Kind(data.Struct):
    """What the present beat is: at most one bit is set."""

    descriptor: unsigned(1)
    bases: unsigned(1)
    shifts: unsigned(1)
    mantissas: unsigned(1)
    zeros: unsigned(1)
    scales: unsigned(1)
    weights: unsigned(1)


class Position(data.Struct):
    """Where a weights beat stands."""

    row: unsigned(8)
    """Row within the tile."""
    swap: unsigned(1)
    """First row of a chunk: its activations take over."""
    first: unsigned(1)
    """First chunk of the tile: the sums start at zero."""
    last: unsigned(1)
    """Last chunk of the tile: the sums leave."""


class Sequencer(wiring.Component):
    """Passes one beat a cycle unless it must wait; the beat leaves a cycle later with its kind.

    A chunk's first weights wait for ``chunk_ready``; those of a tile's last chunk also for
    ``room`` for the tile's results. Between commands it waits ``drain`` cycles, so that the
    pipeline behind it holds one command only and its settings may change, and until its top-k has
    left.

    Members:
        item: In stream of ``Item``.
        beat: In stream of ``beat_bits``.
        chunk_ready, room: In, as above; once true they stay so until taken.
        settled: In, the command's top-k, if it asks for one, has left.
        data, kind, position: Out, the beat that passed.
        item_now: Out, the settings of the command under way.
        loaded: Out, with the last mantissas of a command.
        tile_begun: Out, with the first weights of a tile's last chunk: room is taken.
        stall_data, stall_activation, stall_output, stall_command: Out, why no beat passed.
        idle: Out, no item is under way.
    """

    def __init__(self, config: Config, drain: int):
        self._config, self._drain = config, drain
        super().__init__(
            {
                "item": In(stream.Signature(Item)),
                "beat": In(stream.Signature(config.beat_bits)),
                "chunk_ready": In(1),
                "room": In(1),
                "settled": In(1),
                "data": Out(config.beat_bits),
                "kind": Out(Kind),
                "position": Out(Position),
                "item_now": Out(Item),
                "loaded": Out(1),
                "tile_begun": Out(1),
                "stall_data": Out(1),
                "stall_activation": Out(1),
                "stall_output": Out(1),
                "stall_command": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        now = self.item_now
        kind = Signal(Kind)  # of the beat that is waited for
        open_ = Signal()  # it may pass; false without a kind, and before a chunk's first weights
        passed = Signal()
        first_row = Signal()
        waits = Signal()
        m.d.comb += [
            waits.eq(first_row & ~open_),
            passed.eq(self.beat.valid & open_),
            self.beat.ready.eq(open_),
        ]
        m.d.sync += [
            self.data.eq(self.beat.payload),
            self.kind.eq(Mux(passed, kind.as_value(), 0)),
            self.stall_data.eq(kind.as_value().any() & ~self.beat.valid),
            self.stall_activation.eq(self.beat.valid & waits & ~self.chunk_ready),
            self.stall_output.eq(self.beat.valid & waits & self.chunk_ready),
            self.stall_command.eq(~kind.as_value().any()),
        ]

        # What is asked of a count is asked a cycle or more ahead, into a flag beside it.
        row = Signal(range(config.tile_rows))
        next_row = Signal(range(config.tile_rows))
        fresh = Signal()  # row == 0
        last_row = Signal()
        zeros_end = Signal()  # the row is the last one that its zeros serve
        scales_end = Signal()
        token = Signal(5)
        spans = Signal(17)
        last_span = Signal()
        one_span = Signal()
        chunks = Signal(16)  # of the tile, left with the present one
        tiles = Signal(20)
        first_chunk = Signal()
        last_chunk = Signal()
        last_tile = Signal()
        one_chunk = Signal()
        two_chunks = Signal()
        next_last = Signal()
        may_begin = Signal()  # a chunk
        scale_mask, zero_mask = self._row_masks(m, now)
        m.d.comb += [
            next_last.eq(Mux(last_chunk, one_chunk, two_chunks)),
            may_begin.eq(self.chunk_ready & (self.room | ~last_chunk)),
        ]
        m.d.sync += [
            one_chunk.eq(now.chunks == 1),
            two_chunks.eq(chunks == 2),
            last_tile.eq(tiles == 1),
            one_span.eq(spans == 1),
            self.loaded.eq(0),
            self.tile_begun.eq(passed & kind.weights & first_row & last_chunk),
            self.position.row.eq(row),
            self.position.swap.eq(first_row),
            self.position.first.eq(first_chunk),
            self.position.last.eq(last_chunk),
        ]

        def expect(state: str, **which: int) -> None:
            m.d.sync += [
                kind.as_value().eq(0), *[kind[name].eq(bit) for name, bit in which.items()],
                open_.eq(bool(which)),
            ]  # fmt: skip
            m.next = state

        def expect_chunk() -> None:
            m.d.sync += [
                row.eq(0), next_row.eq(1), fresh.eq(1), first_row.eq(0), last_row.eq(0),
                zeros_end.eq(0), scales_end.eq(0),
            ]  # fmt: skip
            with m.If(now.weights8):
                expect("SCALES", scales=1)
            with m.Else():
                expect("ZEROS", zeros=1)

        def take_shape() -> None:  # in each cycle of a state, so that no condition lengthens it
            m.d.sync += [
                spans.eq(Mux(now.weights8, now.chunks, now.chunks.shift_left(1))),
                chunks.eq(now.chunks), tiles.eq(now.tiles), first_chunk.eq(1),
                last_chunk.eq(one_chunk),
            ]  # fmt: skip

        drain_left = Signal(range(self._drain + 1))
        drained = Signal()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.item.ready.eq(1)]
                m.d.sync += now.eq(self.item.payload)
                with m.If(self.item.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                take_shape()
                with m.If(now.descriptor):
                    expect("DESCRIPTOR", descriptor=1)
                with m.Else():
                    expect("BASES", bases=1)
            with m.State("DESCRIPTOR"):
                count = Signal(range(commands.beats(config)))  # a power of two: it wraps
                take_shape()
                with m.If(passed):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count.all()):
                        with m.If(now.matmul):
                            expect("BASES", bases=1)
                        with m.Else():
                            expect("IDLE")
            with m.State("BASES"):
                take_shape()
                with m.If(passed):
                    expect("SHIFTS", shifts=1)
            with m.State("SHIFTS"):
                m.d.sync += token.eq(now.tokens)
                with m.If(passed):
                    m.d.sync += [spans.eq(spans - 1), last_span.eq(one_span)]
                    expect("MANTISSAS", mantissas=1)
            with m.State("MANTISSAS"):
                with m.If(passed):
                    m.d.sync += token.eq(token - 1)
                    with m.If(token == 1):
                        expect("SHIFTS", shifts=1)
                        with m.If(last_span):
                            m.d.sync += self.loaded.eq(1)
                            expect_chunk()
            with m.State("ZEROS"):
                with m.If(passed):
                    expect("SCALES", scales=1)
            with m.State("SCALES"):
                with m.If(passed):
                    m.d.sync += first_row.eq(fresh)
                    expect("WEIGHTS", weights=1)
                    with m.If(fresh):
                        m.d.sync += open_.eq(may_begin)
            with m.State("WEIGHTS"):
                with m.If(waits):
                    m.d.sync += open_.eq(may_begin)
                with m.If(passed):
                    m.d.sync += [
                        row.eq(next_row), next_row.eq(next_row + 1), fresh.eq(0), first_row.eq(0),
                        last_row.eq(next_row == config.tile_rows - 1),
                        zeros_end.eq((next_row | ~zero_mask).all()),
                        scales_end.eq((next_row | ~scale_mask).all()),
                    ]  # fmt: skip
                    with m.If(zeros_end & ~now.weights8):
                        expect("ZEROS", zeros=1)
                    with m.Elif(zeros_end | scales_end):
                        expect("SCALES", scales=1)
                    with m.If(last_row):
                        m.d.sync += [
                            chunks.eq(chunks - 1), first_chunk.eq(0), last_chunk.eq(next_last),
                        ]  # fmt: skip
                        expect_chunk()
                        with m.If(last_chunk):
                            m.d.sync += [
                                chunks.eq(now.chunks), first_chunk.eq(1), tiles.eq(tiles - 1),
                            ]  # fmt: skip
                            with m.If(last_tile):
                                m.d.sync += [drain_left.eq(self._drain), drained.eq(0)]
                                expect("DRAIN")
            with m.State("DRAIN"):
                m.d.sync += [drain_left.eq(drain_left - 1), drained.eq(drained | (drain_left == 1))]
                with m.If(drained & self.settled):
                    m.next = "IDLE"
        return m

    def _row_masks(self, m: Module, now) -> tuple[Signal, Signal]:
        """Rows served by a scales and by a zeros beat, minus one, for the command's format."""
        scale_mask = Signal(8)
        zero_mask = Signal(8)
        with m.Switch(Cat(now.weights8, now.group)):
            for pattern, matrix in formats(self._config):
                with m.Case(pattern):
                    m.d.sync += [
                        scale_mask.eq(min(matrix.scale_rows, 256) - 1),
                        zero_mask.eq(min(matrix.zero_rows, 256) - 1),
                    ]
        return scale_mask, zero_mask
