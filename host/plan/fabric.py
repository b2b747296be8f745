"""Cycles of matmuls on the fabric: simulated ones are stored, others modelled by entry point.

``fabric.json`` holds what ``hwgen bench matmul`` counted on the generated RTL behind DDR4 timing,
with the digest of that RTL. What is not in it comes from the entry point ``fabric_cycles`` of the
group ``kria_llm.models``, the simulator's analytic model, within 5 % of each matmul on the RTL and
2 % of a token; a board without the simulator has the table alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from spec import commands
from spec.errors import ToolError
from spec.layout import Matrix

GROUP = "kria_llm.models"
PATH = Path(__file__).parent / "fabric.json"

MEMORY = "ddr4-2133"
"""What the KV260's stock firmware runs (sim/memory.py)."""


@dataclass(frozen=True)
class Timed:
    """Cycles of one command and where they come from."""

    cycles: int
    label: str
    """``simulated`` or ``modelled``."""


def timed(matrix: Matrix, vectors: int, top_k: int = 0) -> Timed:
    """One matmul of 1..M activation vectors, fp32 results, from a list of its own.

    Raises:
        ToolError: not in the table, and no analytic model is installed.
    """
    config = matrix.config
    known = _known(matrix, top_k)
    if vectors in known:
        return Timed(known[vectors], "simulated")
    if known and min(known) < vectors < max(known):
        below, above = max(n for n in known if n < vectors), min(n for n in known if n > vectors)
        part = (vectors - below) / (above - below)
        return Timed(round(known[below] + part * (known[above] - known[below])), "modelled")
    fields = commands.matmul(
        matrix, vectors, weights=0, weight_stride=0, activations=0, activation_stride=0, results=0,
        top_k=top_k,
    )  # fmt: skip
    return Timed(_model()(config, fields, MEMORY), "modelled")


def _known(matrix: Matrix, top_k: int) -> dict[int, int]:
    """Stored cycles of a matrix by number of vectors; between them they grow evenly."""
    stored, key = _stored(), [matrix.rows, matrix.columns, matrix.bits, matrix.group]
    if any(getattr(matrix.config, name) != value for name, value in stored["config"].items()):
        return {}
    return {row[4]: row[6] for row in stored["matmuls"] if row[:4] == key and row[5] == top_k}


@lru_cache(maxsize=1)
def _stored() -> dict[str, Any]:
    return json.loads(PATH.read_text())


@lru_cache(maxsize=1)
def _model() -> Any:
    """``(config, fields, memory) -> cycles``."""
    for point in entry_points(group=GROUP):
        if point.name == "fabric_cycles":
            return point.load()
    raise ToolError(
        "the fabric's cycles of this model and configuration are not stored, and the simulator that"
        " models them is not installed: pip install 'kria-llm[simulation]'"
    )
