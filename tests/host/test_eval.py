"""``kria-llm eval``: figures, standard errors, saved references, bytes; and what it refuses."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from host.evaluation.estimate import RESAMPLES, estimate
from host.evaluation.evaluate import (
    EvaluationError,
    LiveReference,
    Scores,
    log_probabilities,
    predictions,
    score,
)
from host.evaluation.reference import ReferenceWriter, SavedReference
from host.forward.linear import FloatBackend
from host.forward.model import Transformer
from host.layout import compression
from host.weights import Layer, Model, Quantised, Shape
from tests.host.checkpoint_files import write_gguf
from tests.host.test_cli import assert_sentence, run
from tests.host.tiny_model import random_model, shape

TOKENS = np.random.default_rng(3).integers(0, 80, 100).tolist()


def transformer(seed: int, **changes) -> Transformer:
    return Transformer(random_model(seed, shape(**changes)), FloatBackend(8), 64)


def test_divergence_by_hand():
    """Two outcomes: p = (1/2, 1/2), q = (1/4, 3/4)."""
    q, p = np.log([[0.25, 0.75]]), np.log([[0.5, 0.5]])
    np.testing.assert_allclose(
        np.exp(log_probabilities(q.astype(np.float32))), [[0.25, 0.75]], 1e-6
    )
    wanted = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert (np.exp(p) * (p - q)).sum() == pytest.approx(wanted)


@pytest.mark.parametrize(("count", "window"), [(2, 2), (100, 7), (100, 64), (3, 2)])
def test_every_token_but_each_windows_first_is_predicted(count, window):
    tokens = list(range(count))
    wanted = sum(len(tokens[first : first + window]) - 1 for first in range(0, count, window))
    assert predictions(tokens, window) == wanted
    assert len(score(transformer(1, vocabulary=128), None, tokens, window).losses) == wanted


def test_scores_follow_the_slow_way():
    one, two = transformer(1), transformer(2)
    found = score(one, LiveReference(two), TOKENS[:20], window=20)
    one.reset(), two.reset()
    logits = [
        model.forward(TOKENS[:19], all_logits=True).astype(np.float64) for model in (one, two)
    ]
    for position in range(19):
        q, p = (np.exp(row[position]) / np.exp(row[position]).sum() for row in logits)
        assert found.losses[position] == pytest.approx(-np.log(q[TOKENS[position + 1]]), rel=1e-5)
        assert found.reference_losses[position] == pytest.approx(
            -np.log(p[TOKENS[position + 1]]), rel=1e-5
        )
        assert found.divergences[position] == pytest.approx((p * np.log(p / q)).sum(), rel=1e-4)
        assert found.agreements[position] == float(q.argmax() == p.argmax())


def test_standard_error_of_independent_values():
    """Blocks of what is independent: the textbook's standard error, within the bootstrap's own."""
    random = np.random.default_rng(1)
    values = random.normal(size=4000)
    scores = Scores(values, values * 0 + 1, values**2, (values > 0).astype(float), values)
    found = estimate(scores)
    assert found["kl_mean"].error == pytest.approx(np.std(values**2) / np.sqrt(4000), rel=0.15)
    assert found["top1_agreement"].error == pytest.approx(0.5 / np.sqrt(4000), rel=0.15)
    assert found["kl_p99"].value == np.quantile(values**2, 0.99)
    assert found["perplexity"].value == np.exp(values.mean())


def test_standard_error_sees_dependence():
    """Runs of 32 equal values hold a 32nd of the information."""
    values = np.repeat(np.random.default_rng(2).normal(size=400), 32)
    scores = Scores(values, values, values, values, values)
    assert estimate(scores, RESAMPLES // 2)["kl_mean"].error > 3 * np.std(values) / np.sqrt(12800)


@pytest.mark.parametrize("count", [2, 23, 40])
def test_short_texts_have_an_error_too(count):
    values = np.random.default_rng(4).normal(size=count)
    scores = Scores(values, values, values, values, values)
    assert estimate(scores, 100)["perplexity"].error > 0.01


def test_paired_texts_cancel():
    losses = np.random.default_rng(3).normal(3, 2, 2000)
    scores = Scores(losses + 0.01, losses, losses, losses * 0, losses)
    found = estimate(scores, 200)
    assert found["perplexity_change"].value == pytest.approx(np.exp(0.01) - 1)
    assert found["perplexity_change"].error < 1e-9 < found["perplexity"].error


@pytest.mark.parametrize("vocabulary", [80, 700])
def test_a_saved_reference_gives_the_same_figures(tmp_path, vocabulary):
    """Exactly where all tokens are held; without bias where 512 of 700 are."""
    one, two = (transformer(seed, vocabulary=vocabulary) for seed in (1, 2))
    writer = ReferenceWriter("two", TOKENS, 30)
    live = score(one, LiveReference(two, writer.record), TOKENS, 30)
    writer.save(tmp_path / "two.ref")
    saved = score(one, SavedReference(tmp_path / "two.ref", TOKENS, 30), TOKENS, 30)
    np.testing.assert_array_equal(saved.losses, live.losses)
    np.testing.assert_allclose(saved.reference_losses, live.reference_losses, rtol=1e-6)
    np.testing.assert_array_equal(saved.agreements, live.agreements)
    if vocabulary == 80:
        np.testing.assert_allclose(saved.divergences, live.divergences, rtol=1e-5)
    else:  # a fifth of the probability is sampled
        np.testing.assert_allclose(saved.divergences, live.divergences, rtol=0.3)
        assert saved.divergences.mean() == pytest.approx(live.divergences.mean(), rel=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["two.ref"]


@pytest.fixture
def saved(tmp_path):
    """A reference of 30 tokens."""
    writer = ReferenceWriter("a model", TOKENS[:30], 30)
    score(transformer(2), None, TOKENS[:30], 30, writer.record)
    writer.save(tmp_path / "a.ref")
    return tmp_path / "a.ref"


def test_a_reference_of_something_else_is_refused(saved):
    with pytest.raises(EvaluationError, match="another text"):
        SavedReference(saved, TOKENS[1:31], 30)
    with pytest.raises(EvaluationError, match="--window 30"):
        SavedReference(saved, TOKENS[:30], 29)
    with pytest.raises(EvaluationError, match="has 96 tokens and the reference 80"):
        score(
            transformer(1, vocabulary=96), SavedReference(saved, TOKENS[:30], 30), TOKENS[:30], 30
        )


CHANGES = {
    "NaN": lambda t: t | {"log_probabilities": t["log_probabilities"] * np.float32(np.nan)},
    "positive": lambda t: t | {"log_probabilities": -t["log_probabilities"]},
    "ids": lambda t: t | {"ids": t["ids"] + 80},
    "negative ids": lambda t: t | {"ids": t["ids"] - 80},
    "fewer": lambda t: t | {"losses": t["losses"][:-1]},
    "flat": lambda t: t | {"ids": t["ids"].reshape(-1)},
    "wide": lambda t: t | {"losses": t["losses"].astype(np.float64)},
    "samples": lambda t: t | {"samples": t["samples"] + 80},
    "fewer samples": lambda t: t | {"sampled": t["sampled"][:, :-1].copy()},
    "missing": lambda t: {key: value for key, value in t.items() if key != "rest"},
    "unknown": lambda t: t | {"about": np.frombuffer(b'{"format": "other"}', np.uint8)},
    "not JSON": lambda t: t | {"about": np.frombuffer(b"[" * 9999, np.uint8)},
    "typed": lambda t: (
        t | {"about": np.frombuffer(t["about"].tobytes().replace(b"80", b'""'), np.uint8)}
    ),
    "none": lambda t: {"other": np.zeros(3, np.float32)},
}


@pytest.mark.parametrize("case", CHANGES)
def test_damaged_references_are_refused(saved, case):
    save_file(CHANGES[case](load_file(saved)), saved)
    with pytest.raises(EvaluationError, match=r"is damaged|is not a reference"):
        SavedReference(saved, TOKENS[:30], 30)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_truncated_references_are_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(EvaluationError, match="not a reference"):
        SavedReference(saved, TOKENS[:30], 30)


def test_a_reference_too_long_is_refused():
    with pytest.raises(EvaluationError, match="--max-tokens"):
        ReferenceWriter("long", [0] * 100_000, 30)


def test_overflowing_activations_are_told():
    model = random_model(1, shape())
    model.final_norm[:] = 1e38
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(EvaluationError, match="overflow"),
    ):
        score(Transformer(model, FloatBackend(), 64), None, TOKENS[:10])


def matrix(rows: int, columns: int, bits: int, group: int) -> Quantised:
    """A matrix whose numbers do not matter; views of one zero."""

    def zero(dtype, *dimensions):
        return np.broadcast_to(np.zeros(1, dtype), dimensions)

    zeros = zero(np.uint8, rows, columns // group) if bits == 4 else None
    return Quantised(bits, group, zero(np.uint8 if bits == 4 else np.int8, rows, columns),
                     zero(np.float16, rows, columns // group), zeros)  # fmt: skip


@pytest.mark.parametrize(("head_bits", "least"), [(8, 0.66), (4, 0.73)])
def test_qwen_is_as_small_as_promised(head_bits, least):
    """Qwen2.5-0.5B, group 64, one table for embedding and head: 988 MB in 16 bits."""
    dimensions = Shape("qwen2", 896, 24, 14, 2, 64, 4864, 151936, 32768, 1e-6, 1e6, qkv_bias=True)
    norm = np.zeros(896, np.float32)
    layer = Layer(norm, matrix(1152, 896, 4, 64), np.zeros(1152, np.float32),
                  matrix(896, 896, 4, 64), norm, matrix(9728, 896, 4, 64),
                  matrix(896, 4864, 4, 64))  # fmt: skip
    table = matrix(151936, 896, head_bits, 64)
    model = Model(dimensions, rows_of(table), [layer] * 24, norm, table, frozenset(), "Qwen")
    found = compression.compression(model)
    assert found.sixteen_bit == pytest.approx(988e6, rel=1e-3)
    assert found.second_table == 0
    assert found.reduction(found.total) >= least
    assert found.as_dict()["reduction"] > found.as_dict()["paper_reduction"]


def rows_of(table):
    from host.forward.two_step import IntegerEmbedding

    return IntegerEmbedding(table)


def test_bytes_by_kind_by_hand():
    model = random_model(1, shape("qwen2"))  # 64 wide, 2 layers, groups of 32, vocabulary 80
    found = compression.compression(model)
    weights = 2 * (64 * 128 + 64 * 64 + 192 * 64 + 64 * 96)
    assert found.kinds == {
        "linears values": weights // 2, "linears scales": weights // 16,
        "linears zeros": weights // 64, "head values": 80 * 64, "head scales": 80 * 64 // 16,
        "embedding": 80 * 64 * 2, "norms and biases (16 bits)": 2 * (5 * 64 + 2 * 128),
    }  # fmt: skip
    assert found.sixteen_bit == 2 * (weights + 80 * 64 + 5 * 64 + 2 * 128)
    assert (found.second_table, found.once) == (10240, found.total - 10240)
    assert found.bits["linears"] == pytest.approx(4 + 16 / 32 + 4 / 32)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A tiny Qwen2 with a tokenizer."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return str(write_gguf(path, "qwen2", gguf.GGMLQuantizationType.Q8_0))


def told(*arguments: str) -> dict:
    done = run("eval", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_command_with_a_device_in_float_and_saved(model, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("hello hello 12 hell " * 20)
    common = (model, "--text", str(text), "--max-tokens", "80", "--config", "tiny")
    kept = str(tmp_path / "kept.ref")
    device = told(*common, "--save-reference", kept)
    floats = told(*common, "--float", "--reference", kept)
    plain = told(*common, "--unquantised")
    for name in ("perplexity", "kl_mean", "kl_p99", "top1_agreement"):
        assert device[name] >= 0 and device[f"{name}_se"] >= 0
    assert (device["device"], floats["device"], plain["device"]) == (
        "cpu",
        "float",
        "float, unquantised",
    )
    assert device["tokens"] == floats["tokens"] == plain["tokens"] == 79
    assert device["reference_perplexity"] == pytest.approx(plain["perplexity"], rel=1e-6)
    assert floats["reference_perplexity"] == pytest.approx(plain["perplexity"], rel=1e-6)
    assert "no bias" in floats["reference"]["kl"]
    assert "floating point" in device["reference"]["model"]
    assert floats["perplexity"] == pytest.approx(device["perplexity"], rel=0.05)
    assert device["compression"]["reduction"] > 0
    assert plain["reference"] is None and "kl_mean" not in plain


def test_command_tells_people(model):
    done = run("eval", model, "--max-tokens", "60", "--device", "golden", "--config", "tiny",
               "--no-reference")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in ("perplexity", "golden", "bootstrap", "linears scales", "55.08"):
        assert words in done.stdout
    assert "predicting" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text", "nothing.txt"], ["nothing.txt", "--text"]),
        (["--text", "EMPTY"], ["is empty"]),
        (["--text", "BINARY"], ["UTF-8"]),
        (["--text", "SHORT"], ["two tokens"]),
        (["--reference", "nothing.ref"], ["nothing.ref"]),
        (["--float", "--unquantised"], ["--float", "--unquantised"]),
        (["--reference", "a", "--no-reference"], ["--no-reference"]),
        (["--reference", "a", "--save-reference", "b"], ["--save-reference"]),
        (["--save-reference", "b", "--no-reference"], ["--save-reference"]),
        (["--save-reference", "/nowhere/a.ref"], ["/nowhere/a.ref"]),
        (["--float", "--head", "two-step"], ["two-step"]),
        (["--head", "int3"], ["--head", "int3"]),
        (["--group", "48"], ["group", "48"]),
        (["--config", "huge"], ["huge"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(model, tmp_path, arguments, words):
    for name, content in (("EMPTY", b" \n"), ("BINARY", b"\xff\xfe\x00"), ("SHORT", b"a")):
        (tmp_path / name).write_bytes(content)
    arguments = [str(tmp_path / a) if a.isupper() else a for a in arguments]
    assert_sentence(run("eval", model, *arguments), 2, *words)


def test_an_unknown_device_is_one_sentence(model):
    assert_sentence(run("eval", model, "--device", "gpu"), 3, "gpu")
