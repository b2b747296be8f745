"""Knows what each beat of the stream is, and when it may pass.

Within a command the order is fixed (spec.layout): the next descriptor, the activations (token
exponents; per span its block shifts and mantissas), then for each tile and chunk the rows' weights
with zeros and scales ahead of the first row that they serve. Everything behind this module is a
pipeline that never waits; all waiting is done here.
"""

from amaranth import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.fetch import Item
from hwgen.progress import Progress
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
        m.submodules.progress = progress = Progress(config)
        kind = Signal(Kind)  # of the beat that is waited for
        # It may pass: false without a kind, and before a chunk's first weights.
        may_pass = Signal()
        passed = Signal()
        first_row = Signal()  # weights of a chunk's first row are waited for
        m.d.comb += [
            passed.eq(self.beat.valid & may_pass),
            self.beat.ready.eq(may_pass),
            progress.item.eq(self.item_now),
            progress.span_passed.eq(passed & kind.shifts),
            progress.row_passed.eq(passed & kind.weights),
        ]
        m.d.sync += [
            self.data.eq(self.beat.payload),
            self.kind.eq(Mux(passed, kind.as_value(), 0)),
            self.tile_begun.eq(passed & first_row & progress.last_chunk),
            self.position.row.eq(progress.row),
            self.position.swap.eq(first_row),
            self.position.first.eq(progress.first_chunk),
            self.position.last.eq(progress.last_chunk),
        ]
        self._states(m, progress, kind, may_pass, passed, first_row)
        some_kind, waits = kind.as_value().any(), first_row & ~may_pass
        m.d.sync += [
            self.stall_data.eq(some_kind & ~self.beat.valid),
            self.stall_activation.eq(self.beat.valid & waits & ~self.chunk_ready),
            self.stall_output.eq(self.beat.valid & waits & self.chunk_ready),
            self.stall_command.eq(~some_kind),
        ]
        return m

    def _states(self, m: Module, progress, kind, may_pass, passed, first_row) -> None:
        """Which kind comes next, and whether it may pass."""
        now = self.item_now
        may_begin = Signal()  # a chunk

        def expect(state: str, **which: int) -> None:
            m.d.sync += [
                kind.as_value().eq(0), *[kind[name].eq(bit) for name, bit in which.items()],
                may_pass.eq(bool(which)),
            ]  # fmt: skip
            m.next = state

        def expect_chunk() -> None:
            with m.If(now.weights8):
                expect("SCALES", scales=1)
            with m.Else():
                expect("ZEROS", zeros=1)

        token = Signal(5)
        count = Signal(range(commands.beats(self._config)))  # a power of two: it wraps
        drain_left = Signal(range(self._drain + 1))
        drained = Signal()
        m.d.comb += may_begin.eq(self.chunk_ready & (self.room | ~progress.last_chunk))
        m.d.sync += self.loaded.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.item.ready.eq(1)]
                m.d.sync += now.eq(self.item.payload)
                with m.If(self.item.valid):
                    m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.comb += progress.begin.eq(1)
                with m.If(now.descriptor):
                    expect("DESCRIPTOR", descriptor=1)
                with m.Else():
                    expect("BASES", bases=1)
            with m.State("DESCRIPTOR"):
                m.d.comb += progress.begin.eq(1)
                with m.If(passed):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count.all()):
                        with m.If(now.matmul):
                            expect("BASES", bases=1)
                        with m.Else():
                            expect("IDLE")
            with m.State("BASES"):
                m.d.comb += progress.begin.eq(1)
                with m.If(passed):
                    expect("SHIFTS", shifts=1)
            with m.State("SHIFTS"):
                m.d.sync += token.eq(now.tokens)
                with m.If(passed):
                    expect("MANTISSAS", mantissas=1)
            with m.State("MANTISSAS"):
                with m.If(passed):
                    m.d.sync += token.eq(token - 1)
                    with m.If(token == 1):
                        expect("SHIFTS", shifts=1)
                        with m.If(progress.last_span):
                            m.d.sync += self.loaded.eq(1)
                            expect_chunk()
            with m.State("ZEROS"):
                with m.If(passed):
                    expect("SCALES", scales=1)
            with m.State("SCALES"):
                with m.If(passed):
                    expect("WEIGHTS", weights=1)
                    with m.If(progress.fresh):
                        m.d.sync += [first_row.eq(1), may_pass.eq(may_begin)]
            with m.State("WEIGHTS"):
                with m.If(~may_pass):
                    m.d.sync += may_pass.eq(may_begin)
                with m.If(passed):
                    m.d.sync += first_row.eq(0)
                    with m.If(progress.zeros_end & ~now.weights8):
                        expect("ZEROS", zeros=1)
                    with m.Elif(progress.zeros_end | progress.scales_end):
                        expect("SCALES", scales=1)
                    with m.If(progress.last_row):
                        expect_chunk()
                        with m.If(progress.last_chunk & progress.last_tile):
                            m.d.sync += [drain_left.eq(self._drain), drained.eq(0)]
                            expect("DRAIN")
            with m.State("DRAIN"):
                m.d.sync += [drain_left.eq(drain_left - 1), drained.eq(drained | (drain_left == 1))]
                with m.If(drained & self.settled):
                    m.next = "IDLE"
