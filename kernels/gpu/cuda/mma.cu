// Ring GEMM and conv1d on the int8 tensor cores, fused: kernels/gpu/tensor/mma_u8.py.
//
// A word is its 8 bytes, x = sum_i x_i 256^i, so x w = sum_s 256^s sum_{i+j=s} x_i w_j mod 2^64 over s = 0..7: 36
// products of bytes. Every limb sum s has its own s32 accumulators, which are put together in registers at the end. The
// accumulators wrap (PTX ISA: mma without .satfinite), which is what a sum shifted by 32 bits or more needs; the sums
// s <= 3 must stay below 2^32, and do for K <= 16384 products: 4 * 255^2 K < 2^32. The launcher slices K so.
//
// The product is computed transposed: M counts the columns of w and N the rows of x, for a small batch wastes least in
// the direction that the instruction counts by 8.

#define TILE_M 64  // by 4 warps of 16
#define TILE_N 32  // by 2 warps of 16
#define TILE_K 32
#define MMA_THREADS 256
#define BLOCKS_PER_SM 2

enum { STORE, ADD, ATOMIC_ADD };

#ifndef SOTTOVOCE_HOST
// c += a b for a (16, 32) and b (32, 8) bytes, c (16, 8) s32, spread over the warp's registers as PTX prescribes.
__device__ __forceinline__ void mma_u8_16x8x32(i32 c[4], const u32 a[4], const u32 b[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// Limb i of four words of consecutive k, a *quad*, is one register of a fragment. Shared memory holds fragments: the four
// registers of one lane are 16 bytes, a limb of 16 rows is 32 such cells. The k-th four quads of a row and the next four
// are `half` 0 and 1. Lane 4 i + q has of w the columns 2 i and 2 i + 1, of x the rows i and i + 8, of both quad q.
struct Tile {
    u32 w[TILE_M / 16][8][32][4];  // [half][column parity]: the instruction's a0 .. a3
    u32 x[TILE_N / 16][8][32][4];  // [row / 8][half]: b0 and b1 of two instructions
};

// Where a lane's cell lies: exclusive-or so that lanes of one q and all i write to different banks.
__device__ __forceinline__ int cell(int i, int q) { return (4 * i + q) ^ (i >> 1); }

// Byte i of the words becomes limbs[i].
__device__ __forceinline__ void transpose_bytes(u32 a, u32 b, u32 c, u32 d, u32 limbs[4]) {
    u32 ab01 = __byte_perm(a, b, 0x5140), ab23 = __byte_perm(a, b, 0x7362);
    u32 cd01 = __byte_perm(c, d, 0x5140), cd23 = __byte_perm(c, d, 0x7362);
    limbs[0] = __byte_perm(ab01, cd01, 0x5410), limbs[1] = __byte_perm(ab01, cd01, 0x7632);
    limbs[2] = __byte_perm(ab23, cd23, 0x5410), limbs[3] = __byte_perm(ab23, cd23, 0x7632);
}

__device__ __forceinline__ void transpose_quad(const u64 v[4], u32 limbs[8]) {
    transpose_bytes((u32)v[0], (u32)v[1], (u32)v[2], (u32)v[3], limbs);
    transpose_bytes((u32)(v[0] >> 32), (u32)(v[1] >> 32), (u32)(v[2] >> 32), (u32)(v[3] >> 32), limbs + 4);
}

// w (inner, columns): a thread takes two columns of four rows, 16 bytes at a time where the address allows it.
__device__ __forceinline__ void load_w(Tile& tile, const u64* w, int columns, int first, int k, int end, bool wide) {
    int i = threadIdx.x % 8, half = threadIdx.x / 8 % 2, block = threadIdx.x / 16 % 4, q = threadIdx.x / 64;
    int m = first + 16 * block + 2 * i;
    k += 16 * half + 4 * q;
    int rows = m < columns ? end - k : 0;
    const u64* at = w + (i64)k * columns + m;
    u64 even[4], odd[4];
#pragma unroll
    for (int j = 0; j < 4; j++, at += columns) {
        even[j] = odd[j] = 0;
        if (j >= rows) continue;
        if (wide) {
            u64x2 both = *(const u64x2*)at;
            even[j] = both.x;
            odd[j] = both.y;
        } else {
            even[j] = at[0];
            if (m + 1 < columns) odd[j] = at[1];
        }
    }
    u32 even_limbs[8], odd_limbs[8];
    transpose_quad(even, even_limbs);
    transpose_quad(odd, odd_limbs);
#pragma unroll
    for (int limb = 0; limb < 8; limb++)
        *(uint2*)&tile.w[block][limb][cell(i, q)][2 * half] = uint2{even_limbs[limb], odd_limbs[limb]};
}

__device__ __forceinline__ void put_x(Tile& tile, int row, int half, int q, const u64 v[4]) {
    u32 limbs[8];
    transpose_quad(v, limbs);
#pragma unroll
    for (int limb = 0; limb < 8; limb++) tile.x[row / 16][limb][cell(row % 8, q)][row / 8 % 2 * 2 + half] = limbs[limb];
}

// x (rows, inner), and out (rows, columns).
struct Rows {
    const u64* x;
    u64* out;
    int rows, inner, columns;
    bool wide;  // x may be read 16 bytes at a time: then inner, and so every end, is even

    __device__ __forceinline__ Rows at_tile(int) const { return *this; }
    __device__ __forceinline__ void load(Tile& tile, int first, int k, int end) const {
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        int q = lane % 4, half = lane / 4 % 2, row = warp / 4 * 16 + lane / 16 * 8 + warp % 4 * 2 + lane / 8 % 2;
        k += 16 * half + 4 * q;
        int count = first + row < rows ? end - k : 0;
        const u64* at = x + (i64)(first + row) * inner + k;
        u64 v[4];
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
            v[j] = v[j + 1] = 0;
            if (wide) {
                if (j >= count) continue;
                u64x2 both = *(const u64x2*)(at + j);
                v[j] = both.x;
                v[j + 1] = both.y;
            } else {
                if (j < count) v[j] = at[j];
                if (j + 1 < count) v[j + 1] = at[j + 1];
            }
        }
        put_x(tile, row, half, q, v);
    }
    // Where the results of row n begin, and how far apart they are.
    __device__ __forceinline__ u64* row_of_out(int n) const { return out + (i64)n * columns; }
    __device__ __forceinline__ i64 step_of_out() const { return 1; }
};

// The windows of a convolution as rows, gathered where they are needed. Row n is output position n mod time_out of clip
// n / time_out; column k is channel k mod c_in of tap k / c_in.
struct Windows {
    const u64* x;  // (batch, groups * c_in, time) from the group's first channel on
    u64* out;      // (batch, groups * columns, time_out) from the group's first channel on
    i64 clip, out_clip;
    int rows, c_in, stride, pad_left;
    u32 time, time_out, dilation;  // positions are u32: those outside of x, on either side, are at least `time`
    const u64* window;             // of this thread's row: its clip, or null
    u32 start;

    __device__ __forceinline__ Windows at_tile(int first) const {
        Windows here = *this;
        u32 n = first + threadIdx.x / 128 * 16 + threadIdx.x % 16, b = n / time_out;
        here.start = (n - b * time_out) * stride - pad_left;
        here.window = n < rows ? x + b * clip : nullptr;
        return here;
    }
    __device__ __forceinline__ void load(Tile& tile, int, int k, int end) const {
        int row = threadIdx.x / 128 * 16 + threadIdx.x % 16, half = threadIdx.x / 16 % 2, q = threadIdx.x / 32 % 4;
        k += 16 * half + 4 * q;
        int tap = (u32)k / (u32)c_in, channel = k - tap * c_in;
        u32 position = start + tap * dilation;
        int count = window ? end - k : 0;
        u64 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            v[j] = j < count && position < time ? window[(i64)channel * time + position] : 0;
            if (++channel == c_in) channel = 0, position += dilation;
        }
        put_x(tile, row, half, q, v);
    }
    __device__ __forceinline__ u64* row_of_out(u32 n) const {
        u32 b = n / time_out;
        return out + b * out_clip + (n - b * time_out);
    }
    __device__ __forceinline__ i64 step_of_out() const { return time_out; }
};

