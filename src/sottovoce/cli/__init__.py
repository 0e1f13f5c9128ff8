"""The command line, one file per command. Whatever is slow to import is imported inside a command, never for --help."""

from sottovoce.cli.app import main

__all__ = ["main"]
