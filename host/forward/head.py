"""The LM head by top-k: the engine's largest logits, made exact, or all logits where they are not.

Activations go in as two terms (``linear.split``): what int8 holds, and the little that it left
over. A logit is the sum of both terms' results, but the engine gives the largest results of each
term by itself. For every row of either list the result that is missing is computed here, in the
same exact integers, so each score equals the full logit bit for bit. A row in neither list has no
larger results than the last ones of both; scores above their sum are therefore certain to be the
largest of all (the threshold algorithm of Fagin, Lotem and Naor, PODS 2001).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from host.device import largest
from host.device.driver import Accelerator, Handle
from host.device.largest import Largest
from host.layout import blockfloat
from host.weights import Integers, Quantised
from spec import commands, numeric
from spec.errors import UserError


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
        self, accelerator: Accelerator, handle: Handle, weights: Integers,
        full: Callable[[np.ndarray], np.ndarray],
        split: Callable[[np.ndarray], np.ndarray] | None, top_k: int,
    ) -> None:  # fmt: skip
        self._accelerator, self._handle, self._weights = accelerator, handle, weights
        self._full, self._split = full, split
        self._top_k = min(top_k, largest.most(handle.matrix))
        self.full_passes = 0
        """Times that the list was not certain, and all logits were computed as well."""

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """All logits."""
        return self._full(activations)

    def likeliest(self, activations: np.ndarray, count: int) -> np.ndarray:
        """Logits in which the ``count`` largest are right, and those equal to them by row.

        Args:
            activations: [tokens, K] float32; each token is a matmul of its own.

        Returns:
            [tokens, N] float32: logits, or minus infinity for rows that are certainly not among
            them.
        """
        rows = [self._likeliest(token[None], count) for token in activations]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _likeliest(self, activations: np.ndarray, count: int) -> np.ndarray:
        """``likeliest`` of one token."""
        terms = activations if self._split is None else self._split(activations)
        found = self._accelerator.matmul(self._handle, terms, top_k=self._top_k)
        if self._split is None:
            rows, scores, certain = found.rows[0], found.values[0], self._top_k
        else:
            rows, scores = self._sums(terms, found)
            limit = found.values[0, -1] + found.values[1, -1]
            certain = int((scores > limit).sum())
        size = self._handle.matrix.rows
        if certain < min(count, size) and len(rows) < size:
            self.full_passes += 1
            return self._full(activations)
        logits = np.full((1, size), -np.inf, np.float32)
        logits[0, rows] = scores
        return logits

    def _sums(self, terms: np.ndarray, found: Largest) -> tuple[np.ndarray, np.ndarray]:
        """Every row of either term's list, and its logit: ``(rows, scores)``."""
        rows = np.union1d(*found.rows)
        results = np.empty((2, len(rows)), np.float32)
        for term, (values, listed) in enumerate(zip(*found, strict=True)):
            known = np.isin(rows, listed)
            results[term, np.searchsorted(rows, listed)] = values
            activations = blockfloat.quantise(terms[term : term + 1])
            results[term, ~known] = exact_results(self._weights, rows[~known], *activations)
        return rows, results[0] + results[1]


def check_top_k(top_k: int) -> int:
    """``top_k`` of a head; raises HeadError when the engine keeps no list of that length."""
    if not 1 <= top_k <= commands.TOP_K_MAX:
        raise HeadError(
            f"the head's top-k must lie in 1..{commands.TOP_K_MAX}, or be 'full' for all logits,"
            f" got {top_k}"
        )
    return top_k


def exact_results(
    weights: Integers, rows: np.ndarray, bases: np.ndarray, shifts: np.ndarray,
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
    chosen = weights.select(rows)
    values = _signed(chosen).reshape(len(rows), weights.columns // run, run)
    sums = np.einsum("nri,ri->nr", values, mantissas.reshape(-1, run).astype(np.int32))
    starts = np.arange(sums.shape[1]) * run
    patterns = chosen.scales.view(np.uint16)[:, starts // weights.group]
    lifts = (numeric.SHIFT_MAX - shifts[0, starts // numeric.BLOCK]).tolist()
    results = []
    for row_sums, row_patterns in zip(sums.tolist(), patterns.tolist(), strict=True):
        total = 0
        for value, pattern, lift in zip(row_sums, row_patterns, lifts, strict=True):
            mantissa, shift = numeric.scale_fields(pattern)
            total += value * mantissa << (shift + lift)
        results.append(numeric.round_result(total, int(bases[0]), "fp32"))
    return np.array(results, np.uint32).view(np.float32)


def _signed(weights: Quantised) -> np.ndarray:
    """``values - zeros``: int32 [rows, groups, group]."""
    values = weights.values.astype(np.int32)
    values = values.reshape(len(values), weights.columns // weights.group, weights.group)
    if weights.zeros is not None:
        values -= weights.zeros[:, :, None]
    return values
