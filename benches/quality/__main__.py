"""``python -m benches.quality MODEL -o DIR``: the tables of docs/quantisation.md for one model.

Every figure is what ``kria-llm eval`` prints as JSON; every checkpoint is one that ``kria-llm
quantize`` (or the library of ``benches.quality.library``) wrote. What is in DIR already is not made
again, so an interrupted run goes on. Prints a table and writes DIR/quality.json.

    python -m benches.quality model.gguf -o quality --library awq/bin/python
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benches.quality.plain import export
from benches.quality.table import markdown
from benches.quality.text import held_out
from host import checkpoint
from host.checkpoint import mixed
from host.quantize import calibration
from spec.files import write_whole

HERE = Path(__file__).parent
TOKENS = 4096
WINDOW = 512
LIBRARY_SEQUENCES = 8
"""Of 512 tokens: the library's search runs a layer's part over them twenty times a scale."""

CHECKPOINTS = {
    "awq": ["--head", "int4"],
    "awq-5.0": ["--head", "int8", "--bits", "5.0"],
}
"""Options of ``kria-llm quantize`` by checkpoint."""


class Bench:
    """One model's figures in one directory."""

    def __init__(self, model: str, folder: Path) -> None:
        self.model, self.folder = model, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.text = held_out(folder)
        self.found: dict[str, Any] = {}

    def evaluate(self, row: str, model: str, *options: str) -> None:
        """Adds the figures of a row, against the reference."""
        path = self.folder / f"eval-{row}.json"
        if not path.is_file():
            command = [model, "--text", str(self.text), "--max-tokens", str(TOKENS), "--json"]
            write_whole(path, _kria("eval", *command, "--window", str(WINDOW), *options))
        self.found[row] = json.loads(path.read_text())
        print(json.dumps({"row": row, **self._brief(row)}), flush=True)

    def compare(self, row: str, model: str, *options: str) -> None:
        """``evaluate`` against the unquantised model."""
        self.evaluate(row, model, "--reference", str(self.folder / "unquantised.ref"), *options)

    def quantise(self, name: str) -> str:
        """A checkpoint of ``CHECKPOINTS``; made if it is not there."""
        folder = self.folder / name
        if not folder.is_dir():
            _kria("quantize", self.model, "-o", str(folder), *CHECKPOINTS[name])
        return str(folder)

    def without_head(self, name: str) -> str:
        """An int4 checkpoint's layers with the unquantised head that it has for other runtimes."""
        folder = self.folder / f"{name}-layers"
        folder.mkdir(exist_ok=True)
        for path in (self.folder / name).glob("*"):
            if path.name == "model.safetensors" and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path.resolve())
            elif path.suffix == ".json":
                write_whole(folder / path.name, path.read_text())
        config = json.loads((folder / "config.json").read_text())
        del config["quantization_config"][mixed.KEY]
        write_whole(folder / "config.json", json.dumps(config))
        return str(folder)

    def library(self, python: str) -> str:
        """The library's checkpoint; made if it is not there."""
        folder = self.folder / "library"
        if not folder.is_dir():
            source = export(self.model, self.folder / "unquantised")
            tokens = calibration.sequences(
                calibration.default_text(), checkpoint.find(source).tokenizer(),
                LIBRARY_SEQUENCES, WINDOW, "the text of the package",
            )  # fmt: skip
            np.save(self.folder / "calibration.npy", tokens)
            command = [python, str(HERE / "library.py"), str(source), str(folder),
                       str(self.folder / "calibration.npy")]  # fmt: skip
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            write_whole(self.folder / "library.json", told.splitlines()[-1])
            for name in ("tokenizer.json", "tokenizer_config.json"):
                write_whole(folder / name, (source / name).read_text())
        return str(folder)

    def _brief(self, row: str) -> dict[str, float]:
        kept = ("perplexity", "perplexity_change", "perplexity_change_se", "kl_mean", "seconds")
        return {name: self.found[row][name] for name in kept if name in self.found[row]}


def _kria(*arguments: str) -> str:
    """What a command of ``kria-llm`` prints."""
    command = [sys.executable, "-m", "host.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.quality", description=__doc__)
    parser.add_argument("model", help="an unquantised model, as for kria-llm quantize")
    parser.add_argument("-o", "--output", type=Path, required=True, help="working directory")
    parser.add_argument("--library", help="the Python that has llm-compressor")
    parser.add_argument(
        "--checkpoints", default=",".join(CHECKPOINTS), help="some of those that are made"
    )
    given = parser.parse_args()
    bench = Bench(given.model, given.output)
    reference = str(bench.folder / "unquantised.ref")
    bench.evaluate("unquantised", given.model, "--unquantised", "--save-reference", reference)
    bench.compare("plain", given.model, "--float")
    names = given.checkpoints.split(",")
    if "awq" in names:
        made, layers = bench.quantise("awq"), bench.without_head("awq")
        bench.compare("awq-layers", layers, "--unquantised")
        bench.compare("awq-int8-head", layers, "--float")
        bench.compare("awq-int4-head", made, "--float", "--head", "int4")
        bench.compare("awq-cpu", layers, "--device", "cpu")
    if "awq-5.0" in names:
        bench.compare("awq-5.0", bench.quantise("awq-5.0"), "--float")
    if given.library:
        bench.compare("library", bench.library(given.library), "--float")
    write_whole(bench.folder / "quality.json", json.dumps(bench.found, indent=2) + "\n")
    print(markdown(bench.found))


if __name__ == "__main__":
    main()