__device__ __forceinline__ void load_limbs(const u32 cells[8][32][4], int first, u32 limbs[4][4]) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint4 four = *(const uint4*)cells[first + i][cell(lane / 4, lane % 4)];
        limbs[i][0] = four.x, limbs[i][1] = four.y, limbs[i][2] = four.z, limbs[i][3] = four.w;
    }
}

// sums[FIRST + i + j] += limb i of w times limb j of x.
template <int FIRST>
__device__ __forceinline__ void multiply_limbs(const u32 w[4][4], const u32 x[4][4], i32 sums[8][2][4]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (FIRST + i + j > 7) continue;
            mma_u8_16x8x32(sums[FIRST + i + j][0], w[i], x[j]);
            mma_u8_16x8x32(sums[FIRST + i + j][1], w[i], x[j] + 2);
        }
}

// All 36 products of 16 columns of w and 16 rows of x over TILE_K. In this order four limbs of either are in registers
// at a time, and each is loaded once.
__device__ __forceinline__ void multiply_tile(const Tile& tile, int block_w, int block_x, i32 sums[8][2][4]) {
    u32 w[4][4], x[4][4];
    load_limbs(tile.w[block_w], 0, w);
    load_limbs(tile.x[block_x], 4, x);
    multiply_limbs<4>(w, x, sums);
    load_limbs(tile.x[block_x], 0, x);
    multiply_limbs<0>(w, x, sums);
    load_limbs(tile.w[block_w], 4, w);
    multiply_limbs<4>(w, x, sums);
}

