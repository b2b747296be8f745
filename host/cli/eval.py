"""``kria-llm eval``: how well a model predicts a text, and what its compression cost."""

from __future__ import annotations

import time
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from host import checkpoint, default_model
from host.cli.options import (
    DEFAULT_CONFIG,
    DEFAULT_DEVICE,
    HEADS,
    ConfigName,
    Device,
    Group,
    Head,
    Json,
    ModelArgument,
    OptionError,
    head_kind,
)
from host.evaluation.estimate import Estimate, estimate
from host.evaluation.evaluate import (
    WINDOW,
    EvaluationError,
    LiveReference,
    Reference,
    Scores,
    predictions,
    score,
)
from host.evaluation.findings import Evaluation, show
from host.evaluation.head_quality import FullHead
from host.evaluation.reference import (
    LIVE_ESTIMATOR,
    SAVED_ESTIMATOR,
    ReferenceWriter,
    SavedReference,
)
from host.forward.linear import FloatBackend
from host.forward.model import Transformer
from host.forward.two_step import two_step
from host.layout import compression
from host.progress import Stages
from host.session import Session, require_device
from host.weights import Model
from spec import config as configuration

MAX_TEXT = 64 << 20
"""Largest text file, bytes."""
LONGEST_TOKEN = 256
"""Characters of text read for each token that is asked for: more than any token has."""
FLOAT, UNQUANTISED = "float", "float, unquantised"
"""What stands in a report for the device when there is none."""


def evaluate(
    model: ModelArgument = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="UTF-8 text to predict. Without it: the beginning of Moby-Dick, 1,400 tokens.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=2, help="Take this much of the text.")] = 4096,
    window: Annotated[
        int, typer.Option(min=2, help="Tokens seen together; the first of each is given.")
    ] = WINDOW,
    device: Device = DEFAULT_DEVICE,
    in_float: Annotated[
        bool, typer.Option("--float", help="No device: the rounded weights in floating point.")
    ] = False,
    unquantised: Annotated[
        bool,
        typer.Option(
            "--unquantised", help="No device: the weights as the file has them, not rounded here."
        ),
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option(help="Compare with a saved reference.", show_default=False),
    ] = None,
    save_reference: Annotated[
        Path | None,
        typer.Option(
            help="Save the reference's predictions, for later runs with --reference.",
            show_default=False,
        ),
    ] = None,
    no_reference: Annotated[
        bool,
        typer.Option("--no-reference", help="Perplexity only; saves time and four bytes a weight."),
    ] = False,
    config: ConfigName = DEFAULT_CONFIG,
    group: Group = 64,
    head: Head = HEADS[0],
    as_json: Json = False,
) -> None:
    """Measures a model's predictions of a text, and the bytes of its weights.

    Perplexity; divergence (KL) from a reference, its mean and 99th percentile; how often both find
    the same token likeliest: each with its standard error. The reference is the same checkpoint in
    floating point, with its weights as the file has them, or what --reference holds.

    Examples:

        kria-llm eval ./Qwen2.5-0.5B-Instruct-AWQ --text news.txt

        kria-llm eval ./Qwen2.5-0.5B --unquantised --text news.txt --save-reference news.ref

        kria-llm eval ./Qwen2.5-0.5B-Instruct-AWQ --text news.txt --reference news.ref --json

        kria-llm eval model.gguf --float --head int4 --max-tokens 2000
    """
    kind = head_kind(head)
    _check_options(in_float, unquantised, reference, save_reference, no_reference, kind)
    shape = configuration.load(config)
    if not (in_float or unquantised):
        require_device(device)
    content = read_text(text)
    console = Console(stderr=True)
    with Stages(console) as stages:
        stages.update("reading the model", 0, 0)
        source = checkpoint.find(model if model is not None else default_model.path())
        tokens = _tokens(source, content, max_tokens)
        window = min(window, source.shape.context)
        total = predictions(tokens, window)
        saved = None if reference is None else SavedReference(reference, tokens, window)
        held = _model(source, group, kind, unquantised)
        candidate = _candidate(held, device, shape, window, in_float or unquantised, stages)
        full = None
        if held.fine is not None:
            full = FullHead(shape, held.fine)
            candidate.observe_head(full)
        live: Model | None = None
        if saved is None and not (no_reference or unquantised):
            live = source.dense_model()
        writer = None
        if save_reference is not None:
            writer = ReferenceWriter((live or held).source, tokens, window)
        against: Reference | None = saved
        if live is not None:
            dense = Transformer(live, FloatBackend(), window)
            against = LiveReference(dense, writer.record if writer is not None else None)
        begin = time.perf_counter()
        scores = score(
            candidate, against, tokens, window,
            writer.record if writer is not None and live is None else None,
            lambda done, whole: stages.update("predicting", done, whole),
        )  # fmt: skip
        seconds = time.perf_counter() - begin
        stages.update("standard errors", 0, 0)
        figures = _figures(scores, against is not None)
    if writer is not None and save_reference is not None:
        writer.save(save_reference)
    found = Evaluation(
        model=held.source,
        device=UNQUANTISED if unquantised else FLOAT if in_float else device,
        config=None if in_float or unquantised else shape.name,
        head=held.notes.get("head", "unquantised"),
        text=str(text) if text is not None else "the beginning of Moby-Dick",
        window=window,
        figures=figures,
        tokens=total,
        reference=None if against is None else against.label,
        estimator=LIVE_ESTIMATOR if saved is None else SAVED_ESTIMATOR,
        compression=compression.compression(held),
        notes=held.notes,
        seconds=seconds,
        two_step=None if full is None else full.agreement,
    )
    show(found, as_json)


