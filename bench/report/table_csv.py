"""Rows as CSV: one line for each, flat columns, units in the names. Numbers read back equal.

Single samples are in the JSON only.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from sottovoce.bench.schema import AccuracyRow, OfflineRow, Results, Row, Summary

PARTIES: Final = 4
"""Columns for each value that exists by party; a row with more parties does not fit and raises."""
SUMMARIES: Final = (
    "online_ms", "party_ms", "compute_ms", "wait_ms", "sharing_ms", "opening_ms", "offline_ms",
)  # fmt: skip
BY_PARTY: Final[Mapping[str, str]] = MappingProxyType(
    {"offline_bytes": "offline_bytes", "bytes_sent": "sent_bytes", "memory_mb": "memory_mb"}
)
"""Field -> column: the unit is in the name."""
PLAIN: Final = (
    "system", "version", "protocol", "adversary", "security", "parties", "model", "random_weights", "batch", "lanes",
    "encrypted", "status", "reason", "preprocessing", "clips_per_s", "rounds", "input_bytes", "output_bytes",
    "label_agreement", "labels_seen",
)  # fmt: skip
OFFLINE: Final = ("model", "protocol", "source", "clips", "encrypted", "status", "reason")
ENVIRONMENT: Final = ("created", "commit", "dirty", "processor", "cores", "device")

Value = str | int | float | bool | None


def to_csv(results: Results) -> str:
    """All rows of a file; of a file without them its accuracy or offline rows. Lines end in \\n."""
    where = {name: getattr(results.environment, name) for name in ENVIRONMENT}
    if results.offline:
        return _write([_offline(row) | where for row in results.offline])
    if not results.rows:
        return _write([_accuracy(row) | where for row in results.accuracy])
    return _write([_flat(row) | where | {"device": row.device} for row in results.rows])


def _flat(row: Row) -> dict[str, Value]:
    line: dict[str, Value] = {name: getattr(row, name) for name in PLAIN}
    for name in SUMMARIES:
        line |= _summary(name, getattr(row, name))
    for name, column in BY_PARTY.items():
        line |= _by_party(column, getattr(row, name))
    used = row.network
    line |= {"network": used.name, "network_method": used.method}
    line |= {"network_rtt_ms": used.rtt_ms, "network_mbit_s": used.mbit_s}
    line |= _summary("network_measured_rtt_ms", used.measured_rtt_ms)
    line |= _summary("network_measured_mbit_s", used.measured_mbit_s)
    line["settings"] = "; ".join(f"{key} = {value}" for key, value in row.settings.items())
    return line


def _accuracy(row: AccuracyRow) -> dict[str, Value]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _offline(row: OfflineRow) -> dict[str, Value]:
    line: dict[str, Value] = {name: getattr(row, name) for name in OFFLINE}
    line |= _summary("clip_ms", row.clip_ms)
    for name in ("clip_bytes", "clip_stored_bytes"):
        line |= _by_party(name, getattr(row, name))
    return line | {"network": row.network.name, "network_method": row.network.method}


def _summary(name: str, summary: Summary | None) -> dict[str, Value]:
    fields = msgspec.structs.fields(Summary)
    return {f"{name}_{field.name}": None if summary is None else getattr(summary, field.name) for field in fields}


def _by_party(column: str, values: Sequence[float]) -> dict[str, Value]:
    padded = [*values, *[None] * (PARTIES - len(values))]
    assert len(padded) == PARTIES
    return {f"{column}_p{rank}": value for rank, value in enumerate(padded)}


def _inert(value: Value) -> Value:
    """A spreadsheet takes text that begins so for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _write(lines: Iterable[Mapping[str, Value]]) -> str:
    lines = list(lines)
    if not lines:
        return ""
    lines = [{name: _inert(value) for name, value in line.items()} for line in lines]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()
