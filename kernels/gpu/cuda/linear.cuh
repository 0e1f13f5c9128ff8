// The tile that all products of linear layers mod 2^64 share, on the 64-bit integer units.
//
// A row is an output position (clip, t), a column an output channel of one group, the depth runs over (part, tap,
// channel):
//     out[clip, column, t] (+)= sum over part, tap, i of X[part][clip, i, t * stride + tap * dilation - pad_left]
//                                                        * W[part][tap, i, column]
// x is gathered as it is needed (implicit GEMM); positions outside of it count as zero. A matrix product is the case of
// one position and one tap, where the depth and not the rows lies side by side in memory (DENSE). The parts are one
// product, or the two of D * W' + A * E.

#define THREADS 256
#define LANES 16   // threads along the rows of a tile, and along its columns
#define STAGE 16   // depth that is in shared memory at once, twice: one stage is used while the next is on its way

struct Linear {
    const u64* x;         // (batch, groups * channels, time); clips are x_clip words apart
    const u64* second;    // x of the second part
    const u64* plus;      // null, or added to x as it is read; null if DENSE
    const u64* w;         // (groups, taps, channels, columns); taps are w_tap words apart, the parts w_part
    const u64* subtract;  // null, or subtracted from the sum; of the same layout as out
    u64* out;             // (batch, groups * columns, time_out); clips are out_clip words apart
    i64 x_clip, out_clip, w_tap, w_part;
    i32 rows, time, time_out, taps, channels, columns, groups, stride, pad_left, dilation, parts, add;
};

// n / d for n < 2^31 by one multiplication [Granlund and Montgomery 94]; d > 0.
struct Divisor {
    u32 multiplier, shift;
    __device__ __forceinline__ explicit Divisor(u32 d) {
        shift = 32 - __clz((int)(d - 1));
        multiplier = (u32)(((((u64)1 << shift) - d) << 32) / d + 1);
    }
    __device__ __forceinline__ i32 divide(i32 n) const {
        return (i32)(((u32)((u64)(u32)n * multiplier >> 32) + (u32)n) >> shift);
    }
};

__device__ __forceinline__ bool in_pairs(const void* p) { return ((u64)p & 15) == 0; }

// a b is accumulated as a.lo b.lo, 64 bits wide, and the sum of both cross products, of which 32 bits count: one wide
// and two narrow multiply-adds. The cross sums are shifted into place once, at the end. Of C alone the compiler makes
// products of masked 64-bit words, with additions and moves beside every one of them.
struct Sum {
    u64 low;
    u32 cross;
    __device__ __forceinline__ void multiply_add(u64 a, u64 b) {
        u32 a0 = (u32)a, a1 = (u32)(a >> 32), b0 = (u32)b, b1 = (u32)(b >> 32);
#ifndef SOTTOVOCE_HOST
        asm("mad.wide.u32 %0, %1, %2, %0;" : "+l"(low) : "r"(a0), "r"(b0));
        asm("mad.lo.u32 %0, %1, %2, %0;" : "+r"(cross) : "r"(a0), "r"(b1));
        asm("mad.lo.u32 %0, %1, %2, %0;" : "+r"(cross) : "r"(a1), "r"(b0));
#else
        low += (u64)a0 * b0;
        cross += a0 * b1;
        cross += a1 * b0;
#endif
    }
    __device__ __forceinline__ u64 total() const { return low + ((u64)cross << 32); }
};

// Where the j-th of a lane's N rows (columns) lies in the tile: in pairs, so that a pair is one 16-byte load.
template <int N>
__device__ __forceinline__ int place(int lane, int j) {
    return N == 1 ? lane : j / 2 * 2 * LANES + 2 * lane + (j & 1);
}

template <int N>
__device__ __forceinline__ void read_lane(const u64* line, int lane, u64 out[N]) {
    if constexpr (N == 1) {
        out[0] = line[lane];
    } else {
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            u64x2 pair = *(const u64x2*)(line + place<N>(lane, j));
            out[j] = pair.x;
            out[j + 1] = pair.y;
        }
    }
}

// What one thread brings of a stage: from device memory to registers, later from there to shared memory.
template <int ROWS, int COLUMNS, bool DENSE>
struct Loader {
    static constexpr int X_WORDS = ROWS / LANES, W_WORDS = COLUMNS / LANES;  // of one stage
    static constexpr int X_RUN = DENSE && X_WORDS > 1 ? 2 : 1, W_RUN = W_WORDS > 1 ? 2 : 1;  // side by side
    static constexpr int X_LINE = DENSE ? STAGE / X_RUN : ROWS, W_LINE = COLUMNS / W_RUN;  // threads to a line
    static constexpr int PITCH_X = ROWS + 2, PITCH_W = COLUMNS + 2;  // words from depth to depth in shared memory

