"""Launchers of `cuda/beaver_bits.cu`: packed bits under two-party masks. As kernels.cpu.beaver_bits.

All arrays are rows of W words, C-contiguous uint64; an output may not be an input. `one` is all ones or 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sottovoce.kernels.cpu.beaver_bits import RADIX, leaf_product_rows, merge_mask_rows, merge_monomials
from sottovoce.kernels.gpu.device import Argument, Array, Device, blocks_for, check

UNIT = "beaver_bits"
THREADS = 128
"""Of a block: what a thread of `merge_eval` keeps in registers leaves no room for more."""
PER_THREAD = 2
"""Words of a row that a thread takes at a time: 16 bytes."""
MAX_BITS = 64
MAX_INPUTS = 8


def leaf_eval(
    device: Device, opened: Array, other: Array, mask: Array, products: Array, one: np.uint64, out: Array
) -> None:
    """Carry generate and propagate of each pair of bits.

    opened, other, mask: (bits, W). products: (leaf_product_rows(bits), W). out: (2 ceil(bits / 2) - 1, W).
    """
    bits, words = opened.shape
    _check_range("leaf_eval", "bits", bits, 1, MAX_BITS)
    blocks = -(-bits // 2)
    for array in (opened, other, mask):
        check("leaf_eval", array, bits * words)
    check("leaf_eval", products, leaf_product_rows(bits) * words)
    check("leaf_eval", out, (2 * blocks - 1) * words)
    arguments = (opened, other, mask, products, np.uint64(one), out, np.int32(bits))
    _launch(device, "leaf_eval", blocks, words, arguments)


def merge_open(device: Device, rows: Array, mask: Array, opened: Array) -> None:
    """opened = the rows that a merge level multiplies XOR mask. rows: (2k - 1, W)."""
    blocks, words = _blocks("merge_open", rows)
    for array in (mask, opened):
        check("merge_open", array, merge_mask_rows(blocks) * words)
    _launch(device, "merge_open", -(-blocks // RADIX), words, (rows, mask, opened, np.int32(blocks)))


def merge_eval(
    device: Device, rows: Array, opened: Array, mask: Array, products: Array, one: np.uint64, out: Array
) -> None:
    """One level of the radix-4 carry tree: rows (2k - 1, W) -> out (2k' - 1, W), k' = ceil(k / 4)."""
    blocks, words = _blocks("merge_eval", rows)
    groups = -(-blocks // RADIX)
    for array in (opened, mask):
        check("merge_eval", array, merge_mask_rows(blocks) * words)
    check("merge_eval", products, len(merge_monomials(blocks)) * words)
    check("merge_eval", out, (2 * groups - 1) * words)
    arguments = (rows, opened, mask, products, np.uint64(one), out, np.int32(blocks))
    _launch(device, "merge_eval", groups, words, arguments)


def ands_eval(device: Device, opened: Array, mask: Array, products: Array, one: np.uint64, out: Array) -> None:
    """out = the AND of the inputs opened_j ^ mask_j. opened, mask: (inputs, W), out: (W,). 2 <= inputs <= 8."""
    inputs, words = opened.shape
    _check_range("ands_eval", "inputs", inputs, 2, MAX_INPUTS)
    for array in (opened, mask):
        check("ands_eval", array, inputs * words)
    check("ands_eval", products, ((1 << inputs) - 1 - inputs) * words)
    check("ands_eval", out, words)
    _launch(device, "ands_eval", 1, words, (opened, mask, products, np.uint64(one), out, np.int32(inputs)))


def _blocks(kernel: str, rows: Array) -> tuple[int, int]:
    count, words = rows.shape
    blocks: int = (count + 1) // 2
    if count % 2 == 0:
        raise ValueError(f"{kernel}: expected an odd number of rows, G and P of each block but the first, got {count}")
    _check_range(kernel, "blocks", blocks, 1, MAX_BITS)
    check(kernel, rows, count * words)
    return blocks, words


def _check_range(kernel: str, what: str, got: int, least: int, most: int) -> None:
    if not least <= got <= most:
        raise ValueError(f"{kernel}: expected {least} to {most} {what}, got {got}")


def _launch(device: Device, kernel: str, groups: int, words: int, arguments: Sequence[Argument]) -> None:
    """A block of threads takes columns of one group of rows."""
    if words:
        columns, _, _ = blocks_for(words, PER_THREAD * THREADS)
        device.launch(UNIT, kernel, (columns, groups, 1), (THREADS, 1, 1), (*arguments, np.int64(words)))
