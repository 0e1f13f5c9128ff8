"""The GPU backend without a GPU: parties whose kernels are the CUDA sources, executed on the CPU.

The device's arrays are as strict as CuPy's: whatever would turn one into a numpy array unasked raises TypeError.
"""

from __future__ import annotations

import random
import secrets
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sottovoce.engine.backend import gpu
from sottovoce.engine.backend.base import Backend
from sottovoce.engine.backend.cpu import CpuBackend
from sottovoce.engine.backend.devices import make_backend, make_backends
from sottovoce.engine.backend.gpu import GpuBackend
from sottovoce.engine.errors import ConfigError, DeviceMemoryError, PeerClosedError
from sottovoce.engine.local import LocalCluster
from sottovoce.engine.protocols.table import PROTOCOLS, find
from sottovoce.engine.session import run_plain
from sottovoce.engine.staging import Staged
from sottovoce.engine.transport.base import Array, Transport
from sottovoce.engine.transport.memory import memory_mesh
from sottovoce.kernels.gpu.device import Device
from sottovoce.models.compiler.compile import Compiled, compile_graph
from sottovoce.models.encode import encode_input
from sottovoce.models.load import load_model
from sottovoce.models.speech.demo_clip import demo_clip_path
from sottovoce.models.speech.extract import extract_features
from tests.gpu.require import needs_compiler
from tests.gpu.shim.host import HostDevice

pytestmark = needs_compiler
Log = list[tuple[int, int, int, bytes]]


def recording(lane: Transport, log: Log) -> Transport:
    """The lane; every frame that it sends is kept: from, to, tag, payload."""
    send = lane.send

    def keep(to: int, tag: int, parts: Sequence[Array]) -> None:
        log.append((lane.rank, to, int(tag), b"".join(part.tobytes() for part in parts)))
        send(to, tag, parts)

    lane.send = keep  # type: ignore[method-assign]
    return lane


@pytest.fixture(scope="module")
def device() -> HostDevice:
    return HostDevice()


@pytest.fixture(scope="module")
def tiny() -> Compiled:
    return compile_graph(load_model("tiny"))


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and the randomness that follows is the same as after the last call."""

    def seed() -> None:
        generator = random.Random(7)
        monkeypatch.setattr(secrets, "token_bytes", generator.randbytes)

    return seed


def inputs(compiled: Compiled, batch: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 1 << 20, (batch, *compiled.program.input_shape)).astype(np.uint64)


def devices_of(parties: int, gpus: Sequence[int], device: Device) -> list[Backend]:
    return [GpuBackend(device) if rank in gpus else CpuBackend() for rank in range(parties)]


def run(
    compiled: Compiled, protocol: str, x: np.ndarray, backends: Sequence[Backend], lanes: int = 1
) -> tuple[np.ndarray, list[Log], list[tuple[int, int]]]:
    """Labels, each party's messages in order, and its bytes and rounds."""
    parties = find(protocol).parties
    logs: list[Log] = [[] for _ in range(parties)]
    meshes = [
        [recording(lane, logs[rank]) for rank, lane in enumerate(memory_mesh(parties, lane=n, deadline_s=100.0))]
        for n in range(lanes)
    ]
    with LocalCluster(
        compiled.program, compiled.weights, protocol, meshes=meshes, backends=backends, cipher="chacha20"
    ) as cluster:
        labels, stats = cluster.run(x)
    return labels, logs, [(s.bytes_sent, s.rounds) for s in stats]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parties_on_other_devices_send_the_same_bytes(
    protocol: str, tiny: Compiled, device: HostDevice, seeded: Callable[[], None]
) -> None:
    x, parties = inputs(tiny, 3), find(protocol).parties
    seeded()
    expected = run(tiny, protocol, x, devices_of(parties, [], device))
    seeded()
    got = run(tiny, protocol, x, devices_of(parties, range(1, parties), device))
    np.testing.assert_array_equal(got[0], run_plain(tiny.program, tiny.weights, x, "label"))
    assert got[1] == expected[1], "the messages differ"
    assert got[2] == expected[2], "bytes or rounds differ"


