// What oblivious transfer costs: kernels/cpu/ot.py.

#define FULL_WARP 0xffffffffu

// ---- Sums of the streams under the leaves of trees ---------------------------------------------------------------
// A group of 2^log_lanes lanes of a warp takes one block of the streams of a tree, each lane some of the leaves. Their
// sums meet by shuffles, so every lane of a warp stays until then, whether its group has a block or not.

__device__ __forceinline__ u32 reverse_bytes(u32 x) { return __byte_perm(x, 0, 0x0123); }

__device__ __forceinline__ AesBlock counter_block(u64 operation, u32 block) {
    return AesBlock{reverse_bytes((u32)(operation >> 32)) | (u64)reverse_bytes((u32)operation) << 32,
                    (u64)reverse_bytes(block) << 32};
}

__device__ __forceinline__ AesBlock load_leaf(const u8* leaves, i64 index) {
    const u8* leaf = leaves + 16 * index;
    if (((u64)leaves & 15) == 0) {
        u64x2 words = *(const u64x2*)leaf;
        return AesBlock{words.x, words.y};
    }
    AesBlock block{0, 0};
#pragma unroll 1
    for (int i = 0; i < 8; i++) {
        block.low |= (u64)leaf[i] << (8 * i);
        block.high |= (u64)leaf[8 + i] << (8 * i);
    }
    return block;
}

// AES_key(x) with the key schedule beside the rounds, in registers: a leaf serves few blocks of one group.
__device__ __forceinline__ AesBlock aes_encrypt_once(const Aes& aes, AesBlock key, AesBlock x) {
    u32 k0 = (u32)key.low, k1 = (u32)(key.low >> 32), k2 = (u32)key.high, k3 = (u32)(key.high >> 32);
    u32 a = (u32)x.low ^ k0, b = (u32)(x.low >> 32) ^ k1, c = (u32)x.high ^ k2, d = (u32)(x.high >> 32) ^ k3;
    u32 constant = 1;
#pragma unroll 1
    for (int round = 1;; round++) {
        u32 last = rotate_left(k3, 24);
        k0 ^= aes_substitute(aes, last, last, last, last) ^ constant;
        k1 ^= k0;
        k2 ^= k1;
        k3 ^= k2;
        constant = aes_double(constant);
        if (round == 10) break;
        u32 a1 = aes_column(aes, a, b, c, d, k0), b1 = aes_column(aes, b, c, d, a, k1);
        u32 c1 = aes_column(aes, c, d, a, b, k2), d1 = aes_column(aes, d, a, b, c, k3);
        a = a1;
        b = b1;
        c = c1;
        d = d1;
    }
    u32 a1 = aes_substitute(aes, a, b, c, d) ^ k0, b1 = aes_substitute(aes, b, c, d, a) ^ k1;
    u32 c1 = aes_substitute(aes, c, d, a, b) ^ k2, d1 = aes_substitute(aes, d, a, b, c) ^ k3;
    return AesBlock{a1 | (u64)b1 << 32, c1 | (u64)d1 << 32};
}

#define MOST_BITS 8

