"""One digest over everything that hardware and software must agree on.

It covers the configuration, the register map, the descriptor format and, by what they answer
rather than how they are written, layout and rounding. It sits in a read-only register, in
``design.json`` and in every report; the driver refuses a stranger.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from spec import commands, layout, numeric, registers
from spec.config import Config
from spec.layout import Matrix


@lru_cache(maxsize=256)
def digest(config: Config) -> int:
    """64 bits of SHA-256 over the agreement for ``config``."""
    agreement = {
        "config": {key: value for key, value in config.as_dict().items() if key != "name"},
        "registers": [
            (register.name, register.access, [(b.name, b.lsb, b.width) for b in register.bits])
            for register in registers.REGISTERS
        ],
        "commands": [(field.name, field.word, field.lsb, field.width) for field in commands.FIELDS],
        "constants": [
            registers.MAGIC, registers.VERSION, registers.STRIDE, commands.MAGIC,
            commands.CHECK_SUM, sorted(commands.OPCODES.items()), layout.VERSION,
            numeric.BLOCK, numeric.SHIFT_MAX, numeric.SCALE_SHIFT_MAX,
        ],
        "layout": _layout_samples(config),
        "numeric": [
            numeric.round_result(value, base, fmt)
            for value in (0, 1, -1, 3 << 40, (1 << 60) + 1, -(1 << 80) + 12345)
            for base in (-7, 0, 20)
            for fmt in numeric.RESULT_BITS
        ],
    }  # fmt: skip
    text = json.dumps(agreement, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _layout_samples(config: Config) -> list:
    """Places of a few values of two small matrices, as far as the engine's K goes."""
    samples: list = [layout.port_stride(config, beats) for beats in (1, 1000, 4097)]
    columns = min(512, config.max_k)
    for bits in (4, 8):
        matrix = Matrix(config, config.tile_rows * 2 + 1, columns, bits, group=128)
        for n in (0, 1, config.tile_rows - 1, config.tile_rows + 9, config.tile_rows * 2):
            for k in (k for k in (0, 1, 31, 64, 127, 255, 511) if k < columns):
                places = [*matrix.locate(n, k), matrix.locate_scale(n, k)]
                if bits == 4:
                    places.append(matrix.locate_zero(n, k))
                samples += [(spot.port, spot.offset, spot.bit) for spot in places]
                samples.append(matrix.locate_result(1, 0, n, "bf16"))
        spot = matrix.locate_activation(1, 0, min(300, columns - 1))
        samples.append((spot.port, spot.offset, spot.bit))
    return samples
