// Biases, activations, gathering rows, cutting pictures into patches. One block takes a range of columns and several rows.
#include "common.cuh"

// x[rows, n] += bias[n], then gelu where GELU.
template <class T, int V, bool GELU>
__device__ void bias_rows(T *x, const T *bias, int rows, int n) {
    int column = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (column >= n) return;
    auto b = load<T, V>(bias + column);
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        T *at = x + static_cast<size_t>(row) * n + column;
        auto v = load<T, V>(at);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float y = to_float(v.v[i]) + to_float(b.v[i]);
            v.v[i] = from_float<T>(GELU ? gelu_one<T>(y) : y);
        }
        store<T, V>(at, v);
    }
}

// out[rows, n] = silu(x[rows, 0..n]) · x[rows, n..2n].
template <class T, int V> __device__ void swiglu_rows(const T *x, T *out, int rows, int n) {
    int column = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (column >= n) return;
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        const T *at = x + static_cast<size_t>(row) * 2 * n + column;
        auto gate = load<T, V>(at), up = load<T, V>(at + n);
#pragma unroll
        for (int i = 0; i < V; i++) gate.v[i] = from_float<T>(silu(to_float(gate.v[i])) * to_float(up.v[i]));
        store<T, V>(out + static_cast<size_t>(row) * n + column, gate);
    }
}

// out[rows, n] = gelu(x).
template <class T, int V> __device__ void gelu_rows(const T *x, T *out, int rows, int n) {
    int column = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (column >= n) return;
    for (int row = blockIdx.y; row < rows; row += gridDim.y) {
        size_t at = static_cast<size_t>(row) * n + column;
        auto v = load<T, V>(x + at);
#pragma unroll
        for (int i = 0; i < V; i++) v.v[i] = from_float<T>(gelu_one<T>(to_float(v.v[i])));
        store<T, V>(out + at, v);
    }
}

// out[rows, n] = table[ids[row]].
template <class T, int V> __device__ void gather_rows(const T *table, const uint32_t *ids, T *out, int rows, int n) {
    int column = (blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (column >= n) return;
    for (int row = blockIdx.y; row < rows; row += gridDim.y)
        store<T, V>(out + static_cast<size_t>(row) * n + column,
                    load<T, V>(table + static_cast<size_t>(ids[row]) * n + column));
}

// out[grid · grid, 3 · patch²] = the patches of pixels[size, size, 3], each as channel, y, x, by values[3, 256].
template <class T> __device__ void patch_rows(const uint8_t *pixels, const float *values, T *out, int size, int patch) {
    int at = blockIdx.x * blockDim.x + threadIdx.x, grid = size / patch, row = 3 * patch * patch;
    if (at >= grid * grid * row) return;
    int p = at / row, i = at % row, channel = i / (patch * patch), y = i / patch % patch, x = i % patch;
    int pixel = (p / grid * patch + y) * size + p % grid * patch + x;
    out[at] = from_float<T>(values[channel * 256 + pixels[3 * pixel + channel]]);
}

#define DEFINE(T, name)                                                                                                \
    DEFINE_WIDTH(T, name##_wide, WIDE<T>)                                                                              \
    DEFINE_WIDTH(T, name##_narrow, 1)
#define DEFINE_WIDTH(T, name, V)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256) add_bias_##name(T *x, const T *bias, int rows, int n) {          \
        bias_rows<T, V, false>(x, bias, rows, n);                                                                      \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) bias_gelu_##name(T *x, const T *bias, int rows, int n) {         \
        bias_rows<T, V, true>(x, bias, rows, n);                                                                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) swiglu_##name(const T *x, T *out, int rows, int n) {             \
        swiglu_rows<T, V>(x, out, rows, n);                                                                            \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256) gelu_##name(const T *x, T *out, int rows, int n) {               \
        gelu_rows<T, V>(x, out, rows, n);                                                                              \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        gather_##name(const T *table, const uint32_t *ids, T *out, int rows, int n) {                                  \
        gather_rows<T, V>(table, ids, out, rows, n);                                                                   \
    }
FOR_EACH_TYPE(DEFINE)

#define DEFINE_PATCHES(T, name)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        patches_##name(const uint8_t *pixels, const float *values, T *out, int size, int patch) {                      \
        patch_rows(pixels, values, out, size, patch);                                                                  \
    }
FOR_EACH_TYPE(DEFINE_PATCHES)
