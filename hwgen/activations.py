"""Holds a command's activations and hands them, chunk by chunk, to the multipliers."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from hwgen.pipeline import delay
from hwgen.sequence import Kind
from spec import numeric
from spec.config import Config

LIFT_BITS = 5


class Load(data.StructLayout):
    """A span of one token's mantissas on its way into the multipliers' operand registers."""

    def __init__(self, config: Config):
        super().__init__(
            {
                "mantissas": 8 * config.span,
                "half": 2,
                "token": config.tokens,
            }
        )


class Activations(wiring.Component):
    """Memory of ``max_k`` mantissas for each token, and the loader of the next chunk.

    While the rows of one chunk are multiplied, the next chunk's mantissas go, one token's span a
    cycle, into the second set of operand registers; ``chunk_ready`` says they are there. Its block
    shifts wait in ``lifts`` until the sums of that chunk reach the scale stage.

    A chunk is ready ``tokens x spans + 4`` cycles after the swap before it has passed the scale
    stage.

    Members:
        data, kind: In, the beat that passed.
        loaded: In, the last mantissas of the command passed a cycle ago or now.
        tokens, weights8, chunks: In, of the command.
        swap: In, the rows of the next chunk begin.
        swap_done: In, the same, as it arrives at the scale stage, which then takes ``lifts``.
        load: Out, ``Load``; its bits ``half`` and ``token`` are enables.
        chunk_ready: Out.
        lifts: Out, [half][token]: left shift of a half-beat's sum, 15 - shift (+ 4: high nibbles).
        bases: Out, [token] signed token exponents.
    """

    def __init__(self, config: Config):
        self._config = config
        tokens = config.tokens
        super().__init__(
            {
                "data": In(config.beat_bits),
                "kind": In(Kind),
                "loaded": In(1),
                "tokens": In(5),
                "weights8": In(1),
                "chunks": In(16),
                "swap": In(1),
                "swap_done": In(1),
                "load": Out(Load(config)),
                "chunk_ready": Out(1),
                "lifts": Out(data.ArrayLayout(data.ArrayLayout(LIFT_BITS, tokens), 2)),
                "bases": Out(data.ArrayLayout(8, tokens)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        spans = config.max_k // config.span
        m.submodules.mantissas = mantissas = memory.Memory(
            shape=config.beat_bits, depth=spans * config.tokens, init=[],
            attrs={"ram_style": "ultra"},
        )  # fmt: skip
        m.submodules.shifts = shifts = memory.Memory(shape=4 * config.tokens, depth=spans, init=[])
        write, write_shift = mantissas.write_port(), shifts.write_port()
        read, read_shift = mantissas.read_port(), shifts.read_port()
        kind = self.kind
        m.d.comb += [
            write.data.eq(self.data),
            write.en.eq(kind.mantissas),
            write_shift.data.eq(Cat(self.data[8 * t : 8 * t + 4] for t in range(config.tokens))),
            write_shift.en.eq(kind.shifts),
        ]
        with m.If(kind.bases):
            m.d.sync += [write.addr.eq(0), write_shift.addr.eq(0), self.bases.eq(self.data)]
        with m.If(kind.mantissas):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(kind.shifts):
            m.d.sync += write_shift.addr.eq(write_shift.addr + 1)

        self._loader(m, read, read_shift)
        return m

    def _loader(self, m: Module, read, read_shift) -> None:
        """Reads the next chunk: spans in turn, tokens in turn, addresses simply counting up."""
        config = self._config
        token = Signal(config.tokens)  # one-hot
        left = Signal(5)
        half = Signal()
        chunks = Signal(16)  # of the tile still to read
        last_chunk = Signal()
        last_token = Signal()
        last_half = Signal()
        reading = Signal()
        filled = Signal()
        m.d.sync += last_chunk.eq(chunks == 1)
        m.d.comb += [last_token.eq(left == 1), last_half.eq(half | self.weights8)]

        def begin() -> list:
            return [token.eq(1), left.eq(self.tokens), half.eq(0), reading.eq(1)]

        m.d.comb += [read.en.eq(1), read_shift.en.eq(1)]
        with m.If(reading):
            m.d.sync += [
                read.addr.eq(read.addr + 1),
                token.eq(token.shift_left(1)),
                left.eq(left - 1),
            ]
            with m.If(last_token):
                m.d.sync += [
                    token.eq(1), left.eq(self.tokens), half.eq(1),
                    read_shift.addr.eq(read_shift.addr + 1),
                ]  # fmt: skip
                with m.If(last_half):
                    m.d.sync += [reading.eq(0), chunks.eq(chunks - 1)]
                    with m.If(last_chunk):  # the next tile starts over
                        m.d.sync += [
                            chunks.eq(self.chunks), read.addr.eq(0), read_shift.addr.eq(0),
                        ]  # fmt: skip
        with m.If(self.swap_done | self.loaded):
            m.d.sync += begin()
        with m.If(self.kind.bases):  # of the next command: what was loaded ahead is stale
            m.d.sync += [
                reading.eq(0), chunks.eq(self.chunks), read.addr.eq(0), read_shift.addr.eq(0),
            ]  # fmt: skip

        # The memory answers a cycle later; a register behind it and one before the fan-out.
        halves = Mux(self.weights8, 0b11, Cat(~half, half))
        enables = Cat(halves & reading.replicate(2), token)
        late = delay(m, enables, 2, name="enables", reset=True)
        answer = Signal(config.beat_bits, reset_less=True)
        m.d.sync += [
            answer.eq(read.data),
            self.load.mantissas.eq(answer),
            self.load.half.eq(late[:2]),
            self.load.token.eq(late[2:]),
        ]

        shift_now = Signal(4 * config.tokens, reset_less=True)
        shift_half = delay(m, halves & reading.replicate(2), 2, name="shift_half", reset=True)
        m.d.sync += shift_now.eq(read_shift.data)
        for index in range(2):
            high = Mux(self.weights8, numeric.HIGH_NIBBLE_SHIFT, 0) if index else 0
            with m.If(shift_half[index]):
                for number in range(config.tokens):
                    shift = shift_now.word_select(number, 4)
                    m.d.sync += self.lifts[index][number].eq(numeric.SHIFT_MAX - shift + high)

        # Ready when the last mantissas are in the operand registers.
        done = reading & last_token & last_half
        m.d.comb += filled.eq(delay(m, done, 4, name="done", reset=True))
        with m.If(filled):
            m.d.sync += self.chunk_ready.eq(1)
        with m.If(self.swap | self.kind.bases):
            m.d.sync += self.chunk_ready.eq(0)
