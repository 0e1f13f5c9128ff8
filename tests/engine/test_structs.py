"""A type that several threads decode for the first time at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIRST_AT_ONCE = """
import sys
import threading
import msgspec
from sottovoce.engine.structs import convert, parse_json, unpack

sys.setswitchinterval(1e-6)
known = {"unpack": (unpack, msgspec.msgpack.encode), "parse_json": (parse_json, msgspec.json.encode),
         "convert": (convert, lambda value: value)}
ways = [known[name] for name in NAMES]

for number in range(40):  # a type of 20 others is looked at for a while
    leaves = [msgspec.defstruct(f"Leaf{number}_{i}", [("x", tuple[int, ...] | None, None)]) for i in range(20)]
    kind = msgspec.defstruct(f"Kind{number}", [(f"f{i}", leaf | None, None) for i, leaf in enumerate(leaves)])
    gate = threading.Barrier(4)

    def work(decode, encode):
        data = encode({"f19": {"x": (1, 2)}})
        gate.wait()
        assert decode(data, kind).f19.x == (1, 2)

    threads = [threading.Thread(target=work, args=ways[i % len(ways)]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("done")
"""


@pytest.mark.parametrize("names", ["unpack", "parse_json", "convert", "unpack parse_json convert"])
def test_threads_may_decode_a_type_for_the_first_time_at_once(names: str) -> None:
    script = FIRST_AT_ONCE.replace("NAMES", repr(names.split()))
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout, found.stderr) == (0, "done\n", "")
