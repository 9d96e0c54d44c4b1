// Attention after FlashAttention-2: scores never leave the registers, keys and values come in tiles of 64 while the tile
// before is worked on. How a block multiplies is a parameter: see attention.cu. Hopper has a loop of its own: ring.cuh.
//
// For the vision tower a block takes ROWS queries of one head. For the decoder it takes ROWS packed rows of one
// key/value head: the query heads that share it follow each other, query after query. Where there are few rows, blocks share
// the keys of a tile between them and `combine` joins them. A decode step has attention of its own.
#pragma once
#include "plan.cuh"

// Keys of a tile.
constexpr int TILE = PAGE;

// ROWS rows of D elements in shared memory, in panels of 64 columns whose 16-byte chunks are shuffled so that eight rows
// of a column lie in eight different banks: what the tensor cores of Hopper call a swizzle of 128 bytes.
template <class T, int D, int ROWS> struct Tile {
    static constexpr int ELEMENTS = (D + 63) / 64 * 64 * ROWS;
    static __device__ __forceinline__ T *chunk(T *tile, int row, int chunk) {
        return tile + (chunk / 8 * ROWS + row) * 64 + (chunk % 8 ^ row % 8) * 8;
    }
};

template <class T, int D, int THREADS>
__device__ __forceinline__ void load_tile(T *tile, const T *from, size_t stride, int valid) {
    constexpr int CHUNKS = D / 8;
#pragma unroll
    for (int i = threadIdx.x; i < TILE * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, chunk = i % CHUNKS;
        // What is not valid is zero, so that 0 · value is 0 whatever lay there.
        copy_async(Tile<T, D, TILE>::chunk(tile, row, chunk), from + (row < valid ? row : 0) * stride + chunk * 8,
                   row < valid);
    }
}

// The rows of a block, and what they may see.
struct Rows {
    int first, count;        // packed rows of this block within the span, and all of the span's
    int group;               // packed rows to a query
    int start;               // keys before the span's first query; the first query sees one more
    int keys;                // in all
    bool causal;

    __device__ __forceinline__ int visible(int row) const {
        int packed = min(first + row, count - 1);
        return causal ? start + packed / group + 1 : keys;
    }
};

// Where blocks that share a tile's keys leave what they have: per row `D` sums, then the maximum and the weights' sum.
struct Shares {
    float *data;
    int splits;
};
LAYOUT(Shares, 16, 8);
FIELD(Shares, data, 0); FIELD(Shares, splits, 8);

// Leaves two neighbours of a row's sums.
template <int D>
__device__ __forceinline__ void leave(float *share, int row, int d, float a, float b, float most, float sum) {
    float *to = share + row * (D + 2);
    *reinterpret_cast<float2 *>(to + d) = make_float2(a, b);
    if (d == 0) *reinterpret_cast<float2 *>(to + D) = make_float2(most, sum);
}

// An element of a row of what `splits` blocks of ROWS rows left.
template <int D, int ROWS> __device__ __forceinline__ float join(const float *shares, int splits, int row, int d) {
    constexpr size_t NEXT = static_cast<size_t>(ROWS) * (D + 2);
    const float *share = shares + row * (D + 2);
    float most = -INFINITY, value = 0, sum = 0;
    for (int s = 0; s < splits; s++) most = fmaxf(most, share[s * NEXT + D]);
    for (int s = 0; s < splits; s++) {
        float weight = exp2_fast(share[s * NEXT + D] - most);
        value += weight * share[s * NEXT + d];
        sum += weight * share[s * NEXT + D + 1];
    }
    return value / sum;
}

