"""No input makes a parser crash, hang or take memory: damaged files, and texts from hypothesis."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz
from tests.fuzz.parsers import PARSERS, Parser

QUIET = {"accepted", "refused"}

PARAMETERS = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)


@PARAMETERS
def test_damaged_inputs_are_accepted_or_refused(parser: Parser) -> None:
    verdicts = fuzz.run(parser, 60 if parser.expensive else 400, seed=0)
    assert set(verdicts) <= QUIET, dict(verdicts)
    assert verdicts["refused"]


@pytest.mark.parametrize("path", sorted(fuzz.CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_once_was_a_find_is_refused(path: Path, tmp_path: Path) -> None:
    """As it is, not only damaged further."""
    (parser,) = [parser for parser in PARSERS if path.name.startswith(f"{parser.name}-")]
    assert fuzz.judge_one(parser, tmp_path, path.read_bytes()) == "refused"


@PARAMETERS
@settings(max_examples=60, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_accepted_or_refused(parser: Parser, data: bytes, tmp_path: Path) -> None:
    assert fuzz.judge_one(parser, tmp_path, data) in QUIET


def test_a_bad_parser_is_found(tmp_path: Path) -> None:
    """The fuzzer itself: a crash, a large allocation and a bare refusal are told."""

    def crash(path: Path) -> None:
        raise IndexError(path.name)

    def greedy(path: Path) -> bytes:
        return bytes(fuzz.BYTES_MORE + 100_000)

    for read, told in ((crash, "IndexError"), (greedy, "bytes for 3")):
        found = fuzz.judge_one(Parser("bad", read, lambda _folder: []), tmp_path, b"abc")
        assert told in found
