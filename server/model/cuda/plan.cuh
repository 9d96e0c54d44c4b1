// What a forward pass tells its kernels of the batch.
#pragma once
#include "common.cuh"

// Cache entries in a page.
constexpr int PAGE = 64;

struct Span {
    uint32_t start;     // entries in the cache before these
    uint32_t len;       // new entries
    uint32_t first_row; // of the batch
    uint32_t pages_at;  // where its pages begin in `pages`
};
LAYOUT(Span, 16, 4);
FIELD(Span, start, 0); FIELD(Span, len, 4); FIELD(Span, first_row, 8); FIELD(Span, pages_at, 12);

struct Plan {
    const Span *spans;
    const uint32_t *pages;
    const uint32_t *positions;   // per row
    const uint32_t *row_spans;   // per row: its span
    const uint32_t *tiles;       // per tile of `attention.cu`: its span, its first row within the span's packed rows
    const float *frequencies;    // per rotating pair
    int pairs;
};
LAYOUT(Plan, 56, 8);
FIELD(Plan, spans, 0); FIELD(Plan, pages, 8); FIELD(Plan, positions, 16); FIELD(Plan, row_spans, 24); FIELD(Plan, tiles, 32);
FIELD(Plan, frequencies, 40); FIELD(Plan, pairs, 48);

// The arena: [pages, layers, 2, kv_heads, PAGE, head_size].
struct Cache {
    void *data;
    int layers, kv_heads, layer;
};
LAYOUT(Cache, 24, 8);
FIELD(Cache, data, 0); FIELD(Cache, layers, 8); FIELD(Cache, kv_heads, 12); FIELD(Cache, layer, 16);

template <class T>
__device__ __forceinline__ T *cache_head(const Cache &cache, uint32_t page, int value, int head, int head_size) {
    size_t at = (static_cast<size_t>(page) * cache.layers + cache.layer) * 2 + value;
    return static_cast<T *>(cache.data) + (at * cache.kv_heads + head) * PAGE * head_size;
}

__device__ __forceinline__ void angle(uint32_t position, float frequency, float &sine, float &cosine) {
    sincosf(static_cast<float>(position) * frequency, &sine, &cosine);
}

// Turns the pair (2i, 2i + 1) of a head.
__device__ __forceinline__ void turn(float &a, float &b, float sine, float cosine) {
    float x = a * cosine - b * sine;
    b = b * cosine + a * sine;
    a = x;
}

__device__ __forceinline__ void rotate(float &a, float &b, uint32_t position, float frequency) {
    float sine, cosine;
    angle(position, frequency, sine, cosine);
    turn(a, b, sine, cosine);
}