// 2^bits leaves in a tree. Row 0 of the sums is u, row 1 + b is v_b. Lane r writes row r: bits + 1 <= lanes.
KERNEL __launch_bounds__(256) field_vole(const u8* leaves, u64 operation, u64* u, u64* v, i32 bits, i64 trees,
                                         i64 words, i32 log_lanes) {
    __shared__ Aes aes;
    aes_set_table(aes);
    __syncthreads();
    int values = 1 << bits, lanes = 1 << log_lanes, lane = threadIdx.x & (lanes - 1);
    i64 columns = (words + 1) / 2, items = trees * columns;
    for (i64 first = thread_index() >> 5 << 5 >> log_lanes; first < items; first += thread_count() >> log_lanes) {
        i64 item = first + ((threadIdx.x & 31) >> log_lanes);
        bool active = item < items;
        i64 tree = active ? item / columns : 0, column = item - tree * columns;
        AesBlock counter = counter_block(operation, (u32)column), sums[1 + MOST_BITS];
#pragma unroll
        for (int row = 0; row <= MOST_BITS; row++) sums[row] = AesBlock{0, 0};
        for (int p = lane; p < values && active; p += lanes) {
            AesBlock t = aes_encrypt_once(aes, load_leaf(leaves, p * trees + tree), counter);
            u32 x = 2 * (u32)(values - 1 - p) + 1;
#pragma unroll
            for (int row = 0; row <= MOST_BITS; row++) {
                u64 ones = 0 - (u64)(x >> row & 1);
                sums[row].low ^= t.low & ones;
                sums[row].high ^= t.high & ones;
            }
        }
#pragma unroll
        for (int row = 0; row <= MOST_BITS; row++) {
            if (row > bits) break;
            for (int distance = 1; distance < lanes; distance *= 2) {
                sums[row].low ^= __shfl_xor_sync(FULL_WARP, sums[row].low, distance);
                sums[row].high ^= __shfl_xor_sync(FULL_WARP, sums[row].high, distance);
            }
            if (active && lane == row) {
                u64* at = (row == 0 ? u + tree * words : v + (tree * bits + row - 1) * words) + 2 * column;
                at[0] = sums[row].low;
                if (2 * column + 1 < words) at[1] = sums[row].high;
            }
        }
    }
}

// The last i < count with (offsets[i] >> shift) + extra i <= at, or 0. The offsets ascend.
__device__ __forceinline__ i64 find_run(const i64* offsets, i64 count, int shift, i64 extra, i64 at) {
    i64 first = 0;
    while (count > 1) {
        i64 half = count / 2;
        bool later = (offsets[first + half] >> shift) + extra * (first + half) <= at;
        first += later ? half : 0;
        count = later ? count - half : half;
    }
    return first;
}

// Word: u64, or u32 for sums mod 2^32. Tree i has the slots from offsets[i] / PER + i on, one more than it can need.
template <class Word>
__device__ __forceinline__ void add_leaves(const Aes& aes, const u8* leaves, const i64* holes, u64 operation,
                                           const i64* offsets, u64* u, u64* v, int values, i64 trees, i64 n,
                                           int log_lanes) {
    constexpr int PER = 16 / sizeof(Word), SHIFT = PER / 2;
    int lanes = 1 << log_lanes, lane = threadIdx.x & (lanes - 1);
    i64 slots = n / PER + trees;
    for (i64 first = thread_index() >> 5 << 5 >> log_lanes; first < slots; first += thread_count() >> log_lanes) {
        i64 slot = first + ((threadIdx.x & 31) >> log_lanes);
        i64 tree = find_run(offsets, trees, SHIFT, 1, slot);
        i64 block = slot - (offsets[tree] >> SHIFT) - tree;
        i64 at = offsets[tree] + PER * block, end = offsets[tree + 1];
        bool active = block >= 0 && at < end;
        AesBlock counter = counter_block(operation + (u64)tree, (u32)block);
        i64 hole = holes[tree];
        Word total[PER] = {}, weighted[PER] = {};
        for (int p = lane; p < values && active; p += lanes) {
            if (p == hole) continue;
            AesBlock t = aes_encrypt_once(aes, load_leaf(leaves, p * trees + tree), counter);
#pragma unroll
            for (int j = 0; j < PER; j++) {
                Word word = (Word)((j < PER / 2 ? t.low : t.high) >> (j % (PER / 2) * 32));
                total[j] += word;
                weighted[j] += word * (Word)(values - 1 - p);
            }
        }
        for (int distance = 1; distance < lanes; distance *= 2) {
#pragma unroll
            for (int j = 0; j < PER; j++) {
                total[j] += __shfl_xor_sync(FULL_WARP, total[j], distance);
                weighted[j] += __shfl_xor_sync(FULL_WARP, weighted[j], distance);
            }
        }
#pragma unroll
        for (int j = 0; j < PER; j++) {
            if (!active || at + j >= end) break;
            if (lane == 0) u[at + j] = total[j];
            if (lane == lanes - 1) v[at + j] = weighted[j];
        }
    }
}

