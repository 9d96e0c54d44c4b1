// Attention on Hopper after FlashAttention-3. One warp group copies tiles of keys and values into a ring in shared memory;
// each of the others multiplies 64 rows with them by wgmma, and has the products of the next tile's scores under way while
// it takes exponentials. They take turns at the tensor cores.
#pragma once
#include "attention.cuh"
#include "hopper.cuh"

constexpr int STAGES = 2;

// The shared memory of a block of GROUPS · 64 rows. Matrices lie as in `Tile`: panels of 64 columns, swizzled.
template <class T_, int D_, int KEYS_, int GROUPS_> struct Ring {
    using T = T_;
    static constexpr int D = D_, KEYS = KEYS_, GROUPS = GROUPS_;
    static constexpr int ROWS = GROUPS * 64, THREADS = (GROUPS + 1) * WARP_GROUP, PANELS = (D + 63) / 64;
    static constexpr int PANEL_BYTES = KEYS * 64 * sizeof(T);

    T queries[GROUPS][PANELS][64 * 64];
    T keys[STAGES][PANELS][KEYS * 64];
    T values[STAGES][PANELS][KEYS * 64];
    Barrier queries_full, keys_full[STAGES], keys_free[STAGES], values_full[STAGES], values_free[STAGES];

    // The block's group that copies is the first, -1; those that multiply count from 0.
    static __device__ __forceinline__ int group() { return threadIdx.x / WARP_GROUP - 1; }
};

template <class Ring> __device__ __forceinline__ void prepare(Ring &ring) {
    if (threadIdx.x == 0) {
        barrier_init(&ring.queries_full, 1);
        for (int i = 0; i < STAGES; i++) {
            barrier_init(&ring.keys_full[i], 1), barrier_init(&ring.values_full[i], 1);
            barrier_init(&ring.keys_free[i], Ring::GROUPS), barrier_init(&ring.values_free[i], Ring::GROUPS);
        }
        barriers_ready();
    }
    __syncthreads();
}

// What the group does that copies: `tiles` tiles of keys and values, down from the one before `to`.
template <class Ring, class Source>
__device__ __forceinline__ void copy_tiles(Ring &ring, int to, int tiles, const Source &source) {
    if (threadIdx.x > 0) return;
    source.fetch_queries(ring);
    for (int n = 0; n < tiles; n++) {
        const int stage = n % STAGES, round = n / STAGES & 1, tile = to - 1 - n;
        barrier_wait(&ring.keys_free[stage], round ^ 1);
        barrier_expect(&ring.keys_full[stage], Ring::PANELS * Ring::PANEL_BYTES);
        source.fetch(ring.keys[stage], &ring.keys_full[stage], tile, 0);
        barrier_wait(&ring.values_free[stage], round ^ 1);
        barrier_expect(&ring.values_full[stage], Ring::PANELS * Ring::PANEL_BYTES);
        source.fetch(ring.values[stage], &ring.values_full[stage], tile, 1);
    }
}

