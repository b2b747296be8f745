"""A memory image as a checkpoint: matrices stay in the file, in the engine's layout.

Small vectors are copied, the embedding is a view of the file or comes out of the head's integers;
so what a run takes besides the page cache is the device's memory, the KV cache and little else.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np

from host.checkpoint import image_file, image_header
from host.checkpoint.assemble import finite
from host.checkpoint.errors import CheckpointError
from host.checkpoint.image_file import Entry, ImageFile
from host.layout.packed import Packed
from host.text import tokenizer as tokenizers
from host.text.chat import ChatTemplate
from host.text.tokenizer import MAX_FILE_BYTES, Tokenizer
from host.weights import (
    Dense,
    Embedding,
    IntegerEmbedding,
    Integers,
    Layer,
    Model,
    Quantised,
    Shape,
    Weights,
)
from spec.errors import UserError
from spec.layout import Matrix

PLAIN = {"f16": np.float16, "f32": np.float32, "i8": np.int8}
"""Kinds of plain tensors."""
MATRICES = ("qkv", "output", "gate_up", "down")
TOKENIZER = "tokenizer"


class ImageCheckpoint:
    """A memory image; see ``checkpoints.Checkpoint``.

    Raises:
        CheckpointError: damaged, of another version of the layout, or not a whole model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: ImageFile = image_file.read(path)
        self.config = image_header.config(self.file)
        """What the matrices are laid out for."""
        self.shape = image_header.shape(self.file)
        self.about = image_header.about(self.file)
        self._check_table()

    @property
    def fingerprint(self) -> str:
        """Of the weights, whatever their layout (``host.layout.image.fingerprint``)."""
        return str(self.about["fingerprint"])

    def model(self, group: int = 64, head_bits: int = 8) -> Model:
        """The model; every byte's checksum is checked. Nothing is rounded here.

        Raises:
            CheckpointError: damaged, or another head than asked for.
        """
        head = self._matrix("head")
        if head_bits < head.bits:
            raise CheckpointError(
                f"{self.path} holds an int{head.bits} head: drop --head int{head_bits}, or pack the"
                " model again with it"
            )
        layers = [self._layer(index) for index in range(self.shape.layers)]
        fine = self._fine()
        return Model(
            self.shape, self._embedding(head, fine), layers, self._vector("final_norm"), head,
            self.eos_tokens(), f"{self.path} (image of {self.about['source']})",
            {**self.about["notes"], "image": f"packed for configuration {self.config.name}"}, fine,
        )  # fmt: skip

    def dense_model(self) -> Model:
        """The image's integers times their scales; what they were rounded from is not in it."""
        held = self.model()
        layers = [
            Layer(
                layer.input_norm, Dense(layer.qkv.floats()), layer.qkv_bias,
                Dense(layer.output.floats()), layer.post_norm, Dense(layer.gate_up.floats()),
                Dense(layer.down.floats()),
            )
            for layer in held.layers
        ]  # fmt: skip
        head: Weights = held.head if held.fine is None else held.fine
        return Model(
            held.shape, held.embedding, layers, held.final_norm, Dense(head.floats()),
            held.eos_tokens, f"{self.path} (image, its integers in floating point)",
        )  # fmt: skip

    def tokenizer(self) -> Tokenizer:
        """See ``checkpoints.Checkpoint``."""
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(self.file.bytes(TOKENIZER).tobytes(), MAX_FILE_BYTES)
        except zlib.error:
            raise CheckpointError(f"{self.path} is damaged: its tokenizer is not whole") from None
        if not unpacker.eof:
            raise CheckpointError(
                f"{self.path} has a tokenizer of more than {MAX_FILE_BYTES} bytes: not a tokenizer"
            )
        start = self.about["start"]
        found = tokenizers.from_text(text.decode("utf-8", "replace"), start, str(self.path))
        if found.size > self.shape.vocabulary:
            raise CheckpointError(
                f"{self.path}: the tokenizer has {found.size} tokens, the model"
                f" {self.shape.vocabulary}: they do not belong together"
            )
        return found

    def chat(self) -> ChatTemplate:
        """See ``checkpoints.Checkpoint``."""
        chat = self.about["chat"]
        return ChatTemplate(chat["template"], chat["bos_token"], chat["eos_token"])

    def eos_tokens(self) -> frozenset[int]:
        """See ``checkpoints.Checkpoint``."""
        return frozenset(self.about["eos_tokens"])

    def check(self) -> None:
        """Compares every tensor with its checksum. Raises CheckpointError."""
        for name in self.file.entries:
            self.file.bytes(name)

    def _check_table(self) -> None:
        """Every tensor that the model needs, of the right kind, shape and size; no other."""
        left = dict(self.file.entries)
        for name, kind, shape in expected(self.shape, set(left)):
            entry = left.pop(name, None)
            if entry is None:
                raise CheckpointError(f"{self.path} has no tensor {name}: it is no whole model")
            if (kind and entry.kind not in kind) or (shape and entry.shape != shape):
                raise CheckpointError(
                    f"{self.path}: tensor {name} is {entry.kind} {list(entry.shape)}, its header"
                    f" calls for {' or '.join(kind)} {list(shape)}"
                )
            if entry.size != image_file.pages(self._bytes(entry)):
                raise CheckpointError(
                    f"{self.path} is damaged: tensor {name} has {entry.size} bytes, its shape needs"
                    f" {self._bytes(entry)}"
                )
        if left:
            raise CheckpointError(f"{self.path}: tensor {next(iter(left))} has no place in a model")

    def _bytes(self, entry: Entry) -> int:
        """Bytes of a tensor without padding."""
        if entry.kind == "matrix":
            return self._layout(entry).weight_bytes
        width = np.dtype(PLAIN[entry.kind]).itemsize if entry.kind in PLAIN else 1
        return math.prod(entry.shape) * width

    def _layout(self, entry: Entry) -> Matrix:
        try:
            rows, columns = entry.shape
            return Matrix(self.config, rows, columns, entry.bits, entry.group)
        except (UserError, ValueError) as error:
            raise CheckpointError(f"{self.path} is damaged: tensor {entry.name}: {error}") from None

    def _matrix(self, name: str) -> Packed:
        layout = self._layout(self.file.entries[name])
        return Packed(layout, self.file.bytes(name)[: layout.weight_bytes])

    def _plain(self, name: str) -> np.ndarray:
        entry = self.file.entries[name]
        data = self.file.bytes(name)[: self._bytes(entry)]
        return data.view(PLAIN[entry.kind]).reshape(entry.shape)

    def _vector(self, name: str) -> np.ndarray:
        return finite(name, self._plain(name).copy())

    def _layer(self, index: int) -> Layer:
        prefix = f"layers.{index}"
        qkv, output, gate_up, down = (self._matrix(f"{prefix}.{name}") for name in MATRICES)
        bias = self._vector(f"{prefix}.qkv_bias") if self.shape.qkv_bias else None
        norms = [self._vector(f"{prefix}.{name}") for name in ("input_norm", "post_norm")]
        return Layer(norms[0], qkv, bias, output, norms[1], gate_up, down)

    def _fine(self) -> Quantised | None:
        if "fine.values" not in self.file.entries:
            return None
        values, scales = self._plain("fine.values"), self._plain("fine.scales")
        group, rest = divmod(values.shape[1], scales.shape[1])
        if rest:
            raise CheckpointError(f"{self.path} is damaged: its int8 table's groups are not whole")
        return Quantised(8, group, values, scales)

    def _embedding(self, head: Integers, fine: Quantised | None) -> Embedding:
        if "embedding" in self.file.entries:
            return self._plain("embedding")
        return IntegerEmbedding(head if fine is None else fine)


