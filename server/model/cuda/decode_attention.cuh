// Attention of a decode step: one new token for each sequence. The query heads that share a key/value head are the 16
// rows of an mma, in tiles of 16; a block takes 64 keys at a time, a page. Its warps are four groups of 16 keys, and of a
// group each warp has a quarter of the values' columns. Blocks share the pages of a sequence between them, and `join`
// adds up what they found.
#pragma once
#include "decode_product.cuh"
#include "plan.cuh"

constexpr int GROUPS = 4, SLICES = WARPS / GROUPS, KEYS = PAGE / GROUPS, HEADS = 16;
// Blocks that share the pages of a sequence, at most.
constexpr int SPLITS = 64;
static_assert(KEYS == 16, "a group's keys are two column tiles of an mma");

template <class T, int D> struct Attention {
    static constexpr int STRIDE = D + 8; // rows that begin in different banks
    T queries[HEADS][STRIDE];
    T key[D], value[D]; // of the new token
    float most[GROUPS][HEADS], sum[GROUPS][HEADS];
    union {
        T values[GROUPS][KEYS][STRIDE];
        float out[GROUPS][HEADS][D];
        struct {
            float weights[SPLITS], totals[SPLITS / 32], parts[THREADS / D][D];
        } joined;
    };
};
static_assert(sizeof(Attention<bf16, 64>) == 19456 && sizeof(Attention<bf16, 128>) == 38144, "the host counts with these");

// Cosine and sine of each pair of a row's position.
template <int D> using Turns = float2[D / 2];

// A block's share of a sequence's keys, for the query heads of one tile.
struct alignas(16) Task {
    Span span;
    int first_head, kv_head, split, splits, tile;
    uint32_t first_page; // of its own
    __device__ __forceinline__ int last_page() const { return span.start / PAGE; }
};
LAYOUT(Task, 48, 16);

// A head of a row that a block joins: where its first share is, how many there are, and where its output goes.
struct alignas(16) Joined {
    uint32_t share, shares, out;
};
LAYOUT(Joined, 16, 16);

// What all layers' attention has in common.
template <class T> struct Attending {
    Plan plan;
    int tiles, heads, kv_heads;
    const T *qkv;
    T *out;
    float *shares; // [tile][key/value head][split][row] of D sums, the largest score and the weights' sum
    // What this block does; in shared memory, since past a meeting everything else has to be fetched again.
    Task *tasks;
    Joined *joined;
    int task_count, joined_count;
};

template <int D> __device__ __forceinline__ uint32_t share_at(int kv_heads, int tile, int kv_head, int split) {
    return ((tile * kv_heads + kv_head) * SPLITS + split) * HEADS * (D + 2);
}

// Finds out what this block does: every grid's worth of the tasks, and of the heads.
template <class T, int D> __device__ __forceinline__ void share_out(Attending<T> &a) {
    int task_at = blockIdx.x, head_at = blockIdx.x, shared_by = a.heads / a.kv_heads, tasks = 0, heads = 0;
    for (int tile = 0; tile < a.tiles; tile++) {
        Task task = {a.plan.spans[a.plan.tiles[2 * tile]], static_cast<int>(a.plan.tiles[2 * tile + 1])};
        task.tile = tile, task.splits = min(SPLITS, task.last_page() + 1);
        int all = task.splits * a.kv_heads;
        for (; task_at < all; task_at += gridDim.x, tasks++) {
            task.kv_head = task_at / task.splits, task.split = task_at % task.splits;
            task.first_page = a.plan.pages[task.span.pages_at + task.split];
            if (threadIdx.x == 0) a.tasks[tasks] = task;
        }
        task_at -= all;
        all = a.kv_heads * HEADS;
        for (; head_at < all; head_at += gridDim.x) {
            int row = head_at % HEADS, kv_head = head_at / HEADS, head = task.first_head + row;
            if (head >= shared_by) continue;
            uint32_t share = share_at<D>(a.kv_heads, tile, kv_head, 0) + row * (D + 2);
            uint32_t out = (task.span.first_row * a.heads + kv_head * shared_by + head) * D;
            if (threadIdx.x == 0) a.joined[heads] = {share, static_cast<uint32_t>(task.splits), out};
            heads++;
        }
        head_at -= all;
    }
    a.task_count = tasks, a.joined_count = heads;
}

