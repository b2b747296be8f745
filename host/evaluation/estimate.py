"""Figures of a text with their standard errors.

Neighbouring tokens are not independent, so errors come from a circular block bootstrap (Politis and
Romano, "A circular block-resampling procedure for stationary data", 1992): texts of the same length
are drawn from blocks of consecutive predictions, and the standard deviation of a figure over
them is its standard error. Model and reference see the same draws, so the error of their ratio is
that of paired texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from host.evaluation.evaluate import Scores

BLOCK = 32
"""Consecutive predictions of one block: about a sentence."""
LEAST_BLOCKS = 8
"""Blocks that a text is cut into at least: one block alone would have no spread."""
RESAMPLES = 1000
SEED = 0
METHOD = (
    f"circular block bootstrap, blocks of {BLOCK} predictions (at most 1/{LEAST_BLOCKS} of the"
    f" text), {RESAMPLES} resamples, seed {SEED}"
)


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    error: float


def _perplexity(scores: Scores) -> float:
    return math.exp(scores.losses.mean())


def _reference_perplexity(scores: Scores) -> float:
    return math.exp(scores.reference_losses.mean())


FIGURES: dict[str, Callable[[Scores], float]] = {
    "perplexity": _perplexity,
    "reference_perplexity": _reference_perplexity,
    "perplexity_change": lambda scores: _perplexity(scores) / _reference_perplexity(scores) - 1,
    "kl_mean": lambda scores: float(scores.divergences.mean()),
    "kl_p99": lambda scores: float(np.quantile(scores.divergences, 0.99)),
    "top1_agreement": lambda scores: float(scores.agreements.mean()),
}
"""Figures by name; ``perplexity_change`` is relative to the reference."""


def estimate(scores: Scores, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Every figure with its standard error."""
    random = np.random.default_rng(SEED)
    count = len(scores.losses)
    block = max(1, min(BLOCK, count // LEAST_BLOCKS))
    draws = []
    for _ in range(resamples):
        starts = random.integers(0, count, -(-count // block))
        rows = (starts[:, None] + np.arange(block)).reshape(-1)[:count] % count
        drawn = Scores(*(column[rows] for column in vars(scores).values()))
        draws.append([figure(drawn) for figure in FIGURES.values()])
    errors = np.std(draws, axis=0, ddof=1)
    return {
        name: Estimate(figure(scores), float(error))
        for (name, figure), error in zip(FIGURES.items(), errors, strict=True)
    }
