"""A wrong result of ``hwgen bench`` in the model's terms, and a file that runs it again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from host.layout import pack
from host.weights import Quantised
from sim import device, golden, replay
from sim.cases import Case
from sim.replay import Asked
from sim.timing import Runner
from sim.workload import WrongBytes
from spec import commands, layout, numeric
from spec.errors import MismatchError


def told(runner: Runner, wrong: WrongBytes, memory: str, seed: int, save: Path) -> MismatchError:
    """The error of a run whose memory differs: with layer and matmul, and what a run of the failing
    tile alone shows, whose replay file is written to ``save``.

    Raises:
        DeviceError, ToolError: of that run.
    """
    if wrong.command is None:
        return wrong
    asked = _tile(_asked(runner, wrong.command, memory, seed), runner, wrong)
    where = f"layer {asked.layer}, matmul {asked.matmul}" if asked.layer else (
        f"matmul {asked.matmul}"
    )  # fmt: skip
    report = replay.perform(asked)
    kept = f"run it again with hwgen verify --replay {save}"
    if not report.mismatches:
        replay.write(asked, save)
        return MismatchError(f"{wrong}; {where}; by itself the tile is right; {kept}")
    found, failing = replay.explain(asked, report)
    replay.write(failing, save)
    sentence = found.sentence() if found else f"{where}; a trace shows no difference"
    return MismatchError(f"{wrong}; {sentence}; {kept}")


def _asked(runner: Runner, index: int, memory: str, seed: int) -> Asked:
    """A command as a case, from the operands in memory."""
    operation, matrix = runner.operations[index], runner.operations[index].matrix
    fields = commands.unpack(runner.placed[index].descriptor)
    image = runner.operands

    def read(address: int, count: int) -> np.ndarray:
        start = address - device.MEMORY_BASE
        return image[start : start + count]

    region = layout.region_bytes(matrix.config, matrix.beats)
    weights = pack.unpack_weights(
        matrix.config, matrix, read(fields["weights"], region), fields["weight_stride"]
    )
    activations = golden.read_activations(matrix.config, read, fields)
    blocks = -(-matrix.columns // numeric.BLOCK)
    shifts = activations.shifts[:, :: max(1, numeric.BLOCK // matrix.config.span)][:, :blocks]
    mantissas = activations.mantissas.reshape(operation.tokens, -1)[:, : matrix.columns]
    case = Case(
        weights, activations.bases.astype(np.int8), shifts.astype(np.uint8), mantissas.copy()
    )
    names = [one.name for one in runner.operations]
    repeated = names.count(operation.name) > 1
    return Asked(
        matrix.config, case, operation.fmt, operation.top_k, memory=memory, seed=seed,
        layer=str(names[:index].count(operation.name)) if repeated else "",
        matmul=operation.name,
    )  # fmt: skip


def _tile(asked: Asked, runner: Runner, wrong: WrongBytes) -> Asked:
    """The tile in whose results the first wrong byte lies; top-k needs the whole matrix."""
    assert wrong.command is not None
    if asked.top_k:
        return asked
    weights, size = asked.case.weights, asked.config.tile_rows
    matrix = runner.operations[wrong.command].matrix
    tile_bytes = matrix.result_bytes(asked.case.tokens, asked.fmt) // matrix.tiles
    rows = slice(wrong.offset // tile_bytes * size, (wrong.offset // tile_bytes + 1) * size)
    part = Quantised(
        weights.bits, weights.group, weights.values[rows], weights.scales[rows],
        None if weights.zeros is None else weights.zeros[rows],
    )  # fmt: skip
    return dataclasses.replace(asked, case=dataclasses.replace(asked.case, weights=part))
