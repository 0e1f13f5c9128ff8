"""What the command's exit status means."""

from __future__ import annotations

from enum import IntEnum

from sottovoce.engine.errors import (
    InputError,
    PreprocessingError,
    ProtocolError,
    SecurityAbort,
    SottovoceError,
    TransportError,
)


class Exit(IntEnum):
    """Exit statuses, the same for every command."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    TRANSPORT = 3
    SECURITY = 4
    INTERNAL = 70
    INTERRUPTED = 130


MEANING = """exit status:
  0    all is well
  1    at least one recording could not be used, any others were classified; `bench`: a row failed, or B is slower
  2    wrong usage, configuration, certificates, model or preprocessed material; a file or folder that cannot be used
  3    a message could not be exchanged: a peer is down, late, not the expected one, or sent something malformed
  4    a protocol rule would have been broken, or a check against cheating failed
  70   an error inside sottovoce
  130  interrupted
"""


class CommandError(SottovoceError):
    """A command failed and knows its status."""

    def __init__(self, text: str, status: Exit) -> None:
        super().__init__(text)
        self.status = status


def exit_for(error: SottovoceError) -> Exit:
    """The status with which an error ends the command."""
    if isinstance(error, CommandError):
        return error.status
    if isinstance(error, TransportError):
        return Exit.TRANSPORT
    if isinstance(error, ProtocolError | SecurityAbort):
        return Exit.SECURITY
    if isinstance(error, InputError | PreprocessingError | ValueError):  # ConfigError is a ValueError
        return Exit.USAGE
    return Exit.INTERNAL
