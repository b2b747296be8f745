"""Signals of a trace of the simulated design, one value per clock cycle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from spec.errors import ToolError

TOP = "TOP.kria_llm."


class Waveform:
    """An FST file that the simulated device wrote.

    Raises:
        ToolError: the reader is not installed, or the file is no trace.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pywellen
        except ModuleNotFoundError:
            raise ToolError(
                "reading a trace needs the package pywellen: install it with"
                " pip install 'kria-llm[simulation]'"
            ) from None
        try:
            self._file = pywellen.Waveform(str(path))
        except Exception as error:  # the reader's own, without a common class
            raise ToolError(f"{path} is not a trace: {error}") from None
        self._signals = {found.full_name: found for found in self._file.all_vars()}
        clock = self._signals.get("TOP.aclk")
        if clock is None:
            raise ToolError(f"{path} is not a trace of the design: it has no clock")
        # Everything has settled when the clock falls; the harness drives inputs just before.
        self._times = np.array([time for time, value in clock.tv if value == 0], np.int64)

    @property
    def cycles(self) -> int:
        """Clock cycles in the trace."""
        return len(self._times)

    def values(self, name: str) -> np.ndarray:
        """A signal by its path below the top, as object [cycles] of ints, 0 before it is known.

        Raises:
            ToolError: the design has no such signal.
        """
        signal = self._signals.get(TOP + name)
        if signal is None:
            raise ToolError(f"the trace has no signal {name}: was it made of this design?")
        changes = [(time, _number(value)) for time, value in signal.tv]
        places = np.array([time for time, _ in changes], np.int64)
        known = np.empty(len(changes) + 1, object)
        known[0], known[1:] = 0, [value for _, value in changes]
        return known[np.searchsorted(places, self._times, side="right")]


def _number(value: int | str) -> int:
    """A value as a number; undefined bits count as zeros."""
    if isinstance(value, int):
        return value
    return int("".join(bit if bit in "01" else "0" for bit in value) or "0", 2)


def fields(values: np.ndarray, width: int, count: int, *, signed: bool = False) -> np.ndarray:
    """Packed fields of ``width`` bits, lowest first: object [..., count] of ints."""
    mask, top = (1 << width) - 1, 1 << (width - 1)
    out = np.empty((*values.shape, count), object)
    for index in range(count):
        part = values >> (width * index) & mask
        out[..., index] = (part ^ top) - top if signed else part
    return out
