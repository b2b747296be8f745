"""What a quantisation did: matrix by matrix, in bytes, and where the bits went."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from rich.table import Table

from host.layout.compression import COUNTED, PAPER_REDUCTION
from host.quantize.budget import Plan
from host.quantize.dense import MATRICES
from host.quantize.plot import trade_plot
from host.quantize.sequential import Record
from host.weights import Shape

EMBEDDING = (
    "a tied embedding is read from the head's rows, as `kria-llm pack --embedding shared` has it;"
    " the checkpoint keeps it in fp16 for other runtimes"
)
"""What the bytes of a report take for granted."""

BAR = 24
"""Characters of the longest bar of the trade, in a terminal."""


@dataclass(frozen=True)
class Report:
    """One run. Errors are relative squared errors on calibration text, see ``Record``."""

    source: str
    shape: Shape
    request: dict[str, Any]
    calibration_tokens: int
    plan: Plan
    resumed_layers: int
    """Layers taken over from an interrupted run."""
    records: list[Record]
    wall_seconds: float
    """Of this run, not of an interrupted one before it."""
    cpu_seconds: float
    peak_memory: int
    """Of the process, bytes."""

    def bytes_by_kind(self) -> dict[str, int]:
        """Bytes that the runtime keeps (``COUNTED``, ``EMBEDDING``); with an fp16 head, head and
        tied embedding are one table in fp16."""
        shape, group = self.shape, self.request["group"]
        kinds = {"int4 linears": 0, "int8 linears": 0}
        for record in self.records:
            if record.layer < shape.layers:
                size = _weights(shape, record.matrix)
                kinds[f"int{record.bits} linears"] += matrix_bytes(size, record.bits, group)
        table = shape.vocabulary * shape.hidden
        bits = {"fp16": 16, "int8": 8, "int4": 4}[self.request["head"]]
        kinds[f"head {self.request['head']}"] = matrix_bytes(table, bits, group)
        kinds["embedding fp16"] = 0 if shape.tied else 2 * table
        kinds["norms and biases"] = 2 * _vectors(shape)
        return kinds

    def unquantised_bytes(self) -> int:
        """The whole model at 16 bit; a tied embedding counts once."""
        shape = self.shape
        tables = (1 if shape.tied else 2) * shape.vocabulary * shape.hidden
        linears = shape.layers * sum(_weights(shape, name) for name in MATRICES)
        return 2 * (tables + linears + _vectors(shape))

    def saved(self) -> float:
        """Part of the 16-bit bytes that is saved."""
        return 1 - sum(self.bytes_by_kind().values()) / self.unquantised_bytes()

    def stored_bits(self) -> float:
        """Average bits of the layers' weights with scales and zero points."""
        kinds = self.bytes_by_kind()
        linears = kinds["int4 linears"] + kinds["int8 linears"]
        weights = self.shape.layers * sum(_weights(self.shape, name) for name in MATRICES)
        return 8 * linears / weights

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "source": self.source, "request": self.request,
            "calibration_tokens": self.calibration_tokens,
            "resumed_layers": self.resumed_layers,
            "wall_seconds": round(self.wall_seconds, 1), "cpu_seconds": round(self.cpu_seconds, 1),
            "peak_memory": self.peak_memory,
            "bits": {"average": self.plan.average, "stored": self.stored_bits()},
            "bytes": self.bytes_by_kind(), "bytes_16_bit": self.unquantised_bytes(),
            "counts": f"{COUNTED}; {EMBEDDING}",
            "saved": self.saved(), "paper_saved": PAPER_REDUCTION,
            "trade": [asdict(step) for step in self.plan.trade],
            "matrices": [record.as_dict() for record in self.records],
        }  # fmt: skip

    def table(self) -> Table:
        """Sizes and errors by kind of matrix, for a terminal."""
        table = Table(title=f"{self.source}: {100 * self.saved():.1f} % smaller than 16 bit")
        for heading in ("matrix", "int4", "int8", "error of plain rounding", "error", "scales"):
            table.add_column(heading, justify="left" if heading == "matrix" else "right")
        for name in (*MATRICES, "head"):
            some = [record for record in self.records if record.matrix == name]
            if not some:
                continue
            fours = [record for record in some if record.bits == 4]
            table.add_row(
                name, str(len(fours)), str(len(some) - len(fours)),
                f"{_mean([r.plain_error for r in some]):.5f}",
                f"{_mean([r.error for r in some]):.5f}",
                f"{sum(r.strength > 0 for r in some)} of {len(some)}",
            )  # fmt: skip
        return table

    def trade(self) -> Table | None:
        """What each half bit of a budget would buy; None where there was no choice."""
        if not self.plan.trade:
            return None
        table = Table(title="Divergence expected of int4, nats per token")
        for heading in ("average bits", "divergence", "of all int4"):
            table.add_column(heading, justify="right")
        table.add_column("")
        steps = self._milestones()
        nearest = min(steps, key=lambda step: abs(step.bits - self.plan.average))
        for step in steps:
            share = step.loss / (self.plan.trade[0].loss or 1.0)
            bar = "█" * round(BAR * share) + (" <- spent" if step is nearest else "")
            table.add_row(f"{step.bits:.2f}", f"{step.loss:.5f}", f"{100 * share:.1f} %", bar)
        return table

    def lines(self) -> list[str]:
        """The same in sentences."""
        kinds = ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in self.bytes_by_kind().items() if v)
        whole, now = self.unquantised_bytes(), sum(self.bytes_by_kind().values())
        result = [
            f"{now / 1e6:.1f} MB of {whole / 1e6:.1f} MB at 16 bit: {kinds}",
            f"{100 * self.saved():.2f} % saved (the paper saves {100 * PAPER_REDUCTION:.2f} %);"
            f" {self.plan.average:.2f} bits a weight,"
            f" {self.stored_bits():.2f} with scales and zero points",
        ]
        fine = [f"{r.layer} {r.matrix}" for r in self.records if r.bits == 8 and r.matrix != "head"]
        if self.shape.tied and self.request["head"] != "fp16":
            result.append(f"counted: {EMBEDDING}")
        if fine and self.plan.trade:
            result.append(f"int8, by layer: {', '.join(fine)}")
        return result

    def html(self) -> str:
        """One page: sizes, the trade as a plot, and every matrix."""
        rows = "".join(
            f"<tr><td>{r.layer}</td><td>{r.matrix}</td><td>{r.bits}</td><td>{r.method}</td>"
            f"<td>{r.strength:g}</td><td>{r.plain_error:.6f}</td><td>{r.error:.6f}</td></tr>"
            for r in self.records
        )
        paragraphs = "".join(f"<p>{escape(line)}</p>" for line in self.lines())
        return (
            "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>Quantisation</title>"
            "<style>body{font-family:sans-serif;max-width:60em;margin:2em auto}"
            "td,th{padding:0 .8em;text-align:right}</style>"
            f"<h1>{escape(self.source)}</h1>{paragraphs}{trade_plot(self.plan)}"
            "<table><tr><th>layer<th>matrix<th>bits<th>method<th>scales<th>error, plain rounding"
            f"<th>error</tr>{rows}</table></html>\n"
        )

    def _milestones(self) -> list[Any]:
        """The trade at every half bit."""
        found, aim = [], 4.0
        for step in self.plan.trade:
            if step.bits >= aim - 1e-9:
                found.append(step)
                aim = 0.5 * (int(2 * step.bits) + 1)
        return found


def matrix_bytes(weights: int, bits: int, group: int) -> int:
    """Bytes of a matrix: values, fp16 scales, and 4-bit zero points for int4."""
    if bits == 16:
        return 2 * weights
    per_group = 20 if bits == 4 else 16
    return (weights * bits + weights // group * per_group) // 8


def _weights(shape: Shape, matrix: str) -> int:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "qkv": (queries + 2 * keys) * shape.hidden, "output": shape.hidden * queries,
        "gate_up": 2 * shape.intermediate * shape.hidden, "down": shape.hidden * shape.intermediate,
    }[matrix]  # fmt: skip


def _vectors(shape: Shape) -> int:
    biases = (shape.heads + 2 * shape.kv_heads) * shape.head_dim if shape.qkv_bias else 0
    return shape.layers * (2 * shape.hidden + biases) + shape.hidden


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
