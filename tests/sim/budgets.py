"""Budgets: cycles of standard shapes on the simulated design.

``python -m tests.sim.budgets`` (``make baselines``) measures them again and stores them. A figure
that rises needs a line ``budget: <name> <value>`` in CHANGELOG.md that says why.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from sim import cases, comparison
from spec.config import TINY, Config

FOLDER = Path(__file__).resolve().parents[1] / "baselines"
CHANGELOG = FOLDER.parents[1] / "CHANGELOG.md"

CYCLES = "cycles"

SHAPES: dict[str, tuple[Config, int, int, int, int, str, int]] = {
    "tiny 100x256 int4 m2 fp32": (TINY, 100, 256, 4, 2, "fp32", 0),
    "tiny 100x256 int8 m2 bf16": (TINY, 100, 256, 8, 2, "bf16", 0),
    "tiny 100x1024 int4 m1 fp32": (TINY, 100, 1024, 4, 1, "fp32", 0),
    "tiny 300x128 int8 m1 top-16": (TINY, 300, 128, 8, 1, "fp32", 16),
}
"""Name -> configuration, rows, columns, bits, tokens, format, top-k; ideal memory, 50 cycles."""


def cycles(name: str) -> int:
    """Simulated cycles of one standard shape."""
    config, rows, columns, bits, tokens, fmt, top_k = SHAPES[name]
    group = max(64, config.group)
    report = comparison.run(config, cases.draw(rows, columns, bits, group, tokens, 1), fmt, top_k)
    assert not report.mismatches
    return report.counters.cycles


def stored(kind: str) -> dict[str, int]:
    """The baselines of a kind by name."""
    return json.loads((FOLDER / f"{kind}.json").read_text())


def store(kind: str, values: dict[str, int]) -> None:
    """Replaces them."""
    (FOLDER / f"{kind}.json").write_text(json.dumps(values, indent=2) + "\n")


def moved(wanted: dict[str, int], found: dict[str, int]) -> list[str]:
    """What differs from the baselines, a line each."""
    lines = []
    for name in sorted(wanted.keys() | found.keys()):
        before, now = wanted.get(name), found.get(name)
        if before != now:
            change = f" ({(now - before) / before:+.2%})" if before and now is not None else ""
            lines.append(f"{name}: {before} -> {now}{change}")
    return lines


def explained(text: str) -> dict[str, int]:
    """The figures that a changelog allows to have risen: ``budget: <name> <value>``."""
    found = re.findall(r"budget: (.+?) (\d+)(?:[,;. ]|$)", text, re.MULTILINE)
    return {name: int(value) for name, value in found}


def unexplained(before: dict[str, int], after: dict[str, int], changelog: str) -> list[str]:
    """Figures that rose without such a line."""
    allowed = explained(changelog)
    return [
        f"{name}: {before[name]} -> {value}"
        for name, value in after.items()
        if name in before and value > before[name] and allowed.get(name) != value
    ]


def main() -> None:
    """Measures everything, tells what moved, stores it unless something rose unexplained."""
    path = FOLDER / f"{CYCLES}.json"
    before = stored(CYCLES) if path.is_file() else {}
    after = {name: cycles(name) for name in SHAPES}
    print("\n".join(moved(before, after)) or "nothing moved")
    rose = unexplained(before, after, CHANGELOG.read_text())
    if rose:
        lines = "\n".join(f"  budget: {one.replace(':', '', 1).split(' -> ')[0]}" for one in rose)
        raise SystemExit(f"these rose; add a line 'budget: <name> <value>' each to CHANGELOG.md:\n"
                         f"{lines}")  # fmt: skip
    store(CYCLES, after)


if __name__ == "__main__":
    main()
