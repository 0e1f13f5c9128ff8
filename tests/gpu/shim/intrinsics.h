// CUDA's integer intrinsics, cache hints and atomics, for one thread at a time.
#pragma once

inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline long long __mul64hi(long long x, long long y) { return (long long)((__int128)x * y >> 64); }
inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((unsigned long long)x * y >> 32); }
inline int __mulhi(int x, int y) { return (int)((long long)x * y >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned long long __brevll(unsigned long long x) {
    unsigned long long y = 0;
    for (int i = 0; i < 64; i++) y |= (x >> i & 1) << (63 - i);
    return y;
}
inline unsigned __brev(unsigned x) { return (unsigned)(__brevll(x) >> 32); }
// PTX prmt: a selector's fourth bit asks for the byte's sign, eight times.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    unsigned long long both = (unsigned long long)y << 32 | x;
    unsigned result = 0;
    for (int i = 0; i < 4; i++) {
        unsigned pick = selector >> 4 * i & 15, byte = (unsigned)(both >> (pick & 7) * 8) & 255;
        if (pick & 8) byte = byte & 128 ? 255 : 0;
        result |= byte << 8 * i;
    }
    return result;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n) {
    return (unsigned)((((unsigned long long)high << 32 | low) << (n & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> (n & 31));
}
inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned n) {
    return n >= 32 ? low : __funnelshift_l(low, high, n);
}
inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned n) {
    return n >= 32 ? high : __funnelshift_r(low, high, n);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) {}

template <class T> inline T __ldg(const T* p) { return *p; }
template <class T> inline T __ldcg(const T* p) { return *p; }
template <class T> inline T __ldcs(const T* p) { return *p; }
template <class T> inline T __ldca(const T* p) { return *p; }
template <class T> inline void __stcg(T* p, T value) { *p = value; }
template <class T> inline void __stcs(T* p, T value) { *p = value; }
template <class T> inline void __stwt(T* p, T value) { *p = value; }

// The overloads that CUDA has, and no others: what is ambiguous there is ambiguous here.
#define SHIM_MIN_MAX(A, B, R)                              \
    inline R min(A x, B y) { return (R)x < (R)y ? (R)x : (R)y; } \
    inline R max(A x, B y) { return (R)x > (R)y ? (R)x : (R)y; }
#define SHIM_MIN_MAX_OF(S, U) \
    SHIM_MIN_MAX(S, S, S) SHIM_MIN_MAX(U, U, U) SHIM_MIN_MAX(S, U, U) SHIM_MIN_MAX(U, S, U)
SHIM_MIN_MAX_OF(int, unsigned)
SHIM_MIN_MAX_OF(long, unsigned long)
SHIM_MIN_MAX_OF(long long, unsigned long long)
SHIM_MIN_MAX(float, float, float)
SHIM_MIN_MAX(double, double, double)
#undef SHIM_MIN_MAX_OF
#undef SHIM_MIN_MAX

#define SHIM_ATOMIC(T, name, result) \
    inline T atomic##name(T* p, T value) { T old = *p; *p = (T)(result); return old; }
#define SHIM_ATOMICS(T)                                                                                           \
    SHIM_ATOMIC(T, Add, old + value) SHIM_ATOMIC(T, Exch, value) SHIM_ATOMIC(T, And, old & value)                 \
    SHIM_ATOMIC(T, Or, old | value) SHIM_ATOMIC(T, Xor, old ^ value)                                              \
    SHIM_ATOMIC(T, Min, old < value ? old : value) SHIM_ATOMIC(T, Max, old > value ? old : value)                 \
    inline T atomicCAS(T* p, T compare, T value) { T old = *p; if (old == compare) *p = value; return old; }
SHIM_ATOMICS(unsigned)
SHIM_ATOMICS(unsigned long long)
#undef SHIM_ATOMICS
#undef SHIM_ATOMIC
inline unsigned atomicSub(unsigned* p, unsigned value) { return atomicAdd(p, 0u - value); }
