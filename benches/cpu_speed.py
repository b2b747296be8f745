"""Decode on the device cpu beside llama.cpp, on the same GGUF file in the same run.

    pip install llama-cpp-python; python -m benches.cpu_speed model.gguf [--threads 1 2]

Greedy, the same prompt, the two taking turns; the best of each counts. One JSON line for each
number of threads: tokens/s of both and their ratio, measured on this machine.
"""

from __future__ import annotations

import argparse
import json
import time

from host import checkpoint
from host.session import Session
from spec.config import KV260

CONTEXT = 256
PROMPT = 16
TURNS = 3


class Ours:
    """The device cpu under the whole forward pass."""

    def __init__(self, path: str, threads: int) -> None:
        model = checkpoint.find(path).model()
        self._session = Session.open(model, "cpu", KV260, CONTEXT, threads=threads)

    def seconds(self, prompt: list[int], count: int) -> float:
        """Of ``count`` greedy tokens after a prompt."""
        model = self._session.transformer
        model.reset()
        token = int(model.forward(prompt).argmax())
        begin = time.perf_counter()
        for _ in range(count):
            token = int(model.forward([token], copy=False).argmax())
        return time.perf_counter() - begin


class Llama:
    """llama.cpp through its Python package."""

    def __init__(self, path: str, threads: int) -> None:
        from llama_cpp import Llama as Model

        self._model = Model(
            path, n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, verbose=False
        )

    def seconds(self, prompt: list[int], count: int) -> float:
        """Of ``count`` greedy tokens after a prompt."""
        model = self._model
        model.reset()
        model.eval(prompt)
        token = model.sample(temp=0.0)
        begin = time.perf_counter()
        for _ in range(count):
            model.eval([token])
            token = model.sample(temp=0.0)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--tokens", type=int, default=64)
    given = parser.parse_args()
    prompt = checkpoint.find(given.model).tokenizer().encode("The history of the computer " * 5)
    for threads in given.threads:
        both = Ours(given.model, threads), Llama(given.model, threads)
        best = [float("inf")] * 2
        for _ in range(TURNS):
            for place, runtime in enumerate(both):
                best[place] = min(best[place], runtime.seconds(prompt[:PROMPT], given.tokens))
        ours, theirs = (given.tokens / seconds for seconds in best)
        print(json.dumps({
            "threads": threads, "label": "measured", "tokens_per_second": round(ours, 1),
            "llama_cpp_tokens_per_second": round(theirs, 1), "ratio": round(ours / theirs, 2),
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
