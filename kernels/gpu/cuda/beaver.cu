// Numbers under two-party masks: kernels/cpu/beaver.py. Arrays are (n,), bits are packed, (ceil(n / 64),).

// The bits of elements 2 p and 2 p + 1, lowest.
__device__ __forceinline__ u64 two_bits(const u64* packed, i64 p) { return packed[p >> 5] >> (2 * (p & 31)); }

__device__ __forceinline__ u64 all_ones(u64 bit) { return 0 - (bit & 1); }

// x (1 - 2 bit), ones = all_ones(bit).
__device__ __forceinline__ u64 flip_sign(u64 x, u64 ones) { return (x ^ ones) - ones; }

// Bit i of x to bit 2 i.
__device__ __forceinline__ u64 spread_bits(u32 bits) {
    u64 x = bits;
    x = (x | x << 16) & 0x0000ffff0000ffffull;
    x = (x | x << 8) & 0x00ff00ff00ff00ffull;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0full;
    x = (x | x << 2) & 0x3333333333333333ull;
    return (x | x << 1) & 0x5555555555555555ull;
}

// A warp makes a word of bits: a ballot of the even elements, and one of the odd.
template <bool WIDE>
__device__ __forceinline__ void wrap_open_pairs(const u64* z, u64 offset, u64 correction, int bits, const u64* mask,
                                                u64* top, u64* opened, u64* out, i64 n) {
    int lane = threadIdx.x & 31;
    for (i64 w = thread_index() >> 5; 64 * w < n; w += thread_count() >> 5) {
        i64 p = 32 * w + lane;
        bool even = false, odd = false;
        if (2 * p < n) {
            u64x2 a = load_pair<WIDE>(z, p, n);
            a.x += offset;
            a.y += offset;
            even = a.x >> 63;
            odd = 2 * p + 1 < n && a.y >> 63;
            store_pair<WIDE>(out, p, n, (a.x >> bits) + correction, (a.y >> bits) + correction);
        }
        u64 word = spread_bits(__ballot_sync(0xffffffffu, even)) | spread_bits(__ballot_sync(0xffffffffu, odd)) << 1;
        if (lane == 0) {
            top[w] = word;
            opened[w] = word ^ mask[w];
        }
    }
}

KERNEL wrap_open(const u64* z, u64 offset, u64 correction, i32 bits, const u64* mask, u64* top, u64* opened,
                        u64* out, i64 n) {
    if (aligned(z, out)) wrap_open_pairs<true>(z, offset, correction, bits, mask, top, opened, out, n);
    else wrap_open_pairs<false>(z, offset, correction, bits, mask, top, opened, out, n);
}

// This party's share of (a AND b) as a number, from bit 0 of own and other opened bits and of its mask.
__device__ __forceinline__ u64 and_share(u64 mine, u64 theirs, u64 hidden, u32 product, u64 constant) {
    u64 inner = (theirs & hidden & 1) + flip_sign(product, all_ones(theirs));
    return flip_sign(inner, all_ones(mine)) + (constant & mine & theirs & 1);
}

template <bool WIDE>
__device__ __forceinline__ void wrap_finish_pairs(const u64* top, const u64* opened, const u64* other, const u64* mask,
                                            const u32* product, u64 one, int bits, u64* out, i64 n) {
    u64 constant = 1 - one;
    int shift = 64 - bits;
    for (i64 p = thread_index(); 2 * p < n; p += thread_count()) {
        u64 own = two_bits(top, p), mine = two_bits(opened, p), theirs = two_bits(other, p), hidden = two_bits(mask, p);
        u64x2 x = load_pair<WIDE>(out, p, n);
        u64 products;
        if (WIDE && 2 * p + 1 < n) products = ((const u64*)product)[p];
        else products = product[2 * p] | (2 * p + 1 < n ? (u64)product[2 * p + 1] << 32 : 0);
        u64 even = and_share(mine, theirs, hidden, (u32)products, constant);
        u64 odd = and_share(mine >> 1, theirs >> 1, hidden >> 1, (u32)(products >> 32), constant);
        store_pair<WIDE>(out, p, n, x.x - (((own & 1) - even) << shift), x.y - (((own >> 1 & 1) - odd) << shift));
    }
}

KERNEL wrap_finish(const u64* top, const u64* opened, const u64* other, const u64* mask, const u32* product,
                          u64 one, i32 bits, u64* out, i64 n) {
    if (aligned(product, out)) wrap_finish_pairs<true>(top, opened, other, mask, product, one, bits, out, n);
    else wrap_finish_pairs<false>(top, opened, other, mask, product, one, bits, out, n);
}

template <bool WIDE>
__device__ __forceinline__ void select_open_pairs(const u64* bit, const u64* x, const u64* value, const u64* mask,
                                            u64* opened_value, u64* opened_bit, i64 n) {
    for (i64 p = thread_index(); 2 * p < n; p += thread_count()) {
        if ((p & 31) == 0) opened_bit[p >> 5] = bit[p >> 5] ^ mask[p >> 5];
        u64 b = two_bits(bit, p);
        u64x2 a = load_pair<WIDE>(x, p, n), v = load_pair<WIDE>(value, p, n);
        store_pair<WIDE>(opened_value, p, n, flip_sign(a.x, all_ones(b)) - v.x, flip_sign(a.y, all_ones(b >> 1)) - v.y);
    }
}

