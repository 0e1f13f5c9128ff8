"""What the CPU that Numba compiles for can do, and the way to hand-written LLVM code for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from numba.core.registry import cpu_target
from numba.extending import intrinsic


def has_feature(name: str) -> bool:
    """Whether Numba's target machine has the LLVM feature `name`; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES count."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{name}" in str(features).split(",")


def is_x86() -> bool:
    """Whether Numba compiles for x86-64; other processors have features of the same names ("aes")."""
    triple, _, _ = cpu_target.target_context.codegen().magic_tuple()
    return str(triple).startswith("x86_64")


def inline_llvm(typed: Callable[..., Any]) -> Callable[..., None]:
    """Make a function callable from kernels whose body is LLVM code.

    `typed(typing_context, *argument_types)` returns (signature, generate), as `numba.extending.intrinsic` asks for. The
    code is inlined at every call site, so that call sites cost compile time.
    """
    return cast(Callable[..., None], intrinsic(typed))
