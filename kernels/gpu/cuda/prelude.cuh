// What every unit begins with. NVRTC sees prelude + unit as one text: no includes, fixed-width types of our own.
// The host shim of the tests compiles the very same text as C++ (SOTTOVOCE_HOST).

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define KERNEL extern "C" __global__ void

// Elements are counted in i64: a batch of a large model has more than 2^31.
__device__ __forceinline__ i64 thread_index() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ i64 thread_count() { return (i64)gridDim.x * blockDim.x; }

// Two words with one 16-byte access, where the address allows it.
struct __align__(16) u64x2 { u64 x, y; };

template <class... Pointers>
__device__ __forceinline__ bool aligned(Pointers... p) { return (((u64)p | ...) & 15) == 0; }

// Elements 2 p and 2 p + 1 of x (n,), 2 p < n; 0 behind the end. WIDE: x is aligned.
template <bool WIDE>
__device__ __forceinline__ u64x2 load_pair(const u64* x, i64 p, i64 n) {
    if (WIDE && 2 * p + 1 < n) return ((const u64x2*)x)[p];
    return u64x2{x[2 * p], 2 * p + 1 < n ? x[2 * p + 1] : 0};
}

template <bool WIDE>
__device__ __forceinline__ void store_pair(u64* x, i64 p, i64 n, u64 a, u64 b) {
    if (WIDE && 2 * p + 1 < n) {
        ((u64x2*)x)[p] = u64x2{a, b};
    } else {
        x[2 * p] = a;
        if (2 * p + 1 < n) x[2 * p + 1] = b;
    }
}

#define WORDS_PER_THREAD 8

// out[j] = x[start + j], and the way back, for j < count <= 8; the rest of out is undefined. 16 bytes at a time where
// all 8 words are wanted and lie so.
__device__ __forceinline__ bool in_pairs(const u64* x, i64 start, int count) {
    return count == WORDS_PER_THREAD && ((u64)(x + start) & 15) == 0;
}

__device__ __forceinline__ void load8(const u64* x, i64 start, int count, u64 out[WORDS_PER_THREAD]) {
    if (in_pairs(x, start, count)) {
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j += 2) {
            u64x2 pair = *(const u64x2*)(x + start + j);
            out[j] = pair.x;
            out[j + 1] = pair.y;
        }
    } else {
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++)
            if (j < count) out[j] = x[start + j];
    }
}

__device__ __forceinline__ void store8(u64* x, i64 start, int count, const u64 in[WORDS_PER_THREAD]) {
    if (in_pairs(x, start, count)) {
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j += 2) *(u64x2*)(x + start + j) = u64x2{in[j], in[j + 1]};
    } else {
#pragma unroll
        for (int j = 0; j < WORDS_PER_THREAD; j++)
            if (j < count) x[start + j] = in[j];
    }
}

// ---- Uniform words: an array, or a place in a ChaCha20 keystream that is generated where it is consumed ---------

// In a kernel's parameter list WORDS(name); in its body `Words w = WORDS_OF(name);`. data: the array, or null.
#define WORDS(n) const u64* n##_data, u64 n##_k0, u64 n##_k1, u64 n##_k2, u64 n##_k3, u64 n##_operation, u64 n##_first
#define WORDS_OF(n) Words{n##_data, {n##_k0, n##_k1, n##_k2, n##_k3}, n##_operation, n##_first}

struct Words {
    const u64* data;
    u64 key[4];
    u64 operation;
    u64 first;  // word of the operation's keystream at index 0
};

__device__ __forceinline__ u32 rotate_left(u32 x, int n) { return (x << n) | (x >> (32 - n)); }

#define CHACHA_QUARTER(a, b, c, d)                    \
    a += b; d ^= a; d = rotate_left(d, 16);           \
    c += d; b ^= c; b = rotate_left(b, 12);           \
    a += b; d ^= a; d = rotate_left(d, 8);            \
    c += d; b ^= c; b = rotate_left(b, 7);

