"""Compile the kernels and load slow libraries before they are needed, and say so while it happens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

from sottovoce.cli.output import Narrator, remark

LIBROSA_S = 120.0
LOAD = "from sottovoce.cli.warm import load_feature_code; load_feature_code()"
WHY = "compiling the kernels for this processor (first use only: the machine code is kept on disk)"


def warm_up_visibly(
    narrator: Narrator, protocol: str, *, transfers: bool = False, always: bool = False, quiet: bool = False
) -> int:
    """Compile the protocol's kernels that are not on disk; returns the number of compiled functions.

    transfers: also those of preprocessing by oblivious transfer. always: also load what is on disk, so that no message
    waits for it. quiet: no remark that compilation begins.
    """
    from sottovoce.kernels.warmup import is_warm, warm_up

    names = _kernels(protocol, transfers)
    warm = is_warm(names)
    if warm and not always:
        return 0
    task = "loading kernels" if warm else "compiling kernels"
    if not warm and not quiet:
        remark(WHY)
    with narrator.bars({task: len(names)}) as update:
        return warm_up(lambda name, done, total: update(task, done), names)


def _kernels(protocol: str, transfers: bool = False) -> list[str]:
    from sottovoce.engine.protocols.table import find
    from sottovoce.kernels.catalog import TRANSFERS

    return [kernel.name for kernel in (*find(protocol).kernels, *(TRANSFERS if transfers else ()))]


def warm_up_everything(narrator: Narrator, protocol: str) -> int:
    """The protocol's kernels here and, on first use, librosa's compiled functions in a process beside: both on disk.

    Returns the number of our functions that were compiled.
    """
    from sottovoce.kernels.warmup import is_warm

    if is_warm(_kernels(protocol)):
        return 0
    with subprocess.Popen([sys.executable, "-c", LOAD], stdin=subprocess.DEVNULL) as beside:
        try:
            compiled = warm_up_visibly(narrator, protocol)
            remark("waiting for librosa, which compiles its own functions (first use only) ...")
            beside.wait(LIBROSA_S)
        except subprocess.TimeoutExpired:
            pass  # then whoever needs it compiles it
        finally:
            beside.kill()
    return compiled


@contextmanager
def feature_code_loading() -> Iterator[None]:
    """Load librosa and what it needs, which takes seconds, beside the block; afterwards it is there.

    So a client that waits for parties does not wait again, and the time of the features is that of the features.
    """
    thread = Thread(target=load_feature_code, name="load librosa")
    thread.start()
    yield  # after an error nobody needs it: no join
    thread.join()


def load_feature_code() -> None:
    """Use the feature code once."""
    # What is wrong with an installation shows when the first recording is read; what fails here because Python is
    # shutting down (Ctrl-C) concerns nobody.
    with suppress(Exception):
        import numpy as np

        from sottovoce.models.speech.audio import SAMPLE_RATE
        from sottovoce.models.speech.extract import extract_features

        extract_features([np.sin(np.arange(SAMPLE_RATE) / 10)])
