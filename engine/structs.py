"""Structs from bytes, in any thread.

msgspec looks at a type when it first decodes one, and two threads that do so at once can end the process; parties in
one process, and the connections of a mesh, decode their first messages at once.
"""

from __future__ import annotations

import threading
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")
_ONE_AT_A_TIME: Final = threading.Lock()


def unpack(data: bytes, kind: type[T]) -> T:
    """MessagePack -> a struct, checked. Raises what `msgspec.msgpack.decode` raises."""
    with _ONE_AT_A_TIME:
        return msgspec.msgpack.decode(data, type=kind)
