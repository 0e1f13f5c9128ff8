// Keystreams in memory: kernels/cpu/prg.py. A key comes by value, or from device memory if key_data is not null.

// `n` words of ChaCha20 from word `skip` < 8 of block `block` (chunk << 32 | block) on. A block per thread.
KERNEL chacha20_fill(const u32* key_data, u64 k0, u64 k1, u64 k2, u64 k3, u64 operation, u64 block, i32 skip, u64* out,
                     i64 n) {
    u64 key[4] = {k0, k1, k2, k3};
    if (key_data) {
#pragma unroll
        for (int i = 0; i < 4; i++) key[i] = key_data[2 * i] | (u64)key_data[2 * i + 1] << 32;
    }
    i64 blocks = (n + skip + 7) / 8;
    for (i64 b = thread_index(); b < blocks; b += thread_count()) {
        u64 words[8];
        chacha_block(key, operation, block + (u64)b, words);
        i64 at = 8 * b - skip;
        if (at >= 0 && at + 8 <= n) {
            store8(out, at, 8, words);
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (at + j >= 0 && at + j < n) out[at + j] = words[j];
        }
    }
}

__device__ __forceinline__ u32 reverse_bytes(u32 x) { return __byte_perm(x, 0, 0x0123); }

// `n` words of AES-128-CTR from block 0 of the chunk on. A block per thread.
KERNEL aes128_ctr_fill(const u8* key_data, u64 k0, u64 k1, u64 operation, u32 chunk, u64* out, i64 n) {
    __shared__ Aes aes;
    aes_set_table(aes);
    __syncthreads();
    if (threadIdx.x == 0) {
        AesBlock key{k0, k1};
        for (int i = 0; key_data && i < 8; i++) {
            key.low |= (u64)key_data[i] << 8 * i;  // k0 and k1 are 0 then
            key.high |= (u64)key_data[8 + i] << 8 * i;
        }
        aes_set_key(aes, key);
    }
    __syncthreads();
    u64 high_bytes = reverse_bytes((u32)(operation >> 32)) | (u64)reverse_bytes((u32)operation) << 32;
    for (i64 b = thread_index(); b < (n + 1) / 2; b += thread_count()) {
        AesBlock counter{high_bytes, reverse_bytes(chunk) | (u64)reverse_bytes((u32)b) << 32};
        AesBlock words = aes_encrypt(aes, counter);
        if (2 * b + 1 < n && ((u64)out & 15) == 0) {
            ((u64x2*)out)[b] = u64x2{words.low, words.high};
        } else {
            out[2 * b] = words.low;
            if (2 * b + 1 < n) out[2 * b + 1] = words.high;
        }
    }
}
