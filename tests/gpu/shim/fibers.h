// One fiber per thread of a block, and the state of the launch that they belong to.
#pragma once

namespace shim {

constexpr int MOST_THREADS = 1024, MOST_STATIC_BYTES = 48 << 10;
constexpr size_t STACK_BYTES = 256 << 10, PAGE_BYTES = 4096;
constexpr unsigned char GARBAGE = 0xA5;

#ifndef SHIM_USES_UCONTEXT
typedef void* Context;
extern "C" void shim_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(
    .text
    .globl shim_switch
    .hidden shim_switch
    .type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size shim_switch, .-shim_switch
)");
inline void change(Context& from, Context& to) { shim_switch(&from, to); }
inline void prepare(Context& context, char* stack, void (*entry)()) {
    void** top = (void**)(stack + STACK_BYTES);
    *--top = nullptr;  // the entry's return address, which also aligns its stack
    *--top = (void*)entry;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    context = top;
}
#else
typedef ucontext_t Context;
inline void change(Context& from, Context& to) { swapcontext(&from, &to); }
inline void prepare(Context& context, char* stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}
#endif

enum State { READY, AT_BARRIER, AT_EXCHANGE, DONE };
enum Kind { SYNC, SHUFFLE, BALLOT, MMA_U8, MMA_S8 };
const char* const KIND_NAMES[] = {"__syncwarp", "a shuffle", "a vote", "mma", "mma"};

struct Thread {
    Context context;
    State state;
    int line;  // of the unit, where it waits
    Kind kind;
    unsigned mask;
    int source;                // SHUFFLE: the lane to read
    unsigned long long value;  // what it gives, then what it gets
    unsigned a[4], b[2], c[4];  // MMA: its parts of the matrices
    int votes;                 // __syncthreads_or and its kin: what it gives
};

// One launch's state; launches of one unit run one at a time.
Thread threads[MOST_THREADS];
Context scheduler;
char* stacks;
int block_threads, current, prepared, barrier_votes;
bool reversed, failed;
char error[512];
void (*run_kernel)(void**);
void** kernel_arguments;
char* dynamic_shared;

[[gnu::noinline]] inline void yield() { change(threads[current].context, scheduler); }

inline void fiber() {
    for (;;) {
        run_kernel(kernel_arguments);
        threads[current].state = DONE;
        yield();
    }
}

inline void set_thread(int t) {
    current = t;
    threadIdx.x = t % blockDim.x;
    threadIdx.y = t / blockDim.x % blockDim.y;
    threadIdx.z = t / blockDim.x / blockDim.y;
}

// Fibers outlive launches: one that has ended starts the next thread when it is resumed.
inline void prepare_fibers(int count) {
    size_t whole = STACK_BYTES + PAGE_BYTES;
    if (!stacks) {
        stacks = (char*)mmap(nullptr, MOST_THREADS * whole, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    for (; prepared < count; prepared++) {
        char* stack = stacks + prepared * whole;
        mprotect(stack, PAGE_BYTES, PROT_NONE);
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(stack + PAGE_BYTES, STACK_BYTES);
#endif
        prepare(threads[prepared].context, stack + PAGE_BYTES, fiber);
    }
}

}  // namespace shim