    const Linear& p;
    Divisor by_channels;
    i32 depth, end, row, column;  // row: the one whose x this thread gathers, unless DENSE
    i32 first;                    // position of the first tap
    const u64* w;
    i64 x_at;
    bool x_pairs, w_pairs, inside;
    u64 x_held[X_WORDS], w_held[W_WORDS];

    __device__ __forceinline__ Loader(const Linear& linear, i32 tile_row, i32 tile_column, i32 group, i32 last)
        : p(linear), by_channels((u32)max(linear.channels, 1)) {
        int t = threadIdx.x;
        depth = p.taps * p.channels;
        end = last;
        column = tile_column + t % W_LINE * W_RUN;
        w = p.w + (i64)group * p.taps * p.w_tap;
        w_pairs = W_RUN == 2 && in_pairs(p.w) && p.columns % 2 == 0;
        x_at = (i64)group * p.channels * p.time;
        if (DENSE) {
            row = tile_row + t / X_LINE;
            x_pairs = X_RUN == 2 && in_pairs(p.x) && in_pairs(p.second) && p.x_clip % 2 == 0 && p.channels % 2 == 0;
        } else {
            row = tile_row + t % ROWS;
            inside = row < p.rows;
            i32 clip = row / p.time_out;
            first = (row - clip * p.time_out) * p.stride - p.pad_left;
            x_at += clip * p.x_clip + first;
        }
    }

    // depth k -> the part, the tap and the channel.
    __device__ __forceinline__ void locate(i32 k, i32& part, i32& tap, i32& channel) const {
        part = k >= depth ? 1 : 0;
        k -= part ? depth : 0;
        tap = DENSE ? 0 : by_channels.divide(k);
        channel = k - tap * p.channels;
    }

    __device__ __forceinline__ void load(i32 k0) {
        if constexpr (DENSE) load_x_dense(k0);
        else load_x(k0);
        constexpr int STEP = THREADS / W_LINE;
#pragma unroll
        for (int j = 0; j < W_WORDS; j += W_RUN) {
            i32 k = k0 + (int)threadIdx.x / W_LINE + j / W_RUN * STEP, part, tap, channel;
            locate(k, part, tap, channel);
            const u64* from = w + (part ? p.w_part : 0) + tap * p.w_tap + (i64)channel * p.columns + column;
            if (W_RUN == 1) {
                w_held[j] = k < end && column < p.columns ? from[0] : 0;
            } else if (w_pairs) {
                u64x2 pair = k < end && column < p.columns ? *(const u64x2*)from : u64x2{0, 0};
                w_held[j] = pair.x;
                w_held[(j + 1) % W_WORDS] = pair.y;
            } else {
                w_held[j] = k < end && column < p.columns ? from[0] : 0;
                w_held[(j + 1) % W_WORDS] = k < end && column + 1 < p.columns ? from[1] : 0;
            }
        }
    }

    __device__ __forceinline__ void load_x(i32 k0) {
#pragma unroll
        for (int j = 0; j < X_WORDS; j++) {
            i32 k = k0 + (int)threadIdx.x / ROWS + j * (THREADS / ROWS), part, tap, channel;
            locate(k, part, tap, channel);
            i32 shift = tap * p.dilation;
            bool there = inside && k < end && (u32)(first + shift) < (u32)p.time;
            i64 at = x_at + (i64)channel * p.time + shift;
            x_held[j] = there ? (part ? p.second : p.x)[at] : 0;
            if (there && p.plus) x_held[j] += p.plus[at];
        }
    }

    __device__ __forceinline__ void load_x_dense(i32 k0) {
        i32 k = k0 + (int)threadIdx.x % X_LINE * X_RUN;
#pragma unroll
        for (int j = 0; j < X_WORDS; j += X_RUN) {
            i32 line = row + j / X_RUN * (THREADS / X_LINE);
            i64 at = x_at + line * p.x_clip;
            if (X_RUN == 2 && x_pairs) {
                const u64* from = k >= depth ? p.second - depth : p.x;
                bool there = line < p.rows && k < end;
                u64x2 pair = there ? *(const u64x2*)(from + at + k) : u64x2{0, 0};
                x_held[j] = pair.x;
                x_held[(j + 1) % X_WORDS] = pair.y;
            } else {
#pragma unroll
                for (int i = 0; i < X_RUN; i++) {
                    const u64* from = k + i >= depth ? p.second - depth : p.x;
                    bool there = line < p.rows && k + i < end;
                    x_held[j + i] = there ? from[at + k + i] : 0;
                }
            }
        }
    }

