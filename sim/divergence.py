"""The first divergence: where, in the model's terms, the simulated design leaves golden's path.

The datapath has a fixed latency, so every stage's value for a weights beat stands in its register a
known number of cycles after the beat. The failing case runs once more with a trace (the failing
tile alone, where that still fails), and each stage is compared with golden's, in the order in which
data passes them. The first stage that differs is the culprit: what goes into it was right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim import stages
from sim.stages import Wanted
from sim.waveform import Waveform, fields
from spec import numeric
from spec.config import Config

STAGES = ("nibble", "zero", "product sum", "scale", "accumulator", "rounding", "output")
"""In the order in which data passes them. ``output``: what collects and writes the rounded results
(for top-k also chooses them); every stage before it was right."""

DATAPATH = "engine.datapath."


@dataclass(frozen=True)
class Divergence:
    """The first value that differs from golden's."""

    stage: str
    """One of ``STAGES``."""
    row: int
    """Of the matrix; padding rows of the last tile come after its last one."""
    golden: str
    rtl: str
    token: int | None = None
    """None where the stage is common to all tokens."""
    group: int | None = None
    """Quantisation group along K; None for stages that sum over all of K."""
    element: int | None = None
    """Column of K; for a sum the first of its lanes."""
    differing: int = 0
    """Values of this stage that differ."""
    layer: str = ""
    matmul: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return dataclasses.asdict(self)

    def sentence(self) -> str:
        """For a person."""
        places = [f"layer {self.layer}"] if self.layer else []
        places += [f"matmul {self.matmul}"] if self.matmul else []
        places.append(f"row {self.row}")
        for name in ("group", "element", "token"):
            value = getattr(self, name)
            places += [] if value is None else [f"{name} {value}"]
        return (
            f"first divergence in stage {self.stage!r}: {', '.join(places)}: rtl {self.rtl},"
            f" golden {self.golden}; {self.differing} values of this stage differ"
        )


def compare(path: Path, wanted: Wanted, fmt: str) -> Divergence | None:
    """The first stage of a traced run that differs from golden's; None when none does.

    Args:
        path: the FST file of a run of one matmul command.

    Raises:
        ToolError: the file is no trace of the design.
    """
    trace = Waveform(path)
    config = wanted.matrix.config
    for stage in _stages(trace, config, wanted, fmt):
        if stage is not None:
            return stage
    return None


def _stages(
    trace: Waveform, config: Config, wanted: Wanted, fmt: str
) -> Iterator[Divergence | None]:
    from hwgen.accumulate import Accumulate  # Amaranth: a second that only a failure pays
    from hwgen.dot import Dot
    from hwgen.round import Round
    from hwgen.scale import Scale
    from hwgen.unpack import Unpack

    kinds = trace.values(DATAPATH + "unpack.kind.weights").astype(bool)
    passed = np.flatnonzero(kinds)[: len(wanted.nibbles)]
    count = len(passed)  # a design that hangs or miscounts shows fewer

    def at(name: str, late: int) -> np.ndarray:
        return trace.values(DATAPATH + name)[np.minimum(passed + late, trace.cycles - 1)]

    lanes, subs, tokens = config.lanes, config.subs, wanted.tokens
    zero_lanes = np.repeat(np.arange(subs), config.sub_lanes)

    def per_lane(stage: str, found: np.ndarray, right: np.ndarray) -> Divergence | None:
        wrong = np.argwhere(found != right[:count])
        if not len(wrong):
            return None
        beat, lane = wrong[0]
        row, chunk = wanted.place(int(beat))
        element = wanted.element(chunk, int(lane))
        return Divergence(
            stage, row, str(right[beat, lane]), str(found[beat, lane]), None,
            element // wanted.matrix.group, element, len(wrong),
        )  # fmt: skip

    def per_sub(stage: str, found: np.ndarray, right: np.ndarray) -> Divergence | None:
        found = found.reshape(count, config.tokens, subs)[:, :tokens]
        wrong = np.argwhere(found != right[:count])
        if not len(wrong):
            return None
        beat, token, sub = wrong[0]
        row, chunk = wanted.place(int(beat))
        element = wanted.element(chunk, int(sub) * config.sub_lanes)
        return Divergence(
            stage, row, str(right[beat, token, sub]), str(found[beat, token, sub]), int(token),
            element // wanted.matrix.group, element, len(wrong),
        )  # fmt: skip

    # One cycle after the beat its nibbles and their zeros are held, another later subtracted.
    yield per_lane("nibble", fields(at("unpack.nibbles", 1), 4, lanes), wanted.nibbles)
    held = fields(at("unpack.zero", 1), 4, subs)[:, zero_lanes]
    yield per_lane("zero", held, wanted.zeros)
    late = Unpack.latency
    weights = fields(at("unpack.weights", late), numeric.WEIGHT_BITS, lanes, signed=True)
    yield per_lane("zero", weights, wanted.weights)
    late += Dot.latency(config)
    width = numeric.PRODUCT_FIELD_BITS
    sums = fields(at("dot.sums", late), width, config.tokens * subs, signed=True)
    yield per_sub("product sum", sums, wanted.sums)
    late += Scale.latency
    width = config.accumulator_bits
    terms = fields(at("scale.terms", late), width, config.tokens * subs, signed=True)
    yield per_sub("scale", terms, wanted.terms)

    # Sums and results leave with the last chunk of a tile only.
    last = np.array([wanted.place(beat)[1] == wanted.matrix.chunks - 1 for beat in range(count)])
    passed = passed[last]
    rows = [wanted.place(int(beat))[0] for beat in np.flatnonzero(last)]
    late += Accumulate.latency(config)
    totals = fields(at("accumulate.sums", late), width, config.tokens, signed=True)
    yield _per_row("accumulator", totals[:, :tokens], wanted.totals[rows], rows, str)
    late += Round.latency
    results = fields(at("round.results", late), 32, config.tokens)[:, :tokens]
    right = stages.rounded(wanted.totals[rows], wanted.bases, fmt)
    if fmt == "bf16":  # the lower half is not kept
        results &= 0xFFFF0000
    yield _per_row("rounding", results, right, rows, "{:#010x}".format)


def _per_row(
    stage: str, found: np.ndarray, right: np.ndarray, rows: list[int], told: Callable[[int], str]
) -> Divergence | None:
    """``Divergence`` of values [row, token]."""
    wrong = np.argwhere(found != right)
    if not len(wrong):
        return None
    place, token = wrong[0]
    return Divergence(
        stage, rows[place], told(right[place, token]), told(found[place, token]), int(token),
        differing=len(wrong),
    )  # fmt: skip
