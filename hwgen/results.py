"""Turns rows of results, all tokens at once, into each token's rows, one beat after another."""

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen.counter import stepped
from hwgen.pipeline import delay
from hwgen.queue import Queue
from spec.config import Config

TILES = 2
"""Tiles held: one fills while the other leaves."""

QUEUE = 16
"""Beats on their way out; half of them cover those that are still being read."""


class Results(wiring.Component):
    """A tile comes row by row and leaves token by token: spec.layout's order of results.

    Members:
        valid, row, results: In, one row: [token] 32 bits (bf16: in the upper half).
        tokens, bf16: In, of the command.
        tile_begun: In, a tile's results will come: its room is taken.
        room: Out, another tile may begin.
        beat: Out stream of ``port_bits``.
        idle: Out, no room is taken.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "valid": In(1),
                "row": In((config.tile_rows - 1).bit_length()),
                "results": In(data.ArrayLayout(32, config.tokens)),
                "tokens": In(5),
                "bf16": In(1),
                "tile_begun": In(1),
                "room": Out(1, init=1),
                "beat": Out(stream.Signature(config.port_bits)),
                "idle": Out(1, init=1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        bits = config.port_bits
        words = config.tile_rows * 32 // bits  # of one token in one tile
        words_bf16 = words // 2
        per_word = bits // 32

        # In: rows are gathered to whole beats, one memory per token.
        gathered = [
            Signal(bits, name=f"gathered{t}", reset_less=True) for t in range(config.tokens)
        ]
        full = Signal()
        side = Signal()
        in_word = Signal(range(words), reset_less=True)
        last_row = self.valid & (self.row == config.tile_rows - 1)
        rows = Mux(self.bf16, 2 * per_word - 1, per_word - 1)
        row_bits = (per_word - 1).bit_length()
        with m.If(self.valid):
            m.d.sync += in_word.eq(Mux(self.bf16, self.row[row_bits + 1 :], self.row[row_bits:]))
            for token, word in enumerate(gathered):
                wide = Cat(word[32:], self.results[token])
                short = Cat(word[16:], self.results[token][16:])
                m.d.sync += word.eq(Mux(self.bf16, short, wide))
        m.d.sync += full.eq(self.valid & ((self.row & rows) == rows))
        arrived = Signal()
        m.d.sync += arrived.eq(last_row)
        # A tile leaves long after its rows came, so it keeps the settings it came with.
        kept_tokens, kept_bf16 = (
            Array(Signal(width, name=f"{name}{i}", reset_less=True) for i in range(TILES))
            for name, width in (("tokens", 5), ("bf16", 1))
        )
        with m.If(arrived):
            m.d.sync += [
                side.eq(~side), kept_tokens[side].eq(self.tokens), kept_bf16[side].eq(self.bf16),
            ]  # fmt: skip

        out_token = Signal(range(config.tokens))
        out_word = Signal(range(words))
        out_side = Signal()
        answers = []
        for token, word in enumerate(gathered):
            m.submodules[f"token{token}"] = held = memory.Memory(
                shape=bits, depth=TILES * words, init=[], attrs={"ram_style": "distributed"}
            )
            write, read = held.write_port(), held.read_port()
            m.d.comb += [
                write.en.eq(full), write.addr.eq(Cat(in_word, side)), write.data.eq(word),
                read.addr.eq(Cat(out_word, out_side)), read.en.eq(1),
            ]  # fmt: skip
            answers.append(read.data)

        # Out: token by token, word by word, while the queue behind has room for what is on its way.
        m.submodules.queue = queue = Queue(bits, QUEUE)
        connect(m, queue.o, flipped(self.beat))
        waiting = Signal(range(TILES + 1))
        taken = Signal(range(TILES + 1))
        spare = Signal()
        step = Signal()
        done = Signal()
        sending = Signal()
        last_word = Signal()
        last_token = Signal()
        # Of the tile that leaves.
        tokens_now = Signal(5)
        bf16_now = Signal()
        m.d.sync += [
            spare.eq(queue.level < QUEUE // 2),
            tokens_now.eq(kept_tokens[out_side] - 1),
            bf16_now.eq(kept_bf16[out_side]),
            last_token.eq(out_token == tokens_now),
        ]
        m.d.comb += [step.eq(spare & sending), done.eq(step & last_word & last_token)]
        with m.If(step):
            m.d.sync += [
                out_word.eq(out_word + 1),
                last_word.eq(out_word == Mux(bf16_now, words_bf16 - 2, words - 2)),
            ]
            with m.If(last_word):
                m.d.sync += [out_word.eq(0), out_token.eq(out_token + 1)]
        with m.If(done):
            m.d.sync += [out_token.eq(0), out_side.eq(~out_side), sending.eq(0)]
        # A tile begins when the flags above have settled: cycles after the one before it.
        settled = Signal(3)
        m.d.sync += settled.eq(Cat(waiting != 0, settled) & (~(sending | done)).replicate(3))
        with m.If(settled.all()):
            m.d.sync += sending.eq(1)
        answer_token = delay(m, out_token, 1, name="answer_token")
        answer = Signal(bits, reset_less=True)
        m.d.sync += answer.eq(Array(answers)[answer_token])
        m.d.comb += [
            queue.i.valid.eq(delay(m, step, 2, name="answered", reset=True)),
            queue.i.payload.eq(answer),
        ]
        under_way = Signal(3)
        m.d.sync += under_way.eq(Cat(step, under_way))
        m.d.sync += [
            waiting.eq(stepped(waiting, arrived, done)),
            taken.eq(stepped(taken, self.tile_begun, done)),
            self.room.eq(stepped(taken, self.tile_begun, done) < TILES),
            self.idle.eq((taken == 0) & ~self.tile_begun & ~under_way.any() & (queue.level == 0)),
        ]
        return m
