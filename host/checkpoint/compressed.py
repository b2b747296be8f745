"""llm-compressor's ``pack-quantized`` packing of int4 weights, read without loss.

Checked against compressed-tensors 0.20.0 (``compressors/pack_quantized``): nibble i of
weight_packed[n, c] is input 8 c + i of output n, plus 8; nibble i of weight_zero_point[r, g] is the
zero point of output 8 r + i, plus 8; without zero points the packing is symmetric.
"""

from __future__ import annotations

import numpy as np

from host.checkpoint.errors import CheckpointError
from host.checkpoint.grouped import SYMMETRIC_ZERO, GroupedSource, nibbles

ACT_ORDER = (
    "compressed-tensors with actorder = group is not supported; quantise with actorder = static or"
    " weight"
)


class CompressedSource(GroupedSource):
    """Linears in the ``pack-quantized`` packing."""

    def _one(
        self, name: str, rows: int, columns: int, group: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        groups = columns // group
        self._check_shape(f"{name}.weight_shape", rows, columns)
        self._check_order(f"{name}.weight_g_idx", columns, group, ACT_ORDER)
        packed = self._typed(f"{name}.weight_packed", "I32", (rows, -(-columns // 8)))
        values = nibbles(packed.view(np.int32))[:, :columns]
        scales = self._fp16(f"{name}.weight_scale", (rows, groups))
        if self.packing.symmetric:
            return values, scales, np.full((rows, groups), SYMMETRIC_ZERO, np.uint8)
        stored = self._typed(f"{name}.weight_zero_point", "I32", (-(-rows // 8), groups))
        zeros = nibbles(stored.view(np.int32).T).T[:rows]
        return values, scales, np.ascontiguousarray(zeros)

    def _check_shape(self, name: str, rows: int, columns: int) -> None:
        tensor = self.find(name, (2,))
        if tensor.kind not in ("I64", "I32"):
            raise CheckpointError(f"tensor {name} has type {tensor.kind}; I64 expected")
        shape = tensor.view(np.int64 if tensor.kind == "I64" else np.int32).tolist()
        if shape != [rows, columns]:
            raise CheckpointError(
                f"tensor {name} says {shape}, the configuration calls for {[rows, columns]}"
            )
