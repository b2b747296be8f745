"""PortableChain: two tokens' sums in one number, exact at the edges of the fields."""

from __future__ import annotations

import random

import pytest

from hwgen.chain import FIELD, PortableChain
from tests.hwgen.bench import pipeline

EXTREMES = {
    "largest": (15, -128, -128), "smallest": (-15, -128, 127), "mixed": (-15, 127, -128),
    "zero": (0, 127, 127),
}  # fmt: skip


def packed(weights: list[int], pairs: list[tuple[int, int]]) -> int:
    """The sum of products of both tokens, the second FIELD bits up."""
    return sum(w * (x0 + (x1 << FIELD)) for w, (x0, x1) in zip(weights, pairs, strict=True))


def run(length: int, chunks: list[tuple[list, list]]) -> list[int]:
    """Sums of each beat; each chunk is its activation pairs and its beats of weights.

    A chunk's mantissas are loaded while the one before it passes, first token first.
    """
    core = PortableChain(length)
    cycles: list[list] = []

    def at(cycle: int) -> list:
        while len(cycles) <= cycle:
            cycles.append([])
        return cycles[cycle]

    start, wanted = 4, []
    for pairs, beats in chunks:
        for token, before in ((0, 3), (1, 2)):
            load = core.load0 if token == 0 else core.load1
            when = start - before
            at(when).extend([(load, 1), *[(core.x[i], pairs[i][token]) for i in range(length)]])
            at(when + 1).append((load, 0))
        for number, weights in enumerate(beats):
            for i, weight in enumerate(weights):
                at(start + number + i).append((core.weights[i], weight))
                if number == 0:
                    at(start + i).append((core.swap[i], 1))
                    at(start + i + 1).append((core.swap[i], 0))
            wanted.append(start + number + length - 1 + core.latency)
        start += len(beats)
    at(wanted[-1])
    found = pipeline(core, cycles, [core.sum])
    return [found[cycle][0] for cycle in wanted]


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("length", [1, 2, 16])
def test_extremes(length: int, kind: str) -> None:
    weight, x0, x1 = EXTREMES[kind]
    pairs = [(x0, x1)] * length
    beats = [[weight] * length for _ in range(length + 4)]
    assert run(length, [(pairs, beats)]) == [packed(beats[0], pairs)] * len(beats)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("length", [1, 4, 16])
def test_chunks_follow_each_other_without_a_gap(length: int, seed: int) -> None:
    """Each beat meets its own chunk's activations, position by position."""
    chance = random.Random(seed)
    chunks = []
    for _ in range(4):
        pairs = [(chance.randint(-128, 127), chance.randint(-128, 127)) for _ in range(length)]
        beats = [
            [chance.randint(-15, 15) for _ in range(length)]
            for _ in range(length + 4 + chance.randrange(5))
        ]
        chunks.append((pairs, beats))
    wanted = [packed(weights, pairs) for pairs, beats in chunks for weights in beats]
    assert run(length, chunks) == wanted
