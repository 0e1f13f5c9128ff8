// Packed bits under two-party masks: kernels/cpu/beaver_bits.py. Arrays are rows of bits, (rows, words).
//
// T is a column of the rows: u64, or u64x2 where every row begins at 16 bytes; `words` counts columns then. The loops
// over columns are not unrolled: that takes a 64-bit division.

__device__ __forceinline__ u64x2 operator^(u64x2 a, u64x2 b) { return u64x2{a.x ^ b.x, a.y ^ b.y}; }
__device__ __forceinline__ u64x2 operator&(u64x2 a, u64x2 b) { return u64x2{a.x & b.x, a.y & b.y}; }

template <class T> __device__ __forceinline__ T splat(u64 x);
template <> __device__ __forceinline__ u64 splat(u64 x) { return x; }
template <> __device__ __forceinline__ u64x2 splat(u64 x) { return u64x2{x, x}; }

// Block of bits: blockIdx.y.
template <class T>
__device__ __forceinline__ void leaf_eval_columns(const T* opened, const T* other, const T* mask, const T* products,
                                                  u64 first, T* out, int bits, i64 words) {
    int block = blockIdx.y, blocks = (bits + 1) / 2;
    T one = splat<T>(first);
    opened += 2 * block * words;
    other += 2 * block * words;
    mask += 2 * block * words;
    products += 4 * block * words;
    T* generate = out + block * words;
    T* propagate = out + (blocks + block - 1) * words;
#pragma unroll 1
    for (i64 w = thread_index(); w < words; w += thread_count()) {
        T o0 = opened[w], c0 = other[w], x0 = o0 ^ mask[w];
        T local0 = x0 ^ (o0 & one);
        if (2 * block + 1 == bits) {
            generate[w] = (c0 & local0) ^ products[w];
            if (block > 0) propagate[w] = x0;
            continue;
        }
        T o1 = opened[words + w], c1 = other[words + w], x1 = o1 ^ mask[words + w];
        T local1 = x1 ^ (o1 & one), both = x0 & x1;
        T p21 = products[words + w], p12 = products[2 * words + w];
        T local = (c1 & local1) ^ (c0 & (both ^ (o0 & o1 & one))) ^ (c0 & c1 & local0);
        T mixed = ((o1 ^ c1) & products[w]) ^ ((first ? o0 : c0) & p21) ^ ((first ? c0 : o0) & p12);
        generate[w] = local ^ mixed ^ products[3 * words + w];
        if (block > 0) propagate[w] = both ^ (c0 & local1) ^ (c1 & local0) ^ p21 ^ p12;
    }
}

KERNEL leaf_eval(const u64* opened, const u64* other, const u64* mask, const u64* products, u64 one, u64* out,
                        i32 bits, i64 words) {
    if (words % 2 == 0 && aligned(opened, other, mask, products, out))
        leaf_eval_columns((const u64x2*)opened, (const u64x2*)other, (const u64x2*)mask, (const u64x2*)products, one,
                          (u64x2*)out, bits, words / 2);
    else
        leaf_eval_columns(opened, other, mask, products, one, out, bits, words);
}

// A group of up to four blocks of a merge level, blockIdx.y: where its rows are. Only full groups lie before it.
struct Group {
    int base;     // its first block
    int last;     // blocks - 1
    int behind;   // 1 behind the first group, which has no P of its first block
    int row;      // of masks and opened bits
    int product;
};

__device__ __forceinline__ Group group_of(int blocks) {
    int group = blockIdx.y, behind = group > 0;
    return Group{4 * group, min(4, blocks - 4 * group) - 1, behind, 7 * group - behind, 22 * group - 7 * behind};
}

template <class T>
__device__ __forceinline__ void merge_open_columns(const T* rows, const T* mask, T* opened, int blocks, i64 words) {
    Group g = group_of(blocks);
    int count = g.last > 0 ? 2 * g.last + g.behind : 0;
#pragma unroll 1
    for (i64 w = thread_index(); w < words; w += thread_count())
        for (int i = 0; i < count; i++) {
            int source = i < g.last ? g.base + i : blocks - g.behind + g.base + i - g.last;
            opened[(g.row + i) * words + w] = rows[source * words + w] ^ mask[(g.row + i) * words + w];
        }
}

KERNEL merge_open(const u64* rows, const u64* mask, u64* opened, i32 blocks, i64 words) {
    if (words % 2 == 0 && aligned(rows, mask, opened))
        merge_open_columns((const u64x2*)rows, (const u64x2*)mask, (u64x2*)opened, blocks, words / 2);
    else
        merge_open_columns(rows, mask, opened, blocks, words);
}

// held[s] ^= x m_(s 2^skip) for a bit x = opened ^ mask and the products m_s = masks[s] of masks, s < SETS / 2^skip.
// x's mask times them are the next products.
template <class T, int SETS>
__device__ __forceinline__ void add_products(T opened, T mask, const T*& product, i64 words, const T (&masks)[SETS],
                                             int skip, T (&held)[SETS]) {
    held[0] = held[0] ^ (opened & masks[0]) ^ mask;
#pragma unroll
    for (int s = 1; s < SETS; s++)
        if (s < SETS >> skip) {
            held[s] = held[s] ^ (opened & masks[(s << skip) % SETS]) ^ *product;
            product += words;
        }
}

// Of held[s] = y m_s, m the lowest mask in the sets, make held[s] = y x m_s for a bit x = opened ^ m; s < SETS >> done.
template <class T, int SETS>
__device__ __forceinline__ void fold(T opened, int done, T (&held)[SETS]) {
#pragma unroll
    for (int s = 0; s < SETS / 2; s++)
        if (s < SETS >> done) held[s] = held[2 * s + 1] ^ (opened & held[2 * s]);
}

