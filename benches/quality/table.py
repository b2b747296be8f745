"""The figures of ``benches.quality`` as a table in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABELS = {
    "unquantised": "unquantised",
    "plain": "plain rounding, int8 head",
    "library": "a library's AWQ, int8 head",
    "awq-layers": "`kria-llm quantize`, fp16 head",
    "awq-int8-head": "the same layers, int8 head",
    "awq-cpu": "the same on the device `cpu`",
    "awq-int4-head": "the same layers, `--head int4`",
    "awq-5.0": "`kria-llm quantize --bits 5.0`, int8 head",
}


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One row for each of ``LABELS`` that was evaluated.

    "Recovered" is the part of plain rounding's loss of perplexity that a row does not have.
    """
    lines = [
        "| | perplexity | change | recovered | KL divergence | same likeliest token |",
        "|---|---|---|---|---|---|",
    ]
    lost = found["plain"]["perplexity"] - found["unquantised"]["perplexity"]
    for row, label in LABELS.items():
        if row not in found:
            continue
        figures = found[row]
        value = figures["perplexity"]
        if row == "unquantised":
            lines.append(f"| {label} | {value:.2f} | | | | |")
            continue
        recovered = (found["plain"]["perplexity"] - value) / lost
        lines.append(
            f"| {label} | {value:.2f} | {figures['perplexity_change']:+.1%} ±"
            f" {figures['perplexity_change_se']:.1%} |"
            f" {'' if row == 'plain' else f'{recovered:.0%}'} | {figures['kl_mean']:.4f} |"
            f" {figures['top1_agreement']:.1%} |"
        )
    return "\n".join(lines)
