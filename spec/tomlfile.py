"""Reads a TOML file of fields that a person wrote: bounded, and every refusal one sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from spec.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10 is the board's; the TOML reader entered the standard library in 3.11.
    import tomli as tomllib

MAX_TOML_BYTES = 65_536


def read(path: Path, kind: str, error: type[UserError]) -> dict[str, Any]:
    """The values of an existing file.

    Args:
        kind: what the file should be, for the sentence.
        error: class of the refusal.

    Raises:
        UserError: of class ``error``: too large, or not TOML.
    """
    with path.open("rb") as file:
        data = file.read(MAX_TOML_BYTES + 1)
    if len(data) > MAX_TOML_BYTES:
        raise error(f"{path} is larger than {MAX_TOML_BYTES} bytes: not a {kind}")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:  # not TOML, not UTF-8, a number of 5,000 digits
        raise error(f"{path} is not TOML: {problem}") from None
