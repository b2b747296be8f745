"""Keeps the k largest results of one token while they pass: the LM head without its logits."""

from amaranth import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hwgen.queue import Queue
from spec import commands
from spec.config import Config

ROW_BITS = 20

DOOR = 4
"""Results that may be on their way into the queue, beyond those of the tile that asks for room."""


class Candidate(data.Struct):
    """A result and the row of the matrix that gave it."""

    key: unsigned(32)
    """The fp32 pattern, turned so that unsigned order is numeric order."""
    row: unsigned(ROW_BITS)


class TopK(wiring.Component):
    """A list of up to ``k`` candidates, largest first; of equal ones the lowest row stays ahead.

    Results that cannot enter the list are dropped at the door. Others queue and are inserted from
    the list's end upwards, an entry a cycle: rows come in order, so one that is only equal stays
    behind. After the first thousands of rows almost nothing enters.

    Room is given for a tile at a time, so that a tile's burst of rows always finds it.

    Members:
        clear: In, a command begins: the list is empty.
        k: In, 1..64, of the command.
        valid, pattern, row: In, a result (fp32).
        tile_begun: In, a tile's results will come. tile_ended: In, its last has come.
        room: Out, another tile may begin.
        idle: Out, every result is settled.
        index: In, the entry to show. entry: Out, ``Candidate``, two cycles later, when idle.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "k": In(7),
                "valid": In(1),
                "pattern": In(32),
                "row": In(ROW_BITS),
                "tile_begun": In(1),
                "tile_ended": In(1),
                "room": Out(1),
                "idle": Out(1),
                "index": In(6),
                "entry": Out(Candidate),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows = self._config.tile_rows
        m.submodules.queue = queue = Queue(Candidate, 2 * rows)
        full = Signal()
        threshold = Signal(32)
        settled = self._insert(m, queue.o, full, threshold)

        # At the door: the key, then whether it may enter.
        sign = self.pattern[31]
        arrived = Signal()
        candidate = Signal(Candidate, reset_less=True)
        entering = queue.i.payload
        m.d.sync += [
            arrived.eq(self.valid),
            candidate.key.eq(Mux(sign, ~self.pattern, self.pattern | (1 << 31))),
            candidate.row.eq(self.row),
            entering.eq(candidate),
            queue.i.valid.eq(arrived & (~full | (candidate.key > threshold))),
        ]

        coming = Signal(2)
        m.d.sync += [
            coming.eq(coming + self.tile_begun - self.tile_ended),
            self.room.eq((coming == 0) & ~self.tile_begun & (queue.level < rows - DOOR)),
            self.idle.eq(
                settled & (coming == 0) & (queue.level == 0) & ~arrived & ~queue.i.valid
                & ~self.valid & ~self.tile_begun
            ),
        ]  # fmt: skip
        return m

    def _insert(self, m: Module, queued, full: Signal, threshold: Signal) -> Value:
        """Inserts queued candidates; keeps ``full`` and the last entry's key, the ``threshold``."""
        m.submodules.entries = entries = memory.Memory(
            shape=Candidate, depth=commands.TOP_K_MAX, init=[], attrs={"ram_style": "distributed"}
        )
        read, write = entries.read_port(), entries.write_port()
        count = Signal(7)
        new = Signal(Candidate, reset_less=True)
        place = Signal(signed(8))
        final = Signal(7)  # the list's last place
        # Of the entry that was read a cycle ago: whether there is one, and the place below it.
        seen = Signal()
        inside = Signal()
        below = Signal(7)
        fits = Signal()
        smaller = Signal()
        settled = Signal()
        m.d.comb += [
            read.en.eq(1),
            read.addr.eq(place),
            self.entry.eq(read.data),
            smaller.eq((read.data.key < new.key) & inside),
            write.addr.eq(below),
            write.data.eq(Mux(smaller, read.data, new)),
            write.en.eq(seen & fits),
        ]
        m.d.sync += [
            seen.eq(0), inside.eq(place >= 0), below.eq(place + 1), fits.eq(place != final),
            final.eq(self.k - 1),
        ]  # fmt: skip
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [settled.eq(~queued.valid), queued.ready.eq(1)]
                m.d.sync += [new.eq(queued.payload), place.eq(self.index)]
                with m.If(queued.valid):
                    m.d.sync += place.eq(count - 1)
                    m.next = "CHECK"
            with m.State("CHECK"):  # the threshold may have risen while it queued
                m.next = "WALK"
                with m.If(full & (new.key <= threshold)):
                    m.next = "IDLE"
            with m.State("WALK"):  # an entry a cycle: each smaller one moves down by one
                m.d.sync += [place.eq(place - 1), seen.eq(1)]
                with m.If(seen & ~smaller):
                    m.d.sync += [seen.eq(0), place.eq(final)]
                    with m.If(~full):
                        m.d.sync += count.eq(count + 1)
                    m.next = "LAST"
            with m.State("LAST"):
                m.next = "THRESHOLD"
            with m.State("THRESHOLD"):
                m.d.sync += [full.eq(count == self.k), threshold.eq(read.data.key)]
                m.next = "IDLE"
        with m.If(self.clear):
            m.d.sync += [count.eq(0), full.eq(0)]
        return settled
