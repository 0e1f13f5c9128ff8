"""What a program needs of MP-SPDZ's language, on numpy arrays in the clear: one party that sees everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
MEMORY = 1 << 20


class Machine:
    """Runs the text of a program.

    inputs: by party, in order. printed: lines that it printed. logits: (batch, labels) integers, of each run.
    """

    def __init__(self, inputs: Mapping[int, Sequence[int]]) -> None:
        self.inputs = {party: list(values) for party, values in inputs.items()}
        self.memory = np.full(MEMORY, 10**12, np.int64)  # nothing may be read before it is written
        self.used = 0
        self.printed: list[str] = []
        self.logits: list[Integers] = []

    def run(self, text: str, batch: int) -> None:
        """Compile and run."""
        machine = self

        class Sint:
            """A vector of secret integers."""

            def __init__(self, value: Any = 0, size: int | None = None) -> None:
                self.v: Integers = np.array(value, np.int64) if size is None else np.full(size, value, np.int64)

            def __len__(self) -> int:
                return len(self.v)

            def __add__(self, other: Any) -> Sint:
                return Sint(self.v + _plain(other))

            def __sub__(self, other: Any) -> Sint:
                return Sint(self.v - _plain(other))

            def __rsub__(self, other: Any) -> Sint:
                return Sint(other - self.v)

            def __mul__(self, other: Any) -> Sint:
                return Sint(self.v * _plain(other))

            __radd__ = __add__

            def get_vector(self, base: int, size: int) -> Sint:
                assert base + size <= len(self.v)
                return Sint(self.v[base : base + size])

            def less_than(self, other: Any, bits: int) -> Sint:
                difference = self.v - _plain(other)
                assert np.abs(difference).max() < 2**bits  # as MP-SPDZ documents it: one bit more for the sign
                return Sint((difference < 0).astype(np.int64))

            def TruncPr(self, bits: int, dropped: int) -> Sint:
                assert np.abs(self.v).max() < 2 ** (bits - 1) and bits < 63
                return Sint(self.v >> dropped)

            def store_in_mem(self, where: Integers) -> None:
                assert len(np.unique(where)) == len(where) == len(self.v)
                machine.memory[where] = self.v

            def reveal(self) -> Integers:
                return self.v

            @staticmethod
            def load_mem(where: Integers) -> Sint:
                return Sint(machine.memory[where])

            @staticmethod
            def concat(parts: Sequence[Sint]) -> Sint:
                return Sint(np.concatenate([part.v for part in parts]))

            @staticmethod
            def get_input_from(party: int) -> SimpleNamespace:
                asked = machine.inputs[party].pop(0) if machine.inputs[party] else 0
                return SimpleNamespace(reveal=lambda: asked)

        class Array:
            """Memory in a row."""

            def __init__(self, size: int) -> None:
                self.address, self.size = machine.used, size
                machine.used += size
                assert machine.used <= MEMORY

            def __len__(self) -> int:
                return self.size

            def input_from(self, party: int) -> None:
                given = machine.inputs[party]
                assert len(given) >= self.size
                machine.memory[self.address : self.address + self.size] = given[: self.size]
                del given[: self.size]

            def get_vector(self, base: int = 0, size: int | None = None) -> Sint:
                size = self.size - base if size is None else size
                assert base + size <= self.size
                return Sint(machine.memory[self.address + base : self.address + base + size])

            def assign_vector(self, values: Integers) -> None:
                assert len(values) == self.size
                machine.memory[self.address : self.address + self.size] = values

        Sint.Array = Array  # type: ignore[attr-defined]

        def conv2ds(result: Sint, inputs: Sint, weights: Sint, *sizes: int) -> None:
            high, wide, in_h, in_w, k_h, k_w, _, stride, channels, pad_h, pad_w, batch = sizes
            assert high == in_h == k_h == 1 and pad_h == 0
            clips = inputs.v.reshape(batch, in_w, channels)
            kernel = weights.v.reshape(k_w, channels)
            for clip in range(batch):
                for place in range(wide):
                    at = [(place * stride - pad_w + tap, tap) for tap in range(k_w)]
                    taps = [clips[clip, x] @ kernel[tap] for x, tap in at if 0 <= x < in_w]
                    result.v[clip * wide + place] = sum(taps)

        def inc(size: int, base: int = 0, step: int = 1, repeat: int = 1, wrap: int | None = None) -> Integers:
            return base + step * (np.arange(size) // repeat % (wrap or size))

        def do_while(body: Callable[[], bool]) -> None:
            while body():
                pass

        def show(text: str, *values: Array) -> None:
            machine.printed.append(text % tuple(value.get_vector().v.tolist() for value in values))

        names = {
            "program": SimpleNamespace(args=["program", str(batch)]),
            "sint": Sint,
            "cint": SimpleNamespace(Array=Array),
            "regint": SimpleNamespace(inc=inc),
            "conv2ds": conv2ds,
            "do_while": do_while,
            "if_": lambda condition: lambda body: body() if condition else None,
            "print_ln": show,
            "start_timer": lambda number: None,
            "stop_timer": lambda number: None,
        }
        names["saw"] = lambda v: self.logits.append(v.v.reshape(-1, batch).T)
        text = text.replace("    return argmax(v, labels=", "    saw(v)\n    return argmax(v, labels=")
        exec(compile(text, "program.mpc", "exec"), names)


def _plain(value: Any) -> Any:
    return getattr(value, "v", value)
