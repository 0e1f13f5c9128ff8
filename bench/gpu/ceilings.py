"""What a device can do at best, measured in the same run as the kernels: the best of several tries each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from sottovoce.bench.gpu import micro
from sottovoce.bench.gpu.schema import Ceiling
from sottovoce.bench.kernels.devices import Call, Meter
from sottovoce.kernels.gpu.tensor.crt_s8 import MODULI
from sottovoce.kernels.gpu.tensor.planes import LIMBS

COPY, INT8, MULTIPLY_ADD, CHACHA20 = "copy", "int8 products", "ring multiply-adds", "ChaCha20"
UNITS: Mapping[str, str] = MappingProxyType(
    {
        COPY: "bytes read and written",
        INT8: "int8 multiply-adds (cuBLAS)",
        MULTIPLY_ADD: "64-bit multiply-adds in registers",
        CHACHA20: "bytes generated in registers",
    }
)
INT8_PRODUCTS: Mapping[str, int] = MappingProxyType(
    {"mma_u8": LIMBS * (LIMBS + 1) // 2, "cublas_s8": LIMBS * (LIMBS + 1) // 2, "crt_s8": len(MODULI)}
)
"""int8 products for one of the ring's, by variant: the low half of 8 by 8 limbs, or one for each modulus."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done in one call. copy_bytes: of each array. side: of int8 matrices. rounds: of the micro kernels.
    behind: rounds of the kernel that keeps the device busy while the host launches: about a millisecond."""

    copy_bytes: int = 1 << 30
    side: int = 8192
    rounds: int = 4096
    behind: int = 2048
    tries: int = 7


class Ceilings:
    """Rates per second by name, and what keeps the device busy while the host launches."""

    def __init__(self, meter: Meter, sizes: Sizes = Sizes()) -> None:
        self._meter = meter
        self._sizes = sizes
        self._out = micro.results(meter.device)
        self.all = tuple(
            self._ceiling(name, measure)
            for name, measure in (
                (COPY, self._copy),
                (INT8, self._int8),
                (MULTIPLY_ADD, partial(self._micro, micro.multiply_add)),
                (CHACHA20, partial(self._micro, micro.chacha20)),
            )
        )
        self.rates = {found.name: found.per_s for found in self.all if found.per_s is not None}

    def busy(self) -> None:
        """Start a kernel of about a millisecond."""
        micro.multiply_add(self._meter.device, self._sizes.behind, self._out)

    def bound(self, demand: Mapping[str, float]) -> tuple[float, str]:
        """The longest of the times in s that these amounts take at best, and which it is; (0, "") if none is known."""
        times = [(amount / self.rates[name], name) for name, amount in demand.items() if name in self.rates]
        return max(times, default=(0.0, ""))

    def _ceiling(self, name: str, measure: Callable[[], float]) -> Ceiling:
        try:
            return Ceiling(name=name, unit=UNITS[name], per_s=measure())
        except (ImportError, MemoryError, RuntimeError) as error:  # no cuBLAS, no memory
            return Ceiling(name=name, unit=UNITS[name], reason=f"{type(error).__name__}: {error}")

    def _copy(self) -> float:
        device = self._meter.device
        words = min(self._sizes.copy_bytes, device.memory()[0] // 4) // 8
        source, target = (device.empty((words,), np.uint64) for _ in range(2))
        return self._rate(lambda: self._meter.copy(source, target), 16 * words)

    def _int8(self) -> float:
        side, device = self._sizes.side, self._meter.device
        block = np.random.default_rng(0).integers(-128, 128, (1, side, side), dtype=np.int8)
        a, b, c = device.upload(block), device.upload(block), device.empty((1, side, side), np.int32)
        return self._rate(lambda: device.int8_gemm(a, b, c), side**3)

    def _micro(self, start: Callable[..., int]) -> float:
        device, out, rounds = self._meter.device, self._out, self._sizes.rounds
        work = start(device, rounds, out)
        return self._rate(lambda: _ignore(start(device, rounds, out)), work)

    def _rate(self, call: Call, units: float) -> float:
        call()
        return units / min(timed[0] for timed in measure(self._meter, call, self.busy, self._sizes.tries)) * 1e6


def measure(meter: Meter, call: Call, behind: Call, tries: int) -> Sequence[tuple[float, float]]:
    """Microseconds on the device and on the host, of each try."""
    return [meter.time(call, behind) for _ in range(tries)]


def _ignore(value: object) -> None:
    """A call has no result."""
