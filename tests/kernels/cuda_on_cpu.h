// Runs the kernels of kernels/*.cu on a CPU, their source unchanged. For tests only; Linux with g++ or clang++.
//
// Every thread of a block is a fiber (Context). A fiber runs until it ends or waits at a barrier or a warp collective;
// the scheduler then takes the next one, in the order that the test asks for: 0 forward, all warps in step; 1 backward
// and n >= 2 in a shuffle seeded with n, one warp running ahead to the next barrier before another starts. Blocks run
// one after another, in that order too, so a __shared__ variable can be a plain static. Kernels that never wait run as simple loops ("direct").
//
// What this cannot show: races within one step, the memory model, the order of float atomics.
#pragma once
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__  // as g++ says it
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || !defined(__x86_64__)
#define CPU_CUDA_UCONTEXT  // the sanitizers know its stacks
#include <ucontext.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(cpu_cuda::block_memory)

struct Index3 {
    unsigned x = 0, y = 0, z = 0;
};
static Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace cpu_cuda {

constexpr unsigned kWarp = 32;
constexpr std::size_t kStackBytes = 64 * 1024;
enum class State { ready, at_barrier, at_warp, done };

#ifdef CPU_CUDA_UCONTEXT
struct Context {
    ucontext_t place;
    void begin(char* stack, void (*entry)()) {
        getcontext(&place);
        place.uc_stack.ss_sp = stack;
        place.uc_stack.ss_size = kStackBytes;
        place.uc_link = nullptr;
        makecontext(&place, entry, 0);
    }
};

static void leave_for(Context& from, Context& to) { swapcontext(&from.place, &to.place); }
#else
// The registers that a call must keep go onto the stack that is left: a hundred times faster than ucontext, which asks the kernel.
extern "C" __attribute__((visibility("hidden"))) void cpu_cuda_leave(void** from, void* to);
asm(R"(
    .text
    .hidden cpu_cuda_leave
    .globl cpu_cuda_leave
    .type cpu_cuda_leave, @function
cpu_cuda_leave:
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
    .size cpu_cuda_leave, .-cpu_cuda_leave
)");

struct Context {
    void* place = nullptr;
    void begin(char* stack, void (*entry)()) {
        auto top = reinterpret_cast<std::uintptr_t>(stack + kStackBytes) & ~std::uintptr_t{15};
        void** frame = reinterpret_cast<void**>(top - 64);
        std::memset(frame, 0, 64);
        frame[6] = reinterpret_cast<void*>(entry);  // where ret goes; the stack is then as after a call
        place = frame;
    }
};

static void leave_for(Context& from, Context& to) { cpu_cuda_leave(&from.place, to.place); }
#endif

struct Fiber {
    Context context;
    std::unique_ptr<char[]> stack{new char[kStackBytes]};
    State state = State::ready;
    unsigned thread = 0;
};

static Context scheduler;
static Fiber* running = nullptr;
static const std::function<void()>* kernel = nullptr;
static char* block_memory = nullptr;
static std::vector<std::uint64_t> mailbox;  // one value per thread, for warp collectives
static std::vector<std::unique_ptr<Fiber>> fibers;

static void fiber_main() {
    (*kernel)();
    running->state = State::done;
    leave_for(running->context, scheduler);
}

static void pause_as(State state) {
    if (!running) throw std::runtime_error("a kernel taken to be barrier-free waits for other threads");
    Fiber* me = running;
    me->state = state;
    leave_for(me->context, scheduler);
    threadIdx.x = me->thread;
}

class Order {
  public:
    Order(unsigned n, int kind) : kind_(kind), random_(static_cast<unsigned>(kind)), items_(n) {
        std::iota(items_.begin(), items_.end(), 0u);
        if (kind_ == 1) std::reverse(items_.begin(), items_.end());
    }
    bool in_step() const { return kind_ == 0; }
    const std::vector<unsigned>& next() {
        if (kind_ >= 2) std::shuffle(items_.begin(), items_.end(), random_);
        return items_;
    }

  private:
    int kind_;
    std::mt19937 random_;
    std::vector<unsigned> items_;
};

// Let go a warp all of whose lanes wait in a collective.
static bool release_warp(unsigned low) {
    unsigned waiting = 0, ended = 0;
    for (unsigned i = low; i < low + kWarp; i++) {
        waiting += fibers[i]->state == State::at_warp;
        ended += fibers[i]->state == State::done;
    }
    if (!waiting || waiting + ended < kWarp) return false;
    if (ended) throw std::runtime_error("a warp collective after a lane has ended");
    for (unsigned i = low; i < low + kWarp; i++) fibers[i]->state = State::ready;
    return true;
}

// Let go the block when every thread waits at the barrier; false when all threads have ended.
static bool release_block() {
    const unsigned n = static_cast<unsigned>(fibers.size());
    unsigned at_barrier = 0, done = 0;
    for (auto& f : fibers) {
        at_barrier += f->state == State::at_barrier;
        done += f->state == State::done;
    }
    if (done == n) return false;
    if (at_barrier != n)
        throw std::runtime_error("deadlock: " + std::to_string(at_barrier) + " of " + std::to_string(n) +
                                 " threads reached the barrier");
    for (auto& f : fibers) f->state = State::ready;
    return true;
}

static void run_ready(const std::vector<unsigned>& order, unsigned low, unsigned high) {
    for (unsigned i : order) {
        if (i < low || i >= high || fibers[i]->state != State::ready) continue;
        running = fibers[i].get();
        threadIdx.x = i;
        leave_for(scheduler, running->context);
    }
    running = nullptr;
}

static void run_block_in_fibers(unsigned block, Order& order) {
    while (fibers.size() < block) fibers.push_back(std::make_unique<Fiber>());
    fibers.resize(block);
    for (unsigned i = 0; i < block; i++) {
        Fiber& f = *fibers[i];
        f.state = State::ready;
        f.thread = i;
        f.context.begin(f.stack.get(), fiber_main);
    }
    do {
        if (order.in_step()) {
            bool more = true;
            while (more) {
                run_ready(order.next(), 0, block);
                more = false;
                for (unsigned low = 0; low < block; low += kWarp) more |= release_warp(low);
            }
            continue;
        }
        // one warp after another as far as the next barrier: what a barrier should have waited for has not happened
        const std::vector<unsigned> threads = order.next();
        for (unsigned first : threads) {
            const unsigned low = first - first % kWarp;
            do run_ready(threads, low, low + kWarp);
            while (release_warp(low));
        }
    } while (release_block());
}

// The whole launch; the message of what went wrong, or nullptr.
static const char* launch(unsigned grid, unsigned block, std::size_t shared_bytes, int order, bool waits,
                          const std::function<void()>& body) {
    static std::string problem;
    try {
        if (!grid || !block || block % kWarp || block > 1024)
            throw std::runtime_error("a grid of " + std::to_string(grid) + " x " + std::to_string(block));
        std::unique_ptr<char[]> memory(new char[shared_bytes]);  // exact, so that AddressSanitizer sees its end
        block_memory = memory.get();
        kernel = &body;
        mailbox.assign(block, 0);
        gridDim.x = grid;
        blockDim.x = block;
        Order block_order(grid, order), thread_order(block, order);
        for (unsigned b : block_order.next()) {
            blockIdx.x = b;
            std::memset(memory.get(), 0xCD, shared_bytes);
            if (waits) {
                run_block_in_fibers(block, thread_order);
                continue;
            }
            for (unsigned t : thread_order.next()) {
                threadIdx.x = t;
                body();
            }
        }
        return nullptr;
    } catch (const std::exception& error) {
        running = nullptr;
        problem = error.what();
        return problem.c_str();
    }
}

template <class T, class Source>
T exchange(T value, Source source_of) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "a warp exchanges at most 8 bytes");
    const unsigned me = threadIdx.x, lane = me % kWarp, low = me - lane;
    std::memcpy(&mailbox[me], &value, sizeof(T));
    pause_as(State::at_warp);
    const unsigned source = source_of(lane);
    T received = value;
    if (source < kWarp) std::memcpy(&received, &mailbox[low + source], sizeof(T));
    pause_as(State::at_warp);
    return received;
}

