"""Draws the line plots of docs/sweeps.md from the tables of the ready sweeps.

hwgen sweep benches/sweeps/ports.toml -o build/ports --estimate
hwgen sweep benches/sweeps/clock.toml -o build/clock --estimate
hwgen sweep benches/sweeps/tokens.toml -o build/tokens --estimate
python -m benches.sweeps.plots build docs
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from spec.files import write_whole

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 320, 60, 36, 150, 44
COLOURS = ("#1f6feb", "#d1570a", "#2a8a3e", "#8250df", "#57606a", "#bf3989")


@dataclass(frozen=True)
class Plot:
    """One plot: a figure against an axis, a line for each value of another one."""

    sweep: str
    title: str
    across: str
    up: str
    by: tuple[str, ...]
    only: dict[str, str]


PLOTS = (
    Plot(
        "ports", "Fabric tokens/s by bursts in flight (bursts of 16 beats, tiles of 64)",
        "outstanding", "fabric_tokens_per_second", ("ports",),
        {"burst_beats": "16", "tile_rows": "64", "fifo_beats": "512"},
    ),
    Plot(
        "clock", "Fabric tokens/s by clock in MHz (M = 8)", "clock_mhz",
        "fabric_tokens_per_second", ("memory", "ports"), {"tokens": "8"},
    ),
    Plot(
        "tokens", "Prefill tokens/s by tokens M of a pass", "tokens",
        "prefill_tokens_per_second", ("model",), {"pass_tokens": "1"},
    ),
)  # fmt: skip

Lines = dict[str, list[tuple[float, float]]]


def lines(plot: Plot, table: Path) -> Lines:
    """Points of each line, in order along the axis; infeasible points are left out."""
    found: Lines = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            chosen = all(row[name] == value for name, value in plot.only.items())
            if not chosen or row["status"] != "ok" or row["position"].startswith("base"):
                continue
            name = ", ".join(row[part] if part != "ports" else f"{row[part]} port"
                             + "s" * (row[part] != "1") for part in plot.by)  # fmt: skip
            found.setdefault(name, []).append((float(row[plot.across]), float(row[plot.up])))
    return {name: sorted(set(points)) for name, points in found.items()}


def draw(plot: Plot, drawn: Lines) -> str:
    """The plot as SVG."""
    xs = [x for points in drawn.values() for x, _ in points]
    top = max(y for points in drawn.values() for _, y in points) * 1.05
    low, span = min(xs), max(xs) - min(xs)

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - low) / span * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="13">{plot.title}; modelled</text>',
    ]
    for step in range(5):
        value = top * step / 4
        x, y = at(low, value)
        parts.append(f'<path d="M{x} {y}H{WIDTH - RIGHT}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:.0f}</text>')
    for value in sorted(set(xs)):
        x, y = at(value, 0)
        parts.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle">{value:g}</text>')
    for index, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = TOP + 14 + 18 * index
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{y}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(tables: Path, folder: Path) -> None:
    """Draws ``PLOTS`` from the sweeps' folders in ``tables`` into ``folder``."""
    for plot in PLOTS:
        path = folder / f"sweep-{plot.sweep}.svg"
        write_whole(path, draw(plot, lines(plot, tables / plot.sweep / "results.csv")))
        print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