// Block (x, y) computes a tile of rows and columns over [begin, end) of the inner dimension.
template <class Operand>
__device__ __forceinline__ void multiply(const u64* w, int columns, const Operand& x, int begin, int end, int mode) {
    __shared__ __align__(16) Tile tile;
    int first_m = blockIdx.y * TILE_M, first_n = blockIdx.x * TILE_N;
    int lane = threadIdx.x % 32, block_w = threadIdx.x / 32 % 4, block_x = threadIdx.x / 128;
    bool busy = first_m + 16 * block_w < columns && first_n + 16 * block_x < x.rows;
    bool wide = (((u64)w) & 15) == 0 && columns % 2 == 0;
    Operand here = x.at_tile(first_n);
    i32 sums[8][2][4];
#pragma unroll
    for (int s = 0; s < 8; s++)
#pragma unroll
        for (int c = 0; c < 8; c++) sums[s][c / 4][c % 4] = 0;
#pragma unroll 1
    for (int k = begin; k < end; k += TILE_K) {
        load_w(tile, w, columns, first_m, k, end, wide);
        here.load(tile, first_n, k, end);
        __syncthreads();
        if (busy) multiply_tile(tile, block_w, block_x, sums);
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < 4; r++) {
        int n = first_n + 16 * block_x + r / 2 * 8 + 2 * (lane % 4) + r % 2;
        if (n >= x.rows) continue;
        u64* row = x.row_of_out(n);
#pragma unroll
        for (int odd = 0; odd < 2; odd++) {
            int m = first_m + 16 * block_w + 2 * (lane / 4) + odd;
            if (m >= columns) continue;
            u64 total = 0;
#pragma unroll
            for (int s = 0; s < 8; s++) total += (u64)(u32)sums[s][r / 2][2 * odd + r % 2] << 8 * s;
            u64* to = row + m * x.step_of_out();
            if (mode == ATOMIC_ADD) atomicAdd(to, total);
            else *to = mode == ADD ? *to + total : total;
        }
    }
}

// Grid z: slices of `depth` of the inner dimension, a multiple of TILE_K and at most 16384.
KERNEL __launch_bounds__(MMA_THREADS, BLOCKS_PER_SM)
mma_matmul(const u64* x, const u64* w, u64* out, i32 rows, i32 inner, i32 columns, i32 depth, i32 mode) {
    int begin = blockIdx.z * depth;
    bool wide = (((u64)x) & 15) == 0 && inner % 2 == 0;
    multiply(w, columns, Rows{x, out, rows, inner, columns, wide}, begin, min(inner - begin, depth) + begin, mode);
}

// Grid z: groups, times slices. w: (groups, taps * c_in, columns).
KERNEL __launch_bounds__(MMA_THREADS, BLOCKS_PER_SM)
mma_conv1d(const u64* x, const u64* w, u64* out, i32 batch, i32 groups, i32 c_in, i32 columns, i32 time, i32 taps,
           i32 time_out, i32 stride, i32 pad_left, i32 dilation, i32 depth, i32 mode) {
    int group = blockIdx.z % groups, begin = blockIdx.z / groups * depth, inner = taps * c_in;
    i64 x_group = (i64)c_in * time, out_group = (i64)columns * time_out;
    Windows windows{x + group * x_group, out + group * out_group, groups * x_group, groups * out_group,
                    batch * time_out, c_in, stride, pad_left, (u32)time, (u32)time_out, (u32)dilation, nullptr, 0};
    const u64* group_w = w + (i64)group * inner * columns;
    multiply(group_w, columns, windows, begin, min(inner - begin, depth) + begin, mode);
}
