"""Starts roles as processes of their own users: imports everything once as root, then forks one per role.

Reads one JSON object per line: {"uid", "log", "argv", "own": […], "foreign": […]}; answers with the child's pid. The
child gives up root for good, tries to open its own and the others' files, writes to its log what it could open, as one
JSON line, runs `sottovoce ARGV`, writes the exit status, and stays alive until standard input ends, so that its memory
can be looked at.
No secret is ever in the parent, whose memory every child starts with.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from sottovoce.cli import app
from sottovoce.cli.output import stdout_console
from sottovoce.kernels.warmup import warm_up
from sottovoce.models.compiler.compile import compile_graph
from sottovoce.models.graph import Dense, Graph, Reshape
from sottovoce.models.speech.demo_clip import demo_clip_path
from sottovoce.models.speech.extract import extract_features
from sottovoce.models.zoo import build

LATE = (
    "encodings.cp437",  # zip archives
    "encodings.idna",
    "rich.progress",
    "sottovoce.cli.output",
    "sottovoce.cli.report",
    "sottovoce.serving.classifier",
    "sottovoce.serving.dealer",
    "sottovoce.serving.owner",
    "sottovoce.serving.party",
    "sottovoce.serving.prepare",
)
"""What the commands import late must be loaded before root is given up: the interpreter may be root's own."""


def preload() -> None:
    """Load what the commands import late, on data that are nobody's."""
    for name in LATE:
        importlib.import_module(name)
    warm_up()
    build("paper")  # the weights that everybody has
    tiny = (Reshape("flat"), Dense("dense", np.ones((2, 2)), np.ones(2)))
    compile_graph(Graph("tiny", (1, 2), tiny, ("a", "b"), (0.0,), (1.0,)))
    extract_features([demo_clip_path()])
    stdout_console().print("", end="")


def openable(paths: list[str]) -> list[str]:
    """Those of the files and folders that this process can open."""
    found = []
    for path in paths:
        with suppress(PermissionError):
            os.close(os.open(path, os.O_RDONLY))
            found.append(path)
    return found


def child(spec: dict[str, Any]) -> None:
    """Never returns."""
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.setgroups([])
    os.setresgid(spec["uid"], spec["uid"], spec["uid"])
    os.setresuid(spec["uid"], spec["uid"], spec["uid"])
    os.chdir("/")
    access = {"uid": os.getuid(), "own": openable(spec["own"]), "foreign": openable(spec["foreign"])}
    print(json.dumps(access), flush=True)
    try:
        status = app.main(spec["argv"])
    except BaseException as error:
        status = f"{type(error).__name__}"
    print(f"status {status}", flush=True)
    while True:
        signal.pause()


def main() -> None:
    preload()
    print("ready", flush=True)
    children = []
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(json.loads(line))
        children.append(pid)
        print(pid, flush=True)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
