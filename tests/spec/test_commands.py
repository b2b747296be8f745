"""Descriptors: what they hold and what they refuse."""

from __future__ import annotations

import random

import pytest

from spec import commands
from spec.commands import CommandError
from spec.config import KV260, TINY, Config
from spec.layout import Matrix

GOOD = {
    "weights": 0x12_3456_7000, "weight_stride": 0x14000, "activations": 0x1000,
    "activation_stride": 0x4000, "results": 0xFF_FFFF_FFC0,
}  # fmt: skip
SETTABLE = [field for field in commands.FIELDS if field.name not in ("magic", "check")]


@pytest.mark.parametrize("seed", range(50))
def test_unpack_is_the_inverse_of_pack(seed):
    random.seed(seed)
    values = {field.name: random.getrandbits(field.width) for field in SETTABLE}
    if seed < 2:  # corners
        values = {field.name: seed * ((1 << field.width) - 1) for field in SETTABLE}
    data = commands.pack(values)
    assert len(data) == commands.BYTES
    found = commands.unpack(data)
    assert {name: found[name] for name in values} == values, f"seed {seed}"
    words = [int.from_bytes(data[at : at + 4], "little") for at in range(0, 64, 4)]
    assert sum(words) % (1 << 32) == commands.CHECK_SUM


def test_fields_do_not_overlap():
    taken: set[int] = set()
    for field in commands.FIELDS:
        bits = set(range(32 * field.word + field.lsb, 32 * field.word + field.lsb + field.width))
        assert not bits & taken, field.name
        assert max(bits) < 8 * commands.BYTES
        taken |= bits


@pytest.mark.parametrize("bit", range(0, 512, 7))
def test_a_flipped_bit_is_refused(bit):
    data = bytearray(commands.pack({"opcode": 1, "tokens": 3}))
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CommandError, match="magic or check sum is wrong"):
        commands.unpack(bytes(data))


@pytest.mark.parametrize("data", [bytes(64), b"\xff" * 64])
def test_empty_memory_is_refused(data):
    with pytest.raises(CommandError, match="not a descriptor"):
        commands.unpack(data)


def test_wrong_sizes_fields_and_values():
    with pytest.raises(CommandError, match="has 64 bytes, got 63"):
        commands.unpack(bytes(63))
    with pytest.raises(CommandError, match="no field 'speed'"):
        commands.pack({"speed": 1})
    with pytest.raises(CommandError, match="no field 'check' to set"):
        commands.pack({"check": 1})
    for value in (256, -1):
        with pytest.raises(CommandError, match=f"tokens = {value} does not fit 8 bits"):
            commands.pack({"tokens": value})


def test_matmul_describes_its_matrix():
    matrix = Matrix(KV260, 100, 896, 8, 128)
    fields = commands.unpack(
        commands.pack(commands.matmul(matrix, 3, **GOOD, result_format="bf16", tag=77))
    )
    assert {name: fields[name] for name in GOOD} == GOOD
    assert (fields["opcode"], fields["weights8"], fields["group"]) == (1, 1, 2)
    assert (fields["tokens"], fields["result_format"], fields["tag"]) == (3, 1, 77)
    assert (fields["tiles"], fields["chunks"]) == (2, 14)
    assert fields["weight_beats"] == matrix.beats
    assert fields["activation_beats"] == matrix.activation_beats(3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tokens": 0}, r"tokens must lie in 1\.\.8, got 0"),
        ({"tokens": 9}, r"tokens must lie in 1\.\.8, got 9"),
        ({"result_format": "fp16"}, "result format must be fp32 or bf16, got 'fp16'"),
        *[({name: 0x1020}, f"{name} must be a multiple of 64 bytes, got 0x1020") for name in GOOD],
    ],
    ids=str,
)
def test_matmul_refuses(changes, sentence):
    with pytest.raises(CommandError, match=sentence):
        commands.matmul(Matrix(KV260, 64, 128, 4, 64), **{"tokens": 1, **GOOD, **changes})


@pytest.mark.parametrize("name", GOOD)
def test_address_beyond_its_field_is_refused(name):
    fields = commands.matmul(Matrix(TINY, 64, 128, 4, 64), 1, **{**GOOD, name: 1 << 46})
    with pytest.raises(CommandError, match=f"{name} = .* does not fit"):
        commands.pack(fields)


@pytest.mark.parametrize("ports", [1, 2, 4])
def test_engine_order_is_the_striped_regions(ports):
    config = Config(ports=ports, port_bits=128)
    order = commands.engine_order(config)
    assert sorted(order) == list(range(commands.BYTES))
    part = commands.BYTES // ports
    for arrival, offset in enumerate(order):
        beat, inside = divmod(arrival, config.beat_bytes)
        port, byte = divmod(inside, config.port_bytes)
        assert divmod(offset, part) == (port, beat * config.port_bytes + byte)
    assert len(order) == commands.beats(config) * config.beat_bytes
