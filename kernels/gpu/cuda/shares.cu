// Truncation and selection with packed bits: kernels/cpu/trunc.py and select.py have the algebra. 1 <= bits <= 32.

#define OFFSET (1ull << 62)
#define ONES_IF(bit) (0ull - (u64)(bit))

// Where masks are consumed a thread takes 8 elements: one block of keystream, one byte of each bit vector (words are
// little-endian). It goes on to the end of the last packed word, where there are no elements but bits to be written.
#define FOR_BYTES(n)                                                                                                  \
    for (i64 byte = thread_index(), start = 8 * byte; byte < ((n) + 63) / 64 * 8;                                     \
         byte += thread_count(), start = 8 * byte)

__device__ __forceinline__ int elements_from(i64 start, i64 n) {
    return (int)max((i64)0, min((i64)WORDS_PER_THREAD, n - start));
}

__device__ __forceinline__ u64 bit_of(const u64* packed, i64 i) { return ((const u8*)packed)[i >> 3] >> (i & 7) & 1u; }

// x[j] = in[j] for j < count <= 8, as `store8`.
__device__ __forceinline__ void store_halves(u32* x, i64 start, int count, const u32 in[WORDS_PER_THREAD]) {
    if (count == WORDS_PER_THREAD && ((u64)(x + start) & 15) == 0) {
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j += 4)
            *(u64x2*)(x + start + j) = u64x2{in[j] | (u64)in[j + 1] << 32, in[j + 2] | (u64)in[j + 3] << 32};
    } else {
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++)
            if (j < count) x[start + j] = in[j];
    }
}

// 1 - 2 bit.
__device__ __forceinline__ u64 sign_of(u64 bit) { return 1 - 2 * bit; }

// top = msb(A), A = z - mask + 2^62; opened = top ^ alpha; out = (A >> f) - 2^(62 - f) + 1 - remask0;
// remasks = remask0 + remask1.
KERNEL trunc_left(const u64* z, WORDS(mask), WORDS(remask0), WORDS(remask1), const u64* alpha, int bits, u64* top,
                  u64* opened, u64* out, u64* remasks, i64 n) {
    Words mask = WORDS_OF(mask), remask0 = WORDS_OF(remask0), remask1 = WORDS_OF(remask1);
    u64 correction = 1 - (OFFSET >> bits);
    FOR_BYTES(n) {
        int count = elements_from(start, n);
        u64 a[WORDS_PER_THREAD], r[WORDS_PER_THREAD];
        u32 tops = 0;
        load8(z, start, count, a);
        load_words(mask, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) {
            a[j] += OFFSET - r[j];
            if (j < count) tops |= (u32)(a[j] >> 63) << j;
        }
        ((u8*)top)[byte] = (u8)tops;
        ((u8*)opened)[byte] = (u8)(tops ^ ((const u8*)alpha)[byte]);
        load_words(remask0, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) a[j] = (a[j] >> bits) + correction - r[j];
        store8(out, start, count, a);
        load_words(remask1, start, count, a);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) r[j] += a[j];
        store8(remasks, start, count, r);
    }
}

// out -= w_0 2^(64 - f), w_0 = a - e (1 - 2d) alpha - (1 - 2d) (1 - 2e) gamma.
KERNEL trunc_left_finish(const u64* top, const u64* opened, const u64* other, const u64* alpha, const u32* gamma,
                         int bits, u64* out, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) {
        u64 e = bit_of(other, i);
        u64 product = sign_of(bit_of(opened, i)) * (e * bit_of(alpha, i) + sign_of(e) * gamma[i]);
        out[i] -= (bit_of(top, i) - product) << (64 - bits);
    }
}

