"""Command descriptors: what the host asks of the engine, 64 bytes each, read from memory.

A list of descriptors is a run of 64-byte blocks. Each is a striped region without gaps: port p
reads its ``64 / ports`` bytes at ``address + p * 64 / ports``. The words are given here in memory
order; ``engine_order`` is the order in which their bytes arrive on the joined beats.
"""

from __future__ import annotations

from dataclasses import dataclass

from spec import numeric
from spec.config import Config
from spec.errors import UserError
from spec.layout import MAX_ROWS, Matrix

BYTES = 64
WORDS = 16
MAGIC = 0x4B4C
"""First 16 bits of every descriptor: "LK" in memory."""

OPCODES = {"matmul": 1}
"""Operations. 0 is never valid; the rest is free for what comes after matmul."""

GROUP_CODES = {32: 0, 64: 1, 128: 2}
FORMAT_CODES = {"fp32": 0, "bf16": 1}

ALIGNMENT = 64
"""Bytes that addresses and strides are multiples of."""

COUNT_MAX = 65535
"""Most descriptors of one list."""


@dataclass(frozen=True)
class Field:
    """A field of the descriptor: bits ``lsb .. lsb + width`` of word ``word`` (and the next one
    for widths over 32)."""

    name: str
    word: int
    lsb: int
    width: int
    doc: str


FIELDS = (
    Field("magic", 0, 0, 16, "constant that marks a descriptor"),
    Field("opcode", 0, 16, 8, "operation"),
    Field("weights8", 0, 24, 1, "weights are int8 (else int4)"),
    Field("group", 0, 25, 2, "group code: 0 = 32, 1 = 64, 2 = 128"),
    Field("result_format", 0, 27, 1, "0 = fp32, 1 = bf16"),
    Field("tokens", 1, 0, 8, "activation vectors, 1..M"),
    Field("top_k", 1, 8, 7, "0: all results leave; else only the top_k largest of each token do"),
    Field("chunks", 1, 16, 16, "chunks along K"),
    Field("tiles", 2, 0, 20, "row tiles"),
    Field("last_rows", 2, 20, 8, "rows of the last tile that are not padding, minus one"),
    Field("activation_beats", 3, 0, 24, "beats of the activation region"),
    Field("weight_beats", 4, 0, 32, "beats of the weight region"),
    Field("activation_stride", 5, 0, 32, "bytes between the ports' parts of the activations"),
    Field("weight_stride", 6, 0, 32, "bytes between the ports' parts of the weights"),
    Field("activations", 7, 0, 40, "address of the activation region"),
    Field("weights", 9, 0, 40, "address of the weight region"),
    Field("results", 11, 0, 40, "address of the results"),
    Field("tag", 13, 0, 32, "the host's; not read by the engine"),
    Field("result_beats", 14, 0, 32, "beats of the results, on the one port that writes them"),
    Field("check", 15, 0, 32, "makes the sum of all words equal to CHECK_SUM modulo 2**32"),
)

ALIGNED = ("activation_stride", "weight_stride", "activations", "weights", "results")
"""Fields that are multiples of ALIGNMENT."""

BY_NAME = {field.name: field for field in FIELDS}

TOP_K_MAX = 64
"""Longest list of largest results per token."""

CHOICE_BYTES = 8
"""One entry of such a list: the fp32 result, then its row; best first, equal ones by row."""

CHECK_SUM = 0xA5A5_5A5A
"""Sum of the words of a whole descriptor: garbage, all zeros and all ones are refused."""


class CommandError(UserError):
    """A command that a descriptor cannot hold."""


def pack(values: dict[str, int]) -> bytes:
    """A descriptor in memory order; ``magic`` and ``check`` are filled in.

    Raises:
        CommandError: an unknown field, or a value that does not fit its field.
    """
    image = 0
    for name, value in {"magic": MAGIC, **values}.items():
        field = BY_NAME.get(name)
        if field is None or name == "check":
            raise CommandError(f"a descriptor has no field {name!r} to set")
        if not 0 <= value < 1 << field.width:
            raise CommandError(f"{name} = {value} does not fit {field.width} bits")
        image |= value << (32 * field.word + field.lsb)
    words = [image >> 32 * index & 0xFFFFFFFF for index in range(WORDS)]
    words[15] = (CHECK_SUM - sum(words)) & 0xFFFFFFFF
    return b"".join(word.to_bytes(4, "little") for word in words)


def unpack(data: bytes) -> dict[str, int]:
    """The fields of a descriptor.

    Raises:
        CommandError: wrong size, magic or check sum.
    """
    if len(data) != BYTES:
        raise CommandError(f"a descriptor has {BYTES} bytes, got {len(data)}")
    words = [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(WORDS)]
    if sum(words) & 0xFFFFFFFF != CHECK_SUM or words[0] & 0xFFFF != MAGIC:
        raise CommandError("not a descriptor: its magic or check sum is wrong")
    image = int.from_bytes(data, "little")
    return {
        field.name: image >> (32 * field.word + field.lsb) & ((1 << field.width) - 1)
        for field in FIELDS
    }


