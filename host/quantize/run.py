"""Quantises a whole model, from its files to a checkpoint with a report beside it."""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host.checkpoint import mixed
from host.checkpoint.checkpoints import Checkpoint
from host.checkpoint.rounding import check_group
from host.quantize import (
    budget,
    calibration,
    checkpoint_config,
    head,
    layer_file,
    sensitivity,
)
from host.quantize.compensate import Settings
from host.quantize.dense import MATRICES, DenseModel, QuantiseError
from host.quantize.report import Report
from host.quantize.sequential import LayerQuantiser, Record
from host.quantize.stream import Stream
from host.quantize.workplace import Workplace
from spec.files import write_whole

HEADS = {"fp16": 16, "int8": 8, "int4": 4}
SENSITIVITY_TOKENS = 2048
"""Calibration tokens for the choice of bits: one pass forward and back over them."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    group: int = 64
    head: str = "int8"
    bits: float = 4.0
    """Average bits of the layers' weights; see ``host.quantize.budget``."""
    text: str = ""
    text_name: str = "the text of the package"
    sequences: int = 40
    length: int = 512
    """Tokens of each calibration sequence."""
    search_scales: bool = True


def quantise(
    checkpoint: Checkpoint, request: Request, destination: Path,
    progress: Progress = lambda stage, done, total: None,
) -> Report:  # fmt: skip
    """Writes the quantised checkpoint to ``destination``.

    Raises:
        QuantiseError, CalibrationError, CheckpointError: see the modules.
        OSError: the disk is full or may not be written; what is done stays in ``.partial``.
    """
    started, cpu = time.monotonic(), time.process_time()
    model = DenseModel(checkpoint)
    _check(model, request)
    tokens = calibration.sequences(
        request.text, checkpoint.tokenizer(), request.sequences, request.length, request.text_name
    )
    work = Workplace(destination, _fingerprint(checkpoint, request))
    embedding = model.embedding()
    plan = _plan(model, request, work, embedding, tokens, progress)
    settings = Settings(request.group)
    plain, rounded = (Stream(model.shape, embedding, tokens) for _ in range(2))
    done = work.layers_done()
    if done:
        states = work.streams()
        plain.hidden, rounded.hidden = states["plain"], states["rounded"]
    resumed = done
    quantiser = LayerQuantiser(model.shape, plain, rounded, settings, request.search_scales)
    for index in range(done, model.shape.layers):
        progress("quantising layers", index, model.shape.layers)
        bits = {name: plan.bits[index, name] for name in MATRICES}
        layer, records = quantiser.quantise(index, model.layer(index), bits)
        tensors, fine, kept = layer_file.tensors(model.shape, index, layer)
        facts = {"records": [record.as_dict() for record in records], "kept": kept}
        work.put_layer(
            index, tensors, fine, facts, {"plain": plain.hidden, "rounded": rounded.hidden}
        )
    progress("quantising layers", model.shape.layers, model.shape.layers)
    if done <= model.shape.layers:
        progress("quantising the head", 0, 1)
        _outside(model, request, work, embedding, plain, rounded, settings)
    done_facts = [work.get(f"layer-{index:03}") for index in range(model.shape.layers + 1)]
    report = Report(
        source=str(checkpoint.path), shape=model.shape, request=_described(request),
        calibration_tokens=tokens.size, plan=plan, resumed_layers=resumed,
        records=[Record(**record) for fact in done_facts for record in fact["records"]],
        wall_seconds=time.monotonic() - started, cpu_seconds=time.process_time() - cpu,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )  # fmt: skip
    kept = {name: bits for fact in done_facts for name, bits in fact["kept"].items()}
    checkpoint_config.write(checkpoint, work.folder, request.group, kept)
    write_whole(work.folder / "quantisation.json", json.dumps(report.as_dict(), indent=2) + "\n")
    write_whole(work.folder / "quantisation.html", report.html())
    progress("writing the checkpoint", 0, 0)
    work.finish(model.shape.layers)
    return report


def _outside(
    model: DenseModel, request: Request, work: Workplace, embedding: np.ndarray, plain: Stream,
    rounded: Stream, settings: Settings,
) -> None:  # fmt: skip
    """What is not in a layer: embedding, final norm, head."""
    shape = model.shape
    norm = model.final_norm().astype(np.float16).astype(np.float32)
    tensors = {
        "model.embed_tokens.weight": embedding.astype(np.float16),
        "model.norm.weight": norm.astype(np.float16),
    }
    weights = model.head(embedding)
    if not shape.tied:
        tensors["lm_head.weight"] = weights.astype(np.float16)
    fine: dict[str, np.ndarray] = {}
    kept: dict[str, int] = {}
    records: list[dict[str, Any]] = []
    bits = HEADS[request.head]
    if bits < 16:
        result, record = head.quantise(shape, weights, norm, plain, rounded, bits, settings)
        fine, kept = mixed.tensors(mixed.HEAD, result), {mixed.HEAD: bits}
        records = [record.as_dict()]
    states = {"plain": plain.hidden, "rounded": rounded.hidden}
    work.put_layer(shape.layers, tensors, fine, {"records": records, "kept": kept}, states)


def _plan(
    model: DenseModel, request: Request, work: Workplace, embedding: np.ndarray,
    tokens: np.ndarray, progress: Progress,
) -> budget.Plan:  # fmt: skip
    """Bits of every matrix: by measured sensitivity if the budget leaves a choice."""
    layers = range(model.shape.layers)
    if request.bits in (4.0, 8.0):
        bits = {(index, name): int(request.bits) for index in layers for name in MATRICES}
        return budget.Plan(bits, request.bits, [])
    costs = work.get("plan")
    if costs is None:
        progress("measuring sensitivity", 0, 0)
        some = tokens[:: max(1, tokens.size // SENSITIVITY_TOKENS)]
        found = sensitivity.measure(
            model.shape, [model.layer(index) for index in layers], embedding, model.final_norm(),
            model.head(embedding), some, request.group,
        )  # fmt: skip
        costs = [asdict(cost) for cost in found]
        work.put("plan", costs)
    plain = [sensitivity.Cost(**cost) for cost in costs]
    return budget.plan(budget.compensated(plain), request.bits)


def _check(model: DenseModel, request: Request) -> None:
    if request.head not in HEADS:
        raise QuantiseError(f"--head must be one of {', '.join(HEADS)}, got {request.head!r}")
    budget.check(request.bits)
    shape = model.shape
    for name, columns in (
        ("qkv", shape.hidden), ("output", shape.heads * shape.head_dim),
        ("down", shape.intermediate),
    ):  # fmt: skip
        check_group(name, columns, request.group)
    if not 8 <= request.length <= shape.context:
        raise QuantiseError(
            f"--sequence must lie in 8..{shape.context} tokens for this model, got {request.length}"
        )


def _described(request: Request) -> dict[str, Any]:
    """The request without its text."""
    described = asdict(request)
    text = described.pop("text")
    return described | {"text_sha256": hashlib.sha256(text.encode()).hexdigest()}


def _fingerprint(checkpoint: Checkpoint, request: Request) -> dict[str, Any]:
    """What the result depends on."""
    path = checkpoint.path
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    sizes = {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    return {"model": str(path.resolve()), "files": sizes, **_described(request)}
