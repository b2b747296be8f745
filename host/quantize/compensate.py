"""Error-compensated rounding of one matrix: GPTQ (Frantar et al., arXiv 2210.17323).

The error of a rounded matrix is measured on real activations: E |(W' - W) x|^2, a quadratic form in
H = E x x^T. Columns are rounded one after the other, and the error of each is taken up by the
columns that are still free, as H says. The order is that of importance (falling diagonal of H);
groups stay where they are in storage, so their scales and zero points are chosen before the first
column is rounded.

The inputs are those that the layers before it, already quantised, really give; the target is what
the unquantised matrix makes of the unquantised inputs. Regressing the second on the first (after
Li et al., GPTAQ, arXiv 2504.02692; in closed form) lets a matrix make good a part of the errors
before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.checkpoint.rounding import round_int8
from host.quantize import groups
from host.weights import Quantised

BLOCK = 64
"""Columns whose errors are passed on to the rest at once: changes the work, not the result."""

ROWS = 4096
"""Rows rounded at a time; rows do not see each other, and a block of them fits the cache."""

LARGE = 10.0
"""Largest share of a channel in H's mean diagonal, as a multiple of the median."""


@dataclass(frozen=True)
class Statistics:
    """What calibration says about one matrix."""

    hessian: np.ndarray
    """[K, K] float32: mean of x x^T over the quantised stream."""
    lag: np.ndarray
    """[N, K] float32: mean of W (x0 - x) x^T, x0 from the unquantised stream: what the outputs lack
    because of the matrices before."""
    tokens: int
    """What they are means over."""

    @classmethod
    def measure(cls, weights: np.ndarray, inputs: np.ndarray, wanted: np.ndarray) -> Statistics:
        """From inputs [T, K] of the quantised and of the unquantised stream."""
        count = np.float32(len(inputs))
        hessian = inputs.T @ inputs / count
        behind = wanted - inputs
        if 2 * len(weights) < weights.shape[1]:  # the cheaper order of the two products
            lag = (behind @ weights.T).T @ inputs
        else:
            lag = weights @ (behind.T @ inputs)
        return cls(hessian, lag / count, len(inputs))


@dataclass(frozen=True)
class Settings:
    """How one matrix is rounded."""

    group: int
    damping: float = 0.01
    """Added to H's diagonal, as part of its mean, however many tokens there are."""
    scarcity: float = 1.5
    """Added to it for few tokens: times columns per token. H of few tokens finds directions that
    nothing points to, moves errors there, and another text pays for it."""
    drift: float = 0.5
    """Part of the earlier matrices' error that is made good here; 0 is GPTQ."""
    ridge: float = 0.05
    """Damping of that correction, as ``damping`` is of rounding."""

    def damping_for(self, columns: int, tokens: int) -> float:
        """The damping of a matrix of ``columns`` inputs that ``tokens`` were seen of."""
        return self.damping + self.scarcity * columns / tokens

    def ridge_for(self, columns: int, tokens: int) -> float:
        """The same for the correction."""
        return self.ridge + self.scarcity * columns / tokens


def target(weights: np.ndarray, statistics: Statistics, settings: Settings) -> np.ndarray:
    """The unrounded matrix that comes nearest to the unquantised outputs: [N, K] float32."""
    if not settings.drift:
        return weights
    correction = np.float32(settings.drift) * statistics.lag
    ridge = settings.ridge_for(weights.shape[1], statistics.tokens)
    return weights + np.linalg.solve(damped(statistics.hessian, ridge), correction.T).T