// What a group has of its 64 rows while tiles of keys pass: a thread has two rows, eight apart, and of these every fourth
// pair of neighbours.
template <bool CAUSAL, class Ring> struct RingRows {
    using T = typename Ring::T;
    static constexpr int D = Ring::D, KEYS = Ring::KEYS, GROUPS = Ring::GROUPS, PANELS = Ring::PANELS;
    float out[D / 2], scores[KEYS / 2], most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, keep[2];
    uint32_t weights[KEYS / 16][4];
    Ring &ring;
    const Rows &rows;
    const int group;
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16 - WARP_GROUP / 2 + lane / 4; // and eight rows on
    const float scale = LOG2_E * rsqrtf(static_cast<float>(D));

    __device__ __forceinline__ RingRows(Ring &ring, const Rows &rows, int group) : ring(ring), rows(rows), group(group) {
#pragma unroll
        for (int i = 0; i < D / 2; i++) out[i] = 0;
    }
    // Before its products a group waits at its own meeting point, where the one before it passes behind its own.
    __device__ __forceinline__ void my_turn() const { meet(1 + group, 2 * WARP_GROUP); }
    __device__ __forceinline__ void next_turn() const { pass(1 + (group + 1) % GROUPS, 2 * WARP_GROUP); }

    __device__ __forceinline__ void begin_scores(int stage) {
        pin(scores);
        products_begin();
#pragma unroll
        for (int d = 0; d < D / 16; d++)
            multiply_rows<T, KEYS>(scores, operand(ring.queries[group][d / 4], d % 4 * 32),
                                   operand(ring.keys[stage][d / 4], d % 4 * 32), d > 0);
        products_commit();
    }
    __device__ __forceinline__ void begin_mix(int stage) {
        pin(out);
        products_begin();
#pragma unroll
        for (int n = 0; n < KEYS / 16; n++)
            multiply_columns<T, D>(out, weights[n], operand(ring.values[stage], n * 2048, Ring::PANEL_BYTES));
        products_commit();
    }
    // Keys behind what a row may see get no weight.
    __device__ __forceinline__ void hide(int tile) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int visible = rows.visible(first + 8 * h) - tile * KEYS - lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int c = 0; c < 2; c++)
                    if (n * 8 + c >= visible) scores[4 * n + 2 * h + c] = -INFINITY;
        }
    }
    __device__ __forceinline__ void softmax(int tile, bool may_hide) {
        if (may_hide && (tile + 1) * KEYS > rows.visible(group * 64)) hide(tile);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float next = most[h];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
                next = fmaxf(next, fmaxf(scores[4 * n + 2 * h], scores[4 * n + 2 * h + 1]));
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 1));
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 2));
            const float base = CAUSAL && next == -INFINITY ? 0 : next * scale;
            keep[h] = exp2_fast(fmaf(most[h], scale, -base));
            most[h] = next;
            float part = 0;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float &score = scores[4 * n + 2 * h + c];
                    score = exp2_fast(fmaf(score, scale, -base));
                    part += score;
                }
            sum[h] = fmaf(sum[h], keep[h], part);
        }
    }
    // What was summed before is against the new maximum from here on.
    __device__ __forceinline__ void rescale() {
#pragma unroll
        for (int i = 0; i < D / 2; i++) out[i] *= keep[i / 2 % 2];
    }
    // A result's layout is an operand's.
    __device__ __forceinline__ void pack_weights() {
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) weights[i / 4][i % 4] = pack_pair<T>(scores[2 * i], scores[2 * i + 1]);
    }
    // 0 · value is 0 whatever lay there. All groups write the same zeros, into the values of the tile before `to`.
    __device__ __forceinline__ void clear_values(int to) const {
        const int valid = rows.keys - (to - 1) * KEYS;
        if (valid >= KEYS) return;
#pragma unroll
        for (int panel = 0; panel < PANELS; panel++)
            for (int i = valid * 8 + threadIdx.x % WARP_GROUP; i < KEYS * 8; i += WARP_GROUP)
                reinterpret_cast<uint4 *>(ring.values[0][panel])[i] = make_uint4(0, 0, 0, 0);
        publish();
        meet(1 + GROUPS + group, WARP_GROUP);
    }
    __device__ __forceinline__ void await_values(int n, int to) const {
        barrier_wait(&ring.values_full[n % STAGES], n / STAGES & 1);
        if (CAUSAL && n == 0) clear_values(to);
    }
    // `put` is as in attention.cuh.
    template <class Put> __device__ __forceinline__ void leave(const Put &put) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
            sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                put(first + 8 * h, n * 8 + lane % 4 * 2, out[4 * n + 2 * h], out[4 * n + 2 * h + 1], most[h] * scale, sum[h]);
        }
    }
};

// What a group does that multiplies: the products of the next tile's scores are under way while it takes exponentials.
template <bool CAUSAL, class Ring, class Source>
__device__ __forceinline__ void multiply_tiles(RingRows<CAUSAL, Ring> &mine, int to, int tiles, const Source &source) {
    Ring &ring = mine.ring;
    const bool speaks = threadIdx.x % WARP_GROUP == 0;
    source.await_queries(ring, mine.group);
    if (mine.group == Ring::GROUPS - 1) mine.next_turn();
    barrier_wait(&ring.keys_full[0], 0);
    mine.my_turn();
    mine.begin_scores(0);
    mine.next_turn();
    products_wait<0>();
    pin(mine.scores);
    if (speaks) barrier_arrive(&ring.keys_free[0]);
    mine.softmax(to - 1, true);
    mine.pack_weights();
    for (int n = 1; n < tiles; n++) {
        const int stage = n % STAGES, before = (n - 1) % STAGES;
        barrier_wait(&ring.keys_full[stage], n / STAGES & 1);
        mine.my_turn();
        mine.begin_scores(stage);
        mine.await_values(n - 1, to);
        mine.begin_mix(before);
        mine.next_turn();
        products_wait<1>();
        pin(mine.scores);
        if (speaks) barrier_arrive(&ring.keys_free[stage]);
        mine.softmax(to - 1 - n, CAUSAL);
        products_wait<0>();
        pin(mine.out);
        if (speaks) barrier_arrive(&ring.values_free[before]);
        mine.rescale();
        mine.pack_weights();
    }
    mine.await_values(tiles - 1, to);
    mine.my_turn();
    mine.begin_mix((tiles - 1) % STAGES);
    mine.next_turn();
    products_wait<0>();
    pin(mine.out);
    if (mine.group == 0) mine.my_turn(); // whose turn it would be
}

