"""Puts a run together: checkpoint, device, forward pass, prompt, report."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from host.board import selftest
from host.device.crosscheck import CheckedAccelerator
from host.device.driver import Accelerator, memory_needed
from host.device.transport import names, open_device
from host.forward.cache import ContextError
from host.forward.head import HeadError, check_top_k
from host.forward.linear import AcceleratorBackend, Placement
from host.forward.model import Transformer, matrices
from host.generate import check_prompt, generate
from host.guess.cost import PassCost
from host.guess.guesser import Guesser, most_guesses
from host.plan.planner import pass_cost
from host.report import Head, Report
from host.sampling import Sampler, Sampling
from host.text.chat import ChatTemplate
from host.text.tokenizer import Tokenizer
from host.transports import BOARD_DEVICES
from host.weights import Integers, Model, outline
from spec.config import Config
from spec.errors import ToolError, UserError

DEFAULT_CONTEXT = 2048
"""Tokens of context unless another number is asked for: a long chat, and a cache of 100 MB."""

Key = TypeVar("Key")

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is (0: unknown)."""


class PromptError(UserError):
    """A prompt that is empty, or options that contradict it."""


class Checkpoint(Protocol):
    """What ``host.checkpoint.find`` returns."""

    def model(self, group: int = 64, head_bits: int = 8) -> Model:
        """Reads the weights."""

    def tokenizer(self) -> Tokenizer:
        """Reads the tokenizer."""

    def chat(self) -> ChatTemplate:
        """Reads the chat template."""


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


def encode_prompt(
    tokenizer: Tokenizer, chat: ChatTemplate, prompt: str, system: str | None, raw: bool
) -> list[int]:
    """Token ids of a prompt, as one turn of a chat or as it is.

    Args:
        system: an instruction that precedes the chat; None leaves it to the template.
        raw: no chat template.

    Raises:
        PromptError: nothing to encode, or a system message without a chat.
        ChatError: the model's template refuses the messages.
    """
    if raw and system is not None:
        raise PromptError("--raw leaves the chat template out, so --system has no place: drop one")
    if raw:
        ids = tokenizer.encode(prompt, start=True)
    else:
        messages = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        ids = tokenizer.encode(chat.render(messages), start=chat.template is None)
    if not ids:
        raise PromptError("the prompt is empty: give at least one word")
    return ids


def require_device(name: str) -> None:
    """Raises ToolError when no device of this name is installed, before anything is loaded."""
    if name not in names():
        raise ToolError(f"no device {name!r}; installed: {', '.join(names()) or 'none'}")


def choose_context(model: Model, asked: int | None) -> int:
    """The context asked for, or the default as far as the model goes."""
    if asked is None:
        return min(model.shape.context, DEFAULT_CONTEXT)
    if not 1 <= asked <= model.shape.context:
        raise ContextError(
            f"--context must lie in 1..{model.shape.context} tokens for this model, got {asked}"
        )
    return asked


def check_head(top_k: int, sampling: Sampling, full: str = "--head-top-k full") -> None:
    """Raises HeadError when ``top_k`` logits cannot decide what all logits would.

    Args:
        full: the option that asks for all of them.
    """
    if top_k == 0:
        return
    check_top_k(top_k)
    needed = sampling.candidates
    if needed is not None and needed <= top_k:
        return
    reason = "a repetition penalty may move any token" if sampling.repetition_penalty != 1 else (
        f"sampling keeps {needed or 'all'} tokens"
    )  # fmt: skip
    raise HeadError(
        f"a head by top-{top_k} gives {top_k} logits but {reason}: use {full}, or sample with"
        f" --top-k 1..{top_k} and no penalty"
    )


