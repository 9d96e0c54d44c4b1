// Weights in blocks back to plain ones: a whole matrix, or chosen rows of a table.
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

#define FORMAT(F, format, T, name)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        dequantize_##format##_##name(Weight w, const uint32_t *ids, T *out, int rows) {                                \
        dequantize<F, T>(w, ids, out, rows);                                                                           \
    }
#define DEFINE(T, name)                                                                                                \
    FORMAT(Q8_0, q8_0, T, name)                                                                                        \
    FORMAT(Q4_0, q4_0, T, name)                                                                                        \
    FORMAT(Q4K, q4k, T, name)
FOR_EACH_HALF(DEFINE)
