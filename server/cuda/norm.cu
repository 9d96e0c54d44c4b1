// Layer norm and RMS norm: one block a row, which it keeps in registers. Sums of squares are taken around the mean.
#include "common.cuh"

constexpr int THREADS = 256;
// Elements of a row that a thread keeps: rows of up to THREADS · KEPT = 8192.
constexpr int KEPT = 32;

enum Kind { LAYER, ADD_LAYER, RMS };

// out = norm(y) · weight[0..n] + weight[n..2n], or x += that, or out = rms_norm(y) · weight[0..n].
template <class T, int V, Kind KIND> __device__ void norm_row(T *out, const T *y, const T *weight, int n, float eps) {
    constexpr int ROUNDS = KEPT / V;
    size_t row = static_cast<size_t>(blockIdx.x) * n;
    float kept[ROUNDS][V];
    float sum = 0;
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        int column = (r * THREADS + threadIdx.x) * V;
        if (column < n) {
            auto v = load<T, V>(y + row + column);
#pragma unroll
            for (int i = 0; i < V; i++) {
                kept[r][i] = to_float(v.v[i]);
                sum += KIND == RMS ? kept[r][i] * kept[r][i] : kept[r][i];
            }
        }
    }
    float mean = 0, square = block_sum(sum) / n;
    if (KIND != RMS) {
        mean = square;
        sum = 0;
#pragma unroll
        for (int r = 0; r < ROUNDS; r++)
            if ((r * THREADS + threadIdx.x) * V < n)
#pragma unroll
                for (int i = 0; i < V; i++) sum += (kept[r][i] - mean) * (kept[r][i] - mean);
        square = block_sum(sum) / n;
    }
    float inverse = rsqrtf(square + eps);
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        int column = (r * THREADS + threadIdx.x) * V;
        if (column < n) {
            auto scale = load<T, V>(weight + column);
            Pack<T, V> shift = {}, v = {};
            if (KIND != RMS) shift = load<T, V>(weight + n + column);
            if (KIND == ADD_LAYER) v = load<T, V>(out + row + column);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float z = (kept[r][i] - mean) * inverse * to_float(scale.v[i]);
                if (KIND != RMS) z += to_float(shift.v[i]);
                if (KIND == ADD_LAYER) z += to_float(v.v[i]);
                v.v[i] = from_float<T>(z);
            }
            store<T, V>(out + row + column, v);
        }
    }
}

#define DEFINE(T, name)                                                                                                \
    DEFINE_WIDTH(T, name##_wide, WIDE<T>)                                                                              \
    DEFINE_WIDTH(T, name##_narrow, 1)
#define DEFINE_WIDTH(T, name, V)                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        layer_norm_##name(T *out, const T *y, const T *weight, int n, float eps) {                                     \
        norm_row<T, V, LAYER>(out, y, weight, n, eps);                                                                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        add_layer_norm_##name(T *out, const T *y, const T *weight, int n, float eps) {                                 \
        norm_row<T, V, ADD_LAYER>(out, y, weight, n, eps);                                                             \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        rms_norm_##name(T *out, const T *y, const T *weight, int n, float eps) {                                       \
        norm_row<T, V, RMS>(out, y, weight, n, eps);                                                                   \
    }
FOR_EACH_TYPE(DEFINE)
