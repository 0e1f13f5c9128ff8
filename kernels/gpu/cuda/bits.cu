// Bit-sliced words: kernels/cpu/bits.py. Planes, leaves and pairs are rows of `words` 64-bit words.

#define WARP 32
#define FULL_WARP 0xFFFFFFFFu

// ---- Slicing -------------------------------------------------------------------------------------------------------

#define SLICE_THREADS 128
#define SLICE_ROW (WARP + 1)  // a row of 32 elements in shared memory, padded: columns lie in different banks

// One step of the transpose of a 32 x 32 bit matrix: rows k and k + j exchange off-diagonal fields of j bits.
__device__ __forceinline__ void exchange(u32 r[WARP], int j, u32 low) {
#pragma unroll
    for (int k = 0; k < WARP; k++) {
        if (k & j) continue;
        u32 top = (r[k] & low) | ((r[k + j] << j) & ~low);
        r[k + j] = ((r[k] >> j) & low) | (r[k + j] & ~low);
        r[k] = top;
    }
}

// A warp takes 1024 elements at a time: read in order, handed out through shared memory, 32 to a thread, which transposes
// them in registers. Thread t then holds bits 0 .. 31 of the planes' 32-bit word t, and the warp writes each in order.
template <typename T>
__device__ __forceinline__ void slice(const T* x, int bits, u64* planes, i64 n, i64 words) {
    __shared__ u32 staged[SLICE_THREADS / WARP][WARP * SLICE_ROW];
    int lane = threadIdx.x % WARP;
    u32* rows = staged[threadIdx.x / WARP];
    u32* out = (u32*)planes;
    bool paired = sizeof(T) == 8 && ((u64)x & 15) == 0;
    for (i64 group = thread_index() - lane; group < 2 * words; group += thread_count()) {
        i64 base = WARP * group;
        for (int first = 0; first < bits; first += 32) {
            if (paired && base + WARP * WARP <= n) {
#pragma unroll 8
                for (int i = 0; i < WARP / 2; i++) {
                    u64x2 pair = ((const u64x2*)(x + base))[i * WARP + lane];
                    int at = (2 * i + lane / 16) * SLICE_ROW + 2 * lane % WARP;
                    rows[at] = (u32)(pair.x >> first);
                    rows[at + 1] = (u32)(pair.y >> first);
                }
            } else {
#pragma unroll 8
                for (int i = 0; i < WARP; i++) {
                    i64 element = base + i * WARP + lane;
                    rows[i * SLICE_ROW + lane] = element < n ? (u32)((u64)x[element] >> first) : 0u;
                }
            }
            __syncwarp();
            u32 r[WARP];
#pragma unroll
            for (int k = 0; k < WARP; k++) r[k] = rows[lane * SLICE_ROW + k];
            __syncwarp();
            exchange(r, 16, 0x0000FFFFu);
            exchange(r, 8, 0x00FF00FFu);
            exchange(r, 4, 0x0F0F0F0Fu);
            exchange(r, 2, 0x33333333u);
            exchange(r, 1, 0x55555555u);
            if (group + lane >= 2 * words) continue;
#pragma unroll
            for (int k = 0; k < WARP; k++)
                if (first + k < bits) out[(first + k) * 2 * words + group + lane] = r[k];
        }
    }
}

KERNEL slice_bits(const u64* x, int bits, u64* planes, i64 n, i64 words) { slice(x, bits, planes, n, words); }

KERNEL slice_halves(const u32* x, int bits, u64* planes, i64 n, i64 words) { slice(x, bits, planes, n, words); }

// ---- The carry tree: one row (or radix-4 block of rows) for each blockIdx.y ----------------------------------------

#define RADIX 4
#define BLOCK_ROWS 15              // non-empty subsets of a block's bits
#define LANES 31
#define WARP_WORDS (LANES * WORDS_PER_THREAD)

// A warp takes WARP_WORDS columns at a time: lane l those from start = base + 8 l, the last lane none (see `load_row`).
#define FOR_COLUMNS(words)                                                                                            \
    for (i64 base = thread_index() / WARP * WARP_WORDS; base < words; base += thread_count() / WARP * WARP_WORDS)
#define START (base + threadIdx.x % WARP * WORDS_PER_THREAD)

__device__ __forceinline__ int columns_from(i64 start, i64 words) {
    return threadIdx.x % WARP == LANES ? 0 : (int)max((i64)0, min((i64)WORDS_PER_THREAD, words - start));
}