// What a warp has of its rows while tiles of keys pass: MT times 16 rows, of each a thread has two, eight rows apart, and of
// these every fourth pair of neighbours. `Products` says how a block multiplies, and with how many rows.
template <class Products> struct Attended {
    static constexpr int D = Products::SIZE, MT = Products::MT;
    float out[MT][D / 8][4] = {};
    float most[MT][2], sum[MT][2];
    const Rows &rows;
    const float scale;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    __device__ __forceinline__ Attended(const Rows &rows, float scale) : rows(rows), scale(scale) {
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) most[m][h] = -INFINITY, sum[m][h] = 0;
    }
    __device__ __forceinline__ int row(int m, int h) const { return (warp * MT + m) * 16 + lane / 4 + 8 * h; }

    // Keys behind what a row may see get no weight.
    __device__ __forceinline__ void hide(float (&scores)[MT][TILE / 8][4], int tile) const {
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int visible = rows.visible(row(m, h)) - tile * TILE;
#pragma unroll
                for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                    for (int c = 0; c < 2; c++)
                        if (n * 8 + lane % 4 * 2 + c >= visible) scores[m][n][2 * h + c] = -INFINITY;
            }
    }
    // Scores become weights, against a maximum that what was summed before them is now against too.
    __device__ __forceinline__ void weigh(float (&scores)[MT][TILE / 8][4]) {
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float next = most[m][h];
#pragma unroll
                for (int n = 0; n < TILE / 8; n++)
                    next = fmaxf(next, fmaxf(scores[m][n][2 * h], scores[m][n][2 * h + 1]));
                next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 1));
                next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 2));
                float base = next == -INFINITY ? 0 : next * scale;
                float keep = exp2_fast(most[m][h] * scale - base);
                most[m][h] = next;
                sum[m][h] *= keep;
#pragma unroll
                for (int n = 0; n < TILE / 8; n++)
#pragma unroll
                    for (int c = 0; c < 2; c++) {
                        float weight = exp2_fast(fmaf(scores[m][n][2 * h + c], scale, -base));
                        scores[m][n][2 * h + c] = weight;
                        sum[m][h] += weight;
                    }
#pragma unroll
                for (int n = 0; n < D / 8; n++) out[m][n][2 * h] *= keep, out[m][n][2 * h + 1] *= keep;
            }
    }
    // `put` takes, for each row, two neighbours of the sums, the maximum and the weights' sum.
    template <class Put> __device__ __forceinline__ void leave(const Put &put) const {
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                float all = sum[m][h];
                all += __shfl_xor_sync(0xffffffffu, all, 1);
                all += __shfl_xor_sync(0xffffffffu, all, 2);
#pragma unroll
                for (int n = 0; n < D / 8; n++)
                    put(row(m, h), n * 8 + lane % 4 * 2, out[m][n][2 * h], out[m][n][2 * h + 1], most[m][h] * scale, all);
            }
    }
};

// The loop over the tiles `from`..`to` of keys. `put` is that of `Attended`.
template <class Products, class Keys, class Put>
__device__ __forceinline__ void attend(typename Products::Element *queries, const Rows &rows, int from, int to,
                                       float scale, const Keys &keys, const Put &put) {
    using T = typename Products::Element;
    constexpr int D = Products::SIZE, MT = Products::MT, THREADS = Products::THREADS;
    constexpr int ELEMENTS = Tile<T, D, TILE>::ELEMENTS;
    T *stages = queries + Tile<T, D, Products::ROWS>::ELEMENTS;
    Attended<Products> attended(rows, scale);

    auto issue = [&](int tile, int stage) {
        T *k = stages + stage * 2 * ELEMENTS;
        int valid = min(TILE, rows.keys - tile * TILE);
        load_tile<T, D, THREADS>(k, keys.at(tile, 0), keys.stride, valid);
        load_tile<T, D, THREADS>(k + ELEMENTS, keys.at(tile, 1), keys.stride, valid);
        copy_commit();
    };
    int least = rows.visible(attended.warp * MT * 16); // what the warp's first row sees, and so all others
    if (from < to) issue(from, 0);
    for (int tile = from; tile < to; tile++) {
        copy_wait<0>();
        __syncthreads();
        if (tile + 1 < to) issue(tile + 1, (tile + 1 - from) % 2);
        T *k = stages + (tile - from) % 2 * 2 * ELEMENTS, *v = k + ELEMENTS;

        float scores[MT][TILE / 8][4] = {};
        Products::scores(scores, queries, k);
        if ((tile + 1) * TILE > least) attended.hide(scores, tile);
        attended.weigh(scores);
        Products::mix(attended.out, scores, v);
    }
    attended.leave(put);
}

