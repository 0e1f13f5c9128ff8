"""Features of many recordings: bad ones among them, several processes, processes that die, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.signals import noise
from threadpoolctl import threadpool_limits

from sottovoce.engine.errors import AudioError, ConfigError
from sottovoce.models.speech import worker as module
from sottovoce.models.speech.audio import SAMPLE_RATE, load_audio
from sottovoce.models.speech.cache import FeatureCache
from sottovoce.models.speech.compute import compute_features
from sottovoce.models.speech.extract import extract_features
from sottovoce.models.speech.features import FEATURE_SETS, get_feature_set
from sottovoce.models.speech.worker import Worker

MFCC = FEATURE_SETS["mfcc40-mean"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pids of the worker processes of a test."""
    pids: list[int] = []
    real = subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        process = real(*arguments, **options)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(module.subprocess, "Popen", start)
    return pids


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _bad_files(folder: Path, count: int) -> list[Path]:
    """Files that a worker refuses at once: it need not load the feature code."""
    paths = [folder / f"{index:02d}.wav" for index in range(count)]
    for path in paths:
        path.write_bytes(b"")
    return paths


# ---- batches ------------------------------------------------------------------------------------------------------


def test_one_bad_recording_does_not_lose_the_others(tmp_path: Path) -> None:
    good = tmp_path / "good.wav"
    soundfile.write(good, 0.5 * noise(), SAMPLE_RATE)
    (tmp_path / "empty.wav").write_bytes(b"")
    recordings = [tmp_path / "empty.wav", good, np.zeros(SAMPLE_RATE), str(tmp_path / "none.wav"), noise(seed=1)]
    seen: list[tuple[int, str]] = []
    batch = extract_features(iter(recordings), progress=lambda done, name: seen.append((done, name)))
    assert batch.indices == (1, 4) and batch.names == (str(good), "array 4")
    assert [(bad.index, bad.name) for bad in batch.failed] == [
        (0, str(tmp_path / "empty.wav")),
        (2, "array 2"),
        (3, str(tmp_path / "none.wav")),
    ]
    assert all(
        part in str(bad.error) for bad, part in zip(batch.failed, ("0 bytes", "silence", "no file"), strict=True)
    )
    assert all(isinstance(bad.error, AudioError) for bad in batch.failed)
    np.testing.assert_array_equal(batch.features[0], compute_features(good, MFCC))
    np.testing.assert_allclose(batch.features[0], MFCC.compute(load_audio(good)), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(batch.features[1], compute_features(noise(seed=1), MFCC))
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_a_batch_without_a_usable_recording_has_no_rows(name: str) -> None:
    batch = extract_features([np.zeros(10)], name)
    assert batch.features.shape == (0, *get_feature_set(name).row_shape)
    assert len(batch.failed) == 1 and batch.indices == ()


def test_the_sample_rate_is_that_of_arrays_and_not_of_files(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.5 * noise(), SAMPLE_RATE, subtype="FLOAT")
    batch = extract_features([path, 0.5 * noise()], sample_rate=2 * SAMPLE_RATE)
    np.testing.assert_array_equal(batch.features[0], compute_features(0.5 * noise().astype(np.float32), MFCC))
    assert abs(batch.features[1] - batch.features[0]).max() > 1


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_features_do_not_depend_on_the_number_of_blas_threads(name: str) -> None:
    rows = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            rows.append([compute_features(noise(2.0, seed), FEATURE_SETS[name]) for seed in range(3)])
    np.testing.assert_array_equal(rows[0], rows[1])


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        extract_features([], jobs=0)
    with pytest.raises(ConfigError, match="got 'mfcc13'"):
        extract_features([], "mfcc13")


# ---- several processes --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_process_computes_the_same_bits(tmp_path: Path, started: list[int]) -> None:
    good, cut, none = (tmp_path / f"{name}.wav" for name in ("good", "cut", "none"))
    soundfile.write(good, 0.5 * noise(3.0), SAMPLE_RATE)
    cut.write_bytes(b"RIFF")
    recordings = [noise(seed=9), cut, str(good), none, np.zeros(9)]
    alone = extract_features(recordings)
    together = extract_features(iter(recordings), jobs=2)
    np.testing.assert_array_equal(together.features, alone.features)
    assert together.indices == alone.indices == (0, 2) and together.names == alone.names
    assert [(bad.index, bad.name, str(bad.error)) for bad in together.failed] == [
        (bad.index, bad.name, str(bad.error)) for bad in alone.failed
    ]
    assert 1 <= len(started) <= 2 and not any(map(_is_running, started))


_STUB = """
import os, sys, time
import numpy as np
from sottovoce.models.speech import worker
from sottovoce.models.speech.features import FeatureSet
def compute(samples):
    print("to standard output")
    os.write(1, b"past Python too\\n")
    time.sleep(0.3 if samples.size > 30_000 else 0)
    return np.arange(40.0) + samples.size + int(os.environ["NUMBA_NUM_THREADS"]) / 2
box = np.zeros((1, 40))
worker.get_feature_set = lambda name: FeatureSet(name, (1, 40), box, box, compute)
worker.main()
"""


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch, started: list[int]) -> list[int]:
    """Workers whose features are a recording's length, and which need not load the feature code; their pids."""
    real = module.subprocess.Popen
    command = [sys.executable, "-c", _STUB, "name"]
    monkeypatch.setattr(module.subprocess, "Popen", lambda _, **options: real(command, **options))
    return started


