"""Formats: selectors and scales' places agree with ``spec.commands`` and ``spec.layout``."""

from __future__ import annotations

import dataclasses

import pytest

from hwgen.formats import formats, scale_index
from spec import commands
from spec.config import KV260, TINY, Config
from spec.layout import Matrix

COARSE = dataclasses.replace(TINY, name="coarse", group=128)
WIDE = dataclasses.replace(TINY, name="wide", ports=4, tile_rows=64)
CONFIGS = pytest.mark.parametrize("config", [TINY, COARSE, WIDE, KV260], ids=lambda one: one.name)


@CONFIGS
def test_every_format_has_its_selector(config: Config) -> None:
    """As a descriptor's word has it: ``weights8`` in bit 24, ``group`` above it."""
    fields = commands.BY_NAME
    found = dict(formats(config))
    assert len(found) == len(formats(config))
    groups = [group for group in commands.GROUP_CODES if group >= config.group]
    assert {(matrix.bits, matrix.group) for matrix in found.values()} == {
        (bits, group) for bits in (4, 8) for group in groups
    }
    for selector, matrix in found.items():
        image = (matrix.bits == 8) << fields["weights8"].lsb
        image |= commands.GROUP_CODES[matrix.group] << fields["group"].lsb
        assert selector == image >> fields["weights8"].lsb


@CONFIGS
def test_a_partial_sum_gets_the_scale_of_its_columns(config: Config) -> None:
    for _, sample in formats(config):
        columns = max(sample.group, sample.chunk_columns)
        matrix = Matrix(config, 1, columns, sample.bits, sample.group)

        def place(k: int, matrix: Matrix = matrix) -> int:
            """Of a column's scale, in scales from the beat's lowest bit."""
            found = matrix.locate_scale(0, k)
            return (found.port * config.port_bytes + found.offset % config.port_bytes) // 2

        for sub in range(config.subs):
            k = sub * config.sub_lanes % matrix.chunk_columns
            assert scale_index(sample, sub) == place(k) - place(0)
