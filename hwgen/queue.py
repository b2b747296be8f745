"""A FIFO with stream ports, in LUT RAM or block RAM, that answers from registers."""

from amaranth import Module, Shape, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.counter import stepped

DISTRIBUTED_MAX = 64
"""Deepest queue that is kept in LUT RAM."""


class Queue(wiring.Component):
    """First in, first out; room for at least ``depth`` elements of ``shape`` (``capacity``).

    Two cycles from empty to offered; one element a cycle. ``i.ready`` and ``o.valid`` are
    registers, ``o.payload`` is the memory's (which holds it), so a user's logic may go before
    ``o.ready`` and behind the rest. Out of block RAM a register should take the payload as it is.

    Members:
        i: In stream of ``shape``.
        o: Out stream of ``shape``.
        level: Out, elements held, the one on offer too.
    """

    def __init__(self, shape, depth: int):
        self._shape = shape
        self._depth = 1 << max(1, (depth - 1).bit_length())
        self.capacity = self._depth + 1  # the memory's, and the one on offer
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(self.capacity + 1)),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        depth = self._depth
        style = "distributed" if depth <= DISTRIBUTED_MAX else "block"
        m.submodules.storage = storage = memory.Memory(
            shape=Shape.cast(self._shape).width, depth=depth, init=[], attrs={"ram_style": style}
        )
        write, read = storage.write_port(), storage.read_port()
        held = Signal(range(depth + 1))  # in the memory
        full = Signal()  # held == depth
        some = Signal()  # held != 0
        push = Signal()
        fetch = Signal()
        m.d.comb += [
            push.eq(self.i.valid & ~full),
            fetch.eq(some & (~self.o.valid | self.o.ready)),
            write.data.eq(self.i.payload),
            write.en.eq(push),
            read.en.eq(fetch),
            self.i.ready.eq(~full),
            self.o.payload.eq(read.data),
        ]
        with m.If(push):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(fetch):
            m.d.sync += read.addr.eq(read.addr + 1)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += self.o.valid.eq(some)
        several, nearly = held[1:].any(), held[:-1].all()
        m.d.sync += [
            held.eq(stepped(held, push, fetch)),
            some.eq(push | (some & (~fetch | several))),
            full.eq(~fetch & (full | (push & nearly))),
            self.level.eq(stepped(self.level, push, self.o.valid & self.o.ready)),
        ]
        return m
