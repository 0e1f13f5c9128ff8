"""Host devices that make life hard for kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.gpu.shim.arrays import DeviceArray
from tests.gpu.shim.host import HostDevice


class Unaligned(HostDevice):
    """Uploads begin an element behind 16 bytes, as slices do."""

    def upload(self, host: NDArray[Any]) -> DeviceArray:
        array = self.empty((host.size + 1,), host.dtype)[1:].reshape(host.shape)
        self.upload_into(np.ascontiguousarray(host), array)
        return array


class Narrow(HostDevice):
    """Starts one block in x, so that each thread comes back for more."""

    def launch(
        self,
        unit: str,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        shared_bytes: int = 0,
    ) -> None:
        super().launch(unit, kernel, (1, *grid[1:]), block, arguments, shared_bytes)


class Awkward(Narrow, Unaligned):
    """Both."""