// Column w of a group of LAST + 1 blocks. The index of every array is known when this is compiled.
template <int LAST, class T>
__device__ __forceinline__ void merge_column(const T* rows, const T* opened, const T* mask, const T* product, T one,
                                             const Group& g, int blocks, i64 words, i64 w, T* generate, T* propagate) {
    constexpr int SETS = 1 << LAST;  // of P_1 ... P_LAST
    opened += g.row * words + w;
    mask += g.row * words + w;
    product += g.product * words + w;
    i64 first = (LAST + g.behind) * words;
    T masks[SETS], held[SETS], bit[LAST];
    masks[0] = one;
#pragma unroll
    for (int i = 0; i < LAST; i++) {
        bit[i] = opened[first + i * words];
        masks[1 << i] = mask[first + i * words];
#pragma unroll
        for (int s = 1; s < SETS / 2; s++)
            if (s < 1 << i) {
                masks[(1 << i) + s] = *product;
                product += words;
            }
    }
#pragma unroll
    for (int s = 0; s < SETS; s++) held[s] = splat<T>(0);
#pragma unroll
    for (int i = 0; i < LAST; i++) {
        add_products(opened[i * words], mask[i * words], product, words, masks, i, held);
        fold(bit[i], i + 1, held);
    }
    generate[w] = rows[(g.base + LAST) * words + w] ^ held[0];
    if (!g.behind) return;
#pragma unroll
    for (int s = 0; s < SETS; s++) held[s] = splat<T>(0);
    add_products(opened[LAST * words], mask[LAST * words], product, words, masks, 0, held);
#pragma unroll
    for (int i = 0; i < LAST; i++) fold(bit[i], i + 1, held);
    propagate[w] = held[0];
}

template <class T>
__device__ __forceinline__ void merge_eval_columns(const T* rows, const T* opened, const T* mask, const T* products,
                                                   u64 first, T* out, int blocks, i64 words) {
    Group g = group_of(blocks);
    T one = splat<T>(first);
    T* generate = out + blockIdx.y * words;
    T* propagate = out + ((blocks + 3) / 4 + (int)blockIdx.y - 1) * words;
#pragma unroll 1
    for (i64 w = thread_index(); w < words; w += thread_count()) {
        if (g.last == 3) {
            merge_column<3>(rows, opened, mask, products, one, g, blocks, words, w, generate, propagate);
        } else if (g.last == 2) {
            merge_column<2>(rows, opened, mask, products, one, g, blocks, words, w, generate, propagate);
        } else if (g.last == 1) {
            merge_column<1>(rows, opened, mask, products, one, g, blocks, words, w, generate, propagate);
        } else {
            generate[w] = rows[g.base * words + w];
            if (g.behind) propagate[w] = rows[(blocks + g.base - 1) * words + w];
        }
    }
}

KERNEL __launch_bounds__(128, 4) merge_eval(const u64* rows, const u64* opened, const u64* mask, const u64* products,
                                            u64 one, u64* out, i32 blocks, i64 words) {
    if (words % 2 == 0 && aligned(rows, opened, mask, products, out))
        merge_eval_columns((const u64x2*)rows, (const u64x2*)opened, (const u64x2*)mask, (const u64x2*)products, one,
                           (u64x2*)out, blocks, words / 2);
    else
        merge_eval_columns(rows, opened, mask, products, one, out, blocks, words);
}

// Masks' products m_S come in ascending order of S, four at a time. For input i two neighbours become one value,
// m_(S + i) ^ (opened_i & m_S); for each i > 1 `even` keeps the first of a pair until the second comes, like the digits
// of a binary counter, so that 2^8 products need 6 places.
template <class T>
__device__ __forceinline__ void ands_eval_columns(const T* opened, const T* mask, const T* products, u64 first,
                                                  T* out, int inputs, i64 words) {
#pragma unroll 1
    for (i64 w = thread_index(); w < words; w += thread_count()) {
        T bit[8], even[6] = {}, value;
#pragma unroll
        for (int i = 0; i < 8; i++) bit[i] = i < inputs ? opened[i * words + w] : splat<T>(0);
        const T* next = products + w;
#pragma unroll 1
        for (int four = 0; four < 1 << (inputs - 2); four++) {
            T m[4];
            if (four == 0) {
                m[0] = splat<T>(first);
                m[1] = mask[w];
                m[2] = mask[words + w];
            } else {
                if ((four & (four - 1)) == 0) {  // a single mask: not among the products
                    m[0] = mask[(33 - __clz(four)) * words + w];
                } else {
                    m[0] = *next;
                    next += words;
                }
                m[1] = next[0];
                m[2] = next[words];
                next += 2 * words;
            }
            m[3] = *next;
            next += words;
            value = (m[3] ^ (bit[0] & m[2])) ^ (bit[1] & (m[1] ^ (bit[0] & m[0])));
            bool carry = true;
#pragma unroll
            for (int i = 0; i < 6; i++) {
                if (carry && (four >> i & 1)) {
                    value = value ^ (bit[i + 2] & even[i]);
                } else if (carry) {
                    even[i] = value;
                    carry = false;
                }
            }
        }
        out[w] = value;
    }
}

KERNEL ands_eval(const u64* opened, const u64* mask, const u64* products, u64 one, u64* out, i32 inputs,
                        i64 words) {
    if (words % 2 == 0 && aligned(opened, mask, products, out))
        ands_eval_columns((const u64x2*)opened, (const u64x2*)mask, (const u64x2*)products, one, (u64x2*)out, inputs,
                          words / 2);
    else
        ands_eval_columns(opened, mask, products, one, out, inputs, words);
}
