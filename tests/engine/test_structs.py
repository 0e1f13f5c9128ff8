"""A type that several threads decode for the first time at once."""

from __future__ import annotations

import subprocess
import sys

FIRST_AT_ONCE = """
import threading
import msgspec
from sottovoce.engine.structs import unpack

for number in range(60):
    fields = [(f"f{i}", tuple[int, ...] | None, None) for i in range(12)]
    kind = msgspec.defstruct(f"Kind{number}", fields)
    data = msgspec.msgpack.encode({"f3": (1, 2)})
    gate = threading.Barrier(4)

    def work():
        gate.wait()
        assert unpack(data, kind).f3 == (1, 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("done")
"""


def test_threads_may_decode_a_type_for_the_first_time_at_once() -> None:
    found = subprocess.run([sys.executable, "-c", FIRST_AT_ONCE], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "done\n"), found.stderr