// The loop over the tiles `from`..`to` of keys, the last first. Of `Source`, one thread calls `fetch_queries` and `fetch`;
// `await_queries` is called by every thread that multiplies. `put` is as in attention.cuh. With CAUSAL each row sees keys of
// its own number, and behind the last key may lie anything.
template <bool CAUSAL, class Ring, class Source, class Put>
__device__ __forceinline__ void attend_ring(Ring &ring, const Rows &rows, int from, int to, const Source &source,
                                            const Put &put) {
    const int group = Ring::group(), tiles = max(to - from, 0);
    prepare(ring);
    if (group < 0) {
        give_registers<Ring::GROUPS == 2 ? 24 : 32>();
        return copy_tiles(ring, to, tiles, source);
    }
    take_registers<Ring::GROUPS == 2 ? 240 : 160>();
    RingRows<CAUSAL, Ring> mine(ring, rows, group);
    if (tiles > 0) multiply_tiles(mine, to, tiles, source);
    mine.leave(put);
}

// The grid of a picture: blocks of rows, head after head. The first `whole` blocks see all keys; each after them, which
// would not have filled the card once more, is cut into `parts` by keys.
struct Cut {
    int whole, parts;
};
LAYOUT(Cut, 8, 4);
FIELD(Cut, whole, 0); FIELD(Cut, parts, 4);

// Both maps are of qkv as [rows, 3 · heads, D]; their boxes have 64 columns of 64 rows (queries) or KEYS (keys, values).
template <class Ring> struct VisionSource {
    const TensorMap &queries, &keys;
    int heads, head, row;

    __device__ __forceinline__ void fetch_queries(Ring &ring) const {
        barrier_expect(&ring.queries_full, sizeof(ring.queries));
        for (int group = 0; group < Ring::GROUPS; group++)
            for (int panel = 0; panel < Ring::PANELS; panel++)
                copy_box(queries, ring.queries[group][panel], &ring.queries_full, panel * 64, head, row + group * 64);
    }
    __device__ __forceinline__ void await_queries(Ring &ring, int) const { barrier_wait(&ring.queries_full, 0); }
    template <class Panels> __device__ __forceinline__ void fetch(Panels &to, Barrier *full, int tile, int value) const {
        for (int panel = 0; panel < Ring::PANELS; panel++)
            copy_box(keys, to[panel], full, panel * 64, (1 + value) * heads + head, tile * Ring::KEYS);
    }
};

template <class Ring, class T>
__device__ __forceinline__ void vision_ring(const TensorMap &queries, const TensorMap &keys, T *out, float *shares, int n,
                                            int from, int count, int heads, Cut cut) {
    constexpr int D = Ring::D, KEYS = Ring::KEYS, ROWS = Ring::ROWS;
    SHARED_MEMORY(memory);
    Ring &ring = *reinterpret_cast<Ring *>(memory);
    const int across = (count + ROWS - 1) / ROWS, all = (n + KEYS - 1) / KEYS;
    const int behind = static_cast<int>(blockIdx.x) - cut.whole, parts = behind < 0 ? 1 : cut.parts;
    const int block = behind < 0 ? blockIdx.x : cut.whole + behind / parts, part = behind < 0 ? 0 : behind % parts;
    const int head = block / across, row0 = block % across * ROWS;
    Rows rows = {row0, count, 1, 0, n, false};
    VisionSource<Ring> source = {queries, keys, heads, head, from + row0};
    attend_ring<false>(ring, rows, all * part / parts, all * (part + 1) / parts, source,
                       [&](int row, int d, float a, float b, float most, float sum) {
                           if (row0 + row >= count) return;
                           if (parts > 1) {
                               float *share = shares + static_cast<size_t>(behind) * ROWS * (D + 2);
                               return leave<D>(share, row, d, a, b, most, sum);
                           }
                           T *to = out + (static_cast<size_t>(row0 + row) * heads + head) * D + d;
                           const float inverse = 1 / sum;
                           *reinterpret_cast<uint32_t *>(to) = pack_pair<T>(a * inverse, b * inverse);
                       });
}

