"""Coordinate descent on a rounded matrix: what is left to gain after GPTQ's one pass.

GPTQ (``host.quantize.compensate``) decides on each column once, with the columns after it still
free, and on scales before the first column. Here every column is decided again, given all the
others as they stand, and every scale is the best one for its group's integers (as in QuantEase,
Behdin et al., arXiv 2309.01885, and in closed form for the scales). No step makes the error larger.
"""

from __future__ import annotations

import numpy as np

from host.quantize import groups
from host.weights import Quantised

SWEEPS = 2
"""Times that every column is visited: most of the gain is in the first."""

ROWS = 4096
"""Rows handled at a time; rows do not see each other."""


def refine(
    weights: np.ndarray, found: Quantised, hessian: np.ndarray, sweeps: int = SWEEPS
) -> Quantised:
    """``found`` with a smaller error tr(D H D^T), D = floats of the result - ``weights``.

    Args:
        weights: [N, K] float32, the target.
        found: int4 with zero points, [N, K].
        hessian: [K, K] float32, positive on its diagonal.
    """
    assert found.zeros is not None
    values, scales = np.empty_like(found.values), np.empty_like(found.scales)
    for start in range(0, len(weights), ROWS):
        part = slice(start, start + ROWS)
        block = _Block(weights[part], found.select(part), hessian)
        for _ in range(sweeps):
            for group in range(scales.shape[1]):
                block.visit(group)
        values[part], scales[part] = block.values.T, block.steps.T.astype(np.float16)
    return Quantised(4, found.group, values, scales, found.zeros)


class _Block:
    """Some rows of a matrix; arrays are transposed, so that a column is contiguous."""

    def __init__(self, weights: np.ndarray, found: Quantised, hessian: np.ndarray) -> None:
        assert found.zeros is not None
        self._group, self._hessian = found.group, hessian
        self._weights = np.ascontiguousarray(weights.T)
        self.steps = np.ascontiguousarray(found.scales.T.astype(np.float32))
        self._zeros = np.ascontiguousarray(found.zeros.T.astype(np.float32))
        self.values = np.ascontiguousarray(found.values.T.astype(np.float32))
        whole = self.values.reshape(len(self.steps), found.group, -1) - self._zeros[:, None]
        whole *= self.steps[:, None]
        self._behind = whole.reshape(self._weights.shape) - self._weights

    def visit(self, group: int) -> None:
        """Decides again on one group's scales, then on its columns one after the other."""
        first = group * self._group
        part = slice(first, first + self._group)
        slope = self._hessian[part] @ self._behind
        self._scale(group, part, slope)
        step, zero = self.steps[group], self._zeros[group]
        for column in range(first, part.stop):
            here = column - first
            wanted = self._weights[column] + self._behind[column]
            wanted -= slope[here] / self._hessian[column, column]
            value = np.clip(np.rint(wanted / step) + zero, 0, groups.LEVELS)
            behind = (value - zero) * step - self._weights[column]
            change = behind - self._behind[column]
            self.values[column], self._behind[column] = value, behind
            slope[here + 1 :] += self._hessian[column, column + 1 : part.stop, None] * change

    def _scale(self, group: int, part: slice, slope: np.ndarray) -> None:
        """The best scales for the integers of a group as they stand; ``slope`` follows."""
        integers = self.values[part] - self._zeros[group]
        curved = self._hessian[part, part] @ integers
        curvature = np.einsum("gn,gn->n", integers, curved)
        step = self.steps[group]
        falling = np.einsum("gn,gn->n", slope, integers)
        better = (step - falling / np.where(curvature > 0, curvature, 1)).astype(np.float16)
        change = better.astype(np.float32) - step
        gains = change * (2 * falling + change * curvature) < 0  # float16 may round it away
        change = np.where(gains & (np.abs(change) < step / 2), change, 0)
        self._behind[part] += integers * change
        slope += curved * change
        self.steps[group] = step + change