// One 64-byte block of ChaCha20 [RFC 8439, 2.3] as 8 little-endian words. State words 12 block, 13 chunk, 14-15 the
// operation; block: chunk << 32 | block. What is added at the end comes from where it came from at the start, kernel
// parameters and constants: only the running state needs registers.
__device__ __forceinline__ void chacha_block(const u64 key[4], u64 operation, u64 block, u64 out[8]) {
    const u32 s[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u,
                       (u32)key[0], (u32)(key[0] >> 32), (u32)key[1], (u32)(key[1] >> 32),
                       (u32)key[2], (u32)(key[2] >> 32), (u32)key[3], (u32)(key[3] >> 32),
                       (u32)block, (u32)(block >> 32), (u32)operation, (u32)(operation >> 32)};
    u32 x[16];
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = s[i];
#pragma unroll 1
    for (int round = 0; round < 10; round++) {
        CHACHA_QUARTER(x[0], x[4], x[8], x[12])
        CHACHA_QUARTER(x[1], x[5], x[9], x[13])
        CHACHA_QUARTER(x[2], x[6], x[10], x[14])
        CHACHA_QUARTER(x[3], x[7], x[11], x[15])
        CHACHA_QUARTER(x[0], x[5], x[10], x[15])
        CHACHA_QUARTER(x[1], x[6], x[11], x[12])
        CHACHA_QUARTER(x[2], x[7], x[8], x[13])
        CHACHA_QUARTER(x[3], x[4], x[9], x[14])
    }
#pragma unroll
    for (int i = 0; i < 8; i++)
        out[i] = (u64)(x[2 * i] + s[2 * i]) | (u64)(x[2 * i + 1] + s[2 * i + 1]) << 32;
}

// x[j] = old x[(j + n) mod 8], without an index that is unknown at compile time (which would cost local memory).
__device__ __forceinline__ void rotate_words(u64 x[8], int n) {
#pragma unroll
    for (int step = 1; step < 8; step *= 2) {
        u64 y[8];
#pragma unroll
        for (int j = 0; j < 8; j++) y[j] = n & step ? x[(j + step) & 7] : x[j];
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = y[j];
    }
}

// out[j] = w[start + j] for j < count <= 8; the rest of out is undefined. A keystream that does not start at a block
// costs a second block per thread; the code is there once.
__device__ __forceinline__ void load_words(const Words& w, i64 start, int count, u64 out[WORDS_PER_THREAD]) {
    if (w.data) return load8(w.data, start, count, out);
    u64 at = w.first + (u64)start;
    int skip = (int)(at & 7);
    int blocks = skip + count > 8 ? 2 : 1;
#pragma unroll 1
    for (int b = 0; b < blocks; b++) {
        u64 x[8];
        chacha_block(w.key, w.operation, (at >> 3) + (u64)b, x);
        if (skip) rotate_words(x, skip);
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (b == 0 || j + skip >= 8) out[j] = x[j];
    }
}

// ---- AES-128 [FIPS 197] by look-up in shared memory --------------------------------------------------------------

// 16 bytes, the first the lowest of `low`.
struct AesBlock { u64 low, high; };

// table: T(x) = (2 s, s, s, 3 s) from the lowest byte up, s = SubBytes(x); its rotations are the other three of the
// four usual tables, and s itself is its second byte. Every lane has a copy in its own bank [Tezcan 2021, IEEE Access 9]: no
// conflicts, so that a look-up takes the same time for every index.
struct Aes {
    u32 table[256 * 32];
    u32 keys[44];
};

// In GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
__device__ __forceinline__ u32 aes_double(u32 x) { return (x << 1) ^ ((0u - (x >> 7)) & 0x11bu); }

__device__ __forceinline__ u32 aes_multiply(u32 x, u32 y) {
    u32 product = 0;
#pragma unroll
    for (int i = 0; i < 8; i++, x = aes_double(x)) product ^= (0u - (y >> i & 1u)) & x;
    return product;
}