template <class T, class Change>
T replace(T* place, Change change) {
    const T before = *place;
    *place = change(before);
    return before;
}

}  // namespace cpu_cuda

inline void __syncthreads() { cpu_cuda::pause_as(cpu_cuda::State::at_barrier); }
inline void __syncwarp(unsigned = 0xffffffffu) { cpu_cuda::pause_as(cpu_cuda::State::at_warp); }
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned step) {
    return cpu_cuda::exchange(value, [=](unsigned lane) { return lane + step; });
}
inline unsigned __ballot_sync(unsigned, int vote) {
    const unsigned me = threadIdx.x, low = me - me % cpu_cuda::kWarp;
    cpu_cuda::mailbox[me] = vote != 0;
    cpu_cuda::pause_as(cpu_cuda::State::at_warp);
    unsigned votes = 0;
    for (unsigned i = 0; i < cpu_cuda::kWarp; i++) votes |= static_cast<unsigned>(cpu_cuda::mailbox[low + i]) << i;
    cpu_cuda::pause_as(cpu_cuda::State::at_warp);
    return votes;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }

// As in CUDA, both arguments have one type: a call that would not compile there does not compile here.
template <class T>
T atomicAdd(T* place, T value) {
    return cpu_cuda::replace(place, [=](T before) { return static_cast<T>(before + value); });
}
template <class T>
T atomicMin(T* place, T value) {
    return cpu_cuda::replace(place, [=](T before) { return std::min(before, value); });
}
template <class T>
T atomicCAS(T* place, T expected, T value) {
    return cpu_cuda::replace(place, [=](T before) { return before == expected ? value : before; });
}
inline double __dmul_rn(double a, double b) { return a * b; }  // x86-64 without -mfma: never fused
