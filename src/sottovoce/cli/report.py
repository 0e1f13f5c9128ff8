"""What `sottovoce classify` shows: a table and a summary, or the same as JSON."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from sottovoce import __version__
from sottovoce.cli.classify import Result, Row
from sottovoce.cli.output import (
    count,
    error_json,
    has_random_weights,
    labelled,
    milliseconds,
    offline_lines,
    per_party,
    printable,
    show_marks,
    stdout_console,
)
from sottovoce.engine.protocols.table import find
from sottovoce.serving.cost import RequestCost, add_costs

IN_PROCESS = "everything ran inside this process, which saw all: for evaluation"


def as_json(result: Result) -> dict[str, Any]:
    """The documented JSON object.

    results: in the order of the recordings; predictions in Hugging Face's shape, best first, or an error.
    encrypted: whether every link was TLS; null where there was no link. cost: null if nothing was asked of the parties.
    """
    program, setting = result.program, result.setting
    return {
        "version": __version__,
        "where": "cluster" if setting.remote else "in-process",
        "model": program.name,
        "program": program.digest.hex(),
        "calibrated": program.calibrated,
        "random_weights": has_random_weights(program),
        "protocol": setting.protocol,
        "security": _security(setting.protocol),
        "encrypted": result.encrypted if setting.remote else None,
        "insecure": not result.encrypted,
        "results": [_row_json(row) for row in result.rows],
        "failed": result.failed,
        "error": None if result.failure is None else error_json(result.failure),
        "cost": _cost_json(result) if result.costs else None,
    }


def show(result: Result, *, with_scores: bool) -> None:
    """A row for each recording, then a summary."""
    console = stdout_console()
    console.print(_table(result, with_scores=with_scores))
    for line in _summary(result):
        console.print(line, soft_wrap=True)
    show_marks(console, result.program, encrypted=result.encrypted)


def time_lines(cost: RequestCost, features_ms: float, *, remote: bool) -> list[str]:
    """Time and traffic of all requests, as lines."""
    parts = [f"features {milliseconds(features_ms)}"]
    if remote:
        parts.append(f"sharing {milliseconds(cost.sharing_ms)}")
    parts.append(f"online {milliseconds(cost.online_ms)}")
    if remote:
        parts.append(f"opening {milliseconds(cost.opening_ms)}")
    lines = ["time      " + "   ".join(parts) + ("" if remote else "   (sharing and opening in online)")]
    lines += offline_lines(cost.offline_ms, cost.offline_bytes)
    if cost.rounds:
        lines.append(f"sent      {per_party(cost.bytes_sent)} bytes to other parties")
        if remote:
            lines.append(f"          input shares {cost.input_bytes:,} bytes, answers {cost.output_bytes:,} bytes")
        lines.append(f"rounds    {cost.rounds}")
    return lines


def _table(result: Result, *, with_scores: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", overflow="fold")
    table.add_column("label", overflow="fold")
    if with_scores:
        table.add_column("score", justify="right")
    for row in result.rows:
        name = printable(row.file)
        if row.error is not None:
            # What ended the run is said once, behind the results.
            text = "not classified" if row.error is result.failure else printable(f"ERROR: {row.error}")
            table.add_row(name, text, style="red")
        for place, prediction in enumerate(row.predictions):
            score = prediction["score"]
            cells = [name if place == 0 else "", printable(prediction["label"])]
            table.add_row(*cells, *([] if score is None else [f"{score:.3f}"]))
    return table


def _summary(result: Result) -> list[str]:
    program, setting = result.program, result.setting
    lines = [
        "",
        f"{count(len(result.rows) - result.failed, 'recording')} classified"
        + (f", {result.failed:,} failed" if result.failed else ""),
        f"model     {program.name}, program {program.digest.hex()[:16]}…",
        labelled("protocol", f"{setting.protocol} ({_security(setting.protocol)})"),
    ]
    if result.costs:
        requests = len(result.costs)
        lines += time_lines(add_costs(result.costs), result.features_ms, remote=setting.remote)
        lines[-1] += f" in {count(requests, 'request')}" if requests > 1 else ""
    if not setting.remote:
        lines.append(IN_PROCESS)
    elif result.encrypted:
        lines.append("links     mutual TLS 1.3")
    return lines


def _security(protocol: str) -> str:
    return "no protection: computed in the clear" if protocol == "plain" else find(protocol).security


def _row_json(row: Row) -> dict[str, Any]:
    if row.error is not None:
        return {"file": row.file, "error": error_json(row.error)}
    return {"file": row.file, "predictions": [dict(prediction) for prediction in row.predictions]}


def _cost_json(result: Result) -> dict[str, Any]:
    cost = add_costs(result.costs)
    fields = {name: getattr(cost, name) for name in cost.__slots__ if name not in ("batch", "encrypted")}
    return {"requests": len(result.costs), "clips": cost.batch, "features_ms": result.features_ms, **fields}
