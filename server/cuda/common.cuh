// Types and reductions that the kernels share. Storage is bf16, f16 or f32; all arithmetic is f32.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ptx.cuh"

using bf16 = __nv_bfloat16;
using f16 = __half;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ f16 from_float<f16>(float x) { return __float2half_rn(x); }

// N elements that move together.
template <class T, int N> struct alignas(sizeof(T) * N) Pack {
    T v[N];
};

// As many elements of T as make 16 bytes.
template <class T> constexpr int WIDE = 16 / sizeof(T);

template <class T, int N> __device__ __forceinline__ Pack<T, N> load(const T *p) {
    return *reinterpret_cast<const Pack<T, N> *>(p);
}

template <class T, int N> __device__ __forceinline__ void store(T *p, const Pack<T, N> &x) {
    *reinterpret_cast<Pack<T, N> *>(p) = x;
}

// Two floats as a pair of 16-bit elements, the first in the low half.
template <class T> __device__ __forceinline__ uint32_t pack_pair(float low, float high);
template <> __device__ __forceinline__ uint32_t pack_pair<bf16>(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}
template <> __device__ __forceinline__ uint32_t pack_pair<f16>(float low, float high) {
    __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int lane = 16; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

// The sum over a block of at most 1024 threads, for every thread.
__device__ __forceinline__ float block_sum(float x) {
    __shared__ float parts[32];
    x = warp_sum(x);
    __syncthreads(); // `parts` may still be read from the last call
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < static_cast<int>(blockDim.x + 31) / 32; i++) sum += parts[i];
    return sum;
}

constexpr float LOG2_E = 1.4426950408889634f;

// x/2 · (1 + erf(x/√2)), with the error function of Abramowitz & Stegun 7.1.26 (|ε| ≤ 1.5e-7).
__device__ __forceinline__ float gelu_one(float x) {
    float z = fabsf(x) * 0.70710678118654752f;
    float t = __fdividef(1.0f, fmaf(z, 0.3275911f, 1.0f));
    float p = 1.061405429f;
    p = fmaf(p, t, -1.453152027f);
    p = fmaf(p, t, 1.421413741f);
    p = fmaf(p, t, -0.284496736f);
    p = fmaf(p, t, 0.254829592f);
    float tail = p * t * exp2_fast(-z * z * LOG2_E);
    return 0.5f * x * (x < 0.0f ? tail : 2.0f - tail); // for x < 0, 1 + erf = tail: no cancellation
}

// For a large −x the power is infinite, and x/∞ is the 0 that is meant; so is what __fdividef gives beyond 2^126.
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0f + exp2_fast(-x * LOG2_E)); }

#define FOR_EACH_TYPE(DO)                                                                                              \
    DO(bf16, bf16)                                                                                                     \
    DO(f16, f16)                                                                                                       \
    DO(float, f32)
#define FOR_EACH_HALF(DO)                                                                                              \
    DO(bf16, bf16)                                                                                                     \
    DO(f16, f16)
