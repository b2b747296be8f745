"""Top-k per token: takes rows of results, gives the chosen ones as beats when a command ends."""

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen.pipeline import delay
from hwgen.queue import Queue
from hwgen.topk import ROW_BITS, TopK
from spec.config import Config

QUEUE = 8


class Choices(wiring.Component):
    """One ``TopK`` per token and the readout: token by token, best first, (pattern, row) pairs.

    Members:
        clear: In, a command begins. active: In, it asks for top-k. k, tokens, tiles, last_rows:
            In, of the command (``last_rows``: rows of the last tile, minus one).
        valid, row, results: In, one row of the tile: [token] fp32 patterns.
        tile_begun: In.
        room: Out, another tile may begin.
        beat: Out stream of ``port_bits``.
        idle: Out, nothing is held back.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "active": In(1),
                "k": In(7),
                "tokens": In(5),
                "tiles": In(20),
                "last_rows": In(8),
                "valid": In(1),
                "row": In((config.tile_rows - 1).bit_length()),
                "results": In(data.ArrayLayout(32, config.tokens)),
                "tile_begun": In(1),
                "room": Out(1),
                "beat": Out(stream.Signature(config.port_bits)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        last_row = self.row == config.tile_rows - 1
        tile = Signal(ROW_BITS - len(self.row))
        last_tile = Signal()
        final_tile = Signal(20)
        m.d.sync += [final_tile.eq(self.tiles - 1), last_tile.eq(tile == final_tile)]
        with m.If(self.clear):
            m.d.sync += tile.eq(0)
        with m.Elif(self.valid & last_row):
            m.d.sync += tile.eq(tile + 1)
        padding = last_tile & (self.row > self.last_rows)

        units = []
        for token in range(config.tokens):
            m.submodules[f"token{token}"] = unit = TopK(config)
            wanted = self.valid & self.active & ~padding & (token < self.tokens)
            m.d.comb += [
                unit.clear.eq(self.clear),
                unit.k.eq(self.k),
                unit.valid.eq(wanted),
                unit.pattern.eq(self.results[token]),
                unit.row.eq(Cat(self.row, tile)),
                unit.tile_begun.eq(self.tile_begun & self.active),
                unit.tile_ended.eq(self.valid & self.active & last_row),
            ]
            units.append(unit)
        settled = Signal()
        m.d.sync += [
            settled.eq(Cat(unit.idle for unit in units).all()),
            self.room.eq(Cat(unit.room for unit in units).all()),
        ]
        self._readout(m, units, tile, settled)
        return m

    def _readout(self, m: Module, units: list, tile: Signal, settled: Signal) -> None:
        """Pattern and row of each entry as two words; a word a cycle, gathered to beats."""
        bits = self._config.port_bits
        m.submodules.queue = queue = Queue(bits, QUEUE)
        connect(m, queue.o, flipped(self.beat))
        words = bits // 32
        word = Signal(8)
        token = Signal(range(self._config.tokens))
        spare = Signal()
        step = Signal()
        reading = Signal()
        whole = Signal()
        m.d.comb += step.eq(reading & spare)
        m.d.sync += [
            spare.eq(queue.level < QUEUE // 2),
            whole.eq((tile == self.tiles) & ~self.clear),  # not the tiles of the command before
        ]
        for unit in units:
            m.d.comb += unit.index.eq(word[1:])
        done = Signal()
        final_word = Signal(8)
        final_token = Signal(5)
        m.d.sync += [final_word.eq(Cat(1, (self.k - 1)[:7])), final_token.eq(self.tokens - 1)]
        with m.FSM(init="DONE"):
            with m.State("COLLECT"):
                m.d.sync += [word.eq(0), token.eq(0)]
                with m.If(whole & settled):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += reading.eq(1)
                with m.If(step):
                    m.d.sync += word.eq(word + 1)
                    with m.If(word == final_word):
                        m.d.sync += [word.eq(0), token.eq(token + 1)]
                        with m.If(token == final_token):
                            m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += done.eq(1)
                with m.If(self.clear & self.active):
                    m.next = "COLLECT"

        # A word is selected two cycles after its step, when its entry is here, then gathered.
        steps = Signal(2)
        stepped, odd = steps[-1], delay(m, word[0], 2, name="odd")
        of_token = delay(m, token, 2, name="of_token")
        chosen = Signal(32, reset_less=True)
        chosen_valid = Signal()
        entry = Array(unit.entry.as_value() for unit in units)[of_token]
        key, row = entry[:32], entry[32:]
        pattern = Mux(key[31], key ^ (1 << 31), ~key)
        gathered = Signal(bits, reset_less=True)
        filled = Signal(range(words + 1))
        m.d.sync += [
            steps.eq(Cat(step, steps)),
            chosen.eq(Mux(odd, row, pattern)), chosen_valid.eq(stepped),
            queue.i.valid.eq(0),
        ]  # fmt: skip
        with m.If(chosen_valid):
            m.d.sync += [gathered.eq(Cat(gathered, chosen)[32:]), filled.eq(filled + 1)]
            with m.If(filled == words - 1):
                m.d.sync += [filled.eq(0), queue.i.valid.eq(1)]
        m.d.comb += [
            queue.i.payload.eq(gathered),
            self.idle.eq(
                ~self.active | (done & (queue.level == 0) & ~steps.any() & ~chosen_valid
                                & ~queue.i.valid)
            ),
        ]  # fmt: skip
