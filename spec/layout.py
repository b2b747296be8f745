"""Memory layout: where every weight, scale, zero point, activation and result lives.

Everything that the engine reads is a *striped region*: a run of beats, each ``ports x port_bits``
wide. Port ``p`` reads its part of every beat from its own contiguous bytes at
``address + p * stride``. A weight region holds, in this order,

    for each tile of ``tile_rows`` rows:
        for each chunk along K (``lanes`` int4 or ``span`` int8 values):
            for each row:  [zeros beat]  [scales beat]  weights beat

where a zeros (int4 only) or scales beat comes just ahead of the first row that it serves. An
activation region holds one beat of token exponents, then for each span of K one beat of block
shifts and one beat of mantissas per token. Results are not striped: tile by tile, token by token,
row by row. Rows beyond N and values beyond K are zeros.

``locate*`` are the definition, slow and obvious; packers and the RTL are tested against them.
"""

from __future__ import annotations

from dataclasses import dataclass

from spec import numeric
from spec.config import Config
from spec.errors import UserError

VERSION = 1

REGION_ALIGN = 4096
"""Regions start on a 4 KB boundary, so that no aligned burst crosses one."""

STAGGER, STAGGER_PERIOD = 16 * 1024, 64 * 1024
"""Ports' parts of a region lie 16 KB apart modulo 64 KB: in different DRAM banks (address bits
14-15 on the K26), never all fighting over one."""

MAX_ROWS = 1 << 20
"""Most rows of one matrix; the largest vocabularies have 262,144."""


class LayoutError(UserError):
    """A matrix that the layout cannot hold; the message names the rule."""


@dataclass(frozen=True)
class Place:
    """Where one value lives in a striped region."""

    port: int
    """The port that reads it."""
    offset: int
    """Byte offset in that port's part."""
    bit: int
    """Lowest bit within the byte at ``offset`` (4 for a high nibble)."""


