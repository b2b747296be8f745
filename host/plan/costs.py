"""What the processor's part of a token costs on the board's Cortex-A53 cores.

Cycles come from ``a53.json``, which benches/a53/table.py wrote from cross-built code; what no tool
here can tell is assumed, each with its reason.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "a53.json"

CLOCK_HZ = 1.333e9
"""Of the KV260's A53 cores (Xilinx DS987)."""

CORES = 4

MEMORY_BYTES_PER_SECOND = 5.7e9
"""What the four cores read together; measured on a KV260 by others."""

REGISTER_SECONDS = 0.25e-6
"""Assumed: one uncached access to the engine's registers through HPM0, interconnect included."""

REGISTER_ACCESSES = 16
"""Of a launch, counted in host/kernels/runner.c: 3 writes, the status twice, 11 counters."""

BARRIER_SECONDS = 0.2e-6
"""Assumed: waiting for the caches and for what was written, once before and once after a list."""

CACHE_LINE_SECONDS = 8e-9
"""Assumed: cleaning or dropping one line of 64 bytes: about ten cycles."""

STEP_SECONDS = 0.1e-6
"""Assumed: one step of the compiled runner beside what it calls: about a hundred cycles."""

PASS_SECONDS = 0.4e-3
"""Assumed: what Python does around one call of the runner: tokens in, counters out. 0.1 ms of
processor time on a desktop, mostly misses of the caches; an A53 taken to be four times slower."""

TOKEN_SECONDS = 0.6e-3
"""Assumed: what Python does for a token that is written: choice, text, statistics. 0.15 ms of
processor time on a desktop, likewise."""

WAKE_SECONDS = 5e-6
"""Assumed: waking the pool's threads and gathering them."""

PHASE_SECONDS = 0.5e-6
"""Assumed: what the threads wait for each other between two phases of a kernel: a cache line that
goes from core to core a few times."""

ATTENTION_PHASES = 5
"""Of a call: rows, scores, weights, weighted values, results."""

SUM_ROWS = 5
"""Query heads below which a panel of attention waits for its sums: two registers of each, and ten
cycles from one product to the next (the same model's latency)."""


def _seen(past: float, tokens: float) -> float:
    """Positions that a token of a pass sees, in the mean; whole runs of 16 are computed."""
    return past + (tokens + 1) / 2 + 7.5


def _share(count: float) -> float:
    """Of things that the cores share, those of the busiest one."""
    return -(-count // CORES)


def _panels(rows: int) -> int:
    """Panels of up to 8 rows that a key head's queries take (host/kernels/panel.h)."""
    return -(-rows // 8)


X86_ONLY = ("avx", "vnni", "matmul_parts")
"""In the names of sources that are empty on other processors."""

Features = Callable[..., dict[str, float]]

FEATURES: dict[str, Features] = {
    "norm": lambda columns, tokens, terms: {
        "call": 1, "column": columns, "value": columns * _share(tokens),
        "term value": columns * _share(tokens) * terms,
    },
    "swiglu": lambda columns, tokens: {"call": 1, "value": columns * tokens / CORES},
    "attend": lambda heads, kv_heads, head_dim, past, tokens: {
        "value": tokens * (heads + 2 * kv_heads) * head_dim / CORES,
        "result": _share(tokens) * heads * head_dim,
        "product": max(tokens * heads // kv_heads, SUM_ROWS * _panels(tokens * heads // kv_heads))
        * _seen(past, tokens) * kv_heads * head_dim / CORES,
        "entry": _panels(tokens * heads // kv_heads)
        * _seen(past, tokens) * kv_heads * head_dim / CORES,
        "score": _share(tokens * heads) * _seen(past, tokens),
    },
    "gather": lambda columns, tokens: {"token": tokens, "value": columns * tokens},
    "activations": lambda columns, tokens: {"token": tokens, "value": columns * tokens},
    "results": lambda columns, tokens: {"token": tokens, "value": columns * tokens},
    "largest": lambda count: {"call": 1, "value": count},
    "rescore": lambda columns, tokens, rows: {
        "value": columns * tokens, "product": columns * tokens * rows, "row": tokens * rows,
    },
    "matmul4": lambda rows, columns, tokens: {
        "weight": rows * columns, "product": rows * columns * tokens, "result": rows * tokens,
    },
    "matmul8": lambda rows, columns, tokens: {
        "weight": rows * columns, "product": rows * columns * tokens, "result": rows * tokens,
    },
}  # fmt: skip
"""By kernel: what its cycles are proportional to, from the numbers of a call. Those of norm, swiglu
and attend are the busiest core's."""


NOT_COUNTED = ("pool", "runner")
"""What starts the kernels: its cost is assumed (``WAKE_SECONDS`` and others)."""


@lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """The committed table."""
    return json.loads(PATH.read_text())


def cycles(kernel: str, *numbers: float) -> float:
    """Cycles of one call, loads in the first cache; the numbers are those of ``FEATURES``."""
    return sum(parts(kernel, *numbers).values())


def parts(kernel: str, *numbers: float) -> dict[str, float]:
    """Cycles of one call by feature."""
    features = FEATURES[kernel](*numbers)
    found = table()["kernels"][kernel]["cycles"]
    return {name: a * b for (name, a), b in zip(features.items(), found, strict=True)}


def seconds(kernel: str, *numbers: float, threads: int = 1, memory_bytes: float = 0) -> float:
    """Time of one call: its cycles, and what it reads or writes beyond the caches.

    The two are added: nothing shows that an in-order core overlaps them.
    """
    spent = cycles(kernel, *numbers) / CLOCK_HZ / threads
    return spent + memory_bytes / MEMORY_BYTES_PER_SECOND + (WAKE_SECONDS if threads > 1 else 0)


def launch_seconds(written: float, read: float) -> float:
    """Of one doorbell: registers, the cache lines of activations and results, and the results'
    way from memory, which the next kernel waits for.

    Args:
        written, read: bytes of activations, and of results.
    """
    lines = math.ceil(written / 64) + math.ceil(read / 64)
    fixed = REGISTER_ACCESSES * REGISTER_SECONDS + 2 * BARRIER_SECONDS + 2 * STEP_SECONDS
    return fixed + lines * CACHE_LINE_SECONDS + read / MEMORY_BYTES_PER_SECOND


def kernel_sources() -> list[Path]:
    """The sources of the kernels that the table tells of."""
    folder = Path(__file__).parents[1] / "kernels"
    found = sorted([*folder.glob("*.c"), *folder.glob("*.h")])
    return [path for path in found if path.stem not in NOT_COUNTED]


def sources_digest() -> str:
    """Of the kernels' sources; ``a53.json`` keeps the one that it was made from. What runs the
    kernels one after the other is not in that table, nor what x86 alone compiles."""
    digest = hashlib.sha256()
    for path in kernel_sources():
        if path.stem == "runner" or any(part in path.stem for part in X86_ONLY):
            continue
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
