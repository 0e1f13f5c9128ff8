// Products of linear layers mod 2^64, one in a launch, and sums over windows: kernels/cpu/{gemm,conv,beaver_linear,pool}.py.

#define LINEAR_PARAMETERS                                                                                              \
    const u64 *x, const u64 *second, const u64 *w, u64 *out, i64 x_clip, i64 out_clip, i64 w_tap, i64 w_part,          \
        i32 rows, i32 time, i32 time_out, i32 taps, i32 channels, i32 columns, i32 groups, i32 stride, i32 pad_left,   \
        i32 dilation, i32 parts, i32 add
#define LINEAR_ARGUMENTS                                                                                               \
    Linear {                                                                                                           \
        x, second, 0, w, 0, out, x_clip, out_clip, w_tap, w_part, rows, time, time_out, taps, channels, columns,       \
            groups, stride, pad_left, dilation, parts, add                                                             \
    }

// A block for each tile and for each split of the depth.
#define LINEAR(ROWS, COLUMNS, DENSE)                                                                                   \
    i32 begin = blockIdx.y * split_depth, end = min(begin + split_depth, parts * taps * channels);                     \
    linear<ROWS, COLUMNS, DENSE>(LINEAR_ARGUMENTS, blockIdx.x, begin, end, gridDim.y > 1);

KERNEL __launch_bounds__(THREADS, 2) linear_dense_64x64(LINEAR_PARAMETERS, i32 split_depth) {
    LINEAR(64, 64, true)
}

KERNEL __launch_bounds__(THREADS, 2) linear_dense_16x64(LINEAR_PARAMETERS, i32 split_depth) {
    LINEAR(16, 64, true)
}

KERNEL __launch_bounds__(THREADS, 2) linear_dense_64x16(LINEAR_PARAMETERS, i32 split_depth) {
    LINEAR(64, 16, true)
}

KERNEL __launch_bounds__(THREADS, 2) linear_conv_64x64(LINEAR_PARAMETERS, i32 split_depth) {
    LINEAR(64, 64, false)
}

KERNEL __launch_bounds__(THREADS, 2) linear_conv_16x64(LINEAR_PARAMETERS, i32 split_depth) {
    LINEAR(16, 64, false)
}

KERNEL __launch_bounds__(THREADS, 2) linear_conv_64x16(LINEAR_PARAMETERS, i32 split_depth) {
    LINEAR(64, 16, false)
}

// What the splits of a depth are added to.
KERNEL linear_begin(u64* out, i64 n) {
    for (i64 i = thread_index(); i < n; i += thread_count()) out[i] = 0;
}

// out[r, t] = sum of x[r, t * stride - pad_left + k], k < kernel_size. The block's x runs over t, its y over rows.
KERNEL sum_pool(const u64* x, u64* out, i64 rows, i32 time, i32 time_out, i32 kernel_size, i32 stride, i32 pad_left) {
    for (i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += (i64)gridDim.x * blockDim.y) {
        const u64* line = x + row * time;
        for (i32 t = threadIdx.x; t < time_out; t += blockDim.x) {
            i32 first = t * stride - pad_left, last = min(first + kernel_size, time);
            u64 total = 0;
            for (i32 at = max(first, 0); at < last; at++) total += line[at];
            out[row * time_out + t] = total;
        }
    }
}
