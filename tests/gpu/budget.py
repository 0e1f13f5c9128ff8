"""Gate 1: every unit compiles for the GPUs that we name, and its kernels stay within their budget of registers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sottovoce.kernels.gpu.sources import OPTIONS

REGISTERS = 128
"""Two blocks of 256 threads on a multiprocessor."""
MORE_REGISTERS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {"contract_leaves": (152, "sums and two keystreams at once; 128 for sm_90")}
)
"""Kernel: its limit, and why it needs more."""
STACK_BYTES: Mapping[str, tuple[int, str]] = MappingProxyType({})
"""Kernel: bytes of local memory that it may use, and why."""

_PROPERTIES = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the assembler tells of a kernel."""

    kernel: str
    registers: int
    stack_bytes: int
    spill_bytes: int
    shared_bytes: int

    def problems(self) -> list[str]:
        """What exceeds its budget."""
        registers, _ = MORE_REGISTERS.get(self.kernel, (REGISTERS, ""))
        stack_bytes, _ = STACK_BYTES.get(self.kernel, (0, ""))
        found = []
        if self.registers > registers:
            found.append(f"{self.kernel}: {self.registers} registers, at most {registers}")
        if self.stack_bytes > stack_bytes:
            found.append(f"{self.kernel}: {self.stack_bytes} bytes of local memory, at most {stack_bytes}")
        if self.spill_bytes:
            found.append(f"{self.kernel}: {self.spill_bytes} bytes spilled")
        return found


class CompileError(AssertionError):
    """What NVRTC says."""


def usage(unit: str, text: str, architecture: str) -> list[Usage]:
    """Compile a unit's text with NVRTC, which needs no GPU. CompileError with its log."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(text, f"{unit}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture={architecture}", "--ptxas-options=-v"))
        assert nvrtc.getCUBIN(program)
        log = nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError:
        raise CompileError(f"{unit}.cu for {architecture}:\n{nvrtc.getProgramLog(program)[:4000]}") from None
    finally:
        nvrtc.destroyProgram(program)
    return [_usage(match) for match in _PROPERTIES.finditer(log)]


def _usage(match: re.Match[str]) -> Usage:
    shared = re.search(r"(\d+) bytes smem", match["rest"])
    spilled = int(match["stores"]) + int(match["loads"])
    return Usage(match["name"], int(match["registers"]), int(match["stack"]), spilled, int(shared[1]) if shared else 0)
