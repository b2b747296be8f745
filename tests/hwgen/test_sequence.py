"""Sequencer: every beat gets the kind that ``spec.layout`` gives it, and waits when it must."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from hwgen.sequence import Sequencer
from spec import commands
from spec.config import TINY, Config
from spec.layout import Matrix
from tests.hwgen.bench import PAUSES, simulate, source
from tests.hwgen.test_unpack import kinds

WIDE = dataclasses.replace(TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64)
BROAD = dataclasses.replace(TINY, name="broad", ports=4, tokens=1, tile_rows=64)
DRAIN = 40
KINDS = ("descriptor", "bases", "shifts", "mantissas", "zeros", "scales", "weights")


@dataclasses.dataclass(frozen=True)
class Beat:
    """What a beat is to be told apart as."""

    kind: str
    row: int = 0
    swap: bool = False
    first: bool = False
    last: bool = False


def operands(matrix: Matrix, tokens: int) -> list[Beat]:
    """The beats of a matmul's regions."""
    beats = [Beat("bases")]
    for _ in range(matrix.spans):
        beats += [Beat("shifts"), *[Beat("mantissas")] * tokens]
    assert len(beats) == matrix.activation_beats(tokens)
    count = 0
    for kind in kinds(matrix):
        if kind != "weights":
            beats.append(Beat(kind))
            continue
        chunk, row = divmod(count, matrix.config.tile_rows)
        chunk %= matrix.chunks
        beats.append(Beat(kind, row, row == 0, chunk == 0, chunk == matrix.chunks - 1))
        count += 1
    return beats


def program(config: Config, chance: random.Random) -> tuple[list[dict[str, int]], list[Beat]]:
    """Items as the fetch unit sends them for a list, and the beats that follow them."""
    items: list[dict[str, int]] = [{"descriptor": 1, "matmul": 0}]
    descriptor = [Beat("descriptor")] * commands.beats(config)
    beats = list(descriptor)
    count = 4
    for number in range(count):
        group = chance.choice([g for g in commands.GROUP_CODES if g >= config.group])
        bits, tokens = chance.choice([4, 8]), chance.randint(1, config.tokens)
        columns = group * chance.randint(1, max(1, 160 // group))
        rows = chance.randint(1, 2 * config.tile_rows)
        matrix = Matrix(config, rows, columns, bits, group)
        more = number < count - 1
        items.append({
            "descriptor": more, "matmul": 1, "weights8": bits == 8,
            "group": commands.GROUP_CODES[group], "tokens": tokens, "chunks": matrix.chunks,
            "tiles": matrix.tiles,
        })  # fmt: skip
        beats += (descriptor if more else []) + operands(matrix, tokens)
    return items, beats


@pytest.mark.parametrize("seed", range(len(PAUSES)))
@pytest.mark.parametrize("config", [TINY, WIDE, BROAD], ids=lambda config: config.name)
def test_kinds_positions_and_waits(config: Config, seed: int) -> None:
    idle, slow = PAUSES[seed]
    chance = random.Random(seed)
    items, beats = program(config, chance)
    core = Sequencer(config, DRAIN)
    passed: list[tuple[int, Beat]] = []
    causes = ["data", "activation", "output", "command"]
    stalled = dict.fromkeys(causes, 0)
    loaded = begun = 0
    ready_before = room_before = 0  # as they were when the present output was decided
    now, last_weights = 0, -DRAIN

    def watch(
        data: int, kind: Any, position: Any, is_loaded: int, tile_begun: int, ready: int,
        room: int, *stalls: int,
    ) -> None:  # fmt: skip
        nonlocal loaded, begun, ready_before, room_before, now, last_weights
        now += 1
        names = [name for name in KINDS if kind[name]]
        assert len(names) + sum(stalls) == (now > 1), "a beat passes, or one cause says why not"
        for cause, stall in zip(causes, stalls, strict=True):
            stalled[cause] += stall
        loaded += is_loaded
        begun += tile_begun
        if names == ["weights"]:
            beat = Beat("weights", *(position[n] for n in ("row", "swap", "first", "last")))
            last_weights = now
            if position.swap:
                assert ready_before, "a chunk began before its activations were there"
                assert room_before or not position.last, "a tile began without room"
            assert tile_begun == (position.swap and position.last)
        elif names:
            beat = Beat(names[0])
            if beat.kind == "bases":
                assert now - last_weights > DRAIN, "the pipeline still held the last command"
        if names:
            passed.append((data, beat))
        ready_before, room_before = previous[0] if previous else (0, 0)
        previous[:] = [(ready, room)]

    previous: list[tuple[int, int]] = []

    async def follow(ctx) -> None:
        """Activations get ready after a while; they are used up by each chunk that begins."""
        delay, room = 3, False
        while len(passed) < len(beats):
            swapped = ctx.get(core.kind.weights) and ctx.get(core.position.swap)
            if swapped or ctx.get(core.kind.bases):
                delay = chance.randrange(1, 40) if slow else 1
            ctx.set(core.chunk_ready, delay == 0)
            delay = max(0, delay - 1)
            if ctx.get(core.tile_begun):
                room = False
            room = room or chance.random() >= slow  # once there, it stays until it is taken
            ctx.set(core.room, room)
            ctx.set(core.settled, 1)
            await ctx.tick()
        for _ in range(DRAIN + 10):
            await ctx.tick()
        assert ctx.get(core.idle)

    watched = (
        core.data, core.kind, core.position, core.loaded, core.tile_begun, core.chunk_ready,
        core.room, *(getattr(core, f"stall_{cause}") for cause in causes),
    )  # fmt: skip
    simulate(
        core, source(core.item, items, seed), source(core.beat, range(len(beats)), seed, idle),
        follow, monitors=[(watch, watched)],
    )  # fmt: skip
    assert passed == list(enumerate(beats))
    assert loaded == len(items) - 1
    assert begun == sum(item.get("tiles", 0) for item in items)
    assert stalled["command"] >= 3 * DRAIN
    assert bool(stalled["data"]) or not idle
    assert bool(stalled["activation"]) or slow < 0.5
    assert bool(stalled["output"]) or slow < 0.5
