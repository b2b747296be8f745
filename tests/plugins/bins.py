"""The list of functional bins: what the random and directed matmuls together must have run."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from spec import numeric
from spec.config import TINY, Config

WIDE = dataclasses.replace(
    TINY, name="wide", ports=2, port_bits=64, tokens=3, group=64, burst_beats=8, outstanding=4
)
"""Two ports of 64 bits, an odd number of tokens, no group of 32."""
FOUR = dataclasses.replace(
    TINY, name="four", ports=4, port_bits=32, tokens=1, tile_rows=32, burst_beats=16, outstanding=4
)
"""Four ports of 32 bits, one token."""

DOUBLE = dataclasses.replace(TINY, name="double", ports=2, tokens=1)
"""Beats of 64 int4 values: a group of 32 can leave the last chunk half empty."""

CONFIGS = (TINY, WIDE, FOUR, DOUBLE)
RESULTS = ("fp32", "bf16", "top-k")
STALLS = ("stalls", "none")


def listed() -> list[str]:
    """Every bin by name."""
    return [name for config in CONFIGS for name in _of(config)]


def _of(config: Config) -> Iterator[str]:
    groups = [group for group in numeric.GROUPS if group >= config.group]
    for bits, group, result, stall in itertools.product((4, 8), groups, RESULTS, STALLS):
        yield f"{config.name}/int{bits}/group{group}/{result}/{stall}"
    for tokens, result in itertools.product(range(1, config.tokens + 1), RESULTS):
        yield f"{config.name}/M={tokens}/{result}"
    ragged = ("part", "whole") if config.lanes > config.group else ("whole",)
    for rows, chunks in itertools.product(("part", "whole", "several"), ragged):
        yield f"{config.name}/rows={rows}/last-chunk={chunks}"


def hit(
    config: Config, rows: int, columns: int, bits: int, group: int, tokens: int, result: str,
    stalls: bool,
) -> list[str]:  # fmt: skip
    """The bins that one matmul falls into; those of other configurations are not listed."""
    chunk = config.beat_bits // bits
    size = "part" if rows < config.tile_rows else "whole"
    size = "several" if rows > config.tile_rows else size
    ragged = "part" if columns % chunk else "whole"
    return [
        f"{config.name}/int{bits}/group{group}/{result}/{'stalls' if stalls else 'none'}",
        f"{config.name}/M={tokens}/{result}",
        f"{config.name}/rows={size}/last-chunk={ragged}",
    ]