def expected(shape: Shape, present: set[str]) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """Name, kinds and shape of every tensor of an image; an empty shape is any.

    Args:
        present: names that there are; they tell whether there is an embedding or an int8 table of
            its own.
    """
    heads = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    vector, matrix = ("f32",), ("matrix",)
    table: list[tuple[str, tuple[str, ...], tuple[int, ...]]] = [
        ("final_norm", vector, (shape.hidden,)),
        ("head", matrix, (shape.vocabulary, shape.hidden)),
        (TOKENIZER, ("zlib",), ()),
    ]
    if "embedding" in present:
        table.append(("embedding", ("f16", "f32"), (shape.vocabulary, shape.hidden)))
    if "fine.values" in present:
        table.append(("fine.values", ("i8",), (shape.vocabulary, shape.hidden)))
        table.append(("fine.scales", ("f16",), ()))
    for index in range(min(shape.layers, len(present))):
        sizes = {
            "qkv": (heads, shape.hidden),
            "output": (shape.hidden, shape.heads * shape.head_dim),
            "gate_up": (2 * shape.intermediate, shape.hidden),
            "down": (shape.hidden, shape.intermediate),
        }
        table += [(f"layers.{index}.{name}", matrix, size) for name, size in sizes.items()]
        for name in ("input_norm", "post_norm"):
            table.append((f"layers.{index}.{name}", vector, (shape.hidden,)))
        if shape.qkv_bias:
            table.append((f"layers.{index}.qkv_bias", vector, (heads,)))
    return table
