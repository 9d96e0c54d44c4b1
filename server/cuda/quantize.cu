// Plain weights into ggml's blocks of q8_0, q4_0 and q4_K, laid out as formats.cuh has them. Each operation is the
// CPU's (candle's k_quants), in its order and rounded alike, so that the same bytes come out. A thread takes 32 weights.
#include "common.cuh"

constexpr int RUN = 32;

// As Rust's `as i32` of a rounded number: half away from zero, NaN to 0, what is too large to the largest.
__device__ __forceinline__ int nearest(float x) { return __float2int_rz(roundf(x)); }

__device__ __forceinline__ int between(int x, int least, int most) { return min(max(x, least), most); }

// The weights from x on, as f32.
template <class T> __device__ __forceinline__ void read(const T *x, float (&v)[RUN]) {
#pragma unroll
    for (int i = 0; i < RUN; i += WIDE<T>) {
        auto pack = load<T, WIDE<T>>(x + i);
#pragma unroll
        for (int j = 0; j < WIDE<T>; j++) v[i + j] = to_float(pack.v[j]);
    }
}

template <class T> __device__ void quantize_q8_0(const T *x, unsigned char *data, f16 *scales, size_t runs) {
    size_t run = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (run >= runs) return;
    float v[RUN], most = 0;
    read(x + run * RUN, v);
#pragma unroll
    for (int i = 0; i < RUN; i++) most = fmaxf(most, fabsf(v[i]));
    float d = __fdiv_rn(most, 127.0f), inverse = d != 0 ? __fdiv_rn(1.0f, d) : 0;
    scales[run] = __float2half_rn(d);
    uint32_t quants[8] = {};
#pragma unroll
    for (int i = 0; i < RUN; i++)
        quants[i / 4] |= (between(nearest(__fmul_rn(v[i], inverse)), -128, 127) & 255) << (i % 4 * 8);
    auto out = reinterpret_cast<uint4 *>(data + run * RUN);
    out[0] = {quants[0], quants[1], quants[2], quants[3]};
    out[1] = {quants[4], quants[5], quants[6], quants[7]};
}

template <class T> __device__ void quantize_q4_0(const T *x, unsigned char *data, f16 *scales, size_t runs) {
    size_t run = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (run >= runs) return;
    float v[RUN], size = 0, most = 0;
    read(x + run * RUN, v);
#pragma unroll
    for (int i = 0; i < RUN; i++)
        if (size < fabsf(v[i])) {
            size = fabsf(v[i]);
            most = v[i];
        }
    float d = __fdiv_rn(most, -8.0f), inverse = d != 0 ? __fdiv_rn(1.0f, d) : 0;
    scales[run] = __float2half_rn(d);
    uint32_t quants[4] = {};
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        int q = between(__float2int_rz(__fadd_rn(__fmul_rn(v[i], inverse), 8.5f)), 0, 15);
        quants[i % 16 / 4] |= q << (i % 4 * 8 + i / 16 * 4);
    }
    *reinterpret_cast<uint4 *>(data + run * 16) = {quants[0], quants[1], quants[2], quants[3]};
}

// Scale and minimum of 32 weights of 0..15 each, by rounding to them and fitting again, up to five times.
__device__ __forceinline__ void fit(const float (&v)[RUN], float &scale, float &least) {
    constexpr int TRIES = 5;
    float low = v[0], high = v[0];
#pragma unroll
    for (int i = 1; i < RUN; i++) {
        low = fminf(low, v[i]);
        high = fmaxf(high, v[i]);
    }
    scale = least = 0;
    if (high == low) return;
    low = fminf(low, 0.0f);
    float inverse = __fdiv_rn(15.0f, __fsub_rn(high, low));
    uint32_t chosen[4] = {}; // 4 bits each
    for (int attempt = 0; attempt < TRIES; attempt++) {
        float products = 0;
        int squares = 0;
        uint32_t now[4] = {};
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            float above = __fsub_rn(v[i], low);
            int q = between(nearest(__fmul_rn(inverse, above)), 0, 15);
            now[i / 8] |= q << (i % 8 * 4);
            products = __fadd_rn(products, __fmul_rn(above, static_cast<float>(q)));
            squares += q * q;
        }
        scale = __fdiv_rn(products, static_cast<float>(squares));
        float sum = 0;
#pragma unroll
        for (int i = 0; i < RUN; i++)
            sum = __fadd_rn(sum, __fsub_rn(v[i], __fmul_rn(scale, static_cast<float>(now[i / 8] >> (i % 8 * 4) & 15))));
        low = __fmul_rn(sum, 1.0f / RUN);
        if (low > 0) low = 0;
        inverse = __fdiv_rn(1.0f, scale);
        bool same = true;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            same &= now[i] == chosen[i];
            chosen[i] = now[i];
        }
        if (same) break;
    }
    least = -low;
}

