// Instructions that only Hopper (sm_90a) has: bulk copies by tensor maps, barriers that count their bytes, and products of
// a warp group.
#pragma once
#include "common.cuh"

// Threads that multiply together.
constexpr int WARP_GROUP = 128;

// What the driver's cuTensorMapEncodeTiled writes: where a tensor of three dimensions lies, and the box that a copy takes.
struct alignas(128) TensorMap {
    uint64_t opaque[16];
};

using Barrier = uint64_t;

__device__ __forceinline__ void barrier_init(Barrier *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}
// Barriers become visible to the bulk copies; then the block's threads must meet.
__device__ __forceinline__ void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void barrier_arrive(Barrier *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and lets the barrier wait for so many bytes.
__device__ __forceinline__ void barrier_expect(Barrier *barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
// Waits for the end of the barrier's round of this parity: 0, then 1, then 0, …
__device__ __forceinline__ void barrier_wait(Barrier *barrier, int parity) {
    asm volatile("{\n.reg .pred done;\n"
                 "AGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra AGAIN;\n}\n" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

// Copies the map's box at (x, y, z), swizzled over 128 bytes, zeros where the tensor has nothing.
__device__ __forceinline__ void copy_box(const TensorMap &map, void *to, Barrier *barrier, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared_address(to)),
                 "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

// Copies the map's box at (x, y, z), as `copy_box` does, into both blocks of a pair, at the same place and for the same barrier
// of each.
__device__ __forceinline__ void copy_box_to_both(const TensorMap &map, void *to, Barrier *barrier, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared_address(to)),
                 "l"(&map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z), "h"(static_cast<uint16_t>(3))
                 : "memory");
}
// Blocks of a cluster: which of them this one is, their meeting, and an arrival at the barrier of one of them.
__device__ __forceinline__ int cluster_rank() {
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
__device__ __forceinline__ void cluster_meet() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive_at(Barrier *barrier, int rank) {
    asm volatile("{\n.reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(shared_address(barrier)),
                 "r"(rank)
                 : "memory");
}

// Four 8×8 matrices of 16-bit elements, each turned; lane l gives the address of row l % 8 of what becomes of matrix l / 8.
__device__ __forceinline__ void store_matrices_transposed(void *row, const uint32_t (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}

// Meeting points of some of a block's warps; 0 is __syncthreads'.
__device__ __forceinline__ void meet(int point, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(point), "r"(threads) : "memory");
}
__device__ __forceinline__ void pass(int point, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(point), "r"(threads) : "memory");
}

// A warp group's share of the registers.
template <int N> __device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

// What threads wrote to shared memory becomes visible to the products.
__device__ __forceinline__ void publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most N groups of products are under way.
template <int N> __device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// Products write their result behind the compiler's back: it must not touch it before they begin, nor move what reads it
// before they end.
template <int N> __device__ __forceinline__ void pin(float (&c)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(c[i])::"memory");
}

// What tells where an operand lies that is swizzled over 128 bytes, eight rows after eight: its address and the bytes from
// one panel of 64 columns to the next, in 16s.
__device__ __forceinline__ uint64_t operand(const void *p, int offset, int across = 16) {
    uint64_t address = ((shared_address(p) + offset) & 0x3ffff) >> 4;
    return address | static_cast<uint64_t>(across >> 4) << 16 | static_cast<uint64_t>(1024 >> 4) << 32 | 1ull << 62;
}

// c (+)= a · bᵀ: a 64×16, b N×16, both with their rows in shared memory. A thread has of c what mma.sync gives it, eight
// columns after eight.
template <class T, int N> __device__ void multiply_rows(float (&c)[N / 2], uint64_t a, uint64_t b, bool add);
// c += a · b: a 64×16 in registers as mma.sync has it, b 16×N with its rows in shared memory.
template <class T, int N> __device__ void multiply_columns(float (&c)[N / 2], const uint32_t (&a)[4], uint64_t b);

// The names of four and of eight registers, and the registers.
#define NAMES_4(a, b, c, d) "%" #a ",%" #b ",%" #c ",%" #d
#define NAMES(a, b, c, d, e, f, g, h) NAMES_4(a, b, c, d) "," NAMES_4(e, f, g, h)
#define FOUR(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define EIGHT(i) FOUR(i), FOUR(i + 4)
#define NAMES_56                                                                                                       \
    NAMES(0, 1, 2, 3, 4, 5, 6, 7) ","                                                                                  \
    NAMES(8, 9, 10, 11, 12, 13, 14, 15) ","                                                                            \
    NAMES(16, 17, 18, 19, 20, 21, 22, 23) ","                                                                          \
    NAMES(24, 25, 26, 27, 28, 29, 30, 31) ","                                                                          \
    NAMES(32, 33, 34, 35, 36, 37, 38, 39) ","                                                                          \
    NAMES(40, 41, 42, 43, 44, 45, 46, 47) ","                                                                          \
    NAMES(48, 49, 50, 51, 52, 53, 54, 55)
#define NAMES_64                                                                                                       \
    NAMES_56 ","                                                                                                       \
    NAMES(56, 57, 58, 59, 60, 61, 62, 63)
#define NAMES_68                                                                                                       \
    NAMES_64 ","                                                                                                       \
    NAMES_4(64, 65, 66, 67)
#define NAMES_88                                                                                                       \
    NAMES_64 ","                                                                                                       \
    NAMES(64, 65, 66, 67, 68, 69, 70, 71) ","                                                                          \
    NAMES(72, 73, 74, 75, 76, 77, 78, 79) ","                                                                          \
    NAMES(80, 81, 82, 83, 84, 85, 86, 87)
#define RESULT_56 EIGHT(0), EIGHT(8), EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48)
#define RESULT_64 RESULT_56, EIGHT(56)
#define RESULT_68 RESULT_64, FOUR(64)
#define RESULT_88 RESULT_64, EIGHT(64), EIGHT(72), EIGHT(80)

// R registers are N columns; the operands behind them are numbered A, B, …
#define MULTIPLY_ROWS(T, N, R, A, B, ADD)                                                                              \
    template <>                                                                                                        \
    __device__ __forceinline__ void multiply_rows<T, N>(float (&c)[R], uint64_t a, uint64_t b, bool add) {             \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #ADD ", 0;\n"                                                \
                     "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #T "." #T " {" NAMES_##R "}, %" #A ", %" #B     \
                     ", p, 1, 1, 0, 0;\n}\n"                                                                           \
                     : RESULT_##R                                                                                      \
                     : "l"(a), "l"(b), "r"(static_cast<int>(add)));                                                    \
    }
#define MULTIPLY_COLUMNS(T, N, R, A, B, C, D, E)                                                                       \
    template <>                                                                                                        \
    __device__ __forceinline__ void multiply_columns<T, N>(float (&c)[R], const uint32_t (&a)[4], uint64_t b) {        \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." #T "." #T " {" NAMES_##R "}, {%" #A ", %" #B    \
                     ", %" #C ", %" #D "}, %" #E ", 1, 1, 1, 1;\n"                                                     \
                     : RESULT_##R                                                                                      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                            \
    }
MULTIPLY_ROWS(bf16, 128, 64, 64, 65, 66)
MULTIPLY_ROWS(bf16, 136, 68, 68, 69, 70)
MULTIPLY_ROWS(bf16, 176, 88, 88, 89, 90)
MULTIPLY_ROWS(f16, 128, 64, 64, 65, 66)
MULTIPLY_ROWS(f16, 136, 68, 68, 69, 70)
MULTIPLY_ROWS(f16, 176, 88, 88, 89, 90)
MULTIPLY_COLUMNS(bf16, 112, 56, 56, 57, 58, 59, 60)
MULTIPLY_COLUMNS(bf16, 128, 64, 64, 65, 66, 67, 68)
MULTIPLY_COLUMNS(f16, 112, 56, 56, 57, 58, 59, 60)
MULTIPLY_COLUMNS(f16, 128, 64, 64, 65, 66, 67, 68)
