"""The LM head by top-k: the engine's largest logits, made exact, or all logits where they are not.

Activations go in as two terms (``host.linear.split``): the first is what int8 holds, the second the
little that it left over. The engine gives the largest results of the first term alone. For those
rows the second term's results are added here, in the same exact integers, so each score equals the
full logit bit for bit. A row outside the list has a first result no larger than the list's last,
and a second one no larger than the norms of its row and of the second term allow
(Cauchy-Schwarz); scores above the sum of both are therefore certain to be the largest of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from host import blockfloat, largest
from host.driver import Accelerator, Handle
from host.weights import Quantised
from spec import commands, numeric
from spec.errors import UserError

NORM_ROWS = 4096
"""Rows whose norms are computed at once: 15 MB of float32 for 896 columns."""

SLACK = 1 + 1e-5
"""Covers the rounding of norms in float32 and of results: far above 2**-23 per operation."""


class HeadError(UserError):
    """A top-k of the LM head that makes no sense."""


class TopHead:
    """A head that can give the largest logits only.

    Args:
        accelerator, handle: the head on the device.
        weights: the same matrix.
        full: all logits [tokens, N] from [tokens, K], as without top-k.
        split: activations [1, K] as two terms [2, K]; None when they go in as one.
        top_k: entries that the engine gives; fewer if the matrix has fewer rows.
    """

    def __init__(
        self, accelerator: Accelerator, handle: Handle, weights: Quantised,
        full: Callable[[np.ndarray], np.ndarray],
        split: Callable[[np.ndarray], np.ndarray] | None, top_k: int,
    ) -> None:  # fmt: skip
        self._accelerator, self._handle, self._weights = accelerator, handle, weights
        self._full, self._split = full, split
        self._top_k = min(top_k, largest.most(handle.matrix))
        self._norm = largest_norm(weights) if split else 0.0
        self.full_passes = 0
        """Times that the list was not certain, and all logits were computed as well."""

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """All logits."""
        return self._full(activations)

    def likeliest(self, activations: np.ndarray, count: int) -> np.ndarray:
        """Logits in which the ``count`` largest are right, and those equal to them by row.

        Args:
            activations: [1, K] float32.

        Returns:
            [1, N] float32: logits, or minus infinity for rows that are certainly not among them.
        """
        terms = activations if self._split is None else self._split(activations)
        values, rows = self._accelerator.matmul(self._handle, terms[:1], top_k=self._top_k)
        scores, certain = values[0], self._top_k
        if self._split is not None:
            rest = blockfloat.quantise(terms[1:])
            scores = scores + exact_results(self._weights, rows[0], *rest)
            length = float(np.linalg.norm(blockfloat.dequantise(*rest).astype(np.float64)))
            limit = np.float32(float(values[0, -1]) + length * self._norm * SLACK)
            certain = int((scores > limit).sum())
        if (
            certain < min(count, self._handle.matrix.rows)
            and self._top_k < self._handle.matrix.rows
        ):
            self.full_passes += 1
            return self._full(activations)
        logits = np.full((1, self._handle.matrix.rows), -np.inf, np.float32)
        logits[0, rows[0]] = scores
        return logits


def check_top_k(top_k: int) -> int:
    """``top_k`` of a head; raises HeadError when the engine keeps no list of that length."""
    if not 1 <= top_k <= commands.TOP_K_MAX:
        raise HeadError(
            f"the head's top-k must lie in 1..{commands.TOP_K_MAX}, or be 'full' for all logits,"
            f" got {top_k}"
        )
    return top_k


def largest_norm(weights: Quantised) -> float:
    """The largest 2-norm of any row."""
    found = 0.0
    for first in range(0, weights.rows, NORM_ROWS):
        part = slice(first, first + NORM_ROWS)
        values = _signed(weights, part).astype(np.float32)
        values *= weights.scales[part, :, None].astype(np.float32)
        found = max(found, float(np.einsum("rgi,rgi->r", values, values).max()))
    return math.sqrt(found)


def exact_results(
    weights: Quantised, rows: np.ndarray, bases: np.ndarray, shifts: np.ndarray,
    mantissas: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Results of a few rows with one token, bit for bit as the engine's (``spec.numeric``).

    Args:
        rows: [count] rows of ``weights``.
        bases, shifts, mantissas: of one token, as ``blockfloat.quantise`` returns them.

    Returns:
        [count] float32.
    """
    run = min(weights.group, numeric.BLOCK)
    values = _signed(weights, rows).reshape(len(rows), -1, run)
    sums = np.einsum("nri,ri->nr", values, mantissas.reshape(-1, run).astype(np.int32))
    starts = np.arange(sums.shape[1]) * run
    patterns = weights.scales.view(np.uint16)[rows][:, starts // weights.group]
    lifts = (numeric.SHIFT_MAX - shifts[0, starts // numeric.BLOCK]).tolist()
    results = []
    for row_sums, row_patterns in zip(sums.tolist(), patterns.tolist(), strict=True):
        total = 0
        for value, pattern, lift in zip(row_sums, row_patterns, lifts, strict=True):
            mantissa, shift = numeric.scale_fields(pattern)
            total += value * mantissa << (shift + lift)
        results.append(numeric.round_result(total, int(bases[0]), "fp32"))
    return np.array(results, np.uint32).view(np.float32)


def _signed(weights: Quantised, rows: slice | np.ndarray) -> np.ndarray:
    """``values - zeros`` of some rows: int32 [rows, groups, group]."""
    values = weights.values[rows].astype(np.int32)
    values = values.reshape(len(values), -1, weights.group)
    if weights.zeros is not None:
        values -= weights.zeros[rows, :, None]
    return values
