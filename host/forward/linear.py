"""Linear layers, either on the accelerator or in floating point: one forward pass runs on both.

A backend turns a quantised matrix into a function from [tokens, K] to [tokens, N].
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np

from host.device.commandlist import CommandList
from host.device.driver import LANES, Accelerator, Handle, InputError
from host.device.processor import Processor
from host.forward import buffers
from host.forward.head import TopHead
from host.forward.two_step import TwoStepHead
from host.kernels import Matmul
from host.kernels.runner import Launch
from host.layout import blockfloat
from host.layout.packed import Packed
from host.weights import Quantised, Weights


class Lane(Protocol):
    """A matrix with fixed buffers of one of the passes that are under way at a time."""

    sinks: Any
    """``buffers.Sinks``: where the activations of a pass of n tokens go, entry n - 1."""
    sources: Any
    """``buffers.Sources``: where their results are then."""
    launches: Any
    """``host.kernels.runner.Launch`` for 1..M tokens; None: Python alone can run it."""

    def start(self, tokens: int) -> None:
        """Begins to multiply the activations of ``tokens`` tokens, 1..M."""

    def finish(self, tokens: int) -> None:
        """Waits for the results."""


class Linear(Protocol):
    """A matrix [N, K] on a backend."""

    @property
    def lanes(self) -> Sequence[Lane]:
        """One, or two where two passes may be under way at a time."""

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
    lanes: int
    """Passes that may be under way at a time."""
    cache_format: str
    """Of the KV cache unless another is asked for."""

    @property
    def launcher(self) -> Accelerator | None:
        """What runs command lists; None: there are none."""

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
        self.accelerator = self.launcher = accelerator
        self.lanes = LANES
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
        linear = AcceleratorLinear(
            self.accelerator, handle, two_terms, 1 if operation == "head" else LANES,
            self._plan, self._processor,
        )  # fmt: skip
        if operation != "head" or not self._head_top_k or weights.rows < 2:
            return linear
        assert isinstance(weights, (Quantised, Packed))  # the driver refuses everything else
        terms = split if two_terms else None
        return TopHead(self.accelerator, handle, weights, linear, terms, self._head_top_k)


class AcceleratorLane:
    """A matrix in the device's memory, with the buffers of one lane.

    Args:
        lists: of 1..M tokens.
        two_terms: activations go in as two terms (``split``).
        on_processor: by number of tokens, the commands that a plan gives to the processor.
    """

    def __init__(
        self, accelerator: Accelerator, lists: list[CommandList], two_terms: bool,
        on_processor: dict[int, list[Matmul]], processor: Processor | None,
    ) -> None:  # fmt: skip
        self._accelerator, self._lists = accelerator, lists
        self._on_processor, self._processor = on_processor, processor
        self.sinks = buffers.device_sinks(lists, two_terms)
        self.sources = buffers.device_sources(lists, two_terms)
        made = [accelerator.native(one, on_processor.get(n)) for n, one in enumerate(lists, 1)]
        self._held = made  # the array below copies the pointers, not what keeps their targets
        self.launches = (Launch * len(made))(*made)

    def start(self, tokens: int) -> None:
        """Rings, or computes on the processor where the plan says so."""
        if tokens not in self._on_processor:
            self._accelerator.start(self._lists[tokens - 1])
            return
        assert self._processor is not None
        prepared = self._lists[tokens - 1]
        for one, command in zip(self._on_processor[tokens], prepared.commands, strict=True):
            self._processor.run(one)
            # A line left dirty would be written back later, over what the engine writes there.
            self._accelerator.transport.flush(command.results)
        self._accelerator.count(prepared, "cpu")

    def finish(self, tokens: int) -> None:
        """Waits for the engine, where it was rung for."""
        if tokens not in self._on_processor:
            self._accelerator.finish(self._lists[tokens - 1])


class AcceleratorLinear:
    """A matrix in the device's memory.

    Args:
        accelerator, handle: the matrix as the driver loaded it.
        two_terms: activations go in as two terms (``split``).
        lanes: passes that may be under way at a time.
        plan, processor: which passes the processor takes, and that.
    """

    def __init__(
        self, accelerator: Accelerator, handle: Handle, two_terms: bool, lanes: int = LANES,
        plan: Placement | None = None, processor: Processor | None = None,
    ) -> None:  # fmt: skip
        self._matrix = handle.matrix
        self.lanes = []
        for lane in range(lanes):
            lists = accelerator.lists(handle, lane) if lane else handle.lists
            if two_terms:
                lists = accelerator.both_terms(handle, lists, lane)
            given: dict[int, list[Matmul]] = {}
            if plan is not None and processor is not None:
                given = {
                    n: [processor.prepare(command, handle.weights) for command in one.commands]
                    for n, one in enumerate(lists, 1)
                    if plan.place(handle.operation, n) == "cpu"
                }
            self.lanes.append(AcceleratorLane(accelerator, lists, two_terms, given, processor))
        self._row = buffers.padded(self._matrix.columns)

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """See ``Linear``. Raises InputError, ActivationError and DeviceError as the driver does."""
        if activations.ndim != 2 or activations.shape[1] != self._matrix.columns:
            raise InputError(
                f"activations must have the shape (tokens, {self._matrix.columns}), got"
                f" {activations.shape}"
            )
        lane = self.lanes[0]
        results = np.empty((len(activations), self._matrix.rows), np.float32)
        most = len(lane.launches)
        for start in range(0, len(activations), most):
            part = activations[start : start + most]
            buffers.put(lane.sinks, part, self._row)
            lane.start(len(part))
            lane.finish(len(part))
            buffers.get(lane.sources, results[start : start + most])
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
    lanes, launcher = 1, None

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
        self.launches, self.lanes = None, [self]

    def start(self, tokens: int) -> None:
        """One product."""
        np.matmul(self._given[:tokens], self._transposed, out=self._found[:tokens])

    def finish(self, tokens: int) -> None:
        """It is there already."""

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """See ``Linear``."""
        return activations @ self._transposed


def dequantise(weights: Quantised) -> np.ndarray:
    """[N, K] float32: (values - zeros) * scales, group by group."""
    return weights.floats()
