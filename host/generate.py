"""The generation loop: prompt in, tokens out, pass by pass, each with what it cost.

A pass over the weights reads one token or, with a guesser, that token and guesses of what follows.
The sampler then chooses after each of them as it would have without guesses; the first choice that
is not the guess ends the pass, and the cache forgets the rest. So the tokens are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from host.device.counters import Counters
from host.forward.cache import ContextError
from host.forward.model import Transformer
from host.text.stop import StopStream, TextStream


class Sampler(Protocol):
    """Chooses the next token (host/sampling.py)."""

    def choose(self, logits: np.ndarray, seen: Iterable[int] = ()) -> int:
        """From logits [vocabulary] float32 and all tokens so far, the prompt's included."""

    def choose_among(self, logits: np.ndarray, ids: np.ndarray) -> int:
        """The same where all logits but those of ``ids`` are minus infinity."""


class Guesser(Protocol):
    """Guesses what follows (host/guess/guesser.py)."""

    def begin(self, prompt: Sequence[int]) -> None:
        """A new text begins."""

    def guess(self, most: int) -> list[int]:
        """At most ``most`` tokens that may follow the text so far; often none."""

    def learn(self, tokens: Sequence[int], guessed: int) -> None:
        """What a pass wrote, and how many tokens were guessed for it."""


@dataclass(frozen=True)
class Pass:
    """One step of the loop: the prompt's prefill, or a pass of decode."""

    phase: str
    """``prefill`` or ``decode``."""
    tokens: list[int]
    """What it wrote: one token, and one more for each guess that was right."""
    text: str
    """What they added to the text; empty while a character is incomplete."""
    operations: dict[str, Counters]
    seconds: float
    """On this machine, whatever the device."""
    guessed: int = 0
    """Tokens that were guessed for it."""
    accepted: int = 0
    """Those of them that were right."""


@dataclass
class Generation:
    """What a run wrote."""

    prompt_tokens: int
    passes: list[Pass] = field(default_factory=list)
    reused_tokens: int = 0
    """Of the prompt, those whose keys and values the cache held already."""
    stop_reason: str = "max_tokens"
    """``eos``, ``stop`` (string), ``max_tokens``, ``context`` (full) or ``interrupted``."""

    @property
    def tokens(self) -> list[int]:
        """The tokens written, the one that ended the text included."""
        return [token for step in self.passes for token in step.tokens]

    def seconds(self, phase: str) -> float:
        """Of all passes of a phase, on this machine."""
        return sum(step.seconds for step in self.passes if step.phase == phase)

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
    stops: Sequence[str] = (),
    guesser: Guesser | None = None,
    emit: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Generation:
    """Writes until an end token, a stop string, ``max_tokens``, a full context or Ctrl-C.

    Args:
        model: its cache is empty, or holds the beginning of the prompt (``KvCache.reuse``).
        prompt: token ids.
        stream: tokens to text, without the tokens that mark turns.
        eos: tokens that end the text.
        tally: the driver's counters by operation; they give each pass its cost.
        likeliest: how many of the largest logits the sampler looks at; None for all of them.
        stops: strings that end the text; they are not part of it.
        guesser: guesses for each pass of decode; None decodes one token a pass.
        emit: called with each piece of text as it comes.
        progress: called with (prompt tokens done, all) in prefill.

    Raises:
        ContextError: the prompt is longer than the context.
        StopError: stop strings that make no sense.
    """
    check_prompt(len(prompt), model.cache.context)
    run = _Run(model, sampler, StopStream(stream, stops), frozenset(eos), max_tokens, list(prompt))
    result = Generation(len(prompt), reused_tokens=model.cache.length)
    meter = Meter(tally)
    if guesser is not None:
        guesser.begin(prompt)
    try:
        while not run.ended:
            guess = [] if guesser is None or not result.passes else guesser.guess(run.room)
            told = _quiet if result.passes else progress
            logits = run.forward(guess, likeliest, told)
            tokens, text, accepted = run.choose(logits, guess)
            if guesser is not None:
                guesser.learn(tokens, len(guess))
            phase = "decode" if result.passes else "prefill"
            step = Pass(phase, tokens, "".join(text), *meter.lap(), len(guess), accepted)
            result.passes.append(step)
            for piece in text:
                emit(piece)
        result.stop_reason = run.ended
    except KeyboardInterrupt:
        result.stop_reason = "interrupted"
    finally:
        run.forget_guesses(result.prompt_tokens + len(result.tokens) - 1)
    return result


@dataclass
class _Run:
    """The state of one text between passes."""

    model: Transformer
    sampler: Sampler
    stream: StopStream
    eos: frozenset[int]
    max_tokens: int
    past: list[int]
    """The prompt and what was written."""
    written: int = 0
    """Tokens of ``past`` that are not the prompt's."""
    ended: str = ""
    """Why the text ended; empty while it goes on."""

    @property
    def room(self) -> int:
        """Guesses that the next pass has a use for: context and ``max_tokens`` end the others."""
        context = self.model.cache.context - self.model.cache.length
        return min(context, self.max_tokens - self.written) - 1

    def forward(
        self, guess: list[int], likeliest: int | None, progress: Callable[[int, int], None]
    ) -> np.ndarray:
        """Logits after what the cache does not hold yet, and after each guess: [1 + guesses, V]."""
        todo = self.past[self.model.cache.length :] + guess
        return self.model.forward(todo, bool(guess), likeliest, progress, copy=False)

    def choose(self, logits: np.ndarray, guess: list[int]) -> tuple[list[int], list[str], int]:
        """Tokens chosen from a pass's logits, their texts, and how many of them were guessed."""
        tokens: list[int] = []
        texts: list[str] = []
        listed = self.model.listed
        for index, (row, guessed) in enumerate(zip(logits, [*guess, None], strict=True)):
            if listed is None:
                token = self.sampler.choose(row, self.past)
            else:
                token = self.sampler.choose_among(row, listed[index])
            tokens.append(token)
            texts.append(self._take(token))
            if self.ended or token != guessed:
                break
        self.forget_guesses(len(self.past) - 1)
        right = sum(token == guessed for token, guessed in zip(tokens, guess, strict=False))
        return tokens, texts, right

    def forget_guesses(self, length: int) -> None:
        """Leaves what belongs to the text in the cache: its first ``length`` tokens."""
        cache = self.model.cache
        cache.truncate(max(0, min(length, cache.length)))

    def _take(self, token: int) -> str:
        """Adds a token to the text and decides whether it ends with it."""
        text = "" if token in self.eos else self.stream.push(token)
        self.past.append(token)
        self.written += 1
        self.ended = self._end(token)
        return text + self.stream.finish() if self.ended else text

    def _end(self, token: int) -> str:
        if token in self.eos:
            return "eos"
        if self.stream.stopped:
            return "stop"
        if self.written >= self.max_tokens:
            return "max_tokens"
        return "context" if len(self.past) > self.model.cache.context else ""


def _quiet(done: int, total: int) -> None:
    """No progress for single tokens."""