@dataclass(frozen=True)
class Matrix:
    """Shape and format of one weight matrix: ``rows`` (N) outputs, ``columns`` (K) inputs.

    Raises:
        LayoutError: the layout of ``config`` cannot hold it.
    """

    config: Config
    rows: int
    columns: int
    bits: int
    """4: AWQ, asymmetric; 8: symmetric."""
    group: int

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= MAX_ROWS:
            raise LayoutError(f"rows must lie in 1..{MAX_ROWS}, got {self.rows}")
        if not 1 <= self.columns <= self.config.max_k:
            raise LayoutError(
                f"columns must lie in 1..{self.config.max_k} (max_k), got {self.columns}"
            )
        if self.bits not in (4, 8):
            raise LayoutError(f"weights must have 4 or 8 bits, got {self.bits}")
        if self.group not in numeric.GROUPS:
            raise LayoutError(f"group must be one of {numeric.GROUPS}, got {self.group}")
        if self.group < self.config.group:
            raise LayoutError(
                f"group {self.group} is finer than the engine's {self.config.group}: generate the"
                f" engine with group = {self.group}"
            )
        if self.columns % self.group:
            raise LayoutError(f"K = {self.columns} is not a multiple of the group {self.group}")

    @property
    def tiles(self) -> int:
        """Tiles of ``tile_rows`` rows, the last one padded."""
        return -(-self.rows // self.config.tile_rows)

    @property
    def chunk_columns(self) -> int:
        """Values of K in one weights beat."""
        return self.config.beat_bits // self.bits

    @property
    def chunks(self) -> int:
        """Chunks along K, the last one padded."""
        return -(-self.columns // self.chunk_columns)

    @property
    def chunk_spans(self) -> int:
        """Activation spans that one chunk uses: 2 for int4, 1 for int8."""
        return self.chunk_columns // self.config.span

    @property
    def spans(self) -> int:
        """Spans of the activation region."""
        return self.chunks * self.chunk_spans

    @property
    def row_scales(self) -> int:
        """Scales of one row in one chunk (a coarser group is repeated in each chunk)."""
        return max(1, self.chunk_columns // self.group)

    @property
    def scale_rows(self) -> int:
        """Rows that one scales beat serves."""
        return self.config.beat_bits // 16 // self.row_scales

    @property
    def zero_rows(self) -> int:
        """Rows that one zeros beat serves."""
        return self.config.beat_bits // 4 // self.row_scales

    @property
    def chunk_beats(self) -> int:
        """Beats of one chunk of one tile."""
        rows = self.config.tile_rows
        zeros = -(-rows // self.zero_rows) if self.bits == 4 else 0
        return rows + -(-rows // self.scale_rows) + zeros

    @property
    def beats(self) -> int:
        """Beats of the weight region."""
        return self.tiles * self.chunks * self.chunk_beats

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight region that the engine reads, over all ports."""
        return self.beats * self.config.beat_bytes

    def activation_beats(self, tokens: int) -> int:
        """Beats of the activation region for ``tokens`` vectors."""
        return 1 + self.spans * (1 + tokens)

    def result_bytes(self, tokens: int, fmt: str) -> int:
        """Bytes of the results, padding rows included."""
        return self.tiles * tokens * self.config.tile_rows * numeric.RESULT_BITS[fmt] // 8

    def _row_beat(self, row: int, chunk: int) -> tuple[int, int]:
        """First beat of a chunk of the row's tile, and the row's number in the tile."""
        tile, inside = divmod(row, self.config.tile_rows)
        return (tile * self.chunks + chunk) * self.chunk_beats, inside

    def _meta_before(self, inside: int) -> tuple[int, int]:
        """Scales and zeros beats of the chunk up to and including those of this row."""
        zeros = inside // self.zero_rows + 1 if self.bits == 4 else 0
        return inside // self.scale_rows + 1, zeros

    def locate(self, n: int, k: int) -> tuple[Place, ...]:
        """Nibbles of weight (n, k), low one first: one for int4, two for int8.

        An int8 weight w is stored as w + 128: its low nibble in the low half of the beat, its high
        nibble at the same place in the high half.
        """
        chunk, lane = divmod(k, self.chunk_columns)
        first, inside = self._row_beat(n, chunk)
        scales, zeros = self._meta_before(inside)
        beat = first + inside + scales + zeros
        low = place(self.config, beat, 4 * lane)
        if self.bits == 4:
            return (low,)
        return low, place(self.config, beat, 4 * (lane + self.config.span))

    def _locate_meta(self, n: int, k: int, width: int, rows: int) -> tuple[int, int, int]:
        """First beat of the chunk, row in the tile, and bit of a per-group value in its beat."""
        chunk, lane = divmod(k, self.chunk_columns)
        first, inside = self._row_beat(n, chunk)
        index = inside % rows * self.row_scales + min(lane // self.group, self.row_scales - 1)
        return first, inside, index * width

    def locate_scale(self, n: int, k: int) -> Place:
        """The fp16 scale of weight (n, k), two bytes, little endian."""
        first, inside, bit = self._locate_meta(n, k, 16, self.scale_rows)
        served = inside // self.scale_rows
        start = served * self.scale_rows
        zeros = start // self.zero_rows + 1 if self.bits == 4 else 0
        return place(self.config, first + start + served + zeros, bit)

    def locate_zero(self, n: int, k: int) -> Place:
        """The zero point of int4 weight (n, k), one nibble."""
        if self.bits != 4:
            raise LayoutError("int8 weights have no zero points")
        first, inside, bit = self._locate_meta(n, k, 4, self.zero_rows)
        served = inside // self.zero_rows
        start = served * self.zero_rows
        return place(self.config, first + start + -(-start // self.scale_rows) + served, bit)

    def locate_activation(self, tokens: int, token: int, k: int) -> Place:
        """The int8 mantissa of activation (token, k) among ``tokens`` vectors, one byte."""
        span, byte = divmod(k, self.config.span)
        return place(self.config, 1 + span * (1 + tokens) + 1 + token, 8 * byte)

    def locate_shift(self, tokens: int, token: int, k: int) -> Place:
        """The block shift of activation (token, k), one byte; the same in each span of a block."""
        span = k // self.config.span
        return place(self.config, 1 + span * (1 + tokens), 8 * token)

    def locate_base(self, token: int) -> Place:
        """The exponent of a token's activations, one signed byte."""
        return place(self.config, 0, 8 * token)

    def locate_result(self, tokens: int, token: int, n: int, fmt: str) -> int:
        """Byte offset of result (token, n) in the results."""
        tile, inside = divmod(n, self.config.tile_rows)
        index = (tile * tokens + token) * self.config.tile_rows + inside
        return index * numeric.RESULT_BITS[fmt] // 8


def place(config: Config, beat: int, bit: int) -> Place:
    """The place of one bit of a beat in its port's part of the region."""
    port, inside = divmod(bit, config.port_bits)
    byte, low = divmod(inside, 8)
    return Place(port, beat * config.port_bytes + byte, low)


def port_stride(config: Config, beats: int) -> int:
    """Distance between the ports' parts of a region of ``beats``: staggered over DRAM banks."""
    size = beats * config.port_bytes
    if config.ports == 1:
        return -(-size // REGION_ALIGN) * REGION_ALIGN
    return -(-(size - STAGGER) // STAGGER_PERIOD) * STAGGER_PERIOD + STAGGER


def region_bytes(config: Config, beats: int) -> int:
    """Bytes from the start of a striped region to its end, gaps included, whole 4 KB pages."""
    size = (config.ports - 1) * port_stride(config, beats) + beats * config.port_bytes
    return -(-size // REGION_ALIGN) * REGION_ALIGN
