// Layer norm and RMS norm. The threads of a row, a warp's or, of a longer one, a block's, keep it in registers, and ask for all
// that they read before they need any of it. Sums of squares are taken around the mean.
#include "common.cuh"

constexpr int THREADS = 256;
// Elements of a row at most that a warp or a block has. The host knows them too.
constexpr int SHORT = 2048, LONGEST = 8192;

enum Kind { LAYER, ADD_LAYER, RMS };

// out = norm(y) · weight[0..n] + weight[n..2n], or x += that, or out = rms_norm(y) · weight[0..n]. LANES threads share a row.
template <class T, int V, Kind KIND, int LANES>
__device__ void norm_row(T *out, const T *y, const T *weight, int rows, int n, float eps) {
    constexpr int PACKS = (LANES == 32 ? SHORT : LONGEST) / LANES / V;
    int row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    if (row >= rows) return; // a whole warp, since a block has one row
    auto sum_over_row = [](float x) { return LANES == 32 ? warp_sum(x) : block_sum(x); };
    auto for_packs = [&](const auto &f) {
#pragma unroll
        for (int p = 0; p < PACKS; p++) {
            int column = (p * LANES + lane) * V;
            if (column < n) f(p, column);
        }
    };
    y += static_cast<size_t>(row) * n, out += static_cast<size_t>(row) * n;
    Pack<T, V> kept[PACKS], onto[KIND == ADD_LAYER ? PACKS : 1];
    for_packs([&](int p, int column) { kept[p] = load<T, V>(y + column); });
    if (KIND == ADD_LAYER) for_packs([&](int p, int column) { onto[p] = load<T, V>(out + column); });
    float mean = 0, sum = 0;
    if (KIND != RMS) {
        for_packs([&](int p, int) {
#pragma unroll
            for (int i = 0; i < V; i++) sum += to_float(kept[p].v[i]);
        });
        mean = sum_over_row(sum) / n, sum = 0;
    }
    for_packs([&](int p, int) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            float off = to_float(kept[p].v[i]) - mean;
            sum += off * off;
        }
    });
    float inverse = rsqrtf(sum_over_row(sum) / n + eps);
    for_packs([&](int p, int column) {
        auto scale = load<T, V>(weight + column);
        Pack<T, V> shift = {}, v;
        if (KIND != RMS) shift = load<T, V>(weight + n + column);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float z = (to_float(kept[p].v[i]) - mean) * inverse * to_float(scale.v[i]);
            if (KIND != RMS) z += to_float(shift.v[i]);
            if (KIND == ADD_LAYER) z += to_float(onto[p].v[i]);
            v.v[i] = from_float<T>(z);
        }
        store<T, V>(out + column, v);
    });
}

#define DEFINE(T, name)                                                                                                \
    DEFINE_WIDTH(T, name##_short, WIDE<T>, 32)                                                                         \
    DEFINE_WIDTH(T, name##_wide, WIDE<T>, THREADS)                                                                     \
    DEFINE_WIDTH(T, name##_narrow, 1, THREADS)
#define DEFINE_WIDTH(T, name, V, LANES)                                                                                \
    DEFINE_KIND(layer_norm, T, name, V, LANES, LAYER)                                                                  \
    DEFINE_KIND(add_layer_norm, T, name, V, LANES, ADD_LAYER)                                                          \
    DEFINE_KIND(rms_norm, T, name, V, LANES, RMS)
#define DEFINE_KIND(what, T, name, V, LANES, KIND)                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
        what##_##name(T *out, const T *y, const T *weight, int rows, int n, float eps) {                               \
        norm_row<T, V, KIND, LANES>(out, y, weight, rows, n, eps);                                                     \
    }
FOR_EACH_TYPE(DEFINE)
