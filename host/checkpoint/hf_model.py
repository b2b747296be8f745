"""Tensors of a Hugging Face directory: unquantised or in AutoAWQ's GEMM packing.

The other packings are in ``gptq`` and ``compressed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from host.checkpoint import autoawq, jsonfile, safetensors_file
from host.checkpoint.assemble import finite
from host.checkpoint.errors import CheckpointError
from host.checkpoint.mixed import HEAD, Mixed
from host.checkpoint.rounding import check_group
from host.checkpoint.safetensors_file import Tensor
from host.checkpoint.source import FloatSource, Part
from host.checkpoint.tables import Table
from host.weights import Dense, Quantised

INDEX = "model.safetensors.index.json"
IGNORED = ("rotary_emb.inv_freq",)
"""Ends of names of tensors that follow from the configuration."""


def tensors(directory: Path) -> dict[str, Tensor]:
    """All tensors of a directory: one file, or those that its index names.

    Raises:
        CheckpointError: no safetensors, a part is missing, or index and parts disagree.
    """
    if not (directory / INDEX).is_file():
        return safetensors_file.read(_only_file(directory))
    index = jsonfile.read(directory / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise CheckpointError(f"{directory / INDEX} has no weight_map")
    parts = {}
    for part in sorted({str(name) for name in index.values()}):
        if Path(part).name != part or not part.endswith(".safetensors"):
            raise CheckpointError(f"{directory / INDEX} names {part!r}, not a file beside it")
        parts[part] = safetensors_file.read(directory / part)
    found: dict[str, Tensor] = {}
    for name, part in index.items():
        if name not in parts[part]:
            raise CheckpointError(f"{directory / part} has no tensor {name}, which the index names")
        found[name] = parts[part][name]
    for part, held in parts.items():
        if extra := [name for name in held if index.get(name) != part]:
            raise CheckpointError(f"{directory / part} has tensor {extra[0]}, not in the index")
    return found


def _only_file(directory: Path) -> Path:
    files = sorted(directory.glob("*.safetensors"))
    if (directory / "model.safetensors") in files:
        return directory / "model.safetensors"
    if len(files) == 1:
        return files[0]
    if files:
        raise CheckpointError(f"{directory} has {len(files)} safetensors files but no {INDEX}")
    pickles = [path.name for path in (*directory.glob("*.bin"), *directory.glob("*.pt"))]
    hint = f"; {pickles[0]} is a PyTorch pickle: save it as safetensors" if pickles else ""
    raise CheckpointError(f"{directory} holds no safetensors file{hint}")


class DenseSource(FloatSource):
    """Unquantised tensors; linears are rounded to int4."""

    def __init__(self, directory: Path, held: dict[str, Tensor], group: int) -> None:
        self.directory, self.held = directory, held
        self.asked: set[str] = set()
        kinds = [tensor.kind for tensor in held.values()]
        kind = max(sorted(set(kinds)), key=kinds.count)
        self.label = f"{directory} (safetensors {kind}, rounded to int4 group {group})"

    def find(self, name: str, wanted: tuple[int, ...]) -> Tensor:
        """The tensor, of the shape that the configuration calls for."""
        self.asked.add(name)
        tensor = self.held.get(name)
        if tensor is None:
            raise CheckpointError(f"{self.directory} has no tensor {name}")
        if tensor.shape != wanted:
            raise CheckpointError(
                f"{self.directory}: tensor {name} has shape {list(tensor.shape)}, its config.json"
                f" calls for {list(wanted)}"
            )
        return tensor

    def vector(self, name: str, size: int) -> np.ndarray:
        """See ``source.Source``."""
        return finite(name, self.find(name, (size,)).floats())

    def table(self, name: str, rows: int, columns: int) -> Table:
        """See ``source.Source``."""
        tensor = self.find(name, (rows, columns))

        def read(start: int, stop: int) -> np.ndarray:
            return tensor.floats(slice(start, stop))

        return Table(name, rows, columns, read, single=tensor.kind == "F32")

    def head_name(self, tied: bool) -> str:
        """See ``source.Source``."""
        embedding, head = "model.embed_tokens.weight", "lm_head.weight"
        if not tied:
            return head
        if head in self.held and embedding in self.held:  # some tools save a tied head as well
            self.asked.add(head)
            if not np.array_equal(self.held[head].data, self.held[embedding].data):
                raise CheckpointError(
                    f"{self.directory} has an {head} that differs from the embedding, but its"
                    " config.json says tie_word_embeddings"
                )
        return embedding

    def unused(self) -> list[str]:
        """See ``source.Source``."""
        return [n for n in self.held if n not in self.asked and not n.endswith(IGNORED)]


class AwqSource(DenseSource):
    """Linears in AutoAWQ's GEMM packing, taken as they are; the rest unquantised.

    Args:
        modules: bits of those that lie in ``mixed.FILE`` instead, by name.
    """

    def __init__(
        self, directory: Path, held: dict[str, Tensor], group: int, modules: dict[str, int]
    ) -> None:
        super().__init__(directory, held, group)
        self.group = group
        self.mixed = Mixed(directory, modules, group)
        fine = sum(name != HEAD for name in modules)
        self.label = f"{directory} (AWQ GEMM int4 group {group}{f', {fine} in int8' * bool(fine)})"

    def linear(self, parts: Sequence[Part], columns: int, group: int) -> Quantised:
        """See ``source.Source``; ``group`` is the checkpoint's own."""
        fine = [name in self.mixed for name, _ in parts]
        if all(fine):
            matrices = [self._fine(name, rows, columns) for name, rows in parts]
            whole = (np.concatenate([getattr(m, array) for m in matrices])
                     for array in ("values", "scales"))  # fmt: skip
            return Quantised(8, self.group, *whole)
        if any(fine):
            raise CheckpointError(
                f"{parts[fine.index(True)][0]} is int8 and {parts[fine.index(False)][0]} int4; they"
                " are one matrix here and need the same bits"
            )
        packed = [self._one(name, rows, columns) for name, rows in parts]
        values, scales, zeros = (np.concatenate(part) for part in zip(*packed))  # noqa: B905
        return Quantised(4, self.group, values, scales, zeros)

    def dense(self, parts: Sequence[Part], columns: int) -> Dense:
        """See ``source.Source``: the integers times their scales."""
        return Dense(self.linear(parts, columns, self.group).floats())

    def packed_head(self, rows: int, columns: int) -> Quantised | None:
        """See ``source.Source``."""
        if HEAD not in self.mixed:
            return None
        self.asked.add(f"{HEAD}.weight")
        return self.mixed.matrix(HEAD, rows, columns)

    def _fine(self, name: str, rows: int, columns: int) -> Quantised:
        """An int8 linear; the fp16 copy for other runtimes stays unread."""
        self.find(f"{name}.weight", (rows, columns))
        return self.mixed.matrix(name, rows, columns)

    def _one(self, name: str, rows: int, columns: int) -> tuple[np.ndarray, ...]:
        """Values, scales and zeros of one linear [rows, columns]."""
        check_group(f"{name}.qweight", columns, self.group)
        if rows % 8:
            raise CheckpointError(f"tensor {name}.qweight has {rows} outputs, not a multiple of 8")
        groups = columns // self.group
        weights = self._typed(f"{name}.qweight", "I32", (columns, rows // 8))
        zeros = self._typed(f"{name}.qzeros", "I32", (groups, rows // 8))
        scales = self._typed(f"{name}.scales", "F16", (groups, rows))
        return autoawq.positive(
            autoawq.unpack(weights.view(np.int32)),
            np.ascontiguousarray(scales.view(np.float16).T),
            autoawq.unpack(zeros.view(np.int32)),
            f"{name}.scales",
        )

    def _typed(self, name: str, kind: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self.find(name, shape)
        if tensor.kind != kind:
            raise CheckpointError(
                f"tensor {name} has type {tensor.kind}; AutoAWQ GEMM packing has {kind}"
            )
        return tensor
