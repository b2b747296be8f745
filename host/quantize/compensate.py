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


@dataclass(frozen=True)
class Statistics:
    """What calibration says about one matrix's inputs."""

    hessian: np.ndarray
    """[K, K] float32: mean of x x^T over the quantised stream."""
    drift: np.ndarray
    """[K, K] float32: mean of (x0 - x) x^T, x0 from the unquantised stream."""
    residual: np.ndarray | None = None
    """[N, K] float32: mean of (h0 - h) x^T, what the sum that the outputs join lacks."""

    @classmethod
    def measure(
        cls, inputs: np.ndarray, wanted: np.ndarray, lacking: np.ndarray | None = None
    ) -> Statistics:
        """From inputs [T, K] of the quantised and of the unquantised stream, and ``lacking``
        [T, N], the difference of their hidden states."""
        count = np.float32(len(inputs))
        hessian = inputs.T @ inputs / count
        drift = (wanted - inputs).T @ inputs / count
        return cls(hessian, drift, None if lacking is None else lacking.T @ inputs / count)


@dataclass(frozen=True)
class Settings:
    """How one matrix is rounded."""

    group: int
    damping: float = 0.01
    """Added to H's diagonal, as part of its mean."""
    drift: float = 0.5
    """Part of the earlier matrices' error that is made good here; 0 is GPTQ."""
    residual: float = 0.0
    """The same for the error of the hidden state."""
    ridge: float = 0.05
    """Damping of that correction, as part of the mean of H's diagonal."""


def target(weights: np.ndarray, statistics: Statistics, settings: Settings) -> np.ndarray:
    """The unrounded matrix that comes nearest to the unquantised outputs: [N, K] float32."""
    correction = np.float32(settings.drift) * (weights @ statistics.drift)
    if statistics.residual is not None:
        correction += np.float32(settings.residual) * statistics.residual
    if not correction.any():
        return weights
    damped = _damped(statistics.hessian, settings.ridge).astype(np.float64)
    return weights + np.linalg.solve(damped, correction.T.astype(np.float64)).T.astype(np.float32)


@dataclass(frozen=True)
class Curvature:
    """H of one matrix and what rounding needs of it; made once for several candidates.

    Args:
        hessian: [K, K] float32.
        damping: see ``Settings``.
    """

    hessian: np.ndarray
    inverse: np.ndarray
    """Of the damped H, float64."""

    @classmethod
    def of(cls, hessian: np.ndarray, damping: float) -> Curvature:
        """Inverts H."""
        return cls(hessian, np.linalg.inv(_damped(hessian, damping).astype(np.float64)))

    def scaled(self, scale: np.ndarray) -> Curvature:
        """The same for inputs x / scale, [K]: for a matrix whose columns were multiplied by it."""
        outer = np.outer(scale, scale)
        return Curvature(self.hessian / outer.astype(np.float32), self.inverse * outer)

    def error(self, difference: np.ndarray) -> float:
        """E |difference x|^2, summed over the rows of ``difference`` [N, K]."""
        return float(np.einsum("nk,nk->", difference @ self.hessian, difference))


def int4(weights: np.ndarray, curvature: Curvature, group: int) -> Quantised:
    """``weights`` [N, K] float32 as int4 with zero points, by GPTQ."""
    rows = len(weights)
    importance = (1 / np.diagonal(curvature.inverse)).astype(np.float32).reshape(-1, group)
    scales, zeros = groups.search(weights.reshape(rows, *importance.shape), importance)
    steps = scales.astype(np.float32)
    order = np.argsort(-np.diagonal(curvature.hessian), kind="stable")
    factor = np.linalg.cholesky(curvature.inverse[np.ix_(order, order)])
    upper = np.ascontiguousarray(factor.T, np.float32)
    values = np.empty(weights.shape, np.uint8)
    for start in range(0, rows, ROWS):
        part = slice(start, start + ROWS)
        values[part] = _compensated(weights[part], upper, order, steps[part], zeros[part], group)
    return Quantised(4, group, values, scales, zeros)


def _compensated(
    weights: np.ndarray, upper: np.ndarray, order: np.ndarray, scales: np.ndarray,
    zeros: np.ndarray, group: int,
) -> np.ndarray:  # fmt: skip
    """Values [N, K] uint8; ``upper`` [K, K] is the Cholesky factor of H^-1 in ``order``."""
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


def _damped(hessian: np.ndarray, part: float) -> np.ndarray:
    """H with ``part`` of its mean diagonal added; positive definite even where inputs are zero."""
    mean = float(np.diagonal(hessian).mean())
    return hessian + np.eye(len(hessian), dtype=np.float32) * np.float32(part * mean or 1.0)
