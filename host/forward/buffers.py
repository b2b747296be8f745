"""Where kernels put a matmul's activations and find its results, for each number of tokens.

``Sinks`` and ``Sources`` are arrays for the kernels: entry n - 1 serves a pass of n tokens.
They are made once, when a matrix is loaded; nothing changes them afterwards.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from host.device.commandlist import Command, CommandList
from host.kernels import FINE, Sink, Source, address, library
from host.layout.blockfloat import ActivationError, blocks
from spec import numeric

if TYPE_CHECKING:
    Sinks = ctypes.Array[Sink]
    Sources = ctypes.Array[Source]


def plain_sinks(rows: np.ndarray) -> Sinks:
    """Activations as floats into ``rows`` [M, K] float32."""
    most, columns = rows.shape
    return (Sink * most)(*[Sink(plain=address(rows), columns=columns)] * most)


def plain_sources(rows: np.ndarray) -> Sources:
    """Results as floats in ``rows`` [M, N] float32."""
    most, columns = rows.shape
    one = Source(first=address(rows), tile_rows=columns, tile_tokens=1)
    return (Source * most)(*[one] * most)


def device_sinks(lists: list[CommandList], two_terms: bool) -> Sinks:
    """Activations in block floating point into the buffers of each list's commands."""
    return (Sink * len(lists))(
        *(_sink(prepared.commands, tokens + 1, two_terms) for tokens, prepared in enumerate(lists))
    )


def _sink(commands: tuple[Command, ...], tokens: int, two_terms: bool) -> Sink:
    first, last = commands[0], commands[-1]
    config, matrix = first.matrix.config, first.matrix
    shared = len(commands) == 1  # both terms in one region
    return Sink(
        first=address(first.activations.array),
        second=address(last.activations.array) if two_terms else None,
        stride=first.stride, columns=matrix.columns, ports=config.ports,
        port_bytes=config.port_bytes, spans=matrix.spans, vectors=first.tokens,
        second_slot=tokens if shared else 0,
    )  # fmt: skip


def device_sources(lists: list[CommandList], two_terms: bool) -> Sources:
    """Results in the buffers of each list's commands, both terms to be added."""
    return (Source * len(lists))(
        *(
            _source(prepared.commands, tokens + 1, two_terms)
            for tokens, prepared in enumerate(lists)
        )
    )


def _source(commands: tuple[Command, ...], tokens: int, two_terms: bool) -> Source:
    first, last = commands[0], commands[-1]
    rows = first.matrix.config.tile_rows
    skip = tokens * rows * 4 if len(commands) == 1 else 0
    second = last.results.array[skip:] if two_terms else None
    return Source(
        first=address(first.results.array), second=address(second), tile_rows=rows,
        tile_tokens=first.tokens,
    )  # fmt: skip


def padded(columns: int) -> np.ndarray:
    """Zeros for a row of activations in whole blocks, float32."""
    return np.zeros(blocks(columns) * numeric.BLOCK, np.float32)


def padded_rows(tokens: int, columns: int) -> np.ndarray:
    """Zeros for [tokens] rows of up to ``columns`` activations in whole blocks, float32, flat."""
    return np.zeros(tokens * blocks(columns) * numeric.BLOCK, np.float32)


def put(sinks: Sinks, values: np.ndarray, scratch: np.ndarray) -> None:
    """Writes activations [tokens, K] float32 where a matmul reads them.

    Raises:
        ActivationError: a value that is not finite.
    """
    tokens, columns = values.shape
    values = np.ascontiguousarray(values, np.float32)
    one = sinks[tokens - 1]
    wrong = library().kernels_activations(one, tokens, address(values), address(scratch))
    check_finite(wrong, columns)


def get(sources: Sources, out: np.ndarray) -> np.ndarray:
    """Reads the results of ``len(out)`` tokens into ``out`` [tokens, N] float32; returns it."""
    tokens, columns = out.shape
    library().kernels_results(sources[tokens - 1], tokens, columns, address(out))
    return out


def check_finite(wrong: int, columns: int) -> None:
    """Raises ActivationError when a kernel came upon an activation that is not finite."""
    if wrong != FINE:
        token, column = divmod(wrong, columns)
        raise ActivationError(
            f"activation [{token}, {column}] is infinite or NaN: every activation must be finite;"
            " the weights are damaged, or not those of this model"
        )
