"""Memory images: a model laid out for one accelerator, written to a file and read back.

The format is ``host.checkpoint.image_file``; ``host.checkpoint.image_model`` runs from it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from host.checkpoint import image_file
from host.checkpoint.image_file import Entry
from host.checkpoint.image_model import MATRICES, TOKENIZER
from host.layout.packed import matrix, packed
from host.text.chat import ChatTemplate
from host.text.tokenizer import Tokenizer
from host.weights import (
    Embedding,
    IntegerEmbedding,
    Integers,
    Model,
    StoredEmbedding,
    Weights,
)  # fmt: skip
from spec.config import Config
from spec.digest import digest
from spec.errors import UserError

Progress = Callable[[int, int], None]

ALIKE = 0.15
"""Largest relative distance of two roundings of one table: int4 in groups of 64 is 0.1 away."""
BLOCK_ROWS = 4096
"""Rows of a table that are compared at a time."""


class ImageError(UserError):
    """A model that cannot be packed as asked."""


@dataclass(frozen=True)
class Written:
    """An image that was written."""

    path: Path
    bytes: int
    tensors: int
    fingerprint: str
    digest: int


def quiet(done: int, total: int) -> None:
    """No progress."""


def share_embedding(model: Model) -> Model:
    """The same model without a table for the embedding: its vectors come from the head's integers.

    Some GGUF files hold the one table of a tied model twice, rounded in two ways: such tables may
    be shared as well.

    Raises:
        ImageError: the head is another matrix than the embedding.
    """
    table = model.head if model.fine is None else model.fine
    same = isinstance(table, Integers) and (model.shape.tied or _alike(model.embedding, table))
    if not same or not isinstance(table, Integers):
        raise ImageError(
            "--embedding shared needs a model whose LM head is its embedding; this one has two"
            " tables: use --embedding own"
        )
    return replace(model, embedding=IntegerEmbedding(table))


def _alike(embedding: Embedding, table: Integers) -> bool:
    """Whether a head is the embedding but for rounding, all of it taken together."""
    apart = norm = 0.0
    for start in range(0, table.rows, BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, table.rows))
        ours, theirs = embedding[rows].astype(np.float32), table.select(rows).floats()
        apart += float(((ours - theirs) ** 2).sum())
        norm += float((ours**2).sum())
    return apart <= ALIKE**2 * norm


def write(
    path: Path, model: Model, config: Config, tokenizer: Tokenizer, chat: ChatTemplate,
    progress: Progress = quiet,
) -> Written:  # fmt: skip
    """Packs a model for ``config`` into a file that appears whole or not at all.

    Args:
        progress: called with (tensors done, all).

    Raises:
        LayoutError, PackError: the configuration cannot hold a matrix.
        ImageError: the embedding is neither an array nor the head's.
        OSError: no room, or no right to write.
    """
    text = np.frombuffer(zlib.compress(tokenizer.json.encode(), 9), np.uint8)
    held = tensors(model)
    planned = [*_planned(held, config), Entry(TOKENIZER, "zlib", text.shape, 0, 0, 0, 0, "0" * 8)]
    about = {
        "config": config.as_dict(), "shape": asdict(model.shape), "source": model.source,
        "notes": model.notes, "eos_tokens": sorted(model.eos_tokens),
        "fingerprint": fingerprint(model), "chat": asdict(chat), "start": tokenizer.start,
    }  # fmt: skip

    def contents() -> Iterator[tuple[Entry, np.ndarray]]:
        for done, entry in enumerate(planned):
            progress(done, len(planned))
            yield entry, text if entry.name == TOKENIZER else _content(held[entry.name], config)
        progress(len(planned), len(planned))

    table = image_file.write(path, digest(config), about, contents(), planned)
    size = path.stat().st_size
    return Written(path, size, len(table), str(about["fingerprint"]), digest(config))


def _planned(tensors: dict[str, np.ndarray | Weights], config: Config) -> list[Entry]:
    """The table before anything is packed; all shapes are checked."""
    entries = []
    for name, held in tensors.items():
        if isinstance(held, np.ndarray):
            kind = {"float16": "f16", "float32": "f32", "int8": "i8"}[held.dtype.name]
            entries.append(Entry(name, kind, held.shape, 0, 0, 0, 0, "0" * 8))
        else:
            form = matrix(config, held)
            shape = (form.rows, form.columns)
            entries.append(Entry(name, "matrix", shape, form.bits, form.group, 0, 0, "0" * 8))
    return entries


def _content(held: np.ndarray | Weights, config: Config) -> np.ndarray:
    """A tensor's bytes."""
    if isinstance(held, np.ndarray):
        return np.ascontiguousarray(held).reshape(-1).view(np.uint8)
    return packed(config, held).data


def tensors(model: Model) -> dict[str, np.ndarray | Weights]:
    """Everything that an image holds of a model, by name.

    Raises:
        ImageError: the embedding is neither an array nor the head's.
    """
    found: dict[str, np.ndarray | Weights] = {}
    for index, layer in enumerate(model.layers):
        prefix = f"layers.{index}"
        found |= {f"{prefix}.{name}": getattr(layer, name) for name in MATRICES}
        found[f"{prefix}.input_norm"] = layer.input_norm.astype(np.float32)
        found[f"{prefix}.post_norm"] = layer.post_norm.astype(np.float32)
        if layer.qkv_bias is not None:
            found[f"{prefix}.qkv_bias"] = layer.qkv_bias.astype(np.float32)
    found["final_norm"] = model.final_norm.astype(np.float32)
    found["head"] = model.head
    if model.fine is not None:
        found |= {"fine.values": model.fine.values, "fine.scales": model.fine.scales}
    if isinstance(model.embedding, np.ndarray):
        found["embedding"] = model.embedding
    elif isinstance(model.embedding, StoredEmbedding):
        found["embedding"] = model.embedding.whole()
    elif not isinstance(model.embedding, IntegerEmbedding):
        raise ImageError("the embedding is neither a table of floats nor the head's integers")
    return found


def fingerprint(model: Model) -> str:
    """A digest of a model's weights as numbers: the same for every layout and packing of them."""
    total = hashlib.blake2b(
        json.dumps(asdict(model.shape), sort_keys=True).encode(), digest_size=16
    )
    for name, held in sorted(tensors(model).items()):
        total.update(f"\n{name} ".encode())
        if isinstance(held, np.ndarray):
            total.update(f"{held.dtype.name} {held.shape} ".encode())
            total.update(np.ascontiguousarray(held).data)
            continue
        if not isinstance(held, Integers):
            raise ImageError(f"{name} is not quantised: an image holds integers")
        whole = held.select(slice(None))
        total.update(f"{whole.bits} {whole.group} {whole.values.shape} ".encode())
        for array in (whole.values, whole.scales.view(np.uint16) & 0x7FFF, whole.zeros):
            if array is not None:
                total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
