"""AXI channels: names, directions and widths of the protocol, at the ports of the top."""

from __future__ import annotations

import dataclasses
import re

import pytest
from amaranth.hdl import Fragment
from amaranth.lib.wiring import In, Out, Signature

from hwgen import axi
from hwgen.top import CONTROL, Top, master
from spec.config import ADDRESS_BITS, TINY, Config
from spec.registers import WINDOW_BYTES

REQUEST = {"addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "id", "valid", "ready"}
CHANNELS = {
    "ar": REQUEST, "aw": REQUEST, "r": {"data", "resp", "last", "id", "valid", "ready"},
    "w": {"data", "strb", "last", "valid", "ready"}, "b": {"resp", "id", "valid", "ready"},
}  # fmt: skip
"""Signals of AXI4 that are used (IHI 0022, chapter A2)."""

LITE = {
    "ar": {"addr", "prot", "valid", "ready"}, "aw": {"addr", "prot", "valid", "ready"},
    "r": {"data", "resp", "valid", "ready"}, "w": {"data", "strb", "valid", "ready"},
    "b": {"resp", "valid", "ready"},
}  # fmt: skip


FOUR = dataclasses.replace(TINY, name="four", ports=4, port_bits=32, tokens=1, burst_beats=16)


def channels(flat: dict, prefix: str) -> dict[str, set[str]]:
    """Signals by channel."""
    found: dict[str, set[str]] = {}
    for name in flat:
        matched = re.fullmatch(f"{prefix}_(aw|ar|w|r|b)([a-z]+)", name)
        assert matched, name
        found.setdefault(matched[1], set()).add(matched[2])
    return found


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("bits", [32, 64, 128])
def test_a_master_has_the_protocols_signals(bits: int, writes: bool) -> None:
    flat = axi.flat_master("m", bits, writes=writes)
    wanted = ("ar", "r", "aw", "w", "b") if writes else ("ar", "r")
    assert channels(flat, "m") == {name: CHANNELS[name] for name in wanted}
    assert flat["m_rdata"][1].width == bits
    assert flat["m_araddr"][1].width == ADDRESS_BITS
    if writes:
        assert (flat["m_wdata"][1].width, flat["m_wstrb"][1].width) == (bits, bits // 8)


def test_the_control_port_covers_its_window() -> None:
    flat = axi.flat_control("s")
    assert channels(flat, "s") == LITE
    assert 1 << flat["s_awaddr"][1].width == 1 << flat["s_araddr"][1].width == WINDOW_BYTES
    assert flat["s_rdata"][1].width == flat["s_wdata"][1].width == 32


def test_who_gives_gives_valid_and_who_takes_gives_ready() -> None:
    flat = axi.flat_master("m", 64, writes=True) | axi.flat_control("s")
    for name, (direction, _) in flat.items():
        prefix, signal = name.split("_")
        gives = signal.startswith(("ar", "aw", "w")) == (prefix == "m")
        assert direction == ("out" if gives != signal.endswith("ready") else "in"), name


@pytest.mark.parametrize("config", [TINY, FOUR], ids=lambda config: config.name)
def test_the_tops_ports_are_those(config: Config) -> None:
    wanted = {"aclk": "in", "aresetn": "in", "irq": "out"}
    wanted |= {name: way for name, (way, _) in axi.flat_control(CONTROL).items()}
    for port in range(config.ports):
        flat = axi.flat_master(master(port), config.port_bits, writes=port == 0)
        wanted |= {name: way for name, (way, _) in flat.items()}
    top = Top(config)
    Fragment.get(top, None)  # its elaboration connects them all
    members = top.signature.members
    assert {name: "in" if one.flow is In else "out" for name, one in members.items()} == wanted


def test_streams_hold_what_the_flat_ports_hold() -> None:
    flat = axi.flat_master("m", 128, writes=True)
    for name, fields in (("r", ("data", "resp", "last", "id")), ("w", ("data", "last")),
                         ("b", ("resp", "id"))):  # fmt: skip
        part = Signature(axi.read_channels(128) | axi.write_channels(128)).members[name]
        payload = part.signature.members["payload"].shape
        assert part.flow is (Out if name == "w" else In)
        assert {field: flat[f"m_{name}{field}"][1].width for field in fields} == {
            field: payload[field].width for field in fields
        }
    assert axi.Burst.as_shape().size == ADDRESS_BITS + 8
