// Weights in blocks back to plain ones, a whole matrix or chosen rows of a table; and products of few rows with them, for
// which that would take far longer.
#include "formats.cuh"

// out[n, k] = the rows of w, `ids` of them or, where it is null, all. Grid: blocks of units, rows.
template <class F, class T> __device__ void dequantize(const Weight &w, const uint32_t *ids, T *out, int rows) {
    constexpr int GROUPS = F::SIZE / 8;
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    if (u >= w.k / F::SIZE) return;
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        int from = ids ? ids[row] : row;
        uint32_t v[GROUPS * 4];
        F::template pairs<T>(w, from, u, v);
        T *to = out + static_cast<size_t>(row) * w.k;
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            Place place = F::place(u * GROUPS + g);
            *reinterpret_cast<uint2 *>(to + place.low) = paired<F::PAIRED>({v[4 * g], v[4 * g + 1]});
            *reinterpret_cast<uint2 *>(to + place.high) = paired<F::PAIRED>({v[4 * g + 2], v[4 * g + 3]});
        }
    }
}

// out[m, w.rows] = x[m, k] · wᵀ + bias, or out += that. A tile of the weight is the columns of an mma, 16 rows of x its
// rows, and the warps of a block share their length. Grid: tiles of w, sixteens of m.
template <class F, class T>
__device__ void few_rows(const Weight &w, const T *x, const T *bias, T *out, int m, int adds) {
    constexpr int WARPS = 8, LANES = 4, GROUPS = F::SIZE / 8;
    __shared__ float parts[WARPS][16][8];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / LANES, q = lane % LANES, units = w.k / F::SIZE;
    int row = static_cast<int>(blockIdx.x) * TILE + g, first = blockIdx.y * 16;
    // Rows that are not there are the last one again.
    const T *low = x + static_cast<size_t>(min(first + g, m - 1)) * w.k;
    const T *high = x + static_cast<size_t>(min(first + g + 8, m - 1)) * w.k;
    auto four = [&](const T *row, int at) { return paired<F::PAIRED>(*reinterpret_cast<const uint2 *>(row + at)); };
    float sums[4] = {};
    for (int round = warp * LANES; round < units; round += WARPS * LANES) {
        int u = min(round + q, units - 1);
        uint32_t v[GROUPS * 4];
        F::template pairs<T>(w, row, u, v);
#pragma unroll
        for (int i = 0; i < GROUPS; i++) {
            Place place = F::place(u * GROUPS + i);
            bool valid = round + q < units;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int at = h ? place.high : place.low;
                uint2 a = valid ? four(low, at) : uint2{0, 0}, b = valid ? four(high, at) : uint2{0, 0};
                multiply_add<T>(sums, {a.x, b.x, a.y, b.y}, v[4 * i + 2 * h], v[4 * i + 2 * h + 1]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) parts[warp][g + i / 2 * 8][q * 2 + i % 2] = sums[i];
    __syncthreads();
    int r = threadIdx.x / 8, c = threadIdx.x % 8, column = blockIdx.x * 8 + c;
    if (r >= 16 || first + r >= m || column >= w.rows) return;
    float sum = bias ? to_float(bias[column]) : 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) sum += parts[i][r][c];
    T *to = out + static_cast<size_t>(first + r) * w.rows + column;
    *to = from_float<T>(adds ? to_float(*to) + sum : sum);
}

#define FORMAT(F, format, T, name)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        dequantize_##format##_##name(Weight w, const uint32_t *ids, T *out, int rows) {                                \
        dequantize<F, T>(w, ids, out, rows);                                                                           \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        few_rows_##format##_##name(Weight w, const T *x, const T *bias, T *out, int m, int adds) {                     \
        few_rows<F, T>(w, x, bias, out, m, adds);                                                                      \
    }
#define DEFINE(T, name)                                                                                                \
    FORMAT(Q8_0, q8_0, T, name)                                                                                        \
    FORMAT(Q4_0, q4_0, T, name)                                                                                        \
    FORMAT(Q4K, q4k, T, name)
FOR_EACH_HALF(DEFINE)
