"""What a memory image's header says of its model, checked by type and range before it is used."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from host.checkpoint.errors import CheckpointError
from host.checkpoint.image_file import ImageFile
from host.weights import Shape
from spec import config as configuration
from spec.config import Config
from spec.digest import digest
from spec.errors import UserError


def config(file: ImageFile) -> Config:
    """The configuration that the image is packed for; its digest must be the header's."""
    values = file.about.get("config")
    try:
        if not isinstance(values, dict):
            raise configuration.ConfigError(f"its configuration is {values!r}, not an object")
        found = configuration.from_mapping(values)
    except UserError as error:
        raise CheckpointError(f"{file.path} is damaged: {error}") from None
    if digest(found) != file.digest:
        raise CheckpointError(
            f"{file.path} has digest {file.digest:016x}, but this runtime gives its configuration"
            f" {found.name!r} {digest(found):016x}: it was packed by another release; pack the"
            " model again"
        )
    return found


def shape(file: ImageFile) -> Shape:
    """The dimensions of the model, by type and range."""
    values = file.about.get("shape")
    known = {field.name: str(field.type) for field in fields(Shape)}
    if not isinstance(values, dict) or set(values) != set(known):
        raise CheckpointError(f"{file.path} is damaged: its header has no shape of a model")
    good = values["architecture"] in ("qwen2", "llama")
    for name, kind in known.items():
        value = values[name]
        if kind == "int":
            good = good and type(value) is int and 1 <= value < 1 << 31
        elif kind == "float":
            good = good and type(value) in (int, float) and 0 < value < math.inf
        elif kind == "bool":
            good = good and type(value) is bool
    scaling = values["rope_scaling"]
    if scaling is not None:
        names = {"factor", "low_freq_factor", "high_freq_factor", "original_context"}
        good = good and isinstance(scaling, dict) and set(scaling) == names
        good = good and all(type(v) in (int, float) and 0 < v < math.inf for v in scaling.values())
    if good:
        good = values["heads"] % values["kv_heads"] == 0 and values["head_dim"] % 2 == 0
    if not good:
        raise CheckpointError(f"{file.path} is damaged: its header's shape is no model's")
    return Shape(**values)


def about(file: ImageFile) -> dict[str, Any]:
    """The rest of the header, by type."""
    found = file.about
    kinds = {"source": str, "notes": dict, "eos_tokens": list, "fingerprint": str, "chat": dict,
             "start": list}  # fmt: skip
    good = all(type(found.get(name)) is kind for name, kind in kinds.items())
    good = good and all(type(value) is str for value in found["notes"].values())
    if good:
        chat = [found["chat"].get(name) for name in ("template", "bos_token", "eos_token")]
        good = all(type(value) is str for value in chat[1:]) and type(chat[0]) in (str, type(None))
    for name in ("eos_tokens", "start"):
        good = good and all(type(i) is int and 0 <= i < 1 << 31 for i in found[name])
    if not good:
        raise CheckpointError(f"{file.path} is damaged: its header is not an image's")
    return found
