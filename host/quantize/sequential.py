"""One decoder layer after the other: scales, then each matrix fitted to what reaches it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from host.quantize import scales
from host.quantize.compensate import (
    Curvature,
    Settings,
    Statistics,
    damped,
    int4,
    plain_int8,
    target,
)
from host.quantize.dense import MATRICES, DenseLayer, QuantiseError
from host.quantize.groups import plain_int4
from host.quantize.layer_file import QuantisedLayer
from host.quantize.refine import refine
from host.quantize.stream import Stream
from host.weights import Quantised, Shape

ERROR_ROWS = 256
"""Rows of a matrix on which the report's errors are measured."""


@dataclass(frozen=True)
class Record:
    """What was done to one matrix."""

    layer: int
    matrix: str
    bits: int
    method: str
    strength: float
    """Of the activation-aware scales; 0: none."""
    plain_error: float
    """Of plain rounding to int4: E |dW x|^2 / E |W x|^2."""
    error: float
    """The same of what was stored, against the target that was fitted."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Inputs:
    """What each matrix of a layer reads in the unquantised stream."""

    qkv: np.ndarray
    output: np.ndarray
    gate_up: np.ndarray
    down: np.ndarray


def observe(layer: DenseLayer, stream: Stream, index: int) -> Inputs:
    """Runs the unquantised layer and keeps what its matrices read."""
    qkv = stream.attention_input(layer)
    output = stream.attend(layer, qkv)
    stream.add(layer.output, output, index)
    gate_up = stream.feed_forward_input(layer)
    down = stream.gated(layer, gate_up)
    stream.add(layer.down, down, index)
    return Inputs(qkv, output, gate_up, down)


class LayerQuantiser:
    """Quantises layers in order.

    Args:
        shape: of the model.
        plain: the stream through the unquantised layers.
        rounded: the stream through the quantised layers.
        settings: how matrices are rounded.
        search_scales: look for activation-aware scales.
    """

    def __init__(
        self, shape: Shape, plain: Stream, rounded: Stream, settings: Settings,
        search_scales: bool = True,
    ) -> None:  # fmt: skip
        self.shape, self.plain, self.rounded, self.settings = shape, plain, rounded, settings
        self.search_scales = search_scales

    def quantise(
        self, index: int, layer: DenseLayer, bits: dict[str, int]
    ) -> tuple[QuantisedLayer, list[Record]]:
        """Quantises the next layer; both streams go through it.

        Args:
            bits: 4 or 8 for each of ``MATRICES``.

        Raises:
            QuantiseError: activations that are not finite.
        """
        inputs = observe(layer, self.plain, index)
        choices = self._choices(layer, inputs, bits)
        layer = scales.fold(layer, self.shape, choices)
        fitted = layer.copy()
        records: list[Record] = []

        def fit(name: str, given: np.ndarray) -> Quantised:
            wanted = getattr(inputs, name)
            if name in choices:
                wanted = wanted / choices[name].scale
            statistics = Statistics.measure(getattr(layer, name), given, wanted)
            strength = choices[name].strength if name in choices else 0.0
            weights = getattr(layer, name)
            result, errors = fit_matrix(weights, statistics, bits[name], self.settings)
            setattr(fitted, name, result.floats())
            method = "rounded" if bits[name] == 8 else "compensated"
            records.append(Record(index, name, bits[name], method, strength, *errors))
            return result

        stream = self.rounded
        given = stream.attention_input(layer)
        qkv = fit("qkv", given)
        given = stream.attend(fitted, given)
        output = fit("output", given)
        stream.add(fitted.output, given, index)
        given = stream.feed_forward_input(layer)
        gate_up = fit("gate_up", given)
        given = stream.gated(fitted, given)
        down = fit("down", given)
        stream.add(fitted.down, given, index)
        return QuantisedLayer(
            layer.input_norm, qkv, layer.qkv_bias, output, layer.post_norm, gate_up, down
        ), records

    def _choices(
        self, layer: DenseLayer, inputs: Inputs, bits: dict[str, int]
    ) -> dict[str, scales.Choice]:
        if not self.search_scales:
            return {}
        shared = {"output": scales.value_channels(self.shape)}
        return {
            name: scales.search(
                getattr(layer, name), getattr(inputs, name), self.settings, shared.get(name)
            )
            for name in MATRICES
            if bits[name] == 4
        }


def fit_matrix(
    weights: np.ndarray, statistics: Statistics, bits: int, settings: Settings
) -> tuple[Quantised, tuple[float, float]]:
    """One matrix [N, K] rounded to its target; the errors of plain rounding and of the result.

    Raises:
        QuantiseError: statistics that are not finite.
    """
    if not np.isfinite(statistics.hessian).all():
        raise QuantiseError("the activations overflow on the calibration text: use another text")
    wanted = target(weights, statistics, settings)
    damping = settings.damping_for(weights.shape[1], statistics.tokens)
    curvature = Curvature.of(statistics.hessian, damping)
    if bits == 8:
        result = plain_int8(wanted, settings.group)
    else:
        first = int4(wanted, curvature, settings.group)
        result = refine(wanted, first, damped(statistics.hessian, damping))
    some = slice(None, None, max(1, len(weights) // ERROR_ROWS))
    size = curvature.error(weights[some]) or 1.0
    plain = plain_int4(weights[some], settings.group).floats()
    return result, (
        curvature.error(plain - weights[some]) / size,
        curvature.error(result.select(some).floats() - wanted[some]) / size,
    )
