"""The analytic model of resources: what a configuration takes on the XCK26, in microseconds.

Blocks follow from the structure and are exact: a DSP48E2 for each lane and pair of tokens, memories
by width and depth. LUTs and flip-flops are linear in what there is many of; the coefficients are a
least-squares fit of ``hwgen synth`` (Yosys 0.70) over twelve configurations of 1, 2 and 4 ports, 64
and 128 bits, 1 to 16 tokens and groups of 32 and 64, within 4 % of each. tests/sim/test_area.py
compares them with a mapping made anew. Of the vendor twin: the portable one leaves its multipliers
to the tool.
"""

from __future__ import annotations

from spec.config import Config
from spec.device import XCK26

DISTRIBUTED_MAX = 64
"""Deepest queue in LUT RAM (hwgen.queue)."""

SMALL_MEMORY = 4096
"""Bits up to which Yosys keeps a memory without a style in LUT RAM."""

LUT = {"fixed": 2512.7, "lane": 36.0, "token": 1126.5, "term": 316.6}
FF = {"fixed": 3546.6, "lane": 46.4, "token": 1559.0, "term": 218.6}
"""Per lane, token, and term: a token's partial sum of a beat, scaled and accumulated."""


def estimate(config: Config) -> dict[str, float]:
    """LUT, FF, DSP, BRAM36 and URAM of the whole design, as ``hwgen synth`` counts them."""
    terms = config.tokens * config.subs
    counts = {"fixed": 1, "lane": config.lanes, "token": config.tokens, "term": terms}
    return {
        "lut": float(round(sum(LUT[name] * count for name, count in counts.items()))),
        "ff": float(round(sum(FF[name] * count for name, count in counts.items()))),
        "dsp": float(config.token_pairs * config.lanes + terms),
        "bram36": _block_rams(config),
        "uram": float(_cover(config.beat_bits, 72) * _cover(_mantissa_words(config), 4096)),
    }


def over(resources: dict[str, float]) -> dict[str, float]:
    """Resources that the XCK26 lacks, with how many."""
    limits = XCK26.limits
    return {name: used - limits[name] for name, used in resources.items() if used > limits[name]}


def _block_rams(config: Config) -> float:
    """RAMB36: read queues, a top-k's queue of each token, block shifts; RAMB18 are halves."""
    total = 0.0
    if config.fifo_beats > DISTRIBUTED_MAX:
        total += config.ports * _cover(config.port_bits, 72) * _cover(config.fifo_beats, 512)
    if 2 * config.tile_rows > DISTRIBUTED_MAX:
        total += config.tokens
    width, depth = 4 * config.tokens, config.max_k // config.span
    if width * depth > SMALL_MEMORY:
        total += 0.5 * (
            _cover(depth, 1024) if width <= 18 else _cover(width, 36) * _cover(depth, 512)
        )
    return total


def _mantissa_words(config: Config) -> int:
    return config.max_k // config.span * config.tokens


def _cover(size: int, unit: int) -> int:
    return -(-size // unit)
