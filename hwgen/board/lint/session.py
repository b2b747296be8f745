"""A Tcl interpreter with the commands of Vivado that the project uses, and nothing else of it."""

from __future__ import annotations

import difflib
import re
import tkinter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hwgen.board.lint import catalogue
from hwgen.board.lint.design import Design
from spec.errors import ToolError

Arguments = list[str]

TCL = (
    "catch", "close", "concat", "error", "expr", "file", "foreach", "format", "glob", "if", "info",
    "lappend", "lindex", "list", "llength", "lsort", "open", "proc", "puts", "read", "regexp",
    "set", "source", "string", "while",
)  # fmt: skip
"""Commands of Tcl itself that a misspelt one may mean."""


class ScriptExit(Exception):
    """The script called ``exit``."""


@dataclass
class Session:
    """One run of a script. Commands are the methods of ``commands`` modules, added by name."""

    directory: Path
    findings: list[str] = field(default_factory=list)
    design: Design = field(default_factory=Design)
    design_name: str = ""
    events: list[str] = field(default_factory=list)
    """What happened in order: ``validate``, ``synth_1``, ``reports``, ``write_bitstream``, ..."""
    project: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    top: str = ""
    xdc: dict[str, dict[str, str]] = field(default_factory=dict)
    """Properties of external ports in the constraints."""

    def __post_init__(self) -> None:
        try:
            self._tcl = tkinter.Tcl()
        except tkinter.TclError as error:
            raise ToolError(
                f"Tcl does not start ({error}): install the package python3-tk"
            ) from None
        self._tcl.createcommand("exit", self._exit)
        # The interpreter's own fallback would run programs of these names.
        self._tcl.createcommand("unknown", self._unknown)
        self._tcl.createcommand("exec", lambda *words: self._unknown("exec", *words))
        self._tcl.createcommand("puts", lambda *words: "")
        self._commands: dict[str, Callable[..., str]] = {}
        self._ended: int | None = None
        """The code given to ``exit``."""

    def add(self, commands: dict[str, Callable[[Session, Arguments], str]]) -> None:
        """Adds commands by name."""
        for name, function in commands.items():

            def call(*words: str, function=function) -> str:
                return function(self, list(words))

            self._commands[name] = call
            self._tcl.createcommand(name, call)

    def run(self, script: Path) -> int:
        """Runs a script; an error of Tcl is a finding.

        Returns:
            The exit code: 0 when it ran to its end, 1 after an error.
        """
        try:
            self._tcl.call("source", str(script))
        except (ScriptExit, tkinter.TclError) as error:
            if self._ended is not None:
                return self._ended
            self.find(f"{script.name} stops: {error}")
            return 1
        return 0

    def find(self, sentence: str) -> str:
        """Notes a finding; the command goes on with an empty result."""
        if sentence not in self.findings:
            self.findings.append(sentence)
        return ""

    def words(self, text: str) -> list[str]:
        """A Tcl list as a Python list."""
        return list(map(str, self._tcl.splitlist(text)))

    def text(self, words: list[str]) -> str:
        """A Python list as a Tcl list."""
        return " ".join(f"{{{word}}}" if " " in word or not word else word for word in words)

    def options(
        self, command: str, words: Arguments, valued: str = "", flags: str = ""
    ) -> tuple[dict[str, str], list[str]]:
        """Options and what is left of a command's words; an unknown option is a finding."""
        takes, plain = valued.split(), flags.split()
        found: dict[str, str] = {}
        rest: list[str] = []
        queue = list(words)
        while queue:
            word = queue.pop(0)
            if word.startswith("-") and not word[1:2].isdigit():
                if word[1:] in takes and queue:
                    found[word[1:]] = queue.pop(0)
                elif word[1:] in plain:
                    found[word[1:]] = ""
                else:
                    self.find(f"{command} has no option {word}")
            else:
                rest.append(word)
        return found, rest

    def check_value(
        self, what: str, properties: catalogue.Properties, name: str, value: str
    ) -> bool:
        """Whether a property is known and takes a value; a finding if not."""
        pattern = catalogue.domain(properties, name)
        if pattern is None:
            near = difflib.get_close_matches(name, list(properties), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.find(f"{what} has no property {name}{hint}")
            return False
        if not re.fullmatch(pattern, value):
            self.find(f"property {name} of {what} does not take {value!r}")
            return False
        return True

    def _exit(self, code: str = "0") -> str:
        self._ended = int(code)
        raise ScriptExit  # ends every procedure on the way; Tcl reports it as an error

    def _unknown(self, name: str = "", *words: str) -> str:
        near = difflib.get_close_matches(name, [*self._commands, *TCL], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return self.find(f"unknown command {name}{hint}")
