"""DescriptorCollector: takes good descriptors apart, marks every kind of bad one."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.descriptor import DescriptorCollector
from spec import commands
from spec.config import TINY, Config
from tests.hwgen.bench import pipeline

WIDE = dataclasses.replace(TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64)
FOUR = dataclasses.replace(TINY, name="four", ports=4, port_bits=32, tokens=16, group=128)
BROAD = dataclasses.replace(TINY, name="broad", ports=4, port_bits=128)
"""One beat to a descriptor."""
CONFIGS = (TINY, WIDE, FOUR, BROAD)
LATENCY = 7


def fields_of(config: Config, chance: random.Random) -> dict[str, int]:
    """Any values that this engine can run."""
    values = {
        field.name: chance.getrandbits(field.width)
        for field in commands.FIELDS if field.name not in ("magic", "check")
    }  # fmt: skip
    groups = [code for group, code in commands.GROUP_CODES.items() if group >= config.group]
    return values | {
        "opcode": commands.OPCODES["matmul"], "group": chance.choice(groups),
        "tokens": chance.choice([1, config.tokens]), "chunks": chance.choice([1, 65535]),
        "tiles": chance.choice([1, (1 << 20) - 1]),
    }  # fmt: skip


def beats_of(config: Config, image: bytes) -> list[int]:
    """The beats in which a descriptor arrives: port p reads its own run of bytes."""
    part = commands.BYTES // config.ports
    found = []
    for start in range(0, part, config.port_bytes):
        whole = b"".join(
            image[port * part + start : port * part + start + config.port_bytes]
            for port in range(config.ports)
        )
        found.append(int.from_bytes(whole, "little"))
    return found


def collect(config: Config, images: list[bytes], idle: float, seed: int) -> list[tuple]:
    """Fields and ``bad`` of each descriptor, its latency checked."""
    chance = random.Random(seed)
    core = DescriptorCollector(config)
    cycles, offered = [[(core.command.ready, 0)]], []
    for image in images:
        for beat in beats_of(config, image):
            while chance.random() < idle:
                cycles.append([(core.strobe, 0), (core.beat, chance.getrandbits(config.beat_bits))])
            cycles.append([(core.strobe, 1), (core.beat, beat), (core.command.ready, 0)])
        offered.append(len(cycles) - 1 + LATENCY)
        cycles += [[(core.strobe, 0)]] * (LATENCY + chance.randrange(4))
        cycles.append([(core.command.ready, 1)])
        cycles.append([(core.command.ready, 0)])
    found = pipeline(core, cycles, [core.command.valid, core.command.payload, core.bad])
    starts = [time for time in range(1, len(found)) if found[time][0] and not found[time - 1][0]]
    assert starts == offered, "offered at its latency and taken once"
    return [found[time][1:] for time in starts]


@pytest.mark.parametrize("idle", [0.0, 0.5])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_good_descriptors(config: Config, idle: float) -> None:
    chance = random.Random(7)
    wanted = [fields_of(config, chance) for _ in range(6)]
    found = collect(config, [commands.pack(values) for values in wanted], idle, 7)
    for (payload, bad), values in zip(found, wanted, strict=True):
        assert {name: payload[name] for name in values} == values
        assert not bad


def bad_images(config: Config, chance: random.Random) -> dict[str, bytes]:
    """One descriptor of each bad kind; only what the kind says is wrong with it."""
    good = fields_of(config, chance)
    kinds = {
        "opcode 0": {"opcode": 0}, "opcode 2": {"opcode": 2}, "opcode 255": {"opcode": 255},
        "no tokens": {"tokens": 0}, "one token too many": {"tokens": config.tokens + 1},
        "most tokens": {"tokens": 255}, "no tiles": {"tiles": 0}, "no chunks": {"chunks": 0},
        "unknown group": {"group": 3},
    }  # fmt: skip
    for code in range(commands.GROUP_CODES[config.group]):
        kinds[f"finer group {code}"] = {"group": code}
    images = {kind: commands.pack(good | values) for kind, values in kinds.items()}
    image = commands.pack(good)
    words = [int.from_bytes(image[at : at + 4], "little") for at in range(0, commands.BYTES, 4)]
    other = [words[0] ^ 1 << 3, *words[1:15], 0]
    other[15] = (commands.CHECK_SUM - sum(other)) & 0xFFFFFFFF
    images["magic"] = b"".join(word.to_bytes(4, "little") for word in other)
    for bit in (0, 100, 300, 511):
        flipped = int.from_bytes(image, "little") ^ 1 << bit
        images[f"bit {bit} flipped"] = flipped.to_bytes(commands.BYTES, "little")
    images["zeros"], images["ones"] = bytes(commands.BYTES), b"\xff" * commands.BYTES
    return images


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_bad_descriptors_and_a_good_one_after_each(config: Config) -> None:
    chance = random.Random(3)
    images = bad_images(config, chance)
    good = commands.pack(fields_of(config, chance))
    mixed = [image for bad in images.values() for image in (bad, good)]
    found = collect(config, mixed, 0.2, 3)
    assert {kind: bad for kind, (_, bad) in zip(images, found[::2], strict=True)} == dict.fromkeys(
        images, 1
    )
    assert [bad for _, bad in found[1::2]] == [0] * len(images)
