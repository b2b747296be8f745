"""The structures of ``runner.h`` once more, for ctypes; field by field in the same order."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from functools import lru_cache

from host.kernels import REBUILD, library
from host.kernels.structures import _Structure
from spec import registers
from spec.errors import ToolError

ABI = 1
"""Version of the structures, the same as in ``runner.h``."""

COUNTERS = len(registers.COUNTERS)
LANES = 3

DONE = -1
"""Result of a run that came to its end; any other names the step at which it stopped."""

STEPS = (
    "gather", "norm", "last norm", "attend", "swiglu", "activations", "start", "finish", "rescore",
)  # fmt: skip
"""What a step calls, in the order of ``enum step_kind``."""

ON_ENGINE, ON_PROCESSOR, BY_CALLER = range(3)
"""Where a list runs."""

READ = ctypes.CFUNCTYPE(c_int64, c_int32)
WRITE = ctypes.CFUNCTYPE(c_int64, c_int32, c_uint32)
SYNCHRONISE = ctypes.CFUNCTYPE(c_int64, c_int32, c_void_p, c_int64)


class Step(ctypes.Structure):
    """One step of a pass."""

    _fields_ = (("kind", c_int32), ("lane", c_int32), ("call", c_void_p))


class Lane(ctypes.Structure):
    """The tokens of one pass."""

    _fields_ = (
        ("tokens", c_int32), ("first", c_int32), ("count", c_int32), ("reserved", c_int32),
        ("start", c_int64),
    )  # fmt: skip


class Gathering(_Structure):
    """Rows of the embedding into the hidden state."""

    _fields_ = (("table", c_void_p), ("ids", c_void_p), ("hidden", c_void_p))


class Quantising(_Structure):
    """Plain rows into a matmul's activations."""

    _fields_ = (("sinks", c_void_p), ("values", c_void_p), ("scratch", c_void_p))


class Rescoring(_Structure):
    """The rows that the engine chose, computed again from the finer table."""

    _fields_ = (
        ("rescore", c_void_p), ("normed", c_void_p), ("choices", c_void_p), ("logits", c_void_p),
        ("told", c_void_p), ("width", c_int32), ("pairs", c_int32), ("rows", c_int32),
        ("reserved", c_int32),
    )  # fmt: skip


class Span(ctypes.Structure):
    """Bytes in memory."""

    _fields_ = (("start", c_void_p), ("bytes", c_int64))


class Meter(ctypes.Structure):
    """What an operation's lists cost since the last look."""

    _fields_ = (("sums", c_uint64 * COUNTERS), ("commands", c_int64))


class Launch(_Structure):
    """A command list with what has to happen around it."""

    _fields_ = (
        ("image", c_void_p), ("checked", c_void_p), ("image_bytes", c_int64),
        ("address", c_uint64), ("written", c_void_p), ("read", c_void_p), ("matmuls", c_void_p),
        ("costs", c_void_p), ("meter", c_void_p), ("spans_written", c_int32),
        ("spans_read", c_int32), ("commands", c_int32), ("place", c_int32),
    )  # fmt: skip


class Port(_Structure):
    """The engine's registers as the runner reaches them."""

    interrupt: BaseException | None = None
    """Ctrl-C that came while a function of Python's was called."""

    _fields_ = (
        ("window", c_void_p), ("read", READ), ("write", WRITE), ("synchronise", SYNCHRONISE),
        ("list_low", c_int32), ("list_high", c_int32), ("doorbell", c_int32), ("status", c_int32),
        ("counters", c_int32 * COUNTERS), ("busy", c_uint32), ("error", c_uint32),
        ("counted", c_uint32 * COUNTERS), ("running", c_int32), ("patience", c_double),
    )  # fmt: skip


class Runner(_Structure):
    """Steps, and the tokens that they are run for."""

    _fields_ = (
        ("steps", c_void_p), ("port", c_void_p), ("wrong", c_int64), ("count", c_int32),
        ("reserved", c_int32), ("lanes", Lane * LANES),
    )  # fmt: skip


@lru_cache(maxsize=1)
def run() -> ctypes._NamedFuncPointer:
    """``kernels_run(runner, first step)``.

    Raises:
        ToolError: the compiled kernels are missing or of another version.
    """
    loaded = library()
    if loaded.runner_abi() != ABI:
        raise ToolError(f"the compiled kernels are of another version: {REBUILD}")
    function = loaded.kernels_run
    function.restype, function.argtypes = c_int64, [POINTER(Runner), c_int64]
    return function


def synchronises() -> bool:
    """Whether the runner can empty the caches of this processor, or need not."""
    return bool(library().runner_synchronises())
