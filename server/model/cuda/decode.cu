// A decode step, one new token for each of a few sequences, as one kernel: such a step reads every weight once and does
// little else, so what counts is that reading never stops. A block a multiprocessor, all of them at once; between one
// stage and the next they meet, and while they wait for each other the weights of the next stage keep coming.
#include "decode_attention.cuh"

struct Step {
    const Product *products; // [count]: of each layer qkv, dense, gate and up, down; last the output's; each in parts
    int count, readings; // the last: how many there are
    Weight embedding;
    int embedding_format;
    Plan plan;
    Cache cache;
    const uint32_t *ids;
    float *x;        // the residual stream [rows, hidden]
    void *qkv;       // [rows, heads and twice key/value heads, D]
    void *attention; // [rows, heads, D]
    float *shares;
    uint32_t *arrived; // 0 at the start
    // The last three: what a block has at most of tasks and of heads to join, and of floats that its warps find of a product.
    int rows, tiles, heads, tasks, joined, found;
    float eps;
};
LAYOUT(Step, 208, 8);
FIELD(Step, products, 0); FIELD(Step, count, 8); FIELD(Step, readings, 12); FIELD(Step, embedding, 16);
FIELD(Step, embedding_format, 40); FIELD(Step, plan, 48); FIELD(Step, cache, 104); FIELD(Step, ids, 128);
FIELD(Step, x, 136); FIELD(Step, qkv, 144); FIELD(Step, attention, 152); FIELD(Step, shares, 160); FIELD(Step, arrived, 168);
FIELD(Step, rows, 176); FIELD(Step, tiles, 180); FIELD(Step, heads, 184); FIELD(Step, tasks, 188); FIELD(Step, joined, 192);
FIELD(Step, found, 196); FIELD(Step, eps, 200);

// x = the tokens' rows of the table.
template <class T> __device__ __forceinline__ void embed(const Step &s) {
    with_format<T>(s.embedding_format, [&](auto format) {
        using F = decltype(format);
        constexpr int GROUPS = F::SIZE / 8;
        const Weight &w = s.embedding;
        int units = w.k / F::SIZE;
        for (int i = blockIdx.x * THREADS + threadIdx.x; i < s.rows * units; i += gridDim.x * THREADS) {
            int m = i / units, u = i % units, row = s.ids[m];
            uint32_t v[GROUPS * 4];
            load_pairs<F, T>(w, row, u, v);
            float *to = s.x + static_cast<size_t>(m) * w.k;
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                Place place = F::place(u * GROUPS + g);
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    uint2 four = paired<F::PAIRED>({v[4 * g + 2 * h], v[4 * g + 2 * h + 1]});
                    auto values = *reinterpret_cast<const Pack<T, 4> *>(&four);
#pragma unroll
                    for (int j = 0; j < 4; j++) to[(h ? place.high : place.low) + j] = to_float(values.v[j]);
                }
            }
        }
    });
}

template <class T, int D, Kind KIND> __device__ __forceinline__ void step(const Step &s) {
    SHARED_MEMORY(ring);
    auto *turns = reinterpret_cast<Turns<D> *>(ring + WARPS * DEPTH * sizeof(Slot<KIND == BLOCKS>));
    auto *readings = reinterpret_cast<Reading *>(turns + MOST);
    auto *locations = reinterpret_cast<Location *>(readings + s.readings);
    auto *tasks = reinterpret_cast<Task *>(locations + (s.count + 1) / 2 * 2);
    auto *joined = reinterpret_cast<Joined *>(tasks + s.tasks);
    auto *found = reinterpret_cast<float *>(joined + s.joined);
    Inputs inputs = {reinterpret_cast<unsigned char *>(found + s.found)};
    auto &memory = *reinterpret_cast<Attention<T, D> *>(found); // never at the same time
    __shared__ Product now[2];
    Products products = {reinterpret_cast<const uint32_t *>(s.products), s.count, now};

    for (int i = threadIdx.x; i < s.count; i += THREADS) {
        const Product &p = s.products[i];
        locations[i] = Location(p);
        if (p.first) readings[p.reading] = Reading(p);
    }
    products.put(0, products.word(0));
    __syncthreads();
    Source source = {locations, readings, s.count, ring};
    Stream<KIND == BLOCKS>::begin(source).keep();
    Meeting meeting = {s.arrived, 0};
    embed<T>(s);
    for (int i = threadIdx.x; i < s.rows * s.plan.pairs; i += THREADS) {
        int m = i / s.plan.pairs, pair = i % s.plan.pairs;
        float sine, cosine;
        angle(s.plan.positions[m], s.plan.frequencies[pair], sine, cosine);
        turns[m][pair] = {cosine, sine};
    }
    Attending<T> attending = {s.plan, s.tiles, s.heads, s.cache.kv_heads, static_cast<const T *>(s.qkv),
                              static_cast<T *>(s.attention), s.shares, tasks, joined};
    share_out<T, D>(attending);
    Cache cache = s.cache;
    for (int i = 0; i < s.count; i++) {
        multiply<T, KIND>(products, i, source, s.rows, s.eps, inputs, found, meeting);
        if (now[i % 2].mode != NORM_BIAS || now[(i + 1) % 2].mode == NORM_BIAS) continue;
        // Behind qkv.
        meeting.arrive();
        for (int t = 0; t < attending.task_count; t++) ask_for<T, D>(cache, tasks[t]);
        meeting.wait();
        for (int t = 0; t < attending.task_count; t++) attend<T, D>(attending, cache, tasks[t], turns, memory);
        meeting.arrive();
        meeting.wait();
        for (int h = 0; h < attending.joined_count; h++) join<T, D>(attending, joined[h], memory);
        cache.layer++;
    }
}

#define SIZED(T, name, D)                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) step_##D##_##name(Step s) { step<T, D, BLOCKS>(s); }      \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) step_plain_##D##_##name(Step s) { step<T, D, PLAIN>(s); } \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) step_fp8_##D##_##name(Step s) { step<T, D, FP8>(s); }
#define DEFINE(T, name)                                                                                                \
    SIZED(T, name, 64)                                                                                                 \
    SIZED(T, name, 128)
FOR_EACH_HALF(DEFINE)
