"""Shapes of published models: what the accelerator multiplies for one pass of each.

Numbers are those of the models' own ``config.json``. Queries, keys and values are one matrix, gate
and up another, as the runtime issues them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from spec.errors import UserError


class ShapeError(UserError):
    """A model that is not known."""


@dataclass(frozen=True)
class ModelShape:
    """Dimensions of a decoder-only transformer of the Qwen2 or Llama family."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Matrices of one layer by operation, in order: (rows N, columns K)."""
        queries = self.heads * self.head_dim
        return {
            "qkv": (queries + 2 * self.kv_heads * self.head_dim, self.hidden),
            "o": (self.hidden, queries),
            "gate_up": (2 * self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
        }

    @property
    def head(self) -> tuple[int, int]:
        """The LM head: (rows N, columns K)."""
        return self.vocabulary, self.hidden

    @property
    def linear_weights(self) -> int:
        """Weights of all layers' matrices, the head apart."""
        return self.layers * sum(rows * columns for rows, columns in self.linears.values())


SHAPES = {
    shape.name: shape
    for shape in (
        ModelShape("qwen2.5-0.5b", 896, 24, 14, 2, 64, 4864, 151_936),
        ModelShape("qwen2.5-1.5b", 1536, 28, 12, 2, 128, 8960, 151_936),
        ModelShape("smollm2-135m", 576, 30, 9, 3, 64, 1536, 49_152),
        ModelShape("smollm2-360m", 960, 32, 15, 5, 64, 2560, 49_152),
        ModelShape("smollm2-1.7b", 2048, 24, 32, 32, 64, 8192, 49_152),
        ModelShape("tinyllama-1.1b", 2048, 22, 32, 4, 64, 5632, 32_000),
        ModelShape("llama-3.2-1b", 2048, 16, 32, 8, 64, 8192, 128_256),
    )
}
"""Known models by name."""


def find(name: str) -> ModelShape:
    """A known model's shape.

    Raises:
        ShapeError: not known; names the nearest one.
    """
    if name in SHAPES:
        return SHAPES[name]
    near = difflib.get_close_matches(name.lower(), SHAPES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(SHAPES)}"
    raise ShapeError(f"no shape of a model {name!r}; {hint}")
