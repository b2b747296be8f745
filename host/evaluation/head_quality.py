"""How often the head in two steps chooses what the full int8 head would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.device.cpu import CpuDevice
from host.device.driver import Accelerator, memory_needed
from host.forward.linear import AcceleratorBackend
from host.sampling import Sampler, Sampling
from host.weights import Quantised
from spec.config import Config

SAMPLED = Sampling(temperature=1.0, top_k=64, seed=1)
"""How both heads sample, from the same random numbers."""


@dataclass
class Agreement:
    """Of the two heads, at the positions seen."""

    positions: int = 0
    greedy: int = 0
    """Positions where both find the same token likeliest."""
    sampled: int = 0
    """Positions where both draw the same token."""

    def as_dict(self) -> dict[str, float | int]:
        """For JSON."""
        count = max(1, self.positions)
        return {
            "positions": self.positions,
            "greedy_equal": self.greedy / count,
            "sampled_equal": self.sampled / count,
        }

    def sentence(self) -> str:
        """For people."""
        told = self.as_dict()
        return (
            f"greedy token equal to the full int8 head's at {told['greedy_equal']:.2%}, sampled"
            f" token (temperature 1, top-k 64) at {told['sampled_equal']:.2%} of"
            f" {self.positions:,} positions"
        )


class FullHead:
    """The full int8 head beside one in two steps; observes ``host.forward.two_step.TwoStepHead``.

    Args:
        config: of the engine whose full head it is.
        fine: the int8 table.

    Raises:
        DeviceError: no memory for the packed table.
    """

    def __init__(self, config: Config, fine: Quantised) -> None:
        accelerator = Accelerator(CpuDevice(config, memory_needed(config, [fine])))
        self._full = AcceleratorBackend(accelerator).load(fine, "head")
        self._samplers = Sampler(SAMPLED), Sampler(SAMPLED)
        self.agreement = Agreement()

    def __call__(self, activations: np.ndarray, logits: np.ndarray) -> None:
        """Compares the logits [tokens, N] of activations [tokens, K] with the full head's."""
        full = self._full(activations)
        found = self.agreement
        found.positions += len(full)
        found.greedy += int((full.argmax(axis=1) == logits.argmax(axis=1)).sum())
        for pair in zip(full, logits, strict=True):
            first, second = (s.choose(one) for s, one in zip(self._samplers, pair, strict=True))
            found.sampled += first == second
