// What the lanes of a warp do together: shuffles, votes, __syncwarp and the tensor cores' products.
#pragma once

namespace shim {

// D = A B + C, A: 16x32 row-major, B: 32x8 column-major, C: 16x8; elements where PTX's m16n8k32 has them. Accumulators wrap.
template <class Element>
inline void multiply(Thread* warp) {
    Element a[16][32], b[32][8];
    for (int lane = 0; lane < 32; lane++) {
        int group = lane >> 2, in_group = lane & 3;
        for (int i = 0; i < 16; i++)
            a[group + (i / 4 % 2) * 8][in_group * 4 + i % 4 + (i / 8) * 16] = (Element)(warp[lane].a[i / 4] >> i % 4 * 8);
        for (int i = 0; i < 8; i++)
            b[in_group * 4 + i % 4 + (i / 4) * 16][group] = (Element)(warp[lane].b[i / 4] >> i % 4 * 8);
    }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            int row = (lane >> 2) + (i / 2) * 8, column = (lane & 3) * 2 + i % 2;
            unsigned sum = warp[lane].c[i];
            for (int k = 0; k < 32; k++) sum += (unsigned)((int)a[row][k] * (int)b[k][column]);
            warp[lane].c[i] = sum;
        }
}

inline int lanes_of(int warp) { return block_threads - warp * 32 < 32 ? block_threads - warp * 32 : 32; }

// Lets the lanes go on whose whole mask has arrived. Lanes that have ended need not arrive, except for an mma.
inline bool release_warp(int number) {
    Thread* warp = threads + number * 32;
    int lanes = lanes_of(number);
    bool released = false;
    for (int first = 0; first < lanes; first++) {
        Thread& leader = warp[first];
        if (leader.state != AT_EXCHANGE) continue;
        bool arrived = true;
        bool whole = leader.kind == MMA_U8 || leader.kind == MMA_S8;
        unsigned ballot = 0;
        for (int lane = 0; lane < 32; lane++) {
            if (!(leader.mask >> lane & 1)) continue;
            if (lane >= lanes || warp[lane].state == DONE) {
                arrived = arrived && !whole;
                continue;
            }
            const Thread& other = warp[lane];
            arrived = arrived && other.state == AT_EXCHANGE && other.kind == leader.kind && other.mask == leader.mask;
            ballot |= (unsigned)(other.value & 1) << lane;
        }
        if (!arrived) continue;
        unsigned mask = leader.mask;
        Kind kind = leader.kind;
        if (kind == MMA_U8) multiply<unsigned char>(warp);
        if (kind == MMA_S8) multiply<signed char>(warp);
        unsigned long long given[32];
        for (int lane = 0; lane < lanes; lane++) given[lane] = warp[lane].value;
        for (int lane = 0; lane < lanes; lane++) {
            Thread& thread = warp[lane];
            if (!(mask >> lane & 1) || thread.state != AT_EXCHANGE) continue;
            thread.state = READY;
            if (kind == BALLOT) thread.value = ballot;
            if (kind == SHUFFLE) {
                int source = thread.source;
                bool there = source < lanes && mask >> source & 1 && warp[source].state != DONE;
                thread.value = there ? given[source] : 0xA5A5A5A5A5A5A5A5ull;  // CUDA: undefined
            }
        }
        released = true;
    }
    return released;
}

inline void wait_for_warp(unsigned mask, Kind kind, int line) {
    Thread& thread = threads[current];
    thread.state = AT_EXCHANGE;
    thread.kind = kind;
    thread.mask = mask;
    thread.line = line;
    if (!(mask >> (current & 31) & 1)) thread.mask = 0;  // never released: reported as a deadlock
    yield();
}

inline void sync_warp(int line, unsigned mask = 0xffffffffu) { wait_for_warp(mask, SYNC, line); }

template <class T>
inline T exchange(int line, unsigned mask, T value, int source) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
    Thread& thread = threads[current];
    thread.value = 0;
    std::memcpy(&thread.value, &value, sizeof(T));
    thread.source = source;
    wait_for_warp(mask, SHUFFLE, line);
    std::memcpy(&value, &thread.value, sizeof(T));
    return value;
}

inline int lane() { return current & 31; }
template <class T>
inline T shuffle(int line, unsigned mask, T value, int source, int width = 32) {
    return exchange(line, mask, value, (lane() & -width) + (source & (width - 1)));
}
template <class T>
inline T shuffle_up(int line, unsigned mask, T value, unsigned delta, int width = 32) {
    int source = lane() - (int)delta;
    return exchange(line, mask, value, source < (lane() & -width) ? lane() : source);
}
template <class T>
inline T shuffle_down(int line, unsigned mask, T value, unsigned delta, int width = 32) {
    int source = lane() + (int)delta;
    return exchange(line, mask, value, source >= (lane() & -width) + width ? lane() : source);
}
template <class T>
inline T shuffle_xor(int line, unsigned mask, T value, int bits, int width = 32) {
    int source = lane() ^ bits;
    return exchange(line, mask, value, source >= (lane() & -width) + width ? lane() : source);
}
inline unsigned ballot(int line, unsigned mask, int predicate) {
    threads[current].value = predicate != 0;
    wait_for_warp(mask, BALLOT, line);
    return (unsigned)threads[current].value;
}
// All non-exited lanes of the mask voted: the lanes that did not vote are in neither result.
inline int any(int line, unsigned mask, int predicate) { return ballot(line, mask, predicate) != 0; }
inline int all(int line, unsigned mask, int predicate) { return ballot(line, mask, !predicate) == 0; }

template <class C, class A, class B>
inline void mma(int line, Kind kind, C* c, const A* a, const B* b) {
    static_assert(sizeof(C) == 4 && sizeof(A) == 4 && sizeof(B) == 4, "registers of 32 bits");
    Thread& thread = threads[current];
    std::memcpy(thread.a, a, 16);
    std::memcpy(thread.b, b, 8);
    std::memcpy(thread.c, c, 16);
    wait_for_warp(0xffffffffu, kind, line);
    std::memcpy(c, thread.c, 16);
}

}  // namespace shim
