"""AWQ by a library: llm-compressor's ``AWQModifier``, in an environment of its own.

    python -m venv awq; awq/bin/pip install llmcompressor==0.6.0.1 datasets
    awq/bin/python benches/quality/library.py MODEL OUTPUT TOKENS.npy

It pins other versions of transformers and NumPy than this project has, so it is no extra of this
package: this file imports nothing of ours, and ``benches.quality --library`` runs it.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.awq import AWQModifier
from transformers import AutoModelForCausalLM

GROUP = 64


def main() -> None:
    """Quantises a Hugging Face directory; prints the seconds it took, as JSON."""
    source, output, ids = sys.argv[1:4]
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(source, torch_dtype=torch.float32)
    tokens = np.load(ids)
    calibration = Dataset.from_dict({
        "input_ids": tokens.tolist(), "attention_mask": np.ones_like(tokens).tolist(),
    })  # fmt: skip
    weights = {
        "num_bits": 4, "type": "int", "symmetric": False, "strategy": "group", "group_size": GROUP,
    }  # fmt: skip
    groups = {"linears": {"targets": ["Linear"], "weights": weights}}
    wall, processor = time.monotonic(), time.process_time()
    oneshot(
        model=model, dataset=calibration,
        recipe=[AWQModifier(ignore=["lm_head"], config_groups=groups)],
        max_seq_length=tokens.shape[1], num_calibration_samples=len(tokens),
    )  # fmt: skip
    spent = {
        "wall_seconds": round(time.monotonic() - wall, 1),
        "cpu_seconds": round(time.process_time() - processor, 1),
        "calibration_tokens": tokens.size,
    }
    model.save_pretrained(output, save_compressed=True)
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
