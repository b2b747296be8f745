"""Text to token ids and back, from ``tokenizer.json`` or from a GGUF file's metadata.

Both become a ``tokenizers.Tokenizer`` (https://huggingface.co/docs/tokenizers).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers import Tokenizer as Backend

from host.text.sentence import printable
from spec.errors import UserError

MAX_FILE_BYTES = 64 << 20
"""Largest tokenizer.json; those of 262,144 tokens have 33 MB."""

CONTROL, USER_DEFINED = 3, 4
"""``tokenizer.ggml.token_type`` of tokens that are matched as a whole."""

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

PRE_TOKENIZERS = {
    # Every digit alone, then GPT-2's expression (SmolLM's tokenizer.json: Digits, ByteLevel).
    "smollm": (r"\p{N}", True),
    "gpt-2": (None, True),
    "qwen2": (f"{CONTRACTIONS}|{WORDS}|\\p{{N}}|{REST}", False),
    "deepseek-r1-qwen": (f"{CONTRACTIONS}|{WORDS}|\\p{{N}}|{REST}", False),
    "llama-bpe": (f"{CONTRACTIONS}|{WORDS}|\\p{{N}}{{1,3}}|{REST}", False),
}
"""``tokenizer.ggml.pre``: what is split off first, and whether GPT-2's expression follows.
Source: the models' own tokenizer.json files, as llama.cpp's ``llama-vocab.cpp`` names them."""


class TokenizerError(UserError):
    """A tokenizer that is missing, damaged or of an unsupported kind."""

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


class Tokenizer:
    """Encodes and decodes one model's text.

    Args:
        backend: the ``tokenizers`` object.
        start: ids that begin every plain text (BOS), for ``encode(..., start=True)``.
    """

    def __init__(self, backend: Backend, start: Sequence[int] = ()) -> None:
        self._backend = backend
        self.start = list(start)
        added = backend.get_added_tokens_decoder()
        self.special_tokens = {token.content: index for index, token in added.items()}
        """Ids of the tokens that are matched as a whole, by text."""

    @property
    def size(self) -> int:
        """One more than the largest token id."""
        return max(self._backend.get_vocab().values(), default=-1) + 1

    @property
    def json(self) -> str:
        """What ``from_text`` makes the same tokenizer from, with ``start``."""
        return self._backend.to_str()

    def encode(self, text: str, special: bool = True, start: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
            special: texts of special tokens (``<|im_start|>``) become those tokens; if not, they
                are encoded like any other text.
            start: begin with the ids that the model expects before plain text, unless the text
                begins with them.
        """
        self._backend.encode_special_tokens = not special
        ids = self._backend.encode(text, add_special_tokens=False).ids
        if start and self.start and ids[: len(self.start)] != self.start:
            return self.start + ids
        return ids

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """The text of token ids; broken UTF-8 becomes U+FFFD.

        Args:
            special: keep special tokens' texts.
        """
        return self._backend.decode(list(ids), skip_special_tokens=not special)

    def save(self, path: Path) -> None:
        """Writes a ``tokenizer.json`` that ``from_json`` reads; it holds the start ids as well."""
        if self.start:
            names = [str(self._backend.id_to_token(index)) for index in self.start]
            self._backend.post_processor = processors.TemplateProcessing(
                single=[*names, "$A"],
                special_tokens=list(zip(names, self.start)),  # noqa: B905
            )
        self._backend.save(str(path))

    def stream(self) -> TextStream:
        """A decoder for ids that come one at a time."""
        return TextStream(self)


