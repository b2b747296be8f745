"""``kria-llm quantize`` on the tiny model: what it writes is what it computed, and it survives."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from host import checkpoint
from host.checkpoint import CheckpointError, mixed
from host.cli import app
from host.forward.linear import FloatBackend
from host.forward.model import Transformer
from host.quantize import calibration, run
from host.quantize.calibration import CalibrationError
from host.quantize.dense import DenseModel, QuantiseError
from host.quantize.layer_file import QuantisedLayer
from host.quantize.run import Request, quantise
from host.quantize.stream import Stream
from host.quantize.workplace import MODEL, Workplace
from host.text import tokenizer
from tests.host.checkpoint_files import AWQ, DENSE, as_llama, assert_same, copy, write_gguf

TEXT = "The quick brown fox, hello 12 jumps over the lazy dog. " * 40
REQUEST = Request(group=32, text=TEXT, sequences=6, length=32)


@pytest.fixture(scope="module")
def gguf_model(tmp_path_factory):
    """The tiny model as GGUF: it brings a tokenizer."""
    kind = gguf.GGMLQuantizationType.F16
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", "qwen2", kind)


def request(**changes) -> Request:
    return Request(**{**REQUEST.__dict__, **changes})


def logits(model, tokens) -> np.ndarray:
    return Transformer(model, FloatBackend(), len(tokens)).forward(tokens, all_logits=True)


@pytest.mark.parametrize("bits, head", [(4.0, "int8"), (5.0, "int4"), (8.0, "int8")])
def test_the_checkpoint_gives_the_logits_of_the_quantisers_own_model(
    gguf_model, tmp_path, monkeypatch, bits, head
):
    made: dict[int, QuantisedLayer] = {}
    original = run.LayerQuantiser.quantise

    def keep(self, index, layer, bits):
        made[index], records = original(self, index, layer, bits)
        return made[index], records

    monkeypatch.setattr(run.LayerQuantiser, "quantise", keep)
    source = checkpoint.find(gguf_model)
    quantise(source, request(bits=bits, head=head), tmp_path / "out")
    loaded = checkpoint.find(tmp_path / "out").model(group=32)
    assert loaded.head.bits == int(head[3:])
    for index, layer in enumerate(loaded.layers):
        for name in ("qkv", "output", "gate_up", "down"):
            assert_same(getattr(layer, name), getattr(made[index], name))
    tokens = np.arange(24) + 5
    stream = Stream(source.shape, DenseModel(source).embedding(), tokens[None])
    for index, layer in made.items():
        stream.run(layer.dense(), index)
    normed = stream.hidden / np.sqrt((stream.hidden**2).mean(1, keepdims=True) + 1e-6)
    own = normed * loaded.final_norm @ loaded.head.floats().T
    np.testing.assert_allclose(logits(loaded, tokens), own, rtol=1e-3, atol=1e-3)
    assert (tmp_path / "out" / mixed.FILE).is_file()
    assert not (tmp_path / "out.partial").exists()


def test_the_layers_are_packed_as_autoawq_packs_them(gguf_model, tmp_path):
    """Names, types and shapes are those of the checkpoint that AutoAWQ 0.2.9 made."""
    model = copy(DENSE, tmp_path)
    checkpoint.find(gguf_model).tokenizer().save(model / "tokenizer.json")
    quantise(checkpoint.find(model), request(group=64), tmp_path / "out")
    theirs, ours = load_file(AWQ / "model.safetensors"), load_file(tmp_path / "out" / MODEL)
    assert {name: (data.dtype, data.shape) for name, data in ours.items()} == {
        name: (data.dtype, data.shape) for name, data in theirs.items()
    }


def test_it_is_nearer_to_the_unquantised_model_than_plain_rounding(gguf_model, tmp_path):
    source = checkpoint.find(gguf_model)
    dense = DenseModel(source)
    tokens = source.tokenizer().encode(TEXT[7:300])[:64]
    stream = Stream(source.shape, dense.embedding(), np.array([tokens]))
    for index in range(source.shape.layers):
        stream.run(dense.layer(index), index)
    wanted = stream.hidden
    report = quantise(source, request(head="fp16"), tmp_path / "out")
    distances = {}
    for name, path in (("plain", gguf_model), ("ours", tmp_path / "out")):
        model = checkpoint.find(path).model(group=32)
        stream = Stream(source.shape, model.embedding, np.array([tokens]))
        for index, layer in enumerate(model.layers):
            biased = QuantisedLayer(**{f: getattr(layer, f) for f in layer.__dataclass_fields__})
            stream.run(biased.dense(), index)
        distances[name] = np.linalg.norm(stream.hidden - wanted)
    assert distances["ours"] < 0.8 * distances["plain"]
    assert all(record.error < record.plain_error for record in report.records)


def test_an_interrupted_run_goes_on_and_ends_alike(gguf_model, tmp_path, monkeypatch):
    source = checkpoint.find(gguf_model)
    quantise(source, REQUEST, tmp_path / "whole")
    original = run.LayerQuantiser.quantise

    def stop(self, index, layer, bits):
        if index == 1:
            raise KeyboardInterrupt
        return original(self, index, layer, bits)

    monkeypatch.setattr(run.LayerQuantiser, "quantise", stop)
    with pytest.raises(KeyboardInterrupt):
        quantise(source, REQUEST, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    with pytest.raises(CheckpointError):
        checkpoint.find(tmp_path / "cut.partial")
    with pytest.raises(QuantiseError, match="holds an interrupted run with group = 32"):
        quantise(source, request(group=64), tmp_path / "cut")
    monkeypatch.setattr(run.LayerQuantiser, "quantise", original)
    assert quantise(source, REQUEST, tmp_path / "cut").resumed_layers == 1
    for name in (MODEL, mixed.FILE, "config.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_full_disk_leaves_nothing_that_looks_whole(gguf_model, tmp_path, monkeypatch):
    def full(self, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Workplace, "put_layer", full)
    with pytest.raises(OSError, match="No space left"):
        quantise(checkpoint.find(gguf_model), REQUEST, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_to_go_on(gguf_model, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Workplace, "put_layer", stop)
    (tmp_path / "text.txt").write_text(TEXT)
    arguments = ["quantize", str(gguf_model), "-o", str(tmp_path / "out"), "--group", "32"]
    arguments += ["--calibration", str(tmp_path / "text.txt"), "--sequence", "32"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 130 and "repeat the command" in result.stderr.replace("\n", " ")


def test_llama_directories_and_their_tokenizers_are_handed_on(gguf_model, tmp_path):
    model = as_llama(tmp_path)
    checkpoint.find(gguf_model).tokenizer().save(model / "tokenizer.json")
    quantise(checkpoint.find(model), REQUEST, tmp_path / "out")
    found = checkpoint.find(tmp_path / "out")
    assert found.model().layers[0].qkv_bias is None
    assert found.tokenizer().encode(TEXT) == checkpoint.find(gguf_model).tokenizer().encode(TEXT)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert settings["bits"] == 4 and settings["modules_to_not_convert"] == ["lm_head"]


def test_a_tokenizer_keeps_its_start_through_a_file(gguf_model, tmp_path):
    found = checkpoint.find(gguf_model).tokenizer()
    started = tokenizer.Tokenizer(found._backend, [1])
    started.save(tmp_path / "tokenizer.json")
    assert tokenizer.from_json(tmp_path / "tokenizer.json").start == [1]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"head": "int2"}, "--head must be one of fp16, int8, int4, got 'int2'"),
        ({"bits": 3.0}, "from 4.0 .all int4. to 8.0, got 3"),
        ({"length": 4}, "--sequence must lie in 8..256"),
        ({"text": "too short"}, "fewer than one sequence of 32"),
    ],
)
def test_bad_requests_are_sentences(gguf_model, tmp_path, changes, sentence):
    with pytest.raises((QuantiseError, CalibrationError), match=sentence):
        quantise(checkpoint.find(gguf_model), request(**changes), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_groups_that_do_not_fit_are_refused(gguf_model, tmp_path):
    with pytest.raises(CheckpointError, match="not a multiple of the group 128"):
        quantise(checkpoint.find(gguf_model), request(group=128), tmp_path / "out")


def test_activations_that_overflow_are_named(gguf_model, tmp_path):
    def grow(tensors):
        for name in tensors:
            if name.endswith("layernorm.weight"):
                tensors[name] = np.full_like(tensors[name], 6e4)
            elif name.endswith("_proj.weight"):
                tensors[name] = (tensors[name].astype(np.float32) * 1e30).astype(np.float32)
        return tensors

    model = copy(DENSE, tmp_path, tensors=grow)
    checkpoint.find(gguf_model).tokenizer().save(model / "tokenizer.json")
    with (
        np.errstate(all="ignore"),
        pytest.raises(QuantiseError, match=r"activations .* overflow on the calibration text"),
    ):
        quantise(checkpoint.find(model), REQUEST, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_quantised_model_is_refused(tmp_path):
    with pytest.raises(QuantiseError, match="quantised already"):
        DenseModel(checkpoint.find(AWQ))


def test_a_full_destination_is_refused(gguf_model, tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(QuantiseError, match="is not empty"):
        quantise(checkpoint.find(gguf_model), REQUEST, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("content, sentence", [(b" \n", "is empty"), (b"\xff\xfe", "not UTF-8")])
def test_calibration_files_that_cannot_be_used(tmp_path, content, sentence):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(CalibrationError, match=sentence):
        calibration.read(tmp_path / "text")


def test_the_packages_text_is_long_and_of_many_kinds():
    text = calibration.default_text()
    assert 100_000 <= len(text.encode()) <= 150_000
    assert all(word in text for word in ("def ", "Der alte", "Le marché", "SELECT", "INFO", "?"))


def test_the_command_prints_tables(gguf_model, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    arguments = ["quantize", str(gguf_model), "-o", str(tmp_path / "out"), "--group", "32"]
    arguments += ["--calibration", str(tmp_path / "text.txt"), "--sequence", "32", "--bits", "5.5"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())  # a title as long as a path is broken into lines
    for word in ("gate_up", "% smaller", "<- spent", "the paper saves 55.08 %"):
        assert word in shown, word


def test_the_command_prints_json_and_says_what_it_saved(gguf_model, tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    arguments = [
        "quantize",
        str(gguf_model),
        "-o",
        str(tmp_path / "out"),
        "--group",
        "32",
        "--bits",
    ]
    arguments += ["6", "--calibration", str(tmp_path / "text.txt"), "--sequence", "32", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["bits"]["average"] <= 6 < 4 + report["bits"]["stored"]
    assert report["bytes_16_bit"] == 2 * sum(
        tensor.size for tensor in _unquantised(gguf_model).values()
    )
    page = (tmp_path / "out" / "quantisation.html").read_text()
    assert "<svg" in page and "polyline" in page
    assert json.loads((tmp_path / "out" / "quantisation.json").read_text()) == report


def _unquantised(_) -> dict:
    tensors = load_file(DENSE / "model.safetensors")
    return {name: data for name, data in tensors.items() if name != "lm_head.weight"}
