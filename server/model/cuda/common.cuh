// Types and reductions that the kernels share. Storage is bf16, f16 or f32; all arithmetic is f32.
#pragma once
#include <cstddef>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ptx.cuh"

// What the host lays out too, or counts with: it asserts the same numbers (kernels/cuda/layout.rs), and a test compares them.
#define LAYOUT(type, size, alignment)                                                                                  \
    static_assert(sizeof(type) == size && alignof(type) == alignment, "the host lays out " #type " otherwise")
#define FIELD(type, field, at) static_assert(offsetof(type, field) == at, "the host has " #type "." #field " elsewhere")

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

// x · Φ(x) for a result of type T, with Φ the normal distribution, by a minimax polynomial for log₂ Φ(−z): for f32 of degree 7,
// which gives Φ(−z) to 3.3e-6 of itself for z ≤ 6 and the result to 6e-7; for 16 bits of degree 5, to 2.5e-4 for z ≤ 5.5, and
// the result to 3.4e-5. Beyond, it falls to 0.
template <class T> __device__ __forceinline__ float gelu_one(float x) {
    const float z = fabsf(x);
    float p;
    if (sizeof(T) == 4) {
        p = fmaf(-1.83536577e-6f, z, 6.1609062e-5f);
        p = fmaf(p, z, -9.30604408e-4f);
        p = fmaf(p, z, 8.50816444e-3f);
        p = fmaf(p, z, -5.39604835e-2f);
        p = fmaf(p, z, -4.58464265e-1f);
        p = fmaf(p, z, -1.15125096f);
        p = fmaf(p, z, -9.99995291e-1f);
    } else {
        p = fmaf(-2.33251922e-4f, z, 4.8697833e-3f);
        p = fmaf(p, z, -4.45990637e-2f);
        p = fmaf(p, z, -4.69680995e-1f);
        p = fmaf(p, z, -1.14626086f);
        p = fmaf(p, z, -1.00035906f);
    }
    return fmaf(-z, exp2_fast(p), fmaxf(x, 0.0f));
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
