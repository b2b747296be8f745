"""RMSNorm and SwiGLU: the element-wise parts of a decoder layer."""

from __future__ import annotations

import numpy as np


def rms_norm(values: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """``values / rms(values) * weight`` (Zhang and Sennrich, arXiv 1910.07467).

    Args:
        values: [tokens, hidden] float32.
        weight: [hidden] float32.
        epsilon: added to the mean square.
    """
    mean_square = np.einsum("th,th->t", values, values) / np.float32(values.shape[1])
    scale = 1.0 / np.sqrt(mean_square + np.float32(epsilon))
    return values * scale[:, None] * weight


def swiglu(gate_up: np.ndarray) -> np.ndarray:
    """``silu(gate) * up`` (Shazeer, arXiv 2002.05202), silu(x) = x / (1 + exp(-x)).

    Args:
        gate_up: [tokens, 2 * intermediate] float32, gate first.

    Returns:
        [tokens, intermediate] float32.
    """
    gate, up = np.split(gate_up, 2, axis=1)
    with np.errstate(over="ignore"):  # exp overflows to infinity below -88: silu is then -0
        return gate / (1.0 + np.exp(-gate)) * up
