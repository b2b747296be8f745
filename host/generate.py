"""The generation loop: prompt in, tokens out one by one, each with what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from host.cache import ContextError
from host.counters import Counters
from host.model import Transformer


class Sampler(Protocol):
    """Chooses the next token (host/sampling.py)."""

    def choose(self, logits: np.ndarray, seen: Iterable[int] = ()) -> int:
        """From logits [vocabulary] float32 and all tokens so far, the prompt's included."""


class TextStream(Protocol):
    """Turns tokens into text piece by piece (host/tokenizer.py)."""

    def push(self, token: int) -> str:
        """The text that is complete with this token."""

    def finish(self) -> str:
        """What was held back."""


@dataclass(frozen=True)
class Pass:
    """One step of the loop: the prompt's prefill, or one token's decode."""

    phase: str
    """``prefill`` or ``decode``."""
    token: int
    """What was chosen from its logits."""
    text: str
    """What it added to the text; empty while a character is incomplete."""
    operations: dict[str, Counters]
    seconds: float
    """On this machine, whatever the device."""


@dataclass
class Generation:
    """What a run wrote."""

    prompt_tokens: int
    passes: list[Pass] = field(default_factory=list)
    reused_tokens: int = 0
    """Of the prompt, those whose keys and values the cache held already."""
    stop_reason: str = "max_tokens"
    """``eos``, ``max_tokens``, ``context`` (full) or ``interrupted``."""

    @property
    def tokens(self) -> list[int]:
        """The tokens written, the one that ended the text included."""
        return [step.token for step in self.passes]

    @property
    def text(self) -> str:
        """The text written."""
        return "".join(step.text for step in self.passes)


class Meter:
    """What each operation cost since the last look."""

    def __init__(self, tally: dict[str, Counters]) -> None:
        self._tally = tally
        self._seen: dict[str, Counters] = {}
        self._time = 0.0
        self.lap()

    def lap(self) -> tuple[dict[str, Counters], float]:
        """Cost by operation and seconds since the last call."""
        now, then = time.perf_counter(), self._time
        none = Counters()
        spent = {name: sum_.minus(self._seen.get(name, none)) for name, sum_ in self._tally.items()}
        self._seen = {name: sum_.copy() for name, sum_ in self._tally.items()}
        self._time = now
        return {name: cost for name, cost in spent.items() if cost.commands}, now - then


def check_prompt(tokens: int, context: int) -> None:
    """Raises ContextError when a prompt leaves no room in the context."""
    if tokens > context:
        raise ContextError(
            f"the prompt has {tokens} tokens but the context holds {context}: shorten the prompt"
            " or raise --context"
        )


def generate(
    model: Transformer,
    prompt: list[int],
    sampler: Sampler,
    stream: TextStream,
    *,
    eos: Collection[int],
    max_tokens: int,
    tally: dict[str, Counters],
    likeliest: int | None = None,
    emit: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Generation:
    """Writes until an end token, ``max_tokens``, a full context or Ctrl-C.

    Args:
        model: its cache is empty, or holds the beginning of the prompt (``KvCache.reuse``).
        prompt: token ids.
        stream: tokens to text, without the tokens that mark turns.
        eos: tokens that end the text.
        tally: the driver's counters by operation; they give each pass its cost.
        likeliest: how many of the largest logits the sampler looks at; None for all of them.
        emit: called with each piece of text as it comes.
        progress: called with (prompt tokens done, all) in prefill.

    Raises:
        ContextError: the prompt is longer than the context.
    """
    check_prompt(len(prompt), model.cache.context)
    result = Generation(len(prompt), reused_tokens=model.cache.length)
    meter = Meter(tally)
    past, todo, phase = list(prompt), prompt[model.cache.length :], "prefill"
    try:
        while True:
            told = progress if phase == "prefill" else _quiet
            logits = model.forward(todo, likeliest=likeliest, progress=told, copy=False)
            token = sampler.choose(logits[0], past)
            ended = _end(token, eos, model, len(result.passes) + 1, max_tokens)
            text = "" if token in eos else stream.push(token)
            if ended:
                text += stream.finish()
            result.passes.append(Pass(phase, token, text, *meter.lap()))
            emit(text)
            if ended:
                result.stop_reason = ended
                return result
            past.append(token)
            todo, phase = [token], "decode"
    except KeyboardInterrupt:
        result.stop_reason = "interrupted"
        return result


def _end(token: int, eos: Collection[int], model: Transformer, count: int, most: int) -> str:
    """Why the text ends with this token; empty when it goes on."""
    if token in eos:
        return "eos"
    if count >= most:
        return "max_tokens"
    if model.cache.length >= model.cache.context:
        return "context"
    return ""


def _quiet(done: int, total: int) -> None:
    """No progress for single tokens."""
