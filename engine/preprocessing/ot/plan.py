"""Which number meets which: a bilinear map as rows of runs, so that one party's digit is multiplied by a row at once.

For a linear layer the digits come from the inputs' masks A or from the weights' masks B, whichever costs fewer bytes.
Every element of that side meets a row of the other side: runs of neighbouring words, each added to as many words of
the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sottovoce.engine.program import Linear
from sottovoce.engine.tensors import U64

Side = Literal["inputs", "weights"]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """out[o] += x[e] y[i] for every element e and the pairs (i, o) of its row.

    Element e is the pair of e // len(kept) and e % len(kept), an outer and an inner position; the inner position q
    has the `counts[q]` > 0 runs from `starts[q]` on. Run r of outer position p begins at y_outer[p] + y_inner[r] and
    at out_outer[p] + out_inner[r], and has `run` words. kept: the inner positions among `inner`; the others meet none.
    """

    run: int
    inner: int
    kept: Numbers
    y_outer: Numbers
    out_outer: Numbers
    starts: Numbers
    counts: Numbers
    y_inner: Numbers
    out_inner: Numbers

    @property
    def elements(self) -> int:
        """Numbers that are cut into digits."""
        return self.y_outer.size * self.kept.size

    @property
    def products(self) -> int:
        """Ring multiplications."""
        return self.y_outer.size * self.y_inner.size * self.run

    def digits_of(self, x: U64) -> U64:
        """x: all numbers of a side, flat -> (elements,), those that meet any."""
        return np.ascontiguousarray(x.reshape(-1, self.inner)[:, self.kept]).reshape(-1)

    def rows(self, first: int, last: int) -> tuple[Numbers, Numbers, Numbers]:
        """Of the elements first … last - 1: offsets of their rows (last - first + 1,), counted in words, and the
        beginnings of all runs in y and in the result."""
        outer, inner = np.divmod(np.arange(first, last), self.kept.size)
        counts = self.counts[inner]
        ends = np.cumsum(counts)
        which = np.repeat(np.arange(last - first), counts)
        run = np.arange(ends[-1] if ends.size else 0) + (self.starts[inner] - (ends - counts))[which]
        offsets = np.concatenate([[0], ends]) * self.run
        outer = outer[which]
        return offsets, self.y_outer[outer] + self.y_inner[run], self.out_outer[outer] + self.out_inner[run]


def elementwise(n: int) -> Plan:
    """out[i] += x[i] y[i]."""
    every, one = np.arange(n), np.zeros(1, np.int64)
    return Plan(1, 1, one, every, every, one, one + 1, one, one)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A layer's product for a number of clips, with the digits from one side.

    A dense layer is a convolution over one position.
    """

    step: Linear
    clips: int
    side: Side

    @property
    def _sizes(self) -> tuple[int, int, int, int, int]:
        """Input channels, positions, output channels, taps, output positions."""
        step = self.step
        if step.kind == "dense":
            return step.in_shape[0], 1, step.weight.shape[0], 1, 1
        c_in, time = step.in_shape
        return c_in, time, step.weight.shape[0], step.weight.shape[2], step.linear_shape[1]

    def plan(self) -> Plan:
        """x and y as `arrange` gives them, the result as `restore` takes it."""
        step = self.step
        c_in, time, c_out, taps, time_out = self._sizes
        width_in, width_out = c_in // step.groups, c_out // step.groups
        at = np.arange(time_out)[:, None] * step.stride + np.arange(taps) * step.dilation - step.padding[0]
        t_out, tap = np.nonzero((at >= 0) & (at < time))
        t = at[t_out, tap]
        if self.side == "inputs":
            clip, c = (grid.reshape(-1) for grid in np.indices((self.clips, c_in)))
            return _plan(
                width_out,
                c * taps * width_out,
                clip * time_out * c_out + c // width_in * width_out,
                t,
                time,
                tap * width_out,
                t_out * c_out,
            )
        o, c = (grid.reshape(-1) for grid in np.indices((c_out, width_in)))
        return _plan(
            self.clips,
            (o // width_out * width_in + c) * time * self.clips,
            o * time_out * self.clips,
            tap,
            taps,
            t * self.clips,
            t_out * self.clips,
        )

    def arrange(self, a: U64, b: U64) -> tuple[U64, U64]:
        """Own shares of A, (clips * in,), and of B, of the weight's shape -> x and y, both flat."""
        c_in, time, c_out, taps, _ = self._sizes
        groups = self.step.groups
        a = a.reshape(self.clips, c_in, time)
        b = b.reshape(groups, c_out // groups, c_in // groups, taps)
        if self.side == "inputs":
            return a.reshape(-1), np.ascontiguousarray(b.transpose(0, 2, 3, 1)).reshape(-1)
        return b.reshape(-1), np.ascontiguousarray(a.transpose(1, 2, 0)).reshape(-1)

    def restore(self, flat: U64) -> U64:
        """The result -> (clips, outputs per clip)."""
        _, _, c_out, _, time_out = self._sizes
        if self.side == "inputs":
            shaped = flat.reshape(self.clips, time_out, c_out).transpose(0, 2, 1)
        else:
            shaped = flat.reshape(c_out, time_out, self.clips).transpose(2, 0, 1)
        return np.ascontiguousarray(shaped).reshape(self.clips, -1)


def _plan(
    run: int, y_outer: Numbers, out_outer: Numbers, inner: Numbers, size: int, y_inner: Numbers, out_inner: Numbers
) -> Plan:
    """inner: the inner position, below `size`, of every run."""
    order = np.argsort(inner, kind="stable")
    kept, counts = np.unique(inner, return_counts=True)
    starts = np.cumsum(counts) - counts
    return Plan(run, size, kept, y_outer, out_outer, starts, counts, y_inner[order], out_inner[order])
