"""Configurations: every rule's sentence, derived shapes, TOML files."""

from __future__ import annotations

import dataclasses

import pytest

from spec import config as configs
from spec import numeric
from spec.config import KV260, PRESETS, TINY, Config, ConfigError


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ports": 3}, "ports must be one of 1, 2, 4, got 3"),
        ({"ports": 8}, "ports must be one of 1, 2, 4, got 8"),
        ({"port_bits": 256}, "port_bits must be one of 32, 64, 128, got 256"),
        ({"ports": 1, "port_bits": 64}, r"must lie in 128\.\.512 bits, got 1 x 64 = 64"),
        ({"burst_beats": 12}, r"burst_beats must be a power of two in 1\.\.256, got 12"),
        ({"burst_beats": 0}, r"burst_beats must be a power of two in 1\.\.256, got 0"),
        ({"burst_beats": 256, "port_bits": 128, "fifo_beats": 512}, None),
        ({"burst_beats": 512}, r"burst_beats must be a power of two in 1\.\.256, got 512"),
        ({"outstanding": 0}, r"outstanding must lie in 1\.\.32, got 0"),
        ({"outstanding": 33}, r"outstanding must lie in 1\.\.32, got 33"),
        ({"fifo_beats": 100}, r"fifo_beats must be a power of two in 16\.\.4096, got 100"),
        ({"fifo_beats": 8192}, r"fifo_beats must be a power of two in 16\.\.4096, got 8192"),
        ({"burst_beats": 64, "fifo_beats": 32}, "must hold one burst of 64 beats, got 32"),
        ({"tokens": 0}, r"tokens must lie in 1\.\.16, got 0"),
        ({"tokens": 17}, r"tokens must lie in 1\.\.16, got 17"),
        ({"group": 16}, "group must be one of 32, 64, 128, got 16"),
        ({"tile_rows": 8}, r"tile_rows must be a power of two in 16\.\.256, got 8"),
        ({"tile_rows": 48}, r"tile_rows must be a power of two in 16\.\.256, got 48"),
        ({"max_k": 64}, r"max_k must lie in 128\.\.32768, got 64"),
        ({"max_k": 65536}, r"max_k must lie in 128\.\.32768, got 65536"),
        ({"max_k": 1000}, "max_k must be a multiple of 128, got 1000"),
        ({"clock_mhz": 0.5}, r"clock_mhz must lie in 1\.\.1000, got 0.5"),
        ({"clock_mhz": float("nan")}, "clock_mhz must lie in"),
        ({"dsp": "xilinx"}, "dsp must be one of portable, vendor, got 'xilinx'"),
        ({"ports": "4"}, "ports must be int, got '4'"),
        ({"ports": 4.0}, "ports must be int, got 4.0"),
        ({"tokens": True}, "tokens must be int, got True"),
        ({"name": 5}, "name must be str, got 5"),
        ({"clock_mhz": 200}, None),
    ],
    ids=str,
)
def test_rules(changes, sentence):
    if sentence is None:
        assert dataclasses.replace(KV260, **changes) != KV260
        return
    with pytest.raises(ConfigError, match=sentence):
        dataclasses.replace(KV260, **changes)


def test_configuration_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        KV260.ports = 2  # type: ignore[misc]


def test_derived_shape_of_the_presets():
    assert (KV260.beat_bits, KV260.beat_bytes, KV260.lanes, KV260.span) == (512, 64, 128, 64)
    assert (KV260.sub_lanes, KV260.subs, KV260.token_pairs) == (64, 2, 4)
    assert (TINY.beat_bits, TINY.lanes, TINY.span, TINY.sub_lanes, TINY.subs) == (
        128,
        32,
        16,
        16,
        2,
    )
    assert dataclasses.replace(KV260, tokens=5).token_pairs == 3
    assert dataclasses.replace(KV260, group=32).subs == 4


@pytest.mark.parametrize("max_k", [128, 9216, 32768])
def test_accumulator_holds_the_extreme_sum(max_k):
    config = dataclasses.replace(KV260, max_k=max_k)
    shift = numeric.SCALE_SHIFT_MAX + numeric.SHIFT_MAX
    extreme = max_k * 128 * 128 * 2047 << shift
    assert extreme < 1 << config.accumulator_bits - 1 <= 2 * extreme


def test_mapping_on_a_preset():
    made = configs.from_mapping({"preset": "tiny", "tokens": 3})
    assert made == dataclasses.replace(TINY, name="custom", tokens=3)
    assert configs.from_mapping({}) == Config()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"port": 4}, "unknown configuration field 'port'; did you mean ports"),
        ({"max_K": 128}, "unknown configuration field 'max_K'; did you mean max_k"),
        ({"zzz": 4}, "unknown configuration field 'zzz'; known: name, ports, port_bits"),
        ({"preset": "zcu104"}, "preset must be one of tiny, kv260, got 'zcu104'"),
        ({"preset": ["tiny"]}, "preset must be one of tiny, kv260, got"),
    ],
    ids=str,
)
def test_unknown_fields_and_presets(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        configs.from_mapping(values)


def test_load_presets_by_name():
    for name, preset in PRESETS.items():
        assert configs.load(name) is preset


def test_load_toml(tmp_path):
    path = tmp_path / "wide.toml"
    path.write_text('preset = "kv260"\ntokens = 16\nclock_mhz = 200\n')
    loaded = configs.load(path)
    assert loaded == dataclasses.replace(KV260, name="wide", tokens=16, clock_mhz=200)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"ports = ", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"ports = 4\n" * 10_000, "is larger than 65536 bytes"),
        (b"[section]\nports = 4\n", "unknown configuration field 'section'"),
        (b"ports = [1, 2]\n", r"ports must be int, got \[1, 2\]"),
        (b"a = " + b"[" * 20_000, "is not TOML"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_files_are_refused(tmp_path, content, sentence):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        configs.load(path)


def test_missing_file_names_the_presets(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration .*give a preset \(tiny, kv260\)"):
        configs.load(tmp_path / "none.toml")


def test_a_number_of_thousands_of_digits_is_refused(tmp_path) -> None:
    path = tmp_path / "huge.toml"
    path.write_text("tokens = " + "9" * 5000)
    with pytest.raises(ConfigError, match="is not TOML"):
        configs.load(str(path))
