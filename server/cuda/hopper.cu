// Attention on Hopper's tensor cores, by wgmma: two warp groups of 64 rows each, two blocks to a multiprocessor, so that
// one multiplies while the other takes exponentials.
#include "attention.cuh"
#include "wgmma.cuh"

template <class T, int D> struct Wgmma {
    using Element = T;
    static constexpr int SIZE = D, MT = 1, THREADS = 256, ROWS = 128;
    // Bytes of eight rows, and of a panel of keys.
    static constexpr int EIGHT = 8 * 128, PANEL = TILE * 128;

    static __device__ __forceinline__ void copied() { publish(); }

    static __device__ __forceinline__ void scores(float (&scores)[1][TILE / 8][4], T *queries, T *k) {
        T *own = queries + threadIdx.x / 128 * 64 * 64;
        products_begin();
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            int panel = d / 4, column = d % 4 * 16;
            multiply_rows<T>(scores[0], operand(own + panel * ROWS * 64 + column, 16, EIGHT),
                             operand(k + panel * TILE * 64 + column, 16, EIGHT), d > 0);
        }
        products_commit();
        products_wait();
    }

    static __device__ __forceinline__ void mix(float (&out)[1][D / 8][4], float (&scores)[1][TILE / 8][4], T *v) {
        uint32_t p[TILE / 16][4];
#pragma unroll
        for (int n = 0; n < TILE / 16; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float *pair = &scores[0][2 * n + i / 2][i % 2 * 2];
                p[n][i] = pack_pair<T>(pair[0], pair[1]);
            }
        products_begin();
#pragma unroll
        for (int n = 0; n < TILE / 16; n++)
            multiply_columns<T, D>(out[0], p[n], operand(v + n * 16 * 64, PANEL, EIGHT));
        products_commit();
        products_wait();
    }
};

#define VISION(T, name, D)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256, 2)                                                               \
        vision_hopper_##D##_##name(const T *qkv, T *out, int n, int from, int queries, int heads) {                    \
        vision<Wgmma<T, D>>(qkv, out, n, from, queries, heads);                                                        \
    }
#define PAGED(T, name, D)                                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        paged_hopper_##D##_##name(Cache cache, Plan plan, const T *qkv, T *out, int heads, Shares shares) {            \
        paged<Wgmma<T, D>, false>(cache, plan, qkv, out, heads, shares);                                               \
    }
#define DEFINE(T, name)                                                                                                \
    VISION(T, name, 64)                                                                                                \
    VISION(T, name, 112)                                                                                               \
    PAGED(T, name, 64)                                                                                                 \
    PAGED(T, name, 128)
FOR_EACH_HALF(DEFINE)
