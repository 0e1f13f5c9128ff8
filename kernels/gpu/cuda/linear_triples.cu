// The products of several layers for a whole batch of clips in one launch: kernels/cpu/triples.py.

#define TILE 64

// A row of the table.
enum {
    FIRST_BLOCK, SPLITS, SPLIT_DEPTH, A_AT, B_AT, C_AT, CHANNELS, TIME, TAPS, GROUPS, COLUMNS, TIME_OUT, STRIDE,
    PAD_LEFT, DILATION, FIELDS
};

// out = (a0 + a1) * b - c0 in every clip, where each layer's words lie as the table says. Blocks are mapped to (layer,
// tile, split) by the layers' first blocks. A layer whose depth is split is added to what `triple_begin` left.
KERNEL __launch_bounds__(THREADS, 2) triple_products(const i64* table, i32 layers, const u64* a0, const u64* a1,
                                                     const u64* b, const u64* c0, u64* out, i32 clips, i64 own,
                                                     i64 derived) {
    i32 low = 0, high = layers;
    while (high - low > 1) {
        i32 middle = (low + high) / 2;
        if (table[middle * FIELDS + FIRST_BLOCK] <= blockIdx.x) low = middle;
        else high = middle;
    }
    const i64* layer = table + low * FIELDS;
    i32 block = blockIdx.x - (i32)layer[FIRST_BLOCK], splits = (i32)layer[SPLITS];
    i32 taps = (i32)layer[TAPS], channels = (i32)layer[CHANNELS], columns = (i32)layer[COLUMNS];
    i32 time = (i32)layer[TIME], time_out = (i32)layer[TIME_OUT], groups = (i32)layer[GROUPS];
    const u64 *x = a0 + layer[A_AT], *plus = a1 + layer[A_AT], *subtract = splits > 1 ? 0 : c0 + layer[C_AT];
    Linear p{x, x, plus, b + layer[B_AT], subtract, out + layer[C_AT], own, derived, (i64)channels * columns, 0,
             clips * time_out, time, time_out, taps, channels, columns, groups, (i32)layer[STRIDE],
             (i32)layer[PAD_LEFT], (i32)layer[DILATION], 1, 0};
    i32 begin = block % splits * (i32)layer[SPLIT_DEPTH];
    i32 end = min(begin + (i32)layer[SPLIT_DEPTH], taps * channels);
    linear<TILE, TILE, false>(p, block / splits, begin, end, splits > 1);
}

// out = -c0 in the words of every layer whose depth is split. The grid's y runs over layers, its z over clips.
KERNEL triple_begin(const i64* table, const u64* c0, u64* out, i32 clips, i64 derived) {
    const i64* layer = table + blockIdx.y * FIELDS;
    if (layer[SPLITS] == 1) return;
    i64 width = layer[GROUPS] * layer[COLUMNS] * layer[TIME_OUT];
    for (i32 clip = blockIdx.z; clip < clips; clip += gridDim.z) {
        i64 at = clip * derived + layer[C_AT];
        for (i64 i = thread_index(); i < width; i += thread_count()) out[at + i] = 0 - c0[at + i];
    }
}
