// Distributed comparison functions: kernels/cpu/dcf.py, where blocks, bits and layouts are explained. A comparison per
// thread; row i of an array of rows begins at i n, so that a warp reads 256 contiguous bytes.

#define SEED (~3ull)       // bits of a block's low word that belong to its seed
#define CORRECTED (~2ull)  // and those that a correction word corrects
#define LEAF_BITS 7

// H(x) = AES(x) ^ x [Matyas, Meyer, Oseas], x = the node's seed with its tweak.
__device__ __forceinline__ AesBlock node_hash(const Aes& aes, AesBlock node, u64 tweak) {
    AesBlock x{(node.low & SEED) | tweak, node.high};
    AesBlock y = aes_encrypt(aes, x);
    return AesBlock{y.low ^ x.low, y.high ^ x.high};
}

// All ones where the lowest bit is 1.
__device__ __forceinline__ u64 spread(u64 x) { return 0ull - (x & 1ull); }

__device__ __forceinline__ AesBlock correct(AesBlock node, u64 control, AesBlock word) {
    return AesBlock{node.low ^ (control & word.low), node.high ^ (control & word.high)};
}

__device__ __forceinline__ u64 bits_in_leaf(i32 bits) { return (1ull << min(bits - 1, LEAF_BITS)) - 1ull; }

// root_b: (2, n); correction: (2 (levels + 1), n).
KERNEL dcf_gen(u64 key_low, u64 key_high, const u64* r, i32 bits, const u64* root_0, const u64* root_1, u64* correction,
               i64 n) {
    __shared__ Aes aes;
    aes_set_table(aes);
    __syncthreads();
    if (threadIdx.x == 0) aes_set_key(aes, AesBlock{key_low, key_high});
    __syncthreads();
    for (i64 e = thread_index(); e < n; e += thread_count()) {
        u64 secret = r[e], control_0 = 0, control_1 = ~0ull;
        AesBlock node_0{root_0[e], root_0[n + e]}, node_1{root_1[e], root_1[n + e]};
        u64* at = correction + e;
#pragma unroll 1
        for (i32 position = bits - 2; position >= LEAF_BITS; position--, at += 2 * n) {
            u64 side = secret >> position & 1ull, left = (node_0.low ^ node_1.low ^ side ^ 1ull) & 1ull;
            AesBlock lost_0 = node_hash(aes, node_0, side ^ 1ull), lost_1 = node_hash(aes, node_1, side ^ 1ull);
            AesBlock word{((lost_0.low ^ lost_1.low) & CORRECTED) | left << 1, lost_0.high ^ lost_1.high};
            at[0] = word.low;
            at[n] = word.high;
            u64 next_0 = spread(node_0.low ^ (control_0 & (left ^ side)));
            u64 next_1 = spread(node_1.low ^ (control_1 & (left ^ side)));
            node_0 = correct(node_hash(aes, node_0, side), control_0, word);
            node_1 = correct(node_hash(aes, node_1, side), control_1, word);
            control_0 = next_0;
            control_1 = next_1;
        }
        AesBlock leaf_0 = node_hash(aes, node_0, 2ull), leaf_1 = node_hash(aes, node_1, 2ull);
        u64 ones = secret & bits_in_leaf(bits);
        u64 some = (1ull << (ones & 63ull)) - 1ull, half = spread(ones >> 6);
        at[0] = leaf_0.low ^ leaf_1.low ^ (some | half);
        at[n] = leaf_0.high ^ leaf_1.high ^ (some & half);
    }
}

// One comparison. The next level's correction word is on its way while this level's AES runs.
__device__ __forceinline__ u64 share_of(const Aes& aes, u64 point, i32 bits, u64 one, AesBlock node, const u64* at,
                                        i64 n) {
    u64 control = ~one, share = point >> (bits - 1) & one;
    AesBlock word{at[0], at[n]};
#pragma unroll 1
    for (i32 position = bits - 2; position >= LEAF_BITS; position--) {
        at += 2 * n;
        AesBlock next{at[0], at[n]};
        u64 side = point >> position & 1ull, left = node.low ^ (control & word.low >> 1);
        share ^= (left ^ control) & (side ^ 1ull);
        node = correct(node_hash(aes, node, side), control, word);
        control = spread(left ^ (control & side));
        word = next;
    }
    AesBlock leaf = correct(node_hash(aes, node, 2ull), control, word);
    u64 bit = point & bits_in_leaf(bits);
    return share ^ ((bit & 64ull ? leaf.high : leaf.low) >> (bit & 63ull));
}

// root: (2, n); correction: (2 (levels + 1), n); top, out: (ceil(n / 64),) words, here as halves, one for each warp.
KERNEL dcf_eval(u64 key_low, u64 key_high, const u64* c, i32 bits, u64 one, const u64* root, const u64* correction,
                const u32* top, u32* out, i64 n) {
    __shared__ Aes aes;
    aes_set_table(aes);
    __syncthreads();
    if (threadIdx.x == 0) aes_set_key(aes, AesBlock{key_low, key_high});
    __syncthreads();
    i64 packed = (n + 63) / 64 * 64;
    for (i64 e = thread_index(); e < packed; e += thread_count()) {
        u64 share = 0;
        if (e < n) share = share_of(aes, c[e], bits, one, AesBlock{root[e], root[n + e]}, correction + e, n);
        u32 signs = __ballot_sync(0xffffffffu, (int)(share & 1ull));
        if ((threadIdx.x & 31) == 0) out[e / 32] = signs ^ top[e / 32];
    }
}