class TextStream:
    """Text from ids one at a time: the pieces put together are ``decode`` of all ids.

    Text is held back while it may be the beginning of a longer character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._told = 0
        """How many of the ids have been told; the ones before them give decoders context."""

    def push(self, token: int) -> str:
        """The text that is complete with this token; often empty, never half a character."""
        self._ids.append(token)
        return self._advance(final=False)

    def finish(self) -> str:
        """What was held back, with U+FFFD for bytes that never became a character."""
        return self._advance(final=True)

    def _advance(self, final: bool) -> str:
        before = self._tokenizer.decode(self._ids[: self._told])
        text = self._tokenizer.decode(self._ids)
        if text.endswith("\ufffd") and not final:
            return ""
        self._ids = self._ids[self._told :]
        self._told = len(self._ids)
        return text[len(before) :]


def from_json(path: Path) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json`` file.

    Raises:
        TokenizerError: missing, too large, or not a tokenizer.
    """
    if not path.is_file():
        raise TokenizerError(
            f"{path} is missing: copy the model's tokenizer.json beside its weights"
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise TokenizerError(f"{path} is larger than {MAX_FILE_BYTES} bytes: not a tokenizer")
    text = path.read_bytes().decode("utf-8", "replace")
    backend = _guarded(lambda: Backend.from_str(text), str(path))
    backend.no_padding()
    backend.no_truncation()
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    start = framed[: framed.index(plain[0])] if plain and plain[0] in framed else []
    return Tokenizer(backend, start)


def from_text(text: str, start: Sequence[int], source: str) -> Tokenizer:
    """The tokenizer of ``Tokenizer.json``.

    Args:
        source: the file's name, for errors.

    Raises:
        TokenizerError: not a tokenizer.
    """
    return Tokenizer(_guarded(lambda: Backend.from_str(text), source), start)


def from_gguf(metadata: dict[str, Any], source: str) -> Tokenizer:
    """The tokenizer in a GGUF file's metadata: byte-level BPE of a known pre-tokenizer.

    Args:
        metadata: the file's keys and values.
        source: the file's name, for errors.

    Raises:
        TokenizerError: another kind of tokenizer, or missing or damaged lists.
    """
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2":
        raise TokenizerError(
            f"{source} has a tokenizer of kind {kind!r}; supported: gpt2 (byte-level BPE)"
        )
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise TokenizerError(f"{source} has the pre-tokenizer {pre!r}; supported: {known}")
    tokens = _strings(metadata, "tokenizer.ggml.tokens", source)
    merges = [merge.partition(" ") for merge in _strings(metadata, "tokenizer.ggml.merges", source)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise TokenizerError(f"{source} is damaged: tokenizer.ggml.tokens has a token twice")
    pairs = [(left, right) for left, _, right in merges]
    ignore = pre == "llama-bpe"
    backend = _guarded(
        lambda: Backend(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=ignore)), source
    )
    backend.pre_tokenizer = _pre_tokenizer(pre)
    backend.decoder = decoders.ByteLevel()
    if pre in ("qwen2", "deepseek-r1-qwen"):
        backend.normalizer = normalizers.NFC()
    _add_special(backend, tokens, metadata.get("tokenizer.ggml.token_type"), source)
    return Tokenizer(backend, _start(metadata, pre, len(tokens)))


def _strings(metadata: dict[str, Any], key: str, source: str) -> list[str]:
    values = metadata.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TokenizerError(f"{source} is damaged: {key} is missing or not a list of strings")
    return values


def _pre_tokenizer(pre: str) -> pre_tokenizers.PreTokenizer:
    pattern, gpt2 = PRE_TOKENIZERS[pre]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2)
    if pattern is None:
        return byte_level
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, byte_level])


def _add_special(backend: Backend, tokens: list[str], kinds: Any, source: str) -> None:
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise TokenizerError(
            f"{source} is damaged: tokenizer.ggml.token_type does not match its {len(tokens)}"
            " tokens"
        )
    pairs = list(zip(tokens, kinds))  # noqa: B905 (equal lengths, checked above)
    control = [
        AddedToken(t, special=True, normalized=False) for t, kind in pairs if kind == CONTROL
    ]
    plain = [
        AddedToken(t, special=False, normalized=False) for t, kind in pairs if kind == USER_DEFINED
    ]
    backend.add_special_tokens([token for token in control if token.content])
    backend.add_tokens([token for token in plain if token.content])


def _start(metadata: dict[str, Any], pre: str, size: int) -> list[int]:
    """BOS, if the model wants it: Llama 3 does unless its file says no, the others do not."""
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    wanted = metadata.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
    return [bos] if wanted is True and isinstance(bos, int) and 0 <= bos < size else []


def _guarded(make: Any, source: str) -> Backend:
    """Runs a constructor of ``tokenizers``; its Rust code panics outside Exception."""
    try:
        return make()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:200]
        raise TokenizerError(f"{source} does not hold a usable tokenizer: {reason}") from None
