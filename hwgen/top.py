"""The top module: the engine behind flat AXI ports, named so that Vivado infers the buses."""

from amaranth import ClockDomain, ClockSignal, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen import axi
from hwgen.engine import Engine
from spec.config import Config

CONTROL = "s_axi_control"


def master(port: int) -> str:
    """Prefix of a memory port's signals."""
    return f"m_axi_hp{port}"


class Top(wiring.Component):
    """``aclk``, ``aresetn`` (synchronous, active low), ``irq``, ``s_axi_control_*`` and, for each
    port p, ``m_axi_hp<p>_*``; port 0 also writes."""

    def __init__(self, config: Config):
        self._config = config
        flat = {"aclk": ("in", 1), "aresetn": ("in", 1), "irq": ("out", 1)}
        flat |= axi.flat_control(CONTROL)
        for port in range(config.ports):
            flat |= axi.flat_master(master(port), config.port_bits, writes=port == 0)
        directions = {"in": In, "out": Out}
        super().__init__({name: directions[way](shape) for name, (way, shape) in flat.items()})

    def elaborate(self, platform) -> Module:
        m = Module()
        # Resets enter through registers of their own: they reach the whole device. The control
        # port outlives the reset of the engine that it commands.
        m.domains.sync = ClockDomain(local=True)
        m.domains.port = ClockDomain(local=True)
        m.domains.always = ClockDomain(local=True, reset_less=True)
        m.submodules.engine = engine = Engine(self._config)
        reset = Signal(init=1)
        port_reset = Signal(init=1)
        m.d.always += [
            reset.eq(~self.aresetn | engine.reset),
            port_reset.eq(~self.aresetn),
        ]
        m.d.comb += [
            *[ClockSignal(name).eq(self.aclk) for name in ("sync", "port", "always")],
            ResetSignal().eq(reset),
            ResetSignal("port").eq(port_reset),
        ]
        m.d.comb += self.irq.eq(engine.irq)
        self._control(m, engine.control)
        for port, read in enumerate(engine.read):
            self._request(m, f"{master(port)}_ar", read.ar, engine.epoch)
            self._take(m, f"{master(port)}_r", read.r, ("data", "resp", "last", "id"))
        prefix = master(0)
        self._request(m, f"{prefix}_aw", engine.write.aw, engine.epoch)
        self._give(m, f"{prefix}_w", engine.write.w, ("data", "last"))
        m.d.comb += getattr(self, f"{prefix}_wstrb").eq(~0)
        self._take(m, f"{prefix}_b", engine.write.b, ("resp", "id"))
        return m

    def _control(self, m: Module, control) -> None:
        for name in ("aw", "ar"):
            channel = getattr(control, name)
            self._handshake(m, f"{CONTROL}_{name}", channel, taking=True)
            m.d.comb += channel.payload.eq(getattr(self, f"{CONTROL}_{name}addr"))
        self._handshake(m, f"{CONTROL}_w", control.w, taking=True)
        m.d.comb += [
            control.w.payload.data.eq(getattr(self, f"{CONTROL}_wdata")),
            control.w.payload.strobe.eq(getattr(self, f"{CONTROL}_wstrb")),
        ]
        self._handshake(m, f"{CONTROL}_b", control.b, taking=False)
        m.d.comb += getattr(self, f"{CONTROL}_bresp").eq(control.b.payload)
        self._give(m, f"{CONTROL}_r", control.r, ("data", "resp"))

    def _request(self, m: Module, prefix: str, channel, identity) -> None:
        """A burst request: INCR, whole beats, what else AXI4 wants beside it."""
        beside = {
            "size": (self._config.port_bytes - 1).bit_length(), "burst": axi.BURST_INCR,
            "id": identity, "lock": 0, "cache": axi.CACHE_NORMAL, "prot": 0, "qos": 0,
        }  # fmt: skip
        for name, value in beside.items():
            m.d.comb += getattr(self, prefix + name).eq(value)
        m.d.comb += [
            getattr(self, prefix + "addr").eq(channel.payload.address),
            getattr(self, prefix + "len").eq(channel.payload.length),
        ]
        self._handshake(m, prefix, channel, taking=False)

    def _give(self, m: Module, prefix: str, channel, names: tuple[str, ...]) -> None:
        for name in names:
            m.d.comb += getattr(self, prefix + name).eq(channel.payload[name])
        self._handshake(m, prefix, channel, taking=False)

    def _take(self, m: Module, prefix: str, channel, names: tuple[str, ...]) -> None:
        for name in names:
            m.d.comb += channel.payload[name].eq(getattr(self, prefix + name))
        self._handshake(m, prefix, channel, taking=True)

    def _handshake(self, m: Module, prefix: str, channel, *, taking: bool) -> None:
        """valid and ready of a stream that the engine takes from, or gives to, the outside."""
        valid, ready = getattr(self, prefix + "valid"), getattr(self, prefix + "ready")
        if taking:
            m.d.comb += [channel.valid.eq(valid), ready.eq(channel.ready)]
        else:
            m.d.comb += [valid.eq(channel.valid), channel.ready.eq(ready)]
