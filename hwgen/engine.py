"""The engine: one stream of beats in, one stream of results out. Composes, computes nothing.

readers -> sequencer -> datapath -> results -> writer; the fetch unit goes ahead of all of them.
"""

from amaranth import Cat, DomainRenamer, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, Signature, connect, flipped

from hwgen import axi
from hwgen.choices import Choices
from hwgen.control import CAUSES, Control
from hwgen.datapath import Datapath
from hwgen.descriptor import DescriptorCollector
from hwgen.fetch import Fetch, Item
from hwgen.queue import Queue
from hwgen.reader import Reader
from hwgen.results import Results
from hwgen.scatter import Scatter
from hwgen.sequence import Sequencer
from hwgen.writer import Writer
from spec.config import Config


class Engine(wiring.Component):
    """The accelerator with its AXI channels as streams.

    Members:
        control: AXI4-Lite slave.
        read: one AXI4 read master per port. write: the AXI4 write master (of port 0).
        irq: Out, a list ended.
        reset: Out, of the domain ``sync``; ``port``, with the same clock, holds the control port.
        epoch: Out, the ID of all bursts.
    """

    DRAIN_MARGIN = 4
    """Cycles beyond the datapath's latency, for the registers at its two ends."""

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "control": Out(axi.ControlPort),
                "read": Out(Signature(axi.read_channels(config.port_bits))).array(config.ports),
                "write": Out(Signature(axi.write_channels(config.port_bits))),
                "irq": Out(1),
                "reset": Out(1),
                "epoch": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        registers = Control(config)
        m.submodules.registers = DomainRenamer("port")(registers)
        m.submodules.fetch = fetch = Fetch(config)
        m.submodules.items = items = Queue(Item, 4)
        m.submodules.scatter = scatter = Scatter(config)
        m.submodules.descriptor = descriptor = DescriptorCollector(config)
        drain = Datapath.latency(config) + self.DRAIN_MARGIN
        m.submodules.sequencer = sequencer = Sequencer(config, drain)
        m.submodules.datapath = datapath = Datapath(config)
        m.submodules.results = results = Results(config)
        m.submodules.writer = writer = Writer(config)

        readers = []
        for port, channels in enumerate(self.read):
            m.submodules[f"reader{port}"] = reader = Reader(config)
            connect(m, scatter.run[port], reader.run)
            m.d.comb += [
                channels.ar.payload.eq(reader.ar.payload),
                channels.ar.valid.eq(reader.ar.valid),
                reader.ar.ready.eq(channels.ar.ready),
                reader.r.payload.eq(channels.r.payload),
                reader.r.valid.eq(channels.r.valid),
                channels.r.ready.eq(reader.r.ready),
            ]
            readers.append(reader)
        for name in ("aw", "w", "b"):
            connect(m, getattr(writer, name), flipped(getattr(self.write, name)))
        connect(m, flipped(self.control), registers.bus)
        connect(m, fetch.item, items.i)
        connect(m, items.o, sequencer.item)
        connect(m, fetch.region, scatter.region)
        connect(m, fetch.results, writer.run)
        connect(m, descriptor.command, fetch.command)
        choices, active = self._choices(m, sequencer, datapath, results, writer)

        # A beat is whole when every port has its part.
        m.d.comb += [
            sequencer.beat.payload.eq(Cat(reader.beat.payload for reader in readers)),
            sequencer.beat.valid.eq(Cat(reader.beat.valid for reader in readers).all()),
            *[
                reader.beat.ready.eq(sequencer.beat.valid & sequencer.beat.ready)
                for reader in readers
            ],
        ]
        m.d.comb += [
            descriptor.beat.eq(sequencer.data),
            descriptor.strobe.eq(sequencer.kind.descriptor),
            fetch.bad.eq(descriptor.bad),
            datapath.data.eq(sequencer.data),
            datapath.kind.eq(sequencer.kind),
            datapath.position.eq(sequencer.position),
            datapath.item.eq(sequencer.item_now),
            datapath.loaded.eq(sequencer.loaded),
            sequencer.chunk_ready.eq(datapath.chunk_ready),
            sequencer.room.eq(Mux(active, choices.room, results.room)),
            sequencer.settled.eq(choices.idle),
            results.valid.eq(datapath.results_valid & ~active),
            results.row.eq(datapath.results_row),
            results.results.eq(datapath.results),
            results.tokens.eq(sequencer.item_now.tokens),
            results.bf16.eq(sequencer.item_now.result_format),
            results.tile_begun.eq(sequencer.tile_begun & ~active),
        ]
        self._control(m, registers, fetch, sequencer, datapath, writer, readers)
        m.d.comb += registers.busy.eq(
            fetch.busy | (items.level != 0) | ~sequencer.idle | ~writer.idle | ~results.idle
        )
        self._supervise(m, registers, sequencer, writer, readers)
        return m

    def _choices(self, m: Module, sequencer, datapath, results, writer):
        """Top-k beside the results, and whether the command under way asks for it.

        Its beats follow those of the command before, and the next command waits for it."""
        item = sequencer.item_now
        m.submodules.choices = choices = Choices(self._config)
        active = Signal()
        m.d.sync += active.eq(item.top_k != 0)
        m.d.comb += [
            choices.clear.eq(sequencer.kind.bases),
            choices.active.eq(active),
            choices.k.eq(item.top_k),
            *[getattr(choices, name).eq(item[name]) for name in ("tokens", "tiles", "last_rows")],
            choices.valid.eq(datapath.results_valid),
            choices.row.eq(datapath.results_row),
            choices.results.eq(datapath.results),
            choices.tile_begun.eq(sequencer.tile_begun),
        ]
        with m.If(results.idle):
            m.d.comb += [
                writer.beat.payload.eq(choices.beat.payload),
                writer.beat.valid.eq(choices.beat.valid),
                choices.beat.ready.eq(writer.beat.ready),
            ]
        with m.Else():
            m.d.comb += [
                writer.beat.payload.eq(results.beat.payload),
                writer.beat.valid.eq(results.beat.valid),
                results.beat.ready.eq(writer.beat.ready),
            ]
        return choices, active

    def _control(self, m: Module, registers, fetch, sequencer, datapath, writer, readers) -> None:
        """Doorbell, events, and the first of the failures of a cycle."""
        m.d.comb += [
            fetch.start.eq(registers.start),
            fetch.address.eq(registers.list_address),
            fetch.count.eq(registers.list_count),
            fetch.halt.eq(registers.halt),
            self.irq.eq(registers.irq),
            registers.events.descriptor_error.eq(fetch.descriptor_error),
            registers.events.out_of_range.eq(datapath.out_of_range),
            registers.events.completed.eq(writer.completed),
            registers.events.sent.eq(writer.sent),
            registers.events.taken.eq(Cat(reader.taken for reader in readers)),
            registers.events.stalls.eq(
                Mux(
                    registers.busy,
                    Cat(getattr(sequencer, f"stall_{cause}") for cause in CAUSES),
                    0,
                )
            ),
        ]
        failure = Signal.like(registers.failure)
        m.d.sync += registers.failure.eq(failure)
        sources = [(reader, port, 0) for port, reader in enumerate(readers)] + [(writer, 0, 1)]
        for unit, port, write in reversed(sources):
            with m.If(unit.error | unit.misfit):
                m.d.comb += [
                    failure.valid.eq(1),
                    failure.misfit.eq(unit.misfit),
                    failure.write.eq(write),
                    failure.resp.eq(unit.error_resp),
                    failure.port.eq(port),
                    failure.address.eq(unit.error_address),
                ]

    def _supervise(self, m: Module, registers, sequencer, writer, readers) -> None:
        """What moves and what waits, for the watchdog; how a list is abandoned."""
        requests = Cat(reader.ar.valid for reader in readers)
        taken = Cat(reader.ar.valid & reader.ar.ready for reader in readers)
        waits = registers.waits
        m.d.comb += [
            self.reset.eq(registers.reset),
            self.epoch.eq(registers.epoch),
            *[unit.stop.eq(registers.draining) for unit in (*readers, writer)],
            *[unit.epoch.eq(registers.epoch) for unit in (*readers, writer)],
        ]
        moves = Signal(3)
        m.d.sync += [
            moves.eq(
                Cat(
                    Cat(taken, Cat(reader.taken for reader in readers)).any(),
                    sequencer.kind.as_value().any(),
                    (writer.aw.valid & writer.aw.ready) | writer.sent | writer.b.valid,
                )
            ),
            registers.moved.eq(moves.any()),
            registers.offering.eq(requests.any() | writer.offering),
            registers.owing.eq(Cat(reader.owing for reader in readers).any() | writer.owing),
            waits.requests.eq(requests),
            waits.data.eq(Cat(reader.owing for reader in readers)),
            waits.write_request.eq(writer.aw.valid),
            waits.write_data.eq(writer.w.valid),
            waits.write_response.eq(writer.owing),
            waits.causes.eq(Cat(getattr(sequencer, f"stall_{cause}") for cause in CAUSES)),
        ]