// Joins the parts of the blocks that were cut. Grid: those blocks, ROWS; a thread an element of a head.
template <class T, int D, int ROWS>
__device__ __forceinline__ void join_parts(const float *shares, T *out, int count, int heads, Cut cut) {
    const int across = (count + ROWS - 1) / ROWS, block = cut.whole + blockIdx.x;
    const int row = block % across * ROWS + blockIdx.y, head = block / across, d = threadIdx.x;
    if (row >= count) return;
    const float *share = shares + static_cast<size_t>(blockIdx.x) * cut.parts * ROWS * (D + 2);
    out[(static_cast<size_t>(row) * heads + head) * D + d] =
        from_float<T>(join<D, ROWS>(share, cut.parts, blockIdx.y, d));
}

// The map is of the arena as [heads of all, PAGE, D]; its box has 64 columns of a page.
template <class Ring> struct PagedSource {
    using T = typename Ring::T;
    const TensorMap &map;
    const Cache &cache;
    const Plan &plan;
    const PagedRows &block;
    const T *qkv;

    __device__ __forceinline__ void fetch_queries(Ring &) const {} // they are rotated on the way
    __device__ __forceinline__ void await_queries(Ring &ring, int group) const {
        load_queries<T, Ring::D, 64, WARP_GROUP>(ring.queries[group][0], block, group * 64, plan, qkv);
        publish();
        meet(1 + Ring::GROUPS + group, WARP_GROUP);
    }
    template <class Panels> __device__ __forceinline__ void fetch(Panels &to, Barrier *full, int tile, int value) const {
        constexpr int PAGES = Ring::KEYS / PAGE;
        for (int i = 0; i < PAGES; i++) {
            // What is behind the last page is seen by none, but waited for.
            int page = block.pages[min(tile * PAGES + i, (block.rows.keys - 1) / PAGE)];
            int head = ((page * cache.layers + cache.layer) * 2 + value) * cache.kv_heads + block.kv_head;
            for (int panel = 0; panel < Ring::PANELS; panel++)
                copy_box(map, to[panel] + i * PAGE * 64, full, panel * 64, 0, head);
        }
    }
};

// Grid: key/value heads, tiles, splits: the tiles that see most begin first.
template <class Ring, class T>
__device__ __forceinline__ void paged_ring(const TensorMap &map, const Cache &cache, const Plan &plan, const T *qkv,
                                           T *out, int heads, const Shares &shares) {
    constexpr int D = Ring::D, KEYS = Ring::KEYS, ROWS = Ring::ROWS;
    static_assert(KEYS % PAGE == 0, "a tile is whole pages");
    SHARED_MEMORY(memory);
    Ring &ring = *reinterpret_cast<Ring *>(memory);
    const int kv_head = blockIdx.x, tile = blockIdx.y;
    PagedRows block(plan, tile, kv_head, cache.kv_heads, heads, D, ROWS);
    const int all = (block.rows.keys + KEYS - 1) / KEYS, each = (all + shares.splits - 1) / shares.splits;
    const int from = min(all, static_cast<int>(blockIdx.z) * each), to = min(all, from + each);
    PagedSource<Ring> source = {map, cache, plan, block, qkv};
    attend_ring<true>(ring, block.rows, from, to, source, [&](int row, int d, float a, float b, float most, float sum) {
        if (!block.has(row)) return;
        if (shares.splits > 1) {
            size_t number = (static_cast<size_t>(tile) * cache.kv_heads + kv_head) * shares.splits + blockIdx.z;
            return leave<D>(shares.data + number * ROWS * (D + 2), row, d, a, b, most, sum);
        }
        int query, head;
        block.place(row, query, head);
        T *to = out + (static_cast<size_t>(query) * heads + head) * D + d;
        const float inverse = 1 / sum;
        *reinterpret_cast<uint32_t *>(to) = pack_pair<T>(a * inverse, b * inverse);
    });
}