// `load_words` by a whole warp whose lanes are 8 words apart. A row seldom begins with a block of keystream, so that
// 8 words lie in two blocks; the second is the next lane's first. The last lane has no next one and loads nothing.
__device__ __forceinline__ void load_row(const Words& w, i64 start, int count, u64 out[WORDS_PER_THREAD]) {
    if (w.data) {
        load8(w.data, start, count, out);
        return;
    }
    u64 at = w.first + (u64)start;
    int skip = (int)(at & 7);
    chacha_block(w.key, w.operation, at >> 3, out);
    rotate_words(out, skip);
#pragma unroll
    for (int j = 0; j < WORDS_PER_THREAD; j++) {
        u64 next = __shfl_down_sync(FULL_WARP, out[j], 1);
        if (j + skip >= WORDS_PER_THREAD) out[j] = next;
    }
}

// out = products of the planes of each radix-4 block in binary order of subsets, then the top plane; all ^ masks.
KERNEL monomials(const u64* planes, WORDS(masks), u64* out, int m, i64 words) {
    Words masks = WORDS_OF(masks);
    int row = blockIdx.y;
    bool top = row + 1 == gridDim.y;
    int first = top ? m - 1 : row / BLOCK_ROWS * RADIX;
    int subset = top ? 1 : row % BLOCK_ROWS + 1;
    FOR_COLUMNS(words) {
        i64 start = START;
        int count = columns_from(start, words);
        u64 product[WORDS_PER_THREAD], mask[WORDS_PER_THREAD];
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) product[j] = ~0ull;
#pragma unroll
        for (int i = 0; i < RADIX; i++) {
            if (!(subset >> i & 1)) continue;
            u64 plane[WORDS_PER_THREAD];
            load8(planes + (first + i) * words, start, count, plane);
#pragma unroll
            for (int j = 0; j < WORDS_PER_THREAD; j++) product[j] &= plane[j];
        }
        load_row(masks, row * words + start, count, mask);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) product[j] ^= mask[j];
        store8(out + row * words, start, count, product);
    }
}

// The AND of those bits of a block that are in the set.
__device__ __forceinline__ u64 product_of(u64 a0, u64 a1, u64 a2, u64 a3, int set) {
    u64 skip0 = (u64)(set & 1) - 1, skip1 = (u64)(set >> 1 & 1) - 1;
    u64 skip2 = (u64)(set >> 2 & 1) - 1, skip3 = (u64)(set >> 3 & 1) - 1;
    return (a0 | skip0) & (a1 | skip1) & (a2 | skip2) & (a3 | skip3);
}

// With a_i, b_i the summands' bits in a block: P = prod (a_i ^ b_i), G = xor_i a_i b_i prod_(i' > i) (a_i' ^ b_i').
// So the monomial prod_(i in s) b_i has in P the coefficient prod_(i not in s) a_i, and in G, with l the lowest of s,
// a_l prod_(i > l, i not in s) a_i. Each leaf is read, or made, once. The top planes are added to the last G: B's is the
// leaf behind the last block's, a_(m - 1) counts once.
KERNEL contract_leaves(const u64* planes, WORDS(leaves), u64 one, WORDS(masks), u64* out, int m, i64 words) {
    Words leaves = WORDS_OF(leaves), masks = WORDS_OF(masks);
    int block = blockIdx.y, blocks = gridDim.y;
    int size = min(RADIX, m - 1 - RADIX * block), top_leaf = 1 << size;
    bool last = block == blocks - 1;
    FOR_COLUMNS(words) {
        i64 start = START;
        int count = columns_from(start, words);
        u64 a[RADIX][WORDS_PER_THREAD], leaf[WORDS_PER_THREAD];
        u64 generate[WORDS_PER_THREAD], propagate[WORDS_PER_THREAD];
#pragma unroll
        for (int i = 0; i < RADIX; i++) {
#pragma unroll
            for (int j = 0; j < WORDS_PER_THREAD; j++) a[i][j] = ~0ull;  // a missing bit is in no subset
            if (i < size) load8(planes + (RADIX * block + i) * words, start, count, a[i]);
        }
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) generate[j] = 0;
        if (last) load8(planes + (m - 1) * words, start, count, generate);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) {
            generate[j] &= one;
            propagate[j] = one & a[0][j] & a[1][j] & a[2][j] & a[3][j];
        }