// B = z0 + z1; opened = msb(B) ^ beta = e; summand = (B >> f) + remask0;
// out = (B >> f) - w_1 2^(64 - f) - remask1, w_1 = b - d e - d (1 - 2e) beta - (1 - 2d) (1 - 2e) gamma, d = other;
// remasks = remask0 + remask1.
KERNEL trunc_right(const u64* z0, const u64* z1, WORDS(remask0), WORDS(remask1), const u64* beta, const u32* gamma,
                   const u64* other, int bits, u64* opened, u32* summand, u64* out, u64* remasks, i64 n) {
    Words remask0 = WORDS_OF(remask0), remask1 = WORDS_OF(remask1);
    FOR_BYTES(n) {
        int count = elements_from(start, n);
        u64 quotient[WORDS_PER_THREAD], r[WORDS_PER_THREAD], s[WORDS_PER_THREAD];
        u32 low[WORDS_PER_THREAD], tops = 0;
        u32 beta_bits = ((const u8*)beta)[byte], other_bits = ((const u8*)other)[byte], opened_bits = 0;
        load8(z0, start, count, quotient);
        load8(z1, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) {
            u64 b = quotient[j] + r[j];
            tops |= (u32)(b >> 63) << j;
            quotient[j] = b >> bits;
        }
        load_words(remask0, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) low[j] = (u32)(quotient[j] + r[j]);
        store_halves(summand, start, count, low);
        load_words(remask1, start, count, s);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) {
            r[j] += s[j];
            if (j >= count) continue;
            u64 top = tops >> j & 1, t = beta_bits >> j & 1, d = other_bits >> j & 1, e = top ^ t;
            u64 product = d * e + sign_of(e) * (d * t + sign_of(d) * gamma[start + j]);
            opened_bits |= (u32)e << j;
            quotient[j] -= ((top - product) << (64 - bits)) + s[j];
        }
        ((u8*)opened)[byte] = (u8)opened_bits;
        store8(out, start, count, quotient);
        store8(remasks, start, count, r);
    }
}

// out = z + mask; other_gamma = alpha beta - gamma mod 2^32.
KERNEL trunc_deal(const u64* z, WORDS(mask), const u64* alpha, const u64* beta, const u32* gamma, u64* out,
                  u32* other_gamma, i64 n) {
    Words mask = WORDS_OF(mask);
    FOR_BYTES(n) {
        int count = elements_from(start, n);
        u64 a[WORDS_PER_THREAD], r[WORDS_PER_THREAD];
        u32 other[WORDS_PER_THREAD];
        u32 both = ((const u8*)alpha)[byte] & ((const u8*)beta)[byte];
        load8(z, start, count, a);
        load_words(mask, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) {
            a[j] += r[j];
            if (j < count) other[j] = (both >> j & 1) - gamma[start + j];
        }
        store8(out, start, count, a);
        store_halves(other_gamma, start, count, other);
    }
}

// c = bit0 ^ bit1: v = c (x0 + x1) - v_mask, k = c - k_mask.
KERNEL select_share(const u64* bit0, const u64* bit1, const u64* x0, const u64* x1, WORDS(v_mask), WORDS(k_mask),
                    u64* v, u64* k, i64 n) {
    Words v_mask = WORDS_OF(v_mask), k_mask = WORDS_OF(k_mask);
    FOR_BYTES(n) {
        int count = elements_from(start, n);
        u64 x[WORDS_PER_THREAD], r[WORDS_PER_THREAD];
        u32 bits = ((const u8*)bit0)[byte] ^ ((const u8*)bit1)[byte];
        load8(x0, start, count, x);
        load8(x1, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) x[j] = (x[j] + r[j]) & ONES_IF(bits >> j & 1);
        load_words(v_mask, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) x[j] -= r[j];
        store8(v, start, count, x);
        load_words(k_mask, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) r[j] = (u64)(bits >> j & 1) - r[j];
        store8(k, start, count, r);
    }
}

// out = c (rest + include x0) + (1 - 2c) (v + k x0), c = bit.
KERNEL select_eval(const u64* bit, const u64* x0, const u64* rest, u64 include, WORDS(v), WORDS(k), u64* out, i64 n) {
    Words v = WORDS_OF(v), k = WORDS_OF(k);
    u64 every = 0 - include;
    FOR_BYTES(n) {
        int count = elements_from(start, n);
        u64 x[WORDS_PER_THREAD], masked[WORDS_PER_THREAD], r[WORDS_PER_THREAD];
        u32 bits = ((const u8*)bit)[byte];
        load8(x0, start, count, x);
        load_words(k, start, count, masked);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) masked[j] *= x[j];
        load_words(v, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) masked[j] += r[j];
        load8(rest, start, count, r);
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++) {
            u64 ones = ONES_IF(bits >> j & 1);
            r[j] = ((r[j] + (x[j] & every)) & ones) + ((masked[j] ^ ones) - ones);
        }
        store8(out, start, count, r);
    }
}
