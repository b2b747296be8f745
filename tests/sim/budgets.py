"""Budgets: cycles of standard shapes on the simulated design, resources of the presets.

``python -m tests.sim.budgets`` (``make baselines``) finds the quick ones again and stores them;
with ``--all`` those of kv260 too. A figure that rises needs a line ``budget: <name> <value>`` in
CHANGELOG.md that says why.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from hwgen.synthesis.command import synthesise
from sim import cases, comparison, cycles, measure, memory, timing, workload
from sim.measure import Kind
from spec import commands, shapes
from spec.config import KV260, TINY, Config

FOLDER = Path(__file__).resolve().parents[1] / "baselines"
CHANGELOG = FOLDER.parents[1] / "CHANGELOG.md"

MODEL = "qwen2.5-0.5b"
"""Whose matmuls are kv260's standard shapes: a layer's and the LM head with top-64."""
VECTORS = (1, 8)
SEED = 1

SHAPES: dict[str, tuple[Config, int, int, int, int, str, int]] = {
    "tiny 100x256 int4 m2 fp32": (TINY, 100, 256, 4, 2, "fp32", 0),
    "tiny 100x256 int8 m2 bf16": (TINY, 100, 256, 8, 2, "bf16", 0),
    "tiny 100x1024 int4 m1 fp32": (TINY, 100, 1024, 4, 1, "fp32", 0),
    "tiny 300x128 int8 m1 top-16": (TINY, 300, 128, 8, 1, "fp32", 16),
}
"""Name -> configuration, rows, columns, bits, tokens, format, top-k; ideal memory, 50 cycles."""


@dataclass(frozen=True)
class Budget:
    """Figures that are found together."""

    kind: str
    """Name of the file in tests/baselines."""
    find: Callable[[], dict[str, float]]
    slow: bool = False


def tiny_cycles() -> dict[str, float]:
    """Simulated cycles of the small shapes."""
    found: dict[str, float] = {}
    for name, (config, rows, columns, bits, tokens, fmt, top_k) in SHAPES.items():
        case = cases.draw(rows, columns, bits, max(64, config.group), tokens, 1)
        report = comparison.run(config, case, fmt, top_k)
        assert not report.mismatches
        found[name] = report.counters.cycles
    return found


def operations(vectors: int) -> list[workload.Operation]:
    """kv260's standard shapes."""
    shape = shapes.find(MODEL)
    head = workload.head_operation(KV260, shape, vectors, "fp32", 4, commands.TOP_K_MAX)
    return measure.operations(Kind.MATMUL, KV260, shape, vectors, "fp32", head)


def _named(job: workload.Operation) -> str:
    matrix = job.matrix
    kind = f"top-{job.top_k}" if job.top_k else job.fmt
    return f"kv260 {job.name} {matrix.rows}x{matrix.columns} int{matrix.bits} m{job.tokens} {kind}"


def kv260_cycles() -> dict[str, float]:
    """Simulated cycles of the standard shapes behind DDR4 at 2133 MT/s."""
    found = {}
    for vectors in VECTORS:
        jobs = operations(vectors)
        console = Console(stderr=True)
        report = measure.run(Kind.MATMUL, KV260, jobs, memory.DDR4_2133.name, SEED, console)
        for job, row in zip(jobs, report["operations"], strict=True):
            found[_named(job)] = round(row["cycles"] / row["count"])
    return found


def kv260_estimates() -> dict[str, float]:
    """The analytic model's cycles of the standard shapes behind the same memory."""
    rate = timing.rate(KV260, memory.load(memory.DDR4_2133.name))
    return {
        _named(job): cycles.estimate(KV260, [workload.fields(job)], rate).cycles
        for vectors in VECTORS for job in operations(vectors)
    }  # fmt: skip


def resources(config: Config) -> dict[str, float]:
    """What Yosys maps a preset to, by resource; the estimate of ``hwgen synth``."""
    total = synthesise(config).modules[""]
    return {f"{config.name} {resource}": count for resource, count in total.items()}


BUDGETS = (
    Budget("cycles", tiny_cycles),
    Budget("estimates_kv260", kv260_estimates),
    Budget("resources", lambda: resources(TINY)),
    Budget("cycles_kv260", kv260_cycles, slow=True),
    Budget("resources_kv260", lambda: resources(KV260), slow=True),
)


def stored(kind: str) -> dict[str, float]:
    """The baselines of a kind by name."""
    return json.loads((FOLDER / f"{kind}.json").read_text())


def store(kind: str, values: dict[str, float]) -> None:
    """Replaces them."""
    (FOLDER / f"{kind}.json").write_text(json.dumps(values, indent=2) + "\n")


def moved(wanted: dict[str, float], found: dict[str, float]) -> list[str]:
    """What differs from the baselines, a line each."""
    lines = []
    for name in sorted(wanted.keys() | found.keys()):
        before, now = wanted.get(name), found.get(name)
        if before != now:
            change = f" ({(now - before) / before:+.2%})" if before and now is not None else ""
            lines.append(f"{name}: {before} -> {now}{change}")
    return lines


def explained(text: str) -> dict[str, float]:
    """The figures that a changelog allows to have risen: ``budget: <name> <value>``."""
    found = re.findall(r"budget: (.+?) (\d+(?:\.\d+)?)(?:[,;. ]|$)", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def unexplained(before: dict[str, float], after: dict[str, float], changelog: str) -> list[str]:
    """Figures that rose without such a line."""
    allowed = explained(changelog)
    return [
        f"{name}: {before[name]} -> {value}"
        for name, value in after.items()
        if name in before and value > before[name] and allowed.get(name) != value
    ]


def main() -> None:
    """Finds them again, tells what moved, stores it unless something rose unexplained."""
    text = CHANGELOG.read_text()
    for budget in BUDGETS:
        if budget.slow and "--all" not in sys.argv[1:]:
            continue
        path = FOLDER / f"{budget.kind}.json"
        before = stored(budget.kind) if path.is_file() else {}
        after = budget.find()
        print("\n  ".join([f"{budget.kind}:", *(moved(before, after) or ["nothing moved"])]))
        rose = unexplained(before, after, text)
        if rose:
            lines = "\n".join(
                f"  budget: {one.replace(':', '', 1).split(' -> ')[0]}" for one in rose
            )
            raise SystemExit(
                f"these rose; add a line 'budget: <name> <value>' each to CHANGELOG.md:\n{lines}"
            )
        store(budget.kind, after)


if __name__ == "__main__":
    main()
