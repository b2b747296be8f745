"""Linear layers, either on the accelerator or in floating point: one forward pass runs on both.

A backend turns a quantised matrix into a function from [tokens, K] to [tokens, N].
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import numpy as np

from host.device.driver import Accelerator, Handle, InputError
from host.device.processor import Processor
from host.forward import buffers
from host.forward.head import TopHead
from host.forward.two_step import TwoStepHead
from host.kernels import Matmul
from host.layout import blockfloat
from host.layout.packed import Packed
from host.weights import Quantised, Weights


class Linear(Protocol):
    """A matrix [N, K] on a backend, with fixed buffers for the kernels around it."""

    sinks: Any
    """``buffers.Sinks``: where the activations of a pass of n tokens go, entry n - 1."""
    sources: Any
    """``buffers.Sources``: where their results are then."""

    def run(self, tokens: int) -> None:
        """Multiplies the activations of ``tokens`` tokens, 1..M."""

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """[tokens, K] float32 -> [tokens, N] float32, any number of tokens, in fresh memory."""


Head = Linear | TopHead | TwoStepHead
"""An LM head; those by top-k choose what they compute by what is asked of them."""


class Placement(Protocol):
    """A plan (host/plan), as far as matmuls follow it."""

    def place(self, operation: str, tokens: int) -> str:
        """``fabric`` or ``cpu``, for a pass of so many tokens."""


class Backend(Protocol):
    """Where linear layers are computed."""

    tokens: int
    """Most tokens that one call takes without a second pass over the weights."""
    cache_format: str
    """Of the KV cache unless another is asked for."""

    def load(self, weights: Weights, operation: str) -> Any:
        """Makes a matrix ready: a ``Linear``, or a ``Head`` for the operation ``head``.
        ``operation`` is what reports file it under."""


TWO_TERM_OPERATIONS = frozenset({"qkv", "head"})
"""Operations whose activations go in as two terms: most of what rounding to int8 costs is theirs
(SmolLM2-135M, 700 tokens of Moby-Dick, divergence in nats per token: qkv 0.0043, head 0.0036,
gate_up 0.0031, down 0.0023, output 0.0004). In decode the second term rides in a token slot that
is empty anyway; in prefill qkv, a tenth of the traffic, is read twice."""


class AcceleratorBackend:
    """Every linear layer on the device that the driver opened.

    Args:
        accelerator: the opened driver.
        two_terms: operations whose activations are given as int8 plus the int8 of what that left
            over. An engine of one token takes one term: the second would double its traffic.
        head_top_k: logits of the head that leave the engine when its caller asks for the likeliest
            only; 0 for all of them, always.
        fine: the int8 table that decides among what the head proposes; None: the head decides.
        plan: where each matmul runs; None: all on the device.
        threads: of the processor's matmuls; None for one per processor.
    """

    cache_format = "fp16"

    def __init__(
        self, accelerator: Accelerator, two_terms: Collection[str] = TWO_TERM_OPERATIONS,
        head_top_k: int = 0, fine: Quantised | None = None, plan: Placement | None = None,
        threads: int | None = None,
    ) -> None:  # fmt: skip
        self._plan = plan
        self._processor = None if plan is None else Processor(accelerator.config, threads)
        self.accelerator = accelerator
        self.tokens = accelerator.config.tokens
        self._two_terms = two_terms if self.tokens > 1 else ()
        self._head_top_k = head_top_k
        self._fine = fine

    def load(self, weights: Weights, operation: str) -> Head:
        """Packs the matrix into the device's memory."""
        handle = self.accelerator.load(weights, operation)
        if operation == "head" and self._fine is not None:
            return TwoStepHead(self.accelerator, handle, self._fine)
        two_terms = operation in self._two_terms
        linear = AcceleratorLinear(self.accelerator, handle, two_terms)
        if self._plan is not None and self._processor is not None:
            linear.follow(self._plan, self._processor)
        if operation != "head" or not self._head_top_k or weights.rows < 2:
            return linear
        assert isinstance(weights, (Quantised, Packed))  # the driver refuses everything else
        terms = split if two_terms else None
        return TopHead(self.accelerator, handle, weights, linear, terms, self._head_top_k)