def test_rows_are_in_order_whoever_is_first_and_come_from_the_cache_next_time(
    tmp_path: Path, stubs: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    sizes = (40_000, 3_000, 4_000, 35_000, 5_000)  # the long ones take longer
    files = [tmp_path / f"{size}.wav" for size in sizes]
    for path, size in zip(files, sizes, strict=True):
        soundfile.write(path, noise()[np.arange(size) % SAMPLE_RATE] / 2, SAMPLE_RATE)
    cache = FeatureCache(tmp_path / "cache")
    seen: list[tuple[int, str]] = []
    batch = extract_features(files, jobs=2, cache=cache, progress=lambda done, name: seen.append((done, name)))
    np.testing.assert_array_equal(batch.features, np.arange(40.0) + np.array(sizes)[:, None] + 0.5)
    assert batch.names == tuple(map(str, files)) and batch.failed == ()
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5] and {name for _, name in seen} == set(batch.names)
    assert capfd.readouterr().out == ""  # and what libraries print did not mix with the answers
    assert cache.size().entries == 5 and 1 <= len(stubs) <= 2

    stubs.clear()
    for jobs in (1, 2):
        kept = extract_features(files[::-1], jobs=jobs, cache=cache)
        np.testing.assert_array_equal(kept.features, batch.features[::-1])
    assert stubs == []


def test_failures_come_in_order_and_no_process_is_left(tmp_path: Path, started: list[int]) -> None:
    paths = _bad_files(tmp_path, 12)
    batch = extract_features(paths, jobs=3)
    assert [bad.index for bad in batch.failed] == list(range(12))
    assert [bad.name for bad in batch.failed] == list(map(str, paths)) and batch.features.shape == (0, 40)
    assert 1 <= len(started) <= 3 and not any(map(_is_running, started))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interruption_passes_and_leaves_no_process(
    interruption: type[BaseException], tmp_path: Path, started: list[int]
) -> None:
    def interrupt(done: int, name: str) -> None:
        if done == 2:
            raise interruption

    with pytest.raises(interruption):
        extract_features(_bad_files(tmp_path, 12), jobs=2, progress=interrupt)
    assert started and not any(map(_is_running, started))


def test_an_interruption_does_not_wait_for_a_worker_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[int]
) -> None:
    real = module.subprocess.Popen  # the one that `started` watches
    hang = [sys.executable, "-c", "import time; time.sleep(1000)"]
    monkeypatch.setattr(module.subprocess, "Popen", lambda command, **options: real(hang, **options))

    def interrupt(done: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # comes with the array, which this process computes
        extract_features([*_bad_files(tmp_path, 2), np.zeros(9)], jobs=2, progress=interrupt)
    assert not any(map(_is_running, started))


def test_a_closed_worker_starts_no_process() -> None:
    worker = Worker(MFCC)
    worker.close()
    with pytest.raises(RuntimeError, match="closed"):
        worker.compute("a.wav")
    assert worker.pid is None


def test_a_worker_that_dies_costs_one_recording(tmp_path: Path) -> None:
    (path,) = _bad_files(tmp_path, 1)
    worker = Worker(MFCC)
    try:
        with pytest.raises(AudioError, match="0 bytes"):
            worker.compute(str(path))
        first = worker.pid
        assert first is not None
        assert os.fsencode(path) not in Path(f"/proc/{first}/cmdline").read_bytes()
        os.kill(first, signal.SIGKILL)
        with pytest.raises(
            AudioError, match=r"00\.wav: expected features, got a worker process that ended by signal 9"
        ):
            worker.compute(str(path))
        with pytest.raises(AudioError, match="0 bytes"):
            worker.compute(str(path))
        assert worker.pid not in (None, first)
    finally:
        worker.close()
    assert worker.pid is None


def test_a_worker_that_cannot_start_is_no_fault_of_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        extract_features(_bad_files(tmp_path, 3), jobs=2)


def test_a_name_that_is_no_text_reaches_the_worker(tmp_path: Path) -> None:
    path = os.path.join(os.fspath(tmp_path), os.fsdecode(b"\xff\n\xe9.wav"))
    Path(path).write_bytes(b"")
    (bad,) = extract_features([path], jobs=2).failed
    assert "0 bytes" in str(bad.error) and bad.name == path


_OWNER = """
import sys, time
from sottovoce.models.speech.features import get_feature_set
from sottovoce.models.speech.worker import Worker
worker = Worker(get_feature_set("mfcc40-mean"))
try:
    worker.compute("/no such file.wav")
except Exception:
    print(worker.pid, flush=True)
time.sleep(60)
"""


def test_a_worker_ends_when_its_owner_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert _is_running(pid)
        owner.kill()
    give_up = time.monotonic() + 30
    while _is_running(pid) and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not _is_running(pid)
