"""Eight blocks of ChaCha20 or AES-128 at a time, in LLVM vector code.

Written by hand for the same reason as `tile`: one vector per state word and eight blocks side by side is out of reach
of Numba's loop vectoriser, and the AES instructions have no Python spelling.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from sottovoce.kernels.cpu.features import has_feature, inline_llvm, is_x86

I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
BLOCKS = 8
CHACHA_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k", RFC 8439 section 2.3
QUARTER_ROUNDS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
TRANSPOSE_STEPS = (
    ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15), 1),
    ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15), 2),
    ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15), 4),
)
"""Lane orders of the butterfly that turns eight vectors of eight words into their transpose, and its distances."""
AES_ROUNDS = 10
AES_WIDTH = 2 if has_feature("vaes") and has_feature("avx2") else 1
"""AES blocks in one vector register."""
HAS_AES = is_x86() and has_feature("aes")
MMO_BLOCKS = 8 * AES_WIDTH
"""Blocks that `aes128_mmo_blocks` hashes: what hides the latency of the AES instructions."""

LANES = ir.VectorType(I32, BLOCKS)
AES_STATE = ir.VectorType(I64, 2 * AES_WIDTH)
AES_ONE = ir.VectorType(I64, 2)


def _order(lanes: tuple[int, ...] | list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))


def _shuffle(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, lanes: tuple[int, ...] | list[int]) -> ir.Value:
    return builder.shuffle_vector(x, y, _order(lanes))


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    undefined = ir.Constant(LANES, ir.Undefined)
    return _shuffle(builder, builder.insert_element(undefined, value, I32(0)), undefined, [0] * BLOCKS)


def _rotate(builder: ir.IRBuilder, value: ir.Value, bits: int) -> ir.Value:
    left = builder.shl(value, ir.Constant(LANES, [bits] * BLOCKS))
    return builder.or_(left, builder.lshr(value, ir.Constant(LANES, [32 - bits] * BLOCKS)))


def _quarter_round(builder: ir.IRBuilder, state: list[ir.Value], indices: tuple[int, int, int, int]) -> None:
    a, b, c, d = indices
    for add_to, add, rotated, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[add_to] = builder.add(state[add_to], state[add])
        state[rotated] = _rotate(builder, builder.xor(state[rotated], state[add_to]), bits)


def _transpose(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    for low, high, distance in TRANSPOSE_STEPS:
        result = list(rows)
        for i in range(BLOCKS):
            if not i & distance:
                result[i] = _shuffle(builder, rows[i], rows[i + distance], low)
                result[i + distance] = _shuffle(builder, rows[i], rows[i + distance], high)
        rows = result
    # The first two steps pair lanes within halves, which leaves words 1 and 2 of each four swapped.
    return [rows[i] for i in (0, 2, 1, 3, 4, 6, 5, 7)]


def _data(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> ir.Value:
    return context.make_array(kind)(context, builder, value).data


@inline_llvm
def chacha20_blocks(typing_context: Any, key: Any, operation: Any, chunk: Any, block: Any, out: Any, at: Any) -> Any:
    """Write the eight ChaCha20 blocks `block` .. `block` + 7 to out[at : at + 64]."""
    signature = types.void(key, types.uint64, types.uint32, types.uint32, out, types.intp)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        key_data = _data(context, builder, sig.args[0], args[0])
        out_data = _data(context, builder, sig.args[4], args[4])
        words = [I32(constant) for constant in CHACHA_CONSTANTS]
        words += [builder.load(builder.gep(key_data, [I64(i)])) for i in range(8)]
        words += [args[3], args[2], builder.trunc(args[1], I32), builder.trunc(builder.lshr(args[1], I64(32)), I32)]
        start = [_splat(builder, word) for word in words]
        start[12] = builder.add(start[12], ir.Constant(LANES, list(range(BLOCKS))))
        slots = [cgutils.alloca_once(builder, LANES) for _ in start]
        for value, slot in zip(start, slots, strict=True):
            builder.store(value, slot)
        with cgutils.for_range(builder, I64(10)):
            state = [builder.load(slot) for slot in slots]
            for indices in QUARTER_ROUNDS:
                _quarter_round(builder, state, indices)
            for value, slot in zip(state, slots, strict=True):
                builder.store(value, slot)
        final = [builder.add(builder.load(slot), value) for slot, value in zip(slots, start, strict=True)]
        target = builder.bitcast(builder.gep(out_data, [args[5]]), LANES.as_pointer())
        for half in range(2):
            for lane, vector in enumerate(_transpose(builder, final[8 * half : 8 * half + 8])):
                builder.store(vector, builder.gep(target, [I64(2 * lane + half)]), align=8)
        return context.get_dummy_value()

    return signature, generate


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Value]) -> ir.Value:
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


@inline_llvm
def aes128_expand(typing_context: Any, key: Any, round_keys: Any) -> Any:
    """Write the eleven round keys of the 16-byte key to round_keys: (22,) uint64. FIPS 197 section 5.2."""
    signature = types.void(key, round_keys)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        words = ir.VectorType(I32, 4)
        source = builder.bitcast(_data(context, builder, sig.args[0], args[0]), AES_ONE.as_pointer())
        target = builder.bitcast(_data(context, builder, sig.args[1], args[1]), AES_ONE.as_pointer())
        zero = ir.Constant(words, [0] * 4)
        key_words = builder.load(source, align=1)
        builder.store(key_words, target, align=8)
        constant = 1
        for index in range(1, AES_ROUNDS + 1):
            assist = _call(builder, "llvm.x86.aesni.aeskeygenassist", AES_ONE, [key_words, I8(constant)])
            last = builder.bitcast(assist, words)
            mixed = builder.bitcast(key_words, words)
            for _ in range(3):  # prefix xor of the four words
                shifted = _shuffle(builder, zero, builder.bitcast(key_words, words), (0, 4, 5, 6))
                key_words = builder.bitcast(shifted, AES_ONE)
                mixed = builder.xor(mixed, shifted)
            mixed = builder.xor(mixed, _shuffle(builder, last, zero, (3, 3, 3, 3)))
            key_words = builder.bitcast(mixed, AES_ONE)
            builder.store(key_words, builder.gep(target, [I64(index)]), align=8)
            constant = (constant << 1) ^ (0x11B if constant & 0x80 else 0)
        return context.get_dummy_value()

    return signature, generate


@inline_llvm
def aes128_ctr_blocks(
    typing_context: Any, round_keys: Any, operation: Any, chunk: Any, block: Any, out: Any, at: Any
) -> Any:
    """Write the encryptions of the counters `block` .. `block` + 7 to out[at : at + 16]."""
    signature = types.void(round_keys, types.uint64, types.uint32, types.uint32, out, types.intp)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        name = "llvm.x86.aesni.aes" + "{}" + (".256" if AES_WIDTH == 2 else "")
        keys = builder.bitcast(_data(context, builder, sig.args[0], args[0]), AES_ONE.as_pointer())
        out_data = _data(context, builder, sig.args[4], args[4])
        words = ir.VectorType(I32, 4 * AES_WIDTH)
        octets = ir.VectorType(I8, 16 * AES_WIDTH)

        def round_key(index: int) -> ir.Value:
            one = builder.load(builder.gep(keys, [I64(index)]), align=8)
            return _shuffle(builder, one, one, [0, 1] * AES_WIDTH)

        # Bytes 15 .. 0 of the counter block; the reversal below makes it operation || chunk || block, big-endian.
        parts = [args[3], args[2], builder.trunc(args[1], I32), builder.trunc(builder.lshr(args[1], I64(32)), I32)]
        counter: ir.Value = ir.Constant(words, ir.Undefined)
        for lane in range(4 * AES_WIDTH):
            counter = builder.insert_element(counter, parts[lane % 4], I32(lane))
        reversal = [16 * (byte // 16) + 15 - byte % 16 for byte in range(16 * AES_WIDTH)]
        states = []
        first_key = round_key(0)
        for first in range(0, BLOCKS, AES_WIDTH):
            offset = [first + lane // 4 if lane % 4 == 0 else 0 for lane in range(4 * AES_WIDTH)]
            value = builder.bitcast(builder.add(counter, ir.Constant(words, offset)), octets)
            value = _shuffle(builder, value, ir.Constant(octets, ir.Undefined), reversal)
            states.append(builder.xor(builder.bitcast(value, AES_STATE), first_key))
        for index in range(1, AES_ROUNDS + 1):
            key = round_key(index)
            step = name.format("enc" if index < AES_ROUNDS else "enclast")
            states = [_call(builder, step, AES_STATE, [state, key]) for state in states]
        target = builder.bitcast(builder.gep(out_data, [args[5]]), AES_STATE.as_pointer())
        for index, state in enumerate(states):
            builder.store(state, builder.gep(target, [I64(index)]), align=8)
        return context.get_dummy_value()

    return signature, generate


@inline_llvm
def aes128_mmo_blocks(typing_context: Any, round_keys: Any, low: Any, high: Any, at: Any) -> Any:
    """Replace x by AES(x) ^ x (Matyas, Meyer, Oseas), x = low[i] || high[i] for at <= i < at + MMO_BLOCKS."""
    signature = types.void(round_keys, low, high, types.intp)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        name = "llvm.x86.aesni.aes" + "{}" + (".256" if AES_WIDTH == 2 else "")
        keys = builder.bitcast(_data(context, builder, sig.args[0], args[0]), AES_ONE.as_pointer())
        halves = [
            builder.bitcast(
                builder.gep(_data(context, builder, sig.args[i], args[i]), [args[3]]), AES_STATE.as_pointer()
            )
            for i in (1, 2)
        ]
        # Blocks in the order of the processor's unpack instructions, which their own inverse restores.
        even = [lane + 2 * AES_WIDTH * half for lane in range(0, 2 * AES_WIDTH, 2) for half in range(2)]
        odd = [lane + 1 for lane in even]

        def round_key(index: int) -> ir.Value:
            one = builder.load(builder.gep(keys, [I64(index)]), align=8)
            return _shuffle(builder, one, one, [0, 1] * AES_WIDTH)

        def word(half: int, index: int) -> ir.Value:
            return builder.gep(halves[half], [I64(index)])

        vectors = MMO_BLOCKS // (2 * AES_WIDTH)
        first_key = round_key(0)
        states = []
        for index in range(vectors):
            low_words, high_words = (builder.load(word(half, index), align=8) for half in range(2))
            for order in (even, odd):
                states.append(builder.xor(_shuffle(builder, low_words, high_words, order), first_key))
        for index in range(1, AES_ROUNDS + 1):
            key = round_key(index)
            step = name.format("enc" if index < AES_ROUNDS else "enclast")
            states = [_call(builder, step, AES_STATE, [state, key]) for state in states]
        for index in range(vectors):
            for half, order in enumerate((even, odd)):
                out = _shuffle(builder, states[2 * index], states[2 * index + 1], order)
                target = word(half, index)
                builder.store(builder.xor(out, builder.load(target, align=8)), target, align=8)
        return context.get_dummy_value()

    return signature, generate
