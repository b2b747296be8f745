"""The C ABI of the simulated device (sim/harness/harness.cpp) as ctypes sees it."""

from __future__ import annotations

import ctypes
from pathlib import Path

from sim.memory_binding import Ddr4Counters, Ddr4Parameters


class Statistics(ctypes.Structure):
    """``Statistics`` of sim/harness/geometry.hpp."""

    _fields_ = (
        ("bytes_read", ctypes.c_uint64 * 4),
        ("read_bursts", ctypes.c_uint64 * 4),
        ("bytes_written", ctypes.c_uint64),
        ("write_bursts", ctypes.c_uint64),
        ("read_outstanding_max", ctypes.c_uint64),
        ("write_outstanding_max", ctypes.c_uint64),
        ("error_responses", ctypes.c_uint64),
        ("last_activity", ctypes.c_uint64),
    )


def load(path: Path) -> ctypes.CDLL:
    """The C ABI of sim/harness/harness.cpp."""
    library = ctypes.CDLL(str(path))
    u32, u64, handle, text = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("sim_create", handle, (u64, u64, u64, ctypes.POINTER(Ddr4Parameters), u32)),
        ("sim_destroy", None, (handle,)),
        ("sim_reset", None, (handle,)),
        ("sim_cycle", u64, (handle,)),
        ("sim_set_memory", None, (handle, u64, handle, u64)),
        ("sim_add_fault", None, (handle, u64, u32)),
        ("sim_clear_faults", None, (handle,)),
        ("sim_inject", None, (handle, ctypes.c_int, u32, u64, u32, u64)),
        ("sim_clear_injections", None, (handle,)),
        ("sim_write_register", ctypes.c_int, (handle, u32, u32)),
        ("sim_read_register", ctypes.c_int, (handle, u32, ctypes.POINTER(u32))),
        ("sim_step", None, (handle, u64)),
        ("sim_run", ctypes.c_int, (handle, u64, u32, u32, u32)),
        ("sim_statistics", None, (handle, ctypes.POINTER(Statistics))),
        ("sim_ddr4_statistics", ctypes.c_int, (handle, ctypes.POINTER(Ddr4Counters))),
        ("sim_breaches", u64, (handle,)),
        ("sim_first_breach", text, (handle,)),
        ("sim_trace", ctypes.c_int, (handle, text)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
