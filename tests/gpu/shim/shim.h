// Executes CUDA kernels on the CPU: what prelude + unit need of CUDA, as C++17.
//
// A block's threads are fibers of one OS thread, blocks run one after the other. A thread runs alone until it reaches a
// barrier or a warp's exchange, or ends; a warp runs on as far as it can before the next one starts. That is a legal
// schedule and an unfriendly one: what relies on a barrier that is not there reads the wrong values. Shared memory is
// filled with garbage before every block. What this cannot show: weak memory, bank conflicts, real concurrency.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <pthread.h>
#include <sys/mman.h>
#include <type_traits>
#include <utility>
#if !defined(__x86_64__) || defined(SHIM_UCONTEXT)
#define SHIM_USES_UCONTEXT
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#define SOTTOVOCE_HOST 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static  // build.py adds a claim of the variable, and rewrites dynamic shared memory

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(16) uint4 { unsigned x, y, z, w; };
struct __align__(8) int2 { int x, y; };
struct __align__(16) int4 { int x, y, z, w; };
struct __align__(16) ulonglong2 { unsigned long long x, y; };
struct __align__(16) longlong2 { long long x, y; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }

// Not static: a fiber's switch changes them behind the compiler's back.
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
constexpr int warpSize = 32;

#include "fibers.h"
#include "warp.h"

