"""The trade of bits for quality as a picture: inline SVG, no script, nothing fetched."""

from __future__ import annotations

from host.quantize.budget import Plan

WIDTH, HEIGHT, MARGIN = 640, 300, 50
"""Pixels."""


def trade_plot(plan: Plan) -> str:
    """Divergence left over the average bits, and the budget that was spent; empty without a
    choice."""
    if not plan.trade:
        return ""
    most = plan.trade[0].loss or 1.0

    def place(bits: float, loss: float) -> tuple[float, float]:
        across = MARGIN + (bits - 4) / 4 * (WIDTH - 2 * MARGIN)
        return across, HEIGHT - MARGIN - loss / most * (HEIGHT - 2 * MARGIN)

    points = " ".join("{:.1f},{:.1f}".format(*place(s.bits, s.loss)) for s in plan.trade)
    spent, _ = place(plan.average, 0)
    labels = "".join(
        f"<text x='{place(bits, 0)[0]:.0f}' y='{HEIGHT - MARGIN + 20}' text-anchor='middle'>"
        f"{bits}</text>"
        for bits in range(4, 9)
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' font-size='13'"
        " font-family='sans-serif'>"
        f"<polyline points='{points}' fill='none' stroke='#1f5fa8' stroke-width='2'/>"
        f"<line x1='{spent:.1f}' x2='{spent:.1f}' y1='{MARGIN}' y2='{HEIGHT - MARGIN}'"
        " stroke='#c33' stroke-dasharray='4'/>"
        f"<line x1='{MARGIN}' x2='{WIDTH - MARGIN}' y1='{HEIGHT - MARGIN}'"
        f" y2='{HEIGHT - MARGIN}' stroke='#333'/>{labels}"
        f"<text x='{WIDTH // 2}' y='{HEIGHT - 10}' text-anchor='middle'>average bits of a weight;"
        f" spent: {plan.average:.2f}</text>"
        f"<text x='{MARGIN}' y='{MARGIN - 12}'>divergence expected of int4, nats per token;"
        f" {most:.4f} at int4</text></svg>"
    )
