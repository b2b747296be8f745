"""A treemap of resources by module: one HTML file, drawn in SVG, no script, nothing to load."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from hwgen.synthesis.resources import RESOURCES, Counts
from spec.device import Device

WIDTH, HEIGHT = 1180, 420
TITLE = 18
"""Pixels of a module's title bar."""

COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#bab0ac")

STYLE = """
body { font: 14px system-ui, sans-serif; margin: 2em auto; max-width: 1180px; color: #222 }
table { border-collapse: collapse } td, th { padding: 2px 12px; text-align: right }
td:first-child, th:first-child { text-align: left }
svg { width: 100%; height: auto } rect { stroke: #fff } text { font-size: 12px; fill: #fff }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: list[float], box: Box) -> list[Box]:
    """One box per size (descending, positive), areas in proportion, as square as may be.

    Source: Bruls, Huizing, van Wijk, "Squarified Treemaps", 2000.
    """
    boxes: list[Box] = []
    rest = list(sizes)
    scale = box.width * box.height / sum(sizes) if sizes else 0
    while rest:
        side = min(box.width, box.height)
        row = 1
        while row < len(rest) and _worst(rest[: row + 1], side, scale) <= _worst(
            rest[:row], side, scale
        ):
            row += 1
        area = sum(rest[:row]) * scale
        thick = area / side if side else 0
        place = 0.0
        for size in rest[:row]:
            length = size * scale / thick if thick else 0
            if box.width >= box.height:
                boxes.append(Box(box.x, box.y + place, thick, length))
            else:
                boxes.append(Box(box.x + place, box.y, length, thick))
            place += length
        if box.width >= box.height:
            box = Box(box.x + thick, box.y, max(0, box.width - thick), box.height)
        else:
            box = Box(box.x, box.y + thick, box.width, max(0, box.height - thick))
        del rest[:row]
    return boxes


def _worst(row: list[float], side: float, scale: float) -> float:
    """The worst aspect ratio of a row of boxes along ``side``."""
    area = sum(row) * scale
    if not side or not area:
        return float("inf")
    return max(
        max(side**2 * size * scale / area**2, area**2 / (side**2 * size * scale)) for size in row
    )


def page(title: str, modules: dict[str, Counts], device: Device) -> str:
    """The HTML page: a table of totals and a treemap for each resource in use."""
    total = modules[""]
    rows = "".join(
        f"<tr><td>{resource.upper()}</td><td>{total[resource]:,g}</td><td>{limit:,}</td>"
        f"<td>{total[resource] / limit:.1%}</td></tr>"
        for resource, limit in device.limits.items()
    )
    maps = "".join(
        f"<h2>{resource.upper()}: {total[resource]:,g}</h2>{_map(modules, resource)}"
        for resource in RESOURCES
        if total[resource]
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>An estimate by Yosys, for the {device.name}. Point at a box for its figures.</p>"
        f"<table><tr><th>resource</th><th>used</th><th>device</th><th>share</th></tr>{rows}"
        f"</table>{maps}</body></html>\n"
    )


def _map(modules: dict[str, Counts], resource: str) -> str:
    shapes: list[str] = []
    _draw(modules, resource, "", Box(0, 0, WIDTH, HEIGHT), 0, shapes)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(shapes)}</svg>'


def _draw(
    modules: dict[str, Counts], resource: str, module: str, box: Box, level: int, shapes: list[str]
) -> None:
    """A module's box, then its children's in what its title leaves."""
    counts = modules[module]
    label = module.rpartition(".")[2] or "all"
    colour = COLOURS[level % len(COLOURS)]
    shapes.append(
        f'<g><title>{escape(module or "all")}: {counts[resource]:,g}</title><rect x="{box.x:.1f}"'
        f' y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" fill="{colour}"/>'
    )
    if box.width > 8 * len(label) + 8 and box.height > TITLE:
        shapes.append(f'<text x="{box.x + 4:.1f}" y="{box.y + 13:.1f}">{escape(label)}</text>')
    shapes.append("</g>")
    inside = Box(box.x + 2, box.y + TITLE, box.width - 4, box.height - TITLE - 2)
    if inside.width < 4 or inside.height < 4:
        return
    prefix = f"{module}." if module else ""
    children = [
        name for name in modules
        if name and name.startswith(prefix) and "." not in name[len(prefix) :]
        and modules[name][resource]
    ]  # fmt: skip
    children.sort(key=lambda name: (-modules[name][resource], name))
    sizes = [modules[name][resource] for name in children]
    own = counts[resource] - sum(sizes)
    boxes = squarify([*sizes, own] if own > 0 else sizes, inside) if sizes else []
    for name, place in zip(children, boxes, strict=False):
        _draw(modules, resource, name, place, level + 1, shapes)
