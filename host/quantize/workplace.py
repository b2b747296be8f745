"""The directory in which a checkpoint is made: beside its destination, and renamed when whole.

After each layer the work is safe: its tensors and the streams' hidden states lie in
``DIR.partial``. A later run with the same settings goes on from there. ``DIR`` itself appears
complete or not at all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from host.checkpoint import mixed, safetensors_file
from host.quantize.dense import QuantiseError
from spec.files import write_whole

SETTINGS = "settings.json"
STREAMS = "streams.safetensors"
MODEL = "model.safetensors"


class Workplace:
    """``DIR.partial`` of a destination ``DIR``.

    Args:
        destination: the checkpoint's directory; must not exist, or be empty.
        settings: everything that the result depends on, as JSON.

    Raises:
        QuantiseError: the destination holds something, or an interrupted run had other settings.
    """

    def __init__(self, destination: Path, settings: dict[str, Any]) -> None:
        self.destination = destination
        if destination.is_dir() and any(destination.iterdir()):
            raise QuantiseError(f"{destination} is not empty: remove it, or give another -o")
        if destination.exists() and not destination.is_dir():
            raise QuantiseError(f"{destination} is a file; -o wants a directory")
        self.folder = destination.with_name(destination.name + ".partial")
        if (self.folder / SETTINGS).is_file():
            self._compare(settings)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / SETTINGS, json.dumps(settings, indent=2))

    def _compare(self, settings: dict[str, Any]) -> None:
        try:
            before = json.loads((self.folder / SETTINGS).read_text())
        except ValueError:
            before = {}
        different = sorted(
            key for key in {*before, *settings} if before.get(key) != settings.get(key)
        )
        if different:
            key = different[0]
            raise QuantiseError(
                f"{self.folder} holds an interrupted run with {key} = {before.get(key)!r}, now it"
                f" is {settings.get(key)!r}: remove that directory, or use the same settings"
            )

    def put(self, name: str, value: Any) -> None:
        """Keeps a result as JSON under a name."""
        write_whole(self.folder / f"{name}.json", json.dumps(value))

    def get(self, name: str) -> Any:
        """What ``put`` kept; None if nothing."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def put_layer(
        self, index: int, tensors: dict[str, np.ndarray], fine: dict[str, np.ndarray],
        facts: dict[str, Any], streams: dict[str, np.ndarray],
    ) -> None:  # fmt: skip
        """Keeps a layer: its tensors, those of ``mixed.FILE``, what the report says of it, and the
        hidden states after it. It counts once the last of these files is in place."""
        if fine:
            write_whole(self._part(index, "fine"), save(fine))
        write_whole(self._part(index, "layer"), save(tensors))
        self.put(f"layer-{index:03}", facts)
        write_whole(
            self.folder / STREAMS, save(streams | {"layers": np.array([index + 1], np.int64)})
        )

    def layers_done(self) -> int:
        """Layers whose work is safe."""
        path = self.folder / STREAMS
        if not path.is_file():
            return 0
        return int(safetensors_file.read(path)["layers"].view(np.int64)[0])

    def streams(self) -> dict[str, np.ndarray]:
        """The hidden states after the last layer that is done."""
        held = safetensors_file.read(self.folder / STREAMS)
        return {name: tensor.floats() for name, tensor in held.items() if name != "layers"}

    def finish(self, layers: int) -> None:
        """Puts the pieces together and renames the directory to its destination."""
        self._join("layer", layers, self.folder / MODEL)
        self._join("fine", layers, self.folder / mixed.FILE)
        for path in self.folder.glob("*"):
            if path.name.startswith((SETTINGS, STREAMS, "layer-", "fine-", "plan")):
                path.unlink()
        if self.destination.is_dir():
            self.destination.rmdir()
        os.replace(self.folder, self.destination)

    def _part(self, index: int, kind: str) -> Path:
        return self.folder / f"{kind}-{index:03}.safetensors"

    def _join(self, kind: str, layers: int, target: Path) -> None:
        """All parts of a kind in one file; ``layers`` is the part of everything outside them."""
        held: dict[str, np.ndarray] = {}
        for index in range(layers + 1):
            if self._part(index, kind).is_file():
                for name, tensor in safetensors_file.read(self._part(index, kind)).items():
                    held[name] = tensor.view(NUMPY[tensor.kind])
        if held:
            write_whole(target, save(held, metadata={"format": "pt"}))


NUMPY = {
    "F16": np.float16, "F32": np.float32, "I32": np.int32, "I8": np.int8, "U8": np.uint8,
}  # fmt: skip
"""NumPy's types of the tensors that are written here."""
