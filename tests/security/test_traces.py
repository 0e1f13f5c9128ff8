"""Traces, profiles and timelines hold names, sizes and times, and nothing of the secrets."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from sottovoce.bench.profiling.analyse import analyse
from sottovoce.bench.profiling.chrome import chrome_trace
from sottovoce.bench.profiling.table import critical_lines, make_table, overhead_text, request_text
from sottovoce.engine.protocols.table import PROTOCOLS
from sottovoce.engine.tracing.events import Event
from sottovoce.engine.tracing.file import PartyTrace
from sottovoce.models.compiler.compile import Compiled
from tests.security.small import TIME, small_batch, small_model
from tests.traced import traced_cluster

KEYS = {(a, b): bytes((17 * a + 5 * b + 3 * i * i + i) % 256 for i in range(32)) for a in range(3) for b in range(a, 3)}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def outputs(
    compiled: Compiled, folder: Path, encoded: NDArray[np.uint64], protocol: str
) -> tuple[str, list[PartyTrace], list[bytes]]:
    """All that tracing leaves behind, as one text; the traces; the seeds of preprocessing."""
    with traced_cluster(compiled, folder, lanes=2, pair_keys=KEYS, protocol=protocol) as traced:
        traced.run(encoded)
        traced.run(encoded[:1])
    traces, dealer = traced.traces(), traced.dealer
    analysis = analyse(traces, batch=len(encoded))
    profile = analysis.profile
    stream = io.StringIO()
    Console(file=stream, width=200).print(make_table(profile, everything=True))
    texts = [file.read_text() for file in traced.files]
    texts += [chrome_trace(analysis.header, analysis.requests).decode(), msgspec.json.encode(profile).decode()]
    texts += [stream.getvalue(), request_text(profile), overhead_text(profile), *critical_lines(profile)]
    return "\n".join(texts), traces, [] if dealer is None else [*dealer.seeds, *dealer.mask_seeds]


def leaks(text: str, integers: NDArray[np.int64], floats: NDArray[np.float64], secrets: list[bytes]) -> list[str]:
    """Secret numbers that stand in the text, and secret bytes as hexadecimal, base64, list or escapes."""
    numbers = {f"{float(word):.8e}" for word in NUMBER.findall(text)}
    # Small integers are sizes and counts too; these are larger than any size here and shorter than any time.
    found = [str(v) for v in integers if abs(int(v)) > 10**6 and f"{float(v):.8e}" in numbers]
    found += [str(v) for v in floats if f"{v:.8e}" in numbers]
    for secret in secrets:
        run = secret[:12]
        forms = (run.hex(), run[::-1].hex(), base64.b64encode(run).decode(), str(list(run))[1:-1], repr(run)[2:-1])
        plain = text.replace(" ", "")
        found += [form for form in forms if form.replace(" ", "") in plain]
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_outputs_hold_no_secret(protocol: str, tmp_path: Path) -> None:
    compiled = small_model()
    encoded = small_batch(compiled, 4)
    text, _, seeds = outputs(compiled, tmp_path, encoded, protocol)
    weights = np.concatenate([w.reshape(-1) for w in compiled.weights.values()])
    integers = np.concatenate([weights, encoded.reshape(-1)]).view(np.int64)
    assert (np.abs(integers) > 10**6).sum() > 50
    features = np.random.default_rng(0).uniform(-4, 4, (4, 1, TIME))  # as in small_batch
    bytes_of = [w.tobytes()[at : at + 16] for w in (weights, encoded) for at in (0, 64, 128)]
    secrets = [*KEYS.values(), *seeds, *bytes_of]
    assert leaks(text, integers, features.reshape(-1), secrets) == []
    assert not any(label in text for label in compiled.program.labels)
    assert "conv1d" in text and "trunc_relu" in text and compiled.program.name in text
    # The search notices each kind of secret.
    big = next(int(v) for v in integers if abs(int(v)) > 10**6)
    for careless in (f'"x": {big}', f"{features[1, 0, 3]!r}", KEYS[0, 1].hex(), str(list(bytes_of[0]))):
        assert leaks(text + careless, integers, features.reshape(-1), secrets), careless


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_its_times_a_trace_is_public(protocol: str, tmp_path: Path) -> None:
    """Other features, weights and labels leave the same names, sizes and order: they depend on public shapes only."""
    compiled = small_model()
    found = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        other = {name: np.roll(w, number).reshape(w.shape) for name, w in compiled.weights.items()}
        model = dataclasses.replace(compiled, weights=other)
        _, traces, _ = outputs(model, folder, small_batch(compiled, 3, seed=number), protocol)
        found.append([[[timeless(e) for e in lane] for r in t.requests for lane in r.lanes] for t in traces])
    assert found[0] == found[1] and len(found[0][0][0]) > 50


def timeless(event: Event) -> Event:
    return msgspec.structs.replace(event, start_ns=0, end_ns=0, wait_ns=0)
