"""AXI4 read master of one port: runs of beats in, beats out, in order, several bursts in flight."""

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hwgen import axi
from hwgen.burst import BurstCutter, Run
from hwgen.counter import stepped
from hwgen.queue import Queue
from spec.config import ADDRESS_BITS, Config


class _Flying(data.Struct):
    """A burst whose data are awaited."""

    address: unsigned(ADDRESS_BITS)
    length: unsigned(8)


class Reader(wiring.Component):
    """Reads runs of beats ahead of their use, as far as its FIFO has room.

    A burst is requested only when the FIFO has room for a whole one beyond all that is in flight,
    so the answer channel never waits. Data of another ID than ``epoch`` are dropped. RLAST ends a
    burst; where it stands is compared with the request.

    Members:
        run: In stream of ``Run``; ``RUNS`` may be queued.
        ar, r: the AXI4 read channels.
        beat: Out stream of ``port_bits``.
        stop: In, request nothing more. epoch: In, the ID of bursts.
        error: Out, one cycle for each beat answered SLVERR or DECERR.
        misfit: Out, one cycle for each beat without a request, or with RLAST set or clear wrongly.
        error_resp: Out, its response code.
        error_address: Out, start address of its burst (of none: of some burst before).
        taken: Out, one cycle per beat received.
        owing: Out, data are missing.
    """

    RUNS = 4
    """Runs that may wait: the descriptor, activations and weights of a command, and one more."""

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "run": In(stream.Signature(Run)),
                **axi.read_channels(config.port_bits),
                "beat": Out(stream.Signature(config.port_bits)),
                "stop": In(1),
                "epoch": In(1),
                "error": Out(1),
                "misfit": Out(1),
                "error_resp": Out(2),
                "error_address": Out(ADDRESS_BITS),
                "taken": Out(1),
                "owing": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self._config
        m.submodules.runs = runs = Queue(Run, self.RUNS)
        m.submodules.cutter = cutter = BurstCutter(config)
        m.submodules.beats = beats = Queue(config.port_bits, config.fifo_beats)
        m.submodules.flying = flying = Queue(_Flying, config.outstanding)
        connect(m, flipped(self.run), runs.i)
        connect(m, runs.o, cutter.run)
        connect(m, beats.o, flipped(self.beat))

        # Requests: offered from a register, once there is room for the longest burst.
        room = Signal(range(config.fifo_beats + 1), init=config.fifo_beats)
        in_flight = Signal(range(config.outstanding + 1))
        allowed = Signal()
        issue = Signal()
        m.d.comb += [
            issue.eq(cutter.burst.valid & allowed & ~self.ar.valid),
            cutter.burst.ready.eq(issue),
            flying.i.valid.eq(issue),
            flying.i.payload.eq(cutter.burst.payload),
        ]
        # `allowed` lags `in_flight` by a cycle and `room`'s causes by two; bursts are at least four
        # cycles apart, so it has seen the last one, and in between both only move the safe way.
        burst_bits = (config.burst_beats - 1).bit_length()
        m.d.sync += allowed.eq(
            room[burst_bits:].any() & (in_flight != config.outstanding) & ~self.stop
        )
        with m.If(issue):
            m.d.sync += [self.ar.valid.eq(1), self.ar.payload.eq(cutter.burst.payload)]
        with m.Elif(self.ar.ready):
            m.d.sync += self.ar.valid.eq(0)

        # Answers.
        came = Signal()
        last = Signal()
        popped = Signal()
        m.d.comb += [
            self.r.ready.eq(1),
            came.eq(self.r.valid & (self.r.payload.id == self.epoch)),
            beats.i.valid.eq(came),
            beats.i.payload.eq(self.r.payload.data),
            last.eq(came & self.r.payload.last),
            flying.o.ready.eq(last),
            popped.eq(self.beat.valid & self.beat.ready),
        ]
        change = Signal(signed(burst_bits + 2))
        returned = Signal()
        length = cutter.burst.payload.length[:burst_bits]  # beats - 1, so its complement is -beats
        spent = (Cat(~length, 1, 1) & issue.replicate(burst_bits + 2)).as_signed()
        m.d.sync += [
            returned.eq(popped),
            change.eq(spent + returned),
            room.eq(room + change),
            in_flight.eq(stepped(in_flight, issue, last & flying.o.valid)),
            self.taken.eq(came),
        ]
        self._count_data(m, spent, returned=self.taken)
        self._check(m, came, flying.o)
        return m

    def _count_data(self, m: Module, spent, returned) -> None:
        """Beats requested and not received, by themselves: what RLAST says may be wrong."""
        most = self._config.outstanding * self._config.burst_beats
        owed = Signal(signed(most.bit_length() + 2))  # negative; what nobody asked for stops at 0
        change = Signal.like(spent)
        m.d.sync += [
            change.eq(spent + (returned & owed[-1])),
            owed.eq(owed + change),
            self.owing.eq(owed[-1]),
        ]

    def _check(self, m: Module, came, flying) -> None:
        """Compares each beat with its request, two cycles behind it."""
        burst = Signal(_Flying, reset_less=True)
        requested, marked, failed = Signal(), Signal(), Signal()
        response = Signal(2)
        position = Signal(8)  # in the burst
        m.d.sync += [
            burst.eq(flying.payload),
            requested.eq(flying.valid),
            marked.eq(self.r.payload.last),
            failed.eq(came & self.r.payload.resp[1]),
            response.eq(self.r.payload.resp),
            self.error.eq(failed),
            self.misfit.eq(self.taken & ~(requested & (marked == (position == burst.length)))),
            Cat(self.error_resp, self.error_address).eq(Cat(response, burst.address)),
        ]
        with m.If(self.taken):
            m.d.sync += position.eq(Mux(marked, 0, position + 1))
