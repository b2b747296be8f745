"""Test vectors: one matmul with operands and wanted results in a file, for every level.

The golden model, the simulated Verilog, its gates, the compiled kernels and the board all run the
same file: it holds operands, not packed regions, so it does not depend on ports or tiles. A file is
one JSON object (``FORMAT``); arrays are base64 of their bytes, little endian, in C order. A vector
that once failed also says how it was run, so that the run can be repeated.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host.device.driver import Accelerator
from host.layout import blockfloat
from host.weights import Quantised
from spec import commands, numeric
from spec.config import Config, ConfigError, from_mapping
from spec.errors import UserError
from spec.layout import Matrix

FORMAT = "kria-llm vector 1"

MAX_BYTES = 64 << 20
"""Largest file; one of 16 million weights has 22 MB."""

MAX_WEIGHTS = 1 << 24
"""Most weights of one vector."""

LIMITS = {"rows": (1, 1 << 20), "columns": (32, 32768), "tokens": (1, numeric.MAX_TOKENS)}

TEXTS = ("name", "layer", "matmul", "memory")
"""Fields of text, at most ``MAX_TEXT`` characters."""
MAX_TEXT = 200

LATENCY_MAX = 1_000_000
"""Cycles; most that a recorded memory latency may be."""


class VectorError(UserError):
    """A file that is no test vector; the message says what is wrong with it."""


@dataclass(frozen=True)
class Vector:
    """One matmul: what goes in and what must come out."""

    name: str
    weights: Quantised
    bases: np.ndarray
    """[tokens] int8 token exponents"""
    shifts: np.ndarray
    """[tokens, ceil(K / 64)] uint8 block shifts"""
    mantissas: np.ndarray
    """[tokens, K] int8"""
    fmt: str
    """``fp32`` or ``bf16``"""
    top_k: int
    """Entries per token; 0 for all results."""
    wanted: np.ndarray
    """[tokens, rows] uint32 or uint16 patterns; with ``top_k`` [tokens, top_k, 2] uint32: pattern
    and row."""
    config: Config | None = None
    """Where it was recorded; None for a vector that suits any configuration."""
    stall_seed: int | None = None
    latency: int | None = None
    """Cycles of the ideal memory."""
    memory: str = "ideal"
    layer: str = ""
    matmul: str = ""

    @property
    def tokens(self) -> int:
        """Activation vectors."""
        return len(self.bases)

    def suits(self, config: Config) -> bool:
        """Whether an engine of this configuration can run it."""
        weights = self.weights
        fits = self.tokens <= config.tokens and weights.columns <= config.max_k
        return fits and weights.group >= config.group


def _shapes(head: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each array that a vector of these dimensions has."""
    rows, columns, tokens, group = (head[key] for key in ("rows", "columns", "tokens", "group"))
    arrays = {
        "values": ("|u1" if head["bits"] == 4 else "|i1", (rows, columns)),
        "scales": ("<u2", (rows, columns // group)),
        "bases": ("|i1", (tokens,)),
        "shifts": ("|u1", (tokens, blockfloat.blocks(columns))),
        "mantissas": ("|i1", (tokens, columns)),
        "wanted": ("<u4" if head["format"] == "fp32" else "<u2", (tokens, rows)),
    }
    if head["bits"] == 4:
        arrays["zeros"] = ("|u1", (rows, columns // group))
    if head["top_k"]:
        arrays["wanted"] = ("<u4", (tokens, head["top_k"], 2))
    return arrays


def dump(vector: Vector) -> str:
    """The text of a vector's file."""
    weights = vector.weights
    head: dict[str, Any] = {
        "kind": FORMAT,
        **{key: getattr(vector, key) for key in TEXTS},
        "rows": weights.rows, "columns": weights.columns, "bits": weights.bits,
        "group": weights.group, "tokens": vector.tokens, "format": vector.fmt,
        "top_k": vector.top_k, "stall_seed": vector.stall_seed, "latency": vector.latency,
        "config": vector.config.as_dict() if vector.config else None,
    }  # fmt: skip
    arrays = {
        "values": weights.values, "scales": weights.scales, "zeros": weights.zeros,
        "bases": vector.bases, "shifts": vector.shifts, "mantissas": vector.mantissas,
        "wanted": vector.wanted,
    }  # fmt: skip
    for key, (kind, shape) in _shapes(head).items():
        array = np.asarray(arrays[key])
        view = array.view(np.uint16) if array.dtype == np.float16 else array
        assert view.shape == shape, f"{key} has the shape {view.shape}, not {shape}"
        head[key] = base64.b64encode(view.astype(kind).tobytes()).decode()
    return json.dumps(head, indent=1) + "\n"


def load(path: Path) -> Vector:
    """The vector in a file.

    Raises:
        VectorError: missing, too large, not a vector, or one whose values are out of range.
    """
    if not path.is_file():
        raise VectorError(
            f"there is no vector file {str(path)!r}: give one that was written before"
        )
    if path.stat().st_size > MAX_BYTES:
        raise VectorError(f"{path} is larger than {MAX_BYTES} bytes: not a test vector")
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, name: str) -> Vector:
    """The vector in a file's bytes; ``name`` is for the sentences.

    Raises:
        VectorError: as ``load``.
    """
    try:
        head = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise VectorError(f"{name} is not JSON: give a file of 'hwgen vectors'") from None
    if not isinstance(head, dict) or head.get("kind") != FORMAT:
        raise VectorError(f"{name} is not a test vector: its kind must be {FORMAT!r}")
    try:
        _check_head(head)
        arrays = {
            key: _array(head.get(key), key, kind, shape)
            for key, (kind, shape) in _shapes(head).items()
        }
        _check_values(head, arrays)
        shown = head.get("config")
        config = None if shown is None else _config(shown)
    except VectorError as error:
        raise VectorError(f"{name}: {error}") from None
    weights = Quantised(
        head["bits"], head["group"], arrays["values"], arrays["scales"].view(np.float16),
        arrays.get("zeros"),
    )  # fmt: skip
    bases, shifts, mantissas = (arrays[key] for key in ("bases", "shifts", "mantissas"))
    return Vector(
        head.get("name", ""), weights, bases, shifts, mantissas, head["format"], head["top_k"],
        arrays["wanted"], config, head.get("stall_seed"), head.get("latency"),
        head.get("memory", "ideal"), head.get("layer", ""), head.get("matmul", ""),
    )  # fmt: skip


def _whole(head: dict[str, Any], key: str, low: int, high: int) -> int:
    value = head.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise VectorError(f"{key} must be a whole number in {low}..{high}, got {_short(value)}")
    return value


def _check_head(head: dict[str, Any]) -> None:
    """Everything but the arrays."""
    for key, (low, high) in LIMITS.items():
        _whole(head, key, low, high)
    for key, allowed in (
        ("bits", (4, 8)), ("group", numeric.GROUPS), ("format", tuple(numeric.RESULT_BITS)),
    ):  # fmt: skip
        value = head.get(key)
        if isinstance(value, (bool, list, dict)) or value not in allowed:
            raise VectorError(f"{key} must be one of {allowed}, got {_short(value)}")
    rows, columns = head["rows"], head["columns"]
    if rows * columns > MAX_WEIGHTS:
        raise VectorError(f"a vector has at most {MAX_WEIGHTS} weights, got {rows} x {columns}")
    if columns % head["group"]:
        raise VectorError(f"columns {columns} is not a multiple of the group {head['group']}")
    top_k = _whole(head, "top_k", 0, min(commands.TOP_K_MAX, rows))
    if top_k % 2 or (top_k and head["format"] != "fp32"):
        raise VectorError(f"top_k must be even and of fp32 results, got {top_k}")
    for key, high in (("stall_seed", (1 << 63) - 1), ("latency", LATENCY_MAX)):
        if head.get(key) is not None:
            _whole(head, key, 0, high)
    for key in TEXTS:
        value = head.get(key, "")
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise VectorError(f"{key} must be text of at most {MAX_TEXT} characters")


def _array(text: Any, key: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of base64; its size is checked before it is decoded."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    if not isinstance(text, str) or len(text) != -(-size // 3) * 4:
        raise VectorError(f"{key} must be base64 of {size} bytes, shape {list(shape)}")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise VectorError(f"{key} is not base64") from None
    if len(raw) != size:
        raise VectorError(f"{key} must be base64 of {size} bytes, got {len(raw)}")
    return np.frombuffer(raw, kind).reshape(shape)


def _check_values(head: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Ranges that the engine's number formats ask for."""
    for key, low, high in (
        ("scales", 0, 0x7BFF), ("shifts", 0, numeric.SHIFT_MAX),
        ("bases", numeric.BASE_MIN, numeric.BASE_MAX),
        *((("values", 0, 15), ("zeros", 0, 15)) if head["bits"] == 4 else ()),
    ):  # fmt: skip
        array = arrays[key]
        if array.min() < low or array.max() > high:
            raise VectorError(f"{key} must lie in {low}..{high}")


def _config(shown: Any) -> Config:
    if not isinstance(shown, dict):
        raise VectorError("config must be an object of configuration fields or null")
    try:
        return from_mapping(shown)
    except (ConfigError, TypeError, OverflowError) as error:
        raise VectorError(f"config: {error}") from None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def run(accelerator: Accelerator, vector: Vector) -> np.ndarray:
    """The vector on a device, through the driver.

    Returns:
        What ``wanted`` is compared with, of the same shape and type.

    Raises:
        LayoutError, CommandError: the engine cannot hold it (see ``Vector.suits``).
        DeviceError: the device reported an error or did not end, or its memory is short.
    """
    config, transport = accelerator.config, accelerator.transport
    handle = accelerator.load(vector.weights)
    job = (handle, vector.tokens, vector.top_k) if vector.top_k else (handle, vector.tokens)
    prepared = accelerator.prepare([job])
    command = prepared.commands[0]
    blockfloat.pack_activations(
        config, handle.matrix, vector.bases, vector.shifts, vector.mantissas,
        command.activations.array, command.stride,
    )  # fmt: skip
    transport.flush(command.activations)
    descriptor = commands.pack(commands.matmul(
        handle.matrix, vector.tokens, weights=handle.weights.address, weight_stride=handle.stride,
        activations=command.activations.address, activation_stride=command.stride,
        results=command.results.address, result_format=vector.fmt, top_k=vector.top_k,
    ))  # fmt: skip
    prepared.buffer.array[:] = np.frombuffer(descriptor, np.uint8)
    transport.flush(prepared.buffer)
    accelerator.ring(prepared)
    transport.invalidate(command.results)
    size = commands.result_bytes(handle.matrix, vector.tokens, vector.fmt, vector.top_k)
    raw = command.results.array[:size]
    if vector.top_k:
        return raw.view("<u4").reshape(vector.tokens, vector.top_k, 2).copy()
    return blockfloat.result_patterns(
        config, handle.matrix, vector.tokens, vector.fmt, raw
    ).copy()  # fmt: skip


def difference(vector: Vector, found: np.ndarray) -> dict[str, Any] | None:
    """Token, row (top-k: entry) and both patterns of the first result that is not as wanted."""
    if found.shape == vector.wanted.shape and np.array_equal(found, vector.wanted):
        return None
    token, row, *_ = (int(index) for index in np.argwhere(found != vector.wanted)[0])
    wanted, got = vector.wanted[token, row], found[token, row]
    return {
        "token": token, "entry" if vector.top_k else "row": row,
        "different": int(np.count_nonzero(found != vector.wanted)),
        "wanted": [hex(value) for value in np.atleast_1d(wanted).tolist()],
        "found": [hex(value) for value in np.atleast_1d(got).tolist()],
    }  # fmt: skip


def matrix(config: Config, vector: Vector) -> Matrix:
    """The vector's matrix in an engine's layout.

    Raises:
        LayoutError: the engine cannot hold it.
    """
    weights = vector.weights
    return Matrix(config, weights.rows, weights.columns, weights.bits, weights.group)


def renamed(vector: Vector, name: str) -> Vector:
    """The same vector under another name."""
    return dataclasses.replace(vector, name=name)