@dataclass(frozen=True)
class Curvature:
    """H of one matrix and what rounding needs of it; made once for several candidates."""

    hessian: np.ndarray
    """[K, K] float32"""
    order: np.ndarray
    """[K]: columns by importance, the order in which they are rounded."""
    factor: np.ndarray
    """U [K, K] float32, upper triangular, with H^-1 = U^T U in ``order``, H damped."""

    @classmethod
    def of(cls, hessian: np.ndarray, damping: float) -> Curvature:
        """Factors H + damping * mean(diagonal of H)."""
        order = np.argsort(-np.diagonal(hessian), kind="stable")
        ordered = damped(hessian, damping)[np.ix_(order, order)].astype(np.float64)
        # H = R R^T with R upper triangular is Cholesky's factor of H turned around; U is R^-1.
        right = np.linalg.cholesky(ordered[::-1, ::-1])[::-1, ::-1]
        return cls(hessian, order, _inverse_upper(right).astype(np.float32))

    def scaled(self, scale: np.ndarray) -> Curvature:
        """The same for inputs x / scale, [K]: for a matrix whose columns were multiplied by it."""
        outer = np.outer(scale, scale).astype(np.float32)
        factor = self.factor * scale[self.order].astype(np.float32)
        return Curvature(self.hessian / outer, self.order, factor)

    def importance(self) -> np.ndarray:
        """[K] float32: what the error of each column costs when the others make good of it what
        they can, 1 / (H^-1)[k, k]."""
        result = np.empty(len(self.order), np.float32)
        result[self.order] = 1 / np.einsum("jk,jk->k", self.factor, self.factor)
        return result

    def error(self, difference: np.ndarray) -> float:
        """E |difference x|^2, summed over the rows of ``difference`` [N, K]."""
        return float(np.einsum("nk,nk->", difference @ self.hessian, difference))


def int4(weights: np.ndarray, curvature: Curvature, group: int) -> Quantised:
    """``weights`` [N, K] float32 as int4 with zero points, by GPTQ."""
    rows = len(weights)
    importance = curvature.importance().reshape(-1, group)
    scales, zeros = groups.search(weights.reshape(rows, *importance.shape), importance)
    steps = scales.astype(np.float32)
    values = np.empty(weights.shape, np.uint8)
    for start in range(0, rows, ROWS):
        part = slice(start, start + ROWS)
        values[part] = _compensated(
            weights[part], curvature.factor, curvature.order, steps[part], zeros[part], group
        )
    return Quantised(4, group, values, scales, zeros)


def _compensated(
    weights: np.ndarray, upper: np.ndarray, order: np.ndarray, scales: np.ndarray,
    zeros: np.ndarray, group: int,
) -> np.ndarray:  # fmt: skip
    """Values [N, K] uint8; ``upper`` [K, K] is the factor of H^-1 in ``order``."""
    rows, columns = weights.shape
    free = np.ascontiguousarray(weights.T[order])
    values = np.empty((columns, rows), np.uint8)
    by_group = np.ascontiguousarray(scales.T), np.ascontiguousarray(zeros.T).astype(np.float32)
    for start in range(0, columns, BLOCK):
        stop = min(start + BLOCK, columns)
        errors = np.empty((stop - start, rows), np.float32)
        for column in range(start, stop):
            scale, zero = (part[order[column] // group] for part in by_group)
            value = np.clip(np.rint(free[column] / scale) + zero, 0, groups.LEVELS)
            values[order[column]] = value
            error = (free[column] - (value - zero) * scale) / upper[column, column]
            errors[column - start] = error
            free[column + 1 : stop] -= upper[column, column + 1 : stop, None] * error
        free[stop:] -= upper[start:stop, stop:].T @ errors
    return np.ascontiguousarray(values.T)


def plain_int8(weights: np.ndarray, group: int) -> Quantised:
    """``weights`` [N, K] float32 rounded to int8 with group scales: finer than calibration can
    tell apart."""
    values, scales = round_int8(weights.reshape(len(weights), -1, group))
    return Quantised(8, group, values, scales)


def damped(hessian: np.ndarray, part: float) -> np.ndarray:
    """H [K, K] with ``part`` of its mean diagonal added; positive definite even where inputs are
    zero. Channels with massive activations count as ``LARGE`` in that mean: they say nothing of
    the others."""
    diagonal = np.diagonal(hessian)
    limit = LARGE * float(np.median(diagonal))
    mean = float((np.minimum(diagonal, limit) if limit > 0 else diagonal).mean())
    added = part * mean if mean > 0 else 1.0
    return hessian + np.eye(len(hessian), dtype=np.float32) * np.float32(added)


def _inverse_upper(factor: np.ndarray) -> np.ndarray:
    """The inverse of an upper triangular matrix by halves: NumPy has none for triangles."""
    size = len(factor)
    if size <= 2 * BLOCK:
        return np.triu(np.linalg.inv(factor))
    half = size // 2
    result = np.zeros_like(factor)
    top, bottom = _inverse_upper(factor[:half, :half]), _inverse_upper(factor[half:, half:])
    result[:half, :half], result[half:, half:] = top, bottom
    result[:half, half:] = -(top @ factor[:half, half:]) @ bottom
    return result
