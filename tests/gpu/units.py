"""Small units of the tests' own: one kernel for each thing that the shim offers."""

from __future__ import annotations

from sottovoce.kernels.gpu.sources import FOLDER

SUM = """
// out[block] = the sum of the block's 256 words of x.
KERNEL block_sums(const u64* x, u64* out) {
    __shared__ u64 partial[256];
    partial[threadIdx.x] = x[thread_index()];
    __syncthreads();
    for (int width = 128; width > 0; width /= 2) {
        if (threadIdx.x < width) partial[threadIdx.x] += partial[threadIdx.x + width];
        __syncthreads();
    }
    if (threadIdx.x == 0) out[blockIdx.x] = partial[0];
}
"""

REVERSE = """
// Each block reverses its part of x through dynamic shared memory.
KERNEL reverse_blocks(const u64* x, u64* out) {
    extern __shared__ u64 tile[];
    tile[threadIdx.x] = x[thread_index()];
    __syncthreads();
    out[thread_index()] = tile[blockDim.x - 1 - threadIdx.x];
}
"""

WARP = """
template <class T>
__device__ T total(T value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}
// For 32 lanes: down, up, broadcast inside halves, sums, votes.
KERNEL warp_exchanges(const u64* x, u64* out) {
    int lane = threadIdx.x;
    u64 value = x[lane];
    out[lane] = __shfl_down_sync(0xffffffffu, value, 3);
    out[32 + lane] = __shfl_up_sync(0xffffffffu, value, 5);
    out[64 + lane] = __shfl_sync(0xffffffffu, value, 17, 16);
    out[96 + lane] = total(value) + (u64)total((u32)lane);
    out[128 + lane] = __ballot_sync(0xffffffffu, value & 1);
    if (lane < 8) out[160 + lane] = __any_sync(0xffu, lane == 3) * 2 + __all_sync(0xffu, lane < 7);
    __syncwarp();
    out[192 + lane] = __syncthreads_count(lane % 3 == 0);
}
"""

MMA = """
KERNEL multiply(const u32* a, const u32* b, i32* c, i32* d) {
    int lane = threadIdx.x;
    mma_u8_16x8x32(c + lane * 4, a + lane * 4, b + lane * 2);
    mma_s8_16x8x32(d + lane * 4, a + lane * 4, b + lane * 2);
}
"""

ATOMICS = """
__device__ __forceinline__ u64 mix(u64 x) { return x * 0x9E3779B97F4A7C15ull; }
KERNEL count(u64* sums, u32* bits, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        atomicAdd(sums, mix((u64)i));
        atomicXor(sums + 1, mix((u64)i));
        atomicOr(bits, 1u << (i & 31));
        for (u64 old = sums[2], seen; (seen = atomicCAS(sums + 2, old, old + 1)) != old; old = seen) {}
    }
}
"""

INTRINSICS = """
KERNEL intrinsics(u64 x, u32 y, u32 z, u64* out) {
    u64 results[] = {__umul64hi(x, x), (u64)__popc(y), (u64)__popcll(x), (u64)__clz((int)y), (u64)__clzll((i64)x),
                     (u64)__ffs((int)y), (u64)__ffsll((i64)x), __brev(y), __brevll(x), __byte_perm(y, z, 0x7250),
                     __funnelshift_l(y, z, 7), __funnelshift_r(y, z, 39), (u64)min((i32)y, (i32)z), max(x, (u64)z)};
    for (int i = 0; i < 14; i++) out[i] = results[i];
}
"""

DEADLOCK = """
KERNEL early_leave(u64* out) {
    if (threadIdx.x == 5) return;
    __syncthreads();
    out[threadIdx.x] = threadIdx.x;
}
KERNEL divergent_barrier(u64* out) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __shfl_xor_sync(0xffffffffu, 1, threadIdx.x == 40 ? 1 : 2);
    if (threadIdx.x >= 32)
        __syncthreads();
    out[threadIdx.x] = 1;
}
KERNEL missing_lane(u64* out) {
    if (threadIdx.x != 3) out[threadIdx.x] = __ballot_sync(0xffffffffu, 1);
    else __syncthreads();
}
"""

GARBAGE = """
template <int N>
__device__ u64 first_of_tile() {
    __shared__ u64 tile[N];
    return tile[0];
}
// What nobody has set: shared memory, also that which the block before set, and a local variable.
KERNEL __launch_bounds__(64) uninitialised(u64* out) {
    __shared__ u64 shared;
    u64 local[2];
    out[blockIdx.x * 4] = shared;
    out[blockIdx.x * 4 + 1] = local[blockIdx.x & 1];
    out[blockIdx.x * 4 + 2] = first_of_tile<3>();
    out[blockIdx.x * 4 + 3] = first_of_tile<4>();
    shared = 7;
}
"""

TOY = """
// out[i] = x[i + 1] rotated left by 13, the last x[0]'s; and how many of x are odd.
KERNEL toy(const u32* x, u32* out, u64* odd, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        out[i] = rotate_left(x[(i + 1) % n], 13);
        if (x[i] & 1) atomicAdd(odd, 1ull);
    }
}
"""


def with_prelude(body: str) -> str:
    """A unit's whole text, without the sections that units may include."""
    return f'{(FOLDER / "prelude.cuh").read_text()}\n#line 1 "unit.cu"\n{body}'