// What a warp reads of a page: keys as an mma's columns want them, and its slice of the values.
template <class T, int D> struct Page {
    static constexpr int STEPS = D / 32, CHUNKS = D / 8 / SLICES, MINE = (KEYS * CHUNKS + 31) / 32;
    uint4 keys[2][STEPS], values[MINE];

    // Zeros for what is not in the cache yet.
    __device__ __forceinline__ void load(const Cache &cache, const Task &task, uint32_t page, int at) {
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = warp / SLICES, slice = warp % SLICES;
        int old = static_cast<int>(task.span.start) - at * PAGE - group * KEYS;
        const T *k = cache_head<T>(cache, page, 0, task.kv_head, D) + group * KEYS * D;
        const T *v = cache_head<T>(cache, page, 1, task.kv_head, D) + group * KEYS * D;
#pragma unroll
        for (int n = 0; n < 2; n++)
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                int row = n * 8 + lane / 4;
                keys[n][s] = uint4{0, 0, 0, 0};
                if (row < old) keys[n][s] = load_fresh<uint4>(k + row * D + s * 32 + lane % 4 * 8);
            }
#pragma unroll
        for (int i = 0; i < MINE; i++) {
            int row = (i * 32 + lane) / CHUNKS, chunk = slice * CHUNKS + (i * 32 + lane) % CHUNKS;
            values[i] = uint4{0, 0, 0, 0};
            if (row < old) values[i] = load_fresh<uint4>(v + row * D + chunk * 8);
        }
    }

    __device__ __forceinline__ void put_values(Attention<T, D> &memory) const {
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32, slice = warp % SLICES;
#pragma unroll
        for (int i = 0; i < MINE; i++) {
            int row = (i * 32 + lane) / CHUNKS, chunk = slice * CHUNKS + (i * 32 + lane) % CHUNKS;
            if (row < KEYS) *reinterpret_cast<uint4 *>(&memory.values[warp / SLICES][row][chunk * 8]) = values[i];
        }
    }
};

// Asks for a task's first page as far as the second-level cache: it was written in earlier steps.
template <class T, int D> __device__ __forceinline__ void ask_for(const Cache &cache, const Task &task) {
    if (threadIdx.x >= 2) return;
    prefetch(cache_head<T>(cache, task.first_page, threadIdx.x, task.kv_head, D), PAGE * D * sizeof(T));
}

