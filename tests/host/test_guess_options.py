"""``--guess`` and ``--phrases``: what is read, what is refused."""

from __future__ import annotations

import json

import gguf
import pytest

from host.guess.guesser import Guesser, GuessError, most_guesses
from host.guess.phrases import (
    MAX_PHRASE_BYTES,
    MAX_PHRASE_TOKENS,
    PhraseError,
    encode_phrases,
    read_phrases,
)
from spec.config import KV260, TINY
from tests.host.checkpoint_files import write_gguf
from tests.host.test_cli import assert_sentence, run


class Bytes:
    """A tokenizer of bytes."""

    def encode(self, text: str, special: bool = True, start: bool = False) -> list[int]:
        assert not special and not start
        return list(text.encode())


def test_paragraphs_do_not_follow_each_other(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_bytes("\ufeffDear customer,\r\nthank you.\r\n \t\r\n\n\n  Kind regards  \n".encode())
    assert read_phrases(path) == ["Dear customer,\nthank you.", "  Kind regards  "]
    path.write_text("")
    assert read_phrases(path) == []


def test_guesses_come_from_phrases_and_never_across_them():
    phrases = encode_phrases(Bytes(), ["Yours sincerely", "sin of all"])
    guesser = Guesser(7, None, (), phrases)
    guesser.begin(b"... Yours si")
    assert bytes(guesser.guess(7)) == b"ncerely"
    guesser.learn(list(b"ncerely"), 7)
    assert guesser.guess(7) == []  # the end of a phrase: what follows it in the file is another
    guesser.begin(b"Yours")
    assert bytes(guesser.guess(7)) == b" sincer"


def test_a_new_text_forgets_the_old_one_and_keeps_the_phrases():
    guesser = Guesser(7, None, (), [list(b"abcdef")])
    guesser.begin(b"xyzuvw xyz")
    assert bytes(guesser.guess(3)) == b"uvw"
    guesser.begin(b"xyz")
    assert guesser.guess(3) == []
    guesser.begin(b"zabc")
    assert bytes(guesser.guess(3)) == b"def"


REFUSED = {
    "missing": (None, "cannot be read: No such file"),
    "huge": (b"a" * (MAX_PHRASE_BYTES + 1), f"larger than {MAX_PHRASE_BYTES} bytes"),
    "latin-1": (b"Caf\xe9 au lait", "not UTF-8 text (byte 3)"),
    "utf-16": ("phrase".encode("utf-16"), "not UTF-8"),
    "binary": (b"GGUF\x00\x00\x00", "NUL"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_phrase_file_that_is_no_text_is_one_sentence(tmp_path, case):
    data, words = REFUSED[case]
    path = tmp_path / "phrases.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(PhraseError) as caught:
        read_phrases(path)
    assert words in str(caught.value) and str(path) in str(caught.value)
    if case in ("huge", "binary"):
        assert_sentence(run("generate", "x", "--phrases", str(path)), 2, words)


def test_a_folder_is_no_phrase_file(tmp_path):
    with pytest.raises(PhraseError, match="cannot be read"):
        read_phrases(tmp_path)


def test_as_many_bytes_as_are_allowed_are_read(tmp_path):
    path = tmp_path / "phrases.txt"
    path.write_bytes(b"a" * MAX_PHRASE_BYTES)
    assert read_phrases(path) == ["a" * MAX_PHRASE_BYTES]


def test_too_many_tokens_are_refused():
    """A tokenizer may make a token of each byte."""
    with pytest.raises(PhraseError, match=f"{MAX_PHRASE_TOKENS + 2} tokens"):
        encode_phrases(Bytes(), ["a" * MAX_PHRASE_TOKENS, "bc"])


def test_the_option():
    assert most_guesses("auto", KV260) is None
    assert [most_guesses(text, KV260) for text in ("off", "0", "7")] == [0, 0, 7]
    for text in ("8", "-1", "", "1.5", "99999999999999999999", "AUTO", "²"):
        with pytest.raises(GuessError, match="0 to 7"):
            most_guesses(text, KV260)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--guess", "8"], ["--guess", "'8'", "0 to 7", "kv260"]),
        (["--guess", "2", "--config", "tiny"], ["--guess", "'2'", "0 to 1", "tiny"]),
        (["--guess", "-3"], ["--guess", "'-3'"]),
        (["--guess", "some"], ["auto", "off", "'some'"]),
        (["--stop", ""], ["stop string is empty"]),
    ],
)
def test_bad_options_are_one_sentence(arguments, words):
    assert TINY.tokens == 2
    assert_sentence(run("generate", "x", *arguments), 2, *words)


def test_what_guessing_did_is_told(tmp_path):
    """In the table and in JSON; the text is that without guesses."""
    model = str(write_gguf(tmp_path / "tiny.gguf", "qwen2", gguf.GGMLQuantizationType.Q8_0))
    plain = ["generate", "hello hello", "--model", model, "--max-tokens", "30", "--json"]
    told = {option: json.loads(run(*plain, "--guess", option).stdout)
            for option in ("off", "7", "auto")}  # fmt: skip
    phrases = tmp_path / "phrases.txt"
    phrases.write_text(told["off"]["text"])
    with_phrases = json.loads(run(*plain, "--guess", "7", "--phrases", str(phrases)).stdout)
    assert [told[option]["guess"]["mode"] for option in told] == ["off", "7", "auto"]
    for found in (*told.values(), with_phrases):
        assert found["token_ids"] == told["off"]["token_ids"]
        guess = found["guess"]
        assert guess["guessed"] == guess["accepted"] + guess["refused"]
        assert guess["tokens_per_pass"] == (found["tokens"] - 1) / guess["passes"]
    assert told["off"]["guess"]["guessed"] == 0
    assert with_phrases["guess"]["guessed"] > 0
    text = run(*plain[:-1], "--guess", "7", "--phrases", str(phrases)).stderr
    assert "Guessing (7):" in text and "tokens per pass" in text
