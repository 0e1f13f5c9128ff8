"""The trace file of one party: JSON lines, first a header, then a line for each request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.engine.errors import ConfigError
from sottovoce.engine.files import read_bounded
from sottovoce.engine.program import OutputKind
from sottovoce.engine.structs import parse_json
from sottovoce.engine.tracing.events import Event

SCHEMA: Final = "sottovoce-trace"
VERSION: Final = 1
MAX_BYTES: Final = 1 << 28


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Whose trace this is. program: digest of the public program. clock: equal where two files share one clock."""

    schema: str = SCHEMA
    version: int = VERSION
    rank: int
    parties: int
    protocol: str
    model: str
    program: str
    lanes: int
    device: str
    encrypted: bool
    clock: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request at one party: from holding its share of the input to holding its part of the output."""

    batch: int
    output: OutputKind
    start_ns: int
    end_ns: int
    lanes: list[list[Event]]


@dataclass(frozen=True, slots=True)
class PartyTrace:
    """All that one party wrote."""

    header: Header
    requests: Sequence[Request]


def read_trace(path: Path) -> PartyTrace:
    """Read a party's trace. Raises ConfigError that names the file and what is wrong."""
    try:
        lines = read_bounded(path, MAX_BYTES).splitlines()
        if not lines:
            raise ConfigError(f"trace {path}: expected a header, got an empty file: has the party had a model yet?")
        kind = parse_json(lines[0], _Kind)
        if (kind.schema, kind.version) != (SCHEMA, VERSION):
            raise ConfigError(f"trace {path}: expected {SCHEMA} {VERSION}, got {kind.schema!r} {kind.version}")
        header = parse_json(lines[0], Header)
        return PartyTrace(header, [parse_json(line, Request) for line in lines[1:]])
    except OSError as error:
        raise ConfigError(f"trace {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"trace {path}: expected what `sottovoce party --trace` writes: {error}") from None


class _Kind(msgspec.Struct):
    schema: str = ""
    version: int = 0
