"""A plan as one HTML file: bars drawn in SVG, no script, nothing to load."""

from __future__ import annotations

from html import escape

from host.plan.planner import Operation, Plan

WIDTH, BAR, LEFT = 1000, 22, 150
COLOURS = {"fabric": "#4e79a7", "cpu": "#f28e2b"}

STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 1180px; color: #222 }
table { border-collapse: collapse } td, th { padding: 2px 12px; text-align: right }
td:first-child, th:first-child, td:last-child { text-align: left }
svg { width: 100%; height: auto } text { font-size: 12px }
"""


def page(plan: Plan, contexts: dict[int, float]) -> str:
    """The HTML page.

    Args:
        contexts: decoded tokens per second by context.
    """
    title = f"{plan.model} on {plan.config.name}"
    rows = "".join(
        f"<tr><td>{context}</td><td>{speed:.1f}</td></tr>" for context, speed in contexts.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>Modelled: decode"
        f" {plan.decode_tokens_per_second:.1f} tokens/s at {plan.context} positions, prefill"
        f" {plan.prefill_tokens_per_second:.0f} tokens/s of {plan.prompt} tokens. Blue runs on the"
        " fabric, orange on the processor.</p>"
        f"<h2>One decoded token</h2>{_bars(plan.decode)}"
        f"<h2>A pass of {plan.pass_tokens} tokens of the prompt</h2>{_bars(plan.prefill)}"
        f"<h2>Context</h2><table><tr><th>positions</th><th>tokens/s</th></tr>{rows}</table>"
        "</body></html>\n"
    )


def _bars(operations: tuple[Operation, ...]) -> str:
    most = max(one.seconds for one in operations)
    shapes = []
    for index, one in enumerate(operations):
        width = one.seconds / most * (WIDTH - LEFT - 110)
        top = index * BAR
        shapes.append(
            f"<g><title>{escape(one.why)} ({one.label})</title>"
            f'<text x="0" y="{top + 15}">{escape(one.name)} x {one.count}</text>'
            f'<rect x="{LEFT}" y="{top + 3}" width="{width:.1f}" height="{BAR - 6}"'
            f' fill="{COLOURS[one.place]}"/>'
            f'<text x="{LEFT + width + 6:.1f}" y="{top + 15}">{one.seconds * 1e3:.2f} ms</text></g>'
        )
    return f'<svg viewBox="0 0 {WIDTH} {len(operations) * BAR}" role="img">{"".join(shapes)}</svg>'