class AcceleratorLinear:
    """A matrix in the device's memory.

    Args:
        accelerator, handle: the matrix as the driver loaded it.
        two_terms: activations go in as two terms (``split``).
    """

    def __init__(self, accelerator: Accelerator, handle: Handle, two_terms: bool) -> None:
        self._launch, self._matrix = accelerator.launch, handle.matrix
        self._accelerator, self._handle = accelerator, handle
        self._on_processor: dict[int, list[Matmul]] = {}
        most = accelerator.config.tokens
        self._lists = handle.lists[:most]
        if two_terms:
            self._lists = [accelerator.both_terms(handle, n + 1) for n in range(most)]
        self.sinks = buffers.device_sinks(self._lists, two_terms)
        self.sources = buffers.device_sources(self._lists, two_terms)
        self._row = buffers.padded(self._matrix.columns)

    def follow(self, plan: Placement, processor: Processor) -> None:
        """Gives the passes that a plan gives to the processor to it."""
        self._processor = processor
        for tokens, prepared in enumerate(self._lists, 1):
            if plan.place(self._handle.operation, tokens) == "cpu":
                self._on_processor[tokens] = [
                    processor.prepare(command, self._handle.weights)
                    for command in prepared.commands
                ]

    def run(self, tokens: int) -> None:
        """One doorbell, or the processor where the plan says so."""
        if tokens not in self._on_processor:
            self._launch(self._lists[tokens - 1])
            return
        for command in self._on_processor[tokens]:
            self._processor.run(command)
        self._accelerator.count(self._lists[tokens - 1], "cpu")

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """See ``Linear``. Raises InputError, ActivationError and DeviceError as the driver does."""
        if activations.ndim != 2 or activations.shape[1] != self._matrix.columns:
            raise InputError(
                f"activations must have the shape (tokens, {self._matrix.columns}), got"
                f" {activations.shape}"
            )
        results = np.empty((len(activations), self._matrix.rows), np.float32)
        most = len(self._lists)
        for start in range(0, len(activations), most):
            part = activations[start : start + most]
            buffers.put(self.sinks, part, self._row)
            self.run(len(part))
            buffers.get(self.sources, results[start : start + most])
        return results


def split(activations: np.ndarray) -> np.ndarray:
    """Activations as two terms, each of which block floating point holds or nearly holds.

    Args:
        activations: [tokens, K] float32.

    Returns:
        [2 * tokens, K] float32: what block floating point makes of them, exactly, then the rest.
    """
    rounded = blockfloat.dequantise(*blockfloat.quantise(activations))
    return np.concatenate([rounded, activations - rounded])


class FloatBackend:
    """The reference: the same weights in float32, activations unrounded."""

    cache_format = "fp32"

    def __init__(self, tokens: int = 64) -> None:
        self.tokens = tokens
        self._rows: dict[tuple[str, int], np.ndarray] = {}

    def load(self, weights: Weights, operation: str) -> FloatLinear:
        """Takes the matrix as floats: four bytes a weight."""
        given, found = self._shared("given", weights.columns), self._shared("found", weights.rows)
        return FloatLinear(weights.floats(), given, found)

    def _shared(self, role: str, columns: int) -> np.ndarray:
        """[M, columns] for every matrix of that width: one is multiplied after the other."""
        size = (self.tokens, columns)
        return self._rows.setdefault((role, columns), np.zeros(size, np.float32))


class FloatLinear:
    """A matrix of floats.

    Args:
        weights: [N, K] float32.
        given, found: buffers [M, K] and [M, N] float32.
    """

    def __init__(self, weights: np.ndarray, given: np.ndarray, found: np.ndarray) -> None:
        self._transposed, self._given, self._found = weights.T, given, found
        self.sinks, self.sources = buffers.plain_sinks(given), buffers.plain_sources(found)

    def run(self, tokens: int) -> None:
        """One product."""
        np.matmul(self._given[:tokens], self._transposed, out=self._found[:tokens])

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """See ``Linear``."""
        return activations @ self._transposed


def dequantise(weights: Quantised) -> np.ndarray:
    """[N, K] float32: (values - zeros) * scales, group by group."""
    return weights.floats()