__device__ __forceinline__ u32 aes_sub_byte(u32 x) {
    u32 power = x;  // x^(2^k - 1) for k = 1 .. 7, then the inverse x^254
#pragma unroll 1
    for (int k = 1; k < 7; k++) power = aes_multiply(aes_multiply(power, power), x);
    u32 inverse = aes_multiply(power, power), twice = inverse * 0x101u;
    return (inverse ^ twice >> 4 ^ twice >> 5 ^ twice >> 6 ^ twice >> 7 ^ 0x63u) & 255u;
}

// By all threads of a block, then a barrier.
__device__ __forceinline__ void aes_set_table(Aes& aes) {
    for (u32 x = threadIdx.x; x < 256u; x += blockDim.x) {
        u32 s = aes_sub_byte(x), twice = aes_double(s);
        u32 column = twice | s << 8 | s << 16 | (twice ^ s) << 24;
        for (u32 copy = 0; copy < 32u; copy++) aes.table[x * 32u + ((x + copy) & 31u)] = column;
    }
}

__device__ __forceinline__ u32 aes_look_up(const Aes& aes, u32 x) {
    return aes.table[(x & 255u) * 32u + (threadIdx.x & 31u)];
}

// SubBytes of the lowest bytes of a, b >> 8, c >> 16 and d >> 24, each at its place.
__device__ __forceinline__ u32 aes_substitute(const Aes& aes, u32 a, u32 b, u32 c, u32 d) {
    return (aes_look_up(aes, a) >> 8 & 0xffu) | (aes_look_up(aes, b >> 8) & 0xff00u)
         | (aes_look_up(aes, c >> 16) & 0xff0000u) | (aes_look_up(aes, d >> 24) << 8 & 0xff000000u);
}

// The eleven round keys, by one thread, then a barrier.
__device__ __forceinline__ void aes_set_key(Aes& aes, AesBlock key) {
    u32 a = (u32)key.low, b = (u32)(key.low >> 32), c = (u32)key.high, d = (u32)(key.high >> 32), constant = 1;
#pragma unroll 1
    for (int round = 0; round < 11; round++) {
        u32* at = aes.keys + 4 * round;
        at[0] = a; at[1] = b; at[2] = c; at[3] = d;
        u32 last = rotate_left(d, 24);
        a ^= aes_substitute(aes, last, last, last, last) ^ constant;
        b ^= a; c ^= b; d ^= c;
        constant = aes_double(constant);
    }
}

// SubBytes, ShiftRows, MixColumns and AddRoundKey for one column.
__device__ __forceinline__ u32 aes_column(const Aes& aes, u32 a, u32 b, u32 c, u32 d, u32 key) {
    return aes_look_up(aes, a) ^ rotate_left(aes_look_up(aes, b >> 8), 8) ^ rotate_left(aes_look_up(aes, c >> 16), 16)
         ^ rotate_left(aes_look_up(aes, d >> 24), 24) ^ key;
}

__device__ __forceinline__ AesBlock aes_encrypt(const Aes& aes, AesBlock x) {
    const u32* key = aes.keys;
    u32 a = (u32)x.low ^ key[0], b = (u32)(x.low >> 32) ^ key[1];
    u32 c = (u32)x.high ^ key[2], d = (u32)(x.high >> 32) ^ key[3];
#pragma unroll 1
    for (int round = 1; round < 10; round++) {
        key += 4;
        u32 a1 = aes_column(aes, a, b, c, d, key[0]), b1 = aes_column(aes, b, c, d, a, key[1]);
        u32 c1 = aes_column(aes, c, d, a, b, key[2]), d1 = aes_column(aes, d, a, b, c, key[3]);
        a = a1; b = b1; c = c1; d = d1;
    }
    u32 a1 = aes_substitute(aes, a, b, c, d) ^ key[4], b1 = aes_substitute(aes, b, c, d, a) ^ key[5];
    u32 c1 = aes_substitute(aes, c, d, a, b) ^ key[6], d1 = aes_substitute(aes, d, a, b, c) ^ key[7];
    return AesBlock{a1 | (u64)b1 << 32, c1 | (u64)d1 << 32};
}
