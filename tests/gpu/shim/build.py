"""Compiles the CUDA units for the CPU: one shared object for each unit and set of flags, kept by content."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "gpu-shim"
FLAGS = (
    "-std=gnu++17",
    "-O0",  # the samples are small: compiling takes most of the time, and with -O1 three times as long
    "-w",
    "-shared",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-strict-aliasing",
    "-fcf-protection=none",
    "-ftrivial-auto-var-init=pattern",  # a variable that was never set shows
)
SANITIZERS = (
    "-fsanitize=address,alignment,bounds,shift-exponent,signed-integer-overflow",
    "-fno-sanitize-recover=all",
    "-g1",
)
_KERNEL = re.compile(
    r'extern "C" __global__ void\s+(?:__launch_bounds__\s*\(\s*(?P<bounds>[^)]*)\)\s*)?'
    r"(?P<name>\w+)\s*\((?P<parameters>[^)]*)\)"
)
_COOPERATES = re.compile(
    r"\b(__syncthreads\w*|__syncwarp|__shfl\w*_sync|__(ballot|any|all)_sync|mma_[us]8_16x8x32)\s*\("
)
_TYPE = r"(?:__align__\(\d+\)\s*)?(?P<type>[\w:<>, ]+?)\s+(?P<name>\w+)\s*"
_DYNAMIC_SHARED = re.compile(rf"extern\s+__shared__\s+{_TYPE}\[\s*\]\s*;")
_STATIC_SHARED = re.compile(rf"__shared__\s+{_TYPE}(?:\[[^\];]*\]\s*)*;")

ENTRIES = """
}}
#line 1 "entries.cpp"
#define EXPORT extern "C" __attribute__((visibility("default")))
static const shim::Row ROWS[] = {{{rows}}};
EXPORT const char* shim_types(int kernel) {{ return ROWS[kernel].types(); }}
EXPORT const char* shim_launch(int kernel, void** arguments, const unsigned* grid, const unsigned* block, char* shared,
                               size_t shared_bytes, bool reversed, char* message, size_t message_bytes) {{
    return shim::launch(ROWS[kernel], {cooperates}, arguments, grid, block, shared, shared_bytes, reversed, message,
                        message_bytes);
}}
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A kernel of a unit: its parameters' names, and the most threads of a block that its launch bounds allow."""

    name: str
    parameters: tuple[str, ...]
    most_threads: int

    @property
    def words(self) -> tuple[str, ...]:
        """The parameters declared WORDS(...)."""
        return tuple(p.removesuffix("_k0") for p in self.parameters if p.endswith("_k0"))


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX", "g++"))


def sanitizer_library() -> str:
    """What LD_PRELOAD must name for a process that loads units compiled with SANITIZERS."""
    found = subprocess.run(
        [str(compiler()), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return str(Path(found).resolve())


@lru_cache
def entries(text: str) -> tuple[Entry, ...]:
    """The kernels that a unit's text defines, macros expanded."""
    expanded = _preprocess(text)
    return tuple(
        Entry(
            match["name"],
            tuple(re.findall(r"(\w+)\s*(?:,|$)", match["parameters"])),
            _number(match["bounds"], 1024),
        )
        for match in _KERNEL.finditer(expanded)
    )


def build(unit: str, text: str, more_flags: tuple[str, ...] = ()) -> Path:
    """The shared object of a unit's text. Workers that want the same one wait for the first of them."""
    flags = (*FLAGS, *more_flags)
    program = _program(unit, text)
    headers = "".join(path.read_text() for path in sorted(HERE.glob("*.h")))
    digest = hashlib.sha256("\0".join((program, headers, *flags, _version())).encode()).hexdigest()[:16]
    path = BUILD / f"{unit}-{digest}.so"
    if path.exists():
        return path
    with _locked(path):
        if not path.exists():
            source, partial = path.with_suffix(".cpp"), path.with_suffix(".part")
            source.write_text(program)
            command = [str(compiler()), *flags, f"-I{HERE}", "-o", str(partial), str(source)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise ValueError(f"{unit}.cu does not compile for the CPU:\n{result.stderr[:4000]}")
            os.replace(partial, path)
    return path


def load(path: Path) -> ctypes.CDLL:
    """The shared object's functions with their types."""
    library = ctypes.CDLL(str(path))
    library.shim_types.restype = ctypes.c_char_p
    library.shim_launch.restype = ctypes.c_char_p
    library.shim_launch.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.POINTER(ctypes.c_uint),
        ctypes.POINTER(ctypes.c_uint),
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_bool,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return library


def _program(unit: str, text: str) -> str:
    found = entries(text)
    if not found:
        raise ValueError(f"{unit}.cu defines no kernel")
    rows = ", ".join(f'{{"{e.name}", shim::Entry<{e.name}>::call, shim::Entry<{e.name}>::types}}' for e in found)
    cooperates = "true" if _COOPERATES.search(_preprocess(text)) else "false"
    # In an unnamed namespace the unit's names hide those of the C library.
    head = '#include "shim.h"\nnamespace {\n'
    return head + _shared_memory(unit, text) + ENTRIES.format(rows=rows, cooperates=cooperates)


def _shared_memory(unit: str, text: str) -> str:
    """The text with its declarations of shared memory as shim.h wants them."""
    text = _DYNAMIC_SHARED.sub(r"\g<type>* \g<name> = (\g<type>*)shim::dynamic_shared;", text)
    declared = len(re.findall(r"\b__shared__\b", re.sub(r"//.*", "", text)))
    text, found = _STATIC_SHARED.subn(r"\g<0> shim::claim((void*)&\g<name>, sizeof(\g<name>));", text)
    if found != declared:
        raise ValueError(f"{unit}.cu: {declared - found} of {declared} __shared__ are not `__shared__ type name[...];`")
    return text


@lru_cache
def _preprocess(text: str) -> str:
    command = [str(compiler()), "-E", "-P", "-w", "-x", "c++", "-std=gnu++17", "-DSOTTOVOCE_HOST", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


@lru_cache
def _version() -> str:
    return subprocess.run([str(compiler()), "--version"], capture_output=True, text=True, check=True).stdout


def _number(expression: str | None, default: int) -> int:
    match = re.match(r"\(?\s*(\d+)", expression or "")
    return int(match[1]) if match else default


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