// What the eight threads of a block of 256 hold at most, and at least 0.
__device__ __forceinline__ float most_of_block(float x) {
    x = fmaxf(x, 0.0f);
#pragma unroll
    for (int lane = 4; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

template <class T> __device__ void quantize_q4k(const T *x, unsigned char *data, size_t runs) {
    size_t run = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    // Threads beyond the end compute the last block once more: all of a warp must meet below.
    bool beyond = run >= runs;
    if (beyond) run = runs - 8 + threadIdx.x % 8;
    float v[RUN], scale, least;
    read(x + run * RUN, v);
    fit(v, scale, least);
    float most_scale = most_of_block(scale), most_least = most_of_block(least);
    float to_scale = most_scale > 0 ? __fdiv_rn(63.0f, most_scale) : 0;
    float to_least = most_least > 0 ? __fdiv_rn(63.0f, most_least) : 0;
    int s = min(nearest(__fmul_rn(to_scale, scale)), 63) & 255, m = min(nearest(__fmul_rn(to_least, least)), 63) & 255;
    f16 d = __float2half_rn(__fdiv_rn(most_scale, 63.0f)), d_least = __float2half_rn(__fdiv_rn(most_least, 63.0f));

    // Each thread's part of the twelve bytes of scales and minima; see Q4K in formats.cuh.
    int j = threadIdx.x % 8;
    uint32_t head[3] = {};
    if (j < 4) {
        head[0] = (s & 63) << (j * 8);
        head[1] = (m & 63) << (j * 8);
    } else {
        head[0] = (s >> 4 & 3) << (j % 4 * 8 + 6);
        head[1] = (m >> 4 & 3) << (j % 4 * 8 + 6);
        head[2] = ((s & 15) | (m & 15) << 4) << (j % 4 * 8);
    }
#pragma unroll
    for (int i = 0; i < 3; i++)
#pragma unroll
        for (int lane = 4; lane > 0; lane /= 2) head[i] |= __shfl_xor_sync(0xffffffffu, head[i], lane);

    float step = __fmul_rn(__half2float(d), static_cast<float>(s)), shift = 0;
    uint32_t quants[8] = {}; // 8 bits each
    if (step != 0) {
        shift = __fmul_rn(__half2float(d_least), static_cast<float>(m));
#pragma unroll
        for (int i = 0; i < RUN; i++)
            quants[i / 4] |= between(nearest(__fdiv_rn(__fadd_rn(v[i], shift), step)), 0, 15) << (i % 4 * 8);
    }
    // Two threads share 32 bytes, low halves and high ones: each writes 16.
    uint32_t out[4];
    bool high = j % 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, high ? quants[i] : quants[i + 4], 1);
        out[i] = high ? other | quants[i + 4] << 4 : quants[i] | other << 4;
    }
    if (beyond) return;
    auto block = reinterpret_cast<uint4 *>(data + run / 8 * 144);
    block[1 + j] = {out[0], out[1], out[2], out[3]};
    if (j == 0) {
        Pack<f16, 2> scales = {{d, d_least}};
        block[0] = {*reinterpret_cast<uint32_t *>(&scales), head[0], head[1], head[2]};
    }
}

// Stored blocks of `words` 16-bit words, of which the first is the scale, into quants and scales.
extern "C" __global__ void __launch_bounds__(256)
    split_blocks(const uint16_t *blocks, uint16_t *quants, uint16_t *scales, size_t count, int words) {
    size_t at = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (at >= count * words) return;
    size_t block = at / words;
    int word = static_cast<int>(at - block * words);
    if (word == 0) scales[block] = blocks[at];
    else quants[block * (words - 1) + word - 1] = blocks[at];
}

#define DEFINE(T, name)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        quantize_q8_0_##name(const T *x, unsigned char *data, f16 *scales, size_t runs) {                              \
        quantize_q8_0(x, data, scales, runs);                                                                          \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        quantize_q4_0_##name(const T *x, unsigned char *data, f16 *scales, size_t runs) {                              \
        quantize_q4_0(x, data, scales, runs);                                                                          \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        quantize_q4k_##name(const T *x, unsigned char *data, f16 *, size_t runs) {                                     \
        quantize_q4k(x, data, runs);                                                                                   \
    }
FOR_EACH_TYPE(DEFINE)
