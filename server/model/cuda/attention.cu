// Attention on the tensor cores of every card from sm_80 on, by mma.sync.
#include "attention.cuh"

// `WARPS_` warps with `MT_` tiles of 16 rows each.
template <class T, int D, int MT_, int WARPS_> struct Mma {
    using Element = T;
    static constexpr int SIZE = D, MT = MT_, THREADS = WARPS_ * 32, ROWS = MT * WARPS_ * 16;
    using Queries = Tile<T, D, ROWS>;
    using Keys = Tile<T, D, TILE>;

    // scores += queries · keysᵀ
    static __device__ __forceinline__ void scores(float (&scores)[MT][TILE / 8][4], T *queries, T *k) {
        int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            uint32_t q[MT][4];
#pragma unroll
            for (int m = 0; m < MT; m++)
                load_matrices(q[m], Queries::chunk(queries, (warp * MT + m) * 16 + lane % 16, d * 2 + lane / 16));
#pragma unroll
            for (int n = 0; n < TILE / 16; n++) {
                uint32_t b[4];
                load_matrices(b, Keys::chunk(k, n * 16 + lane % 8 + lane / 16 * 8, d * 2 + lane / 8 % 2));
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    multiply_add<T>(scores[m][2 * n], q[m], b[0], b[1]);
                    multiply_add<T>(scores[m][2 * n + 1], q[m], b[2], b[3]);
                }
            }
        }
    }

    // out += weights · values
    static __device__ __forceinline__ void mix(float (&out)[MT][D / 8][4], float (&scores)[MT][TILE / 8][4], T *v) {
        int lane = threadIdx.x % 32;
#pragma unroll
        for (int n = 0; n < TILE / 16; n++) {
            uint32_t p[MT][4];
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float *pair = &scores[m][2 * n + i / 2][i % 2 * 2];
                    p[m][i] = pack_pair<T>(pair[0], pair[1]);
                }
#pragma unroll
            for (int d = 0; d < D / 16; d++) {
                uint32_t b[4];
                load_matrices_transposed(b, Keys::chunk(v, n * 16 + lane % 16, d * 2 + lane / 16));
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    multiply_add<T>(out[m][2 * d], p[m], b[0], b[1]);
                    multiply_add<T>(out[m][2 * d + 1], p[m], b[2], b[3]);
                }
            }
        }
    }
};

#define VISION(T, name, D)                                                                                             \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        vision_##D##_##name(const T *qkv, T *out, int n, int from, int queries, int heads) {                           \
        vision<Mma<T, D, 2, 4>>(qkv, out, n, from, queries, heads);                                                    \
    }
#define PAGED(T, name, D)                                                                                              \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        paged_##D##_##name(Cache cache, Plan plan, const T *qkv, T *out, int heads, Shares shares) {                   \
        paged<Mma<T, D, 2, 4>>(cache, plan, qkv, out, heads, shares);                                           \
    }                                                                                                                  \
    extern "C" __global__ void combine_##D##_##name(Plan plan, T *out, int heads, Shares shares) {                     \
        combine<T, D, 128>(plan, out, heads, shares);                                                                  \
    }
#define DEFINE(T, name)                                                                                                \
    VISION(T, name, 64)                                                                                                \
    VISION(T, name, 112)                                                                                               \
    PAGED(T, name, 64)                                                                                                 \
    PAGED(T, name, 128)
FOR_EACH_HALF(DEFINE)