def matmul(
    matrix: Matrix,
    tokens: int,
    *,
    weights: int,
    weight_stride: int,
    activations: int,
    activation_stride: int,
    results: int,
    result_format: str = "fp32",
    top_k: int = 0,
    tag: int = 0,
) -> dict[str, int]:
    """The fields of one matmul: ``tokens`` activation vectors times ``matrix``.

    Args:
        top_k: 0 for all results; 2..64, even, for the largest ones of each token only.

    Raises:
        CommandError: more tokens than the engine has, an unaligned or too large address, or a
            top-k that does not fit.
    """
    config = matrix.config
    if not 1 <= tokens <= config.tokens:
        raise CommandError(f"tokens must lie in 1..{config.tokens}, got {tokens}")
    if result_format not in numeric.RESULT_BITS:
        raise CommandError(f"result format must be fp32 or bf16, got {result_format!r}")
    if top_k:
        if top_k % 2 or not 2 <= top_k <= TOP_K_MAX or top_k > matrix.rows:
            raise CommandError(
                f"top_k must be even, at most {TOP_K_MAX} and at most the rows ({matrix.rows}),"
                f" got {top_k}"
            )
        if result_format != "fp32":
            raise CommandError("top_k compares fp32 results: ask for the format fp32")
    for name, address in (
        ("weights", weights), ("weight_stride", weight_stride), ("activations", activations),
        ("activation_stride", activation_stride), ("results", results),
    ):  # fmt: skip
        if address % ALIGNMENT:
            raise CommandError(f"{name} must be a multiple of {ALIGNMENT} bytes, got {address:#x}")
    return {
        "opcode": OPCODES["matmul"],
        "weights8": int(matrix.bits == 8),
        "group": GROUP_CODES[matrix.group],
        "result_format": FORMAT_CODES[result_format],
        "tokens": tokens,
        "chunks": matrix.chunks,
        "top_k": top_k,
        "tiles": matrix.tiles,
        "last_rows": (matrix.rows - 1) % config.tile_rows,
        "activation_beats": matrix.activation_beats(tokens),
        "weight_beats": matrix.beats,
        "activation_stride": activation_stride,
        "weight_stride": weight_stride,
        "activations": activations,
        "weights": weights,
        "results": results,
        "result_beats": result_bytes(matrix, tokens, result_format, top_k) // config.port_bytes,
        "tag": tag,
    }


def result_bytes(matrix: Matrix, tokens: int, result_format: str, top_k: int = 0) -> int:
    """Bytes that a matmul writes: whole tiles, or each token's list."""
    if top_k:
        return tokens * top_k * CHOICE_BYTES
    return matrix.result_bytes(tokens, result_format)


def written_bytes(config: Config, fields: dict[str, int]) -> int:
    """Bytes that a command with these fields writes."""
    if fields["top_k"]:
        return fields["tokens"] * fields["top_k"] * CHOICE_BYTES
    names = {code: name for name, code in FORMAT_CODES.items()}
    values = fields["tiles"] * fields["tokens"] * config.tile_rows
    return values * numeric.RESULT_BITS[names[fields["result_format"]]] // 8


def rows(config: Config, fields: dict[str, int]) -> int:
    """Rows of a command's matrix that are not padding."""
    return (fields["tiles"] - 1) * config.tile_rows + fields["last_rows"] + 1


def shape_beats(config: Config, fields: dict[str, int]) -> dict[str, int]:
    """The counts of beats that a command with these fields must have."""
    columns = config.span if fields["weights8"] else config.lanes
    groups = {code: group for group, code in GROUP_CODES.items()}
    bits = 8 if fields["weights8"] else 4
    per_row = max(1, columns // groups[fields["group"]])
    zeros = 0 if bits == 8 else -(-config.tile_rows * per_row * 4 // config.beat_bits)
    scales = -(-config.tile_rows * per_row * 16 // config.beat_bits)
    spans = fields["chunks"] * columns // config.span
    return {
        "activation_beats": 1 + spans * (1 + fields["tokens"]),
        "weight_beats": fields["tiles"] * fields["chunks"] * (config.tile_rows + scales + zeros),
        "result_beats": written_bytes(config, fields) // config.port_bytes,
    }


def check(config: Config, fields: dict[str, int]) -> None:
    """Refuses a descriptor whose fields do not make sense together for an engine of ``config``.

    The engine refuses the same ones; whoever rings the doorbell checks here first and can say why.

    Raises:
        CommandError: the first field that is wrong, with what would be right.
    """
    groups = {code: group for group, code in GROUP_CODES.items() if group >= config.group}
    columns = config.span if fields["weights8"] else config.lanes
    row_count = rows(config, fields)
    limits = (
        ("opcode", OPCODES["matmul"], OPCODES["matmul"]),
        ("tokens", 1, config.tokens),
        ("group", min(groups), max(groups)),
        ("chunks", 1, config.max_k // columns),
        ("tiles", 1, -(-MAX_ROWS // config.tile_rows)),
        ("last_rows", 0, config.tile_rows - 1),
        ("top_k", 0, min(TOP_K_MAX, row_count)),
    )
    for name, low, high in limits:
        if not low <= fields[name] <= high:
            raise CommandError(f"{name} = {fields[name]} must lie in {low}..{high}")
    if fields["top_k"] % 2:
        raise CommandError(f"top_k = {fields['top_k']} must be even")
    if fields["top_k"] and fields["result_format"] != FORMAT_CODES["fp32"]:
        raise CommandError(f"top_k = {fields['top_k']} needs results in fp32")
    for name in ALIGNED:
        if fields[name] % ALIGNMENT:
            raise CommandError(
                f"{name} = {fields[name]:#x} must be a multiple of {ALIGNMENT} bytes"
            )
    for name, value in shape_beats(config, fields).items():
        if fields[name] != value:
            raise CommandError(f"{name} = {fields[name]} must be {value} for its shape")


def beats(config: Config) -> int:
    """Beats in which one descriptor arrives."""
    return BYTES // config.beat_bytes


def engine_order(config: Config) -> list[int]:
    """For each byte as it arrives (beat by beat, port 0 lowest), its offset in memory order."""
    part = BYTES // config.ports
    return [
        port * part + beat * config.port_bytes + byte
        for beat in range(beats(config))
        for port in range(config.ports)
        for byte in range(config.port_bytes)
    ]
