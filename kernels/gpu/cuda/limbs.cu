// Words as balanced byte digits for s8 matrix products, and the way back: kernels/gpu/tensor/{planes,cublas_s8}.py.
//
// x = sum_d x_d 256^d mod 2^64 with x_d in -128 .. 127: the bytes of (x + C) ^ C, C = 0x80..80, as signed numbers, for
// byte - 128 = (signed char)(byte ^ 128) and sum_d 128 * 256^d = C.
//
// Planes are (groups, rows, 8, pitch) s8: digit d of element (row, k) in plane d, or 7 - d if `descending`; pitch is a
// multiple of 16. Rows beyond `rows` and k beyond `depth` are zero.

typedef signed char i8;

#define PIECE 16  // words of one thread: 16 bytes of each plane

__device__ __forceinline__ u32 gather_byte(u32 a, u32 b, u32 c, u32 d, u32 pick) {
    return __byte_perm(__byte_perm(a, b, pick), __byte_perm(c, d, pick), 0x5410);
}

// words: PIECE words of one row, k = PIECE * piece onwards.
__device__ __forceinline__ void put_digits(const u64 words[PIECE], i8* row, int pitch, int piece, int descending) {
    const u64 bias = 0x8080808080808080ull;
    u32 low[PIECE], high[PIECE];
#pragma unroll
    for (int j = 0; j < PIECE; j++) {
        u64 digits = (words[j] + bias) ^ bias;
        low[j] = (u32)digits;
        high[j] = (u32)(digits >> 32);
    }
#pragma unroll
    for (int d = 0; d < 8; d++) {
        const u32* from = d < 4 ? low : high;
        u32 pick = d % 4 | (d % 4 + 4) << 4;
        uint4 cells = {gather_byte(from[0], from[1], from[2], from[3], pick),
                       gather_byte(from[4], from[5], from[6], from[7], pick),
                       gather_byte(from[8], from[9], from[10], from[11], pick),
                       gather_byte(from[12], from[13], from[14], from[15], pick)};
        ((uint4*)(row + (i64)(descending ? 7 - d : d) * pitch))[piece] = cells;
    }
}

// x (rows, inner). Neighbouring threads: neighbouring pieces of a row.
KERNEL limbs_rows(const u64* x, i64 rows, i64 padded, i64 inner, i64 first, i32 depth, i32 pitch, i32 descending,
                  i8* planes) {
    int piece = blockIdx.x * blockDim.x + threadIdx.x;
    if (piece >= pitch / PIECE) return;
    int count = depth - PIECE * piece;
    for (i64 row = blockIdx.y * blockDim.y + threadIdx.y; row < padded; row += gridDim.y * blockDim.y) {
        const u64* at = x + row * inner + first + PIECE * piece;
        bool wide = (((u64)at) & 15) == 0 && count >= PIECE && row < rows;
        u64 words[PIECE];
#pragma unroll
        for (int j = 0; j < PIECE; j += 2) {
            words[j] = words[j + 1] = 0;
            if (wide) {
                u64x2 both = *(const u64x2*)(at + j);
                words[j] = both.x;
                words[j + 1] = both.y;
            } else if (row < rows) {
                if (j < count) words[j] = at[j];
                if (j + 1 < count) words[j + 1] = at[j + 1];
            }
        }
        put_digits(words, planes + row * 8 * pitch, pitch, piece, descending);
    }
}

// The columns of w (groups, inner, columns) as rows. Neighbouring threads: neighbouring columns. Grid z: groups.
KERNEL limbs_columns(const u64* w, i64 columns, i64 padded, i64 inner, i64 first, i32 depth, i32 pitch, i32 descending,
                     i8* planes) {
    i64 column = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= padded) return;
    const u64* from = w + (blockIdx.z * inner + first) * columns + column;
    i8* row = planes + (blockIdx.z * padded + column) * 8 * pitch;
    for (int piece = blockIdx.y * blockDim.y + threadIdx.y; piece < pitch / PIECE; piece += gridDim.y * blockDim.y) {
        u64 words[PIECE];
#pragma unroll
        for (int j = 0; j < PIECE; j++) {
            int k = PIECE * piece + j;
            words[j] = k < depth && column < columns ? from[k * columns] : 0;
        }
        put_digits(words, row, pitch, piece, descending);
    }
}

// The windows of a convolution as rows: row n is output position n mod time_out of clip n / time_out, element k channel
// k mod c_in of tap k / c_in. x: (batch, groups * c_in, time). Grid z: groups.
KERNEL limbs_windows(const u64* x, u32 rows, u32 padded, i32 groups, i32 c_in, u32 time, u32 time_out, i32 stride,
                     i32 pad_left, u32 dilation, i32 first, i32 depth, i32 pitch, i32 descending, i8* planes) {
    u32 n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= padded) return;
    u32 clip = n / time_out;
    u32 start = (n - clip * time_out) * stride - pad_left;  // u32: positions outside of x are at least `time`
    const u64* window = x + ((i64)clip * groups + blockIdx.z) * c_in * time;
    i8* row = planes + ((i64)blockIdx.z * padded + n) * 8 * pitch;
    for (int piece = blockIdx.y * blockDim.y + threadIdx.y; piece < pitch / PIECE; piece += gridDim.y * blockDim.y) {
        int k = first + PIECE * piece, count = n < rows ? depth - PIECE * piece : 0;
        int tap = (u32)k / (u32)c_in, channel = k - tap * c_in;
        u32 position = start + tap * dilation;
        u64 words[PIECE];
#pragma unroll
        for (int j = 0; j < PIECE; j++) {
            bool inside = j < count && position < time;
            words[j] = inside ? window[(i64)channel * time + position] : 0;
            if (++channel == c_in) channel = 0, position += dilation;
        }
        put_digits(words, row, pitch, piece, descending);
    }
}

// out[b, group, m, t] (+)= sum_s 256^s sums[s, group, m, n] for n = b * time_out + t. sums: (8, groups, rows, pitch)
// s32, out: (batch, groups, rows, time_out); a plain matrix product has one group and one b. Grid z: groups.
KERNEL limbs_join(const i32* sums, i64 rows, u32 columns, i64 pitch, u32 time_out, u64* out, i32 add) {
    u32 n = blockIdx.x * blockDim.x + threadIdx.x;
    i64 plane = gridDim.z * rows * pitch;
    if (n >= columns) return;
    u32 b = n / time_out, t = n - b * time_out;
    for (i64 m = blockIdx.y * blockDim.y + threadIdx.y; m < rows; m += gridDim.y * blockDim.y) {
        const i32* from = sums + (blockIdx.z * rows + m) * pitch + n;
        u64* to = out + (((i64)b * gridDim.z + blockIdx.z) * rows + m) * time_out + t;
        u64 total = add ? *to : 0;
#pragma unroll
        for (int s = 0; s < 8; s++) total += (u64)(i64)from[s * plane] << 8 * s;
        *to = total;
    }
}

KERNEL limbs_clear(u64* out, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) out[i] = 0;
}
