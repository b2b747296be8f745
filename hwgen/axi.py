"""AXI4 and AXI4-Lite channels as streams, and their flat names on the top module.

Source: ARM IHI 0022, AMBA AXI protocol. Bursts are INCR, whole beats wide, with one ID at a
time, so every answer comes in order. The ID changes when answers are given up (hwgen.abandon).
"""

from amaranth import Shape, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from spec.config import ADDRESS_BITS
from spec.registers import WINDOW_BYTES

CONTROL_ADDRESS_BITS = (WINDOW_BYTES - 1).bit_length()
BURST_INCR = 1
CACHE_NORMAL = 0b0011
"""Normal, not cacheable, bufferable: lets the interconnect widen and merge."""


class Burst(data.Struct):
    """A burst request (AR or AW): start address and beats - 1."""

    address: unsigned(ADDRESS_BITS)
    length: unsigned(8)


def read_data(bits: int) -> data.StructLayout:
    """One beat of an answer (R)."""
    return data.StructLayout({"data": bits, "resp": 2, "last": 1, "id": 1})


def write_data(bits: int) -> data.StructLayout:
    """One beat to write (W); every byte of it is valid."""
    return data.StructLayout({"data": bits, "last": 1})


WRITE_RESPONSE = data.StructLayout({"resp": 2, "id": 1})
"""The answer to a write burst (B)."""


def read_channels(bits: int) -> dict:
    """Members of an AXI4 read master of ``bits``: ``ar`` and ``r``."""
    return {"ar": Out(stream.Signature(Burst)), "r": In(stream.Signature(read_data(bits)))}


def write_channels(bits: int) -> dict:
    """Members of an AXI4 write master of ``bits``: ``aw``, ``w`` and ``b``."""
    return {
        "aw": Out(stream.Signature(Burst)),
        "w": Out(stream.Signature(write_data(bits))),
        "b": In(stream.Signature(WRITE_RESPONSE)),
    }


class LiteWrite(data.Struct):
    """An AXI4-Lite write beat."""

    data: unsigned(32)
    strobe: unsigned(4)


class LiteRead(data.Struct):
    """An AXI4-Lite read answer."""

    data: unsigned(32)
    resp: unsigned(2)


ControlPort = Signature(
    {
        "aw": In(stream.Signature(CONTROL_ADDRESS_BITS)),
        "w": In(stream.Signature(LiteWrite)),
        "b": Out(stream.Signature(2)),
        "ar": In(stream.Signature(CONTROL_ADDRESS_BITS)),
        "r": Out(stream.Signature(LiteRead)),
    }
)
"""The control port of the engine, an AXI4-Lite slave of 32 bits."""


def flat_master(prefix: str, bits: int, *, writes: bool) -> dict[str, tuple[str, Shape]]:
    """Flat AXI4 master ports: name -> (direction, shape), named so that Vivado infers the bus."""
    size = (bits // 8 - 1).bit_length()
    assert size <= 4
    channels = {"ar": "out", "r": "in"} | ({"aw": "out", "w": "out", "b": "in"} if writes else {})
    widths = {
        "ar": _REQUEST, "aw": _REQUEST,
        "r": {"id": 1, "data": bits, "resp": 2, "last": 1},
        "w": {"data": bits, "strb": bits // 8, "last": 1},
        "b": {"id": 1, "resp": 2},
    }  # fmt: skip
    return _flat(prefix, channels, widths)


def flat_control(prefix: str) -> dict[str, tuple[str, Shape]]:
    """Flat AXI4-Lite slave ports: name -> (direction, shape)."""
    channels = {"aw": "in", "w": "in", "b": "out", "ar": "in", "r": "out"}
    address = {"addr": CONTROL_ADDRESS_BITS, "prot": 3}
    widths = {
        "aw": address, "ar": address, "w": {"data": 32, "strb": 4}, "b": {"resp": 2},
        "r": {"data": 32, "resp": 2},
    }  # fmt: skip
    return _flat(prefix, channels, widths)


_REQUEST = {
    "id": 1, "addr": ADDRESS_BITS, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4,
    "prot": 3, "qos": 4,
}  # fmt: skip


def _flat(prefix: str, channels: dict, widths: dict) -> dict[str, tuple[str, Shape]]:
    opposite = {"in": "out", "out": "in"}
    ports = {}
    for channel, direction in channels.items():
        for field, width in widths[channel].items():
            ports[f"{prefix}_{channel}{field}"] = (direction, unsigned(width))
        ports[f"{prefix}_{channel}valid"] = (direction, unsigned(1))
        ports[f"{prefix}_{channel}ready"] = (opposite[direction], unsigned(1))
    return ports
