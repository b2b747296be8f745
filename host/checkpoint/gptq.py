"""GPTQ's packing of int4 weights, read without loss.

Checked against GPTQModel 7.7.0 (``nn_modules/qlinear/__init__.py``, ``utils/model.py``): nibble i
of qweight[r, n] is input 8 r + i of output n; nibble i of qzeros[g, c] is the zero point of output
8 c + i. Version 1 stores zeros less one. Act-order permutes the inputs; g_idx says which group each
belongs to, and only the plain order is taken.
"""

from __future__ import annotations

import numpy as np

from host.checkpoint.errors import CheckpointError
from host.checkpoint.grouped import GroupedSource, nibbles
from host.checkpoint.packing import GPTQ_V1

ACT_ORDER = "GPTQ with act-order (desc_act) is not supported; quantise with desc_act = false"


class GptqSource(GroupedSource):
    """Linears in GPTQ's packing."""

    def _one(
        self, name: str, rows: int, columns: int, group: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if rows % 8 or columns % 8:
            raise CheckpointError(
                f"tensor {name}.qweight has {rows} outputs and {columns} inputs, not multiples of 8"
            )
        groups = columns // group
        self._check_order(f"{name}.g_idx", columns, group, ACT_ORDER)
        weights = self._typed(f"{name}.qweight", "I32", (columns // 8, rows)).view(np.int32)
        zeros = nibbles(self._typed(f"{name}.qzeros", "I32", (groups, rows // 8)).view(np.int32)).T
        scales = self._fp16(f"{name}.scales", (groups, rows)).T
        if self.packing.name == GPTQ_V1:
            zeros = _plus_one(zeros, f"{name}.qzeros")
        return nibbles(weights.T), np.ascontiguousarray(scales), np.ascontiguousarray(zeros)

    def unused(self) -> list[str]:
        """See ``source.Source``. AutoGPTQ adds biases of zeros; they change nothing."""
        return [name for name in super().unused() if not self._zero_bias(name)]

    def _zero_bias(self, name: str) -> bool:
        base, _, ending = name.rpartition(".")
        if ending != "bias" or f"{base}.qweight" not in self.held:
            return False
        return not self.held[name].floats().any()


def _plus_one(zeros: np.ndarray, name: str) -> np.ndarray:
    """Zeros of version 1. A stored 15 is 0 to some libraries and 16 to others."""
    if (zeros == 15).any():
        raise CheckpointError(
            f"tensor {name} has a zero point stored as 15, which libraries read as 0 or as 16:"
            " save the checkpoint as gptq_v2"
        )
    return zeros + np.uint8(1)
