"""The table of ``benches.quality``: what it derives from the figures of ``kria-llm eval``."""

from __future__ import annotations

from benches.quality.table import LABELS, markdown


def figures(perplexity: float, change: float) -> dict[str, float]:
    """What ``kria-llm eval --json`` says of one row."""
    return {
        "perplexity": perplexity, "perplexity_change": change, "perplexity_change_se": 0.01,
        "kl_mean": 0.125, "top1_agreement": 0.75,
    }  # fmt: skip


def test_recovered_is_the_part_of_the_loss_that_a_row_does_not_have():
    found = {
        "plain": figures(50.0, 0.25), "unquantised": {"perplexity": 40.0},
        "awq-layers": figures(42.5, 0.0625), "library": figures(55.0, 0.375),
    }  # fmt: skip
    rows = {line.split(" | ")[0].strip("| "): line for line in markdown(found).splitlines()[2:]}
    assert list(rows) == [label for name, label in LABELS.items() if name in found]
    cells = rows[LABELS["awq-layers"]].split(" | ")
    assert cells[1:] == ["42.50", "+6.2% ± 1.0%", "75%", "0.1250", "75.0% |"]
    assert rows[LABELS["library"]].split(" | ")[3] == "-50%"
    assert rows[LABELS["plain"]].split(" | ")[3].strip() == ""
