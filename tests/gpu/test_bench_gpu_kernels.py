"""Part two of `sottovoce bench gpu`, without a GPU: every figure comes from a false clock."""

from __future__ import annotations

import numpy as np
import pytest

from sottovoce.bench.gpu import micro, timings
from sottovoce.bench.gpu.budget import Budget
from sottovoce.bench.gpu.ceilings import CHACHA20, COPY, INT8, MULTIPLY_ADD, Ceilings
from sottovoce.bench.gpu.twin import stream_words
from sottovoce.kernels.gpu.device import Keystream
from tests.gpu.budget import usage
from tests.gpu.false_meter import SMALL, Clock, FalseMeter
from tests.gpu.require import needs_compiler, needs_nvrtc
from tests.gpu.shim.host import HostDevice


@needs_nvrtc
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_micro_kernels_compile_without_local_memory(architecture: str) -> None:
    found = usage(micro.UNIT, micro.text(micro.UNIT), architecture)
    assert {kernel.kernel for kernel in found} == {"multiply_add_rate", "chacha_rate"}
    assert [problem for kernel in found for problem in kernel.problems()] == []


@needs_compiler
def test_the_micro_kernels_do_what_they_count() -> None:
    device = HostDevice(text=micro.text)
    out = micro.results(device)
    threads, rounds = out.size, 3
    assert micro.multiply_add(device, rounds, out) == threads * micro.CHAINS * rounds
    y = np.arange(threads, dtype=np.uint64) | np.uint64(1)
    chains = [y + np.uint64(i) for i in range(micro.CHAINS)]
    for _ in range(rounds):
        chains = [a * micro.FACTOR + y for a in chains]
    np.testing.assert_array_equal(out.get(), np.bitwise_xor.reduce(chains))
    assert micro.chacha20(device, rounds, out) == threads * 64 * rounds
    words = stream_words(Keystream((1, 2, 3, 4), 5, 0, (threads, rounds * 8)))
    np.testing.assert_array_equal(out.get(), np.bitwise_xor.reduce(words, axis=1))


@needs_compiler
def test_kernels_stand_beside_the_ceiling_that_binds_them() -> None:
    meter = FalseMeter()
    ceilings = Ceilings(meter, SMALL)
    assert [found.name for found in ceilings.all] == [COPY, INT8, MULTIPLY_ADD, CHACHA20]
    assert ceilings.rates[COPY] == pytest.approx(2 * SMALL.copy_bytes / 2e-6), "the best try, read and written"
    ceilings.rates.update({COPY: 1e9, INT8: 36e9, MULTIPLY_ADD: 5e8, CHACHA20: 1e6})
    effort = timings.Effort(target_bytes=1 << 12, most_clips=1, side=8, tries=3, every=False)
    chosen = ["mask_zero", "mma_u8.matmul", "imad.matmul", "chacha20_fill"]
    budget = Budget(60)
    found = [row for part in timings.time_kernels(meter, ceilings, effort, budget, chosen) for row in part]
    rows = {(row.kernel, row.size, row.masks): row for row in found}
    (memory,) = (row for row in rows.values() if row.masks == "memory")
    (keystream,) = (row for row in rows.values() if row.masks == "keystream")
    assert memory.device_us and memory.lower_us and memory.upper_us and memory.n == 3 and memory.host_us == 1.0
    assert memory.lower_us < memory.device_us < memory.upper_us
    assert memory.ceiling == COPY and memory.fraction == pytest.approx(
        memory.moved_bytes / 1e3 / memory.device_us, rel=0.01
    )
    assert keystream.ceiling == CHACHA20 and keystream.moved_bytes < memory.moved_bytes
    tensor, exact = rows["mma_u8.matmul", "8^3", "none"], rows["imad.matmul", "8^3", "none"]
    assert (tensor.ceiling, exact.ceiling) == (COPY, COPY), "8 by 8 is too small to be bound by products"
    assert {"paper", "medium", "frames"} == {
        row.size.partition(".")[0] for row in rows.values() if ".dense" in row.size
    }
    demand = timings.demand("crt_s8.matmul", timings._square(64), 10, 0)
    assert demand == {COPY: 10, INT8: 18 * 64**3}


@needs_compiler
def test_what_a_kernel_cannot_do_is_a_reason_and_what_has_no_time_is_named() -> None:
    class NoCublas(HostDevice):
        def int8_gemm(self, a: object, b: object, c: object) -> None:
            raise ImportError("libcublas.so.13 not found")

    meter = FalseMeter()
    meter.device = NoCublas(text=micro.text)
    ceilings = Ceilings(meter, SMALL)
    assert ceilings.all[1].per_s is None and "libcublas" in ceilings.all[1].reason
    effort = timings.Effort(target_bytes=1 << 10, most_clips=1, side=4, tries=1, every=False)
    clock = Clock()
    budget = Budget(10, clock)
    found = timings.time_kernels(meter, ceilings, effort, budget, ["cublas_s8.matmul", "add", "sub"])
    first = next(found)
    assert all("libcublas" in row.reason and row.device_us is None for row in first)
    clock.now = 11
    assert list(found) == [] and budget.cut == ["add: no time left", "sub: no time left"]
