// Attention for every head size and type: one warp a query and head. Slow; `attention.cu` has the sizes that matter.
#include "plan.cuh"

// Elements of a head that a lane keeps: heads of up to 32 · KEPT.
constexpr int KEPT = 8;

// A query's running result: lane l holds the elements l, l + 32, …
struct Running {
    float out[KEPT] = {};
    float most = -INFINITY, sum = 0;

    template <class T> __device__ void see(const float (&q)[KEPT], const T *key, const T *value, int size) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            int d = threadIdx.x % 32 + 32 * i;
            if (d < size) score += q[i] * to_float(key[d]);
        }
        score = warp_sum(score);
        float next = fmaxf(most, score);
        float keep = exp2_fast((most - next) * LOG2_E), weight = exp2_fast((score - next) * LOG2_E);
        most = next;
        sum = sum * keep + weight;
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            int d = threadIdx.x % 32 + 32 * i;
            if (d < size) out[i] = out[i] * keep + weight * to_float(value[d]);
        }
    }

    template <class T> __device__ void finish(T *to, int size) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            int d = threadIdx.x % 32 + 32 * i;
            if (d < size) to[d] = from_float<T>(out[i] / sum);
        }
    }
};

// qkv [n, 3 · heads · size]; out [queries, heads · size] for the queries from `from` on. Grid: queries, heads.
template <class T> __device__ void vision_any(const T *qkv, T *out, int n, int from, int heads, int size) {
    int hidden = heads * size, head = blockIdx.y, row = blockIdx.x;
    const T *at = qkv + static_cast<size_t>(from + row) * 3 * hidden + head * size;
    float q[KEPT], scale = rsqrtf(static_cast<float>(size));
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int d = threadIdx.x + 32 * i;
        q[i] = d < size ? to_float(at[d]) * scale : 0;
    }
    Running running;
    for (int key = 0; key < n; key++) {
        const T *k = qkv + static_cast<size_t>(key) * 3 * hidden + hidden + head * size;
        running.see(q, k, k + hidden, size);
    }
    running.finish(out + static_cast<size_t>(row) * hidden + head * size, size);
}

// qkv [rows, (heads + 2 · kv_heads) · size]; out [rows, heads · size]. Grid: rows, heads.
template <class T>
__device__ void paged_any(const Cache &cache, const Plan &plan, const T *qkv, T *out, int heads, int size) {
    int row = blockIdx.x, head = blockIdx.y, kv_head = head / (heads / cache.kv_heads);
    Span span = plan.spans[plan.row_spans[row]];
    const T *at = qkv + static_cast<size_t>(row) * (heads + 2 * cache.kv_heads) * size + head * size;
    float q[KEPT], scale = rsqrtf(static_cast<float>(size));
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int d = threadIdx.x + 32 * i;
        float a = d < size ? to_float(at[d]) : 0, other = __shfl_xor_sync(0xffffffffu, a, 1);
        if (d < 2 * plan.pairs) {
            float sine, cosine;
            sincosf(static_cast<float>(plan.positions[row]) * plan.frequencies[d / 2], &sine, &cosine);
            a = a * cosine + (d % 2 ? other : -other) * sine;
        }
        q[i] = a * scale;
    }
    Running running;
    int visible = span.start + row - span.first_row + 1;
    for (int key = 0; key < visible; key++) {
        uint32_t page = plan.pages[span.pages_at + key / PAGE];
        int entry = key % PAGE * size;
        running.see(q, cache_head<T>(cache, page, 0, kv_head, size) + entry,
                    cache_head<T>(cache, page, 1, kv_head, size) + entry, size);
    }
    running.finish(out + (static_cast<size_t>(row) * heads + head) * size, size);
}

#define DEFINE(T, name)                                                                                                \
    extern "C" __global__ void __launch_bounds__(32)                                                                   \
        vision_any_##name(const T *qkv, T *out, int n, int from, int heads, int size) {                                \
        vision_any<T>(qkv, out, n, from, heads, size);                                                                 \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(32)                                                                   \
        paged_any_##name(Cache cache, Plan plan, const T *qkv, T *out, int heads, int size) {                          \
        paged_any<T>(cache, plan, qkv, out, heads, size);                                                              \
    }
FOR_EACH_TYPE(DEFINE)
