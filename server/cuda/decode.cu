// The products of a decode step, one or two rows at a time, with all that stands before and behind them: such a step
// reads every weight once and does little else, so that what counts is that reading never stops.
//
// The residual stream is f32. A warp takes one row of the weight (of a gated product, one of the gate half and its
// partner); the inputs wait in shared memory as 16-bit elements, in the order in which the lanes will want them.
#include "formats.cuh"

constexpr int THREADS = 256, WARPS = THREADS / 32;
// Units of a row that a lane has under way at once.
constexpr int AHEAD = 4;

enum Mode {
    NORM_BIAS,  // out[m, rows] = T(w · rms_norm(x) + bias)
    NORM_GATED, // out[m, rows / 2] = T(silu(first half) · second half) of w · rms_norm(x)
    NORM_F32,   // out[m, rows] = f32(w · rms_norm(x))
    ADD,        // x[m, rows] += w · input
};

struct Product {
    Weight weight;
    const void *input; // the residual stream, f32 [m, k]; of ADD: T [m, k]
    const void *norm;  // T [k]
    const void *bias;  // T [rows] or null
    void *out;
    float eps;
};

// The inputs to shared memory: 16-byte chunk c of row m at [m][place(c)], normed where NORM.
template <class F, class T, int M, bool NORM>
__device__ __forceinline__ void stage(const Product &p, T *staged, float *totals) {
    int k = p.weight.k, chunks = k / 8;
    constexpr int PARTS = F::SIZE / 8;
    // Lane l of the warp's i-th round reads unit 32 · i + l: its chunks stand so that a warp reads 512 bytes in a row.
    auto spot = [](int place) {
        int u = place / PARTS, part = place % PARTS;
        return ((u / 32) * PARTS + part) * 32 + u % 32;
    };
    int room = (chunks + 32 * PARTS - 1) / (32 * PARTS) * (32 * PARTS);
#pragma unroll
    for (int m = 0; m < M; m++) {
        float inverse = 1;
        if (NORM) {
            const float *x = static_cast<const float *>(p.input) + static_cast<size_t>(m) * k;
            float sum = 0;
            for (int i = threadIdx.x; i < k / 4; i += THREADS) {
                auto v = load<float, 4>(x + i * 4);
                sum += v.v[0] * v.v[0] + v.v[1] * v.v[1] + v.v[2] * v.v[2] + v.v[3] * v.v[3];
            }
            inverse = rsqrtf(block_sum(sum) / k + p.eps);
        }
        for (int c = threadIdx.x; c < chunks; c += THREADS) {
            Pack<T, 8> pack;
            size_t at = static_cast<size_t>(m) * k + c * 8;
            if (NORM) {
                auto low = load<float, 4>(static_cast<const float *>(p.input) + at);
                auto high = load<float, 4>(static_cast<const float *>(p.input) + at + 4);
                auto scale = load<T, 8>(static_cast<const T *>(p.norm) + c * 8);
#pragma unroll
                for (int i = 0; i < 8; i++)
                    pack.v[i] = from_float<T>((i < 4 ? low.v[i % 4] : high.v[i % 4]) * inverse * to_float(scale.v[i]));
            } else {
                pack = load<T, 8>(static_cast<const T *>(p.input) + at);
            }
            store<T, 8>(staged + (m * room + spot(F::place(c))) * 8, pack);
        }
    }
    __syncthreads();
    if constexpr (F::TOTALS) { // of every two chunks
        for (int i = threadIdx.x; i < M * chunks / 2; i += THREADS) {
            int m = i / (chunks / 2), pair = i % (chunks / 2), u = pair / (PARTS / 2), part = pair % (PARTS / 2);
            float total = 0;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                auto v = load<T, 8>(staged + (m * room + spot(u * PARTS + part * 2 + j)) * 8);
#pragma unroll
                for (int l = 0; l < 8; l++) total += to_float(v.v[l]);
            }
            totals[m * (room / 2) + ((u / 32) * (PARTS / 2) + part) * 32 + u % 32] = total;
        }
        __syncthreads();
    }
}

template <class F, class T, int M, Mode MODE> __device__ __forceinline__ void product(const Product &p) {
    constexpr int ROWS = MODE == NORM_GATED ? 2 : 1, PARTS = F::SIZE / 8, HALVES = (PARTS + 1) / 2;
    SHARED_MEMORY(memory);
    T *staged = reinterpret_cast<T *>(memory);
    int lane = threadIdx.x % 32, units = p.weight.k / F::SIZE, rounds = (units + 31) / 32, room = rounds * 32 * PARTS;
    float *totals = reinterpret_cast<float *>(staged + M * room * 8);
    int count = p.weight.rows / ROWS, first = blockIdx.x * WARPS + threadIdx.x / 32, row = min(first, count - 1);

    uint4 ahead[AHEAD][ROWS];
    typename F::Scale scales[AHEAD][ROWS];
    auto fetch = [&](int slot, int round) {
        int u = min(round * 32 + lane, units - 1);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            ahead[slot][r] = load_streaming(F::at(p.weight, row + r * count, u));
            scales[slot][r] = F::scale(p.weight, row + r * count, u);
        }
    };
    // The weights depend on nobody: their reading begins before the inputs are there.
