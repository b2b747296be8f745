"""Tokenizers from GGUF metadata and from tokenizer.json: the same ids, text comes back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from host import checkpoint, default_model
from host.checkpoint import CheckpointError
from host.text.tokenizer import PRE_TOKENIZERS, Tokenizer, TokenizerError, from_gguf, from_json
from tests.host.checkpoint_files import DENSE, MERGES, SPECIAL, copy, vocabulary

TEXTS = [
    "",
    " ",
    "hello world",
    "hello 12 1212  12,345.6",
    "It's naïve: café — 日本語, 🎉👨‍👩‍👧 \u0000 \r\n\r\n\tdef f(x):\n    return x",
    "ﬁ ½ ٣ Ⅷ 한국어 العربية עברית हिन्दी",
    "<|im_start|>user\nhello<|im_end|>\n",
]


def metadata(pre: str = "smollm", **changes) -> dict:
    tokens = vocabulary()
    values = {
        "model": "gpt2", "pre": pre, "tokens": tokens, "merges": [" ".join(m) for m in MERGES],
        "token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in {**values, **changes}.items()}


def smollm_as_published() -> Backend:
    """The parts that SmolLM2's tokenizer.json names, over the tests' vocabulary."""
    ids = {token: index for index, token in enumerate(vocabulary())}
    backend = Backend(models.BPE(vocab=ids, merges=MERGES))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    return backend


def saved(tmp_path, backend: Backend):
    backend.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("text", TEXTS)
def test_both_sources_agree(tmp_path, text):
    one = from_gguf(metadata(), "x.gguf")
    other = from_json(saved(tmp_path, smollm_as_published()))
    assert one.encode(text) == other.encode(text)
    assert one.special_tokens == other.special_tokens == {"<|endoftext|>": 0} | {
        "<|im_start|>": 1, "<|im_end|>": 2,
    }  # fmt: skip
    assert one.size == other.size == len(vocabulary())


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS[:5])
def test_text_comes_back(pre, text):
    tokenizer = from_gguf(metadata(pre), "x.gguf")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["1", "2", "1", "2", "Ġ", "1", "2"]),
        ("qwen2", ["1", "2", "1", "2", "Ġ", "1", "2"]),
        ("gpt-2", ["12", "12", "Ġ", "12"]),
        ("llama-bpe", ["12", "1", "2", "Ġ", "12"]),
    ],
)
def test_digits_by_pre_tokenizer(pre, pieces):
    """The merge of 1 and 2 happens only where both digits stay together."""
    tokenizer = from_gguf(metadata(pre), "x.gguf")
    ids = tokenizer.encode("1212 12")
    assert [vocabulary()[index] for index in ids] == pieces


def test_special_tokens_are_matched_only_when_asked():
    tokenizer = from_gguf(metadata(), "x.gguf")
    text = "<|im_start|>hello<|im_end|>"
    whole = tokenizer.encode(text)
    assert (whole[0], whole[-1], len(whole)) == (1, 2, 3)
    spelt = tokenizer.encode(text, special=False)
    assert 1 not in spelt and tokenizer.decode(spelt) == text
    assert tokenizer.encode(text) == whole
    assert tokenizer.decode(whole) == "hello" and tokenizer.decode(whole, special=True) == text


def test_start_tokens(tmp_path):
    wanting = from_gguf(metadata(add_bos_token=True), "x.gguf")
    assert wanting.encode("hello", start=True)[0] == 1
    assert wanting.encode("<|im_start|>hello", start=True).count(1) == 1
    assert 1 not in wanting.encode("hello")
    assert from_gguf(metadata("llama-bpe"), "x.gguf").start == [1]
    assert from_gguf(metadata("llama-bpe", add_bos_token=False), "x.gguf").start == []
    assert from_gguf(metadata(), "x.gguf").start == []
    backend = smollm_as_published()
    backend.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert from_json(saved(tmp_path, backend)).start == [1]


TOKENIZER = from_gguf(metadata(), "x.gguf")


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(token) for token in ids), stream.finish()]


@settings(max_examples=200, derandomize=True, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_streams_never_break_a_character(text):
    ids = TOKENIZER.encode(text, special=False)
    pieces = streamed(TOKENIZER, ids)
    assert "".join(pieces) == text
    assert text.count("\ufffd") == sum(piece.count("\ufffd") for piece in pieces)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(ids=st.lists(st.integers(0, len(vocabulary()) - 1), max_size=30))
def test_streams_of_any_ids_are_their_text(ids):
    assert "".join(streamed(TOKENIZER, ids)) == TOKENIZER.decode(ids)


def test_a_character_appears_with_its_last_byte():
    ids = TOKENIZER.encode("a🎉b")
    assert streamed(TOKENIZER, ids) == ["a", "", "", "", "🎉", "b", ""]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "llama"}, "kind 'llama'; supported: gpt2"),
        ({"model": None}, "kind None"),
        ({"pre": "tekken"}, "pre-tokenizer 'tekken'"),
        ({"pre": None}, "pre-tokenizer None"),
        ({"tokens": None}, "tokens is missing"),
        ({"tokens": [1, 2]}, "tokens is missing or not a list of strings"),
        ({"merges": 7}, "merges is missing"),
        ({"merges": ["h e", "not there"]}, "usable tokenizer"),
        ({"merges": ["nospace"]}, "usable tokenizer"),
        ({"token_type": [1]}, "token_type does not match"),
        ({"tokens": ["a", "a"], "token_type": [1, 1]}, "a token twice"),
    ],
)
def test_gguf_tokenizers_that_cannot_be_used_are_refused(changes, words):
    with pytest.raises(TokenizerError, match=words) as refusal:
        from_gguf(metadata() | {f"tokenizer.ggml.{k}": v for k, v in changes.items()}, "x.gguf")
    assert "x.gguf" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"model": {"type": "BPE"}}', '{"a":' * 5000, "\xff\xfe"]
)
def test_files_that_are_no_tokenizer_are_refused(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(TokenizerError, match="usable tokenizer"):
        from_json(path)


def test_a_missing_or_huge_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is missing"):
        from_json(tmp_path / "tokenizer.json")
    monkeypatch.setattr("host.text.tokenizer.MAX_FILE_BYTES", 10)
    with pytest.raises(TokenizerError, match="larger than 10 bytes"):
        from_json(saved(tmp_path, smollm_as_published()))


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = copy(DENSE, tmp_path)
    backend = smollm_as_published()
    saved(folder, backend)
    assert checkpoint.find(folder).tokenizer().encode("hello")
    backend.add_tokens([f"extra{index}" for index in range(100)])
    saved(folder, backend)
    with pytest.raises(CheckpointError, match="they do not belong together"):
        checkpoint.find(folder).tokenizer()


def test_padding_and_truncation_of_the_file_are_not_used(tmp_path):
    backend = smollm_as_published()
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    path = saved(tmp_path, backend)
    assert json.loads(path.read_text())["truncation"]
    assert len(from_json(path).encode("abcdef")) == 6


@pytest.mark.slow
def test_the_default_models_tokenizer():
    """Ids of SmolLM2 that its publisher's tokenizer gives."""
    tokenizer = checkpoint.find(default_model.path()).tokenizer()
    assert tokenizer.encode("<|im_start|>user\n") == [1, 4093, 198]
    assert tokenizer.encode("Hello world!") == [19556, 905, 17]
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text), special=True) == text
