"""Time that guessing takes beside the passes: lookup, decision and bookkeeping of one pass.

    python -m benches.guessing --positions 4096

Each text is random tokens of so many positions, then 1,000 passes, of which every second one's
guesses are right. Microseconds on this machine, one JSON line for each text.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

from host.guess.guesser import Guesser
from host.plan.planner import pass_cost
from spec.config import KV260
from spec.shapes import find

PASSES = 1000

VOCABULARIES = (2, 20, 1000, 150_000)
"""Different tokens of a text: few make long matches and many candidates."""


def seconds(positions: int, vocabulary: int, seed: int = 1) -> list[float]:
    """Seconds of each pass's guess and bookkeeping."""
    rng = random.Random(seed)
    guesser = Guesser(KV260.tokens - 1, pass_cost(find("qwen2.5-0.5b"), KV260))
    guesser.begin([rng.randrange(vocabulary) for _ in range(positions)])
    guesser.learn([rng.randrange(vocabulary)], 0)
    found = []
    for number in range(PASSES):
        start = time.perf_counter()
        guess = guesser.guess(KV260.tokens - 1)
        spent = time.perf_counter() - start
        written = [*(guess if number % 2 else []), rng.randrange(vocabulary)]
        start = time.perf_counter()
        guesser.learn(written, len(guess))
        found.append(spent + time.perf_counter() - start)
    return found


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--positions", type=int, default=4096)
    arguments = parser.parse_args()
    for vocabulary in VOCABULARIES:
        times = sorted(1e6 * value for value in seconds(arguments.positions, vocabulary))
        print(json.dumps({
            "figure": "guessing, one pass", "label": "measured on this machine",
            "positions": arguments.positions, "different_tokens": vocabulary,
            "median_us": round(statistics.median(times), 1),
            "mean_us": round(statistics.mean(times), 1),
            "percentile_99_us": round(times[len(times) * 99 // 100], 1),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
