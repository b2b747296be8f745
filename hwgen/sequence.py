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
        chunk_ready, room: In, as above.
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
        passed = Signal()
        gate = Signal()
        first_row = Signal()
        waits = Signal()
        m.d.comb += [
            waits.eq(first_row & ~gate),
            passed.eq(self.beat.valid & kind.as_value().any() & ~waits),
            self.beat.ready.eq(kind.as_value().any() & ~waits),
        ]
        m.d.sync += [
            self.data.eq(self.beat.payload),
            self.kind.eq(Mux(passed, kind.as_value(), 0)),
            self.stall_data.eq(kind.as_value().any() & ~self.beat.valid),
            self.stall_activation.eq(self.beat.valid & waits & ~self.chunk_ready),
            self.stall_output.eq(self.beat.valid & waits & self.chunk_ready),
            self.stall_command.eq(~kind.as_value().any()),
        ]

        row = Signal(range(config.tile_rows))
        token, spans = Signal(5), Signal(17)
        chunk, tile = Signal(16), Signal(20)
        first_chunk, last_chunk, next_last, last_tile = Signal(), Signal(), Signal(), Signal()
        scale_mask, zero_mask = self._row_masks(m, now)
        m.d.sync += [
            gate.eq(self.chunk_ready & (self.room | ~last_chunk)),
            # Known a whole chunk ahead, so that `last_chunk` changes together with `chunk`.
            next_last.eq(Mux(last_chunk, now.chunks == 1, chunk + 2 == now.chunks)),
            last_tile.eq(tile == now.tiles - 1),
            self.loaded.eq(0),
            self.tile_begun.eq(passed & kind.weights & first_row & last_chunk),
            self.position.row.eq(row),
            self.position.swap.eq(first_row),
            self.position.first.eq(first_chunk),
            self.position.last.eq(last_chunk),
        ]

        def expect(state: str, **which: int) -> None:
            m.d.sync += [kind.as_value().eq(0), *[kind[name].eq(bit) for name, bit in
                                                  which.items()]]  # fmt: skip
            m.next = state

        def expect_chunk() -> None:
            m.d.sync += [row.eq(0), first_row.eq(0)]
            with m.If(now.weights8):
                expect("SCALES", scales=1)
            with m.Else():
                expect("ZEROS", zeros=1)

        def expect_matmul() -> None:
            m.d.sync += [
                spans.eq(Mux(now.weights8, now.chunks, now.chunks.shift_left(1))),
                token.eq(now.tokens), chunk.eq(0), tile.eq(0), first_chunk.eq(1),
                last_chunk.eq(now.chunks == 1),
            ]  # fmt: skip
            expect("BASES", bases=1)

        drained = Signal(range(self._drain + 1))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.item.ready.eq(1)]
                m.d.sync += [now.eq(self.item.payload), kind.as_value().eq(0)]
                with m.If(self.item.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                with m.If(now.descriptor):
                    expect("DESCRIPTOR", descriptor=1)
                with m.Else():
                    expect_matmul()
            with m.State("DESCRIPTOR"):
                count = Signal(range(commands.beats(config) + 1))
                with m.If(passed):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == commands.beats(config) - 1):
                        m.d.sync += count.eq(0)
                        with m.If(now.matmul):
                            expect_matmul()
                        with m.Else():
                            expect("IDLE")
            with m.State("BASES"):
                with m.If(passed):
                    expect("SHIFTS", shifts=1)
            with m.State("SHIFTS"):
                m.d.sync += token.eq(now.tokens)
                with m.If(passed):
                    m.d.sync += spans.eq(spans - 1)
                    expect("MANTISSAS", mantissas=1)
            with m.State("MANTISSAS"):
                with m.If(passed):
                    m.d.sync += token.eq(token - 1)
                    with m.If(token == 1):
                        expect("SHIFTS", shifts=1)
                        with m.If(spans == 0):
                            m.d.sync += self.loaded.eq(1)
                            expect_chunk()
            with m.State("ZEROS"):
                with m.If(passed):
                    expect("SCALES", scales=1)
            with m.State("SCALES"):
                with m.If(passed):
                    m.d.sync += first_row.eq(row == 0)
                    expect("WEIGHTS", weights=1)
            with m.State("WEIGHTS"):
                with m.If(passed):
                    m.d.sync += [row.eq(row + 1), first_row.eq(0)]
                    with m.If(((row + 1) & zero_mask) == 0):
                        with m.If(~now.weights8):
                            expect("ZEROS", zeros=1)
                        with m.Else():
                            expect("SCALES", scales=1)
                    with m.Elif(((row + 1) & scale_mask) == 0):
                        expect("SCALES", scales=1)
                    with m.If(row == config.tile_rows - 1):
                        m.d.sync += [
                            chunk.eq(chunk + 1), first_chunk.eq(0), last_chunk.eq(next_last),
                        ]  # fmt: skip
                        expect_chunk()
                        with m.If(last_chunk):
                            m.d.sync += [chunk.eq(0), first_chunk.eq(1), tile.eq(tile + 1)]
                            with m.If(last_tile):
                                m.d.sync += drained.eq(self._drain)
                                expect("DRAIN")
            with m.State("DRAIN"):
                with m.If(drained != 0):
                    m.d.sync += drained.eq(drained - 1)
                with m.Elif(self.settled):
                    m.next = "IDLE"
        return m

    def _row_masks(self, m: Module, now) -> tuple[Signal, Signal]:
        """Rows served by a scales and by a zeros beat, minus one, for the command's format."""
        scale_mask, zero_mask = Signal(8), Signal(8)
        with m.Switch(Cat(now.weights8, now.group)):
            for pattern, matrix in formats(self._config):
                with m.Case(pattern):
                    m.d.sync += [
                        scale_mask.eq(min(matrix.scale_rows, 256) - 1),
                        zero_mask.eq(min(matrix.zero_rows, 256) - 1),
                    ]
        return scale_mask, zero_mask
