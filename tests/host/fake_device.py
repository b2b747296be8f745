"""A device made of nothing but the specification: slow, obvious, and able to fail on demand.

It finds every value with ``spec.layout.locate*`` and adds in Python integers and rounds with
``spec.numeric``, so it shares no code with the packer, the golden model or the hardware.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from host.device.transport import Buffer
from spec import commands, layout, numeric, registers
from spec.config import Config
from spec.digest import digest
from spec.errors import DeviceError
from spec.layout import Matrix

BASE = 0x1_0000_0000
"""Memory starts above 4 GB, so that the high halves of addresses matter."""


class FakeDevice:
    """Implements ``host.device.transport.Transport``.

    ``fail_next`` makes the next list end with that value of the ``error`` register at
    ``fail_address``. ``columns`` tells K, which a descriptor holds only in whole chunks.
    """

    name = "fake"

    def __init__(self, config: Config, memory_bytes: int = 8 << 20) -> None:
        self.config = config
        self.memory = np.zeros(memory_bytes, np.uint8)
        self.used = 0
        self.columns: int | None = None
        self.registers = dict.fromkeys(registers.OFFSETS, 0)
        self.registers["magic"] = registers.MAGIC
        self.registers["version"] = registers.VERSION
        self.registers["digest_low"] = digest(config) & 0xFFFFFFFF
        self.registers["digest_high"] = digest(config) >> 32
        self.calls: Counter[str] = Counter()
        self.fail_next: int = 0
        self.fail_address = 0
        self.scratch_mask = 0xFFFFFFFF

    def read_register(self, offset: int) -> int:
        return self.registers[registers.REGISTERS[offset // registers.STRIDE].name]

    def write_register(self, offset: int, value: int) -> None:
        name = registers.REGISTERS[offset // registers.STRIDE].name
        assert registers.BY_NAME[name].access != "ro", name
        if name == "doorbell":
            self._run(value)
        elif name == "control":
            if registers.decode("control", value)["clear"]:
                for held in ("error", "error_address_low", "error_address_high", "status"):
                    self.registers[held] = 0
        else:
            self.registers[name] = value & (self.scratch_mask if name == "scratch" else ~0)

    def allocate(self, size: int) -> Buffer:
        self.calls["allocate"] += 1
        start, self.used = self.used, self.used + -(-size // 4096) * 4096
        if self.used > len(self.memory):
            raise DeviceError(f"device fake has no {size} bytes left")
        return Buffer(BASE + start, self.memory[start : start + size])

    def flush(self, buffer: Buffer) -> None:
        self.calls["flush"] += 1

    def invalidate(self, buffer: Buffer) -> None:
        self.calls["invalidate"] += 1

    def wait(self, timeout: float) -> None:
        self.calls["wait"] += 1

    def close(self) -> None:
        self.calls["close"] += 1

    def count(self, name: str, amount: int) -> None:
        """Moves a counter on, modulo 2**32 like the hardware's."""
        self.registers[name] = (self.registers[name] + amount) & 0xFFFFFFFF

    def _run(self, count: int) -> None:
        self.calls["doorbell"] += 1
        if self.fail_next:
            self.registers["status"] = registers.encode("status", error=1)
            self.registers["error"] = self.fail_next
            self.registers["error_address_low"] = self.fail_address & 0xFFFFFFFF
            self.registers["error_address_high"] = self.fail_address >> 32
            self.fail_next = 0
            return
        start = self.registers["list_address_high"] << 32 | self.registers["list_address_low"]
        for index in range(count):
            at = start - BASE + index * commands.BYTES
            self._matmul(commands.unpack(self.memory[at : at + commands.BYTES].tobytes()))
            self.count("completed", 1)

    def _matmul(self, fields: dict[str, int]) -> None:
        config = self.config
        bits = 8 if fields["weights8"] else 4
        group = {code: size for size, code in commands.GROUP_CODES.items()}[fields["group"]]
        columns = self.columns or fields["chunks"] * config.beat_bits // bits
        matrix = Matrix(config, fields["tiles"] * config.tile_rows, columns, bits, group)
        assert matrix.beats == fields["weight_beats"]
        assert matrix.activation_beats(fields["tokens"]) == fields["activation_beats"]
        beats = matrix.beats + fields["activation_beats"] + commands.beats(config)
        self.count("busy_cycles", 10 + beats)
        self.count("stall_data", 10)
        for port in range(config.ports):
            self.count(f"beats_port{port}", beats)
        written = fields["result_beats"]
        self.count("beats_written", written)
        if fields["top_k"]:
            self._choices(matrix, fields)
            return
        assert written * config.port_bytes == matrix.result_bytes(fields["tokens"], "fp32")
        for token in range(fields["tokens"]):
            for n in range(matrix.rows):
                offset = matrix.locate_result(fields["tokens"], token, n, "fp32")
                at = fields["results"] - BASE + offset
                pattern = self._result(matrix, fields, token, n)
                self.memory[at : at + 4] = np.frombuffer(pattern.to_bytes(4, "little"), np.uint8)

    def _choices(self, matrix: Matrix, fields: dict[str, int]) -> None:
        """The top-k of each token: sorted by value, equal ones by row."""
        count = matrix.rows - self.config.tile_rows + fields["last_rows"] + 1
        out = b""
        for token in range(fields["tokens"]):
            patterns = [self._result(matrix, fields, token, n) for n in range(count)]
            values = np.array(patterns, np.uint32).view(np.float32).tolist()
            order = sorted((-value, n) for n, value in enumerate(values))
            for _, n in order[: fields["top_k"]]:
                out += patterns[n].to_bytes(4, "little") + n.to_bytes(4, "little")
        assert len(out) == fields["result_beats"] * self.config.port_bytes
        at = fields["results"] - BASE
        self.memory[at : at + len(out)] = np.frombuffer(out, np.uint8)

    def _result(self, matrix: Matrix, fields: dict[str, int], token: int, n: int) -> int:
        weights = (fields["weights"], fields["weight_stride"])
        inputs = (fields["activations"], fields["activation_stride"])
        tokens, total = fields["tokens"], 0
        for k in range(matrix.columns):
            nibbles = [self._bits(*weights, spot, 4) for spot in matrix.locate(n, k)]
            if matrix.bits == 4:
                weight = nibbles[0] - self._bits(*weights, matrix.locate_zero(n, k), 4)
            else:
                weight = nibbles[0] + 16 * nibbles[1] - 128
            scale = self._bits(*weights, matrix.locate_scale(n, k), 16)
            mantissa, scale_shift = numeric.scale_fields(scale)
            value = _signed(self._bits(*inputs, matrix.locate_activation(tokens, token, k), 8))
            shift = self._bits(*inputs, matrix.locate_shift(tokens, token, k), 8)
            total += weight * value * mantissa << (scale_shift + numeric.SHIFT_MAX - shift)
        base = _signed(self._bits(*inputs, matrix.locate_base(token), 8))
        return numeric.round_result(total, base, "fp32")

    def _bits(self, address: int, stride: int, spot: layout.Place, width: int) -> int:
        at = address - BASE + spot.port * stride + spot.offset
        size = -(-(spot.bit + width) // 8)
        value = int.from_bytes(self.memory[at : at + size].tobytes(), "little")
        return value >> spot.bit & ((1 << width) - 1)


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte
