"""How well a model predicts a text, and how far a device is from the floating-point reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from host.model import Transformer
from spec.errors import UserError


class EvaluationError(UserError):
    """A text that is too short to evaluate."""


@dataclass(frozen=True)
class Comparison:
    """One text through two backends that hold the same weights."""

    tokens: int
    """Predictions compared."""
    perplexity: float
    """Of the candidate."""
    reference_perplexity: float
    divergence: float
    """Mean Kullback-Leibler divergence of the candidate from the reference, nats per token."""
    top1_agreement: float
    """Share of positions where both find the same token likeliest."""
    logits_error: float
    """Largest relative error (2-norm over the vocabulary) of any position's logits."""

    @property
    def perplexity_change(self) -> float:
        """Relative: 0.01 is one per cent worse than the reference."""
        return self.perplexity / self.reference_perplexity - 1


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax along the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def perplexity(model: Transformer, tokens: list[int], window: int = 512) -> float:
    """exp of the mean negative log likelihood of each token after those before it.

    The text is cut into windows; the first token of each is given, not predicted.

    Args:
        tokens: at least two.
        window: tokens seen together, at most the model's context.

    Raises:
        EvaluationError: fewer than two tokens, or a window of fewer.
    """
    losses = [
        -log_probabilities(logits)[np.arange(len(targets)), targets]
        for (logits,), targets in _predictions([model], tokens, window)
    ]
    return math.exp(np.concatenate(losses).mean())


def compare(
    candidate: Transformer, reference: Transformer, tokens: list[int], window: int = 512
) -> Comparison:
    """Runs a text through both, in the candidate's passes.

    Raises:
        EvaluationError: as for ``perplexity``.
    """
    columns: list[list[np.ndarray]] = [[], [], [], [], []]
    for (ours, wanted), targets in _predictions([candidate, reference], tokens, window):
        row = np.arange(len(targets))
        q, p = log_probabilities(ours), log_probabilities(wanted)
        parts = (
            -q[row, targets],
            -p[row, targets],
            (np.exp(p) * (p - q)).sum(axis=1),
            ours.argmax(axis=1) == wanted.argmax(axis=1),
            np.linalg.norm(ours - wanted, axis=1) / np.linalg.norm(wanted, axis=1),
        )
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
    loss, wanted_loss, divergence, agreement, error = (np.concatenate(c) for c in columns)
    return Comparison(
        tokens=len(loss),
        perplexity=math.exp(loss.mean()),
        reference_perplexity=math.exp(wanted_loss.mean()),
        divergence=float(divergence.mean()),
        top1_agreement=float(agreement.mean()),
        logits_error=float(error.max()),
    )


def _predictions(
    models: list[Transformer], tokens: list[int], window: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Each model's logits of a few positions, and the tokens that followed them."""
    if len(tokens) < 2 or window < 2:
        raise EvaluationError(
            f"a perplexity needs two tokens and a window of two, got {len(tokens)} and {window}"
        )
    step = models[0].tokens
    for first in range(0, len(tokens) - 1, window):
        part = tokens[first : first + window]
        for model in models:
            model.reset()
        for start in range(0, len(part) - 1, step):
            given = part[start : min(start + step, len(part) - 1)]
            logits = [model.forward(given, all_logits=True) for model in models]
            yield logits, np.asarray(part[start + 1 : start + 1 + len(given)])
