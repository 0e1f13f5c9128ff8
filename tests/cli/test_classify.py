"""`sottovoce classify` with all parties in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import RunCommand

from sottovoce.cli.exits import Exit
from sottovoce.engine.errors import PeerClosedError
from sottovoce.models.speech.corpora.ravdess import LABELS
from sottovoce.serving.classifier import Classifier

Tone = Callable[[str, float], Path]


def test_the_bundled_clip(command: RunCommand, clip: Path) -> None:
    ran = command("classify", clip)
    assert ran.status == Exit.OK
    (row,) = [line.split() for line in ran.out.splitlines() if str(clip) in line]
    assert len(row) == 2 and row[1] in LABELS
    for word in ("1 recording classified", "rep3 (semi-honest", "features", "online", "P2 ", "rounds", "inside this"):
        assert word in ran.out
    assert "score" not in ran.out
    assert "INSECURE" not in ran.out and "CALIBRATED" not in ran.out


def test_rep3_and_plain_agree(command: RunCommand, clip: Path) -> None:
    shared, plain = (
        command("classify", clip, "--json").json,
        command("classify", clip, "--json", "--protocol", "plain").json,
    )
    assert shared["results"] == plain["results"]
    assert shared["program"] == plain["program"]
    assert "no protection" in plain["security"]
    assert plain["cost"]["bytes_sent"] == [0]


def test_the_json_object(command: RunCommand, clip: Path, tone: Tone, tmp_path: Path) -> None:
    """Bad files among good ones: each has its row, in order."""
    good = tone("good.wav", 300)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "words.wav").write_text("not a sound" * 100)
    missing = tmp_path / "missing.wav"
    ran = command("classify", clip, tmp_path / "empty.wav", good, tmp_path / "words.wav", missing, clip, "--json")
    assert ran.status == Exit.SOME_FAILED
    value = ran.json
    described = {"version", "where", "model", "program", "calibrated", "protocol", "security", "encrypted", "insecure"}
    assert set(value) == described | {"random_weights", "results", "failed", "error", "cost"}
    assert value["where"] == "in-process" and value["protocol"] == "rep3" and value["model"] == "paper"
    assert value["encrypted"] is None and value["insecure"] is False and value["calibrated"] is False
    assert value["failed"] == 3 and value["error"] is None
    assert len(bytes.fromhex(value["program"])) == 32
    files = [Path(row["file"]).name for row in value["results"]]
    assert files == [clip.name, "empty.wav", "good.wav", "words.wav", "missing.wav", clip.name]
    failed = [row.get("error", {}).get("type") for row in value["results"]]
    assert failed == [None, "AudioError", None, "AudioError", "AudioError", None]
    for row in value["results"]:
        for prediction in row.get("predictions", []):
            assert prediction["label"] in LABELS and prediction["score"] is None
    assert value["results"][0] == value["results"][5]
    cost = value["cost"]
    assert cost["clips"] == 3 and cost["requests"] == 1 and cost["rounds"] > 0
    assert len(cost["bytes_sent"]) == 3 and min(cost["bytes_sent"]) > 0
    assert cost["features_ms"] > 0 and cost["online_ms"] > 0


def test_batches_and_top_k(command: RunCommand, clip: Path, tone: Tone, tmp_path: Path) -> None:
    tone("sub/a.wav", 200)
    tone("sub/b.wav", 900)
    (tmp_path / "sub" / "c.wav").touch()
    whole = command("classify", tmp_path, clip, "--top-k", 3, "--json")
    cut = command("classify", tmp_path, clip, "--top-k", 3, "--json", "--batch-size", 1)
    assert whole.status == cut.status == Exit.SOME_FAILED
    assert cut.json["cost"]["requests"] == 3
    for one, other in zip(whole.json["results"], cut.json["results"], strict=True):
        assert one["file"] == other["file"]
        if "error" in one:
            assert one == other
            continue
        scores = [prediction["score"] for prediction in one["predictions"]]
        assert len(scores) == 3 and scores == sorted(scores, reverse=True) and 0 < sum(scores) < 1 + 1e-9
        # Truncation rounds at random in its last bit.
        assert scores == pytest.approx([prediction["score"] for prediction in other["predictions"]], abs=1e-3)


def test_scores_are_shown_only_when_asked_for(command: RunCommand, clip: Path) -> None:
    ran = command("classify", clip, "--scores", "--protocol", "plain")
    (row,) = [line.split() for line in ran.out.splitlines() if str(clip) in line]
    assert 0 < float(row[2]) <= 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--model", "nobody"], "expected one of tiny, paper"),
        (["--protocol", "shamir"], "expected rep3, beaver2, beaver2-fss or plain"),
        (["--top-k", "9"], "--top-k: expected at most 8"),
        (["--certs", "folder"], "expected --cluster"),
        (["--insecure-loopback"], "expected --cluster"),
        (["--cluster", "missing.toml", "--certs", "x"], "missing.toml: No such file"),
        (["--cluster", "missing.toml", "--lanes", "2"], "the deployment decides"),
    ],
)
def test_what_cannot_be_is_status_2(options: list[str], text: str, command: RunCommand, clip: Path) -> None:
    ran = command("classify", clip, *options)
    assert (ran.status, ran.out) == (Exit.USAGE, "")
    assert text in ran.err and ran.err.count("\n") == 1
    assert command("classify", clip, *options, "--json").json["error"]["type"].endswith("Error")


def test_a_peer_that_goes_away_in_the_second_batch_leaves_the_first(
    command: RunCommand, tone: Tone, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tone(f"{n}.wav", 200 + 100 * n) for n in range(3)]
    predict, calls = Classifier.predict, []

    def fail_later(self: Classifier, *args: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            raise PeerClosedError("P1: gone")
        return predict(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "predict", fail_later)
    ran = command("classify", *files, "--batch-size", 1, "--protocol", "plain", "--json")
    assert ran.status == Exit.TRANSPORT
    assert ran.err == "sottovoce: error: P1: gone\n"
    assert ["predictions" in row for row in ran.json["results"]] == [True, False, False]
    assert ran.json["error"] == {"type": "PeerClosedError", "message": "P1: gone"}


def test_progress_lines(command: RunCommand, clip: Path) -> None:
    ran = command("classify", clip, "--protocol", "plain", "--progress", "lines")
    assert [line.split()[0] for line in ran.err.splitlines()] == ["computes", "sends", "joins"]
    assert command("classify", clip, "--protocol", "plain", "--progress", "none").err == ""
    assert "features" in command("classify", clip, "--protocol", "plain", "--progress", "bar").err