KERNEL __launch_bounds__(256) leaf_sums(const u8* leaves, const i64* holes, u64 operation, const i64* offsets,
                                        i32 narrow, u64* u, u64* v, i32 values, i64 trees, i64 n, i32 log_lanes) {
    __shared__ Aes aes;
    aes_set_table(aes);
    __syncthreads();
    if (narrow) add_leaves<u32>(aes, leaves, holes, operation, offsets, u, v, values, trees, n, log_lanes);
    else add_leaves<u64>(aes, leaves, holes, operation, offsets, u, v, values, trees, n, log_lanes);
}

// ---- Bits --------------------------------------------------------------------------------------------------------

#define WARPS 8  // of a block of 256 threads
#define PLANES 128

// A block takes WARPS words of each plane, a warp 128 x 64 bits: eight squares of 32 x 32, lane l with row l of each.
KERNEL __launch_bounds__(256) transpose_bits(const u64* planes, u64* rows, i64 words) {
    __shared__ u64 tile[PLANES][WARPS + 1];  // one more: the lanes that read a column meet different banks
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    bool wide = aligned(rows);
    for (i64 first = (i64)blockIdx.x * WARPS; first < words; first += (i64)gridDim.x * WARPS) {
        for (int i = threadIdx.x; i < PLANES * WARPS; i += 32 * WARPS) {
            i64 w = first + i % WARPS;
            if (w < words) tile[i / WARPS][i % WARPS] = planes[i / WARPS * words + w];
        }
        __syncthreads();
        if (first + warp < words) {
            u32 square[8];  // 32 planes each; first the low halves of their words, then the high ones
#pragma unroll
            for (int s = 0; s < 4; s++) {
                u64 word = tile[32 * s + lane][warp];
                square[s] = (u32)word;
                square[4 + s] = (u32)(word >> 32);
            }
            u32 low = 0xffff;
#pragma unroll
            for (int j = 16; j > 0; j /= 2) {
                // Of lanes l and l + j the first gives its columns with bit j for the other's without.
                bool upper = lane & j;
                u32 keep = upper ? ~low : low;
#pragma unroll
                for (int s = 0; s < 8; s++) {
                    u32 other = __shfl_xor_sync(FULL_WARP, square[s], j);
                    other = __funnelshift_l(other, other, upper ? 32 - j : j);
                    square[s] = (square[s] & keep) | (other & ~keep);
                }
                low ^= low << (j / 2);
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                i64 row = 64 * (first + warp) + 32 * half + lane;
                u64 a = square[4 * half] | (u64)square[4 * half + 1] << 32;
                u64 b = square[4 * half + 2] | (u64)square[4 * half + 3] << 32;
                if (wide) store_pair<true>(rows, row, 128 * words, a, b);
                else store_pair<false>(rows, row, 128 * words, a, b);
            }
        }
        __syncthreads();
    }
}

// ---- Corrections of a digit: numbers of 64 - shift bits, one after the other ---------------------------------------