#pragma unroll 1
        for (int subset = 1; subset < top_leaf + last; subset++) {
            int lowest = subset & -subset;
            load_row(leaves, (BLOCK_ROWS * block + subset - 1) * words + start, count, leaf);
#pragma unroll
            for (int j = 0; j < WORDS_PER_THREAD; j++)  // of the top leaf by no a_i: 1
                generate[j] ^= leaf[j] & product_of(a[0][j], a[1][j], a[2][j], a[3][j], (~subset | lowest) & -lowest);
            if (subset == top_leaf) break;
#pragma unroll
            for (int j = 0; j < WORDS_PER_THREAD; j++)
                propagate[j] ^= leaf[j] & product_of(a[0][j], a[1][j], a[2][j], a[3][j], ~subset);
        }
        load_row(masks, block * words + start, count, leaf);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) generate[j] ^= leaf[j];
        store8(out + block * words, start, count, generate);
        if (block == 0) continue;
        int row = blocks + block - 1;
        load_row(masks, row * words + start, count, leaf);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) propagate[j] ^= leaf[j];
        store8(out + row * words, start, count, propagate);
    }
}

// z = this party's share of the AND of two replicated bits, without masks.
__device__ __forceinline__ u64 cross(u64 x0, u64 x1, u64 y0, u64 y1) { return (x0 & (y0 ^ y1)) ^ (x1 & y0); }

// Rows G_0 … G_(k-1), P_1 … P_(k-1) -> k' = ceil(k / 2) of each, the same order. Mask rows: an AND each, G first.
KERNEL carry_level(const u64* own, const u64* nxt, WORDS(mask0), WORDS(mask1), u64* out, int k, i64 words) {
    Words mask0 = WORDS_OF(mask0), mask1 = WORDS_OF(mask1);
    int pairs = k / 2, merged = k - pairs, row = blockIdx.y;
    bool is_generate = row < merged;
    int j = is_generate ? row : row - merged + 1;
    if (j == pairs) {  // no partner
        i64 from = (is_generate ? k - 1 : 2 * k - 2) * words;
        for (i64 w = thread_index(); w < words; w += thread_count()) out[row * words + w] = own[from + w];
        return;
    }
    i64 high = (k + 2 * j) * words;                              // P of the upper block
    i64 low = (is_generate ? 2 * j : k + 2 * j - 1) * words;     // G or P of the lower one
    i64 gate = (is_generate ? j : pairs + j - 1) * words;
    FOR_COLUMNS(words) {
        i64 start = START;
        int count = columns_from(start, words);
        u64 x0[WORDS_PER_THREAD], x1[WORDS_PER_THREAD], y0[WORDS_PER_THREAD], y1[WORDS_PER_THREAD];
        load8(own + high, start, count, x0);
        load8(nxt + high, start, count, x1);
        load8(own + low, start, count, y0);
        load8(nxt + low, start, count, y1);
#pragma unroll
        for (int i = 0; i < WORDS_PER_THREAD; i++) x0[i] = cross(x0[i], x1[i], y0[i], y1[i]);
        if (is_generate) {
            load8(own + (2 * j + 1) * words, start, count, y0);
#pragma unroll
            for (int i = 0; i < WORDS_PER_THREAD; i++) x0[i] ^= y0[i];
        }
        load_row(mask0, gate + start, count, y0);
        load_row(mask1, gate + start, count, y1);
#pragma unroll
        for (int i = 0; i < WORDS_PER_THREAD; i++) x0[i] ^= y0[i] ^ y1[i];
        store8(out + row * words, start, count, x0);
    }
}

// out = x0 y0 ^ x0 y1 ^ x1 y0 ^ mask0 ^ mask1.
KERNEL and_cross(const u64* x0, const u64* x1, const u64* y0, const u64* y1, WORDS(mask0), WORDS(mask1), u64* out,
                 i64 n) {
    Words mask0 = WORDS_OF(mask0), mask1 = WORDS_OF(mask1);
    for (i64 start = thread_index() * WORDS_PER_THREAD; start < n; start += thread_count() * WORDS_PER_THREAD) {
        int count = (int)min((i64)WORDS_PER_THREAD, n - start);
        u64 a0[WORDS_PER_THREAD], a1[WORDS_PER_THREAD], b0[WORDS_PER_THREAD], b1[WORDS_PER_THREAD];
        load8(x0, start, count, a0);
        load8(x1, start, count, a1);
        load8(y0, start, count, b0);
        load8(y1, start, count, b1);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) a0[j] = cross(a0[j], a1[j], b0[j], b1[j]);
        load_words(mask0, start, count, b0);
        load_words(mask1, start, count, b1);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) a0[j] ^= b0[j] ^ b1[j];
        store8(out, start, count, a0);
    }
}
