"""The report of a sweep: one HTML file that needs no network and no server.

Plotly's JavaScript is 4.8 MB; it and the data ride in the page compressed (2 MB) and are unpacked
by the browser's own ``DecompressionStream`` (Chromium 80, Firefox 113, Safari 16.4 and newer).
"""

from __future__ import annotations

import base64
import gzip
import json
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from sim.sweep import prune, table
from sim.sweep.names import METRICS
from sim.sweep.point import Point
from sim.sweep.run import Done, describe, recommend
from spec.device import XCK26
from spec.errors import ToolError

FILE = "report.html"

POINTS_MAX = 4000
"""Points in the page; of a larger sweep those that say most."""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>{style}</style></head><body>
<h1>{title}</h1>
<p>{facts}</p>
<p class="best">{best}</p>
<p class="note">Estimates are modelled; simulated figures are of the generated RTL behind a model of
the memory; resources are modelled or estimated by Yosys; the energy is a proxy of assumed
coefficients. Nothing here was measured on a board.{thinned}</p>
<noscript>The plots need JavaScript; results.csv has the figures.</noscript>
<div id="filters"></div>
<h2>Pareto front</h2>
<p><select id="front-y"></select> against <select id="front-x"></select></p>
<div id="front" class="plot"></div>
<h2>Roofline of the fabric</h2><div id="roofline" class="plot"></div>
<section id="heat-section"><h2>Two parameters</h2>
<p>best <select id="heat-metric"></select> by <select id="heat-x"></select> and
<select id="heat-y"></select></p><div id="heat" class="plot"></div></section>
<h2>Resources</h2><div id="resources" class="plot"></div>
<section id="simulated"><h2>Stalls</h2><p><select id="stall-phase">
<option value="decode">decode</option><option value="prefill">prefill</option></select></p>
<div id="stalls" class="plot"></div>
<h2>Estimate against simulation</h2><div id="errors" class="plot"></div></section>
<h2>All points</h2><p class="note" id="table-count"></p><div id="table"></div>
<script type="text/plain" id="packed-plotly">{plotly}</script>
<script type="text/plain" id="packed-data">{data}</script>
<script>
let DATA;
{script}
async function unpacked(id) {{
  const bytes = Uint8Array.from(atob(byId(id).textContent), (one) => one.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}}
(async () => {{
  DATA = JSON.parse(await unpacked("packed-data"));
  element("script", await unpacked("packed-plotly"), document.head);
  start();
}})();
</script></body></html>
"""


def write(done: Done, directory: Path) -> Path:
    """Writes ``report.html``; it appears whole or not at all.

    Raises:
        ToolError: Plotly is not installed.
        OutputError: the directory cannot take it.
    """
    return table.save(directory, {FILE: page(done)})[0]


def page(done: Done) -> str:
    """The HTML page.

    Raises:
        ToolError: Plotly is not installed.
    """
    points = _selected(done)
    best = recommend(done)
    left_out = len(done.points) - len(points)
    return PAGE.format(
        title=escape(f"Sweep {done.sweep.name}"),
        style=_own("report.css"),
        facts=escape(_facts(done)),
        best=escape(table.lines(done)[-1]),
        thinned=f" {left_out:,} dominated points are left out of this page." if left_out else "",
        plotly=_packed(_plotly()),
        data=_packed(json.dumps(_data(done, points, best)).encode()),
        script=_own("report.js"),
    )


def _data(done: Done, points: list[Point], best: Point | None) -> dict[str, Any]:
    """What report.js draws."""
    sweep = done.sweep
    reference = sweep.reference()
    extra = [name for name in METRICS if name not in sweep.objectives]
    shown = [*sweep.objectives, *extra]
    start = list(sweep.objectives)[:2]
    return {
        **describe(sweep),
        "labels": {stage: table.LABELS[stage] for stage in done.rows},
        "units": {name: table.unit(name) for name in METRICS},
        "best": {name: metric.best for name, metric in METRICS.items()} | dict(sweep.objectives),
        "shown": shown,
        "start": start if len(start) == 2 else [*start, "lut"][:2],
        "limits": XCK26.limits, "device": XCK26.name, "total": len(done.points),
        "points": [
            _point(done, point) | {
                "recommended": best is not None and point.key == best.key,
                "baseline": reference is not None and point.key == reference.key,
            }
            for point in points
        ],
    }  # fmt: skip


def _point(done: Done, point: Point) -> dict[str, Any]:
    rows = {stage: by_key[point.key] for stage, by_key in done.rows.items()}
    reasons = [f"{stage}: {row.reason}" for stage, row in rows.items() if row.reason]
    own = vars(point.config) | vars(point.workload)
    return {
        "position": point.position,
        "values": {axis.name: point.values.get(axis.name, own[axis.name])
                   for axis in done.sweep.axes},
        "status": {stage: row.status for stage, row in rows.items()},
        "reason": reasons[0] if reasons else "",
        "figures": done.figures(point),
        "estimated": dict(rows["estimate"].figures),
        "simulated": done.stage_figures(point, "simulate") if "simulate" in rows else {},
    }  # fmt: skip


def _selected(done: Done) -> list[Point]:
    """All points, or those that went far, the Pareto front, and others evenly."""
    if len(done.points) <= POINTS_MAX:
        return done.points
    keys = {
        point.key for point in done.points if point.position < 0 or done.stages_passed(point) > 1
    }
    able = [point for point in done.points if done.rows["estimate"][point.key].status == "ok"]
    if able:
        values = prune.matrix([done.figures(point) for point in able], done.sweep.objectives)
        keys |= {able[index].key for index in prune.front(values)[: POINTS_MAX // 2]}
    step = -(-len(done.points) // (POINTS_MAX // 2))
    keys |= {point.key for point in done.points[::step]}
    return [point for point in done.points if point.key in keys]


def _facts(done: Done) -> str:
    sweep = done.sweep
    work = ", ".join(f"{name} {value}" for name, value in vars(sweep.workload).items())
    return f"{len(done.points):,} points, mode {sweep.mode}, seed {sweep.seed}; {work}."


def _plotly() -> bytes:
    """Plotly's JavaScript, from its Python package."""
    try:
        return (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ToolError(
            "the report needs the package plotly: pip install 'kria-llm[sweep]' and run the same"
            " command again; the results are kept"
        ) from None


def _own(name: str) -> str:
    return (resources.files("sim.sweep") / name).read_text()


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
