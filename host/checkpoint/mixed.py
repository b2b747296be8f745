"""Matrices that AutoAWQ's format cannot hold: int8 linears and an int8 or int4 LM head.

They lie beside the checkpoint in ``FILE``, a safetensors file under a name that other runtimes do
not look for, and ``config.json`` lists them under ``quantization_config`` (``KEY``: module name to
bits). A module that is int8 here is unquantised for everyone else: it is named in
``modules_to_not_convert`` and the checkpoint holds its dequantised values in fp16.

Tensors of a module [N, K] with groups of G along K, named ``<module>.<part>``:

==========  ====================================  =============================
part        int8 (symmetric)                      int4
==========  ====================================  =============================
``values``  I8 [N, K]                             U8 [N, K / 2], low nibble first
``scales``  F16 [N, K / G]                        F16 [N, K / G]
``zeros``   none                                  U8 [N, K / G]
==========  ====================================  =============================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from host.checkpoint import safetensors_file
from host.checkpoint.errors import CheckpointError
from host.checkpoint.rounding import check_group
from host.checkpoint.safetensors_file import Tensor
from host.weights import Quantised

FILE = "mixed_precision.kria"
KEY = "kria_mixed"
HEAD = "lm_head"


def declared(config: dict[str, Any], path: Path) -> dict[str, int]:
    """Bits of each module that lies in ``FILE``, from config.json; none without the entry.

    Raises:
        CheckpointError: an entry that is not an object of 4 and 8 by name.
    """
    settings = config.get("quantization_config")
    entries = settings.get(KEY) if isinstance(settings, dict) else None
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path}: {KEY} is {entries!r}, not an object")
    for name, bits in entries.items():
        if bits not in ((4, 8) if name == HEAD else (8,)):
            raise CheckpointError(f"{path}: {KEY} gives {name} {bits!r} bits; 8 is supported")
    return dict(entries)


class Mixed:
    """The modules of ``FILE``.

    Args:
        directory: the checkpoint.
        modules: as ``declared`` gives them.
        group: of all of them.

    Raises:
        CheckpointError: the file is missing or damaged, or holds other tensors.
    """

    def __init__(self, directory: Path, modules: dict[str, int], group: int) -> None:
        self.path, self.modules, self.group = directory / FILE, modules, group
        self._held = safetensors_file.read(self.path) if modules else {}
        wanted = {f"{name}.{part}" for name, bits in modules.items() for part in parts(bits)}
        if wrong := sorted(wanted.symmetric_difference(self._held)):
            state = "is missing from" if wrong[0] in wanted else "has no place in"
            raise CheckpointError(f"tensor {wrong[0]} {state} {self.path}: copy the whole folder")

    def __contains__(self, name: str) -> bool:
        return name in self.modules

    def matrix(self, name: str, rows: int, columns: int) -> Quantised:
        """One module [rows, columns].

        Raises:
            CheckpointError: other shapes or types, or a scale or zero point out of range.
        """
        bits = self.modules[name]
        check_group(f"{name}.values", columns, self.group)
        grid = (rows, columns // self.group)
        scales = self._typed(f"{name}.scales", "F16", grid).view(np.float16)
        if not (np.isfinite(scales) & (scales >= 0)).all():
            raise CheckpointError(f"tensor {name}.scales has a bad scale: the file is damaged")
        if bits == 8:
            values = self._typed(f"{name}.values", "I8", (rows, columns)).view(np.int8)
            return Quantised(8, self.group, values, np.ascontiguousarray(scales))
        packed = self._typed(f"{name}.values", "U8", (rows, columns // 2)).view(np.uint8)
        zeros = self._typed(f"{name}.zeros", "U8", grid).view(np.uint8)
        if zeros.max() > 15:
            raise CheckpointError(f"tensor {name}.zeros holds {zeros.max()}; 0..15 is right")
        return Quantised(4, self.group, _nibbles(packed), scales.copy(), zeros.copy())

    def _typed(self, name: str, kind: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._held[name]
        if (tensor.kind, tensor.shape) != (kind, shape):
            raise CheckpointError(
                f"tensor {name} is {tensor.kind} {list(tensor.shape)}; {kind} {list(shape)} needed"
            )
        return tensor


def parts(bits: int) -> tuple[str, ...]:
    """Last parts of the names of a module's tensors."""
    return ("values", "scales", "zeros") if bits == 4 else ("values", "scales")


def tensors(name: str, weights: Quantised) -> dict[str, np.ndarray]:
    """A module's tensors as ``FILE`` holds them: what ``Mixed.matrix`` reads."""
    held = {f"{name}.scales": weights.scales}
    if weights.zeros is None:
        return held | {f"{name}.values": weights.values}
    packed = weights.values[:, 0::2] | weights.values[:, 1::2] << 4
    return held | {f"{name}.values": packed, f"{name}.zeros": weights.zeros}


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """Bytes [N, K / 2] as nibbles [N, K], low nibble first."""
    values = np.empty((packed.shape[0], 2 * packed.shape[1]), np.uint8)
    values[:, 0::2] = packed & 15
    values[:, 1::2] = packed >> 4
    return values
