"""The process that holds a network: makes the namespaces, says where they are, carries packets until its input ends.

Started as `python -m sottovoce.bench.network.holder NODES RTT_MS MBIT_S`; writes one JSON line, an `Answer`. Everything
it made goes with it, and it goes when its standard input ends: when its parent closes it, or dies.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys

import msgspec

from sottovoce.bench.network import namespaces, netem
from sottovoce.bench.network.profiles import Link
from sottovoce.bench.schema import NetworkMethod

_PR_SET_TIMERSLACK = 29


class Answer(msgspec.Struct, frozen=True):
    """error: why there is no network. namespaces: by node, descriptors of the holder. user: it has a user namespace."""

    error: str = ""
    method: NetworkMethod = "user-space"
    namespaces: list[int] = []
    user: bool = False


def main() -> int:
    """Build, answer, carry."""
    nodes, link = int(sys.argv[1]), Link(rtt_ms=float(sys.argv[2]), mbit_s=float(sys.argv[3]))
    devices: list[int] = []
    try:
        user = _become_administrator()
        try:
            held = netem.build(link, nodes, f"/proc/{os.getpid()}/fd")
            method: NetworkMethod = "netem"
        except netem.NetemMissingError:
            method = "user-space"
            held = []
            for node in range(nodes):
                held.append(namespaces.new_namespace())
                devices.append(namespaces.open_tun())
                namespaces.configure(node)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        _answer(Answer(error=f"{what}{error.strerror}"))
        return 1
    if not devices:
        _answer(Answer(method=method, namespaces=held, user=user))
        select.select([sys.stdin], [], [])
        return 0
    # Not before: NumPy starts threads, and a process with threads cannot have a new user namespace.
    from sottovoce.bench.network.shaper import carry, compile_loop

    compile_loop(link)
    _be_punctual()
    _answer(Answer(method=method, namespaces=held, user=user))
    carry(devices, sys.stdin.fileno(), link)
    return 0


def _become_administrator() -> bool:
    """True if that took a user namespace. Raises OSError where neither way is allowed."""
    try:
        namespaces.new_namespace()
    except PermissionError:
        namespaces.new_user_namespace()
        return True
    return False


def _be_punctual() -> None:
    """Run before the parties when a packet is due, where this user may ask for that; timers without slack."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return  # the measured values show what it costs


def _answer(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
