// Micro kernels for what the device can do at best. Their results are stored only so that nothing is left out.

#define CHAINS 8

// out (threads,): each thread makes `rounds` steps a = a * x + y mod 2^64 in each of 8 independent chains.
KERNEL multiply_add_rate(u64 x, i64 rounds, u64* out) {
    u64 y = (u64)thread_index() | 1, a[CHAINS];
#pragma unroll
    for (int i = 0; i < CHAINS; i++) a[i] = y + (u64)i;
#pragma unroll 4
    for (i64 round = 0; round < rounds; round++) {
#pragma unroll
        for (int i = 0; i < CHAINS; i++) a[i] = a[i] * x + y;
    }
    u64 sum = 0;
#pragma unroll
    for (int i = 0; i < CHAINS; i++) sum ^= a[i];
    out[thread_index()] = sum;
}

// out (threads,): the exclusive or of all words of `rounds` blocks of ChaCha20 that a thread generates.
KERNEL chacha_rate(u64 k0, u64 k1, u64 k2, u64 k3, u64 operation, i64 rounds, u64* out) {
    u64 key[4] = {k0, k1, k2, k3}, sum = 0;
    for (i64 round = 0; round < rounds; round++) {
        u64 words[WORDS_PER_THREAD];
        chacha_block(key, operation, (u64)(thread_index() * rounds + round), words);
#pragma unroll
        for (int i = 0; i < WORDS_PER_THREAD; i++) sum ^= words[i];
    }
    out[thread_index()] = sum;
}
