"""Test vectors: what is written is read again; damaged ones are refused in a sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

from host.device import vectors
from host.device.vectors import VectorError
from sim import cases, replay, vector_set
from spec.config import KV260, TINY
from spec.errors import ToolError


def vector(bits=4, fmt="fp32", top_k=0):
    asked = replay.Asked(TINY, cases.draw(5, 96, bits, 32, 2, 3), fmt, top_k, stall_seed=4)
    return replay.vector(asked, "one")


@pytest.mark.parametrize(("bits", "fmt", "top_k"), [(4, "fp32", 0), (8, "bf16", 0), (8, "fp32", 4)])
def test_a_file_holds_the_vector(bits, fmt, top_k, tmp_path):
    written = vector(bits, fmt, top_k)
    path = tmp_path / "v.json"
    path.write_text(vectors.dump(written))
    found = vectors.load(path)
    assert vectors.dump(found) == vectors.dump(written)
    assert found.config == TINY and found.stall_seed == 4
    assert vectors.difference(found, written.wanted) is None
    other = found.wanted.copy()
    other[1, 2] += 1
    told = vectors.difference(found, other)
    assert (told["token"], told["entry" if top_k else "row"]) == (1, 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"kind": "x"}, "not a test vector"), ({"rows": 0}, "rows must be a whole number in 1"),
     ({"rows": True}, "rows must be"), ({"bits": 5}, "bits must be one of"),
     ({"columns": 100}, "not a multiple of the group"), ({"top_k": 3}, "top_k must be even"),
     ({"rows": 1 << 20, "columns": 32768}, "at most 16777216 weights"),
     ({"values": "AAAA"}, "values must be base64 of 480 bytes"), ({"latency": -1}, "latency"),
     ({"name": 5}, "name must be text"), ({"config": {"ports": 3}}, "config: ports"),
     ({"config": []}, "config must be an object")],
)  # fmt: skip
def test_what_is_wrong_is_told(change, sentence):
    head = json.loads(vectors.dump(vector())) | change
    with pytest.raises(VectorError, match=r"f\.json") as caught:
        vectors.parse(json.dumps(head).encode(), "f.json")
    assert sentence in str(caught.value)


def test_values_out_of_range_are_refused():
    head = json.loads(vectors.dump(vector()))
    head["values"] = vectors.base64.b64encode(np.full(480, 16, np.uint8).tobytes()).decode()
    with pytest.raises(VectorError, match=r"values must lie in 0\.\.15"):
        vectors.parse(json.dumps(head).encode(), "f.json")


@pytest.mark.parametrize("level", ["golden", "cpu", "rtl"])
def test_every_level_gives_the_same(level):
    chosen = list(vector_set.draw(TINY, 9, 5))
    told = vector_set.run(level, TINY, chosen)
    assert len(told) == 9 and all(one["equal"] for one in told)


@pytest.mark.slow
def test_the_gates_give_the_same():
    """A simulator of 90,000 gates takes minutes to build."""
    chosen = list(vector_set.draw(TINY, 12, 5))
    told = vector_set.run("gates", TINY, chosen)
    assert len(told) == 12 and all(one["equal"] for one in told)


def test_the_larger_engine_runs_the_vectors_of_the_smaller():
    chosen = list(vector_set.draw(TINY, 9, 5))
    told = vector_set.run("cpu", KV260, chosen)
    assert 0 < len(told) < 9 and all(one["equal"] for one in told)  # no groups of 32 there


def test_a_wrong_result_is_found():
    chosen = vector()
    chosen.wanted[0, 0] ^= 1
    told = vector_set.run("cpu", TINY, [chosen])[0]
    assert not told["equal"] and told["difference"]["row"] == 0
    with pytest.raises(ToolError, match="no level or device 'nope'"):
        vector_set.run("nope", TINY, [chosen])
