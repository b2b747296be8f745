"""DescriptorCollector: takes good descriptors apart, marks every kind of bad one."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hwgen.descriptor import DescriptorCollector
from spec import commands
from spec.config import TINY, Config
from spec.layout import MAX_ROWS
from tests.hwgen.bench import pipeline

WIDE = dataclasses.replace(TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64)
FOUR = dataclasses.replace(TINY, name="four", ports=4, port_bits=32, tokens=16, group=128)
BROAD = dataclasses.replace(TINY, name="broad", ports=4, port_bits=128)
"""One beat to a descriptor."""
CONFIGS = (TINY, WIDE, FOUR, BROAD)

SHAPE = (
    "opcode", "weights8", "group", "result_format", "tokens", "top_k", "chunks", "tiles",
    "last_rows", "activation_beats", "weight_beats", "result_beats", *commands.ALIGNED,
)  # fmt: skip


def fields_of(config: Config, chance: random.Random) -> dict[str, int]:
    """Any values that this engine can run."""
    values = {
        field.name: chance.getrandbits(field.width)
        for field in commands.FIELDS if field.name not in ("magic", "check")
    }  # fmt: skip
    groups = [code for group, code in commands.GROUP_CODES.items() if group >= config.group]
    most_chunks = config.max_k // (config.span if values["weights8"] else config.lanes)
    most_tiles = MAX_ROWS // config.tile_rows
    top_k = chance.choice([0, 0, 2, 64, 2 * chance.randrange(1, 33)])
    values |= {
        "opcode": commands.OPCODES["matmul"], "group": chance.choice(groups),
        "tokens": chance.randint(1, config.tokens), "top_k": top_k,
        "chunks": chance.choice([1, most_chunks, chance.randint(1, most_chunks)]),
        "tiles": chance.choice([1, most_tiles, chance.randint(1, most_tiles)]),
        "last_rows": chance.randrange(config.tile_rows),
    }  # fmt: skip
    if top_k:
        values["result_format"] = 0
        if commands.rows(config, values) < top_k:
            values |= {"tiles": 1 + 64 // config.tile_rows, "last_rows": config.tile_rows - 1}
    values |= {name: values[name] & -commands.ALIGNMENT for name in commands.ALIGNED}
    values |= commands.shape_beats(config, values)
    commands.check(config, values)
    return values


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
    latency = core.latency(config)
    cycles, offered = [[(core.command.ready, 0)]], []
    for image in images:
        for beat in beats_of(config, image):
            while chance.random() < idle:
                cycles.append([(core.strobe, 0), (core.beat, chance.getrandbits(config.beat_bits))])
            cycles.append([(core.strobe, 1), (core.beat, beat), (core.command.ready, 0)])
        offered.append(len(cycles) - 1 + latency)
        cycles += [[(core.strobe, 0)]] * (latency + chance.randrange(4))
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
    wanted = [fields_of(config, chance) for _ in range(40)]
    found = collect(config, [commands.pack(values) for values in wanted], idle, 7)
    for (payload, bad), values in zip(found, wanted, strict=True):
        assert {name: payload[name] for name in values} == values
        assert not bad


def disagreements(
    config: Config, good: dict[str, int], chance: random.Random
) -> dict[str, dict[str, int]]:
    """Changes to a good descriptor of one tile and no top-k that its other fields do not allow."""
    chunks = config.max_k // (config.span if good["weights8"] else config.lanes)
    kinds: dict[str, dict[str, int]] = {
        "a chunk too many for K": {"chunks": chunks + 1}, "most chunks": {"chunks": 65535},
        "too many tiles": {"tiles": MAX_ROWS // config.tile_rows + 1},
        "odd top-k": {"top_k": 3}, "long top-k": {"top_k": 66, "tiles": 100},
        "top-k in bf16": {"top_k": 2, "result_format": 1},
        "top-k beyond the rows": {"top_k": 12, "tiles": 1, "last_rows": 10},
    }  # fmt: skip
    if config.tile_rows < 256:
        kinds["rows beyond the tile"] = {"last_rows": config.tile_rows}
    kinds = {kind: _with_beats(config, good | change) for kind, change in kinds.items()}
    for name in ("activation_beats", "weight_beats", "result_beats"):
        width = commands.BY_NAME[name].width
        bits = {0, width - 1, chance.randrange(width)}
        kinds |= {f"{name} bit {bit}": {name: good[name] ^ 1 << bit} for bit in bits}
    for name in commands.ALIGNED:
        kinds[f"{name} unaligned"] = {name: good[name] | 1 << chance.randrange(6)}
    return kinds


def _with_beats(config: Config, values: dict[str, int]) -> dict[str, int]:
    """Counts of beats that agree with the shape, as far as they fit their fields."""
    beats = commands.shape_beats(config, values)
    return values | {
        name: value & (1 << commands.BY_NAME[name].width) - 1 for name, value in beats.items()
    }


def bad_images(config: Config, chance: random.Random) -> dict[str, bytes]:
    """One descriptor of each bad kind; only what the kind says is wrong with it."""
    good = fields_of(config, chance)
    good |= {"tiles": 3, "top_k": 0}
    good |= commands.shape_beats(config, good)
    kinds = {
        "opcode 0": {"opcode": 0}, "opcode 2": {"opcode": 2}, "opcode 255": {"opcode": 255},
        "no tokens": {"tokens": 0}, "one token too many": {"tokens": config.tokens + 1},
        "most tokens": {"tokens": 255}, "no tiles": {"tiles": 0}, "no chunks": {"chunks": 0},
        "unknown group": {"group": 3},
    }  # fmt: skip
    kinds |= disagreements(config, good, chance)
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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_it_refuses_what_the_specification_refuses(config: Config, seed: int) -> None:
    """Fields changed at random, sums made right: hardware and host draw the same line."""
    chance = random.Random(f"line {seed}")
    images, wanted = [], []
    for _ in range(60):
        values = fields_of(config, chance)
        for _ in range(chance.randrange(3)):
            field = chance.choice([field for field in commands.FIELDS if field.name in SHAPE])
            values[field.name] ^= 1 << chance.randrange(field.width)
        if chance.random() < 0.5:
            values = _with_beats(config, values) if values["group"] < 3 else values
        images.append(commands.pack(values))
        wanted.append(refused(config, values))
    found = [bool(bad) for _, bad in collect(config, images, 0.0, seed)]
    assert found == wanted
    assert 10 < sum(wanted) < 50


def refused(config: Config, values: dict[str, int]) -> bool:
    """Whether ``spec.commands.check`` raises."""
    try:
        commands.check(config, values)
    except commands.CommandError:
        return True
    return False
