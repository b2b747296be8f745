"""Runs a case of ``hwgen verify`` again: with a trace, to find the divergence, or from a file."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host.device import vectors
from host.device.vectors import Vector
from host.weights import Quantised
from sim import comparison, device, divergence, stages
from sim.cases import Case
from sim.comparison import Report
from sim.divergence import Divergence
from spec.config import Config
from spec.errors import MismatchError
from spec.files import write_whole
from spec.layout import Matrix


@dataclass(frozen=True)
class Asked:
    """One matmul and how it is run."""

    config: Config
    case: Case
    fmt: str
    top_k: int
    stall_seed: int | None = None
    latency: int | None = None
    memory: str = "ideal"
    seed: int | None = None
    """That the operands were drawn from; None where they come from a file."""
    layer: str = ""
    matmul: str = ""
    wanted: np.ndarray | None = None
    """Golden's results when the file was written."""

    @property
    def options(self) -> dict[str, Any]:
        """Of ``sim.device.open``."""
        options: dict[str, Any] = {"memory": self.memory, "stall_seed": self.stall_seed}
        return options if self.latency is None else options | {"latency": self.latency}

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        weights = self.case.weights
        return {
            "shape": [weights.rows, weights.columns], "tokens": self.case.tokens,
            "weights": f"int{weights.bits}", "group": weights.group, "format": self.fmt,
            "seed": self.seed, "stall_seed": self.stall_seed, "top_k": self.top_k or None,
        }  # fmt: skip


def perform(asked: Asked, **more: Any) -> Report:
    """Runs it on the simulated design and on golden; ``more`` as ``sim.device.open``.

    Raises:
        MismatchError: golden gives another result than the file that it comes from.
        DeviceError, LayoutError: as ``sim.comparison.run``.
    """
    report = comparison.run(
        asked.config, asked.case, asked.fmt, asked.top_k, **asked.options | more
    )  # fmt: skip
    if asked.wanted is not None and not np.array_equal(_kept(asked, report.wanted), asked.wanted):
        raise MismatchError(
            "golden gives other results than the file holds: it was written by another version"
        )
    return report


def explain(asked: Asked, report: Report) -> tuple[Divergence | None, Asked]:
    """The first divergence of a case whose results differ (None when a trace shows none), and the
    case that shows it: the failing tile alone, where that still fails.

    Raises:
        DeviceError, ToolError: of the run with a trace.
    """
    asked, first_row = _narrowed(asked, report)
    with tempfile.TemporaryDirectory(prefix="kria-llm-trace-") as directory:
        path = Path(directory) / "divergence.fst"
        traced = perform(dataclasses.replace(asked, wanted=None), trace=path)
        found = divergence.compare(path, _stages(asked, traced), asked.fmt)
    if found is None and (first := traced.first_mismatch) is not None:
        found = Divergence(
            "output", first.get("row", first.get("entry", 0)), first["golden"], first["rtl"],
            first["token"], differing=traced.mismatches,
        )  # fmt: skip
    if found is None:
        return None, asked
    found = dataclasses.replace(found, layer=asked.layer, matmul=asked.matmul)
    return dataclasses.replace(found, row=found.row + first_row), asked


def _stages(asked: Asked, report: Report) -> stages.Wanted:
    """Golden's intermediate values of the case that was run."""
    config = device.simulated(asked.config)
    weights = asked.case.weights
    matrix = Matrix(config, weights.rows, weights.columns, weights.bits, weights.group)

    def read(address: int, count: int) -> np.ndarray:
        start = address - device.MEMORY_BASE
        return report.image[start : start + count]

    return stages.wanted(config, matrix, read, report.fields)


def _narrowed(asked: Asked, report: Report) -> tuple[Asked, int]:
    """The first failing tile alone, if it still fails alone, and its first row."""
    first = report.first_mismatch
    assert first is not None
    size = asked.config.tile_rows
    weights = asked.case.weights
    if asked.top_k or weights.rows <= size or first["row"] >= weights.rows:
        return asked, 0
    start = first["row"] // size * size
    part = slice(start, start + size)
    own = Quantised(
        weights.bits, weights.group, weights.values[part], weights.scales[part],
        None if weights.zeros is None else weights.zeros[part],
    )  # fmt: skip
    case = dataclasses.replace(asked.case, weights=own)
    smaller = dataclasses.replace(asked, case=case, wanted=None)
    return (smaller, start) if perform(smaller).mismatches else (asked, 0)


def _kept(asked: Asked, patterns: np.ndarray) -> np.ndarray:
    """``Report``'s results as a vector holds them: without padding, entries in two words."""
    if asked.top_k:
        halves = [patterns >> np.uint64(32), patterns & np.uint64(0xFFFFFFFF)]
        return np.stack(halves, axis=-1).astype(np.uint32)
    return patterns[:, : asked.case.weights.rows]


def write(asked: Asked, path: Path) -> None:
    """Writes the replay file: a vector with golden's results and how it was run.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(path, vectors.dump(vector(asked)))


def vector(asked: Asked, name: str = "replay") -> Vector:
    """The case as a vector, its results computed by golden."""
    case = asked.case
    plain = Vector(
        name, case.weights, case.bases, case.shifts, case.mantissas, asked.fmt, asked.top_k,
        np.zeros(0), asked.config, asked.stall_seed, asked.latency, asked.memory, asked.layer,
        asked.matmul,
    )  # fmt: skip
    return dataclasses.replace(plain, wanted=golden_results(asked.config, plain))


def golden_results(config: Config, vector: Vector) -> np.ndarray:
    """What a vector's ``wanted`` must be, by the golden device."""
    from host.device.driver import Accelerator, memory_needed
    from sim import golden_device

    config = device.simulated(config)
    size = 2 * memory_needed(config, [vector.weights]) + (1 << 16)
    return vectors.run(Accelerator(golden_device.open(config, size)), vector)


def read(path: Path) -> Asked:
    """The case in a replay or vector file.

    Raises:
        VectorError: no such file, or not one of them, or one for any configuration.
    """
    found = vectors.load(path)
    if found.config is None:
        raise vectors.VectorError(
            f"{path} names no configuration: run it with hwgen vectors --run instead"
        )
    case = Case(found.weights, found.bases, found.shifts, found.mantissas)
    return Asked(
        found.config, case, found.fmt, found.top_k, found.stall_seed, found.latency, found.memory,
        None, found.layer, found.matmul, found.wanted,
    )  # fmt: skip
