"""Commands of the block design: cells, properties, nets, buses, addresses."""

from __future__ import annotations

from hwgen.board import wrapper
from hwgen.board.lint import catalogue
from hwgen.board.lint.catalogue import Bus, Cell, Pin, Segment
from hwgen.board.lint.design import Assignment, Instance
from hwgen.board.lint.session import Arguments, Session
from spec.registers import WINDOW_BYTES

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def create_bd_design(session: Session, words: Arguments) -> str:
    session.design_name = words[-1]
    return words[-1]


def create_bd_cell(session: Session, words: Arguments) -> str:
    chosen, rest = session.options("create_bd_cell", words, "type vlnv reference")
    if len(rest) != 1:
        return session.find(f"create_bd_cell takes one name, got {rest}")
    name = rest[0]
    if name in session.design.cells:
        return session.find(f"cell {name} is made twice")
    if chosen.get("type") == "module":
        kind = _module(session, chosen.get("reference", ""))
    else:
        vlnv = chosen.get("vlnv", "")
        kind = catalogue.CELLS.get(":".join(vlnv.split(":")[:3]))
        if kind is None:
            session.find(f"there is no IP {vlnv}")
    if kind is not None:
        session.design.cells[name] = Instance(name, kind, dict(kind.defaults))
    return f"/{name}"


def _module(session: Session, reference: str) -> Cell | None:
    """A module of one of the added Verilog files, with the interfaces that its names make."""
    for file in sorted(session.files):
        if file.endswith(f"/{reference}.v"):
            with open(file) as source:
                return module_cell(source.read())
    session.find(f"there is no module {reference} in the added files")
    return None


def module_cell(text: str) -> Cell:
    """A module with one clock ``aclk`` and reset ``aresetn`` as a cell."""
    inferred = wrapper.infer(text)
    plain = {"aclk": "clock", "aresetn": "reset_n"}
    pins = {
        name: Pin("in" if way == "input" else "out", width, plain.get(name, "data"))
        for name, (way, width) in wrapper.ports(text).items()
        if name.rpartition("_")[0] not in inferred
    }
    buses = {
        name: Bus(bus.mode, "aclk", bus.protocol, bus.data_bits) for name, bus in inferred.items()
    }
    segments = {
        f"{name}/reg0": Segment(None, WINDOW_BYTES, name)
        for name, bus in inferred.items()
        if bus.mode == "slave"
    }
    return Cell(
        properties={},
        pins=lambda properties: pins,
        buses=lambda properties: buses,
        segments=lambda properties: segments,
        spaces={name: name for name, bus in inferred.items() if bus.mode == "master"},
    )


def apply_bd_automation(session: Session, words: Arguments) -> str:
    chosen, rest = session.options("apply_bd_automation", words, "rule config")
    if chosen.get("rule") != "xilinx.com:bd_rule:zynq_ultra_ps_e":
        session.find(f"there is no rule {chosen.get('rule')}")
    if session.words(chosen.get("config", "")) != ["apply_board_preset", "1"]:
        session.find("the board's preset is not applied: the PS would have no DDR settings")
    for name in rest:
        cell = session.design.cells.get(name.lstrip("/"))
        if cell is not None:
            cell.automated = True
    return ""


def set_cell(session: Session, cell: Instance, settings: list[tuple[str, str]]) -> None:
    """Sets properties of a cell; each is CONFIG.NAME."""
    for name, value in settings:
        if not name.startswith("CONFIG."):
            session.find(f"property {name} of cell {cell.name} lacks CONFIG.")
            continue
        plain = name.removeprefix("CONFIG.")
        if session.check_value(f"cell {cell.name}", cell.kind.properties, plain, value):
            cell.properties[plain] = value


def create_bd_port(session: Session, words: Arguments) -> str:
    chosen, rest = session.options("create_bd_port", words, "dir from to type")
    width = abs(int(chosen.get("from", "0")) - int(chosen.get("to", "0"))) + 1
    way = {"I": "out", "O": "in"}.get(chosen.get("dir", ""))
    if way is None or len(rest) != 1:
        return session.find("create_bd_port takes -dir I or O and a name")
    session.design.ports[rest[0]] = Pin(way, width)
    return f"/{rest[0]}"