// A warp takes 64 numbers, which are 64 - shift words, and reads them in pairs.
template <bool WIDE>
__device__ __forceinline__ void correct_pairs(const u64* y, const u64* u, const u64* v, int shift, u64* z, u64* packed,
                                              i64 n, u64 numbers[WARPS][64]) {
    u64* mine = numbers[threadIdx.x >> 5];
    int lane = threadIdx.x & 31, bits = 64 - shift;
    i64 total = (n * bits + 63) / 64;
    for (i64 chunk = thread_index() >> 5; 64 * chunk < n; chunk += thread_count() >> 5) {
        i64 p = 32 * chunk + lane;
        u64x2 a{0, 0}, b{0, 0};
        if (2 * p < n) {
            a = load_pair<WIDE>(y, p, n);
            b = load_pair<WIDE>(u, p, n);
            u64x2 c = load_pair<WIDE>(v, p, n), sum = load_pair<WIDE>(z, p, n);
            store_pair<WIDE>(z, p, n, sum.x + (c.x << shift), sum.y + (c.y << shift));
        }
        mine[2 * lane] = (a.x - b.x) & (~0ull >> shift);
        mine[2 * lane + 1] = (a.y - b.y) & (~0ull >> shift);
        __syncwarp();
        for (int k = lane; k < bits; k += 32) {
            if (chunk * bits + k >= total) break;
            int i = 64 * k / bits, begin = i * bits - 64 * k;  // of the first number in word k, from its lowest bit
            u64 word = mine[i] >> -begin;
            for (begin += bits; begin < 64; begin += bits) word |= mine[++i] << begin;
            packed[chunk * bits + k] = word;
        }
        __syncwarp();
    }
}

KERNEL __launch_bounds__(256) vole_correct(const u64* y, const u64* u, const u64* v, i32 shift, u64* z,
                                                  u64* packed, i64 n) {
    __shared__ u64 numbers[WARPS][64];
    if (aligned(y, u, v, z)) correct_pairs<true>(y, u, v, shift, z, packed, n, numbers);
    else correct_pairs<false>(y, u, v, shift, z, packed, n, numbers);
}

__device__ __forceinline__ u64 unpack(const u64* packed, i64 index, int bits) {
    i64 at = index * bits >> 6;
    int low = (int)(index * bits & 63);
    u64 number = packed[at] >> low;
    if (low + bits > 64) number |= packed[at + 1] << (64 - low);
    return number & (~0ull >> (64 - bits));
}

// What element w gets, in the run that it lies in, or 0 outside of all.
__device__ __forceinline__ u64 joined(const u64* packed, u64 u, u64 v, const u64* digits, const i64* offsets, i64 runs,
                                      i64 w, int shift) {
    if (w < offsets[0] || w >= offsets[runs]) return 0;
    u64 digit = digits[find_run(offsets, runs, 0, 0, w)];
    return (digit * (unpack(packed, w, 64 - shift) + u) - v) << shift;
}

template <bool WIDE>
__device__ __forceinline__ void join_pairs(const u64* packed, const u64* u, const u64* v, const u64* digits,
                                           const i64* offsets, int shift, u64* z, i64 runs, i64 n) {
    for (i64 p = thread_index(); 2 * p < n; p += thread_count()) {
        u64x2 a = load_pair<WIDE>(u, p, n), b = load_pair<WIDE>(v, p, n), sum = load_pair<WIDE>(z, p, n);
        u64 even = joined(packed, a.x, b.x, digits, offsets, runs, 2 * p, shift);
        u64 odd = joined(packed, a.y, b.y, digits, offsets, runs, 2 * p + 1, shift);
        store_pair<WIDE>(z, p, n, sum.x + even, sum.y + odd);
    }
}

KERNEL vole_join(const u64* packed, const u64* u, const u64* v, const u64* digits, const i64* offsets, i32 shift,
                 u64* z, i64 runs, i64 n) {
    if (aligned(u, v, z)) join_pairs<true>(packed, u, v, digits, offsets, shift, z, runs, n);
    else join_pairs<false>(packed, u, v, digits, offsets, shift, z, runs, n);
}

// 2^log_run >= run threads for a run. Runs may lie on top of each other: sums mod 2^64 come out the same in any order.
KERNEL add_runs(const u64* x, const i64* starts, i64 run, u64* out, i64 runs, i32 log_run) {
    for (i64 t = thread_index(); t < runs << log_run; t += thread_count()) {
        i64 r = t >> log_run, i = t & (((i64)1 << log_run) - 1);
        if (i < run) atomicAdd(out + starts[r] + i, x[r * run + i]);
    }
}