@pytest.mark.slow
def test_a_recording_with_one_cpu_and_two_gpus(device: HostDevice, seeded: Callable[[], None]) -> None:
    """The bundled recording through the network of the paper."""
    compiled = compile_graph(load_model("paper"))
    x = encode_input(compiled.program, extract_features([demo_clip_path()]).features)
    seeded()
    expected = run(compiled, "rep3", x, devices_of(3, [], device))
    seeded()
    got = run(compiled, "rep3", x, devices_of(3, [0, 2], device))
    assert got == expected
    assert got[0] == run_plain(compiled.program, compiled.weights, x, "label")


@pytest.mark.parametrize("protocol", ["rep3", "beaver2"])
def test_what_does_not_fit_is_streamed(protocol: str, tiny: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for one clip at a time, and none for weights: chunks, and weights from the host at every use."""
    x, parties = inputs(tiny, 5), find(protocol).parties
    small = HostDevice(capacity_bytes=16 << 20)
    backends = devices_of(parties, range(parties), small)
    for backend in backends:
        backend.chunk_elements = 2 * tiny.program.width
    monkeypatch.setattr(gpu, "WEIGHTS_PART", 1 << 60)
    use, on_host = GpuBackend.use, []

    def seen(backend: GpuBackend, held: Any) -> Any:
        on_host.append(isinstance(held, np.ndarray))
        return use(backend, held)

    monkeypatch.setattr(GpuBackend, "use", seen)
    labels, logs, _ = run(tiny, protocol, x, backends, lanes=2)
    np.testing.assert_array_equal(labels, run_plain(tiny.program, tiny.weights, x, "label"))
    whole = run(tiny, protocol, x, devices_of(parties, [], small))[1]
    assert len(logs[0]) > 2 * len(whole[0]), "expected three chunks"
    assert on_host and all(on_host), "expected all weights to stay on the host"


def test_weights_stay_on_the_host_of_a_device_that_others_have_filled() -> None:
    device = HostDevice(capacity_bytes=1 << 20)
    backend, weights = GpuBackend(device), np.arange(1 << 13, dtype=np.uint64)
    others = device.empty((device.memory()[0] - weights.nbytes + 8,), np.uint8)
    assert backend.hold(weights) is weights
    del others
    held = backend.hold(weights)
    assert backend.use(held) is held and not isinstance(held, np.ndarray)


def test_out_of_memory_is_an_error_with_numbers(tiny: Compiled) -> None:
    backends = devices_of(3, [1], HostDevice(capacity_bytes=400_000))
    assert backends[1].chunk_elements < 64 * tiny.program.width, "a small device asks for small chunks"
    backends[1].chunk_elements = 1 << 18
    text = r"party 1: a chunk of 64 clips of tiny.*host:0: out of memory.* of 400,000 bytes are free"
    with pytest.raises(DeviceMemoryError, match=text):
        run(tiny, "rep3", inputs(tiny, 64), backends)


def test_a_device_that_is_not_there_is_said_so() -> None:
    assert make_backend("cpu").name == "cpu"
    for name in ("gpu", "cuda:", "cuda:x", "CUDA", ""):
        with pytest.raises(ConfigError, match=f"expected cpu, cuda, cuda:N or auto, got '{name}'"):
            make_backend(name)
    with pytest.raises(ConfigError, match="expected one device, or 3 with commas"):
        make_backends("cpu,cpu", 3)
    assert [backend.name for backend in make_backends("cpu, cpu,cpu", 3)] == ["cpu"] * 3


def test_a_cupy_that_cannot_be_loaded_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of CUDA that is missing shows when CuPy is imported."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "sottovoce.kernels.gpu.cupy_device", None)
    assert make_backend("auto").name == "cpu"
    with pytest.raises(ConfigError, match=r"device cuda: CUDA cannot be used: .*cupy_device"):
        make_backend("cuda")


def test_a_gpu_that_others_have_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is full, or another process's alone, is seen but lets nobody in."""

    def refuse(number: int) -> None:
        raise RuntimeError("cudaErrorDevicesUnavailable")

    cupy_device = SimpleNamespace(count_devices=lambda: 1, CupyDevice=refuse)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "sottovoce.kernels.gpu.cupy_device", cupy_device)  # type: ignore[arg-type]
    for name in ("cuda", "cuda:0", "auto"):
        with pytest.raises(ConfigError, match="device cuda:0: it cannot be used: cudaErrorDevicesUnavailable"):
            make_backend(name)
    with pytest.raises(ConfigError, match="expected a number below 1"):
        make_backend("cuda:1")


