"""Reads a memory image back to weights and compares them, value by value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host.checkpoint.checkpoints import Checkpoint
from host.checkpoint.image_model import ImageCheckpoint
from host.forward.model import matrices
from host.forward.two_step import two_step
from host.layout.image import Progress, fingerprint, quiet, share_embedding, tensors
from host.weights import IntegerEmbedding, Integers, Model, Weights
from spec.errors import MismatchError


@dataclass(frozen=True)
class Verified:
    """An image that was read back."""

    tensors: int
    weights: int
    """Values of all matrices."""
    fingerprint: str
    against: str | None
    """The model that it equals in every value, scale and zero point; None: only itself."""


def verify(
    image: ImageCheckpoint, against: Checkpoint | None, progress: Progress = quiet
) -> Verified:
    """Reads every matrix back to weights and compares.

    Args:
        against: what the image was packed from; None compares with the header's fingerprint only.

    Raises:
        CheckpointError: a checksum does not match.
        MismatchError: weights differ; names the first tensor and value.
    """
    image.check()
    held = image.model()
    found = fingerprint(held)
    if found != image.fingerprint:
        raise MismatchError(
            f"{image.path} holds weights of fingerprint {found}, its header says"
            f" {image.fingerprint}: pack the model again"
        )
    source = None
    if against is not None:
        source = _same_as(held, against, image, progress)
    count = sum(weights.rows * weights.columns for _, weights in matrices(held))
    return Verified(len(image.file.entries), count, found, source)


def _same_as(held: Model, against: Checkpoint, image: ImageCheckpoint, progress: Progress) -> str:
    """Compares an image's model with a checkpoint's, rounded alike; the checkpoint's name."""
    head: Weights = held.head if held.fine is None else held.fine
    assert isinstance(head, Integers)
    wanted = against.model(group=head.group, head_bits=head.bits)
    if held.fine is not None:
        wanted = two_step(wanted)
    if isinstance(held.embedding, IntegerEmbedding):
        wanted = share_embedding(wanted)
    ours, theirs = tensors(held), tensors(wanted)
    if set(ours) != set(theirs):
        name = sorted(set(ours) ^ set(theirs))[0]
        raise MismatchError(f"{image.path} and {wanted.source} do not both have a tensor {name}")
    for done, name in enumerate(ours):
        progress(done, len(ours))
        _equal(name, ours[name], theirs[name], f"{image.path} and {wanted.source}")
    progress(len(ours), len(ours))
    return wanted.source


def _equal(name: str, one: np.ndarray | Weights, other: np.ndarray | Weights, where: str) -> None:
    """Raises MismatchError at the first value that differs."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        pairs = [(name, np.asarray(one), np.asarray(other))]
    else:
        assert isinstance(one, Integers) and isinstance(other, Integers)
        left, right = one.select(slice(None)), other.select(slice(None))
        if (left.bits, left.group) != (right.bits, right.group):
            raise MismatchError(
                f"{where}: {name} is int{left.bits} group {left.group} here and int{right.bits}"
                f" group {right.group} there"
            )
        pairs = [(f"{name} {part}", getattr(left, part), getattr(right, part))
                 for part in ("values", "scales", "zeros")]  # fmt: skip
    for part, ours, theirs in pairs:
        if ours is None and theirs is None:
            continue
        if ours.shape != theirs.shape:
            raise MismatchError(f"{where}: {part} has shapes {ours.shape} and {theirs.shape}")
        different = ours != theirs
        if different.any():
            place = tuple(int(i) for i in np.argwhere(different)[0])
            raise MismatchError(
                f"{where}: {part} differs in {int(different.sum())} values, first at"
                f" {list(place)}: {ours[place]} and {theirs[place]}"
            )
