"""The LM head in int8 or int4, fitted to the hidden states that the quantised layers give it.

The embedding stays fp16 in the checkpoint also when the head is tied to it; the head is a copy of
its own. No scales are folded into the final norm, so that a tied embedding can be read from the
head's rows as they are.
"""

from __future__ import annotations

import numpy as np

from host.forward.norm import rms_norm
from host.quantize.compensate import Settings, Statistics
from host.quantize.sequential import Record, fit_matrix
from host.quantize.stream import Stream
from host.weights import Quantised, Shape


def quantise(
    shape: Shape, head: np.ndarray, norm: np.ndarray, plain: Stream, rounded: Stream, bits: int,
    settings: Settings,
) -> tuple[Quantised, Record]:  # fmt: skip
    """The head from both streams after the last layer.

    Args:
        head: [vocabulary, hidden].
        norm: [hidden] float32, the final norm.
        bits: 4 or 8.
    """
    given = rms_norm(rounded.hidden, norm, shape.norm_epsilon)
    wanted = rms_norm(plain.hidden, norm, shape.norm_epsilon)
    weights = head.astype(np.float32)
    statistics = Statistics.measure(weights, given, wanted)
    result, errors = fit_matrix(weights, statistics, bits, settings)
    method = "rounded" if bits == 8 else "compensated"
    return result, Record(shape.layers, "head", bits, method, 0.0, *errors)
