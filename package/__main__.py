"""``python -m package``: wheel and Debian package for the board."""

from __future__ import annotations

import argparse
import getpass
import json
import tomllib
from pathlib import Path

from package import deb, wheel
from spec.errors import exit_with_sentence


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m package",
        description="Builds the aarch64 runtime wheel and, around it and a firmware folder, the"
        " Debian package for the board.",
        epilog="Example: python -m package"
        " --firmware build/board/firmware/kria-llm-0123456789abcdef"
        " -o dist --key ~/.minisign/minisign.key",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("dist"), help="directory")
    parser.add_argument(
        "--firmware", type=Path, help="what make package wrote; without it only the wheel is built"
    )
    parser.add_argument("--wheels", type=Path, help="wheels of all dependencies, for no network")
    parser.add_argument("--key", type=Path, help="minisign's secret key; its password is asked for")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    made = wheel.build(options.output)
    told: dict = {"wheel": str(made)}
    if options.firmware is not None:
        project = tomllib.loads((wheel.ROOT / "pyproject.toml").read_text())["project"]
        package = deb.build(
            options.output, project["version"], made, options.firmware, options.wheels
        )
        told["deb"] = str(package)
        told["contents"] = [entry.path for entry in deb.contents(package)]
        if options.key is not None:
            told["signature"] = str(deb.sign(package, options.key, getpass.getpass("password: ")))
    if options.json:
        print(json.dumps(told, indent=2))
        return
    for name, value in told.items():
        for line in value if isinstance(value, list) else [value]:
            print(f"{name:<10} {line}")


exit_with_sentence(main)
