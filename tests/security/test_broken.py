"""The checks of this folder notice leaks: run on variants of `rep3` that are broken on purpose."""

from __future__ import annotations

import pytest

from tests.conformance.operations import OPERATIONS
from tests.security.broken import BROKEN, SUBTLE, RepeatingStream, ZeroStream
from tests.security.coupling import Experiment, NoCouplingError, couple, mask_map
from tests.security.test_coupling import fixed_slots
from tests.security.test_views import findings, runs_of
from tests.security.views import PARTIES, fixed_keys


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in SUBTLE])
def test_uniformity_notices(name: str) -> None:
    operation, protocol = OPERATIONS[BROKEN[name][0]], BROKEN[name][1]
    assert any(findings(operation, runs_of(operation, corrupt, 0, protocol), corrupt) for corrupt in range(PARTIES))


@pytest.mark.parametrize("name", BROKEN)
def test_coupling_notices(name: str) -> None:
    operation, protocol = OPERATIONS[BROKEN[name][0]], BROKEN[name][1]

    def leaks(corrupt: int) -> bool:
        experiment = Experiment(operation, corrupt, 0, fixed_keys(corrupt), protocol)
        first, second = (fixed_slots(operation, corrupt, kind) for kind in ("random", "smallest"))
        try:
            couple(experiment, first, second, mask_map(experiment, first))
        except NoCouplingError:
            return True
        return False

    assert any(leaks(corrupt) for corrupt in range(PARTIES))


@pytest.mark.parametrize(
    ("name", "stream"), [("and", ZeroStream), ("trunc_relu 32 16", ZeroStream), ("and", RepeatingStream)]
)
def test_uniformity_notices_a_bad_stream(name: str, stream: type) -> None:
    operation = OPERATIONS[name]
    assert any(
        findings(operation, runs_of(operation, corrupt, 0, make_stream=stream), corrupt) for corrupt in range(PARTIES)
    )
