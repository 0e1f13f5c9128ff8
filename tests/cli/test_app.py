"""Parsing, help, exit statuses, and what `import sottovoce` offers."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import RunCommand

import sottovoce
from sottovoce.cli import explain
from sottovoce.cli.exits import CommandError, Exit, exit_for
from sottovoce.cli.output import milliseconds, printable
from sottovoce.engine import errors

COMMANDS = ("demo", "classify", "explain", "models", "train", "certs", "prepare", "dealer", "party", "deploy")


def test_help_names_every_command_and_exit_status(command: RunCommand) -> None:
    ran = command("--help")
    assert ran.status == 0
    for name in COMMANDS:
        assert f"    {name} " in ran.out
    for status in Exit:
        assert f"\n  {status:d} " in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, command: RunCommand) -> None:
    ran = command(name, "--help")
    assert ran.status == 0
    assert f"sottovoce {name}" in ran.out


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from sottovoce.cli import main; main(['classify', '--help'])\n"
        "print({'numpy', 'numba', 'librosa', 'cryptography', 'rich.progress'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert result.stdout.endswith("set()\n")


def test_version(command: RunCommand) -> None:
    assert command("--version").out == f"sottovoce {sottovoce.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sing"],
        ["classify"],
        ["classify", "a.wav", "--top-k", "0"],
        ["classify", "a.wav", "--batch-size", "-1"],
        ["party", "zero", "--cluster", "c.toml"],
        ["party", "0"],
        ["deploy", "--cluster", "c.toml", "--deadline", "0"],
        ["deploy", "--cluster", "c.toml", "--deadline", "nan"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], command: RunCommand) -> None:
    ran = command(*arguments)
    assert ran.status == Exit.USAGE
    assert ran.out == ""
    assert "usage: sottovoce" in ran.err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigError("x"), 2),
        (errors.ModelError("x"), 2),
        (errors.FeatureError("x"), 2),
        (errors.DeadlineError("x"), 3),
        (errors.PeerClosedError("x"), 3),
        (errors.HandshakeError("x"), 3),
        (errors.FrameError("x"), 3),
        (errors.ProtocolError("x"), 4),
        (errors.MaskReuseError("x"), 4),
        (errors.SecurityAbort("x"), 4),
        (CommandError("x", Exit.TRANSPORT), 3),
        (errors.SottovoceError("x"), 70),
    ],
)
def test_every_error_has_its_status(error: errors.SottovoceError, status: int) -> None:
    assert exit_for(error) == status


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (errors.ConfigError("two\nlines"), 2, "sottovoce: error: two lines\n"),
        (errors.ModelError("\x1b[31mred"), 2, "sottovoce: error: \\x1b[31mred\n"),
        (FileExistsError(17, "File exists", "a\nb"), 2, "sottovoce: error: explain: File exists: a\\nb\n"),
        (KeyboardInterrupt(), 130, "sottovoce: interrupted\n"),
        (KeyError("name"), 70, "sottovoce: internal error: KeyError: 'name' (SOTTOVOCE_DEBUG=1 shows where)\n"),
    ],
)
def test_an_error_is_one_line(
    error: BaseException, status: int, text: str, command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(args: object) -> int:
        raise error

    monkeypatch.setattr(explain, "run", fail)
    ran = command("explain")
    assert (ran.status, ran.out, ran.err) == (status, "", text)
    monkeypatch.setenv("SOTTOVOCE_DEBUG", "1")
    assert command("explain").err.startswith("Traceback")


def test_a_reader_that_goes_away_gets_no_complaint(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sottovoce", "certs", str(tmp_path / "new")]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=50, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (Exit.SOME_FAILED, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("arguments", "what"), [(["certs", "new"], "certs"), (["--version"], "output")])
def test_output_that_cannot_be_written_is_status_2(arguments: list[str], what: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sottovoce", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=50,
            check=False,
            env=environment,
            cwd=tmp_path,
        )
    assert result.stderr == f"sottovoce: error: {what}: No space left on device: standard output\n"
    assert result.returncode == Exit.USAGE


def test_the_public_names_are_those_of_the_rooms() -> None:
    assert sottovoce.Classifier is importlib.import_module("sottovoce.serving.classifier").Classifier
    assert sottovoce.load_cluster is importlib.import_module("sottovoce.serving.cluster").load_cluster
    assert sottovoce.compile_graph is importlib.import_module("sottovoce.models.compiler.compile").compile_graph
    assert sottovoce.AsyncClassifier is importlib.import_module("sottovoce.serving.aio").AsyncClassifier
    assert sottovoce.load_model is importlib.import_module("sottovoce.models.load").load_model
    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert tree <= set(sottovoce.__all__)
    for name in sottovoce.__all__:
        assert getattr(sottovoce, name) is not None
        assert name in dir(sottovoce)
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        _ = sottovoce.sing  # type: ignore[attr-defined]


def test_names_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[31m\n\udcff ü.wav") == "a\\x1b[31m\\n\\udcff ü.wav"


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.1 ms"), (99.94, "99.9 ms"), (812.4, "812 ms"), (1234.0, "1.23 s")]
)
def test_durations(value: float, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "nosuch"),
        ("deploy", "--cluster", "none.toml"),
        ("classify", "none.wav", "--model", "nosuch"),
        ("train", "none", "--out", "out"),
        ("certs", "certs"),
        ("demo", "nosuch"),
        ("demo", "medium"),
    ],
)
def test_a_failure_is_one_json_object_too(
    command: RunCommand, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "certs").write_text("a file where a folder should be")
    monkeypatch.chdir(tmp_path)
    ran = command(*arguments, "--json")
    assert ran.status != 0
    assert ran.json["error"]["message"] in " ".join(ran.err.split())
    assert ran.json["error"]["type"].endswith("Error")
