// Weights in blocks back to plain ones: a whole matrix, or chosen rows of a table.
#include "formats.cuh"

// out[n, k] = the rows of w, `ids` of them or, where it is null, all. Grid: blocks of units, rows.
template <class F, class T> __device__ void dequantize(const Weight &w, const uint32_t *ids, T *out, int rows) {
    constexpr int GROUPS = F::SIZE / 8;
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    if (u >= w.k / F::SIZE) return;
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        int from = ids ? ids[row] : row;
        uint32_t v[GROUPS * 4];
        F::template pairs<T>(*static_cast<const uint4 *>(F::at(w, from, u)), F::head_at(w, from, u), w, from, u, v);
        T *to = out + static_cast<size_t>(row) * w.k;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            uint32_t *four = v + g * 4;
            if (F::PAIRED) {
#pragma unroll
                for (int i = 0; i < 4; i += 2) { // 0, 2 and 1, 3 to 0, 1 and 2, 3
                    uint32_t even = four[i], odd = four[i + 1];
                    four[i] = __byte_perm(even, odd, 0x5410), four[i + 1] = __byte_perm(even, odd, 0x7632);
                }
            }
            Place place = F::place(u * GROUPS + g);
            *reinterpret_cast<uint2 *>(to + place.low) = {four[0], four[1]};
            *reinterpret_cast<uint2 *>(to + place.high) = {four[2], four[3]};
        }
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
