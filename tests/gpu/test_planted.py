"""The gates find what they are there for: each planted bug, and by the gate that is named for it.

That the sources pass without the bugs is what test_gates.py shows.
"""

from __future__ import annotations

import pytest

from sottovoce.bench.gpu.twin import MismatchError
from tests.gpu.budget import CompileError, usage
from tests.gpu.planted import BUGS, DYNAMIC_INDEX, Bug
from tests.gpu.require import needs_compiler, needs_nvrtc
from tests.gpu.sanitizer import MOST_SECONDS, sanitize
from tests.gpu.shim.host import KernelError, Mode

SANITIZED = [name for name, bug in BUGS.items() if "asan" in bug.found_by]
CRASHES = "wide access to an address that is not aligned"
"""Where the compiler uses an aligned instruction."""


@needs_compiler
@pytest.mark.parametrize("mode", ["plain", "reversed"])
@pytest.mark.parametrize("bug", [pytest.param(bug, id=name) for name, bug in BUGS.items() if name != CRASHES])
def test_execution_finds(bug: Bug, mode: Mode) -> None:
    if mode not in bug.found_by:
        bug.run(mode)
        return
    with pytest.raises((MismatchError, KernelError), match=bug.found_by[mode]):
        bug.run(mode)


@needs_compiler
@pytest.mark.timeout(MOST_SECONDS + 20)
@pytest.mark.parametrize("name", SANITIZED)
def test_the_sanitizers_find(name: str) -> None:
    (verdict,) = sanitize([name], "tests.gpu.planted")
    assert BUGS[name].found_by["asan"] in verdict.problem


@needs_compiler
def test_a_process_that_ends_without_the_sanitizers_says_why() -> None:
    verdicts = sanitize(["add", "sub"], "tests.gpu.no_such_module")
    assert [verdict.kernel for verdict in verdicts] == ["add", "sub"] and not any(v.launches for v in verdicts)
    assert all("stopped with 1:" in v.problem and "No module named tests.gpu.no_such" in v.problem for v in verdicts)


@needs_nvrtc
def test_the_budget_finds_local_memory() -> None:
    found = usage("ring", DYNAMIC_INDEX.text("ring"), "sm_90")
    problems = [problem for kernel in found for problem in kernel.problems()]
    assert any("ring_mask_zero" in problem and "bytes of local memory, at most 0" in problem for problem in problems)


@needs_nvrtc
def test_what_does_not_compile_is_an_error_with_the_line() -> None:
    with pytest.raises(CompileError, match=r'ring\.cu for sm_80:\nunit\.cu\(2\): error: .*"i65"'):
        usage("ring", '#line 1 "unit.cu"\n\ni65 x;\n', "sm_80")
