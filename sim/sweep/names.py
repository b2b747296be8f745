"""What a sweep can set, ask for and speak of, by name; a wrong name is told with the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from spec.config import Config
from spec.errors import UserError


class SweepError(UserError):
    """A sweep that makes no sense; the sentence names the part of its file."""


@dataclass(frozen=True)
class Metric:
    """A figure of the estimate that objectives and constraints may name."""

    unit: str
    best: str
    """``max`` or ``min``."""
    doc: str


METRICS = {
    "tokens_per_second": Metric("tokens/s", "max", "decode, the processor's part included"),
    "prefill_tokens_per_second": Metric("tokens/s", "max", "prompt, likewise"),
    "lut": Metric("", "min", "look-up tables"),
    "ff": Metric("", "min", "flip-flops"),
    "dsp": Metric("", "min", "DSP48E2"),
    "bram36": Metric("", "min", "block RAMs of 36 kbit"),
    "uram": Metric("", "min", "UltraRAMs"),
    "utilisation": Metric("of the device", "min", "largest share of LUT, FF, DSP, BRAM, URAM"),
    "energy_mj_per_token": Metric("mJ", "min", "decode; a proxy of assumed coefficients"),
    "fabric_tokens_per_second": Metric("tokens/s", "max", "decode of the fabric alone"),
    "gb_per_second": Metric("GB/s", "max", "read while the fabric decodes"),
}
"""What each finished estimate holds, besides what ``sim.sweep.estimate`` adds for the report."""

CONFIG = tuple(field.name for field in fields(Config) if field.name != "name")
"""Fields of a configuration that a sweep may set."""

DERIVED = ("port_bytes", "beat_bits", "beat_bytes", "lanes", "span", "sub_lanes", "subs",
           "token_pairs", "accumulator_bits")  # fmt: skip
"""Properties of a configuration that a constraint may name."""

WORKLOAD = ("model", "pass_tokens", "context", "prompt", "head", "memory")
"""Fields of the workload, which may be swept as well."""


def known(kind: str, name: Any, allowed: Iterable[str]) -> str:
    """``name``, if it is one of ``allowed``.

    Raises:
        SweepError: it is not; with the nearest one, or all.
    """
    allowed = list(allowed)
    if name in allowed:
        return str(name)
    near = difflib.get_close_matches(str(name), allowed, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(allowed)}"
    raise SweepError(f"unknown {kind} {str(name)[:80]!r}{hint}")
