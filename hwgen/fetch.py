"""Walks a command list: tells every port what to read, the sequencer what will arrive, the writer
what will leave.

For command i the ports read, in order: descriptor i + 1 (so it is here when needed), activations i,
weights i. Runs queue in the readers, so the next command's weights are requested while the present
ones are multiplied.
"""

from amaranth import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.burst import Run
from hwgen.descriptor import Command
from hwgen.scatter import Region
from spec import commands
from spec.config import ADDRESS_BITS, Config


class Item(data.Struct):
    """What arrives next on the stream: perhaps a descriptor, then perhaps a matmul's operands."""

    descriptor: unsigned(1)
    matmul: unsigned(1)
    weights8: unsigned(1)
    group: unsigned(2)
    result_format: unsigned(1)
    tokens: unsigned(5)
    top_k: unsigned(7)
    last_rows: unsigned(8)
    chunks: unsigned(16)
    tiles: unsigned(20)


SHAPE_FIELDS = (
    "weights8", "group", "result_format", "tokens", "top_k", "last_rows", "chunks", "tiles",
)  # fmt: skip
"""Fields that the sequencer takes from the descriptor as they are."""


class Fetch(wiring.Component):
    """Runs a list of ``count`` descriptors at ``address``; starts no further one once ``halt``.

    Members:
        start: In, one cycle; ``address`` and ``count`` are valid.
        halt: In, an error is held.
        command, bad: the collected descriptor.
        item: Out stream of ``Item`` to the sequencer.
        region: Out stream of ``Region`` to the ports.
        results: Out stream of ``Run`` to the writer.
        descriptor_error: Out, one cycle, a bad descriptor stopped the list.
        busy: Out, a list is being walked.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "count": In(16),
                "halt": In(1),
                "command": In(stream.Signature(Command)),
                "bad": In(1),
                "item": Out(stream.Signature(Item)),
                "region": Out(stream.Signature(Region)),
                "results": Out(stream.Signature(Run)),
                "descriptor_error": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        # Of the next descriptor.
        low = Signal(32)
        high = Signal(ADDRESS_BITS - 32)
        carry = Signal()
        left = Signal(16)
        begun = Signal()
        more = Signal()
        command = Signal(Command)
        region = self.region.payload
        item = self.item.payload
        m.d.comb += [
            self.busy.eq(1),
            item.descriptor.eq(more),
            item.matmul.eq(begun),
            *[item[name].eq(command[name]) for name in SHAPE_FIELDS],
            self.results.payload.address.eq(command.results),
            self.results.payload.beats.eq(command.result_beats),
        ]
        m.d.sync += [high.eq(high + carry), carry.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [
                    Cat(low, high).eq(self.address), left.eq(self.count), begun.eq(0), more.eq(1),
                ]  # fmt: skip
                with m.If(self.start & (self.count != 0)):
                    m.next = "ANNOUNCE"
            with m.State("ANNOUNCE"):
                m.d.comb += self.item.valid.eq(1)
                with m.If(self.item.ready):
                    m.next = "DESCRIPTOR"
                    with m.If(~more):
                        m.next = "RESULTS"
            with m.State("DESCRIPTOR"):
                m.d.comb += [
                    self.region.valid.eq(1),
                    region.address.eq(Cat(low, high)),
                    region.stride.eq(commands.BYTES // config.ports),
                    region.beats.eq(commands.beats(config)),
                ]
                with m.If(self.region.ready):
                    m.d.sync += Cat(low, carry).eq(low + commands.BYTES)
                    m.next = "WAIT"
                    with m.If(begun):
                        m.next = "RESULTS"
            with m.State("RESULTS"):
                m.d.comb += self.results.valid.eq(1)
                with m.If(self.results.ready):
                    m.next = "ACTIVATIONS"
            with m.State("ACTIVATIONS"):
                m.d.comb += [
                    self.region.valid.eq(1),
                    region.address.eq(command.activations),
                    region.stride.eq(command.activation_stride),
                    region.beats.eq(command.activation_beats),
                ]
                with m.If(self.region.ready):
                    m.next = "WEIGHTS"
            with m.State("WEIGHTS"):
                m.d.comb += [
                    self.region.valid.eq(1),
                    region.address.eq(command.weights),
                    region.stride.eq(command.weight_stride),
                    region.beats.eq(command.weight_beats),
                ]
                with m.If(self.region.ready):
                    m.next = "WAIT"
                    with m.If(~more):
                        m.next = "IDLE"
            with m.State("WAIT"):  # for the descriptor of the next command
                m.d.comb += self.command.ready.eq(1)
                m.d.sync += [command.eq(self.command.payload), more.eq(left != 1)]
                with m.If(self.command.valid):
                    m.d.sync += [left.eq(left - 1), begun.eq(1)]
                    m.next = "ANNOUNCE"
                    with m.If(self.bad | self.halt):
                        # What a failed read brought is no descriptor: one cause, one code.
                        m.d.comb += self.descriptor_error.eq(self.bad & ~self.halt)
                        m.next = "IDLE"
        return m
