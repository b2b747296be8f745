"""How the linears of a Hugging Face checkpoint are packed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from host.checkpoint import mixed
from host.checkpoint.errors import CheckpointError
from spec import numeric

SUPPORTED = "supported: AutoAWQ GEMM packing, unquantised safetensors, GGUF"

TELLING_TENSORS = {
    "weight_packed": "compressed-tensors",
    "g_idx": "GPTQ",
    "scaled_zeros": "llm-awq",
    "qweight": "an unknown integer packing",
    "weight_scale_inv": "FP8",
    "weight_scale": "compressed-tensors or FP8",
}
"""Last parts of tensor names that only one packing has, the most telling first."""


def awq_group(config: dict[str, Any], names: Iterable[str], path: Path) -> int | None:
    """The group of an AutoAWQ GEMM checkpoint, None for an unquantised one.

    Args:
        config: config.json.
        names: names of all tensors.

    Raises:
        CheckpointError: another packing, named; or AWQ with settings that are not supported.
    """
    settings = config.get("quantization_config")
    found = _by_tensors(names)
    if settings is None:
        if found is None:
            return None
        raise CheckpointError(
            f"{path} holds {found} tensors but its config.json has no quantization_config;"
            f" {SUPPORTED}"
        )
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: quantization_config is {settings!r}, not an object")
    method = str(settings.get("quant_method", "unknown")).lower()
    if method != "awq":
        raise _other(path, {"gptq": "GPTQ"}.get(method, method))
    version = str(settings.get("version", "gemm")).lower()
    backend = str(settings.get("backend", "autoawq")).lower()
    if backend != "autoawq" or found in ("llm-awq", "GPTQ", "compressed-tensors"):
        raise _other(path, f"AWQ for {found if backend == 'autoawq' else backend}")
    if version != "gemm":
        raise _other(path, f"AWQ version {version.upper()}")
    return _settings(settings, path)


def _settings(settings: dict[str, Any], path: Path) -> int:
    """Checks bits, zero points and exceptions of an AutoAWQ GEMM checkpoint; its group."""
    bits = settings.get("bits", settings.get("w_bit"))
    if bits != 4:
        raise CheckpointError(f"{path} has AWQ weights of {bits!r} bits; 4 are supported")
    if settings.get("zero_point", True) is not True:
        raise CheckpointError(f"{path} has AWQ weights without zero points; they are needed")
    fine = settings.get(mixed.KEY) or {}
    kept = [
        name
        for name in settings.get("modules_to_not_convert") or []
        if name != mixed.HEAD and name not in fine
    ]
    if kept:
        raise CheckpointError(
            f"{path} leaves {kept[0]!r} unquantised (modules_to_not_convert); every linear of the"
            " layers must be quantised"
        )
    group = settings.get("group_size", settings.get("q_group_size"))
    if group not in numeric.GROUPS:
        raise CheckpointError(f"{path} has AWQ groups of {group!r}; one of {numeric.GROUPS} needed")
    return group


def _by_tensors(names: Iterable[str]) -> str | None:
    """The packing that the tensors' names tell of, None if they are plain."""
    endings = {name.rpartition(".")[2] for name in names}
    return next((kind for end, kind in TELLING_TENSORS.items() if end in endings), None)


def _other(path: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{path} is packed as {found}; {SUPPORTED}")
