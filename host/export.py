"""What a run cost, for a monitoring system: Prometheus's text format or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from host.board.power import Energy
from host.device.counters import Counters
from spec.config import Config
from spec.digest import digest
from spec.files import OutputError, write_whole

PREFIX = "kria_llm"

HELP = {
    "commands_total": "commands completed",
    "busy_cycles_total": "cycles with a command list running",
    "read_bytes_total": "bytes read over all ports",
    "written_bytes_total": "bytes of results written",
    "stall_cycles_total": "busy cycles lost, by cause",
    "tokens_total": "tokens written",
    "energy_joules_total": "energy of the whole board while the model ran, sampled",
    "clock_hertz": "clock that the design is constrained to",
}


def document(
    config: Config, device: str, tally: dict[str, Counters], tokens: int, energy: Energy
) -> dict[str, Any]:
    """Counters by operation, tokens and energy, ready for JSON."""
    return {
        "device": device,
        "config": config.name,
        "digest": f"{digest(config):016x}",
        "clock_hertz": round(config.clock_mhz * 1e6),
        "tokens": tokens,
        "energy_joules": energy.joules if energy.samples else None,
        "operations": {
            name: {
                "commands": cost.commands,
                "busy_cycles": cost.cycles,
                "read_bytes": cost.bytes_read,
                "written_bytes": cost.bytes_written,
                "stall_cycles": {
                    cause.removeprefix("stall_"): cycles for cause, cycles in cost.stalls.items()
                },
            }
            for name, cost in tally.items()
        },
    }


def prometheus(told: dict[str, Any]) -> str:
    """A document as Prometheus's text format, version 0.0.4."""
    common = {"device": told["device"], "config": told["config"], "digest": told["digest"]}
    samples: dict[str, list[tuple[dict[str, str], float]]] = {name: [] for name in HELP}
    for operation, cost in told["operations"].items():
        labels = {**common, "operation": operation}
        for name in ("commands", "busy_cycles", "read_bytes", "written_bytes"):
            samples[f"{name}_total"].append((labels, cost[name]))
        for cause, cycles in cost["stall_cycles"].items():
            samples["stall_cycles_total"].append(({**labels, "cause": cause}, cycles))
    samples["tokens_total"].append((common, told["tokens"]))
    samples["clock_hertz"].append((common, told["clock_hertz"]))
    if told["energy_joules"] is not None:
        samples["energy_joules_total"].append((common, told["energy_joules"]))
    lines = []
    for name, values in samples.items():
        if values:
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {PREFIX}_{name} {HELP[name]}", f"# TYPE {PREFIX}_{name} {kind}"]
            lines += [f"{PREFIX}_{name}{_labels(labels)} {value:.17g}" for labels, value in values]
    return "\n".join(lines) + "\n"


def write(path: Path, told: dict[str, Any]) -> None:
    """Writes JSON to a ``.json``, else Prometheus's text; appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps(told, indent=2) + "\n" if path.suffix == ".json" else prometheus(told)
    try:
        write_whole(path, text)
    except OSError as error:
        raise OutputError(
            f"cannot write counters to {path} ({error.strerror}): give a writable path"
        ) from None


def _labels(labels: dict[str, str]) -> str:
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