#pragma unroll
    for (int i = 0; i < AHEAD; i++) fetch(i, min(i, rounds - 1));
    wait_for_previous();
    let_next_begin();
    stage<F, T, M, MODE != ADD>(p, staged, totals);

    float sums[ROWS][M] = {};
    for (int round = 0; round < rounds; round += AHEAD) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (round + i >= rounds) break;
            bool mine = (round + i) * 32 + lane < units;
            float part[ROWS][M][HALVES] = {}, total[M][HALVES];
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int h = 0; h < HALVES; h++)
                    total[m][h] = F::TOTALS ? totals[m * (room / 2) + ((round + i) * HALVES + h) * 32 + lane] : 0;
#pragma unroll
            for (int q = 0; q < PARTS; q++) {
                float x[M][8];
#pragma unroll
                for (int m = 0; m < M; m++) {
                    auto v = load<T, 8>(staged + (m * room + ((round + i) * PARTS + q) * 32 + lane) * 8);
#pragma unroll
                    for (int j = 0; j < 8; j++) x[m][j] = to_float(v.v[j]);
                }
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    float w[8];
                    F::values(ahead[i][r], q, w);
#pragma unroll
                    for (int m = 0; m < M; m++)
#pragma unroll
                        for (int j = 0; j < 8; j++) part[r][m][q / 2] = fmaf(w[j], x[m][j], part[r][m][q / 2]);
                }
            }
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int m = 0; m < M; m++)
                    if (mine) sums[r][m] += F::finish(scales[i][r], part[r][m], total[m]);
            if (round + i + AHEAD < rounds) fetch(i, round + i + AHEAD);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int m = 0; m < M; m++) sums[r][m] = warp_sum(sums[r][m]);
    if (lane != 0 || first >= count) return;
#pragma unroll
    for (int m = 0; m < M; m++) {
        size_t at = static_cast<size_t>(m) * count + row;
        if (MODE == NORM_BIAS) {
            float bias = p.bias ? to_float(static_cast<const T *>(p.bias)[row]) : 0;
            static_cast<T *>(p.out)[at] = from_float<T>(sums[0][m] + bias);
        } else if (MODE == NORM_GATED) {
            static_cast<T *>(p.out)[at] = from_float<T>(silu(sums[0][m]) * sums[ROWS - 1][m]);
        } else if (MODE == NORM_F32) {
            static_cast<float *>(p.out)[at] = sums[0][m];
        } else {
            static_cast<float *>(p.out)[at] += sums[0][m];
        }
    }
}

// out[m, n] = table[ids[m]] in f32. Grid: m.
template <class T> __device__ void embed_rows(const T *table, const uint32_t *ids, float *out, int n) {
    wait_for_previous();
    let_next_begin();
    const T *row = table + static_cast<size_t>(ids[blockIdx.x]) * n;
    for (int i = threadIdx.x; i < n; i += blockDim.x) out[static_cast<size_t>(blockIdx.x) * n + i] = to_float(row[i]);
}

// The same from 16-bit rows that were gathered before.
template <class T> __device__ void widen(const T *x, float *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = to_float(x[i]);
}

#define MODES(F, format, T, name, M)                                                                                   \
    MODE_OF(F, format, T, name, M, NORM_BIAS, norm_bias)                                                               \
    MODE_OF(F, format, T, name, M, NORM_GATED, norm_gated)                                                             \
    MODE_OF(F, format, T, name, M, NORM_F32, norm_f32)                                                                 \
    MODE_OF(F, format, T, name, M, ADD, add)
#define MODE_OF(F, format, T, name, M, MODE, mode)                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) mode##_##M##_##format##_##name(Product p) {                  \
        product<F, T, M, MODE>(p);                                                                                     \
    }
#define FORMAT(F, format, T, name)                                                                                     \
    MODES(F, format, T, name, 1)                                                                                       \
    MODES(F, format, T, name, 2)
#define DEFINE(T, name)                                                                                                \
    FORMAT(Dense<T>, dense, T, name)                                                                                   \
    FORMAT(Q8_0, q8_0, T, name)                                                                                        \
    FORMAT(Q4_0, q4_0, T, name)                                                                                        \
    FORMAT(Q4K, q4k, T, name)                                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        embed_##name(const T *table, const uint32_t *ids, float *out, int n) {                                         \
        embed_rows<T>(table, ids, out, n);                                                                             \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS) widen_##name(const T *x, float *out, int n) {                \
        widen<T>(x, out, n);                                                                                           \
    }
FOR_EACH_HALF(DEFINE)
