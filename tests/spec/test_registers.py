"""The register map, and the digest over everything agreed on."""

from __future__ import annotations

import dataclasses

import pytest

from spec import commands, layout, numeric, registers
from spec.config import KV260, Config
from spec.digest import digest


def test_offsets_are_unique_and_aligned():
    offsets = list(registers.OFFSETS.values())
    assert len(set(offsets)) == len(registers.REGISTERS) == len(registers.BY_NAME)
    assert all(offset % 16 == 0 and offset < registers.WINDOW_BYTES for offset in offsets)


@pytest.mark.parametrize("register", registers.REGISTERS, ids=lambda register: register.name)
def test_register_is_well_formed(register):
    assert register.access in ("ro", "rw", "wo")
    assert register.doc
    taken: set[int] = set()
    for bits in register.bits:
        own = set(range(bits.lsb, bits.lsb + bits.width))
        assert own <= set(range(32)), bits.name
        assert not own & taken, bits.name
        taken |= own


def test_counters_are_registers():
    assert all(registers.BY_NAME[name].access == "ro" for name in registers.COUNTERS)


@pytest.mark.parametrize("name", ["status", "control", "error"])
def test_decode_is_the_inverse_of_encode(name):
    bits = registers.BY_NAME[name].bits
    for chosen in bits:
        values = {one.name: 0 for one in bits}
        values[chosen.name] = (1 << chosen.width) - 1
        assert registers.decode(name, registers.encode(name, **values)) == values


CHANGED = {
    "ports": 2, "port_bits": 64, "burst_beats": 8, "outstanding": 4, "fifo_beats": 256,
    "tokens": 4, "group": 128, "tile_rows": 32, "max_k": 4096, "clock_mhz": 200.0,
    "dsp": "portable",
}  # fmt: skip


def test_digest_covers_every_field_but_the_name():
    named = {field.name for field in dataclasses.fields(Config)}
    assert set(CHANGED) == named - {"name"}
    digests = [digest(KV260)]
    digests += [digest(dataclasses.replace(KV260, **{name: CHANGED[name]})) for name in CHANGED]
    assert len(set(digests)) == len(digests)
    assert digest(dataclasses.replace(KV260, name="other")) == digests[0]
    assert all(0 <= value < 1 << 64 for value in digests)


def test_small_engines_have_a_digest_too():
    """Down to the shortest K; the layout's samples stay within it."""
    small = dataclasses.replace(KV260, max_k=128)
    assert digest(small) != digest(dataclasses.replace(small, ports=2))
    assert digest(small) != digest(dataclasses.replace(small, max_k=256))


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (registers, "VERSION", registers.VERSION + 1),
        (registers, "REGISTERS", registers.REGISTERS[:-1]),
        (commands, "FIELDS", commands.FIELDS[:-1]),
        (commands, "OPCODES", {"matmul": 2}),
        (layout, "STAGGER", 32 * 1024),
        (layout, "VERSION", layout.VERSION + 1),
        (numeric, "SHIFT_MAX", 7),
        (numeric, "round_result", lambda value, base, fmt: 0),
    ],
    ids=lambda value: str(getattr(value, "__name__", value))[:20],
)
def test_digest_covers_the_agreement(monkeypatch, module, name, value):
    before = digest.__wrapped__(KV260)
    monkeypatch.setattr(module, name, value)
    assert digest.__wrapped__(KV260) != before
