// Matrix products mod 2^64 from products modulo 18 coprime numbers below 2^8: kernels/gpu/tensor/crt_s8.py, which also
// proves that the result is exact.

typedef signed char i8;

#define MODULI 18

// Pairwise coprime, in falling order: 256, then the largest that share no factor with those before.
__device__ constexpr u32 modulus(int j) {
    constexpr u32 all[MODULI] = {256, 255, 253, 251, 247, 241, 239, 233, 229,
                                 227, 223, 217, 211, 199, 197, 193, 191, 181};
    return all[j];
}

// (M / m_j) mod 2^64, and mod m_j; M is the product of all.
__device__ constexpr u64 cofactor(int j) {
    u64 product = 1;
    for (int i = 0; i < MODULI; i++)
        if (i != j) product *= modulus(i);
    return product;
}

__device__ constexpr u32 inverse(int j) {  // of the cofactor, mod m_j
    u32 m = modulus(j), value = 1, result = 1;
    for (int i = 0; i < MODULI; i++)
        if (i != j) value = value * modulus(i) % m;
    while (value * result % m != 1) result++;
    return result;
}

#define FRACTION 59  // bits after the point; 18 fractions below one fit into 64 bits

template <int J>
struct Modulus {
    static constexpr u32 m = modulus(J);
    static constexpr u32 power16 = (1u << 16) % m, power32 = power16 * power16 % m, power48 = power32 * power16 % m;
    static constexpr u32 half = m / 2;                             // residues are -half .. m - 1 - half
    static constexpr u32 lift = ((1u << 26) / m + 1) * m + half;   // makes |value| < 2^26 positive
    static constexpr u32 minus_2_31 = m - (1u << 31) % m;
    static constexpr u64 cofactor = ::cofactor(J);
    static constexpr u32 inverse = ::inverse(J);
    static constexpr u64 reciprocal = (1ull << FRACTION) / m;
};

// residues[j] of four elements, as four bytes, from their 16-bit digits: element e is sum_i digits[i][e] 2^(16 i).
template <int J = 0>
__device__ __forceinline__ void put_residues(const i32 digits[4][4], u32* residues, i64 plane) {
    using M = Modulus<J>;
    u32 packed = 0;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        i32 value = digits[0][e] + digits[1][e] * (i32)M::power16 + digits[2][e] * (i32)M::power32 +
                    digits[3][e] * (i32)M::power48;
        u32 residue = ((u32)value + M::lift) % M::m - M::half;
        packed |= (residue & 255) << 8 * e;
    }
    *residues = packed;
    if constexpr (J + 1 < MODULI) put_residues<J + 1>(digits, residues + plane, plane);
}

// planes: (rows, 8, pitch) s8 from limbs.cu, ascending; residues: (MODULI, rows, pitch) s8.
KERNEL crt_residues(const i8* planes, i64 rows, i32 pitch, i8* residues) {
    int quad = blockIdx.x * blockDim.x + threadIdx.x, quads = pitch / 4;
    if (quad >= quads) return;
    for (i64 row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += gridDim.y * blockDim.y) {
        const u32* from = (const u32*)planes + row * 8 * quads + quad;
        i32 digits[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 low = from[2 * i * quads], high = from[(2 * i + 1) * quads];
#pragma unroll
            for (int e = 0; e < 4; e++)
                digits[i][e] = (i32)(i8)(low >> 8 * e) + 256 * (i32)(i8)(high >> 8 * e);
        }
        put_residues(digits, (u32*)residues + row * quads + quad, rows * quads);
    }
}

// Adds the part of modulus J: v (M / m), v = c / (M / m) mod m, to total, and v / m, rounded down, to fraction.
template <int J = 0>
__device__ __forceinline__ void add_parts(const i32* sums, i64 plane, u64& total, u64& fraction) {
    using M = Modulus<J>;
    u32 c = ((u32)*sums + (1u << 31)) % M::m + M::minus_2_31;
    u32 v = c * M::inverse % M::m;
    total += v * M::cofactor;
    fraction += v * M::reciprocal;
    if constexpr (J + 1 < MODULI) add_parts<J + 1>(sums + plane, plane, total, fraction);
}

// As limbs_join, with sums (MODULI, groups, rows, pitch) s32 modulo the moduli.
KERNEL crt_join(const i32* sums, i64 rows, u32 columns, i64 pitch, u32 time_out, u64* out, i32 add) {
    constexpr u64 product = cofactor(0) * modulus(0);
    u32 n = blockIdx.x * blockDim.x + threadIdx.x;
    i64 plane = gridDim.z * rows * pitch;
    if (n >= columns) return;
    u32 b = n / time_out, t = n - b * time_out;
    for (i64 m = blockIdx.y * blockDim.y + threadIdx.y; m < rows; m += gridDim.y * blockDim.y) {
        u64* to = out + (((i64)b * gridDim.z + blockIdx.z) * rows + m) * time_out + t;
        u64 total = add ? *to : 0, fraction = 1ull << (FRACTION - 1);
        add_parts(sums + (blockIdx.z * rows + m) * pitch + n, plane, total, fraction);
        *to = total - (fraction >> FRACTION) * product;
    }
}