def _check_options(
    in_float: bool, unquantised: bool, reference: Path | None, save: Path | None,
    no_reference: bool, head: str,
) -> None:  # fmt: skip
    """Refuses options that contradict each other."""
    if in_float and unquantised:
        raise OptionError("--float rounds the weights and --unquantised does not: drop one")
    if reference is not None and (no_reference or save is not None):
        other = "--no-reference" if no_reference else "--save-reference"
        raise OptionError(f"--reference and {other} contradict each other: drop one")
    if save is not None and no_reference:
        raise OptionError(
            "--save-reference saves a reference and --no-reference has none: drop one"
        )
    if save is not None and (save.is_dir() or not save.parent.is_dir()):
        raise OptionError(f"cannot write {str(save)!r}: give a file in a folder that exists")
    if head == "two-step" and (in_float or unquantised):
        raise OptionError("--head two-step needs a device: drop --float or --unquantised")


def read_text(path: Path | None) -> str:
    """The text of a file, or the one that the package carries.

    Raises:
        EvaluationError: missing, too large, empty, or not UTF-8.
    """
    if path is None:
        return files("host").joinpath("data", "held_out.txt").read_text("utf-8")
    if not path.is_file():
        raise EvaluationError(f"no text file {str(path)!r}: give a UTF-8 text with --text")
    if path.stat().st_size > MAX_TEXT:
        raise EvaluationError(
            f"{path} has {path.stat().st_size} bytes; at most {MAX_TEXT} are read: cut it"
        )
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise EvaluationError(
            f"{path} is not UTF-8 text (byte {error.start}): convert it"
        ) from None
    if not content.strip():
        raise EvaluationError(f"{path} is empty: give a text of at least two tokens")
    return content


def _tokens(source: checkpoint.Checkpoint, content: str, most: int) -> list[int]:
    return source.tokenizer().encode(content[: LONGEST_TOKEN * most], start=True)[:most]


def _model(source: checkpoint.Checkpoint, group: int, head: str, unquantised: bool) -> Model:
    if unquantised:
        return source.dense_model()
    loaded = source.model(group=group, head_bits=4 if head == "int4" else 8)
    return two_step(loaded) if head == "two-step" else loaded


def _candidate(
    model: Model, device: str, config: configuration.Config, context: int, in_float: bool,
    stages: Stages,
) -> Transformer:  # fmt: skip
    if in_float:
        return Transformer(model, FloatBackend(), context)
    return Session.open(model, device, config, context, stages.update).transformer


def _figures(scores: Scores, compared: bool) -> dict[str, Estimate]:
    """All figures, or the perplexity alone where there was no reference."""
    figures = estimate(scores)
    return figures if compared else {"perplexity": figures["perplexity"]}