template <class T> struct VisionKeys {
    const T *head; // the first key of this head
    int hidden;
    size_t stride;
    __device__ __forceinline__ const T *at(int tile, int value) const {
        return head + tile * TILE * stride + value * hidden;
    }
};

// Grid: blocks of queries, heads.
template <class Products, class T>
__device__ __forceinline__ void vision(const T *qkv, T *out, int n, int from, int queries, int heads) {
    constexpr int D = Products::SIZE, ROWS = Products::ROWS;
    using Queries = Tile<T, D, ROWS>;
    SHARED_MEMORY(memory);
    T *q = reinterpret_cast<T *>(memory);
    int hidden = heads * D, head = blockIdx.y, first = blockIdx.x * ROWS;
    size_t stride = 3 * static_cast<size_t>(hidden);
    const T *base = qkv + head * D;
    for (int i = threadIdx.x; i < ROWS * (D / 8); i += Products::THREADS) {
        int row = i / (D / 8), chunk = i % (D / 8), at = min(first + row, queries - 1);
        copy_async(Queries::chunk(q, row, chunk), base + (from + at) * stride + chunk * 8, true);
    }
    Rows rows = {first, queries, 1, 0, n, false};
    VisionKeys<T> keys = {base + hidden, hidden, stride};
    float scale = LOG2_E * rsqrtf(static_cast<float>(D));
    attend<Products>(q, rows, 0, (n + TILE - 1) / TILE, scale, keys,
                            [&](int row, int d, float a, float b, float, float sum) {
                                if (first + row >= queries) return;
                                uint32_t pair = pack_pair<T>(a / sum, b / sum);
                                T *to = out + static_cast<size_t>(first + row) * hidden + head * D + d;
                                *reinterpret_cast<uint32_t *>(to) = pair;
                            });
}

template <class T, int D> struct PagedKeys {
    const Cache &cache;
    const uint32_t *pages;
    int head;
    static constexpr size_t stride = D;
    __device__ __forceinline__ const T *at(int tile, int value) const {
        return cache_head<T>(cache, pages[tile], value, head, D);
    }
};

// A block's packed rows of one key/value head.
struct PagedRows {
    Rows rows;
    Span span;
    const uint32_t *pages;
    int kv_head, heads, width; // query heads in all; elements of a row of qkv

    __device__ __forceinline__ PagedRows(const Plan &plan, int tile, int kv_head, int kv_heads, int heads, int size,
                                         int count)
        : span(plan.spans[plan.tiles[2 * tile]]), kv_head(kv_head), heads(heads), width((heads + 2 * kv_heads) * size) {
        int group = heads / kv_heads;
        pages = plan.pages + span.pages_at;
        rows = {static_cast<int>(plan.tiles[2 * tile + 1]),
                static_cast<int>(span.len) * group,
                group,
                static_cast<int>(span.start),
                0,
                true};
        rows.keys = rows.visible(count - 1);
    }
    // The batch's row and the head of the block's row `row`, if the span has it, or of the span's last.
    __device__ __forceinline__ void place(int row, int &query, int &head) const {
        int packed = min(rows.first + row, rows.count - 1);
        query = span.first_row + packed / rows.group;
        head = kv_head * rows.group + packed % rows.group;
    }
    __device__ __forceinline__ bool has(int row) const { return rows.first + row < rows.count; }
};

