"""The whole device without a block design: PS8, MMCM, reset, control bridge and the engine.

The second route to a bitstream: Amaranth's own Vivado flow builds ``Design`` for a platform. On a
Kria module the stock firmware configures the PS, so the primitive needs no settings, only wires.
It is also what Yosys maps to say whether engine and surroundings fit the device.
"""

from amaranth import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    DomainRenamer,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)  # fmt: skip
from amaranth.lib import io, wiring
from amaranth.lib.wiring import Out

from hwgen.board import boards, clocking
from hwgen.board.control_bridge import BITS, ID_BITS, ControlBridge
from hwgen.top import CONTROL, Top, master
from spec.config import Config

FAN_OUTPUT = 2
"""Output of TTC0 that the kernel's pwm-fan uses."""

DOMAIN = "fabric"

HIGH_ID_BITS = 6
HIGH_ADDRESS_BITS = 49
FULL_ADDRESS_BITS = 40


class System(wiring.Component):
    """Everything in the programmable logic; ``fan``: the fan's enable."""

    fan: Out(1)

    def __init__(self, config: Config):
        self._config = config
        self._mmcm = clocking.settings(config.clock_mhz)
        super().__init__()

    @classmethod
    def of(cls, config: Config) -> "System":
        """The system of a configuration.

        Raises:
            BoardError: ports that are not 128 bits wide, or a clock that no MMCM makes.
        """
        if config.port_bits != BITS:
            raise boards.BoardError(
                f"the design without block design has HP ports of {BITS} bits, got"
                f" {config.port_bits}: use the block design"
            )
        clocking.settings(config.clock_mhz)
        return cls(config)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains.fabric = ClockDomain(local=True)  # the engine brings a "sync" of its own
        m.submodules.engine = top = Top(self._config)
        m.submodules.bridge = bridge = DomainRenamer(DOMAIN)(ControlBridge())
        plain = Signal()
        locked = Signal()
        gpio = Signal(96)
        wave = Signal(3)
        pins = {
            "o_EMIOGPIOO": gpio,
            "o_EMIOTTC0WAVEO": wave,
            "o_PLCLK": Cat(plain, Signal(3, name="other_clocks")),
            "i_PLPSIRQ0": Cat(top.irq, Const(0, 7)),
            "i_MAXIGP0ACLK": ClockSignal(DOMAIN),
        }
        pins |= self._full_power(m, bridge)
        for port in range(self._config.ports):
            pins |= self._high_port(m, top, port)
        m.submodules.ps = Instance("PS8", **pins)
        self._clock(m, platform, plain, locked)
        self._reset(m, gpio[boards.RESET_BIT], locked)
        m.d.comb += [
            top.aclk.eq(ClockSignal(DOMAIN)),
            top.aresetn.eq(~ResetSignal(DOMAIN)),
            self.fan.eq(wave[FAN_OUTPUT]),
        ]
        self._control(m, bridge, top)
        return m

    def _clock(self, m: Module, platform, plain: Signal, locked: Signal) -> None:
        """The PS's 100 MHz through its buffer, the MMCM, and a global buffer."""
        source, feedback, raw, clock = (
            Signal(name=name) for name in ("source", "feedback", "raw", "clock")
        )
        if platform is not None:  # without it no path of the design would be timed
            platform.add_clock_constraint(plain, boards.PL_CLOCK_MHZ * 1e6)
        m.submodules.source = Instance("BUFG_PS", i_I=plain, o_O=source)
        m.submodules.mmcm = Instance(
            "MMCME4_ADV",
            p_CLKIN1_PERIOD=1000 / boards.PL_CLOCK_MHZ,
            p_DIVCLK_DIVIDE=self._mmcm.divide,
            p_CLKFBOUT_MULT_F=self._mmcm.multiply,
            p_CLKOUT0_DIVIDE_F=self._mmcm.output_divide,
            i_CLKIN1=source, i_CLKINSEL=Const(1), i_CLKFBIN=feedback, o_CLKFBOUT=feedback,
            i_RST=Const(0), i_PWRDWN=Const(0), o_CLKOUT0=raw, o_LOCKED=locked,
        )  # fmt: skip
        m.submodules.buffer = Instance("BUFGCE", i_I=raw, i_CE=Const(1), o_O=clock)
        m.d.comb += ClockSignal(DOMAIN).eq(clock)

    def _reset(self, m: Module, released: Signal, locked: Signal) -> None:
        """In at once, out two cycles after clock and PS let go."""
        m.domains.early = ClockDomain(local=True, async_reset=True)
        m.d.comb += [
            ClockSignal("early").eq(ClockSignal(DOMAIN)),
            ResetSignal("early").eq(~(released & locked)),
        ]
        stages = Signal(3, init=0b111)
        m.d.early += stages.eq(Cat(Const(0, 1), stages))
        m.d.comb += ResetSignal(DOMAIN).eq(stages[-1])

    def _full_power(self, m: Module, bridge: ControlBridge) -> dict:
        """HPM0_FPD, the PS as master."""
        pins: dict = {}
        for channel in ("AW", "AR"):
            request = getattr(bridge, channel.lower())
            address = Signal(FULL_ADDRESS_BITS, name=f"hpm0_{channel}addr")
            m.d.comb += request.payload.address.eq(address)
            pins |= {
                f"o_MAXIGP0{channel}ADDR": address,
                f"o_MAXIGP0{channel}ID": request.payload.id,
                f"o_MAXIGP0{channel}LEN": request.payload.length,
                f"o_MAXIGP0{channel}SIZE": request.payload.size,
                f"o_MAXIGP0{channel}VALID": request.valid,
                f"i_MAXIGP0{channel}READY": request.ready,
            }
        w, b, r = bridge.w, bridge.b, bridge.r
        assert len(b.payload.id) == ID_BITS
        return pins | {
            "o_MAXIGP0WDATA": w.payload.data, "o_MAXIGP0WSTRB": w.payload.strobe,
            "o_MAXIGP0WLAST": w.payload.last, "o_MAXIGP0WVALID": w.valid,
            "i_MAXIGP0WREADY": w.ready,
            "i_MAXIGP0BID": b.payload.id, "i_MAXIGP0BRESP": b.payload.resp,
            "i_MAXIGP0BVALID": b.valid, "o_MAXIGP0BREADY": b.ready,
            "i_MAXIGP0RID": r.payload.id, "i_MAXIGP0RDATA": r.payload.data,
            "i_MAXIGP0RRESP": r.payload.resp, "i_MAXIGP0RLAST": r.payload.last,
            "i_MAXIGP0RVALID": r.valid, "o_MAXIGP0RREADY": r.ready,
        }  # fmt: skip

    def _control(self, m: Module, bridge: ControlBridge, top: Top) -> None:
        """The bridge's AXI4-Lite to the engine's control port."""

        def pin(name: str):
            return getattr(top, f"{CONTROL}_{name}")

        lite = bridge.lite
        for name in ("aw", "ar", "w"):
            channel = getattr(lite, name)
            m.d.comb += [
                pin(f"{name}valid").eq(channel.valid),
                channel.ready.eq(pin(f"{name}ready")),
            ]
        for name in ("b", "r"):
            channel = getattr(lite, name)
            m.d.comb += [
                channel.valid.eq(pin(f"{name}valid")),
                pin(f"{name}ready").eq(channel.ready),
            ]
        m.d.comb += [
            pin("awaddr").eq(lite.aw.payload),
            pin("araddr").eq(lite.ar.payload),
            pin("wdata").eq(lite.w.payload.data),
            pin("wstrb").eq(lite.w.payload.strobe),
            lite.b.payload.eq(pin("bresp")),
            lite.r.payload.data.eq(pin("rdata")),
            lite.r.payload.resp.eq(pin("rresp")),
        ]

    def _high_port(self, m: Module, top: Top, port: int) -> dict:
        """S_AXI_HP<port>_FPD, the engine as master, without a register slice."""
        prefix, ps = master(port), f"SAXIGP{port + 2}"
        pins = {f"i_{ps}RCLK": ClockSignal(DOMAIN), f"i_{ps}WCLK": ClockSignal(DOMAIN)}

        def wire(name: str, width: int = 0) -> None:
            signal = getattr(top, f"{prefix}_{name.lower()}", None)
            if signal is None:  # a port that only reads
                pins[f"i_{ps}{name}"] = Const(0, width or 1)
            elif width > len(signal):
                pins[f"i_{ps}{name}"] = Cat(signal, Const(0, width - len(signal)))
            else:
                pins[f"i_{ps}{name}"] = signal

        for channel in ("AR", "AW"):
            for name, width in (
                ("ADDR", HIGH_ADDRESS_BITS), ("BURST", 2), ("CACHE", 4), ("ID", HIGH_ID_BITS),
                ("LEN", 8), ("LOCK", 1), ("PROT", 3), ("QOS", 4), ("SIZE", 3), ("VALID", 1),
            ):  # fmt: skip
                wire(channel + name, width)
        for name, width in (
            ("WDATA", BITS), ("WSTRB", BITS // 8), ("WLAST", 1), ("WVALID", 1), ("BREADY", 1),
            ("RREADY", 1),
        ):  # fmt: skip
            wire(name, width)
        for name in (
            "ARREADY", "AWREADY", "WREADY", "BRESP", "BVALID", "RDATA", "RRESP", "RLAST", "RVALID",
        ):  # fmt: skip
            signal = getattr(top, f"{prefix}_{name.lower()}", None)
            if signal is not None:
                pins[f"o_{ps}{name}"] = signal
        for name in ("RID", "BID"):
            signal = getattr(top, f"{prefix}_{name.lower()}", None)
            if signal is not None:
                wide = Signal(HIGH_ID_BITS, name=f"{prefix}_{name}")
                m.d.comb += signal.eq(wide)
                pins[f"o_{ps}{name}"] = wide
        return pins


class Design(Elaboratable):
    """The system on a board's pins, for ``platform.build``."""

    def __init__(self, config: Config):
        self._config = config

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.system = system = System.of(self._config)
        m.submodules.fan = fan = io.Buffer("o", platform.request("fan", dir="-"))
        m.d.comb += fan.o.eq(system.fan)
        return m
