"""How the linears of a Hugging Face checkpoint are packed: found out, named, or refused by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host.checkpoint import mixed
from host.checkpoint.errors import CheckpointError
from spec import numeric

SUPPORTED = (
    "supported: AutoAWQ GEMM, GPTQ without act-order, compressed-tensors pack-quantized,"
    " unquantised safetensors, GGUF"
)

AWQ, GPTQ_V1, GPTQ_V2, COMPRESSED = "AWQ GEMM", "GPTQ v1", "GPTQ v2", "compressed-tensors"

TELLING_TENSORS = {
    "weight_packed": "compressed-tensors",
    "g_idx": "GPTQ",
    "scaled_zeros": "llm-awq",
    "qweight": "an unknown integer packing",
    "weight_scale_inv": "FP8",
    "weight_scale": "compressed-tensors or FP8",
}
"""Last parts of tensor names that only one packing has, the most telling first."""


@dataclass(frozen=True)
class Packing:
    """A packing of int4 linears that is read without loss."""

    name: str
    group: int | None
    """Values along K that share a scale; None: all of a row."""
    symmetric: bool = False
    """No zero points are stored: they are 8."""

    @property
    def label(self) -> str:
        """For reports: ``GPTQ v2 int4 group 128``."""
        groups = "per row" if self.group is None else f"group {self.group}"
        return f"{self.name} int4 {groups}{', symmetric' if self.symmetric else ''}"


def detect(config: dict[str, Any], names: Iterable[str], path: Path) -> Packing | None:
    """The packing of a checkpoint, None for an unquantised one.

    Args:
        config: config.json.
        names: names of all tensors.

    Raises:
        CheckpointError: another packing, named; or one with settings that are not supported.
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
    if method == "gptq":
        return _gptq(settings, path)
    if method == "compressed-tensors":
        return _compressed(settings, path)
    if method != "awq":
        raise _other(path, method)
    version = str(settings.get("version", "gemm")).lower()
    backend = str(settings.get("backend", "autoawq")).lower()
    if backend != "autoawq" or found in ("llm-awq", "GPTQ", "compressed-tensors"):
        raise _other(path, f"AWQ for {found if backend == 'autoawq' else backend}")
    if version != "gemm":
        raise _other(path, f"AWQ version {version.upper()}")
    return Packing(AWQ, _awq_group(settings, path))


def _awq_group(settings: dict[str, Any], path: Path) -> int:
    """Checks bits, zero points and exceptions of an AutoAWQ GEMM checkpoint; its group."""
    bits = settings.get("bits", settings.get("w_bit"))
    if bits != 4:
        raise CheckpointError(f"{path} has AWQ weights of {bits!r} bits; 4 are supported")
    if settings.get("zero_point", True) is not True:
        raise CheckpointError(f"{path} has AWQ weights without zero points; they are needed")
    fine = settings.get(mixed.KEY) or {}
    _all_quantised(settings.get("modules_to_not_convert"), "modules_to_not_convert", path, fine)
    group = settings.get("group_size", settings.get("q_group_size"))
    if group not in numeric.GROUPS:
        raise CheckpointError(f"{path} has AWQ groups of {group!r}; one of {numeric.GROUPS} needed")
    return group


def _gptq(settings: dict[str, Any], path: Path) -> Packing:
    """Settings as GPTQModel and AutoGPTQ write them."""
    form = settings.get("checkpoint_format") or "gptq"
    if form not in ("gptq", "gptq_v2"):
        raise _other(path, f"GPTQ for {form}")
    if (bits := settings.get("bits")) != 4:
        raise CheckpointError(f"{path} has GPTQ weights of {bits!r} bits; 4 are supported")
    if (words := settings.get("pack_dtype", "int32")) != "int32":
        raise CheckpointError(f"{path} has GPTQ weights packed in {words!r}; int32 is supported")
    if settings.get("dynamic"):
        raise CheckpointError(f"{path} has GPTQ settings by layer (dynamic); one for all is needed")
    if settings.get("lm_head"):
        raise CheckpointError(f"{path} has a GPTQ LM head; quantise it with lm_head = false")
    group = _group(settings.get("group_size"), "GPTQ", path)
    return Packing(GPTQ_V2 if form == "gptq_v2" else GPTQ_V1, group)


