"""Directed matmuls: one in every listed bin of configuration, format, group, result and stalls."""

from __future__ import annotations

from collections import Counter

import pytest

from sim import cases, comparison
from spec import numeric
from spec.config import Config
from tests.plugins import bins, coverage


@pytest.mark.parametrize("stalls", bins.STALLS)
@pytest.mark.parametrize("result", bins.RESULTS)
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("config", bins.CONFIGS, ids=lambda config: config.name)
def test_every_format_runs(config: Config, bits: int, result: str, stalls: str) -> None:
    groups = [group for group in numeric.GROUPS if group >= config.group]
    for seed, group in enumerate(groups):
        tokens = 1 + seed % config.tokens
        rows = (config.tile_rows - 3, config.tile_rows, config.tile_rows + 5)[seed % 3]
        case = cases.draw(rows, group * (1 + seed), bits, group, tokens, 90 + seed)
        fmt = "fp32" if result == "top-k" else result
        report = comparison.run(
            config, case, fmt, 6 if result == "top-k" else 0,
            stall_seed=7 + seed if stalls == "stalls" else None,
        )  # fmt: skip
        assert not report.mismatches, f"int{bits} group {group}: {report.first_mismatch}"


@pytest.mark.parametrize("config", bins.CONFIGS, ids=lambda config: config.name)
def test_every_number_of_tokens_and_every_edge_runs(config: Config) -> None:
    for tokens in range(1, config.tokens + 1):
        for result in bins.RESULTS:
            fmt = "fp32" if result == "top-k" else result
            case = cases.draw(9, config.group, 4, config.group, tokens, tokens)
            report = comparison.run(config, case, fmt, 4 if result == "top-k" else 0)
            assert not report.mismatches
    for rows in (5, config.tile_rows, config.tile_rows + 1):
        for bits, columns in ((4, 128), (8, 128), (8, config.group), (4, 128 + config.group)):
            case = cases.draw(rows, columns, bits, config.group, 1, rows)
            report = comparison.run(config, case)
            assert not report.mismatches


def test_the_report_counts_what_is_listed_and_nothing_else() -> None:
    names = bins.listed()
    assert len(names) == len(set(names))
    assert coverage.summary(Counter(names))["percent"] == 100
    one = bins.hit(bins.WIDE, 20, 128, 8, 64, 3, "bf16", True)
    report = coverage.summary(Counter([*one, "other/int4"]))
    assert report["hit"] == 3 == sum(report["hits"].values())
    assert set(report["missed"]) == set(names) - set(one)
