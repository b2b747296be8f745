"""Damages valid inputs and looks at what the parsers make of them.

A parser may accept an input or refuse it with a ``UserError``; anything else is a find: another
exception, more than ``SECONDS``, or more memory than ``BYTES_PER_BYTE`` times the file's size plus
``BYTES_MORE``. Run by hand for many inputs: ``python -m tests.fuzz.fuzz --inputs 100000``.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path

from spec.errors import UserError
from tests.fuzz.parsers import PARSERS, Parser

SECONDS = 5
BYTES_PER_BYTE = 64
"""JSON of empty lists costs 56 bytes for two."""
BYTES_MORE = 4 << 20

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that once were finds, one file each, named ``<parser>-<what>``."""

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 65535, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1,
           (1 << 64) - 1)  # fmt: skip
TEXTS = (b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'""', b"true", b"18446744073709551616",
         b"[" * 3000, b'{"a":' * 2000, b"0" * 5000, b"\xff\xfe", b"\x00", b"\\ud800")  # fmt: skip


def damaged(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One to four changes of a seed: bits, bytes, numbers, texts, cuts, copies, joins."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        # Headers lie in front: half of all changes go there.
        reach = len(data) if chance.random() < 0.5 else min(len(data), 256)
        at = chance.randrange(reach + 1) if reach else 0
        what = chance.randrange(8)
        if what == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif what == 1 and at < len(data):
            data[at] = chance.randrange(256)
        elif what == 2:
            size = chance.choice((1, 2, 4, 8))
            number = chance.choice(NUMBERS) & ((1 << 8 * size) - 1)
            data[at : at + size] = number.to_bytes(size, "little")
        elif what == 3:
            data[at : at + chance.choice((0, 1, 4))] = chance.choice(TEXTS)
        elif what == 4:
            del data[at:]
        elif what == 5:
            del data[at : at + chance.randrange(1, 40)]
        elif what == 6:
            data[at:at] = data[at : at + chance.randrange(1, 200)]
        else:
            data[at:] = chance.choice(seeds)[at:]
    return bytes(data)


def judge(parser: Parser, path: Path, data: bytes) -> str:
    """``accepted``, ``refused`` or what is wrong with the parser."""
    path.write_bytes(data)

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    tracemalloc.reset_peak()
    start, _ = tracemalloc.get_traced_memory()
    try:
        parser.read(path)
        verdict = "accepted"
    except UserError as error:
        verdict = "refused" if str(error).strip() else "a refusal without a sentence"
    except TimeoutError:
        verdict = f"not done in {SECONDS} s"
    except Exception as error:
        verdict = f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    _, peak = tracemalloc.get_traced_memory()
    allowed = BYTES_PER_BYTE * len(data) + BYTES_MORE
    return verdict if peak - start <= allowed else f"{peak - start} bytes for {len(data)}"


def run(parser: Parser, inputs: int, seed: int, keep: Path | None = None) -> Counter[str]:
    """Verdicts over ``inputs`` damaged inputs; finds are written to ``keep``."""
    chance = random.Random(f"{parser.name} {seed}")
    verdicts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="kria-llm-fuzz-") as name:
        folder = Path(name)
        seeds = parser.seeds(folder)
        seeds += [file.read_bytes() for file in sorted(CORPUS.glob(f"{parser.name}-*"))]
        for found in seeds[:1]:
            assert judge_one(parser, folder, found) == "accepted", parser.name
        tracemalloc.start()
        try:
            for number in range(inputs):
                data = damaged(chance, seeds)
                verdict = judge(parser, folder / f"input{parser.suffix}", data)
                verdicts[verdict] += 1
                if keep is not None and verdict not in ("accepted", "refused"):
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{parser.name}-{seed}-{number}").write_bytes(data)
        finally:
            tracemalloc.stop()
    return verdicts


def judge_one(parser: Parser, folder: Path, data: bytes) -> str:
    """The verdict on one input."""
    tracemalloc.start()
    try:
        return judge(parser, folder / f"input{parser.suffix}", data)
    finally:
        tracemalloc.stop()


def main() -> None:
    """Fuzzes every parser and prints the verdicts."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=100_000, help="over all parsers")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where finds go")
    asked = options.parse_args()
    shares = {parser.name: 1 if parser.expensive else 10 for parser in PARSERS}
    finds = 0
    for parser in PARSERS:
        inputs = -(-asked.inputs * shares[parser.name] // sum(shares.values()))
        started = time.monotonic()
        found = run(parser, inputs, asked.seed, asked.keep)
        finds += inputs - found["accepted"] - found["refused"]
        seconds = round(time.monotonic() - started, 1)
        row = {"parser": parser.name, "inputs": inputs, "seconds": seconds, **found}
        print(json.dumps(row), flush=True)
    sys.exit(bool(finds))


if __name__ == "__main__":
    main()