// One task.
template <class T, int D>
__device__ __forceinline__ void attend(const Attending<T> &a, const Cache &cache, const Task &task, const Turns<D> *turns,
                                       Attention<T, D> &memory) {
    constexpr int CHUNKS = D / 8, STEPS = D / 32, COLUMNS = D / SLICES;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = warp / SLICES, slice = warp % SLICES;
    int g = lane / 4, q = lane % 4, shared_by = a.heads / a.kv_heads, width = (a.heads + 2 * a.kv_heads) * D;
    const Span &span = task.span;
    int last = task.last_page();
    const T *row = a.qkv + static_cast<size_t>(span.first_row) * width;
    auto turned = [&](const T *from, int chunk, bool turn) {
        uint4 raw = load_fresh<uint4>(from + chunk * 8);
        auto v = *reinterpret_cast<Pack<T, 8> *>(&raw);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int pair = chunk * 4 + j;
            if (!turn || pair >= a.plan.pairs) continue;
            float2 by = turns[span.first_row][pair];
            float x = to_float(v.v[2 * j]), y = to_float(v.v[2 * j + 1]);
            ::turn(x, y, by.y, by.x);
            v.v[2 * j] = from_float<T>(x), v.v[2 * j + 1] = from_float<T>(y);
        }
        return v;
    };
    auto page_at = [&](int at) { return at == task.split ? task.first_page : a.plan.pages[span.pages_at + at]; };
    Page<T, D> page;
    page.load(cache, task, task.first_page, task.split);
    __syncthreads(); // the task before may still be read
    for (int i = threadIdx.x; i < HEADS * CHUNKS; i += THREADS) {
        int head = task.kv_head * shared_by + min(task.first_head + i / CHUNKS, shared_by - 1), chunk = i % CHUNKS;
        store<T, 8>(&memory.queries[i / CHUNKS][chunk * 8], turned(row + head * D, chunk, true));
    }
    if (last % task.splits == task.split && static_cast<int>(threadIdx.x) < 2 * CHUNKS) { // the new entry is among ours
        int value = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
        auto v = turned(row + (a.heads + value * a.kv_heads + task.kv_head) * D, chunk, !value);
        store<T, 8>((value ? memory.value : memory.key) + chunk * 8, v);
        if (task.first_head == 0) {
            T *to = cache_head<T>(cache, page_at(last), value, task.kv_head, D);
            store<T, 8>(to + span.start % PAGE * D + chunk * 8, v);
        }
    }
    __syncthreads();

    float scale = LOG2_E * rsqrtf(static_cast<float>(D));
    float out[COLUMNS / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int at = task.split; at <= last; at += task.splits) {
        if (at > task.split) page.load(cache, task, page_at(at), at);
        page.put_values(memory);
        __syncwarp();
        int seen = static_cast<int>(span.start) + 1 - at * PAGE - group * KEYS; // of the group's keys, the new one too
        int fresh = at == last && seen <= KEYS ? seen - 1 : -1;                 // where that stands, if it is among them
        if (fresh >= 0) {
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int s = 0; s < STEPS; s++)
                    if (n * 8 + g == fresh) page.keys[n][s] = *reinterpret_cast<const uint4 *>(memory.key + s * 32 + q * 8);
            if (lane < CHUNKS / SLICES) {
                int column = slice * COLUMNS + lane * 8;
                store<T, 8>(&memory.values[group][fresh][column], load<T, 8>(memory.value + column));
            }
            __syncwarp();
        }
        float scores[2][4] = {};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            uint4 low = *reinterpret_cast<const uint4 *>(&memory.queries[g][s * 32 + q * 8]);
            uint4 high = *reinterpret_cast<const uint4 *>(&memory.queries[g + 8][s * 32 + q * 8]);
#pragma unroll
            for (int n = 0; n < 2; n++) {
                multiply_add<T>(scores[n], {low.x, high.x, low.y, high.y}, page.keys[n][s].x, page.keys[n][s].y);
                multiply_add<T>(scores[n], {low.z, high.z, low.w, high.w}, page.keys[n][s].z, page.keys[n][s].w);
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float next = most[h];
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float &score = scores[n][2 * h + c];
                    score = n * 8 + q * 2 + c < seen ? score * scale : -INFINITY;
                    next = fmaxf(next, score);
                }
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 1));
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 2));
            float base = next == -INFINITY ? 0 : next, keep = exp2_fast(most[h] - base);
            most[h] = next;
            sum[h] *= keep;
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float &score = scores[n][2 * h + c];
                    score = exp2_fast(score - base);
                    sum[h] += score;
                }
#pragma unroll
            for (int d = 0; d < COLUMNS / 8; d++) out[d][2 * h] *= keep, out[d][2 * h + 1] *= keep;
        }
        uint32_t weights[4] = {pack_pair<T>(scores[0][0], scores[0][1]), pack_pair<T>(scores[0][2], scores[0][3]),
                               pack_pair<T>(scores[1][0], scores[1][1]), pack_pair<T>(scores[1][2], scores[1][3])};
#pragma unroll
        for (int d = 0; d < COLUMNS / 16; d++) {
            uint32_t b[4];
            load_matrices_transposed(b, &memory.values[group][lane % 16][slice * COLUMNS + d * 16 + lane / 16 * 8]);
            multiply_add<T>(out[2 * d], weights, b[0], b[1]);
            multiply_add<T>(out[2 * d + 1], weights, b[2], b[3]);
        }
        __syncwarp(); // before the next page's values come
    }
    // The groups' shares become one.
