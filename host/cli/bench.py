"""``kria-llm bench``: tokens per second here, and modelled on the board."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from host import benchmark, checkpoint, default_model, task_benchmark
from host import tasks as task_set
from host.benchmark import FORMS, Case, Row
from host.cli.options import (
    AUTO,
    DEFAULT_CONFIG,
    DEFAULT_DEVICE,
    INTERRUPTED,
    ConfigName,
    Device,
    Head,
    ModelArgument,
    OptionError,
    head_kind,
    usual_head,
)
from host.forward.two_step import two_step
from host.guess.cost import PassCost
from host.guess.guesser import most_guesses
from host.plan.planner import plan
from host.progress import Stages
from host.session import Checkpoint, Session, encode_prompt, require_device
from host.tasks import Task
from spec import config as configuration
from spec.errors import ToolError


def bench(
    context: typer.Context,
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
    head: Head = AUTO,
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of attention and the device cpu.",
                                 show_default=False)
    ] = None,
    guess: Annotated[
        str | None,
        typer.Option(help="Guesses per pass, as for `kria-llm generate`. Without it: auto with"
                          " --tasks, else off.", metavar="auto|off|N", show_default=False),
    ] = None,
    tasks: Annotated[
        bool, typer.Option("--tasks", help="Answer the task set, plain and with guesses.")
    ] = False,
    kinds: Annotated[
        str | None,
        typer.Option(help="With --tasks: only these kinds, between commas.", show_default=False),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=2, help="With --tasks: longest answer.", show_default=False),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="md, csv or json.")] = "md",
) -> None:  # fmt: skip
    """Times prompts and written tokens on a device, like llama-bench; or answers a task set.

    Examples:

        kria-llm bench --prompt 128,512 --generated 32 --repeats 5

        kria-llm bench ./Qwen2.5-0.5B-Instruct-AWQ --depth 0,1024 --format json

        kria-llm bench --tasks --head two-step

        kria-llm bench --tasks --kinds "summary,log filtering" --guess 7 --format csv

    Each test runs after one unmeasured call; its speed is the mean of the repeats with their
    standard deviation, on this machine. Beside it stands what the planner models for the board
    (docs/planner.md): nothing was measured there. With --guess, the written tokens are the
    model's own after a random prompt, with guesses.

    --tasks answers prompts of eight kinds greedily, without guesses and with them: tokens per
    pass, guesses accepted and refused, speed here and modelled speed of the board for both
    (docs/guessing.md). The answers are the same, which is checked.

    The head is the one that the plan finds faster, int8 or two steps, unless --head names one; the
    results tell it.
    """
    if form not in FORMS:
        raise OptionError(f"--format must be {', '.join(FORMS[:-1])} or {FORMS[-1]}, got {form!r}")
    base, guess = configuration.load(config), guess or _usual(tasks)
    kind = head if head == AUTO else head_kind(head)
    most_guesses(guess, base)
    if tasks:
        _refuse(context, "--tasks", "prompt", "generated", "depth", "repeats")
        chosen = task_set.choose(task_set.read(), kinds)
    else:
        _refuse(context, "a benchmark without --tasks", "kinds", "max_tokens")
        listed = benchmark.cases(_sizes(prompt), _sizes(generated), _sizes(depth))
    require_device(device)
    with Stages(Console(stderr=True)) as stages:
        stages.update("reading the model", 0, 0)
        source = checkpoint.find(model if model is not None else default_model.path())
        weights = source.model(head_bits=4 if kind == "int4" else 8)
        kind = usual_head(weights, base) if kind == AUTO else kind
        if kind == "two-step":
            weights = two_step(weights)

        def opened(positions: int) -> Session:
            return Session.open(
                weights, device, base, positions, stages.update, threads=threads, consume=True
            )

        try:
            if tasks:
                result = _answer(chosen, source, kind, opened, guess, max_tokens, stages, form)
            else:
                result = _time(listed, kind, opened, guess, repeats, stages, form)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
    print(result)


def _usual(tasks: bool) -> str:
    """``--guess`` where it is not given."""
    return "auto" if tasks else "off"


def _refuse(context: typer.Context, what: str, *names: str) -> None:
    """Raises OptionError when an option is given that has no meaning here."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise OptionError(f"--{name.replace('_', '-')} has no meaning for {what}: drop it")


def _answer(
    chosen: list[Task], source: Checkpoint, kind: str, opened: Callable[[int], Session], guess: str,
    max_tokens: int | None, stages: Stages, form: str,
) -> str:  # fmt: skip
    """The task set's results."""
    tokenizer, chat = source.tokenizer(), source.chat()
    if max_tokens is not None:
        chosen = [dataclasses.replace(task, tokens=min(task.tokens, max_tokens)) for task in chosen]
    prompts = [encode_prompt(tokenizer, chat, task.prompt, None, False) for task in chosen]
    longest = max(len(ids) + task.tokens for ids, task in zip(prompts, chosen, strict=True))
    session = opened(longest)
    cost, guesser = _cost(session), session.guesser(guess)
    rows = []
    for number, task in enumerate(chosen):
        rows.append(
            task_benchmark.run(
                session, tokenizer, chat, task, guesser, cost,
                lambda what, number=number: stages.update(what, number, len(chosen)),  # type: ignore[misc]
            )
        )  # fmt: skip
    device = session.accelerator.transport.name
    session.close()
    return task_benchmark.render(rows, device, kind, guess, form)


def _time(
    listed: list[Case], kind: str, opened: Callable[[int], Session], guess: str, repeats: int,
    stages: Stages, form: str,
) -> str:  # fmt: skip
    """The speeds of prompts and of written tokens."""
    session = opened(max(case.positions(guess != "off") for case in listed))
    cost, guesser, rows = _cost(session), session.guesser(guess), []
    for case in listed:
        timed = benchmark.run(
            session.transformer, case, repeats,
            lambda done, total, case=case: stages.update(case.name, done, total),  # type: ignore[misc]
            guesser,
        )  # fmt: skip
        board = _modelled(session, case, kind) if timed.text is None else (
            benchmark.board_speed(timed, case, cost))  # fmt: skip
        rows.append(Row(case, timed, board))
    device = session.accelerator.transport.name
    session.close()
    return benchmark.render(rows, device, kind, guess, form)


def _modelled(session: Session, case: Case, head: str) -> float | None:
    """The board's speed in the middle of a case; None where no figures are installed."""
    middle = max(1, case.depth + case.tokens // 2)
    shape, config = session.model.shape, session.accelerator.config
    try:
        made = plan("", shape, config, middle, case.tokens, head, depth=case.depth)
    except ToolError:
        return None
    return made.prefill_tokens_per_second if case.phase == "pp" else made.decode_tokens_per_second


def _cost(session: Session) -> PassCost | None:
    """The board's cost of a pass; None where no figures are installed."""
    try:
        return session.pass_cost()
    except ToolError:
        return None


def _sizes(text: str) -> list[int]:
    """Numbers between commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"sizes are whole numbers between commas, got {text!r}") from None
