"""Choosing the next token from logits: greedy, or by temperature, top-k and top-p from a seed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from host.kernels import Drawing, address, library
from spec.errors import UserError

MAX_SEED = (1 << 64) - 1


class SamplingError(UserError):
    """Sampling parameters out of range, or logits that are not numbers."""


@dataclass(frozen=True)
class Sampling:
    """How to choose. The defaults are greedy.

    Raises:
        SamplingError: a parameter is out of range.
    """

    temperature: float = 0.0
    """Divides the logits; 0 takes the largest one (the lowest id of equal ones)."""
    top_k: int = 0
    """Keep the k largest logits; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest tokens whose probabilities sum to at least p (Holtzman et al.,
    arXiv 1904.09751)."""
    repetition_penalty: float = 1.0
    """Logits of tokens seen before are divided (positive) or multiplied (negative) by this
    (Keskar et al., arXiv 1909.05858)."""
    seed: int = 0
    """Same seed, same logits: same tokens."""

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0, 100)
        _check("top_p", self.top_p, 0, 1, above=True)
        _check("repetition_penalty", self.repetition_penalty, 0, 100, above=True)
        _check("top_k", self.top_k, 0, 1 << 31, whole=True)
        _check("seed", self.seed, 0, MAX_SEED, whole=True)

    @property
    def candidates(self) -> int | None:
        """How many of the largest logits decide; None when any of them may."""
        if self.repetition_penalty != 1:
            return None
        return 1 if self.temperature == 0 else self.top_k or None


def _check(
    name: str, value: float, low: float, high: float, *, whole: bool = False, above: bool = False
) -> None:
    kinds = int if whole else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool) and not math.isnan(value)
    if right and low <= value <= high and not (above and value == low):
        return
    kind = "a whole number" if whole else "a number"
    bounds = f"above {low} and up to {high}" if above else f"in {low}..{high}"
    raise SamplingError(f"{name} must be {kind} {bounds}, got {value!r}")


class Sampler:
    """Chooses tokens one after the other with its own random generator (PCG64)."""

    def __init__(self, settings: Sampling) -> None:
        self.settings = settings
        self._random = np.random.Generator(np.random.PCG64(settings.seed))
        self._entries, self._sums = np.zeros(0, np.uint64), np.zeros(0)
        self._call = Drawing(
            temperature=settings.temperature, top_p=settings.top_p, top_k=settings.top_k
        )

    def choose(self, logits: np.ndarray, seen: Iterable[int] = ()) -> int:
        """The next token.

        Args:
            logits: [vocabulary] float32; not changed. Minus infinity excludes a token.
            seen: ids of the prompt and of the text so far, for the repetition penalty.

        Raises:
            SamplingError: logits with NaN or plus infinity, or nothing but minus infinity.
        """
        scores = self._penalised(logits, seen)
        if self.settings.temperature == 0:
            token = library().kernels_largest(address(scores), len(scores))
        else:
            token = self._draw(scores)
        if token < 0:
            raise SamplingError("the logits hold NaN or infinity: the weights are damaged")
        return int(token)

    def choose_among(self, logits: np.ndarray, ids: np.ndarray) -> int:
        """The next token where all other logits are minus infinity: the same one as ``choose``.

        Args:
            logits: [vocabulary] float32; not changed.
            ids: [n] int, each once.

        Raises:
            SamplingError: as ``choose``.
        """
        ids = np.sort(ids)  # of equal ones the lowest id is taken
        return int(ids[self.choose(logits[ids])])

    def _penalised(self, logits: np.ndarray, seen: Iterable[int]) -> np.ndarray:
        """Logits with the repetition penalty, float32; themselves when there is none."""
        scores = np.ascontiguousarray(logits, np.float32)
        penalty = self.settings.repetition_penalty
        if penalty != 1:
            scores = scores.copy()
            ids = np.unique(np.fromiter(seen, np.int64))
            values = scores[ids]
            scores[ids] = np.where(values > 0, values / penalty, values * penalty)
        return scores

    def _draw(self, scores: np.ndarray) -> int:
        """A token by its probability among those that top-k and top-p keep."""
        if len(scores) != len(self._entries):
            self._entries, self._sums = np.zeros(len(scores), np.uint64), np.zeros(len(scores))
            self._call.hold(entries=self._entries, sums=self._sums)
        self._call.point = self._random.random()
        return library().kernels_draw(address(scores), len(scores), self._call)
