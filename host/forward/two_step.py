"""The LM head in two steps: int4 on the engine proposes, the int8 table on the host decides.

The engine streams the head in int4, at half of int8's traffic, and gives the 64 largest results of
each token. The host computes those 64 rows again from the int8 table, which it keeps for the
embedding anyway: 64 rows of 896 values are 57 kB. Each such logit equals the full int8 head's bit
for bit (activations as two terms, ``linear.split``). Proposals take one term: a token is one
vector, so a pass of M tokens has M heads.

Where all logits are asked for, rows that were not proposed keep the int4 head's logit. Where only
the likeliest are, they are minus infinity: a softmax then runs over the candidates alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from host.checkpoint.rounding import round_int4
from host.device import largest
from host.device.driver import Accelerator, Handle
from host.device.largest import Largest
from host.forward import buffers
from host.forward.head import HeadError
from host.forward.program import HEAD_LANE, Action
from host.kernels.rescore import Rescorer
from host.kernels.runner import Launch, Quantising, Rescoring
from host.weights import IntegerEmbedding, Integers, Model, Quantised
from spec import commands

TERMS = 2
"""Of block floating point in rescoring: as the full head's activations on an engine that has room
for two."""

BLOCK_ROWS = 4096
"""Rows that are rounded at a time: a few tens of megabytes of floats."""


def two_step(model: Model) -> Model:
    """The same model with its int8 head split in two: an int4 one for the engine, and ``fine``.

    The int4 head is rounded from the int8 one. A tied embedding becomes the int8 table as well. A
    model whose head is in two steps already stays as it is.

    Raises:
        HeadError: the head is not int8.
    """
    if model.fine is not None:
        return model
    if not isinstance(model.head, Integers) or model.head.bits != 8:
        raise HeadError("a head in two steps is made from an int8 head: load it with --head-bits 8")
    fine = model.head.select(slice(None))
    embedding = IntegerEmbedding(fine) if model.shape.tied else model.embedding
    notes = {
        **model.notes,
        "head": f"two steps: int4 group {fine.group} proposes {commands.TOP_K_MAX}, int8 decides",
    }
    return dataclasses.replace(
        model, head=round_to_int4(fine), fine=fine, embedding=embedding, notes=notes
    )


def round_to_int4(table: Quantised) -> Quantised:
    """An int8 matrix rounded to int4 in the same groups, block by block."""
    rows, groups = table.rows, table.columns // table.group
    values = np.empty((rows, table.columns), np.uint8)
    scales, zeros = np.empty((rows, groups), np.float16), np.empty((rows, groups), np.uint8)
    for start in range(0, rows, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        floats = table.select(part).floats().reshape(-1, groups, table.group)
        values[part], scales[part], zeros[part] = round_int4(floats)
    return Quantised(4, table.group, values, scales, zeros)


class TwoStepHead:
    """A head whose candidates come from the engine and whose scores come from the host.

    Args:
        accelerator, handle: the int4 head on the device.
        fine: the int8 table [N, K].
    """

    full_passes = 0
    """Times that all logits were computed because the candidates did not decide: never."""

    def __init__(self, accelerator: Accelerator, handle: Handle, fine: Quantised) -> None:
        if fine.rows != handle.matrix.rows or fine.columns != handle.matrix.columns:
            raise HeadError(
                f"the table has {fine.rows} x {fine.columns} values, the proposing head"
                f" {handle.matrix.rows} x {handle.matrix.columns}: they must be of one model"
            )
        self._accelerator, self._handle = accelerator, handle
        self.top_k = min(commands.TOP_K_MAX, largest.most(handle.matrix))
        """Candidates of each token."""
        if not self.top_k:
            raise HeadError("a head of one row has no candidates: use --head int8")
        self.tokens = accelerator.config.tokens
        self._rescore = Rescorer(fine, self.tokens, self.top_k, TERMS)
        self._lists = [
            accelerator.list_of(handle, n, self.top_k) for n in range(1, self.tokens + 1)
        ]
        self._sinks = buffers.device_sinks(self._lists, False)
        made = [accelerator.native(one) for one in self._lists]
        self._held, self._launches = made, (Launch * len(made))(*made)
        self._row = buffers.padded(fine.columns)
        self._logits = np.full((self.tokens, fine.rows), -np.inf, np.float32)
        self._told = np.zeros((self.tokens, self.top_k), np.int32)
        """Rows of ``_logits`` that are not minus infinity."""
        self.observer: Callable[[np.ndarray, np.ndarray], None] | None = None
        """Is shown activations and all logits whenever those are asked for."""

    def actions(self, normed: np.ndarray) -> list[Action]:
        """The candidates of a pass's tokens and their logits, as steps of a program; ``read`` gives
        them then.

        Args:
            normed: [M, K] float32, where the last norm leaves its tokens.
        """
        quantising = Quantising()
        quantising.hold(sinks=self._sinks, values=normed, scratch=self._row)
        rescoring = Rescoring(
            width=normed.shape[1], pairs=largest.even(self.top_k), rows=self._handle.matrix.rows
        )
        choices = self._lists[0].commands[0].results.array
        rescoring.hold(
            rescore=self._rescore.call, normed=normed, choices=choices, logits=self._logits,
            told=self._told,
        )  # fmt: skip

        def start(tokens: int) -> None:
            self._accelerator.start(self._lists[tokens - 1])

        def finish(tokens: int) -> None:
            self._accelerator.finish(self._lists[tokens - 1])

        def rescore(tokens: int) -> None:
            rows = largest.unpack(tokens, self.top_k, choices[: self._bytes(tokens)]).rows
            values = self._rescore(normed[:tokens], rows)
            np.put_along_axis(self._logits[:tokens], self._told[:tokens], -np.inf, axis=1)
            np.put_along_axis(self._logits[:tokens], rows, values, axis=1)
            self._told[:tokens] = rows

        return [
            Action("activations", HEAD_LANE, quantising, columns=normed.shape[1]),
            Action("start", HEAD_LANE, self._launches, start),
            Action("finish", HEAD_LANE, self._launches, finish),
            Action("rescore", HEAD_LANE, rescoring, rescore),
        ]

    def _bytes(self, tokens: int) -> int:
        """Of the engine's lists of so many tokens."""
        return len(self._lists[tokens - 1].commands[0].results.array)

    def read(self, tokens: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The logits that ``actions`` computed, as ``likeliest`` gives them, and the candidates
        [tokens, top_k]; the next call overwrites both.

        Raises:
            HeadError: more are wanted than there are candidates.
        """
        self._check(count)
        return self._logits[:tokens], self._told[:tokens]

    def _check(self, count: int) -> None:
        if count > self.top_k:
            raise HeadError(
                f"a head in two steps gives {self.top_k} logits, {count} are wanted: use --head"
                f" int8, or sample with --top-k 1..{self.top_k}"
            )

    def candidates(self, activations: np.ndarray) -> Largest:
        """The candidates of each token with the int8 head's logits, best first, equal ones by row.

        Args:
            activations: [tokens, K] float32, any number of tokens.

        Returns:
            ``Largest`` of [tokens, top_k].
        """
        found = self._accelerator.matmul(self._handle, activations, top_k=self.top_k)
        return self._rescored(activations, found.rows)

    def likeliest(self, activations: np.ndarray, count: int) -> np.ndarray:
        """Logits [tokens, N] float32: the int8 head's for the candidates, else minus infinity.

        Raises:
            HeadError: more are wanted than there are candidates.
        """
        self._check(count)
        found = self.candidates(activations)
        logits = np.full((len(activations), self._handle.matrix.rows), -np.inf, np.float32)
        np.put_along_axis(logits, found.rows.astype(np.int64), found.values, axis=1)
        return logits

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """All logits [tokens, N]: the candidates' from the int8 head, the others' from int4."""
        logits = self._accelerator.matmul(self._handle, activations)
        order = np.argsort(-logits, axis=1, kind="stable")[:, : self.top_k].astype(np.int32)
        found = self._rescored(activations, order)
        np.put_along_axis(logits, found.rows.astype(np.int64), found.values, axis=1)
        if self.observer is not None:
            self.observer(activations, logits)
        return logits

    def _rescored(self, activations: np.ndarray, rows: np.ndarray) -> Largest:
        values = np.empty(rows.shape, np.float32)
        for start in range(0, len(rows), self.tokens):
            part = slice(start, start + self.tokens)
            values[part] = self._rescore(activations[part], rows[part])
        order = np.lexsort((rows, -values), axis=1)
        return Largest(
            np.take_along_axis(values, order, axis=1), np.take_along_axis(rows, order, axis=1)
        )
