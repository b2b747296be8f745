"""How well a model predicts a text, and how far its predictions are from a reference's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from host.forward.model import Transformer
from spec.errors import UserError

WINDOW = 512
"""Tokens seen together, unless another number is asked for."""

PASS_TOKENS = 128
"""Tokens whose logits are held at once."""

ROWS = 16
"""Rows of logits handled at a time in float64: 20 MB each for a vocabulary of 152,000."""


class EvaluationError(UserError):
    """A text or a reference that cannot be evaluated with."""


@dataclass(frozen=True)
class Scores:
    """One value for each predicted token, [predictions] float64, in the order of the text."""

    losses: np.ndarray
    """Negative log likelihood of the token that followed, nats."""
    reference_losses: np.ndarray
    divergences: np.ndarray
    """Kullback-Leibler divergence of the candidate from the reference, nats."""
    agreements: np.ndarray
    """1 where both find the same token likeliest, else 0."""
    errors: np.ndarray
    """Relative error of the logits (2-norm over the vocabulary); NaN where the reference holds no
    logits."""


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Losses, divergences, agreements, errors of a few predictions."""


class Reference(Protocol):
    """What a candidate's predictions are held against."""

    label: str

    def reset(self) -> None:
        """Begins a window."""

    def compare(self, given: list[int], logits: np.ndarray, targets: np.ndarray) -> Rows:
        """The reference's losses and how the candidate's logits [count, vocabulary] differ.

        Args:
            given: the next tokens of the window.
            targets: [count], what followed each.
        """


Recorder = Callable[[np.ndarray, np.ndarray], None]
"""Called with logits [count, vocabulary] and targets [count], in the order of the text."""


class LiveReference:
    """Another model, run beside the candidate.

    Args:
        record: is given the reference's logits as they come.
    """

    def __init__(self, transformer: Transformer, record: Recorder | None = None) -> None:
        self.transformer, self._record = transformer, record
        self.label = transformer.model.source

    def reset(self) -> None:
        """See ``Reference``."""
        self.transformer.reset()

    def compare(self, given: list[int], logits: np.ndarray, targets: np.ndarray) -> Rows:
        """See ``Reference``: over the whole vocabulary."""
        wanted = self.transformer.forward(given, all_logits=True)
        check_vocabulary(logits.shape[1], wanted.shape[1], self.label)
        if self._record is not None:
            self._record(wanted, targets)
        parts = [
            _compare(logits[rows], wanted[rows], targets[rows]) for rows in slices(len(targets))
        ]
        losses, divergences, agreements, errors = (np.concatenate(p) for p in zip(*parts))  # noqa: B905
        return losses, divergences, agreements, errors


def _compare(ours: np.ndarray, wanted: np.ndarray, targets: np.ndarray) -> Rows:
    q, p = log_probabilities(ours), log_probabilities(wanted)
    return (
        -p[np.arange(len(targets)), targets],
        (np.exp(p) * (p - q)).sum(axis=1),
        (ours.argmax(axis=1) == wanted.argmax(axis=1)).astype(float),
        np.linalg.norm(ours - wanted, axis=1) / np.linalg.norm(wanted, axis=1),
    )


def check_vocabulary(ours: int, wanted: int, label: str) -> None:
    """Raises EvaluationError unless two models predict the same tokens."""
    if ours != wanted:
        raise EvaluationError(
            f"the model has {ours} tokens and the reference {wanted} ({label}): take a reference of"
            " the same model family"
        )


def slices(count: int) -> Iterator[slice]:
    """Rows 0..count, ROWS at a time."""
    for start in range(0, count, ROWS):
        yield slice(start, min(start + ROWS, count))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Logarithms of the softmax along the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def score(
    candidate: Transformer,
    reference: Reference | None,
    tokens: list[int],
    window: int = WINDOW,
    record: Recorder | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Runs a text through the candidate, and the reference beside it.

    The text is cut into windows; the first token of each is given, not predicted.

    Args:
        reference: None: the candidate is its own.
        tokens: at least two.
        window: tokens seen together, at most the model's context.
        record: is given the candidate's logits as they come.
        progress: called with (predictions done, all).

    Raises:
        EvaluationError: fewer than two tokens, a window of fewer, another vocabulary, or logits
            that are not finite.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    done, total = 0, predictions(tokens, window)
    for first, given, targets in _passes(tokens, window):
        if first:
            candidate.reset()
            if reference is not None:
                reference.reset()
        logits = candidate.forward(given, all_logits=True)
        if not np.isfinite(logits).all():
            raise EvaluationError(
                f"the model's logits are not finite after {done} predictions: its activations"
                " overflow"
            )
        if record is not None:
            record(logits, targets)
        losses = np.concatenate([
            -log_probabilities(logits[rows])[np.arange(len(targets[rows])), targets[rows]]
            for rows in slices(len(targets))
        ])  # fmt: skip
        zeros = np.zeros(len(targets))
        compared: Rows = (losses, zeros, zeros + 1, zeros)
        if reference is not None:
            compared = reference.compare(given, logits, targets)
        parts.append((losses, *compared))
        done += len(targets)
        progress(done, total)
    return Scores(*(np.concatenate(column) for column in zip(*parts)))  # noqa: B905


def predictions(tokens: list[int], window: int) -> int:
    """How many tokens of a text are predicted.

    Raises:
        EvaluationError: fewer than two tokens, or a window of fewer.
    """
    if len(tokens) < 2 or window < 2:
        raise EvaluationError(
            f"a perplexity needs two tokens and a window of two, got {len(tokens)} and {window}"
        )
    return sum(len(targets) for _, _, targets in _passes(tokens, window))


def _passes(tokens: list[int], window: int) -> Iterator[tuple[bool, list[int], np.ndarray]]:
    """Whether a window begins, the tokens given next, and those that follow each."""
    for first in range(0, len(tokens) - 1, window):
        part = tokens[first : first + window]
        for start in range(0, len(part) - 1, PASS_TOKENS):
            given = part[start : min(start + PASS_TOKENS, len(part) - 1)]
            yield start == 0, given, np.asarray(part[start + 1 : start + 1 + len(given)])


def perplexity(model: Transformer, tokens: list[int], window: int = WINDOW) -> float:
    """exp of the mean negative log likelihood of each token after those before it.

    Raises:
        EvaluationError: as for ``score``.
    """
    return math.exp(score(model, None, tokens, window).losses.mean())


@dataclass(frozen=True)
class Comparison:
    """One text through two models."""

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


def compare(
    candidate: Transformer, reference: Transformer, tokens: list[int], window: int = WINDOW
) -> Comparison:
    """Runs a text through both.

    Raises:
        EvaluationError: as for ``score``.
    """
    scores = score(candidate, LiveReference(reference), tokens, window)
    return Comparison(
        tokens=len(scores.losses),
        perplexity=math.exp(scores.losses.mean()),
        reference_perplexity=math.exp(scores.reference_losses.mean()),
        divergence=float(scores.divergences.mean()),
        top1_agreement=float(scores.agreements.mean()),
        logits_error=float(scores.errors.max()),
    )
