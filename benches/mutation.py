"""Mutation score: how many changes of the design the vectors notice.

``python -m benches.mutation [COUNT] [SEED] [NUMBER ...]`` prints a JSON line for each mutant, or
for those with the numbers, then the scores: killed of all (``raw_score``), and of those that
``benches.equivalence`` does not prove to be the same design (``score``).
The vectors are those of ``benches.mutation_vectors``.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Sequence

from benches import equivalence
from benches.mutants import Mutant, sample
from benches.mutation_subject import CONFIG, LargeSubject, Observed, Subject
from benches.mutation_vectors import vectors
from spec.errors import DeviceError, exit_with_sentence

COUNT, SEED = 240, 1


def observe(subject: Subject, number: int, wanted: dict[str, Observed] | None) -> dict:
    """What the vectors see of a mutant; with ``wanted``, until something differs.

    Returns:
        By vector; with ``wanted`` only ``killed``: the vector that noticed it, or "".
    """
    seen: dict[str, Observed] = {}
    for name, see in vectors(subject).items():
        subject.select(number)
        seen[name] = []
        try:
            for index, value in enumerate(see(subject)):
                seen[name].append(value)
                if wanted is not None and value != wanted[name][index]:
                    return {"killed": name}
        except DeviceError as error:
            if wanted is None:
                raise
            return {"killed": f"{name} ({str(error).split(':')[0].split(' the ')[0]})"}
    return seen if wanted is None else {"killed": ""}


def run(count: int, seed: int, only: Sequence[int] = ()) -> Iterator[tuple[Mutant, str]]:
    """Each mutant (or those with some numbers) with the vector that noticed it, or ""."""
    verilog, mutants = sample(CONFIG, count, seed)
    subjects = [Subject(CONFIG, verilog, stall_seed) for stall_seed in (None, 3)]
    subjects.append(LargeSubject(CONFIG, verilog, None))
    for subject in subjects:
        subject.bench.ring()
        differences = [subject.bench.difference(index) for index in range(len(subject.bench.jobs))]
        assert not any(differences), differences  # the design as it is equals golden
    wanted = [observe(subject, 0, None) for subject in subjects]
    for mutant in mutants:
        if only and mutant.number not in only:
            continue
        killed = ""
        for subject, right in zip(subjects, wanted, strict=True):
            if not killed:
                killed = observe(subject, mutant.number, right)["killed"]
                killed += " with pauses" if killed and subject.stall_seed else ""
        yield mutant, killed


def main() -> None:
    """Prints each mutant and the score."""
    given = [int(text) for text in sys.argv[1:]]
    count, seed = (*given, *(COUNT, SEED)[len(given) :])[:2]
    start = time.monotonic()
    killed = proved = total = 0
    prover = equivalence.Prover(equivalence.flattened(CONFIG))
    for mutant, by in run(count, seed, given[2:]):
        proof = None if by else prover.prove(mutant)
        total += 1
        killed += bool(by)
        proved += proof is not None
        line = {"bench": "mutation", **dataclasses.asdict(mutant), "killed": by}
        print(json.dumps(line | {"proved": str(proof) if proof else ""}), flush=True)
    print(json.dumps({
        "bench": "mutation", "label": "simulated, proved", "seed": seed, "mutants": total,
        "killed": killed, "raw_score": round(killed / total, 4), "equivalent": proved,
        "score": round(killed / (total - proved), 4), "seconds": round(time.monotonic() - start),
    }))  # fmt: skip


if __name__ == "__main__":
    exit_with_sentence(main)
