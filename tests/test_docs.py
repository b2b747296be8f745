"""The documents stay true: their commands run, their examples hold, their links lead somewhere."""

from __future__ import annotations

import doctest
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import host.cli
import hwgen.cli
from spec import errors

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    path
    for folder in ("", "docs/**/", "benches/", "constraints/")
    for path in ROOT.glob(f"{folder}*.md")
)
README = (ROOT / "README.md").read_text()

VERIFY = "hwgen verify --config tiny --shape 48x256 --tokens 2 --weights int4 --group 64 --seed 1"

COMMANDS = {
    "make demo": "target",
    "make test": "target",
    "make setup": "target",
    "make lint": "target",
    "make test-all": "target",
    "make bench": "target",
    "make baselines": "target",
    "make line-coverage": "target",
    "make help": "run",
    'kria-llm generate "What is the capital of France?" --device cpu --max-tokens 16': "parse",
    "kria-llm pack ./Qwen2.5-0.5B-AWQ -o qwen.image --config kv260": "parse",
    "kria-llm pack --verify qwen.image --against ./Qwen2.5-0.5B-AWQ": "parse",
    'kria-llm generate "Hello" --model qwen.image': "parse",
    "kria-llm eval model.gguf --text news.txt --max-tokens 4096": "parse",
    "kria-llm eval ./Qwen2.5-0.5B --unquantised --text news.txt --save-reference news.ref": "parse",
    "kria-llm eval ./Qwen2.5-0.5B-AWQ --text news.txt --reference news.ref --json": "parse",
    "hwgen bench token --model qwen2.5-0.5b --head int4 --memory ddr4-2133": "parse",
    "hwgen bench matmul --model qwen2.5-0.5b --tokens 8": "parse",
    'kria-llm generate "List the parts of a bicycle." --phrases parts.txt': "parse",
    'kria-llm generate "Count from 1 to 20." --guess off --stop "10"': "parse",
    "kria-llm bench --tasks --head two-step": "parse",
    "hwgen estimate --config kv260": "run",
    "hwgen sweep benches/sweeps/standard.toml -o build/standard": "parse",
    "hwgen sweep benches/sweeps/ports.toml -o build/ports --estimate": "parse",
    "hwgen compare build/standard build/ports": "parse",
    "kria-llm plan qwen2.5-0.5b --config kv260 --context 512": "run",
    "kria-llm quantize model.gguf -o model-awq --group 64 --head int8": "parse",
    "kria-llm eval model-awq --text book.txt --max-tokens 4000 --device cpu": "parse",
    "kria-llm pack model-awq -o model.image --config kv260": "parse",
    "hwgen build --board kv260 -o build/project": "parse",
    "hwgen generate --config tiny -o build/tiny": "run",
    "hwgen build --board kv260 --config tiny -o build/board": "parse",
    "kria-llm quantize ./Qwen2.5-0.5B-Instruct -o qwen-awq": "parse",
    "kria-llm quantize ./Qwen2.5-0.5B-Instruct -o qwen-awq-5 --bits 5.0 --head int4": "parse",
    'kria-llm generate "What is the capital of France?" --model qwen-awq': "parse",
    "python -m package --firmware build/board/firmware/kria-llm-0123456789abcdef -o dist --key"
    " minisign.key": "package",
    "kria-llm firmware status": "run",
    "kria-llm firmware rollback": "parse",
    "kria-llm doctor --device uio": "parse",
    "kria-llm selftest --device uio": "parse",
    'kria-llm generate "What is DDR?" --device uio --check-every 100 --counters run.prom': "parse",
    VERIFY: "run",
}
"""Every command of a ```sh block, and how it is checked. ``run``: it is run and ends with 0.
``package``: tests/package runs such. ``target``: make knows what to do. ``parse``: it needs the
embedded model or minutes, so its command line is parsed (`make demo` and tests/sim/test_bench.py
run such)."""


def documented() -> dict[str, Path]:
    """The commands of all ```sh blocks, one a line, with the document that gives them."""
    found = {}
    for path in DOCUMENTS:
        for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            found |= {line.strip(): path for line in block.splitlines() if line.strip()}
    return found


def checked(how: str) -> list[str]:
    """The commands that are checked in one way."""
    return [command for command, way in COMMANDS.items() if way == how]


def test_every_documented_command_is_checked() -> None:
    assert set(documented()) == set(COMMANDS)


@pytest.mark.parametrize("command", checked("run"))
def test_documented_command_runs(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        run, directory = [program, "--no-print-directory", *arguments], ROOT
    else:
        run, directory = [str(Path(sys.executable).parent / program), *arguments], tmp_path
    done = subprocess.run(run, cwd=directory, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", checked("target"))
def test_documented_target_exists(command: str) -> None:
    done = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "scripts/setup" in done.stdout


def test_unknown_target_is_refused() -> None:
    """The check above can fail."""
    done = subprocess.run(["make", "--dry-run", "tset"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0


@pytest.mark.parametrize("command", checked("parse"))
def test_documented_command_parses(command: str) -> None:
    program, name, *arguments = shlex.split(command)
    module = {"kria-llm": host.cli, "hwgen": hwgen.cli}[program]
    if module is hwgen.cli:
        hwgen.cli.add_installed_commands()
    group = typer.main.get_command(module.app)
    group.commands[name].make_context(name, arguments)


def test_worked_example() -> None:
    failed, attempted = doctest.testfile(
        str(ROOT / "docs/architecture.md"), module_relative=False, verbose=False
    )
    assert attempted > 20
    assert failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(path: Path) -> None:
    """Whatever is written as `spec/...`, `docs/...` and so on is there."""
    names = re.findall(r"`((?:spec|hwgen|sim|host|tests|docs|scripts|constraints)/[\w./-]*)`",
                       path.read_text())  # fmt: skip
    assert [name for name in names if not list(ROOT.glob(name.rstrip("/") + "*"))] == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def test_exit_codes() -> None:
    section = README.split("## Exit codes")[1].split("##")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) ", section, re.MULTILINE)}
    classes = [errors.UserError, *errors.UserError.__subclasses__()]
    ours = {known.exit_code for known in classes if known.__module__ == "spec.errors"}
    assert listed == ours | {0, 130}


def test_modelled_speeds() -> None:
    """The README's modelled row is what ``kria-llm plan`` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "host.cli", "plan", "qwen2.5-0.5b", "--context", "512", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    decode, prefill = (found[f"{phase}_tokens_per_second"] for phase in ("decode", "prefill"))
    assert f"two-step head, 512 positions | {decode:.1f} | {prefill:.0f} |" in README
