"""``kria-llm pack``: a model laid out for one accelerator, in a file that runs as it is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from host import checkpoint
from host.checkpoint.image_model import ImageCheckpoint
from host.cli.options import (
    DEFAULT_CONFIG,
    HEADS,
    ConfigName,
    Group,
    Head,
    Json,
    ModelArgument,
    OptionError,
    head_kind,
)
from host.forward.two_step import two_step
from host.layout import compression, image, image_verify
from host.layout.compression import MEGA
from host.progress import Stages
from host.weights import Integers, Model
from spec import config as configuration

EMBEDDINGS = ("auto", "shared", "own")

COUNTED_FILE = "the whole file: weights, tokenizer, chat template, header, checksums and padding"


def pack(
    model: ModelArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The image to write.", show_default=False),
    ] = None,
    config: ConfigName = DEFAULT_CONFIG,
    group: Group = 64,
    head: Head = HEADS[0],
    embedding: Annotated[
        str,
        typer.Option(
            help="Token vectors: shared (out of the head's integers), own (a table of 16 bits) or"
            " auto: shared where the model ties them and the head has 8 bits.",
        ),
    ] = EMBEDDINGS[0],
    verify: Annotated[
        Path | None,
        typer.Option(help="Instead: read this image back to weights.", show_default=False),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="With --verify: compare every value with this model.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Writes the memory image of a model for one accelerator configuration, or verifies one.

    `kria-llm generate --model FILE` then starts from the image: nothing is rounded, unpacked or
    held twice. The image carries tokenizer and chat template; every byte is under a checksum.

    Examples:

        kria-llm pack ./Qwen2.5-0.5B-Instruct-AWQ -o qwen.image

        kria-llm pack model.gguf -o model.image --head two-step --config kv260

        kria-llm pack --verify qwen.image --against ./Qwen2.5-0.5B-Instruct-AWQ

        kria-llm generate "Hello" --model qwen.image
    """
    if verify is not None:
        if model is not None or output is not None:
            raise OptionError("--verify reads an image and writes none: drop MODEL and -o")
        _verify(verify, against, as_json)
        return
    if model is None or output is None:
        raise OptionError("pack needs a MODEL and -o FILE, or --verify FILE")
    if against is not None:
        raise OptionError("--against is of --verify: drop it, or give --verify FILE")
    if embedding not in EMBEDDINGS:
        raise OptionError(f"--embedding must be one of {', '.join(EMBEDDINGS)}, got {embedding!r}")
    if output.is_dir() or not output.parent.is_dir():
        raise OptionError(f"cannot write {str(output)!r}: give a file in a folder that exists")
    if output.exists() and Path(model).exists() and output.samefile(model):
        raise OptionError(f"-o {str(output)!r} is the model itself: give another name")
    kind, shape = head_kind(head), configuration.load(config)
    begin = time.perf_counter()
    with Stages(Console(stderr=True)) as stages:
        stages.update("reading the model", 0, 0)
        source = checkpoint.find(model)
        tokenizer, chat = source.tokenizer(), source.chat()
        held = source.model(group=group, head_bits=4 if kind == "int4" else 8)
        held = _with_embedding(two_step(held) if kind == "two-step" else held, embedding)
        stages.update("taking the fingerprint", 0, 0)
        written = image.write(
            output, held, shape, tokenizer, chat,
            lambda done, total: stages.update("packing", done, total),
        )  # fmt: skip
    found = compression.compression(held)
    told = {
        "image": str(output), "bytes": written.bytes, "tensors": written.tensors,
        "fingerprint": written.fingerprint, "digest": f"{written.digest:016x}",
        "config": shape.name, "model": held.source, "notes": held.notes,
        "reduction": found.reduction(written.bytes), "reduction_counts": COUNTED_FILE,
        "weights_bytes": found.total, "weights_reduction": found.reduction(found.total),
        "weights_reduction_counts": compression.COUNTED,
        "compression": found.as_dict(),
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    if as_json:
        print(json.dumps(told, indent=2))
        return
    _tell(told)
    Console().print(compression.table(found))


def _with_embedding(model: Model, asked: str) -> Model:
    """The model with its token vectors where they were asked for."""
    table = model.head if model.fine is None else model.fine
    fine = model.shape.tied and isinstance(table, Integers) and table.bits == 8
    return (
        image.share_embedding(model) if asked == "shared" or (asked == "auto" and fine) else model
    )


def _verify(path: Path, against: str | None, as_json: bool) -> None:
    """Reads an image back and says what was compared."""
    begin = time.perf_counter()
    with Stages(Console(stderr=True)) as stages:
        stages.update("reading the image", 0, 0)
        found = checkpoint.find(path)
        if not isinstance(found, ImageCheckpoint):
            raise OptionError(f"{path} is no memory image: give one that `kria-llm pack` wrote")
        source = None if against is None else checkpoint.find(against)
        result = image_verify.verify(
            found, source, lambda done, total: stages.update("comparing", done, total)
        )
    told = {
        "image": str(path), "tensors": result.tensors, "weights": result.weights,
        "fingerprint": result.fingerprint, "against": result.against, "equal": True,
        "config": found.config.name, "digest": f"{found.file.digest:016x}",
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip
    if as_json:
        print(json.dumps(told, indent=2))
        return
    compared = result.against or "the fingerprint in its header"
    print(
        f"{path}: {result.tensors} tensors match their checksums; {result.weights:,} weights equal"
        f" those of {compared} ({told['seconds']:.1f} s)"
    )


def _tell(told: dict[str, Any]) -> None:
    """One paragraph for people."""
    print(
        f"{told['image']}: {told['bytes'] / MEGA:.2f} MB for configuration {told['config']}, digest"
        f" {told['digest']}, {told['reduction']:.2%} smaller than the weights in 16 bits, tokenizer"
        f" and all; the weights alone {told['weights_bytes'] / MEGA:.2f} MB,"
        f" {told['weights_reduction']:.2%} smaller; fingerprint {told['fingerprint']};"
        f" {told['seconds']:.1f} s\nfrom {told['model']}; head {told['notes'].get('head', '')}"
    )
    second = told["compression"]["second_table"]
    if second:
        print(
            f"{second / MEGA:.2f} MB of it are a table of token vectors of its own; --embedding"
            " shared reads them out of the head's integers"
        )
