"""``hwgen doctor``: what is here is found with its version, what is not comes with the remedy."""

from __future__ import annotations

import json

import pytest

from sim import doctor
from sim.doctor import Tool
from spec.errors import ToolError


def test_this_environment_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.command(as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    found = {tool["name"]: tool for tool in report["tools"]}
    assert found["amaranth"]["version"].startswith("0.5")
    assert found["verilator"]["version"][0].isdigit()
    assert len(found) == len(doctor.TOOLS)
    doctor.command()
    text = capsys.readouterr().out
    assert all(tool.name in text and tool.enables in text for tool in doctor.TOOLS)


@pytest.mark.parametrize(
    "tool",
    [Tool("no-such-program", "nothing", "nowhere", ("--version",)),
     Tool("no-such-package", "nothing", "nowhere"),
     Tool("make", "nothing", "nowhere", ("--version",), (9999,)),
     Tool("pytest", "nothing", "nowhere", minimum=(9999,))],
    ids=["program", "package", "old program", "old package"],
)  # fmt: skip
def test_what_is_missing_or_old_is_told(
    tool: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "TOOLS", (tool,))
    with pytest.raises(ToolError, match=f"missing or too old: {tool.name}") as caught:
        doctor.command()
    assert caught.value.exit_code == 3
    assert "get it: nowhere" in capsys.readouterr().out
