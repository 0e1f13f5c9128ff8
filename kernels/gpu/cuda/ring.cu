// Elementwise arithmetic mod 2^64, one pass over memory each: kernels/cpu/ring.py. out may be one of the inputs.

// Every thread takes pairs of words, 16 bytes at a time; what a last odd word needs is done by one thread. Arrays that
// do not begin at 16 bytes (a slice) go word by word.
#define ELEMENTWISE(name, parameters, aligned_condition, pair, single)                       \
    KERNEL name parameters {                                                                 \
        if (aligned_condition) {                                                             \
            for (i64 p = thread_index(); p < n / 2; p += thread_count()) { pair }            \
            if ((n & 1) && thread_index() == 0) { i64 i = n - 1; single }                    \
        } else {                                                                             \
            for (i64 i = thread_index(); i < n; i += thread_count()) { single }              \
        }                                                                                    \
    }

#define ALIGNED(p) ((((u64)(p)) & 15) == 0)
#define PAIR(p, at) (((const u64x2*)(p))[at])
#define STORE_PAIR(p, at, a, b) ((u64x2*)(p))[at] = u64x2{a, b};

#define BINARY(name, op)                                                                     \
    ELEMENTWISE(name, (const u64* x, const u64* y, u64* out, i64 n),                         \
        ALIGNED(x) && ALIGNED(y) && ALIGNED(out),                                            \
        u64x2 a = PAIR(x, p); u64x2 b = PAIR(y, p); STORE_PAIR(out, p, a.x op b.x, a.y op b.y), \
        out[i] = x[i] op y[i];)

BINARY(ring_add, +)
BINARY(ring_sub, -)
BINARY(ring_mul, *)
BINARY(ring_xor, ^)

ELEMENTWISE(ring_neg, (const u64* x, u64* out, i64 n), ALIGNED(x) && ALIGNED(out),
    u64x2 a = PAIR(x, p); STORE_PAIR(out, p, 0 - a.x, 0 - a.y),
    out[i] = 0 - x[i];)

ELEMENTWISE(ring_scale, (const u64* x, u64 c, u64* out, i64 n), ALIGNED(x) && ALIGNED(out),
    u64x2 a = PAIR(x, p); STORE_PAIR(out, p, c * a.x, c * a.y),
    out[i] = c * x[i];)

ELEMENTWISE(ring_mul_add, (const u64* x, const u64* y, const u64* z, u64* out, i64 n),
    ALIGNED(x) && ALIGNED(y) && ALIGNED(z) && ALIGNED(out),
    u64x2 a = PAIR(x, p); u64x2 b = PAIR(y, p); u64x2 c = PAIR(z, p);
    STORE_PAIR(out, p, a.x * b.x + c.x, a.y * b.y + c.y),
    out[i] = x[i] * y[i] + z[i];)

ELEMENTWISE(ring_sum3, (const u64* x, const u64* y, const u64* z, u64* out, i64 n),
    ALIGNED(x) && ALIGNED(y) && ALIGNED(z) && ALIGNED(out),
    u64x2 a = PAIR(x, p); u64x2 b = PAIR(y, p); u64x2 c = PAIR(z, p);
    STORE_PAIR(out, p, a.x + b.x + c.x, a.y + b.y + c.y),
    out[i] = x[i] + y[i] + z[i];)

// out = 32 bits of each word, from bit `shift` on.
ELEMENTWISE(ring_take_half, (const u64* x, int shift, u32* out, i64 n), ALIGNED(x) && ALIGNED(out),
    u64x2 a = PAIR(x, p); ((u64*)out)[p] = (u64)(u32)(a.x >> shift) | (u64)(u32)(a.y >> shift) << 32;,
    out[i] = (u32)(x[i] >> shift);)

ELEMENTWISE(ring_join_halves, (const u32* low, const u32* high, u64* out, i64 n),
    ALIGNED(low) && ALIGNED(high) && ALIGNED(out),
    u64 a = ((const u64*)low)[p]; u64 b = ((const u64*)high)[p];
    STORE_PAIR(out, p, (u32)a | b << 32, a >> 32 | b >> 32 << 32),
    out[i] = low[i] | (u64)high[i] << 32;)

// out = x0 (y0 + y1) + x1 y0.
ELEMENTWISE(ring_mul_cross, (const u64* x0, const u64* x1, const u64* y0, const u64* y1, u64* out, i64 n),
    ALIGNED(x0) && ALIGNED(x1) && ALIGNED(y0) && ALIGNED(y1) && ALIGNED(out),
    u64x2 a = PAIR(x0, p); u64x2 b = PAIR(x1, p); u64x2 c = PAIR(y0, p); u64x2 d = PAIR(y1, p);
    STORE_PAIR(out, p, a.x * (c.x + d.x) + b.x * c.x, a.y * (c.y + d.y) + b.y * c.y),
    out[i] = x0[i] * (y0[i] + y1[i]) + x1[i] * y0[i];)

// out = x + plus - minus, both masks from memory or generated here. 8 words a thread: a block of keystream.
KERNEL ring_mask_zero(const u64* x, WORDS(plus), WORDS(minus), u64* out, i64 n) {
    Words plus = WORDS_OF(plus), minus = WORDS_OF(minus);
    for (i64 start = thread_index() * WORDS_PER_THREAD; start < n; start += thread_count() * WORDS_PER_THREAD) {
        int count = (int)min((i64)WORDS_PER_THREAD, n - start);
        u64 a[WORDS_PER_THREAD], r[WORDS_PER_THREAD];
        load8(x, start, count, a);
        load_words(plus, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) a[j] += r[j];
        load_words(minus, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) a[j] -= r[j];
        store8(out, start, count, a);
    }
}

// kept = x - mine, total = mine + theirs.
KERNEL ring_remask_pair(const u64* x, WORDS(mine), WORDS(theirs), u64* kept, u64* total, i64 n) {
    Words mine = WORDS_OF(mine), theirs = WORDS_OF(theirs);
    for (i64 start = thread_index() * WORDS_PER_THREAD; start < n; start += thread_count() * WORDS_PER_THREAD) {
        int count = (int)min((i64)WORDS_PER_THREAD, n - start);
        u64 a[WORDS_PER_THREAD], r[WORDS_PER_THREAD];
        load8(x, start, count, a);
        load_words(mine, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) a[j] -= r[j];
        store8(kept, start, count, a);
        load_words(theirs, start, count, a);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) r[j] += a[j];
        store8(total, start, count, r);
    }
}
