"""The workload of a sweep: what the accelerator is to do, by which its speed is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sim import memory as memories
from sim.sweep.names import SweepError
from spec import shapes

HEADS = ("two-step", "int4", "int8")
"""How the LM head is computed: int4 with a top-k that the host rescores, or all logits."""

CONTEXT_MAX = 1 << 20


@dataclass(frozen=True)
class Workload:
    """A model and how it is used. Validated when made.

    Raises:
        SweepError, ShapeError, TimingError: a value that makes no sense.
    """

    model: str = "qwen2.5-0.5b"
    pass_tokens: int = 1
    """Vectors of one pass of decode: 1, or a token with its guesses."""
    context: int = 512
    """Positions filled when a token is decoded."""
    prompt: int = 512
    """Tokens that are prefilled."""
    head: str = "two-step"
    memory: str = memories.DDR4_2133.name
    """A timing of sim/memory.py, or a TOML file of one."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("pass_tokens", 1, 16), ("context", 1, CONTEXT_MAX), ("prompt", 1, CONTEXT_MAX),
        ):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise SweepError(f"{name} must be a whole number in {low}..{high}, got {value!r}")
        if self.head not in HEADS:
            raise SweepError(f"head must be one of {', '.join(HEADS)}, got {self.head!r}")
        shapes.find(str(self.model))
        memories.load(str(self.memory))

    def identity(self) -> dict[str, Any]:
        """All that decides a result; a memory by its values, since a file's may change."""
        timing = memories.load(self.memory)
        values = timing.as_dict() if timing else memories.IDEAL
        return {**asdict(self), "memory": values}


def from_mapping(values: Mapping[str, Any]) -> Workload:
    """A workload from names and values; names are known to be right.

    Raises:
        SweepError, ShapeError, TimingError: as for ``Workload``.
    """
    return Workload(**values)
