// Weights in blocks back to plain ones, a whole matrix or chosen rows of a table; and products of a few rows with them, for
// which that would take far longer.
#include "formats.cuh"

// Chunk c of a row, 8 weights.
template <class F> __device__ __forceinline__ void plain(const Weight &w, int row, int c, float (&out)[8]) {
    int place = F::place(c), u = place / (F::SIZE / 8), p = place % (F::SIZE / 8);
    uint4 v = *static_cast<const uint4 *>(F::at(w, row, u));
    F::values(v, p, out);
    auto scale = F::scale(w, row, u);
    // As the only one of its unit with an x that is not 0, each weight comes out by itself.
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float sums[2] = {}, totals[2] = {};
        sums[p / 2] = out[i];
        totals[p / 2] = 1;
        out[i] = F::finish(scale, sums, totals);
    }
}

// out[n, k] = the rows of w, `ids` of them or, where it is null, all. Grid: blocks of chunks, rows.
template <class F, class T> __device__ void dequantize(const Weight &w, const uint32_t *ids, T *out, int rows) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= w.k / 8) return;
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        float values[8];
        plain<F>(w, ids ? ids[row] : row, c, values);
        Pack<T, 8> pack;
#pragma unroll
        for (int i = 0; i < 8; i++) pack.v[i] = from_float<T>(values[i]);
        store<T, 8>(out + static_cast<size_t>(row) * w.k + c * 8, pack);
    }
}

// The chunk of a row that holds the p-th 8 weights of the unit u: the reverse of `place`.
template <class F> __device__ __forceinline__ int chunk(int u, int p) { return u * (F::SIZE / 8) + p; }
template <> __device__ __forceinline__ int chunk<Q4K>(int u, int p) { return u / 2 * 8 + p / 2 * 4 + u % 2 * 2 + p % 2; }

// out[M, stride], of which w.rows are written = x[M, k] · wᵀ + bias. A warp takes a row of the weight.
template <class F, class T, int M>
__device__ void few_rows(const Weight &w, const T *x, const T *bias, T *out, int stride) {
    constexpr int PARTS = F::SIZE / 8, HALVES = (PARTS + 1) / 2;
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, units = w.k / F::SIZE;
    if (row >= w.rows) return;
    float sums[M] = {};
    for (int u = threadIdx.x % 32; u < units; u += 32) {
        uint4 v = *static_cast<const uint4 *>(F::at(w, row, u));
        auto scale = F::scale(w, row, u);
        float part[M][HALVES] = {}, total[M][HALVES] = {};
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            float values[8];
            F::values(v, p, values);
#pragma unroll
            for (int m = 0; m < M; m++) {
                auto input = load<T, 8>(x + static_cast<size_t>(m) * w.k + chunk<F>(u, p) * 8);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    float value = to_float(input.v[i]);
                    part[m][p / 2] = fmaf(values[i], value, part[m][p / 2]);
                    if (F::TOTALS) total[m][p / 2] += value;
                }
            }
        }
#pragma unroll
        for (int m = 0; m < M; m++) sums[m] += F::finish(scale, part[m], total[m]);
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
        float sum = warp_sum(sums[m]) + (bias ? to_float(bias[row]) : 0.0f);
        if (threadIdx.x % 32 == 0) out[static_cast<size_t>(m) * stride + row] = from_float<T>(sum);
    }
}

#define FEW_ROWS(F, format, T, name, M)                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        few_rows_##format##_##name##_##M(Weight w, const T *x, const T *bias, T *out, int stride) {                    \
        few_rows<F, T, M>(w, x, bias, out, stride);                                                                    \
    }
#define FORMAT(F, format, T, name)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        dequantize_##format##_##name(Weight w, const uint32_t *ids, T *out, int rows) {                                \
        dequantize<F, T>(w, ids, out, rows);                                                                           \
    }                                                                                                                  \
    FEW_ROWS(F, format, T, name, 1)                                                                                    \
    FEW_ROWS(F, format, T, name, 2)                                                                                    \
    FEW_ROWS(F, format, T, name, 4)
#define DEFINE(T, name)                                                                                                \
    FORMAT(Q8_0, q8_0, T, name)                                                                                        \
    FORMAT(Q4_0, q4_0, T, name)                                                                                        \
    FORMAT(Q4K, q4k, T, name)
FOR_EACH_HALF(DEFINE)