@dataclass
class Session:
    """A model on an opened device."""

    model: Model
    accelerator: Accelerator
    transformer: Transformer
    head_top_k: int = 0
    """Logits that leave the device; 0 for all of them."""

    @classmethod
    def open(
        cls, model: Model, device: str, config: Config, context: int, progress: Progress = quiet,
        head_top_k: int = 0, check_every: int = 0, threads: int | None = None,
        cache: str | None = None, plan: Placement | None = None, consume: bool = False,
        **options: Any,
    ) -> Session:  # fmt: skip
        """Opens the device, packs every matrix into its memory and takes the KV cache.

        Args:
            head_top_k: logits that leave the device for each token; 0 for all of them.
            check_every: compute one matmul in this many again on the processor; 0 for none.
            threads: of attention, and of the device cpu; None for one per processor.
            cache: the KV cache's format, ``fp16`` (None) or ``int8``.
            plan: where each matmul runs (host/plan); None: all on the device.
            consume: the model's layers lose their matrices as these are packed; the caller has no
                more use for them.
            options: the device's own, such as ``memory`` of the simulated one.

        Raises:
            ToolError: the device or one of its tools is missing.
            DeviceError: it is not the one expected or lacks memory.
            MismatchError: a board's short self-test found a wrong result.
            LayoutError, PackError: the configuration cannot hold a matrix.
            ContextError: a context that the model does not have.
        """
        needed = memory_needed(config, (weights for _, weights in matrices(model)))
        progress(f"opening device {device}", 0, 0)
        real = device in BOARD_DEVICES
        if real:
            needed += selftest.memory(config, short=True)
        if device == "cpu" and threads is not None:
            options["threads"] = threads
        transport = open_device(device, config, needed, **options)
        accelerator = (
            CheckedAccelerator(transport, check_every) if check_every else Accelerator(transport)
        )
        if real:
            progress("testing the device", 0, 0)
            selftest.run(accelerator, selftest.SHORT)
            accelerator.tally.clear()
        transformer = Transformer(
            model,
            AcceleratorBackend(
                accelerator, head_top_k=head_top_k, fine=model.fine, plan=plan, threads=threads
            ),
            context,
            lambda done, total: progress("packing weights", done, total),
            cache,
            threads,
            consume,
        )
        # The matrices are in the device's memory now: whoever called may let go of theirs.
        head = model.fine or (model.head if head_top_k else outline(model.head))
        model = transformer.model = dataclasses.replace(model, layers=(), head=head)
        return cls(model, accelerator, transformer, transformer.candidates or head_top_k)

    def run(
        self,
        prompt: list[int],
        tokenizer: Tokenizer,
        sampling: Sampling,
        max_tokens: int,
        emit: Callable[[str], None] = lambda text: None,
        progress: Progress = quiet,
        stops: Sequence[str] = (),
        guesser: Guesser | None = None,
    ) -> Report:
        """Answers one prompt. What the cache holds of its beginning is not computed again.

        Args:
            stops: strings that end the text.
            guesser: guesses for each pass (``Session.guesser``); the tokens are the same without.
            emit: called with each piece of text as it comes.

        Raises:
            ContextError: the prompt is longer than the context.
            HeadError: the head's top-k does not decide what the sampler would choose.
            DeviceError: the device reported an error.
        """
        two_step = self.model.fine is not None
        check_head(self.head_top_k, sampling, "--head int8" if two_step else "--head-top-k full")
        check_prompt(len(prompt), self.transformer.cache.context)
        self.transformer.cache.reuse(prompt)
        _trim()
        full_before = self.transformer.full_passes
        ran, launches = dict(self.accelerator.ran), dict(self.accelerator.launches)
        generation = generate(
            self.transformer,
            prompt,
            Sampler(sampling),
            tokenizer.stream(),
            eos=self.model.eos_tokens,
            max_tokens=max_tokens,
            tally=self.accelerator.tally,
            likeliest=sampling.candidates if self.head_top_k else None,
            stops=stops,
            guesser=guesser,
            emit=emit,
            progress=lambda done, total: progress("reading the prompt", done, total),
        )
        head = Head(self.head_top_k, self.transformer.full_passes - full_before, two_step)
        device = self.accelerator.transport.name
        ran = _since(ran, self.accelerator.ran)
        launches = _since(launches, self.accelerator.launches)
        mode = "off" if guesser is None else guesser.mode
        return Report(
            generation, device, self.accelerator.config, self.model.source, head, guess=mode,
            ran=ran, launches=launches,
        )  # fmt: skip

    def guesser(self, option: str, phrases: Sequence[Sequence[int]] = ()) -> Guesser | None:
        """What ``--guess auto|off|N`` asks for; None for no guesses.

        Args:
            phrases: token lists in which guesses are looked up, beside prompt and answer.

        Raises:
            GuessError: no such number of guesses.
            ToolError: ``auto`` needs the cost of a pass, and nothing here knows it.
        """
        config = self.accelerator.config
        fixed = most_guesses(option, config)
        if fixed == 0 or config.tokens == 1:
            return None
        most, cost = (config.tokens - 1, self.pass_cost()) if fixed is None else (fixed, None)
        return Guesser(most, cost, self.model.eos_tokens, phrases)

    def pass_cost(self) -> PassCost:
        """Seconds of a pass on the board, as the planner models it for this configuration.

        Raises:
            ToolError: neither stored cycles nor a model of the fabric.
        """
        model, config = self.model, self.accelerator.config
        integers = model.head if isinstance(model.head, Integers) else None
        bits = f"int{integers.bits}" if integers else "int8"
        group = max(config.group, integers.group if integers else 0)
        head = bits if model.fine is None else "two-step"
        cost = pass_cost(model.shape, config, head, group)
        for tokens in (1, config.tokens):
            cost(tokens, 0)
        return cost

    def close(self) -> None:
        """Releases the device."""
        self.accelerator.close()


def _since(before: dict[Key, int], now: dict[Key, int]) -> dict[Key, int]:
    """What was added to counts."""
    more = {key: count - before.get(key, 0) for key, count in now.items()}
    return {key: count for key, count in more.items() if count}


def _trim() -> None:
    """Gives memory that was freed back to the system; what a checkpoint took stays with the
    process otherwise (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