def connect_bd_net(session: Session, words: Arguments) -> str:
    _, rest = session.options("connect_bd_net", words, "net")
    pins = [name.lstrip("/") for word in rest for name in session.words(word)]
    known = [name for name in pins if session.design.pin(name) is not None]
    if len(known) < 2:
        return session.find(f"connect_bd_net needs two pins, got {pins}")
    session.design.connect(known)
    return ""


def connect_bd_intf_net(session: Session, words: Arguments) -> str:
    _, rest = session.options("connect_bd_intf_net", words, "intf_net")
    names = [name.lstrip("/") for name in rest if name]
    if len(names) != 2 or any(session.design.bus(name) is None for name in names):
        return session.find(f"connect_bd_intf_net needs two buses, got {names}")
    session.design.links.append((names[0], names[1]))
    return ""


def assign_bd_address(session: Session, words: Arguments) -> str:
    chosen, rest = session.options(
        "assign_bd_address", words, "offset range target_address_space", "force"
    )
    space, segment = chosen.get("target_address_space", "").lstrip("/"), _last(rest)
    if not space or not segment or "offset" not in chosen or "range" not in chosen:
        return session.find("assign_bd_address needs -offset, -range, a space and a segment")
    text = chosen["range"]
    size = int(text[:-1]) * UNITS[text[-1]] if text[-1] in UNITS else int(text, 0)
    session.design.assignments.append(Assignment(space, segment, int(chosen["offset"], 0), size))
    return ""


def exclude_bd_addr_seg(session: Session, words: Arguments) -> str:
    chosen, rest = session.options("exclude_bd_addr_seg", words, "target_address_space")
    space, segment = chosen.get("target_address_space", "").lstrip("/"), _last(rest)
    if segment.endswith(("DDR_LOW", "DDR_HIGH")):
        session.find(f"{segment} is left out of {space}: memory there would answer DECERR")
    session.design.assignments.append(Assignment(space, segment, None, 0))
    return ""


def _last(rest: list[str]) -> str:
    return rest[-1].lstrip("/") if rest else ""


def validate_bd_design(session: Session, words: Arguments) -> str:
    session.events.append("validate")
    for cell in session.design.cells.values():
        if cell.kind is catalogue.PS and not cell.automated:
            session.find(f"the board's preset is not applied to {cell.name}")
    for finding in session.design.findings():
        session.find(finding)
    return ""


def save_bd_design(session: Session, words: Arguments) -> str:
    session.events.append("save")
    return ""


def _getter(command: str, known):
    """A get_* command: names that exist, each with a slash ahead; anything else is a finding."""

    def get(session: Session, words: Arguments) -> str:
        chosen, rest = session.options(command, words, "filter of_objects", "quiet")
        found = []
        for word in rest:
            for name in session.words(word):
                plain = name.lstrip("/")
                if known(session, plain):
                    found.append(f"/{plain}")
                elif "quiet" not in chosen:
                    session.find(f"{command} finds no {name}")
        return session.text(found)

    return get


def _space(session: Session, name: str) -> bool:
    return name in session.design.spaces()


def _segment(session: Session, name: str) -> bool:
    cell, _, segment = name.partition("/")
    return cell in session.design.cells and segment in session.design.cells[cell].segments


COMMANDS = {
    "create_bd_design": create_bd_design,
    "create_bd_cell": create_bd_cell,
    "apply_bd_automation": apply_bd_automation,
    "create_bd_port": create_bd_port,
    "connect_bd_net": connect_bd_net,
    "connect_bd_intf_net": connect_bd_intf_net,
    "assign_bd_address": assign_bd_address,
    "exclude_bd_addr_seg": exclude_bd_addr_seg,
    "validate_bd_design": validate_bd_design,
    "save_bd_design": save_bd_design,
    "get_bd_cells": _getter("get_bd_cells", lambda s, name: name in s.design.cells),
    "get_bd_pins": _getter(
        "get_bd_pins", lambda s, name: "/" in name and s.design.pin(name) is not None
    ),
    "get_bd_ports": _getter("get_bd_ports", lambda s, name: name in s.design.ports),
    "get_bd_intf_pins": _getter("get_bd_intf_pins", lambda s, name: s.design.bus(name) is not None),
    "get_bd_addr_spaces": _getter("get_bd_addr_spaces", _space),
    "get_bd_addr_segs": _getter("get_bd_addr_segs", _segment),
}
