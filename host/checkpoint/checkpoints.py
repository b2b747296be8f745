"""The two kinds of checkpoint behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from host.checkpoint import config_json, gguf_file, gguf_model, hf_model, jsonfile, mixed, packing
from host.checkpoint.assemble import build, build_dense
from host.checkpoint.compressed import CompressedSource
from host.checkpoint.errors import CheckpointError
from host.checkpoint.gptq import GptqSource
from host.checkpoint.source import Source
from host.text import tokenizer as tokenizers
from host.text.chat import ChatTemplate
from host.text.tokenizer import Tokenizer
from host.weights import Model, Shape
from spec import numeric

EOS_TEXTS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "</s>")
"""Control tokens that end a text in the supported model families; GGUF names only one of them."""


class Checkpoint(Protocol):
    """A checkpoint whose headers were read; ``model`` reads the tensors."""

    path: Path
    shape: Shape

    def model(self, group: int = 64, head_bits: int = 8) -> Model:
        """The model. ``group`` (32, 64, 128) and ``head_bits`` (4, 8) are for what is rounded
        here: the LM head, and the linears of unquantised and GGUF checkpoints.

        Raises:
            CheckpointError: see ``assemble.build``.
        """

    def dense_model(self) -> Model:
        """The model in floating point, its weights as the file has them: four bytes a weight.

        Raises:
            CheckpointError: see ``assemble.build``.
        """

    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            TokenizerError: missing, damaged or unsupported.
            CheckpointError: it has more tokens than the model.
        """

    def chat(self) -> ChatTemplate:
        """The chat template; without one, a template that passes messages on.

        Raises:
            ChatError: the template is too long.
        """

    def eos_tokens(self) -> frozenset[int]:
        """Tokens that end a text."""


class GgufCheckpoint:
    """A GGUF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = gguf_file.read(path)
        self.shape = gguf_model.shape(self.file)

    def model(self, group: int = 64, head_bits: int = 8) -> Model:
        """See ``Checkpoint.model``."""
        _check_options(group, head_bits)
        source = gguf_model.GgufSource(self.file, self.shape, group)
        return build(self.shape, source, self.eos_tokens(), group, head_bits)

    def dense_model(self) -> Model:
        """See ``Checkpoint.dense_model``."""
        source = gguf_model.GgufSource(self.file, self.shape, 64)
        return build_dense(self.shape, source, self.eos_tokens())

    def tokenizer(self) -> Tokenizer:
        """See ``Checkpoint.tokenizer``."""
        found = tokenizers.from_gguf(self.file.metadata, str(self.path))
        return _fitting(found, self.shape, self.path)

    def chat(self) -> ChatTemplate:
        """See ``Checkpoint.chat``."""
        template = self.file.metadata.get("tokenizer.chat_template")
        return ChatTemplate(
            template if isinstance(template, str) else None,
            bos_token=self._token("tokenizer.ggml.bos_token_id"),
            eos_token=self._token("tokenizer.ggml.eos_token_id"),
        )

    def eos_tokens(self) -> frozenset[int]:
        """See ``Checkpoint.eos_tokens``: those of the metadata and those known by name."""
        metadata = self.file.metadata
        ids = [metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot")]
        tokens = metadata.get("tokenizer.ggml.tokens", [])
        kinds = metadata.get("tokenizer.ggml.token_type", [])
        if isinstance(tokens, list) and isinstance(kinds, list):
            ids += [
                index
                for index, (token, kind) in enumerate(zip(tokens, kinds))  # noqa: B905
                if kind == tokenizers.CONTROL and token in EOS_TEXTS
            ]
        return frozenset(index for index in ids if type(index) is int)

    def _token(self, key: str) -> str:
        """The text of the token whose id is at ``key``; empty if there is none."""
        index, tokens = self.file.metadata.get(key), self.file.metadata.get("tokenizer.ggml.tokens")
        if type(index) is int and isinstance(tokens, list) and 0 <= index < len(tokens):
            return str(tokens[index])
        return ""


class HfCheckpoint:
    """A Hugging Face directory: config.json, safetensors, tokenizer files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = jsonfile.read(path / "config.json")
        self.shape = config_json.shape(self.config, path / "config.json")
        self.tensors = hf_model.tensors(path)
        self.packing = packing.detect(self.config, self.tensors, path)
        """How the linears are packed; None for unquantised tensors."""

    def model(self, group: int = 64, head_bits: int = 8) -> Model:
        """See ``Checkpoint.model``."""
        _check_options(group, head_bits)
        return build(self.shape, self._source(group), self.eos_tokens(), group, head_bits)

    def dense_model(self) -> Model:
        """See ``Checkpoint.dense_model``."""
        return build_dense(self.shape, self._source(64), self.eos_tokens())

    def _source(self, group: int) -> Source:
        """A new reader of the tensors; ``group`` is for those that are rounded here."""
        if self.packing is None:
            return hf_model.DenseSource(self.path, self.tensors, group)
        if self.packing.name == packing.AWQ:
            assert self.packing.group is not None
            modules = mixed.declared(self.config, self.path)
            return hf_model.AwqSource(self.path, self.tensors, self.packing.group, modules)
        kind = CompressedSource if self.packing.name == packing.COMPRESSED else GptqSource
        return kind(self.path, self.tensors, self.packing)

    def tokenizer(self) -> Tokenizer:
        """See ``Checkpoint.tokenizer``."""
        found = tokenizers.from_json(self.path / "tokenizer.json")
        return _fitting(found, self.shape, self.path)

    def chat(self) -> ChatTemplate:
        """See ``Checkpoint.chat``: chat_template.jinja, or tokenizer_config.json's."""
        settings = self._optional("tokenizer_config.json")
        file = self.path / "chat_template.jinja"
        template = settings.get("chat_template")
        if file.is_file() and file.stat().st_size <= jsonfile.MAX_BYTES:
            template = file.read_bytes().decode("utf-8", "replace")
        if isinstance(template, list):  # several, by name
            named = [item for item in template if isinstance(item, dict)]
            template = next((t.get("template") for t in named if t.get("name") == "default"), None)
        return ChatTemplate(
            template if isinstance(template, str) else None,
            bos_token=_text(settings.get("bos_token")),
            eos_token=_text(settings.get("eos_token")),
        )

    def eos_tokens(self) -> frozenset[int]:
        """See ``Checkpoint.eos_tokens``."""
        return config_json.eos_tokens(self.config, self._optional("generation_config.json"))

    def _optional(self, name: str) -> dict[str, Any]:
        file = self.path / name
        return jsonfile.read(file) if file.is_file() else {}


def _text(token: Any) -> str:
    """A special token's text, which is a string or an object with ``content``."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _fitting(found: Tokenizer, shape: Shape, path: Path) -> Tokenizer:
    if found.size > shape.vocabulary:
        raise CheckpointError(
            f"{path}: the tokenizer has {found.size} tokens, the model {shape.vocabulary}: they do"
            " not belong together"
        )
    return found


def _check_options(group: int, head_bits: int) -> None:
    if group not in numeric.GROUPS:
        raise CheckpointError(f"group must be one of {numeric.GROUPS}, got {group}")
    if head_bits not in (4, 8):
        raise CheckpointError(f"head_bits must be 4 or 8, got {head_bits}")
