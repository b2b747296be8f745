"""A model's predictions of a text, kept in a file so that others can be compared with them.

For each predicted token: the TOP likeliest tokens with their log-probabilities, the log of what is
left for all others together, SAMPLES of those others, drawn by their probability, and the loss. A
divergence is exact over the TOP; over the others it is the mean of the samples' log ratios times
their probability: an estimate without bias, whose noise vanishes over a text. The file is in the
safetensors format, 4.6 kB a token.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from host.checkpoint import CheckpointError, safetensors_file
from host.evaluation.evaluate import (
    EvaluationError,
    Rows,
    check_vocabulary,
    log_probabilities,
    slices,
)
from spec.files import write_whole

TOP = 512
SAMPLES = 64
SEED = 0
MAX_TOKENS = 1 << 16
"""Longest text of a reference: a file of 300 MB."""
NAMES = ("ids", "log_probabilities", "samples", "sampled", "rest", "losses")
"""Tensors of a file, beside ``about`` and ``tokens``."""
MAX_ABOUT = 1 << 16
"""Longest description, bytes."""
FORMAT = "kria-llm reference 2"
LIVE_ESTIMATOR = "whole vocabulary"
SAVED_ESTIMATOR = "the reference's likeliest tokens and a sample of all others: no bias"


class ReferenceWriter:
    """Collects a model's predictions (``record``) and writes them (``save``).

    Args:
        label: the model, for people.
        tokens: the text.
        window: tokens seen together.

    Raises:
        EvaluationError: a text that is too long for a reference.
    """

    def __init__(self, label: str, tokens: list[int], window: int) -> None:
        if len(tokens) > MAX_TOKENS:
            raise EvaluationError(
                f"a saved reference holds {MAX_TOKENS} tokens, got {len(tokens)}: lower"
                " --max-tokens"
            )
        self.label, self.tokens, self.window = label, tokens, window
        self._vocabulary = 0
        self._random = np.random.default_rng(SEED)
        self._parts: list[tuple[np.ndarray, ...]] = []

    def record(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Adds predictions: logits [count, vocabulary], and what followed [count]."""
        self._vocabulary = logits.shape[1]
        for rows in slices(len(targets)):
            p = log_probabilities(logits[rows])
            loss = -p[np.arange(len(p)), targets[rows]]
            top = min(TOP, p.shape[1])
            ids = np.argpartition(-p, top - 1, axis=1)[:, :top]
            order = np.lexsort((ids, -np.take_along_axis(p, ids, axis=1)))
            ids = np.take_along_axis(ids, order, axis=1)
            held = np.take_along_axis(p, ids, axis=1)
            samples, rest = self._others(p, ids)
            sampled = np.take_along_axis(p, samples, axis=1)
            self._parts.append((ids, held, samples, sampled, rest, loss))

    def _others(self, p: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens outside ``ids`` drawn by their probability [count, SAMPLES], and the logarithm of
        what they have together [count]; minus infinity where there are none."""
        others = np.exp(p)
        np.put_along_axis(others, ids, 0.0, axis=1)
        sums = np.cumsum(others, axis=1)
        draws = self._random.uniform(0, 1, (len(p), SAMPLES)) * sums[:, -1:]
        samples = np.stack([
            np.searchsorted(row, wanted, side="right")
            for row, wanted in zip(sums, draws, strict=True)
        ])  # fmt: skip
        with np.errstate(divide="ignore"):
            return np.minimum(samples, p.shape[1] - 1), np.log(sums[:, -1])

    def save(self, path: Path) -> None:
        """Writes the file beside ``path`` and renames it. Raises OSError."""
        columns = [np.concatenate(column) for column in zip(*self._parts)]  # noqa: B905
        types = (np.int32, np.float32, np.int32, np.float32, np.float32, np.float32)
        held = {name: column.astype(kind)
                for name, column, kind in zip(NAMES, columns, types, strict=True)}  # fmt: skip
        about = {
            "format": FORMAT, "model": self.label, "window": self.window,
            "vocabulary": self._vocabulary, "tokens": fingerprint(self.tokens),
        }  # fmt: skip
        write_whole(path, save({
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            "tokens": np.asarray(self.tokens, np.int32),
            **held,
        }))  # fmt: skip


class SavedReference:
    """A reference out of a file; see ``evaluate.Reference``.

    Args:
        path: what ``ReferenceWriter`` wrote.
        tokens: the text as the candidate's tokenizer has it.
        window: tokens seen together.

    Raises:
        EvaluationError: not a reference, damaged, or of another text, tokenizer or window.
    """

    def __init__(self, path: Path, tokens: list[int], window: int) -> None:
        self.path = path
        try:
            held = safetensors_file.read(path)
        except CheckpointError as error:
            raise EvaluationError(f"not a reference: {error}") from None
        except OSError as error:
            raise EvaluationError(f"{path} cannot be read: {error.strerror}") from None
        self._held = held
        about = self._about()
        self.label = f"{about['model']} (saved in {path})"
        self._vocabulary = int(about["vocabulary"])
        if about["window"] != window:
            raise EvaluationError(
                f"{path} was made with windows of {about['window']} tokens, not {window}: give"
                f" --window {about['window']}"
            )
        if not np.array_equal(self._array("tokens", "I32", 1), np.asarray(tokens, np.int32)):
            raise EvaluationError(
                f"{path} is a reference of another text, tokenizer or --max-tokens: take the same"
                " text, or save a new reference"
            )
        self._ids, self._p = (
            self._array("ids", "I32", 2),
            self._array("log_probabilities", "F32", 2),
        )
        self._samples = self._array("samples", "I32", 2)
        self._sampled = self._array("sampled", "F32", 2)
        self._rest, self._losses = self._array("rest", "F32", 1), self._array("losses", "F32", 1)
        self._check()
        self._next = 0

    def reset(self) -> None:
        """See ``Reference``: predictions follow one another over windows."""

    def compare(self, given: list[int], logits: np.ndarray, targets: np.ndarray) -> Rows:
        """See ``Reference``: over the outcomes that the file tells apart."""
        check_vocabulary(logits.shape[1], self._vocabulary, self.label)
        here = slice(self._next, self._next + len(targets))
        if here.stop > len(self._ids):
            raise EvaluationError(
                f"{self.path} holds {len(self._ids)} predictions, {here.stop} are needed"
            )
        self._next = here.stop
        ids = self._ids[here]
        held = [ids, *(a[here] for a in (self._p, self._samples, self._sampled, self._rest))]
        divergences = [
            _divergence(log_probabilities(logits[rows]), *(array[rows] for array in held))
            for rows in slices(len(targets))
        ]
        agreements = (logits.argmax(axis=1) == ids[:, 0]).astype(float)
        losses = self._losses[here].astype(float)
        return losses, np.concatenate(divergences), agreements, np.full(len(targets), np.nan)

    def _about(self) -> dict:
        tensor = self._held.get("about")
        about = None
        if tensor is not None and tensor.data.size <= MAX_ABOUT:
            try:
                about = json.loads(tensor.data.tobytes())
            except (ValueError, RecursionError):
                about = None
        kinds = {"format": str, "model": str, "window": int, "vocabulary": int}
        good = isinstance(about, dict) and all(
            type(about.get(key)) is kind for key, kind in kinds.items()
        )
        if not good or about is None or about["format"] != FORMAT:
            raise EvaluationError(
                f"{self.path} is not a reference: make one with `kria-llm eval --save-reference`"
            )
        return about

    def _array(self, name: str, kind: str, dimensions: int) -> np.ndarray:
        tensor = self._held.get(name)
        if tensor is None or tensor.kind != kind or len(tensor.shape) != dimensions:
            raise EvaluationError(f"{self.path} is damaged: {name} is missing or of another type")
        return tensor.view(np.int32 if kind == "I32" else np.float32)

    def _check(self) -> None:
        """Refuses shapes that disagree and values that are no probabilities."""
        count = len(self._ids)
        shapes = {a.shape for a in (self._rest, self._losses)}
        ids, p, rest = self._ids, self._p, self._rest
        good = shapes == {(count,)} and p.shape == ids.shape and count > 0 and ids.shape[1] > 0
        samples, sampled = self._samples, self._sampled
        good = good and samples.shape == sampled.shape == (count, samples.shape[1])
        good = good and samples.shape[1] > 0
        for tokens in (ids, samples):
            good = good and bool((tokens >= 0).all() and (tokens < self._vocabulary).all())
        for logarithms in (p, sampled, rest):
            good = good and bool((logarithms <= 1e-6).all())
        for finite in (p, sampled, self._losses):
            good = good and bool(np.isfinite(finite).all())
        if not good:
            raise EvaluationError(f"{self.path} is damaged: its predictions are not probabilities")


def _divergence(
    q: np.ndarray, ids: np.ndarray, p: np.ndarray, samples: np.ndarray, sampled: np.ndarray,
    rest: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Divergence over the tokens ``ids``, and by its samples over all others, [count]."""
    wide = p.astype(float)
    total = (np.exp(wide) * (wide - np.take_along_axis(q, ids.astype(np.int64), axis=1))).sum(
        axis=1
    )
    ratios = sampled.astype(float) - np.take_along_axis(q, samples.astype(np.int64), axis=1)
    return total + np.exp(rest.astype(float)) * ratios.mean(axis=1)


def fingerprint(tokens: list[int]) -> str:
    """A digest of token ids."""
    return hashlib.blake2b(np.asarray(tokens, "<i4").tobytes(), digest_size=16).hexdigest()
