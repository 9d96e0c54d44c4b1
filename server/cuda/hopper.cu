// Attention for the published model's heads on Hopper: 112 in the vision tower, 128 in the decoder.
#include "ring.cuh"

template <class T> using VisionRing = Ring<T, 112, 176, 2>;
template <class T> using PagedRing = Ring<T, 128, 128, 2>;

#define DEFINE(T, name)                                                                                                \
    extern "C" __global__ void __launch_bounds__(VisionRing<T>::THREADS, 1) vision_hopper_112_##name(                  \
        const __grid_constant__ TensorMap queries, const __grid_constant__ TensorMap keys, T *out, float *shares,      \
        int n, int from, int count, int heads, Cut cut) {                                                              \
        vision_ring<VisionRing<T>>(queries, keys, out, shares, n, from, count, heads, cut);                            \
    }                                                                                                                  \
    extern "C" __global__ void join_parts_112_##name(const float *shares, T *out, int count, int heads, Cut cut) {     \
        join_parts<T, 112, VisionRing<T>::ROWS>(shares, out, count, heads, cut);                                       \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(PagedRing<T>::THREADS, 1) paged_hopper_128_##name(                    \
        const __grid_constant__ TensorMap map, Cache cache, Plan plan, const T *qkv, T *out, int heads,                \
        Shares shares) {                                                                                               \
        paged_ring<PagedRing<T>>(map, cache, plan, qkv, out, heads, shares);                                           \
    }
FOR_EACH_HALF(DEFINE)
