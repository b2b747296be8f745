"""AXI4 write master: one long run of beats after another, in aligned bursts."""

from amaranth import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen import axi
from hwgen.burst import BurstCutter, Run
from hwgen.counter import stepped
from hwgen.queue import Queue
from spec.config import ADDRESS_BITS, Config


class _Flying(data.Struct):
    """A burst that waits for its acknowledgement."""

    address: unsigned(ADDRESS_BITS)
    final: unsigned(1)


class Writer(wiring.Component):
    """Writes runs of beats as whole bursts: a burst is requested when all its beats are here.

    Members:
        run: In stream of ``Run``.
        beat: In stream of ``port_bits``.
        aw, w, b: the AXI4 write channels.
        stop: In, request nothing more. epoch: In, the ID of bursts; other answers are dropped.
        error, error_resp, error_address: as of ``Reader``, for each burst.
        misfit: Out, one cycle for each response without a burst.
        sent: Out, one cycle per beat written.
        offering: Out, a burst's request or data are not over. owing: Out, responses are missing.
        completed: Out, one cycle per run, when its last burst is acknowledged.
        idle: Out, nothing is queued and every burst is acknowledged.
    """

    RUNS = 4
    ACKNOWLEDGED = 8
    """Bursts that may wait for their acknowledgement."""

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "run": In(stream.Signature(Run)),
                "beat": In(stream.Signature(config.port_bits)),
                **axi.write_channels(config.port_bits),
                "stop": In(1),
                "epoch": In(1),
                "error": Out(1),
                "misfit": Out(1),
                "error_resp": Out(2),
                "error_address": Out(ADDRESS_BITS),
                "sent": Out(1),
                "offering": Out(1),
                "owing": Out(1),
                "completed": Out(1),
                "idle": Out(1, init=1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.runs = runs = Queue(Run, self.RUNS)
        m.submodules.cutter = cutter = BurstCutter(config)
        m.submodules.beats = beats = Queue(config.port_bits, max(16, 4 * config.burst_beats))
        m.submodules.flying = flying = Queue(_Flying, self.ACKNOWLEDGED)
        connect(m, flipped(self.run), runs.i)
        connect(m, runs.o, cutter.run)
        connect(m, flipped(self.beat), beats.i)

        left = Signal(range(config.burst_beats))
        in_flight = Signal(range(self.ACKNOWLEDGED + 1))
        begin = Signal()
        came = Signal()
        acknowledged = Signal()
        whole = Signal()
        busy = Signal()
        m.d.comb += [
            self.aw.payload.eq(cutter.burst.payload),
            flying.i.payload.address.eq(cutter.burst.payload.address),
            flying.i.payload.final.eq(cutter.final),
            self.w.payload.data.eq(beats.o.payload),
            self.w.payload.last.eq(left == 0),
            self.b.ready.eq(1),
            came.eq(self.b.valid & (self.b.payload.id == self.epoch)),
            acknowledged.eq(came & flying.o.valid),
            flying.o.ready.eq(acknowledged),
        ]
        with m.FSM():
            with m.State("WAIT"):
                m.d.sync += [
                    whole.eq(
                        (beats.level > cutter.burst.payload.length)
                        & (in_flight != self.ACKNOWLEDGED)
                        & cutter.burst.valid
                        & ~self.stop
                    ),
                    left.eq(cutter.burst.payload.length),
                ]
                with m.If(whole):
                    m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.sync += whole.eq(0)
                m.d.comb += [busy.eq(1), self.aw.valid.eq(1)]
                with m.If(self.aw.ready):
                    m.d.comb += [begin.eq(1), cutter.burst.ready.eq(1), flying.i.valid.eq(1)]
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [
                    busy.eq(1),
                    self.w.valid.eq(beats.o.valid),
                    beats.o.ready.eq(self.w.ready),
                ]
                with m.If(self.w.valid & self.w.ready):
                    m.d.comb += self.sent.eq(1)
                    m.d.sync += left.eq(left - 1)
                    with m.If(left == 0):
                        m.next = "WAIT"
        m.d.sync += [
            in_flight.eq(stepped(in_flight, begin, acknowledged)),
            self.error.eq(acknowledged & self.b.payload.resp[1]),
            self.misfit.eq(came & ~flying.o.valid),
            Cat(self.error_resp, self.error_address).eq(
                Cat(self.b.payload.resp, flying.o.payload.address)
            ),
            self.offering.eq(busy | whole),
            self.owing.eq(in_flight != 0),
            self.idle.eq(
                ~busy & (in_flight == 0) & cutter.idle & (runs.level == 0) & ~self.run.valid
            ),
            self.completed.eq(acknowledged & flying.o.payload.final),
        ]
        return m