// ROWS of a block's rows from `first` on into a tile, the queries rotated, by THREADS threads.
template <class T, int D, int ROWS, int THREADS>
__device__ __forceinline__ void load_queries(T *tile, const PagedRows &block, int first, const Plan &plan, const T *qkv) {
    constexpr int CHUNKS = D / 8, EACH = ROWS * CHUNKS / THREADS;
    // Rows that follow each other: most are heads of one query, and turn by the same angles.
    int thread = threadIdx.x % THREADS, chunk = thread % CHUNKS, row = thread / CHUNKS * EACH;
    Pack<T, 8> packs[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int query, head;
        block.place(first + row + i, query, head);
        packs[i] = load<T, 8>(qkv + static_cast<size_t>(query) * block.width + head * D + chunk * 8);
    }
    float sine[4], cosine[4];
    int turned = -1;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        int query, head;
        block.place(first + row + i, query, head);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int pair = chunk * 4 + j;
            if (pair >= plan.pairs) break;
            if (query != turned) angle(plan.positions[query], plan.frequencies[pair], sine[j], cosine[j]);
            float a = to_float(packs[i].v[2 * j]), b = to_float(packs[i].v[2 * j + 1]);
            turn(a, b, sine[j], cosine[j]);
            packs[i].v[2 * j] = from_float<T>(a), packs[i].v[2 * j + 1] = from_float<T>(b);
        }
        turned = query;
        store<T, 8>(Tile<T, D, ROWS>::chunk(tile, row + i, chunk), packs[i]);
    }
}

// Grid: tiles, key/value heads, splits.
template <class Products, class T>
__device__ __forceinline__ void paged(const Cache &cache, const Plan &plan, const T *qkv, T *out, int heads,
                                      const Shares &shares) {
    constexpr int D = Products::SIZE, ROWS = Products::ROWS;
    SHARED_MEMORY(memory);
    T *q = reinterpret_cast<T *>(memory);
    int kv_head = blockIdx.y;
    PagedRows block(plan, blockIdx.x, kv_head, cache.kv_heads, heads, D, ROWS);
    int all = (block.rows.keys + TILE - 1) / TILE, each = (all + shares.splits - 1) / shares.splits;
    int from = min(all, static_cast<int>(blockIdx.z) * each), to = min(all, from + each);

    load_queries<T, D, ROWS, Products::THREADS>(q, block, 0, plan, qkv);
    PagedKeys<T, D> keys = {cache, block.pages, kv_head};
    float scale = LOG2_E * rsqrtf(static_cast<float>(D));
    size_t number = (static_cast<size_t>(blockIdx.x) * gridDim.y + kv_head) * shares.splits + blockIdx.z;
    float *share = shares.data + number * ROWS * (D + 2);
    attend<Products>(q, block.rows, from, to, scale, keys,
                     [&](int row, int d, float a, float b, float most, float sum) {
                         if (!block.has(row)) return;
                         if (shares.splits > 1) return leave<D>(share, row, d, a, b, most, sum);
                         int query, head;
                         block.place(row, query, head);
                         T *to = out + (static_cast<size_t>(query) * heads + head) * D + d;
                         *reinterpret_cast<uint32_t *>(to) = pack_pair<T>(a / sum, b / sum);
                     });
}

// Joins what blocks left that shared a tile's keys. Grid: tiles, key/value heads, ROWS; a thread an element of a head.
template <class T, int D, int ROWS>
__device__ __forceinline__ void combine(const Plan &plan, T *out, int heads, const Shares &shares) {
    int row = blockIdx.z, d = threadIdx.x;
    PagedRows block(plan, blockIdx.x, blockIdx.y, gridDim.y, heads, D, ROWS);
    if (!block.has(row)) return;
    size_t first = (static_cast<size_t>(blockIdx.x) * gridDim.y + blockIdx.y) * shares.splits * ROWS * (D + 2);
    int query, head;
    block.place(row, query, head);
    out[(static_cast<size_t>(query) * heads + head) * D + d] =
        from_float<T>(join<D, ROWS>(shares.data + first, shares.splits, row, d));
}
