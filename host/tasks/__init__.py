"""The task set: prompts as people write them, by kind, with which guessing is compared.

One TOML file for each kind; all texts were written for this project. Read by ``kria-llm bench
--tasks``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec import tomlfile
from spec.errors import UserError

FOLDER = Path(__file__).parent

KINDS = (
    "chat", "writing", "code writing", "code editing", "summary", "extraction", "log filtering",
    "parts list",
)  # fmt: skip
"""In the order of the tables."""

QUOTING = ("code editing", "summary", "extraction", "log filtering")
"""Kinds whose answers repeat parts of the prompt."""


class TaskError(UserError):
    """A task set that cannot be used, or a kind that it does not have."""


@dataclass(frozen=True)
class Task:
    """One prompt."""

    kind: str
    name: str
    prompt: str
    tokens: int
    """Longest answer."""


def read(folder: Path = FOLDER) -> list[Task]:
    """All tasks of a folder's files, kind by kind.

    Raises:
        TaskError: no files, or one that is not a task file.
    """
    found = [task for path in sorted(folder.glob("*.toml")) for task in _file(path)]
    if not found:
        raise TaskError(f"there are no tasks in {folder}: the package is incomplete, install again")
    return sorted(found, key=lambda task: KINDS.index(task.kind))


def choose(tasks: list[Task], kinds: str | None) -> list[Task]:
    """The tasks of the kinds between commas; None for all.

    Raises:
        TaskError: a kind that the set does not have.
    """
    if kinds is None:
        return tasks
    wanted = [kind.strip() for kind in kinds.split(",")]
    for kind in wanted:
        if kind not in KINDS:
            raise TaskError(f"--kinds names {', '.join(KINDS)} between commas, got {kind!r}")
    return [task for task in tasks if task.kind in wanted]


def _file(path: Path) -> list[Task]:
    values = tomlfile.read(path, "task file", TaskError)
    kind, listed = values.get("kind"), values.get("task")
    if kind not in KINDS:
        raise TaskError(f"{path} must name one of the kinds {', '.join(KINDS)}, got {kind!r}")
    if not isinstance(listed, list) or not listed:
        raise TaskError(f"{path} has no [[task]]")
    return [_task(path, str(kind), values) for values in listed]


def _task(path: Path, kind: str, values: Any) -> Task:
    wanted = {"name": str, "prompt": str, "tokens": int}
    right = isinstance(values, dict) and set(values) == set(wanted)
    if not right or any(type(values[key]) is not kind for key, kind in wanted.items()):
        raise TaskError(f"each [[task]] of {path} has a name, a prompt and tokens, got {values!r}")
    if not values["prompt"].strip() or not 2 <= values["tokens"] <= 4096:
        raise TaskError(f"task {values['name']!r} of {path} needs a prompt and 2..4096 tokens")
    return Task(kind, values["name"], values["prompt"].strip(), values["tokens"])
