"""Every compiled kernel against its NumPy twin: microseconds of one call, and the ratio.

    python -m benches.kernels [--shape qwen2.5-0.5b] [--context 512] [--tokens 1]

Measured on this machine, on one thread, at the sizes of one layer of the shape; one JSON line each.
The twin of a kernel that quantises is everything that NumPy did before: norm or SwiGLU, block
floating point, packing into the engine's layout.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator

import numpy as np

from host import kernels
from host.device.cpu import CpuDevice
from host.device.driver import Accelerator
from host.forward.attention import attend
from host.forward.buffers import padded_rows, plain_sources
from host.forward.cache import KvCache
from host.forward.linear import AcceleratorBackend, AcceleratorLinear
from host.forward.norm import rms_norm, swiglu
from host.forward.rope import Rope
from host.forward.steps import AttentionStep, Workspace
from host.kernels import Drawing, Norm, Swiglu, Table, address
from host.layout import blockfloat, pack
from host.weights import Quantised, Shape
from spec import layout, shapes
from spec.config import KV260

REPEATS = 5
SECONDS = 0.05
"""Of one repeat, about; the best of ``REPEATS`` counts."""

Pair = tuple[str, Callable[[], object], Callable[[], object]]


def seconds(work: Callable[[], object]) -> float:
    """Of one call: the best mean of several repeats."""
    work()
    begin = time.perf_counter()
    work()
    count = max(1, int(SECONDS / (time.perf_counter() - begin + 1e-9)))
    best = float("inf")
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for _ in range(count):
            work()
        best = min(best, (time.perf_counter() - begin) / count)
    return best


class Part:
    """One matrix of zeros on the device cpu, and the NumPy way into its activations."""

    def __init__(self, accelerator: Accelerator, columns: int, two_terms: bool) -> None:
        groups = (16, columns // 64)
        weights = Quantised(
            4, 64, np.zeros((16, columns), np.uint8), np.ones(groups, np.float16),
            np.zeros(groups, np.uint8),
        )  # fmt: skip
        backend = AcceleratorBackend(accelerator)
        linear = backend.load(weights, "qkv" if two_terms else "down")
        assert isinstance(linear, AcceleratorLinear)
        self.linear, self._two_terms = linear, two_terms
        self._matrix = pack.matrix(KV260, weights)

    def numpy(self, values: np.ndarray) -> None:
        """What the runtime did without kernels."""
        terms = [values]
        if self._two_terms:
            rounded = blockfloat.dequantise(*blockfloat.quantise(values))
            terms = [np.concatenate([rounded, values - rounded])]
        for part in (term[at : at + 8] for term in terms for at in range(0, len(term), 8)):
            beats = self._matrix.activation_beats(len(part))
            stride = layout.port_stride(KV260, beats)
            out = np.zeros(layout.region_bytes(KV260, beats), np.uint8)
            blockfloat.pack_activations(
                KV260, self._matrix, *blockfloat.quantise(part), out, stride
            )


def pairs(shape: Shape, context: int, tokens: int) -> Iterator[Pair]:
    """(name, kernel, twin) at the sizes of a shape."""
    rng, library = np.random.default_rng(0), kernels.library()
    accelerator = Accelerator(CpuDevice(KV260, 64 << 20, threads=1))
    queries = shape.heads * shape.head_dim
    hidden_part, query_part, wide_part = (
        Part(accelerator, columns, two)
        for columns, two in ((shape.hidden, True), (queries, False), (shape.intermediate, False))
    )

    def floats(*size: int) -> np.ndarray:
        return rng.standard_normal(size).astype(np.float32)

    hidden, added, weight = (
        floats(tokens, shape.hidden),
        floats(tokens, shape.hidden),
        floats(shape.hidden),
    )
    before, sources = hidden.copy(), plain_sources(np.resize(added, (KV260.tokens, shape.hidden)))
    norm = Norm(columns=shape.hidden, epsilon=1e-5)
    norm.hold(
        hidden=hidden, weight=weight, previous=sources, next=hidden_part.linear.lanes[0].sinks,
        scratch=padded_rows(tokens, shape.hidden),
    )  # fmt: skip
    yield (
        "norm", lambda: library.kernels_norm(norm, tokens, 0, tokens),
        lambda: hidden_part.numpy(rms_norm(before + added, weight, 1e-5)),
    )  # fmt: skip

    joined = floats(KV260.tokens, 2 * shape.intermediate)
    gates = Swiglu(columns=shape.intermediate)
    gates.hold(
        gate_up=plain_sources(joined), next=wide_part.linear.lanes[0].sinks,
        scratch=padded_rows(tokens, shape.intermediate),
        exponents=np.zeros((tokens, blockfloat.blocks(shape.intermediate)), np.int32),
    )  # fmt: skip
    yield (
        "swiglu", lambda: library.kernels_swiglu(gates, tokens),
        lambda: wide_part.numpy(swiglu(joined[:tokens])),
    )  # fmt: skip

    for kind in ("fp16", "int8"):
        yield attention(shape, context, tokens, kind, query_part, floats)

    embedding = floats(4096, shape.hidden).astype(np.float16)
    table = Table(rows=4096, columns=shape.hidden, format=1)
    table.hold(values=embedding)
    ids, out = rng.integers(0, 4096, tokens), np.zeros((tokens, shape.hidden), np.float32)
    places = address(ids), address(out)
    yield (
        "gather", lambda: library.kernels_gather(table, places[0], tokens, places[1]),
        lambda: embedding[ids].astype(np.float32),
    )  # fmt: skip

    logits = floats(shape.vocabulary)
    entries, sums = np.zeros(len(logits), np.uint64), np.zeros(len(logits))
    draw = Drawing(temperature=0.8, top_p=0.95, top_k=40, point=0.5)
    draw.hold(entries=entries, sums=sums)
    place = address(logits)
    yield (
        "largest", lambda: library.kernels_largest(place, len(logits)),
        lambda: (np.isnan(logits).any(), logits.max(), logits.astype(np.float64).argmax()),
    )  # fmt: skip
    yield (
        "draw", lambda: library.kernels_draw(place, len(logits), draw), lambda: numpy_draw(logits)
    )  # fmt: skip


def numpy_draw(logits: np.ndarray) -> int:
    """The twin of ``draw``: 40 largest, 0.95 of the probability, the middle of it."""
    scores = logits.astype(np.float64) / 0.8
    order = np.argsort(-scores, kind="stable")[:40]
    sums = np.cumsum(np.exp(scores[order] - scores[order[0]]))
    sums = sums[: int(np.searchsorted(sums, 0.95 * sums[-1])) + 1]
    return int(order[np.searchsorted(sums, 0.5 * sums[-1], side="right")])


def attention(
    shape: Shape, context: int, tokens: int, kind: str, part: Part,
    floats: Callable[..., np.ndarray],
) -> Pair:  # fmt: skip
    """Rotation, the cache's new entries and attention behind ``context`` positions."""
    length = context + KV260.tokens
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    rope, cache = Rope(shape, length), KvCache(shape, length, kind)
    joined = floats(KV260.tokens, width)

    class Joined:
        sources = plain_sources(joined)

    space = Workspace(shape, KV260.tokens, cache.positions)
    step = AttentionStep(space, shape, rope, cache, 0, None, Joined, part.linear.lanes[0], 1)  # type: ignore[arg-type]
    for position in range(0, context, KV260.tokens):
        step(KV260.tokens, position)
    held = np.float16 if kind == "fp16" else np.int8
    keys, values = (
        floats(shape.kv_heads, length, shape.head_dim).astype(held) for _ in range(2)
    )  # fmt: skip
    scales = floats(shape.kv_heads, length, 1)

    def twin() -> None:
        heads = joined[:tokens].reshape(tokens, -1, shape.head_dim).copy()
        rotated, end = shape.heads + shape.kv_heads, context + tokens
        rope.rotate(heads[:, :rotated], context)
        keys[:, context:end] = heads[:, shape.heads : rotated].transpose(1, 0, 2)
        values[:, context:end] = heads[:, rotated:].transpose(1, 0, 2)
        past = [entries[:, :end].astype(np.float32) for entries in (keys, values)]
        if kind == "int8":
            past = [entries * scales[:, :end] for entries in past]
        part.numpy(attend(heads[:, : shape.heads], *past))

    return f"attend {kind}", lambda: step(tokens, context), twin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="qwen2.5-0.5b")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=1)
    given = parser.parse_args()
    known = shapes.find(given.shape)
    shape = Shape(
        "qwen2", known.hidden, known.layers, known.heads, known.kv_heads, known.head_dim,
        known.intermediate, known.vocabulary, given.context + KV260.tokens, 1e-5, 1e6,
    )  # fmt: skip
    for name, kernel, twin in pairs(shape, given.context, given.tokens):
        ours, theirs = seconds(kernel), seconds(twin)
        print(json.dumps({
            "kernel": name, "shape": given.shape, "context": given.context,
            "tokens": given.tokens, "label": "measured", "microseconds": round(ours * 1e6, 2),
            "numpy_microseconds": round(theirs * 1e6, 2), "ratio": round(theirs / ours, 1),
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
