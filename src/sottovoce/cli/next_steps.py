"""What to type after the demo."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sottovoce.engine.protocols.table import ProtocolRow

DEFAULT = "rep3"
NUMBERS: Mapping[int, str] = MappingProxyType({2: "four", 3: "five"})
"""Processes of so many computing parties with an owner and a client."""


def next_steps(row: ProtocolRow) -> list[str]:
    """The commands for one's own recordings, in one process and in one for each role."""
    command = command_name()
    given = "" if row.name == DEFAULT else f" --protocol {row.name}"
    dealer = [f"  {command} dealer --cluster cluster.toml --certs deployment/dealer &"] if row.preprocessing else []
    prepare = [
        f"  {command} prepare {r} --clips 100 --store p{r} --cluster cluster.toml --certs deployment/party{r}"
        + (" &" if r + 1 < row.parties else "")
        for r in range(row.parties)
        if row.preprocessing
    ]
    stores = [f" --store p{r}" if row.preprocessing else "" for r in range(row.parties)]
    return [
        "Your own recordings (WAV, FLAC, Ogg, MP3, …; files or folders), all parties",
        "inside one process, for evaluation:",
        f"  {command} classify my.wav{given}",
        f"With {NUMBERS[row.parties]} processes, each with its own certificate folder, here (on several",
        "machines: certs --help, --host):",
        f"  {command} certs deployment --cluster-file cluster.toml{given}",
        *dealer,
        *prepare,
        *(
            f"  {command} party {r} --cluster cluster.toml --certs deployment/party{r}{stores[r]} &"
            for r in range(row.parties)
        ),
        f"  {command} deploy paper --cluster cluster.toml --certs deployment/owner-bob",
        f"  {command} classify my.wav --cluster cluster.toml --certs deployment/client-alice",
        "  kill $(jobs -p)    # ends what runs; `jobs` lists it",
    ]


def command_name() -> str:
    """How this installation's command is called from the current folder."""
    script = Path(sys.executable).with_name("sottovoce")
    found = shutil.which("sottovoce")
    if found is not None and Path(found).resolve() == script.resolve():
        return "sottovoce"
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m sottovoce"
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))
