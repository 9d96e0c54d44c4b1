// Writes new keys, rotated, and values into the cache.
#include "plan.cuh"

// One block a row of qkv [rows, (heads + 2 · kv_heads) · size].
template <class T> __device__ void store_row(const Cache &cache, const Plan &plan, const T *qkv, int width, int size) {
    int row = blockIdx.x;
    Span span = plan.spans[plan.row_spans[row]];
    int entry = span.start + row - span.first_row;
    uint32_t page = plan.pages[span.pages_at + entry / PAGE];
    const T *from = qkv + static_cast<size_t>(row + 1) * width - 2 * cache.kv_heads * size;
    for (int i = threadIdx.x; i < cache.kv_heads * size; i += blockDim.x) {
        // i counts the pairs of the keys, then those of the values.
        int pair = i % (size / 2), head = i / (size / 2), is_value = head >= cache.kv_heads;
        const T *at = from + head * size + 2 * pair;
        float a = to_float(at[0]), b = to_float(at[1]);
        if (!is_value && pair < plan.pairs) rotate(a, b, plan.positions[row], plan.frequencies[pair]);
        T *to = cache_head<T>(cache, page, is_value, head - is_value * cache.kv_heads, size) + entry % PAGE * size;
        to[2 * pair] = from_float<T>(a);
        to[2 * pair + 1] = from_float<T>(b);
    }
}

#define DEFINE(T, name)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        store_kv_##name(Cache cache, Plan plan, const T *qkv, int width, int size) {                                   \
        store_row<T>(cache, plan, qkv, width, size);                                                                   \
    }
FOR_EACH_TYPE(DEFINE)