    __device__ __forceinline__ void store(u64* xs, u64* ws) const {
        int t = threadIdx.x;
#pragma unroll
        for (int j = 0; j < X_WORDS; j++) {
            int k = DENSE ? t % X_LINE * X_RUN + j % X_RUN : t / ROWS + j * (THREADS / ROWS);
            int line = DENSE ? t / X_LINE + j / X_RUN * (THREADS / X_LINE) : t % ROWS;
            xs[k * PITCH_X + line] = x_held[j];
        }
#pragma unroll
        for (int j = 0; j < W_WORDS; j += W_RUN) {
            u64* to = ws + (t / W_LINE + j / W_RUN * (THREADS / W_LINE)) * PITCH_W + t % W_LINE * W_RUN;
            if (W_RUN == 1) to[0] = w_held[j];
            else *(u64x2*)to = u64x2{w_held[j], w_held[(j + 1) % W_WORDS]};
        }
    }
};

// One tile of `out` over the depth from `begin` to `end`; added with atomics if others add to the same tile.
template <int ROWS, int COLUMNS, bool DENSE>
__device__ __forceinline__ void linear_tile(const Linear& p, i32 row, i32 column, i32 group, i32 begin, i32 end,
                                            bool shared_out) {
    typedef Loader<ROWS, COLUMNS, DENSE> Stage;
    __shared__ __align__(16) u64 xs[2][STAGE * Stage::PITCH_X];
    __shared__ __align__(16) u64 ws[2][STAGE * Stage::PITCH_W];
    constexpr int M = ROWS / LANES, N = COLUMNS / LANES;
    int fast = threadIdx.x % LANES, slow = threadIdx.x / LANES;
    int row_lane = DENSE ? slow : fast, column_lane = DENSE ? fast : slow;  // neighbours write side by side
    Sum sums[M][N];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) sums[m][n] = Sum{0, 0};

    Stage stage(p, row, column, group, end);
    stage.load(begin);
    stage.store(xs[0], ws[0]);
    __syncthreads();
    int use = 0;
    for (i32 k0 = begin; k0 < end; k0 += STAGE) {
        bool more = k0 + STAGE < end;
        if (more) stage.load(k0 + STAGE);
#pragma unroll 4
        for (int k = 0; k < STAGE; k++) {
            u64 a[M], b[N];
            read_lane<M>(xs[use] + k * Stage::PITCH_X, row_lane, a);
            read_lane<N>(ws[use] + k * Stage::PITCH_W, column_lane, b);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int n = 0; n < N; n++) sums[m][n].multiply_add(a[m], b[n]);
        }
        use ^= 1;
        if (more) stage.store(xs[use], ws[use]);
        __syncthreads();
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
        i32 r = row + place<M>(row_lane, m);
        i32 clip = r / p.time_out;
        i64 at = clip * p.out_clip + (r - clip * p.time_out) + ((i64)group * p.columns + column) * p.time_out;
#pragma unroll
        for (int n = 0; n < N; n++) {
            int c = place<N>(column_lane, n);
            if (r >= p.rows || column + c >= p.columns) continue;
            i64 to = at + (i64)c * p.time_out;
            u64 total = sums[m][n].total();
            if (shared_out) {
                atomicAdd(&p.out[to], total);
                continue;
            }
            if (p.subtract) total -= p.subtract[to];
            p.out[to] = p.add ? p.out[to] + total : total;
        }
    }
}

// The n-th tile of `out`: columns fastest, then groups, then rows, so that neighbours share x.
template <int ROWS, int COLUMNS, bool DENSE>
__device__ __forceinline__ void linear(const Linear& p, i32 tile, i32 begin, i32 end, bool shared_out) {
    i32 across = (p.columns + COLUMNS - 1) / COLUMNS;
    i32 column = tile % across * COLUMNS;
    i32 group = tile / across % p.groups;
    i32 row = tile / across / p.groups * ROWS;
    linear_tile<ROWS, COLUMNS, DENSE>(p, row, column, group, begin, end, shared_out);
}
