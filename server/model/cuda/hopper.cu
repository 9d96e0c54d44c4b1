// What Hopper does its own way: attention for the published model's heads, 112 in the vision tower and 128 in the decoder, and
// the products that something follows element by element.
#include "product.cuh"
#include "ring.cuh"

constexpr int VISION_KEYS = 176, PAGED_KEYS = 128;
template <class T> using VisionRing = Ring<T, 112, VISION_KEYS, 2>;
template <class T> using PagedRing = Ring<T, 128, PAGED_KEYS, 2>;
// The published model's prefill of a picture, 1620 rows, is 12 tiles of 136; its pictures, 6401, are 48.
constexpr int PRODUCT_ROWS = 136;
template <class T> using ProductTiles = Tiles<T, PRODUCT_ROWS>;
LAYOUT(VisionRing<bf16>, 213064, 8);
LAYOUT(PagedRing<bf16>, 163912, 8);
LAYOUT(ProductTiles<bf16>, 225344, 8);

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
    }                                                                                                                  \
    extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(ProductTiles<T>::THREADS, 1)                \
        product_gelu_##name(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weights,            \
                            T *out, int stride, const T *bias, int rows, int n, int depth, int band) {                 \
        product_tiles<ProductTiles<T>>(x, weights, out, stride, GeluOfSum<T>{bias, n}, rows, n, depth, band);          \
    }                                                                                                                  \
    extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(ProductTiles<T>::THREADS, 1)                \
        product_swiglu_##name(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weights,          \
                              T *out, int stride, int rows, int n, int depth, int band) {                              \
        product_tiles<ProductTiles<T>>(x, weights, out, stride, SwigluOfSums<T>{}, rows, n, depth, band);              \
    }
FOR_EACH_HALF(DEFINE)
