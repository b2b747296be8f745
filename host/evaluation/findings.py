"""What ``kria-llm eval`` found, for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from host.evaluation.estimate import METHOD, Estimate
from host.evaluation.head_quality import Agreement
from host.layout import compression
from host.layout.compression import Compression


@dataclass(frozen=True)
class Evaluation:
    """One text through one model."""

    model: str
    device: str
    config: str | None
    """None in floating point."""
    head: str
    text: str
    window: int
    figures: dict[str, Estimate]
    tokens: int
    """Predictions."""
    reference: str | None
    estimator: str
    """What the divergence is taken over."""
    compression: Compression
    notes: dict[str, str]
    seconds: float
    two_step: Agreement | None = None
    """Of a head in two steps with the full one."""

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        shown = self.figures
        values = {name: figure.value for name, figure in shown.items()}
        errors = {f"{name}_se": figure.error for name, figure in shown.items()}
        return {
            **values, **errors, "tokens": self.tokens, "standard_errors": METHOD,
            "device": self.device, "config": self.config, "model": self.model, "head": self.head,
            "text": self.text, "window": self.window,
            "reference": None if self.reference is None else
            {"model": self.reference, "kl": self.estimator},
            "compression": self.compression.as_dict(), "notes": self.notes,
            "seconds": self.seconds,
            "two_step": None if self.two_step is None else self.two_step.as_dict(),
        }  # fmt: skip


def show(found: Evaluation, as_json: bool) -> None:
    """Prints JSON, or the figures and the bytes."""
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
        return
    console = Console()
    console.print(_table(found))
    console.print(compression.table(found.compression))


def _table(found: Evaluation) -> Table:
    """The figures. Fits 80 columns."""
    config = f", configuration {found.config}" if found.config else ""
    notes = [f"Head: {found.head}."]
    notes += [f"{name.capitalize()}: {n}." for name, n in found.notes.items() if name != "head"]
    if found.two_step is not None:
        notes.append(f"Two steps: {found.two_step.sentence()}.")
    if found.reference is not None:
        notes.append(f"Reference: {found.reference}; divergence over: {found.estimator}.")
    result = Table(
        title=f"{found.model}\n{found.device}{config}: {found.tokens:,} predictions of"
        f" {found.text} in windows of {found.window}, {found.seconds:.1f} s",
        caption="\n".join([*notes, f"Standard errors: {METHOD}."]),
        box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left",
    )  # fmt: skip
    result.add_column("")
    result.add_column("value", justify="right")
    result.add_column("standard error", justify="right")
    for name, figure in found.figures.items():
        share = name in ("top1_agreement", "perplexity_change")
        form = "{:.2%}" if share else "{:.5f}" if name.startswith("kl") else "{:.3f}"
        if name == "perplexity_change":
            form = "{:+.2%}"
        label = LABELS[name]
        result.add_row(label, form.format(figure.value), form.format(figure.error).lstrip("+"))
    return result


LABELS = {
    "perplexity": "perplexity",
    "reference_perplexity": "perplexity of the reference",
    "perplexity_change": "change",
    "kl_mean": "KL divergence, mean, nats",
    "kl_p99": "KL divergence, 99th percentile",
    "top1_agreement": "same likeliest token",
}
"""Figures as people read them."""
