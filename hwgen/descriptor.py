"""Collects a command descriptor from the stream, checks it and takes it apart."""

from amaranth import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.shape import Shape, ShapeCheck
from spec import commands
from spec.config import Config

Command = data.StructLayout(
    {field.name: unsigned(field.width) for field in commands.FIELDS if field.name != "magic"}
)
"""The fields of a descriptor."""


class DescriptorCollector(wiring.Component):
    """Holds one descriptor until it is taken; ``bad`` marks one that must not run.

    A descriptor is bad when its sum, magic or opcode is wrong, when it asks for what this engine
    cannot do (no tiles, no chunks, a token count outside 1..M, a group finer than the scale
    stage's), when its counts of beats are not those of its shape or an address is not aligned:
    whatever ``spec.commands.check`` refuses. Latency: ``latency`` cycles from the last beat.

    Members:
        beat: In, ``beat_bits`` of the stream.
        strobe: In, ``beat`` belongs to a descriptor.
        command: Out stream of ``Command``.
        bad: Out, valid with ``command``.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "beat": In(config.beat_bits),
                "strobe": In(1),
                "command": Out(stream.Signature(Command)),
                "bad": Out(1),
            }
        )

    @staticmethod
    def latency(config: Config) -> int:
        """Cycles from a descriptor's last beat to ``command.valid``."""
        return ShapeCheck.latency(config) + 2

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.check = check = ShapeCheck(config)
        beats = commands.beats(config)
        arrived = Signal(8 * commands.BYTES, reset_less=True)
        count = Signal(range(beats + 1))
        whole = Signal()
        with m.If(self.strobe):
            m.d.sync += [
                arrived.eq(Cat(arrived, self.beat)[-len(arrived) :]),
                count.eq(count + 1),
                whole.eq(count == beats - 1),
            ]
            with m.If(count == beats - 1):
                m.d.sync += count.eq(0)
        with m.Else():
            m.d.sync += whole.eq(0)

        in_memory = {place: index for index, place in enumerate(commands.engine_order(config))}
        ordered = Cat(arrived.word_select(in_memory[place], 8) for place in range(commands.BYTES))
        words = [ordered.word_select(index, 32) for index in range(commands.WORDS)]
        sums = words
        stages = 0
        while len(sums) > 1:  # an adder tree, one level a cycle
            level = [
                Signal(32, name=f"sum{stages}_{i}", reset_less=True) for i in range(len(sums) // 2)
            ]
            for total, left, right in zip(level, sums[::2], sums[1::2], strict=True):
                m.d.sync += total.eq(left + right)
            sums, stages = level, stages + 1

        fields = self.command.payload
        m.d.comb += [
            fields[name].eq(_field(ordered, field))
            for name, field in commands.BY_NAME.items() if name != "magic"
        ]  # fmt: skip
        sum_wrong = Signal()
        header_wrong = Signal()
        shape_wrong = Signal()
        faults = Signal(7)
        finest = commands.GROUP_CODES[config.group]
        opcode_wrong = fields.opcode != commands.OPCODES["matmul"]
        m.d.sync += [
            sum_wrong.eq(sums[0] != commands.CHECK_SUM),
            header_wrong.eq((words[0][:16] != commands.MAGIC) | opcode_wrong),
            shape_wrong.eq(Cat(faults).any()),
        ]
        for index, fault in enumerate((
            fields.tokens == 0, fields.tokens > config.tokens, fields.tiles == 0,
            fields.chunks == 0, fields.group < finest, fields.group == 3,
            Cat(fields[name][: commands.ALIGNMENT.bit_length() - 1] for name in commands.ALIGNED)
            .any(),
        )):  # fmt: skip
            m.d.sync += faults[index].eq(fault)
        pending = Signal(ShapeCheck.latency(config))
        assert len(pending) > stages
        m.d.comb += [
            check.begin.eq(whole),
            *[check.shape[name].eq(fields[name]) for name, _ in Shape],
        ]
        m.d.sync += pending.eq(Cat(whole, pending))
        with m.If(pending[-1]):
            m.d.sync += [
                self.command.valid.eq(1),
                self.bad.eq(sum_wrong | header_wrong | shape_wrong | check.wrong),
            ]
        with m.Elif(self.command.ready):
            m.d.sync += self.command.valid.eq(0)
        return m


def _field(image, field: commands.Field):
    start = 32 * field.word + field.lsb
    return image[start : start + field.width]
