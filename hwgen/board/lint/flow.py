"""Commands of the project: files, properties, runs, reports, and the constraints' own."""

from __future__ import annotations

from pathlib import Path

from hwgen.board.lint import catalogue, commands
from hwgen.board.lint.session import Arguments, Session

RUNS = ("synth_1", "impl_1")

REPORTS = {
    "report_timing_summary": ("file max_paths delay_type", ""),
    "report_utilization": ("file", "hierarchical"),
    "report_power": ("file", ""),
    "report_cdc": ("file", "details"),
    "report_methodology": ("file", ""),
    "report_high_fanout_nets": ("file max_nets", "timing"),
    "report_design_analysis": ("file", "logic_level_distribution timing"),
}


class Flow:
    """The project's commands.

    Args:
        boards: board parts that this pretended Vivado has.
        setup, hold: worst slacks, ns, that its timing analysis finds.
        log: what its synthesis writes.
    """

    def __init__(
        self, boards: list[str], setup: float = 0.1, hold: float = 0.01, log: str = ""
    ) -> None:
        self._boards, self._setup, self._hold, self._log = boards, setup, hold, log
        self._done: dict[str, str] = {}
        """Run -> last step that ended."""
        self._opened = False
        self.packaged = False

    def commands(self) -> dict:
        """By name."""
        names = (
            "create_project", "get_board_parts", "current_project", "current_fileset", "add_files",
            "get_files", "update_compile_order", "generate_target", "make_wrapper", "get_runs",
            "launch_runs", "wait_on_run", "open_run", "get_timing_paths", "write_hw_platform",
            "set_property", "get_property", "get_ports", "set_false_path",
        )  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        return found | {name: self._reporter(name) for name in REPORTS} | commands.COMMANDS

    def create_project(self, session: Session, words: Arguments) -> str:
        chosen, rest = session.options("create_project", words, "part", "force")
        session.project["part"] = chosen.get("part", "")
        self._directory = Path(rest[1]) if len(rest) > 1 else session.directory
        return "project"

    def get_board_parts(self, session: Session, words: Arguments) -> str:
        session.options("get_board_parts", words, "", "quiet latest_file_version")
        return session.text(self._boards)

    def current_project(self, session: Session, words: Arguments) -> str:
        return "project"

    def current_fileset(self, session: Session, words: Arguments) -> str:
        return "fileset"

    def add_files(self, session: Session, words: Arguments) -> str:
        chosen, rest = session.options("add_files", words, "fileset", "norecurse")
        if chosen.get("fileset", "sources_1") not in ("sources_1", "constrs_1"):
            session.find(f"there is no fileset {chosen['fileset']}")
        for word in rest:
            for name in session.words(word):
                if not Path(name).is_file():
                    session.find(f"add_files: there is no file {Path(name).name}")
                session.files.add(name)
        return ""

    def get_files(self, session: Session, words: Arguments) -> str:
        name = words[-1]
        found = [file for file in sorted(session.files) if Path(file).name == name]
        if not found:
            session.find(f"get_files finds no {name}")
        return session.text(found)

    def update_compile_order(self, session: Session, words: Arguments) -> str:
        session.options("update_compile_order", words, "fileset")
        return ""

    def generate_target(self, session: Session, words: Arguments) -> str:
        handoff = session.directory / "vivado/kria_llm.gen/sources_1/bd"
        handoff = handoff / session.design_name / "hw_handoff"
        handoff.mkdir(parents=True, exist_ok=True)
        (handoff / f"{session.design_name}.hwh").write_text("")
        session.events.append("generate")
        return ""

    def make_wrapper(self, session: Session, words: Arguments) -> str:
        chosen, _ = session.options("make_wrapper", words, "files", "top import")
        if not chosen.get("files") or "validate" not in session.events:
            session.find("make_wrapper needs a validated block design")
        path = session.directory / f"{session.design_name}_wrapper.v"
        path.write_text("")
        return str(path)

    def get_runs(self, session: Session, words: Arguments) -> str:
        if words[-1] not in RUNS:
            return session.find(f"there is no run {words[-1]}")
        return f"run:{words[-1]}"

    def launch_runs(self, session: Session, words: Arguments) -> str:
        chosen, rest = session.options("launch_runs", words, "to_step jobs")
        name = rest[0] if rest else ""
        if name not in RUNS:
            return session.find(f"there is no run {name}")
        step = chosen.get("to_step", "done")
        if step != "done" and step not in catalogue.STEPS:
            session.find(f"there is no step {step}")
        if name == "impl_1" and "synth_1" not in self._done:
            session.find("implementation is started before synthesis ended")
        if not session.top:
            session.find("the project has no top module")
        self._done[name] = step
        session.events.append(f"{name} {step}")
        folder = session.directory / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "runme.log").write_text(self._log if name == "synth_1" else "")
        if step == "write_bitstream":
            (folder / "top.bit").write_text("")
            self.packaged = True
        return ""

    def wait_on_run(self, session: Session, words: Arguments) -> str:
        if words[-1] not in self._done:
            session.find(f"run {words[-1]} is waited for but was not started")
        return ""

    def open_run(self, session: Session, words: Arguments) -> str:
        if words[-1] not in self._done:
            session.find(f"run {words[-1]} is opened before it ended")
        self._opened = True
        return ""

    def get_timing_paths(self, session: Session, words: Arguments) -> str:
        chosen, _ = session.options("get_timing_paths", words, "max_paths delay_type", "setup hold")
        if not self._opened:
            session.find("timing is asked for before a run is opened")
        return "path:hold" if "hold" in chosen else "path:setup"

    def write_hw_platform(self, session: Session, words: Arguments) -> str:
        session.options("write_hw_platform", words, "file", "fixed include_bit force")
        self.packaged = True
        session.events.append("platform")
        return ""

    def _reporter(self, command: str):
        def report(session: Session, words: Arguments) -> str:
            chosen, _ = session.options(command, words, *REPORTS[command])
            if not self._opened:
                session.find(f"{command} is asked for before a run is opened")
            if "file" not in chosen:
                session.find(f"{command} writes no file")
            session.events.append(f"{command} {Path(chosen.get('file', '')).name}")
            return ""

        return report

    # Properties of any object

    def get_property(self, session: Session, words: Arguments) -> str:
        _, rest = session.options("get_property", words, "", "quiet")
        if len(rest) != 2:
            return session.find(f"get_property takes a name and an object, got {rest}")
        name, target = rest
        if target.startswith("run:"):
            known = {
                "STATUS": "route_design Complete!",
                "DIRECTORY": str(session.directory / "runs" / target.removeprefix("run:")),
            }
            return known[name] if name in known else session.find(f"a run has no property {name}")
        if target.startswith("path:") and name == "SLACK":
            return str(self._hold if target == "path:hold" else self._setup)
        cell = session.design.cells.get(target.lstrip("/"))
        if cell is None:
            return session.find(f"get_property {name}: there is no {target}")
        return cell.properties.get(name.removeprefix("CONFIG."), "")

    def set_property(self, session: Session, words: Arguments) -> str:
        if words[:1] == ["-dict"] and len(words) == 3:
            flat = session.words(words[1])
            settings = list(zip(flat[::2], flat[1::2], strict=False))
            targets = words[2]
        elif len(words) == 3:
            settings, targets = [(words[0], words[1])], words[2]
        else:
            return session.find(f"set_property takes a name, a value and an object, got {words}")
        for target in session.words(targets):
            self._set(session, target, settings)
        if not session.words(targets):
            session.find(f"set_property {settings[0][0]}: there is no object")
        return ""

    def _set(self, session: Session, target: str, settings: list[tuple[str, str]]) -> None:
        cell = session.design.cells.get(target.lstrip("/"))
        if cell is not None:
            commands.set_cell(session, cell, settings)
            return
        for name, value in settings:
            if target == "project":
                if session.check_value("the project", catalogue.PROJECT_PROPERTIES, name, value):
                    session.project[name] = value
            elif target == "fileset" and name == "top":
                session.top = value
            elif target.startswith("run:"):
                session.check_value(target, catalogue.RUN_PROPERTIES, name, value)
            elif target.startswith("port:"):
                if session.check_value(target, catalogue.XDC_PORT_PROPERTIES, name, value):
                    session.xdc.setdefault(target.removeprefix("port:"), {})[name] = value
            elif target in session.files:
                known = {
                    "used_in_synthesis": "true|false",
                    "synth_checkpoint_mode": "None|Hierarchical",
                }
                session.check_value(Path(target).name, known, name, value)
            else:
                session.find(f"set_property {name}: there is no {target}")

    # Constraints

    def get_ports(self, session: Session, words: Arguments) -> str:
        if words[-1] not in session.design.ports:
            return session.find(f"constraints name the port {words[-1]}, which does not exist")
        return f"port:{words[-1]}"

    def set_false_path(self, session: Session, words: Arguments) -> str:
        chosen, _ = session.options("set_false_path", words, "from to through")
        if not any(chosen.values()):
            session.find("set_false_path names nothing: it would exempt every path")
        return ""
