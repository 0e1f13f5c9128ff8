"""Structs from bytes, in any thread: the only place where msgspec decodes (ruff's banned-api sees to that).

msgspec looks at a type when it first decodes one, and two threads that do so at once can end the process; parties in
one process, and the connections of a mesh, decode their first messages at once. All that decodes takes turns here: also
two types that have a third one in common are looked at one after the other. It costs no time, for msgspec holds the
interpreter's lock while it decodes.
"""

from __future__ import annotations

import threading
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")
_ONE_AT_A_TIME: Final = threading.Lock()


def unpack(data: bytes, kind: type[T]) -> T:
    """MessagePack -> a value of a type, checked. Raises what `msgspec.msgpack.decode` raises."""
    with _ONE_AT_A_TIME:
        return msgspec.msgpack.decode(data, type=kind)


def parse_json(data: bytes | str, kind: type[T]) -> T:
    """JSON -> a value of a type, checked. Raises what `msgspec.json.decode` raises."""
    with _ONE_AT_A_TIME:
        return msgspec.json.decode(data, type=kind)


def convert(value: object, kind: type[T]) -> T:
    """Dictionaries, lists, … -> a value of a type, checked. Raises what `msgspec.convert` raises."""
    with _ONE_AT_A_TIME:
        return msgspec.convert(value, type=kind)
