"""The plots of docs/sweeps.md."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benches.sweeps import plots

TABLE = """position,tokens,pass_tokens,model,stage,status,prefill_tokens_per_second
0,1,1,small,estimate,ok,10
1,2,1,small,estimate,ok,19.5
2,2,1,large,estimate,infeasible,7
3,1,1,large,estimate,ok,4
4,2,2,small,estimate,ok,99
baseline,2,1,small,estimate,ok,1
"""


def test_lines_have_what_can_be_built_and_was_asked_for(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(TABLE)
    found = plots.lines(plots.PLOTS[2], table)
    assert found == {"small": [(1, 10), (2, 19.5)], "large": [(1, 4)]}
    drawn = ElementTree.fromstring(plots.draw(plots.PLOTS[2], found))
    inside = [one for one in drawn.iter() if one.tag.endswith("polyline")]
    assert [len(str(one.get("points")).split()) for one in inside] == [2, 1]