def _compressed(settings: dict[str, Any], path: Path) -> Packing:
    """Settings as llm-compressor writes them: one scheme for all linears."""
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        count = len(groups) if isinstance(groups, dict) else "no"
        raise CheckpointError(
            f"{path} has {count} compressed-tensors schemes (config_groups); one for all linears is"
            " needed"
        )
    scheme = next(iter(groups.values()))
    weights = scheme.get("weights") if isinstance(scheme, dict) else None
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path} has a compressed-tensors scheme without weights")
    form = scheme.get("format") or settings.get("format")
    if form != "pack-quantized":
        raise _other(path, f"compressed-tensors {form}")
    _check_scheme(settings, scheme, weights, path)
    _all_quantised(settings.get("ignore"), "ignore", path)
    group = None
    if (strategy := weights.get("strategy", "group")) == "group":
        group = _group(weights.get("group_size"), "compressed-tensors", path)
    elif strategy != "channel":
        raise CheckpointError(
            f"{path} has compressed-tensors scales by {strategy!r}; group and channel are supported"
        )
    return Packing(COMPRESSED, group, weights.get("symmetric", True) is True)


def _check_scheme(
    settings: dict[str, Any], scheme: dict[str, Any], weights: dict[str, Any], path: Path
) -> None:
    """Refuses, by name, what changes the arithmetic beyond int4 weights with scales."""
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    if bits != 4 or kind != "int":
        raise CheckpointError(
            f"{path} has compressed-tensors weights of type {kind!r} with {bits!r} bits; int of 4"
            " is supported"
        )
    if weights.get("dynamic"):
        raise CheckpointError(f"{path} has dynamic compressed-tensors weights; static are needed")
    found = {
        "quantised activations (input_activations)": scheme.get("input_activations"),
        "quantised activations (output_activations)": scheme.get("output_activations"),
        "a quantised KV cache (kv_cache_scheme)": settings.get("kv_cache_scheme"),
        "rotated weights (transform_config)": settings.get("transform_config"),
        "sparse weights (sparsity_config)": _sparsity(settings.get("sparsity_config")),
    }
    for what, value in found.items():
        if value:
            raise CheckpointError(
                f"{path} asks for {what}; compressed-tensors with plain int4 weights is supported"
            )


def _sparsity(config: Any) -> Any:
    """None where a sparsity_config says dense."""
    return None if isinstance(config, dict) and config.get("format") == "dense" else config


def _group(group: Any, method: str, path: Path) -> int | None:
    """A group that groups of the hardware divide; None for whole rows (-1)."""
    if group == -1:
        return None
    if type(group) is int and group > 0 and group % min(numeric.GROUPS) == 0:
        return group
    raise CheckpointError(
        f"{path} has {method} groups of {group!r}; a multiple of {min(numeric.GROUPS)} or -1 (whole"
        " rows) needed"
    )


def _all_quantised(kept: Any, key: str, path: Path, held: Collection[str] = ()) -> None:
    """Refuses a checkpoint that leaves linears of the layers unquantised; ``held``: elsewhere."""
    if not isinstance(kept, list):
        kept = [] if kept is None else [kept]
    kept = [name for name in kept if name != mixed.HEAD and name not in held]
    if kept:
        raise CheckpointError(
            f"{path} leaves {kept[0]!r} unquantised ({key}); every linear of the layers must be"
            " quantised"
        )


def _by_tensors(names: Iterable[str]) -> str | None:
    """The packing that the tensors' names tell of, None if they are plain."""
    endings = {name.rpartition(".")[2] for name in names}
    return next((kind for end, kind in TELLING_TENSORS.items() if end in endings), None)


def _other(path: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{path} is packed as {found}; {SUPPORTED}")
