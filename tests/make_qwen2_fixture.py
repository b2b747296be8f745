"""Makes the tiny Qwen2 checkpoints under tests/fixtures and their reference logits.

    pip install torch==2.13.0 transformers safetensors
    python tests/make_qwen2_fixture.py [FOLDER] [--seed SEED]

A random Qwen2 of two layers whose linears int4 with groups of 64 represents exactly, and whose
embedding int8 with groups of 64 represents exactly, is saved twice: as unquantised safetensors
(``qwen2-tiny``) and in AutoAWQ's GEMM packing (``qwen2-tiny-awq``). ``qwen2-tiny-logits.npz`` holds
a token sequence and the logits that transformers computes from the first in float32.

Random networks are harsher on int8 activations than trained ones, so the spread of the parts is
chosen: norms that use the int8 range well, an embedding that outweighs what the layers add, and
a final norm with random signs, so that the likeliest token is not simply the last one. Tokens are
drawn so that the best logit leads at each position: a near tie says nothing about a loader.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

GROUP = 64
HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, VOCABULARY = 128, 192, 2, 4, 2, 320
TOKENS = 48
LEAD = 0.03
"""By how much the best logit leads the next, in standard deviations of the logits."""
SCALE_UNITS = {"self_attn": 2.0**-14, "mlp": 2.0**-13}
SHARP = {"self_attn.q_proj": 2.0**-12, "self_attn.k_proj": 2.0**-12}
"""Scales are 64..127 of these; queries and keys are larger, so that attention chooses."""
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
AWQ_SETTINGS = {
    "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": GROUP, "zero_point": True,
    "modules_to_not_convert": None,
}  # fmt: skip


def integer_linear(
    random: np.random.Generator, rows: int, columns: int, unit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, scales (fp16) and zeros of a random int4 linear [rows, columns].

    Each group holds a 0 and a 15, so that rounding finds its scale and zero again; scales have 7
    significant bits, so that every weight is exact in fp16.
    """
    groups = columns // GROUP
    values = random.integers(0, 16, (rows, groups, GROUP))
    corners = random.permuted(np.tile(np.arange(GROUP), (rows, groups, 1)), axis=2)[..., :2]
    np.put_along_axis(values, corners, np.array([0, 15]), axis=2)
    zeros = random.integers(4, 12, (rows, groups))
    zeros[: rows // 16] = random.integers(0, 16, (rows // 16, groups))
    scales = (random.integers(64, 128, (rows, groups)) * unit).astype(np.float16)
    return values.reshape(rows, columns), scales, zeros


def float_linear(values: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    """The weights [rows, columns] in fp16; exact."""
    wide = [np.repeat(part.astype(np.float64), GROUP, axis=1) for part in (zeros, scales)]
    weights = (values - wide[0]) * wide[1]
    assert np.array_equal(weights.astype(np.float16).astype(np.float64), weights)
    return weights.astype(np.float16)


def awq_words(nibbles: np.ndarray) -> np.ndarray:
    """[inputs, outputs] values 0..15 as [inputs, outputs / 8] int32 in AutoAWQ's order."""
    words = np.zeros((nibbles.shape[0], nibbles.shape[1] // 8), np.uint32)
    for place, column in enumerate(AWQ_ORDER):
        words |= nibbles[:, column::8].astype(np.uint32) << np.uint32(4 * place)
    return words.view(np.int32)


def embedding(random: np.random.Generator) -> np.ndarray:
    """[VOCABULARY, HIDDEN] fp16 that int8 with groups of 64 represents exactly."""
    groups = HIDDEN // GROUP
    values = random.integers(-127, 128, (VOCABULARY, groups, GROUP))
    values[..., 0] = 127 * random.choice([-1, 1], (VOCABULARY, groups))
    scales = random.integers(12, 16, (VOCABULARY, groups, 1)) * 2.0**-10
    return random.permuted(values * scales, axis=2).reshape(VOCABULARY, HIDDEN).astype(np.float16)


def tensors(random: np.random.Generator) -> tuple[dict, dict]:
    """The same random model as unquantised and as AWQ tensors, by name."""
    key_rows = HIDDEN // HEADS * KV_HEADS
    linears = {
        "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (key_rows, HIDDEN),
        "self_attn.v_proj": (key_rows, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN), "mlp.up_proj": (INTERMEDIATE, HIDDEN),
        "mlp.down_proj": (HIDDEN, INTERMEDIATE),
    }  # fmt: skip
    signs = random.choice([-1, 1], HIDDEN).astype(np.float16)
    common = {
        "model.embed_tokens.weight": embedding(random),
        "model.norm.weight": norm(random) * signs,
    }
    dense, awq = {}, {}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            common[f"{prefix}{name}.weight"] = norm(random)
        for name, (rows, columns) in linears.items():
            unit = SHARP.get(name, SCALE_UNITS[name.partition(".")[0]])
            values, scales, zeros = integer_linear(random, rows, columns, unit)
            dense[f"{prefix}{name}.weight"] = float_linear(values, scales, zeros)
            awq[f"{prefix}{name}.qweight"] = awq_words(values.T)
            awq[f"{prefix}{name}.qzeros"] = awq_words(zeros.T)
            awq[f"{prefix}{name}.scales"] = np.ascontiguousarray(scales.T)
            if name[-6:] in ("q_proj", "k_proj", "v_proj"):
                common[f"{prefix}{name}.bias"] = random.normal(0, 0.2, rows).astype(np.float16)
    return common | dense, common | awq


def norm(random: np.random.Generator) -> np.ndarray:
    """A norm's weights, fp16."""
    return random.uniform(0.7, 0.85, HIDDEN).astype(np.float16)


def clear_tokens(
    random: np.random.Generator, logits_of: Callable[[list[int]], np.ndarray]
) -> list[int]:
    """Random tokens after each of which the best logit leads by LEAD."""
    tokens: list[int] = []
    while len(tokens) < TOKENS:
        candidate = [*tokens, int(random.integers(VOCABULARY))]
        last = logits_of(candidate)[-1]
        second, first = np.partition(last, -2)[-2:]
        if first - second >= LEAD * last.std():
            tokens = candidate
    return tokens


def make(folder: Path, seed: int) -> None:
    """Writes both checkpoints and the reference."""
    import torch
    from safetensors.numpy import save_file
    from transformers import Qwen2Config, Qwen2ForCausalLM

    random = np.random.default_rng(seed)
    dense, awq = tensors(random)
    config = Qwen2Config(
        hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, vocab_size=VOCABULARY,
        max_position_embeddings=256, tie_word_embeddings=True, dtype="float16",
        architectures=["Qwen2ForCausalLM"], eos_token_id=VOCABULARY - 1, bos_token_id=None,
    )  # fmt: skip
    for name, held in (("qwen2-tiny", dense), ("qwen2-tiny-awq", awq)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file(held, folder / name / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(folder / name)
    path = folder / "qwen2-tiny-awq" / "config.json"
    settings = json.loads(path.read_text()) | {"quantization_config": AWQ_SETTINGS}
    path.write_text(json.dumps(settings, indent=2) + "\n")

    model = Qwen2ForCausalLM.from_pretrained(folder / "qwen2-tiny", dtype=torch.float32).eval()

    @torch.no_grad()
    def logits_of(tokens: list[int]) -> np.ndarray:
        return model(torch.tensor([tokens])).logits[0].numpy()

    tokens = clear_tokens(random, logits_of)
    logits = logits_of(tokens)
    np.savez_compressed(
        folder / "qwen2-tiny-logits.npz", tokens=np.array(tokens, np.int32), logits=logits
    )
    print(f"{folder}: torch {torch.__version__}, logits {logits.std():.3f} standard deviation")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent / "fixtures")
    parser.add_argument("--seed", type=int, default=20250601)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.seed)
