"""The control port: AXI4-Lite slave over the registers of spec.registers."""

from amaranth import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen import axi
from hwgen.abandon import Abandon
from hwgen.watchdog import Watchdog
from spec import registers
from spec.config import ADDRESS_BITS, Config
from spec.digest import digest

CAUSES = ("data", "activation", "output", "command")
"""Causes of stalls, in the order of the registers."""

Events = data.StructLayout(
    {
        "descriptor_error": 1,
        "out_of_range": 1,
        "completed": 1,
        "sent": 1,
        "taken": 4,
        "stalls": 4,
    }
)
"""One-cycle strobes that are counted or held."""

Failure = data.StructLayout(
    {"valid": 1, "misfit": 1, "write": 1, "resp": 2, "port": 2, "address": ADDRESS_BITS}
)
"""An AXI answer that was an error, or (``misfit``) that answers nothing."""

Waits = data.StructLayout(
    {"requests": 4, "data": 4, "write_request": 1, "write_data": 1, "write_response": 1,
     "causes": 4}
)  # fmt: skip
"""What waits: the bits of the register ``waits`` in their order."""

LINGER = 4
"""Cycles that a list stays busy beyond its last transfer: its error has been recorded by then."""


class Control(wiring.Component):
    """Registers by name from spec.registers: constants, what the host sets, counters, errors.

    Members:
        bus: the AXI4-Lite slave; every address answers OKAY, unknown ones read zero.
        events, failure, waits: In, from the engine.
        busy: In, a list is running. moved: In, something passed. offering, owing: In, an AXI
            handshake is not over, answers are missing.
        start: Out, one cycle, the doorbell; list_address, list_count: Out.
        halt: Out, a read, write or descriptor error is held.
        draining, reset, epoch: Out, of ``Abandon``.
        irq: Out, a list ended and interrupts are enabled; falls when a list starts or on clear.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "bus": Out(axi.ControlPort),
                "events": In(Events),
                "failure": In(Failure),
                "waits": In(Waits),
                "busy": In(1),
                "moved": In(1),
                "offering": In(1),
                "owing": In(1),
                "start": Out(1),
                "list_address": Out(ADDRESS_BITS),
                "list_count": Out(16),
                "halt": Out(1),
                "draining": Out(1),
                "reset": Out(1),
                "epoch": Out(1),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        self._expired = Signal()
        index, value, write = self._write_channel(m)
        registered = {
            register.name: write & (index == number)
            for number, register in enumerate(registers.REGISTERS)
            if register.access != "ro"
        }
        order = {
            bits.name: registered["control"] & value[bits.lsb]
            for bits in registers.BY_NAME["control"].bits if bits.name != "irq_enable"
        }  # fmt: skip
        running = Signal()  # for the counters
        active = Signal()  # for the host
        lingering = Signal(LINGER)
        m.d.comb += running.eq(self.busy & ~self.draining)
        m.d.sync += [
            lingering.eq(Cat(self.start | running, lingering)),
            active.eq(self.start | running | lingering.any()),
        ]
        values = self._held(m, registered, value, order, active)
        values |= self._counters(m, running)
        values |= self._errors(m, order["clear"] & ~active, registered["doorbell"] & ~self.start)
        values |= self._supervise(m, order, running, values)
        identity = digest(self._config)
        values |= {
            "magic": registers.MAGIC,
            "version": registers.VERSION,
            "digest_low": identity & 0xFFFFFFFF,
            "digest_high": identity >> 32,
            "status": Cat(active, values["error"].any(), self.draining),
            "doorbell": 0,
        }
        self._read_channel(m, [values[register.name] for register in registers.REGISTERS])
        return m

    def _write_channel(self, m: Module):
        """Index, value and strobe of a whole-word write; partial ones are answered and ignored.

        Address and data are held until both are there: ``ready`` depends on no input, as AXI
        demands (IHI 0022, A3.2.1).
        """
        bus = self.bus
        address, held = Signal.like(bus.aw.payload), Signal.like(bus.w.payload)
        address_held, data_held = Signal(), Signal()
        m.d.comb += [bus.aw.ready.eq(~address_held), bus.w.ready.eq(~data_held)]
        with m.If(bus.aw.valid & bus.aw.ready):
            m.d.sync += [address.eq(bus.aw.payload), address_held.eq(1)]
        with m.If(bus.w.valid & bus.w.ready):
            m.d.sync += [held.eq(bus.w.payload), data_held.eq(1)]
        index = Signal(range(registers.WINDOW_BYTES // registers.STRIDE))
        value = Signal(32)
        write = Signal()
        both = address_held & data_held & ~bus.b.valid
        low = registers.STRIDE.bit_length() - 1
        m.d.sync += [
            index.eq(address[low:]),
            value.eq(held.data),
            write.eq(both & held.strobe.all() & (address[:low] == 0)),
        ]
        with m.If(both):
            m.d.sync += [address_held.eq(0), data_held.eq(0)]
        with m.If(both):
            m.d.sync += bus.b.valid.eq(1)
        with m.Elif(bus.b.ready):
            m.d.sync += bus.b.valid.eq(0)
        return index, value, write

    def _read_channel(self, m: Module, values: list) -> None:
        """Reads in three cycles: address, selection in two steps."""
        bus = self.bus
        row_length = 8
        offset = Signal.like(bus.ar.payload)
        busy = Signal(2)
        m.d.comb += bus.ar.ready.eq(~busy.any() & ~bus.r.valid)
        begin = bus.ar.valid & bus.ar.ready
        m.d.sync += [offset.eq(bus.ar.payload), busy.eq(Cat(begin, busy[0]))]
        low = registers.STRIDE.bit_length() - 1
        column, row = offset[low : low + 3], offset[low + 3 :]
        selected = []
        for start in range(0, len(values), row_length):
            choice = Signal(32, name=f"row{start // row_length}")
            with m.Switch(column):
                for number, value in enumerate(values[start : start + row_length]):
                    with m.Case(number):
                        m.d.sync += choice.eq(value)
                with m.Default():
                    m.d.sync += choice.eq(0)
            selected.append(choice)
        held_row = Signal.like(row)
        aligned = Signal()
        m.d.sync += [held_row.eq(row), aligned.eq(offset[:low] == 0)]
        with m.If(busy[1]):
            m.d.sync += [bus.r.valid.eq(1), bus.r.payload.data.eq(0)]
            for number, choice in enumerate(selected):
                with m.If((held_row == number) & aligned):
                    m.d.sync += bus.r.payload.data.eq(choice)
        with m.Elif(bus.r.ready):
            m.d.sync += bus.r.valid.eq(0)

    def _held(self, m: Module, writes: dict, value, order: dict, active) -> dict:
        """Registers that keep what the host writes, and the doorbell."""
        held = {}
        for name in ("scratch", "list_address_low", "list_address_high", "irq_enable"):
            held[name] = Signal(32 if name != "irq_enable" else 1, name=name)
        held["watchdog"] = Signal(32, name="watchdog", init=registers.WATCHDOG_CYCLES)
        for name in ("scratch", "list_address_low", "list_address_high", "watchdog"):
            with m.If(writes[name]):
                m.d.sync += held[name].eq(value)
        with m.If(writes["control"]):
            m.d.sync += held["irq_enable"].eq(value[1])
        m.d.comb += [
            self.list_address.eq(Cat(held["list_address_low"], held["list_address_high"])),
            self.list_count.eq(value),
            self.start.eq(writes["doorbell"] & ~active & ~self.draining),
        ]
        was_active = Signal()
        ended = Signal()
        m.d.sync += [was_active.eq(active), self.irq.eq(ended & held["irq_enable"])]
        with m.If(self.start | order["clear"]):
            m.d.sync += ended.eq(0)
        with m.Elif(was_active & ~active):
            m.d.sync += ended.eq(1)
        held["control"] = Cat(0, held.pop("irq_enable"))
        return held

    def _counters(self, m: Module, running) -> dict:
        """Free-running counters; 64 bits are counted in two halves, the carry a cycle late."""
        names = {
            "completed": self.events.completed,
            "busy_cycles": running,
            **{f"beats_port{port}": self.events.taken[port] for port in range(4)},
            "beats_written": self.events.sent,
            **{f"stall_{cause}": self.events.stalls[i] for i, cause in enumerate(CAUSES)},
        }
        counters = {}
        for name, strobe in names.items():
            counters[name] = counter = Signal(32, name=name)
            once = Signal(name=f"{name}_once")
            m.d.sync += [once.eq(strobe), counter.eq(counter + once)]
        low, high, carry = Signal(32, name="cycles_low"), Signal(32, name="cycles_high"), Signal()
        m.d.sync += [Cat(low, carry).eq(low + 1), high.eq(high + carry)]
        return counters | {"cycles_low": low, "cycles_high": high}

    def _errors(self, m: Module, clear, doorbell) -> dict:
        """Held errors; response, port and address are of the first failure since the clear."""
        flags = {
            "read": self.failure.valid & ~self.failure.misfit & ~self.failure.write,
            "write": self.failure.valid & ~self.failure.misfit & self.failure.write,
            "answer": self.failure.valid & self.failure.misfit & ~self.failure.write,
            "acknowledgement": self.failure.valid & self.failure.misfit & self.failure.write,
            "descriptor": self.events.descriptor_error,
            "doorbell": doorbell,
            "range": self.events.out_of_range,
            "watchdog": self._expired,
        }
        error = Signal(32)
        address = Signal(ADDRESS_BITS)
        places = {bits.name: bits for bits in registers.BY_NAME["error"].bits}

        def part(name: str):
            return error[places[name].lsb : places[name].lsb + places[name].width]

        failed = [part(name) for name in ("read", "write", "answer", "acknowledgement")]
        with m.If(self.failure.valid & ~Cat(failed).any()):
            m.d.sync += [
                part("response").eq(self.failure.resp),
                part("port").eq(self.failure.port),
                address.eq(self.failure.address),
            ]
        with m.If(clear):
            m.d.sync += [error.eq(0), address.eq(0)]
        for name, strobe in flags.items():
            with m.If(strobe):
                m.d.sync += part(name).eq(1)
        m.d.sync += self.halt.eq(part("read") | part("write") | part("descriptor"))
        self._timed_out = part("watchdog")
        return {
            "error": error,
            "error_address_low": address[:32],
            "error_address_high": address[32:],
        }

    def _supervise(self, m: Module, order: dict, running, values: dict) -> dict:
        """The watchdog, and what abandons a list."""
        m.submodules.watchdog = watchdog = Watchdog()
        m.submodules.abandon = abandon = Abandon()
        waits = Signal(Waits)
        with m.If(~self._timed_out):
            m.d.sync += waits.eq(self.waits)
        misfit = Signal()
        m.d.sync += misfit.eq(self.failure.valid & self.failure.misfit)
        m.d.comb += [
            watchdog.limit.eq(values["watchdog"]),
            watchdog.busy.eq(running),
            watchdog.moved.eq(self.moved),
            self._expired.eq(watchdog.expired),
            abandon.cause.eq(watchdog.expired | misfit | order["reset"]),
            abandon.give_up.eq(order["give_up"]),
            abandon.offering.eq(self.offering),
            abandon.owing.eq(self.owing),
            *[getattr(self, name).eq(getattr(abandon, name))
              for name in ("draining", "reset", "epoch")],
        ]  # fmt: skip
        return {"waits": waits}
