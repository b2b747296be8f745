"""``kria-llm bench``: tokens per second here, and modelled on the board."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from host import benchmark, checkpoint, default_model
from host.benchmark import Case, Row
from host.cli.options import (
    DEFAULT_CONFIG,
    DEFAULT_DEVICE,
    HEADS,
    ConfigName,
    Device,
    Head,
    ModelArgument,
    OptionError,
    head_kind,
)
from host.forward.two_step import two_step
from host.plan.planner import plan
from host.progress import Stages
from host.session import Session, require_device
from host.weights import Shape
from spec import config as configuration
from spec.config import Config
from spec.errors import ToolError


def bench(
    model: ModelArgument = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="Prompt sizes; 0: none.")] = "512",
    generated: Annotated[
        str, typer.Option("--generated", "-n", help="Numbers of tokens written; 0: none.")
    ] = "128",
    depth: Annotated[
        str, typer.Option("--depth", "-d", help="Positions of context filled before.")
    ] = "0",
    repeats: Annotated[int, typer.Option("--repeats", "-r", min=1, help="Of each test.")] = 3,
    device: Device = DEFAULT_DEVICE,
    config: ConfigName = DEFAULT_CONFIG,
    head: Head = HEADS[0],
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of attention and the device cpu.",
                                 show_default=False)
    ] = None,
    form: Annotated[str, typer.Option("--format", help="md, csv or json.")] = "md",
) -> None:  # fmt: skip
    """Times prompts and written tokens on a device, like llama-bench.

    Examples:

        kria-llm bench --prompt 128,512 --generated 32 --repeats 5

        kria-llm bench ./Qwen2.5-0.5B-Instruct-AWQ --depth 0,1024 --format json

    Each test runs after one unmeasured call; its speed is the mean of the repeats with their
    standard deviation, on this machine. Beside it stands what the planner models for the board
    (docs/planner.md): nothing was measured there.
    """
    listed = benchmark.cases(_sizes(prompt), _sizes(generated), _sizes(depth))
    if form not in ("md", "csv", "json"):
        raise OptionError(f"--format must be md, csv or json, got {form!r}")
    kind, base = head_kind(head), configuration.load(config)
    require_device(device)
    with Stages(Console(stderr=True)) as stages:
        stages.update("reading the model", 0, 0)
        source = checkpoint.find(model if model is not None else default_model.path())
        weights = source.model(head_bits=4 if kind == "int4" else 8)
        if kind == "two-step":
            weights = two_step(weights)
        context = max(case.depth + case.tokens for case in listed)
        session = Session.open(weights, device, base, context, stages.update, threads=threads)
        rows = []
        for case in listed:
            seconds = benchmark.run(
                session.transformer, case, repeats,
                lambda done, total, case=case: stages.update(case.name, done, total),  # type: ignore[misc]
            )  # fmt: skip
            rows.append(Row(case, seconds, _modelled(weights.shape, base, case, kind)))
        session.close()
    print(benchmark.render(rows, device, form))


def _modelled(shape: Shape, config: Config, case: Case, head: str) -> float | None:
    """The board's speed in the middle of a case; None where no figures are installed."""
    middle = max(1, case.depth + case.tokens // 2)
    try:
        made = plan("", shape, config, middle, case.tokens, head, depth=case.depth)
    except ToolError:
        return None
    return made.prefill_tokens_per_second if case.phase == "pp" else made.decode_tokens_per_second


def _sizes(text: str) -> list[int]:
    """Numbers between commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"sizes are whole numbers between commas, got {text!r}") from None
