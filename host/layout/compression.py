"""Bytes of a model by kind, against 16 bits and against the paper that this project measures itself
against (arXiv 2504.17376: 988 to 443.81 MB, 55.08 % smaller, LM head left at 16 bits)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from host.weights import IntegerEmbedding, Integers, Model, StoredEmbedding, Weights

PAPER_REDUCTION = 0.5508
"""How much smaller than 16 bits the paper's model is."""

MEGA = 1e6

COUNTED = (
    "weights with their scales and zero points, norms and biases in 16 bits; a tied table once in"
    " the 16-bit model; no tokenizer, no padding"
)
"""What every size here is of."""


@dataclass(frozen=True)
class Compression:
    """Bytes of a model."""

    kinds: dict[str, int]
    """Of the weights, by kind: values, scales and zeros of linears and head, norms and biases, and
    a second table where one is kept for the embedding."""
    sixteen_bit: int
    """The same model in 16 bits, a tied table once."""
    second_table: int = 0
    """The part of ``kinds`` that a model with tied embedding keeps beside its head."""
    bits: dict[str, float] = field(default_factory=dict)
    """Bits per weight of the linears and of the head, scales and zeros included."""

    @property
    def total(self) -> int:
        """All kinds."""
        return sum(self.kinds.values())

    @property
    def once(self) -> int:
        """Without the second table: what a memory image with a shared table holds."""
        return self.total - self.second_table

    def reduction(self, size: int) -> float:
        """How much smaller than 16 bits ``size`` is: 0.6 is 60 per cent smaller."""
        return 1 - size / self.sixteen_bit

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; sizes in bytes."""
        return {
            "counts": COUNTED,
            "bytes": self.kinds,
            "total": self.total,
            "second_table": self.second_table,
            "sixteen_bit": self.sixteen_bit,
            "reduction": self.reduction(self.total),
            "reduction_tied_table_once": self.reduction(self.once),
            "paper_reduction": PAPER_REDUCTION,
            "bits_per_weight": self.bits,
        }


def compression(model: Model) -> Compression:
    """The bytes of ``model`` as it is held."""
    linears = [
        matrix
        for layer in model.layers
        for matrix in (layer.qkv, layer.output, layer.gate_up, layer.down)
    ]
    shape = model.shape
    vectors = [model.final_norm]
    for layer in model.layers:
        vectors += [layer.input_norm, layer.post_norm]
        vectors += [] if layer.qkv_bias is None else [layer.qkv_bias]
    others = 2 * sum(vector.size for vector in vectors)
    kinds = {f"linears {part}": size for part, size in _parts(linears).items() if size}
    kinds |= {f"head {part}": size for part, size in _parts([model.head]).items() if size}
    table = 0
    if model.fine is not None:
        table = sum(_parts([model.fine]).values())
        kinds["int8 table (embedding and head)" if shape.tied else "head int8 table"] = table
    if isinstance(model.embedding, (np.ndarray, StoredEmbedding)):
        table = model.embedding.nbytes
        kinds["embedding"] = table
    kinds["norms and biases (16 bits)"] = others
    weights = sum(matrix.rows * matrix.columns for matrix in linears)
    vocabulary = shape.vocabulary * shape.hidden
    one_table = shape.tied or isinstance(model.embedding, IntegerEmbedding)
    sixteen = 2 * (weights + vocabulary * (1 if one_table else 2)) + others
    bits = {
        "linears": 8 * sum(_parts(linears).values()) / weights,
        "head": 8 * sum(_parts([model.head]).values()) / vocabulary,
    }
    return Compression(kinds, sixteen, table if shape.tied else 0, bits)


def _parts(matrices: Iterable[Weights]) -> dict[str, int]:
    """Bytes of values, scales and zeros."""
    sizes = {"values": 0, "scales": 0, "zeros": 0}
    for matrix in matrices:
        count = matrix.rows * matrix.columns
        if not isinstance(matrix, Integers):
            sizes["values"] += 2 * count  # floats: 16 bits each, whatever this process holds
            continue
        sizes["values"] += count * matrix.bits // 8
        groups = count // matrix.group
        sizes["scales"] += 2 * groups
        sizes["zeros"] += groups // 2 if matrix.bits == 4 else 0
    return sizes


def table(found: Compression) -> Table:
    """Bytes by kind. Fits 80 columns."""
    bits = ", ".join(f"{name} {value:.2f}" for name, value in found.bits.items())
    result = Table(
        title="Weights in memory", box=box.SIMPLE_HEAD, title_justify="left",
        caption=f"Bits per weight, scales and zeros included: {bits}. The paper's model is"
        f" {PAPER_REDUCTION:.2%} smaller than 16 bits.",
        caption_justify="left",
    )  # fmt: skip
    result.add_column("")
    result.add_column("MB", justify="right")
    result.add_column("against 16 bits", justify="right")
    for kind, size in found.kinds.items():
        result.add_row(kind, f"{size / MEGA:.2f}", "")
    result.add_section()
    lines = {"all": found.total}
    if found.second_table:
        lines["all, with one table for embedding and head"] = found.once
    for name, size in lines.items():
        result.add_row(name, f"{size / MEGA:.2f}", f"-{found.reduction(size):.2%}")
    result.add_row("16 bits", f"{found.sixteen_bit / MEGA:.2f}", "")
    return result