namespace shim {

// ---- blocks -------------------------------------------------------------------------------------------------------

// How many threads gave a predicate that holds.
inline int barrier(int line, int predicate = 0) {
    Thread& thread = threads[current];
    thread.state = AT_BARRIER;
    thread.line = line;
    thread.votes = predicate != 0;
    yield();
    return barrier_votes;
}

struct Claim {
    void* start;
    unsigned long long block;
};
Claim claims[64];
int claim_count, claimed_bytes;
unsigned long long block_number;  // counts all blocks of all launches

// A thread has come to the declaration of a shared variable: the block's first one finds garbage in it.
inline void claim(void* start, size_t bytes) {
    int i = 0;
    while (i < claim_count && claims[i].start != start) i++;
    if (i == claim_count) claims[claim_count++] = {start, 0};
    if (claims[i].block == block_number) return;
    claims[i].block = block_number;
    claimed_bytes += (int)bytes;
    std::memset(start, GARBAGE, bytes);
}

inline void report_deadlock() {
    int used = std::snprintf(error, sizeof error, "deadlock in block (%u, %u, %u):", blockIdx.x, blockIdx.y, blockIdx.z);
    int from = 0;
    auto same = [](const Thread& x, const Thread& y) {
        return x.state == y.state && (x.state == DONE || (x.line == y.line && (x.state == AT_BARRIER || x.kind == y.kind)));
    };
    for (int t = 1; t <= block_threads && used < (int)sizeof error - 100; t++) {
        if (t < block_threads && same(threads[t], threads[from])) continue;
        const Thread& thread = threads[from];
        used += std::snprintf(error + used, sizeof error - used, " threads %d to %d ", from, t - 1);
        if (thread.state == DONE) {
            used += std::snprintf(error + used, sizeof error - used, "have ended;");
        } else {
            const char* what = thread.state == AT_BARRIER ? "__syncthreads" : KIND_NAMES[thread.kind];
            used += std::snprintf(error + used, sizeof error - used, "wait at %s in line %d;", what, thread.line);
        }
        from = t;
    }
}

// Lets the block go on when every thread that has not ended waits at the same barrier. 1: go on, 0: all ended, -1: stuck.
inline int release_block() {
    int live = 0, line = 0, votes = 0;
    for (int t = 0; t < block_threads; t++) {
        if (threads[t].state == DONE) continue;
        if (threads[t].state != AT_BARRIER || (live && threads[t].line != line)) return -1;
        line = threads[t].line;
        votes += threads[t].votes;
        live++;
    }
    for (int t = 0; t < block_threads; t++)
        if (threads[t].state == AT_BARRIER) threads[t].state = READY;
    barrier_votes = votes;
    return live > 0;
}

inline int in_order(int i, int count) { return reversed ? count - 1 - i : i; }

inline void run_block(bool cooperates) {
    if (!cooperates) {
        for (int i = 0; i < block_threads; i++) {
            set_thread(in_order(i, block_threads));
            run_kernel(kernel_arguments);
        }
        return;
    }
    for (int t = 0; t < block_threads; t++) threads[t].state = READY;
    int warps = (block_threads + 31) / 32, going;
    do {
        for (int i = 0; i < warps; i++) {
            int warp = in_order(i, warps), lanes = lanes_of(warp);
            do {
                for (int j = 0; j < lanes; j++) {
                    int t = warp * 32 + in_order(j, lanes);
                    if (threads[t].state != READY) continue;
                    set_thread(t);
                    change(scheduler, threads[t].context);
                }
            } while (release_warp(warp));
        }
        going = release_block();
    } while (going > 0);
    failed = going < 0;
}

// ---- launches -----------------------------------------------------------------------------------------------------

template <class T>
const char* type_name() {
    if (std::is_same_v<T, bool>) return "bool";
    if (std::is_same_v<T, float>) return "float32";
    if (std::is_same_v<T, double>) return "float64";
    if (!std::is_integral_v<T>) return "?";
    const char* names[2][4] = {{"int8", "int16", "int32", "int64"}, {"uint8", "uint16", "uint32", "uint64"}};
    int width = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return names[std::is_unsigned_v<T>][width];
}

template <class P>
void describe(char*& out) {
    using T = std::remove_cv_t<std::remove_pointer_t<P>>;
    bool is_const = std::is_const_v<std::remove_pointer_t<P>>;
    out += std::sprintf(out, "%s%s%s ", is_const ? "const:" : "", type_name<T>(), std::is_pointer_v<P> ? "*" : "");
}

// A kernel as a function of pointers to its arguments, and its parameters' types: "const:uint64* uint64* int64".
template <auto kernel>
struct Entry;
template <class... P, void (*kernel)(P...)>
struct Entry<kernel> {
    template <size_t... I>
    static void spread(void** arguments, std::index_sequence<I...>) {
        kernel(*(P*)arguments[I]...);
    }
    static void call(void** arguments) { spread(arguments, std::index_sequence_for<P...>()); }
    static const char* types() {
        static char text[64 * (sizeof...(P) + 1)];
        char* out = text;
        *out = 0;
        (describe<P>(out), ...);
        return text;
    }
};

struct Row {
    const char* name;
    void (*call)(void**);
    const char* (*types)();
};

pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

// Null, or what went wrong.
inline const char* launch(const Row& row, bool cooperates, void** arguments, const unsigned* grid, const unsigned* block,
                          char* shared, size_t shared_bytes, bool reverse, char* message, size_t message_bytes) {
    pthread_mutex_lock(&one_at_a_time);
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    block_threads = (int)(block[0] * block[1] * block[2]);
    run_kernel = row.call;
    kernel_arguments = arguments;
    dynamic_shared = shared;
    reversed = reverse;
    failed = false;
    if (cooperates) prepare_fibers(block_threads);
    unsigned long long blocks = (unsigned long long)grid[0] * grid[1] * grid[2];
    for (unsigned long long i = 0; i < blocks && !failed; i++) {
        unsigned long long b = reversed ? blocks - 1 - i : i;
        blockIdx = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
        std::memset(shared, GARBAGE, shared_bytes);
        block_number++;
        claimed_bytes = 0;
        run_block(cooperates);
    }
    if (failed) {
        report_deadlock();
        prepared = 0;  // the fibers that wait are given up
    } else if (claimed_bytes > MOST_STATIC_BYTES) {
        failed = true;
        std::snprintf(error, sizeof error, "%d bytes of static shared memory, at most %d are allowed", claimed_bytes,
                      MOST_STATIC_BYTES);
    }
    bool bad = failed;
    if (bad) std::snprintf(message, message_bytes, "%s", error);
    pthread_mutex_unlock(&one_at_a_time);
    return bad ? message : nullptr;
}

}  // namespace shim

#define __syncthreads() shim::barrier(__LINE__)
#define __syncthreads_count(p) shim::barrier(__LINE__, p)
#define __syncthreads_or(p) (shim::barrier(__LINE__, p) != 0)
#define __syncthreads_and(p) (shim::barrier(__LINE__, !(p)) == 0)
#define __syncwarp(...) shim::sync_warp(__LINE__, ##__VA_ARGS__)
#define __shfl_sync(...) shim::shuffle(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) shim::shuffle_up(__LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) shim::shuffle_down(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) shim::shuffle_xor(__LINE__, __VA_ARGS__)
#define __ballot_sync(mask, p) shim::ballot(__LINE__, mask, p)
#define __any_sync(mask, p) shim::any(__LINE__, mask, p)
#define __all_sync(mask, p) shim::all(__LINE__, mask, p)
// c: 4 accumulators, a: 4 registers, b: 2 registers of the calling lane. c += a b.
#define mma_u8_16x8x32(c, a, b) shim::mma(__LINE__, shim::MMA_U8, c, a, b)
#define mma_s8_16x8x32(c, a, b) shim::mma(__LINE__, shim::MMA_S8, c, a, b)

#include "intrinsics.h"
