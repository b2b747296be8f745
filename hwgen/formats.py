"""The weight formats that one engine serves, as selectors for its multiplexers."""

from spec import commands
from spec.config import Config
from spec.layout import Matrix


def formats(config: Config) -> list[tuple[int, Matrix]]:
    """The weight formats that the engine serves: selector (weights8, group) and a sample."""
    return [
        ((bits == 8) | code << 1, Matrix(config, 1, group, bits, group))
        for group, code in commands.GROUP_CODES.items()
        for bits in (4, 8)
        if group >= config.group
    ]


def scale_index(matrix: Matrix, sub: int) -> int:
    """Which of a row's scales in a beat belongs to partial sum ``sub``."""
    lane = sub * matrix.config.sub_lanes % matrix.chunk_columns
    return min(lane // matrix.group, matrix.row_scales - 1)
