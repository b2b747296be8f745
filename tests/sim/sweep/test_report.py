"""The report opens in a browser, without network and without a word on its console."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from sim.sweep import plan, report, table, tasks
from sim.sweep.progress import Report
from sim.sweep.run import Done, run
from sim.sweep.store import FILE, Store
from sim.sweep.tasks import Row

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

SWEEP = {
    "baseline": "kv260", "constraints": ["utilisation <= 0.7"],
    "grid": {"tile_rows": [32, 64], "tokens": [4, 8, 16], "outstanding": [8, 40],
             "memory": ["ddr4-2133", "ideal"]},
    "stages": {"simulate": {"points": 3}, "synth": {"points": 1}, "build": {"points": 1}},
}  # fmt: skip

STALLS = ("data", "activation", "output", "command")


class Painted:
    """A scheduler whose dear stages are made up: the report's looks are tested, not its figures."""

    def run(self, asked):
        for one in asked:
            if one.stage == "estimate":
                yield tasks.execute(one)
            else:
                yield [self._row(one, point) for point in one.points]

    def _row(self, one, point) -> Row:
        if one.stage == "build":
            return tasks.row(one, point, "not run", "vivado is not on PATH: <b>source</b> it")
        figures = {"lut": 20_000.0, "ff": 20_000.0, "dsp": 520.0, "bram36": 16.0, "uram": 8.0,
                   "utilisation": 0.42, "lut_error": 0.01, "ff_error": 0.0, "depth_rule_met": True,
                   "levels": 3}  # fmt: skip
        if one.stage == "simulate":
            figures = {"decode_cycles": 4_400_000, "prefill_cycles": 3_500_000,
                       "decode_error": 0.012, "prefill_error": -0.02, "shapes": "sampled",
                       "decode_gmac_per_second": 29.0,
                       "prefill_gmac_per_second": 215.0}  # fmt: skip
            figures |= {f"{phase}_stall_{cause}": 0.02 for phase in ("decode", "prefill")
                        for cause in STALLS}  # fmt: skip
        return tasks.row(one, point, "ok", figures=figures)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("sweep")
    with Store(folder / FILE) as store, Report(Console(quiet=True)) as progress:
        return run(plan.from_mapping(SWEEP), store, None, Painted(), progress)


def browse(page: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Opens a page in a browser that reaches nothing else."""
    browser = next((name for name in BROWSERS if shutil.which(name)), None)
    assert browser, "the report's test needs a browser: apt-get install chromium"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        f"--user-data-dir={page.parent / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr", "--v=0", "--window-size=1300,4200",
        "--virtual-time-budget=30000", *arguments, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def spoken(ran: subprocess.CompletedProcess) -> list[str]:
    """What the page wrote to its console."""
    return [line for line in ran.stderr.splitlines() if "CONSOLE" in line]


def test_it_draws_without_network_and_without_errors(done: Done, tmp_path: Path) -> None:
    page = report.write(done, tmp_path)
    assert page.stat().st_size < 5_000_000
    text = page.read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?:https?:)?//""", text.split("packed-plotly")[0])
    drawn = browse(page, "--dump-dom")
    assert spoken(drawn) == []
    assert 'data-ready="yes"' in drawn.stdout
    for plot in ("front", "roofline", "heat", "resources", "stalls", "errors"):
        inside = drawn.stdout.split(f'id="{plot}"', 1)[1][:20_000]
        assert 'class="plot-container' in inside, plot
    assert "<b>source</b>" not in drawn.stdout  # text from a result is text
    assert "&lt;b&gt;source&lt;/b&gt;" in drawn.stdout
    assert drawn.stdout.count("<tr") == 1 + len(done.points)


def test_a_screenshot_shows_colours(done: Done, tmp_path: Path) -> None:
    page = report.write(done, tmp_path)
    picture = tmp_path / "page.png"
    ran = browse(page, f"--screenshot={picture}")
    assert spoken(ran) == []
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 60_000  # an empty page is a tenth of it


def test_the_console_check_can_fail(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><script>missing()</script>")
    assert spoken(browse(page, "--dump-dom"))


def test_large_sweeps_leave_out_what_says_least(
    done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "POINTS_MAX", 8)
    kept = report._selected(done)
    assert len(kept) < len(done.points)
    went_far = {point.key for point in done.points if done.stages_passed(point) > 1}
    assert went_far <= {point.key for point in kept}
    assert "left out of this page" in report.page(done)


def test_simulated_points_have_the_speed_of_their_cycles(done: Done) -> None:
    point = next(p for p in done.points if done.rows["simulate"][p.key].status == "ok")
    processor = done.rows["estimate"][point.key].figures["decode_processor_ms"]
    wanted = 1000 / (4_400_000 / 250_000 + processor)
    assert done.figures(point)["tokens_per_second"] == pytest.approx(wanted, rel=1e-4)
    assert done.figures(point)["lut"] in (20_000.0, done.rows["estimate"][point.key].figures["lut"])


def test_the_table_says_what_became_of_each_point(done: Done, tmp_path: Path) -> None:
    paths = table.write(done, tmp_path)
    lines = paths[0].read_text().splitlines()
    assert len(lines) == 1 + 4 * len(done.points)
    document = json.loads(paths[1].read_text())
    assert document["counts"]["build"] == {"not run": 2, "pruned": len(done.points) - 2}
    assert document["recommended"]["stages"] == ["estimate", "simulate", "synth"]
    reasons = [row["reason"] for row in document["rows"] if row["status"] != "ok"]
    assert all(reasons)
