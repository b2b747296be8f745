"""Random calls of the compiled kernels, each with what its NumPy twin makes of the same input.

A ``Call`` holds every array that the kernel may reach, so that it can be run here, or written to a
file and run on another machine (tests/host/replay.c).
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from host import kernels
from host.forward.attention import attend
from host.forward.buffers import padded, padded_rows, plain_sinks, plain_sources
from host.forward.cache import FORMATS, KvCache
from host.forward.norm import rms_norm, swiglu
from host.forward.rope import Rope
from host.kernels import Attention, Norm, Sink, Source, Swiglu, Table, address
from host.layout import blockfloat
from spec.config import Config
from spec.layout import Matrix, port_stride, region_bytes
from tests.host.matmul_case import GEOMETRIES
from tests.host.tiny_model import shape


@dataclass
class Call:
    """One call of a kernel."""

    name: str
    arguments: list[Any]
    """Arrays and structures by reference, and whole numbers."""
    buffers: list[Any]
    """Every array and structure that pointers lead to, arguments included."""
    check: Callable[[], None]
    """Compares what the call wrote with the twin; to be called after it."""
    outputs: list[np.ndarray]
    """What the call writes that means something."""

    def run(self) -> int | None:
        """Here, in the version that suits this processor."""
        function = getattr(kernels.library(), f"kernels_{self.name}")
        values = [value if isinstance(value, int) else address(value) for value in self.arguments]
        wanted = [
            value if isinstance(given, int) or kind is ctypes.c_void_p
            else ctypes.cast(ctypes.c_void_p(value), kind)
            for given, value, kind in zip(self.arguments, values, function.argtypes, strict=True)
        ]  # fmt: skip
        return function(*wanted)


def floats(rng: np.random.Generator, *size: int) -> np.ndarray:
    """Values of several magnitudes, some of them zero."""
    values = rng.standard_normal(size) * rng.choice([1e-3, 1, 30], (*size[:-1], 1))
    values[rng.random(size) < 0.05] = 0
    return values.astype(np.float32)


def activations(seed: int) -> Call:
    """The quantiser, as one term or two, against ``host.layout.blockfloat``."""
    rng = np.random.default_rng(seed)
    config = dataclasses.replace(GEOMETRIES[seed % len(GEOMETRIES)], tokens=16, max_k=2048)
    tokens, two_terms = int(rng.integers(1, 9)), bool(rng.random() < 0.5)
    columns = config.group * int(rng.integers(1, 1 + 512 // config.group))
    matrix = Matrix(config, 8, columns, int(rng.choice([4, 8])), config.group)
    vectors = tokens * (1 + two_terms)
    beats = matrix.activation_beats(vectors)
    stride = port_stride(config, beats)
    region = rng.integers(0, 256, region_bytes(config, beats)).astype(np.uint8)
    spread = rng.choice([1e-30, 1e-6, 1, 1e6, 1e35], (tokens, blockfloat.blocks(columns)))
    values = rng.standard_normal((tokens, columns)) * np.repeat(spread, 64, axis=1)[:, :columns]
    values = values.astype(np.float32)
    one = Sink(
        stride=stride, columns=columns, ports=config.ports, port_bytes=config.port_bytes,
        spans=matrix.spans, vectors=vectors, second_slot=tokens,
    )  # fmt: skip
    one.hold(first=region, second=region if two_terms else None)
    row, wanted = padded(columns), region.copy()
    terms = [blockfloat.quantise(values)]
    if two_terms:
        terms.append(blockfloat.quantise(values - blockfloat.dequantise(*terms[0])))
    both = (np.concatenate(parts) for parts in zip(*terms, strict=True))
    blockfloat.pack_activations(config, matrix, *both, wanted, stride)

    def check() -> None:
        np.testing.assert_array_equal(region, wanted)

    return Call("activations", [one, tokens, values, row], [one, values, row, region], check,
                [region])  # fmt: skip


def results(seed: int) -> Call:
    """Both terms of tiled results, against ``blockfloat.unpack_results``."""
    rng = np.random.default_rng(seed)
    config = Config(ports=4, group=32, tokens=16, tile_rows=int(rng.choice([16, 64])))
    tokens, rows = int(rng.integers(1, 9)), int(rng.integers(1, 300))
    matrix = Matrix(config, rows, 64, 4, 32)
    raw = floats(rng, matrix.result_bytes(2 * tokens, "fp32") // 4)
    both = blockfloat.unpack_results(config, matrix, 2 * tokens, "fp32", raw.view(np.uint8))
    source = Source(tile_rows=config.tile_rows, tile_tokens=2 * tokens)
    source.hold(first=raw, second=raw[tokens * config.tile_rows :])
    out = np.zeros((tokens, rows), np.float32)

    def check() -> None:
        np.testing.assert_array_equal(out, both[:tokens] + both[tokens:])

    return Call("results", [source, tokens, rows, out], [source, raw, out], check, [out])


def norm(seed: int) -> Call:
    """Residual and RMSNorm of some tokens of a pass."""
    rng = np.random.default_rng(seed)
    tokens, columns = int(rng.integers(1, 9)), int(rng.choice([16, 33, 100, 576, 896]))
    first = int(rng.integers(0, tokens))
    count = tokens - first
    hidden, added = floats(rng, tokens, columns), floats(rng, tokens, columns)
    weight, out = floats(rng, columns), np.zeros((tokens, columns), np.float32)
    row, before = padded_rows(tokens, columns), hidden.copy()
    sources, sinks = plain_sources(added), plain_sinks(out)
    call = Norm(columns=columns, epsilon=1e-5, threads=1 + seed % 3)
    call.hold(hidden=hidden, weight=weight, previous=sources, next=sinks, scratch=row)

    def check() -> None:
        summed = before[first:] + added[first:]
        np.testing.assert_array_equal(hidden[first:], summed)
        np.testing.assert_allclose(out[:count], rms_norm(summed, weight, 1e-5), rtol=2e-6)

    return Call("norm", [call, tokens, first, count],
                [call, hidden, added, weight, out, row, sources, sinks], check,
                [hidden, out])  # fmt: skip


def activation(seed: int) -> Call:
    """SwiGLU, with gates far outside the range of exp."""
    rng = np.random.default_rng(seed)
    tokens, columns = int(rng.integers(1, 9)), int(rng.choice([7, 64, 500]))
    joined = floats(rng, tokens, 2 * columns) * np.float32(rng.choice([1, 10]))
    out, row = np.zeros((tokens, columns), np.float32), padded_rows(tokens, columns)
    exponents = np.zeros((tokens, blockfloat.blocks(columns)), np.int32)
    sources, sinks = plain_sources(joined), plain_sinks(out)
    call = Swiglu(columns=columns, threads=2)
    call.hold(gate_up=sources, next=sinks, scratch=row, exponents=exponents)

    def check() -> None:
        np.testing.assert_allclose(out, swiglu(joined), rtol=2e-6, atol=1e-30)

    buffers = [call, joined, out, row, exponents, sources, sinks]
    return Call("swiglu", [call, tokens], buffers, check, [out])


BOUNDS = {"fp32": 3e-6, "fp16": 2e-3, "int8": 5e-2}
"""Of attention by the cache's format, relative to the largest value: entries are rounded. With the
rounded entries themselves the kernel is held to 3e-5."""


def entries(cache: KvCache, length: int) -> list[np.ndarray]:
    """What layer 0 of a cache holds, [kv_heads, length, head_dim] float32: keys, values."""
    heads, _, head_dim, _ = cache.keys[0].shape
    keys = cache.keys[0].transpose(0, 1, 3, 2).reshape(heads, -1, head_dim)
    values = cache.values[0][:, :, :head_dim]
    found = [part[:, :length] for part in (keys, values)]
    if cache.format == "fp16":
        return [np.ascontiguousarray(part).view(np.float16).astype(np.float32) for part in found]
    if cache.format == "fp32":
        return found
    scales = [part[0][:, :length] for part in (cache.key_scales, cache.value_scales)]
    return [
        part * np.ascontiguousarray(scale).view(np.float16).astype(np.float32)[:, :, None]
        for part, scale in zip(found, scales, strict=True)
    ]


def attention(seed: int) -> Call:
    """Bias, rotation, appending and attention over a cache that is partly full."""
    rng = np.random.default_rng(seed)
    kv_heads, group = int(rng.integers(1, 4)), int(rng.integers(1, 8))
    head_dim = int(rng.choice([16, 40, 64, 128]))
    model = shape(
        "qwen2", heads=kv_heads * group, kv_heads=kv_heads, head_dim=head_dim, layers=1, context=512
    )
    kind = list(FORMATS)[seed % 3]
    tokens, start = int(rng.integers(1, 9)), int(rng.choice([0, 1, 15, 16, 40, 124, 200]))
    cache, rope = KvCache(model, 300, kind), Rope(model, 300)
    width = (model.heads + 2 * kv_heads) * head_dim
    past, joined = floats(rng, start, width), floats(rng, tokens, width)
    bias = floats(rng, width) if rng.random() < 0.5 else None
    queries = model.heads * head_dim
    out = np.zeros((64, queries), np.float32)
    space = [np.zeros(size, np.float32) for size in (
        64 * queries, 64 * model.heads * (cache.positions + 16), 64 * model.heads,
        64 * model.heads * (-(-head_dim // 16) * 16),
    )]  # fmt: skip
    rows = padded_rows(tokens, queries)
    call = Attention(
        context=cache.positions, heads=model.heads, kv_heads=kv_heads, head_dim=head_dim,
        format=list(FORMATS).index(kind), threads=1 + seed % 3, query_scale=head_dim**-0.5,
    )  # fmt: skip
    quantised = kind == "int8"
    sources, sinks = plain_sources(joined), plain_sinks(out)
    call.hold(
        joined=sources, next=sinks, bias=bias, cosines=rope.cosines, sines=rope.sines,
        keys=cache.keys, values=cache.values, rows=rows, queries=space[0], scores=space[1],
        shares=space[2], mixed=space[3],
        key_scales=cache.key_scales if quantised else None,
        value_scales=cache.value_scales if quantised else None,
    )  # fmt: skip
    for position, values in enumerate(past):  # one by one, as decode does
        one = plain_sources(values[None])
        call.hold(joined=one)
        kernels.library().kernels_attend(call, 1, position)
    call.hold(joined=sources)

    def check() -> None:
        whole = np.concatenate([past, joined]) + (0 if bias is None else bias)
        heads = whole.astype(np.float32).reshape(start + tokens, -1, head_dim)
        rotated = model.heads + kv_heads
        rope.rotate(heads[:, :rotated], 0)
        keys, values = (
            np.ascontiguousarray(part.transpose(1, 0, 2))
            for part in (heads[:, model.heads : rotated], heads[:, rotated:])
        )
        queries = heads[start:, : model.heads]
        held = attend(queries, *entries(cache, start + tokens))
        np.testing.assert_allclose(out[:tokens], held, rtol=0, atol=3e-5 * np.abs(values).max())
        wanted = attend(queries, keys, values)
        # Rounding a key moves its score, so the bound grows with the scores themselves.
        scale = np.abs(queries).max() * np.abs(keys).max() * head_dim**0.5
        bound = BOUNDS[kind] * max(1.0, float(scale) * (1e-3 if kind != "fp32" else 1))
        error = np.abs(out[:tokens] - wanted).max() / np.abs(values).max()
        assert error < min(bound, 2.0), (error, bound)

    arrays = [cache.keys, cache.values, cache.key_scales, cache.value_scales]
    buffers = [call, joined, out, rows, sources, sinks, rope.cosines, rope.sines, *space, *arrays]
    buffers += [] if bias is None else [bias]
    outputs = [out, *arrays] if quantised else [out, *arrays[:2]]
    return Call("attend", [call, tokens, start], buffers, check, outputs)


def gather(seed: int) -> Call:
    """Rows of a table in each of its formats."""
    rng = np.random.default_rng(seed)
    kind, rows, group = seed % 4, int(rng.integers(1, 50)), 32
    columns = group * int(rng.integers(1, 9))
    ids = rng.integers(0, rows, int(rng.integers(1, 9)))
    scales = rng.uniform(1e-3, 0.1, (rows, columns // group)).astype(np.float16)
    zeros = rng.integers(0, 16, scales.shape).astype(np.uint8)
    values = floats(rng, rows, columns)
    wanted = values[ids]
    if kind == 1:
        values = values.astype(np.float16)
        wanted = values[ids].astype(np.float32)
    if kind > 1:
        values = rng.integers(0, 16, (rows, columns)).astype(np.int8 if kind == 2 else np.uint8)
        offset = 0 if kind == 2 else np.repeat(zeros.astype(np.float32), group, axis=1)
        wanted = ((values.astype(np.float32) - offset)
                  * np.repeat(scales.astype(np.float32), group, axis=1))[ids]  # fmt: skip
    table = Table(rows=rows, columns=columns, format=kind, group=group if kind > 1 else 0)
    table.hold(values=values, scales=scales, zeros=zeros if kind == 3 else None)
    out = np.zeros((len(ids), columns), np.float32)

    def check() -> None:
        np.testing.assert_array_equal(out, wanted)

    return Call("gather", [table, ids, len(ids), out], [table, values, scales, zeros, ids, out],
                check, [out])  # fmt: skip


KINDS = {
    "activations": activations, "results": results, "norm": norm, "swiglu": activation,
    "attend": attention, "gather": gather,
}  # fmt: skip