def test_frames_leave_in_order_and_as_they_were_sent(device: HostDevice) -> None:
    """What is sent is the array's content at that point, although it leaves later."""
    left, right = memory_mesh(2, deadline_s=5.0)
    staged = Staged(left, device)
    x = device.upload(np.arange(4, dtype=np.uint64))
    staged.send(1, 1, [x])
    x += np.uint64(10)
    staged.send(1, 2, [x, np.full(2, 7, np.uint64)])
    assert left.counters.frames_sent.get(1, 0) == 0, "expected the frames to wait"
    right.send(0, 3, [np.full(3, 9, np.uint32)])
    out = device.empty((3,), np.uint32)
    staged.recv(1, 3, [out])
    np.testing.assert_array_equal(out.get(), [9, 9, 9])
    first, second, tail = np.empty(4, np.uint64), np.empty(4, np.uint64), np.empty(2, np.uint64)
    right.recv(0, 1, [first])
    right.recv(0, 2, [second, tail])
    np.testing.assert_array_equal(first, np.arange(4))
    np.testing.assert_array_equal(second, np.arange(4) + 10)
    np.testing.assert_array_equal(tail, [7, 7])
    staged.send(1, 4, [x])
    staged.close()
    right.recv(0, 4, [second])


def test_closing_closes_the_lane_also_where_the_peer_has_gone(device: HostDevice) -> None:
    """What waits cannot leave then: that is no reason to leave the lane open, with others waiting."""
    left, gone, third = memory_mesh(3, deadline_s=5.0)
    staged = Staged(left, device)
    gone.close("went away")
    staged.send(1, 1, [device.upload(np.arange(4, dtype=np.uint64))])
    staged.close()
    with pytest.raises(PeerClosedError):
        third.recv(0, 1, [np.empty(4, np.uint64)])


def test_nothing_leaves_after_a_failure(device: HostDevice) -> None:
    left, right = memory_mesh(2, deadline_s=5.0)
    staged = Staged(left, device)
    staged.send(1, 1, [device.upload(np.arange(4, dtype=np.uint64))])
    staged.close("a kernel failed")
    with pytest.raises(PeerClosedError, match="a kernel failed"):
        right.recv(0, 1, [np.empty(4, np.uint64)])


def test_a_frame_goes_into_parts_of_arrays_on_either_side(device: HostDevice) -> None:
    """A slice, an empty array of the device, and one of the host: the rest of the slice's array is left alone."""
    left, right = memory_mesh(2, deadline_s=5.0)
    staged = Staged(left, device)
    whole, empty, host = device.upload(np.zeros((4, 3), np.uint64)), device.empty((0, 3), np.uint64), np.empty(2, "<u4")
    right.send(0, 1, [np.arange(1, 7, dtype=np.uint64), np.array([8, 9], np.uint32)])
    staged.recv(1, 1, [whole[1:3], empty, host])
    np.testing.assert_array_equal(whole.get(), [[0, 0, 0], [1, 2, 3], [4, 5, 6], [0, 0, 0]])
    np.testing.assert_array_equal(host, [8, 9])


def test_cupy_keeps_no_memory_of_an_empty_message(monkeypatch: pytest.MonkeyPatch, device: HostDevice) -> None:
    """Every comparison ends with one: a party that serves for long would hold ever more pinned memory."""
    pytest.importorskip("cupy")
    from sottovoce.kernels.gpu import cupy_device

    monkeypatch.setattr(cupy_device, "_pinned", np.empty)
    cuda = cupy_device.CupyDevice.__new__(cupy_device.CupyDevice)
    cuda._staged = {}
    cuda.upload_into(cuda.staging((0, 3), np.uint64), device.empty((0, 3), np.uint64))
    assert not cuda._staged