KERNEL select_open(const u64* bit, const u64* x, const u64* value, const u64* mask, u64* opened_value,
                          u64* opened_bit, i64 n) {
    if (aligned(x, value, opened_value)) select_open_pairs<true>(bit, x, value, mask, opened_value, opened_bit, n);
    else select_open_pairs<false>(bit, x, value, mask, opened_value, opened_bit, n);
}

// A share of bit x, from bit 0 of own, opened (e), other (e') and mask; d: the other's opened value.
__device__ __forceinline__ u64 select_share(u64 own, u64 opened, u64 other, u64 hidden, u64 x, u64 d, u64 mine,
                                            u64 theirs) {
    u64 crossed = flip_sign(mine, all_ones(other)) + (flip_sign(x, all_ones(own)) & all_ones(other));
    u64 rest = (d & all_ones(hidden)) + theirs;
    return (x & all_ones(own)) + crossed + flip_sign(rest, all_ones(opened));
}

template <bool WIDE>
__device__ __forceinline__ void select_finish_pairs(const u64* bit, const u64* x, const u64* other_value,
                                              const u64* opened_bit, const u64* other_bit, const u64* mask,
                                              const u64* mine, const u64* theirs, u64* out, i64 n) {
    for (i64 p = thread_index(); 2 * p < n; p += thread_count()) {
        u64 b = two_bits(bit, p), o = two_bits(opened_bit, p), c = two_bits(other_bit, p), h = two_bits(mask, p);
        u64x2 a = load_pair<WIDE>(x, p, n), d = load_pair<WIDE>(other_value, p, n);
        u64x2 m = load_pair<WIDE>(mine, p, n), t = load_pair<WIDE>(theirs, p, n);
        store_pair<WIDE>(out, p, n, select_share(b, o, c, h, a.x, d.x, m.x, t.x),
                         select_share(b >> 1, o >> 1, c >> 1, h >> 1, a.y, d.y, m.y, t.y));
    }
}

KERNEL select_finish(const u64* bit, const u64* x, const u64* other_value, const u64* opened_bit,
                            const u64* other_bit, const u64* mask, const u64* mine, const u64* theirs, u64* out,
                            i64 n) {
    if (aligned(x, other_value, mine, theirs, out))
        select_finish_pairs<true>(bit, x, other_value, opened_bit, other_bit, mask, mine, theirs, out, n);
    else
        select_finish_pairs<false>(bit, x, other_value, opened_bit, other_bit, mask, mine, theirs, out, n);
}

template <bool WIDE>
__device__ __forceinline__ void beaver_mul_pairs(const u64* a, const u64* b, const u64* c, const u64* d, const u64* e,
                                               u64 one, u64* out, i64 n) {
    for (i64 p = thread_index(); 2 * p < n; p += thread_count()) {
        u64x2 x = load_pair<WIDE>(a, p, n), y = load_pair<WIDE>(b, p, n), z = load_pair<WIDE>(c, p, n);
        u64x2 f = load_pair<WIDE>(d, p, n), g = load_pair<WIDE>(e, p, n);
        store_pair<WIDE>(out, p, n, z.x + g.x * (x.x + one * f.x) + f.x * y.x,
                         z.y + g.y * (x.y + one * f.y) + f.y * y.y);
    }
}

KERNEL beaver_mul(const u64* a, const u64* b, const u64* c, const u64* d, const u64* e, u64 one, u64* out, i64 n) {
    if (aligned(a, b, c, d, e, out)) beaver_mul_pairs<true>(a, b, c, d, e, one, out, n);
    else beaver_mul_pairs<false>(a, b, c, d, e, one, out, n);
}

template <bool WIDE>
__device__ __forceinline__ void triple_mul_pairs(const u64* a0, const u64* a1, const u64* b0, const u64* b1,
                                               const u64* c0, u64* out, i64 n) {
    for (i64 p = thread_index(); 2 * p < n; p += thread_count()) {
        u64x2 a = load_pair<WIDE>(a0, p, n), x = load_pair<WIDE>(a1, p, n), b = load_pair<WIDE>(b0, p, n);
        u64x2 y = load_pair<WIDE>(b1, p, n), c = load_pair<WIDE>(c0, p, n);
        store_pair<WIDE>(out, p, n, (a.x + x.x) * (b.x + y.x) - c.x, (a.y + x.y) * (b.y + y.y) - c.y);
    }
}

KERNEL triple_mul(const u64* a0, const u64* a1, const u64* b0, const u64* b1, const u64* c0, u64* out, i64 n) {
    if (aligned(a0, a1, b0, b1, c0, out)) triple_mul_pairs<true>(a0, a1, b0, b1, c0, out, n);
    else triple_mul_pairs<false>(a0, a1, b0, b1, c0, out, n);
}
