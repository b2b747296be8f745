"""Makes tests/fixtures/compressed-tensors.safetensors: linears packed by the library itself.

    pip install torch==2.13.0 transformers compressed-tensors==0.20.0 safetensors
    python tests/make_packed_fixture.py [FOLDER] [--seed SEED]

Each case holds what compressed-tensors writes for one random linear (weight_packed, weight_scale,
weight_shape, weight_zero_point) and, as ``weight``, what it decompresses that to, in float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

ROWS, COLUMNS = 20, 128
"""Rows that are no multiple of 8: zero points are padded."""

CASES = {
    "symmetric.group32": (True, 32, "float16"),
    "asymmetric.group64": (False, 64, "float16"),
    "asymmetric.bfloat16": (False, 128, "bfloat16"),
    "symmetric.channel": (True, None, "float16"),
    "asymmetric.channel": (False, None, "float16"),
}
"""Symmetric or not, group (None: one scale a row), type of the scales."""

NAME = "compressed-tensors.safetensors"


def linear(torch, symmetric: bool, group: int | None, kind: str) -> dict:
    """One random linear's tensors, packed and unpacked by the library."""
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    strategy = "channel" if group is None else "group"
    arguments = QuantizationArgs(
        num_bits=4, type="int", symmetric=symmetric, strategy=strategy, group_size=group
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=arguments)
    dtype = getattr(torch, kind)
    groups = 1 if group is None else COLUMNS // group
    scale = (torch.rand(ROWS, groups) * 0.02 + 0.001).to(dtype)
    zero = torch.zeros(ROWS, groups, dtype=torch.int8)
    if not symmetric:
        zero = torch.randint(-8, 8, (ROWS, groups), dtype=torch.int8)
    state = {
        "weight": (torch.randn(ROWS, COLUMNS) * 0.05).to(dtype),
        "weight_scale": scale,
        "weight_zero_point": zero,
    }
    packed = PackedQuantizationCompressor.compress(state, scheme)
    again = PackedQuantizationCompressor.decompress(
        {name: tensor.to(torch.float32) if name == "weight_scale" else tensor
         for name, tensor in packed.items()}, scheme,
    )  # fmt: skip
    return {**packed, "weight": again["weight"].to(torch.float32)}


def make(folder: Path, seed: int) -> None:
    """Writes the file."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    tensors = {}
    for case, settings in CASES.items():
        for name, tensor in linear(torch, *settings).items():
            tensors[f"{case}.{name}"] = tensor.contiguous()
    save_file(tensors, folder / NAME)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "fixtures")
    parser.add_argument("--seed", type=int, default=20250601)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.seed)