#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        if (slice == 0 && q == 0) memory.most[group][g + 8 * h] = most[h], memory.sum[group][g + 8 * h] = sum[h];
    }
    __syncthreads(); // nobody reads values any more
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float all = -INFINITY;
#pragma unroll
        for (int i = 0; i < GROUPS; i++) all = fmaxf(all, memory.most[i][g + 8 * h]);
        float keep = exp2_fast(most[h] - all); // the first keys of a page are always there
#pragma unroll
        for (int d = 0; d < COLUMNS / 8; d++) {
            float2 pair = {out[d][2 * h] * keep, out[d][2 * h + 1] * keep};
            *reinterpret_cast<float2 *>(&memory.out[group][g + 8 * h][slice * COLUMNS + d * 8 + q * 2]) = pair;
        }
    }
    __syncthreads();
    float *share = a.shares + share_at<D>(a.kv_heads, task.tile, task.kv_head, task.split);
    for (int i = threadIdx.x; i < HEADS * D / 2; i += THREADS) {
        int r = i / (D / 2), d = i % (D / 2) * 2;
        float2 total = {0, 0};
#pragma unroll
        for (int w = 0; w < GROUPS; w++) {
            auto part = *reinterpret_cast<const float2 *>(&memory.out[w][r][d]);
            total.x += part.x, total.y += part.y;
        }
        *reinterpret_cast<float2 *>(share + r * (D + 2) + d) = total;
    }
    if (threadIdx.x < HEADS) {
        int r = threadIdx.x;
        float all = -INFINITY, total = 0;
#pragma unroll
        for (int w = 0; w < GROUPS; w++) all = fmaxf(all, memory.most[w][r]);
#pragma unroll
        for (int w = 0; w < GROUPS; w++) total += memory.sum[w][r] * exp2_fast(memory.most[w][r] - all);
        *reinterpret_cast<float2 *>(share + r * (D + 2) + D) = {all, total};
    }
}

// out[rows, heads · D] from the shares: a block a head, some threads an element of it.
template <class T, int D>
__device__ __forceinline__ void join(const Attending<T> &a, const Joined &head, Attention<T, D> &memory) {
    constexpr int PARTS = THREADS / D;
    constexpr size_t NEXT = static_cast<size_t>(HEADS) * (D + 2);
    int d = threadIdx.x % D, part = threadIdx.x / D, used = head.shares;
    auto &joined = memory.joined;
    const float *share = a.shares + head.share;
    float mine[SPLITS / PARTS];
#pragma unroll
    for (int i = 0; i < SPLITS / PARTS; i++) {
        int split = i * PARTS + part;
        mine[i] = split < used ? load_fresh<float>(share + split * NEXT + d) : 0;
    }
    int split = threadIdx.x, other = split ^ 32; // what the other warp has
    float2 known = split < used ? load_fresh<float2>(share + split * NEXT + D) : float2{-INFINITY, 0};
    float most = split < SPLITS && other < used ? load_fresh<float>(share + other * NEXT + D) : -INFINITY;
    __syncthreads(); // the head before may still be read
    if (threadIdx.x < SPLITS) { // whole warps
        most = fmaxf(known.x, most);
        float weight = exp2_fast(known.x - warp_max(most));
        joined.weights[split] = weight;
        float total = warp_sum(known.y * weight);
        if (split % 32 == 0) joined.totals[split / 32] = total;
    }
    __syncthreads();
    float value = 0;
#pragma unroll
    for (int i = 0; i < SPLITS / PARTS; i++)
        if (i * PARTS + part < used) value += joined.weights[i * PARTS + part] * mine[i];
    joined.parts[part][d] = value;
    __syncthreads();
    if (part != 0) return;
#pragma unroll
    for (int i = 1; i < PARTS; i++) value += joined.parts[i][d];
    float total = joined.totals[0] + (used > 32 ? joined.totals[1] : 0);
    a.out[head.out + d] = from_float<T>(value / total);
}
