// A decode step of up to sixteen rows as one kernel, for Hopper: a block a multiprocessor, all of them at once, which meet
// between one stage and the next. What decode.cu is for one row or two; here the rows of inputs are those of an mma, and
// weights of a tile its columns.
//
// Each block has the same outputs of every product that adds to the residual stream, so that it keeps those in its shared
// memory. What other blocks want of them is times the next norm's weights; a row's scale, one over the root of its mean
// square, is multiplied with the sums.
#include "formats.cuh"
#include "hopper_attend.cuh"

struct ManyLayer {
    const void *qkv_bias;   // or null
    const void *mlp_norm;   // of what follows dense
    const void *next_norm;  // of what follows down
};
LAYOUT(ManyLayer, 24, 8);
FIELD(ManyLayer, qkv_bias, 0); FIELD(ManyLayer, mlp_norm, 8); FIELD(ManyLayer, next_norm, 16);

struct Many {
    const TensorMap *maps; // of the cache, then of the weights in the order of their use
    const ManyLayer *layers;
    const void *embedding, *first_norm;
    Plan plan;
    Cache cache;
    const uint32_t *ids;
    void *normed;    // without their scales; these three lie as `input_at` says
    float *squares;  // [rows, blocks] sums of squares
    void *qkv;       // [rows, heads and twice key/value heads, D], rotated
    void *attention, *mlp;
    float *shares, *logits;
    uint32_t *arrived; // 0 at the start
    const float *const *scales; // of 8-bit floats: the embedding's, then the weights' in the order of their use
    ManyShape shapes[5]; // qkv, dense, gate and up, down, output
    int rows, heads;
    float eps;
};
LAYOUT(Many, 264, 8);
FIELD(Many, maps, 0); FIELD(Many, layers, 8); FIELD(Many, embedding, 16); FIELD(Many, first_norm, 24); FIELD(Many, plan, 32);
FIELD(Many, cache, 88); FIELD(Many, ids, 112); FIELD(Many, normed, 120); FIELD(Many, squares, 128); FIELD(Many, qkv, 136);
FIELD(Many, attention, 144); FIELD(Many, mlp, 152); FIELD(Many, shares, 160); FIELD(Many, logits, 168);
FIELD(Many, arrived, 176); FIELD(Many, scales, 184); FIELD(Many, shapes, 192); FIELD(Many, rows, 252);
FIELD(Many, heads, 256); FIELD(Many, eps, 260);

// What a block keeps in its shared memory, beside what depends on the model's sizes.
template <class T, int D> struct ManyMemory {
    ManyRing ring;
    // Of each warp its sums of a tile, in the order of an mma's result. Attention has them too.
    float4 found[MANY_TILES][MANY_WARPS][32];
    ManyAttention<T, D> attention;
    ManyRows rows;
    float scales[MANY_ROWS];
    Part part;
};
using ManyMemory128 = ManyMemory<bf16, 128>;
LAYOUT(ManyMemory128, 186416, 16);

struct ManyMeeting {
    uint32_t *arrived, all;
    __device__ __forceinline__ void arrive() {
        all += gridDim.x;
        meet_many();
        if (threadIdx.x == 0) asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
    }
    __device__ __forceinline__ void wait() const {
        if (threadIdx.x == 0) {
            uint32_t seen;
            do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
            while (seen < all);
        }
        meet_many();
    }
};

// Which result of a tile, [row of inputs][output], a place of the sums is.
__device__ __forceinline__ int row_at(int e) { return e / 16 + (e % 4 / 2) * 8; }
__device__ __forceinline__ int column_at(int e) { return row_of(e / 4 % 4 * 2 + e % 2); }

// WIDE: whether there are more than eight rows. FP8: whether weights are 8-bit floats, or as plain as everything else.
template <class T, int D, bool WIDE, bool FP8> struct ManyStep {
    using Units = ManyUnits<FP8>;
    using Memory = ManyMemory<T, D>;
    const Many &s;
    Memory &memory;
    float *x;      // [tile][place] the block's part of the residual stream
    float2 *turns; // [tile of qkv][row][pair of the tile] cosine and sine
    float *beside; // [tile][column] a product's bias, or the norm's weights of what it is added to
    float *factors; // [tile][column] what a product's sums are multiplied with, where weights have scales
    uint32_t *pages; // of the part's chunks
    const float *const *scales; // of the next product
    ManyReader reader;
    ManyMeeting meeting;
    uint4 a[2][WARP_UNITS][4]; // inputs: of each slot of a pass some units, of each four mmas

    __device__ __forceinline__ ManyStep(const Many &s, Memory &memory)
        : s(s), memory(memory), reader(memory.ring), meeting{s.arrived, 0} {
        x = reinterpret_cast<float *>(&memory + 1);
        turns = reinterpret_cast<float2 *>(x + (s.shapes[1].tiles() * MANY_TILE * MANY_ROWS));
        beside = reinterpret_cast<float *>(turns + s.shapes[0].tiles() * MANY_ROWS * (MANY_TILE / 2));
        factors = beside + max(s.shapes[0].tiles(), s.shapes[1].tiles()) * MANY_TILE;
        int scaled = 0;
        if constexpr (FP8) for (const ManyShape &shape : s.shapes) scaled = max(scaled, shape.tiles());
        pages = reinterpret_cast<uint32_t *>(factors + scaled * MANY_TILE);
        scales = s.scales + 1;
    }

    // What is the same in all layers; by all threads.
    __device__ __forceinline__ void share_out() {
        ManyRows &rows = memory.rows;
        const int kv_heads = s.cache.kv_heads, segments = s.rows * kv_heads, blocks = gridDim.x;
        if (threadIdx.x < s.rows) {
            const Span &span = s.plan.spans[threadIdx.x];
            rows.starts[threadIdx.x] = span.start;
            rows.pages[threadIdx.x] = s.plan.pages[span.pages_at + span.start / PAGE];
        }
        if (threadIdx.x < MANY_DEPTH) {
            barrier_init(&memory.ring.full[threadIdx.x], 1);
            barrier_init(&memory.ring.free[threadIdx.x], MANY_WARPS);
        }
        barriers_ready();
        if (threadIdx.x == 0) memory.part.chunks = 0;
        __syncthreads();
        if (threadIdx.x < 32) {
            // The smallest number of chunks with which there are blocks enough; a lane has two segments.
            int chunks[2], most = 1;
            for (int i = 0; i < 2; i++) {
                int segment = threadIdx.x * 2 + i;
                chunks[i] = segment < segments ? rows.starts[segment / kv_heads] / CHUNK + 1 : 0;
                most = max(most, chunks[i]);
            }
            for (int lane = 16; lane > 0; lane /= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, lane));
            int least = 1;
            while (least < most) {
                int middle = (least + most) / 2;
                int wanted = (chunks[0] + middle - 1) / middle + (chunks[1] + middle - 1) / middle;
                for (int lane = 16; lane > 0; lane /= 2) wanted += __shfl_xor_sync(0xffffffffu, wanted, lane);
                if (wanted <= blocks) most = middle;
                else least = middle + 1;
            }
            int mine[2] = {(chunks[0] + most - 1) / most, (chunks[1] + most - 1) / most}, before = mine[0] + mine[1];
            for (int by = 1; by < 32; by *= 2) {
                int other = __shfl_up_sync(0xffffffffu, before, by);
                if (static_cast<int>(threadIdx.x) >= by) before += other;
            }
            before -= mine[0] + mine[1];
            for (int i = 0; i < 2; i++) {
                int segment = threadIdx.x * 2 + i, part = static_cast<int>(blockIdx.x) - before;
                rows.before[segment] = before, before += mine[i];
                if (segment == MANY_SEGMENTS - 1) rows.before[MANY_SEGMENTS] = before;
                if (part < 0 || part >= mine[i]) continue;
                int begin = chunks[i] * part / mine[i], end = chunks[i] * (part + 1) / mine[i];
                memory.part = {segment / kv_heads, segment % kv_heads, begin, end - begin};
            }
        }
        __syncthreads();
        const Part &part = memory.part;
        for (int i = threadIdx.x; i < part.chunks; i += blockDim.x)
            pages[i] = s.plan.pages[s.plan.spans[part.row].pages_at + (part.begin + i) / (PAGE / CHUNK)];
        __syncthreads();
    }

    // What one thread does: asks for all that is read.
    __device__ __forceinline__ void write() {
        ManyWriter writer(memory.ring);
        const TensorMap *maps = s.maps + 1;
        Cache cache = s.cache;
#pragma unroll 1
        for (cache.layer = 0; cache.layer < cache.layers; cache.layer++)
#pragma unroll 1
            for (int number = 0; number < 4; number++) {
                writer.weights<FP8>(*maps++, s.shapes[number], number == 3);
                if (number == 0) writer.cache<D>(s.maps[0], cache, memory.part, pages);
            }
        writer.weights<FP8>(*maps, s.shapes[4], false);
    }

    __device__ __forceinline__ void begin() {
        for (int i = threadIdx.x; i < s.shapes[0].tiles() * MANY_ROWS * 4; i += MANY_THREADS) {
            int row = i / 4 % MANY_ROWS, pair = (s.shapes[0].output(i / 4 / MANY_ROWS) % D) / 2 + i % 4;
            float sine = 0, cosine = 1;
            if (pair < s.plan.pairs && row < s.rows) angle(s.plan.positions[row], s.plan.frequencies[pair], sine, cosine);
            turns[i] = {cosine, sine};
        }
        // The tokens' rows of the table.
        const ManyShape &hidden = s.shapes[1];
        auto *table = static_cast<const T *>(s.embedding);
        Weight embedding{};
        if constexpr (FP8)
            embedding = {static_cast<unsigned char *>(const_cast<void *>(s.embedding)),
                         reinterpret_cast<f16 *>(const_cast<float *>(s.scales[0])), 0, hidden.outputs};
        float squares = 0;
        for (int i = threadIdx.x; i < (hidden.tiles() + 1) / 2 * MANY_THREADS; i += MANY_THREADS) {
            int tile = i / MANY_THREADS * 2 + i % 2, e = i % MANY_THREADS / 2;
            if (tile >= hidden.tiles()) continue;
            int row = row_at(e), output = hidden.output(tile) + column_at(e);
            float value = 0;
            if (row < s.rows && output < hidden.outputs) {
                if constexpr (FP8) value = to_float(from_float<T>(Fp8::value(embedding, s.ids[row], output)));
                else value = to_float(table[static_cast<size_t>(s.ids[row]) * hidden.outputs + output]);
            }
            x[tile * 128 + e] = value;
            float norm = output < hidden.outputs ? to_float(static_cast<const T *>(s.first_norm)[output]) : 0;
            put_normed(row, output, value, norm);
            squares += value * value;
        }
        put_squares(squares);
    }

    __device__ __forceinline__ void put_normed(int row, int output, float value, float norm) {
        if (row < s.rows && output < s.shapes[1].outputs)
            static_cast<T *>(s.normed)[input_at<WIDE, FP8>(row, output)] = from_float<T>(value * norm);
    }
    // A warp has two rows' places, and of four lanes on end two have the same row.
    __device__ __forceinline__ void put_squares(float squares) {
#pragma unroll
        for (int by = 1; by < 32; by *= 2)
            if (by != 4) squares += __shfl_xor_sync(0xffffffffu, squares, by);
        int row = many_warp() + many_lane() / 4 * 8;
        if (many_lane() % 4 == 0 && many_lane() < 8 && row < s.rows)
            s.squares[static_cast<size_t>(row) * gridDim.x + blockIdx.x] = squares;
    }
    __device__ __forceinline__ void get_scales() {
        for (int row = many_warp(); row < s.rows; row += MANY_WARPS) {
            float sum = 0;
            for (int i = many_lane(); i < static_cast<int>(gridDim.x); i += 32)
                sum += load_fresh<float>(s.squares + static_cast<size_t>(row) * gridDim.x + i);
            sum = warp_sum(sum);
            if (many_lane() == 0) memory.scales[row] = rsqrtf(sum / s.shapes[1].outputs + s.eps);
        }
    }

    // The inputs of half a pass; behind their end zeros.
    __device__ __forceinline__ void load_inputs(const T *input, int units, int pass, int i) {
#pragma unroll
        for (int u = 0; u < WARP_UNITS; u++) {
            int unit = pass * PASS_UNITS + i * HALF_UNITS + many_warp() * WARP_UNITS + u;
            const T *from = input + static_cast<size_t>(unit * 128 + many_lane()) * (WIDE ? 8 : 4);
#pragma unroll
            for (int m = 0; m < 4; m++) {
                a[i][u][m] = uint4{0, 0, 0, 0};
                if (unit >= units) continue;
                if constexpr (WIDE) a[i][u][m] = load_fresh<uint4>(from + m * 32 * 8);
                else {
                    auto half = load_fresh<uint2>(from + m * 32 * 4);
                    a[i][u][m].x = half.x, a[i][u][m].z = half.y;
                }
            }
        }
    }

    // What is found with a unit of a slot and its inputs.
    __device__ __forceinline__ static void sum_unit(unsigned char *slot, int unit, const uint4 (&in)[4], float (&sums)[2][4]) {
        const int g = many_lane() / 4, q = many_lane() % 4;
        if constexpr (FP8) {
            uint4 w = *reinterpret_cast<const uint4 *>(swizzled(slot, unit * Units::LINES + q, row_of(g)));
#pragma unroll
            for (int m = 0; m < 4; m++) {
                uint32_t wide[2];
                widen<T>(word(w, m), wide);
                multiply_add<T>(sums[m % 2], {in[m].x, in[m].y, in[m].z, in[m].w}, wide[0], wide[1]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 2; c++) {
                uint4 w = *reinterpret_cast<const uint4 *>(swizzled(slot + unit * Units::BYTES, row_of(g), 4 * c + q));
                auto &low = in[c * 2], &high = in[c * 2 + 1];
                multiply_add<T>(sums[c], {low.x, low.y, low.z, low.w}, w.x, w.y);
                multiply_add<T>(sums[c], {high.x, high.y, high.z, high.w}, w.z, w.w);
            }
        }
    }

    // A warp's sums of the next tile of a pass that has so many units; after each half `then` is called with its number.
    template <class F> __device__ __forceinline__ void sum_tile(int units, float4 &to, float4 before, const F &then) {
        float sums[2][4] = {};
        const int mine = many_warp() * WARP_UNITS;
        auto sum_half = [&](unsigned char *slot, int i) {
            if (i * HALF_UNITS + mine >= units) return;
#pragma unroll
            for (int u = 0; u < WARP_UNITS; u++) sum_unit(slot, i * HALF_UNITS % Units::OF_SLOT + mine + u, a[i][u], sums);
        };
        if constexpr (Units::OF_SLOT == PASS_UNITS) {
            reader.take([&](unsigned char *slot) { sum_half(slot, 0), sum_half(slot, 1); });
            then(0), then(1);
        } else {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (i * HALF_UNITS < units) reader.take([&](unsigned char *slot) { sum_half(slot, i); });
                then(i);
            }
        }
        to = {before.x + (sums[0][0] + sums[1][0]), before.y + (sums[0][1] + sums[1][1]),
              before.z + (sums[0][2] + sums[1][2]), before.w + (sums[0][3] + sums[1][3])};
    }

    // A product: `finish` is called with each result's tile, row, output, and sum; of a gated one with the partner's sum too.
    template <bool LONG, class F>
    __device__ __forceinline__ void multiply(int number, const void *in, bool normed, const void *next_to, const F &finish) {
        const ManyShape &shape = s.shapes[number];
        auto *input = static_cast<const T *>(in);
        constexpr int TOGETHER = ManyShape::together(LONG);
        const int lane = many_lane(), warp = many_warp(), tiles = shape.tiles(), units = shape.units();
        meeting.arrive();
        if constexpr (FP8) {
            const float *of = *scales++;
            for (int i = threadIdx.x; i < tiles * MANY_TILE; i += MANY_THREADS) {
                int tile = i / MANY_TILE, column = i % MANY_TILE;
                factors[i] = shape.output(tile) + column < shape.outputs ? of[shape.row(tile) + column] * Widened<T>::WORTH : 0;
            }
        }
        if (number == 0 || !normed) // what depends on nothing, before the others are waited for
            for (int i = threadIdx.x; i < tiles * MANY_TILE; i += MANY_THREADS) {
                int output = shape.output(i / MANY_TILE) + i % MANY_TILE;
                beside[i] = next_to && output < shape.outputs ? to_float(static_cast<const T *>(next_to)[output]) : 0;
            }
        meeting.wait();
        load_inputs(input, units, 0, 0);
        load_inputs(input, units, 0, 1);
        if (normed) get_scales();
        int buffer = 0;
#pragma unroll 1
        for (int base = 0; base < tiles; base += TOGETHER) {
            const int count = min(TOGETHER, tiles - base);
            if constexpr (LONG) {
                if (base > 0) load_inputs(input, units, 0, 0), load_inputs(input, units, 0, 1);
#pragma unroll 1
                for (int pass = 0; pass * PASS_UNITS < units; pass++) {
                    auto sum = [&](int t, const auto &then) {
                        float4 &to = memory.found[t][warp][lane];
                        sum_tile(units - pass * PASS_UNITS, to, pass > 0 ? to : float4{0, 0, 0, 0}, then);
                    };
#pragma unroll 1
                    for (int t = 0; t < count - 1; t++) sum(t, [](int) {});
                    sum(count - 1, [&](int i) { load_inputs(input, units, pass + 1, i); });
                }
            } else {
#pragma unroll 1
                for (int t = 0; t < count; t++) sum_tile(units, memory.found[buffer + t][warp][lane], {0, 0, 0, 0}, [](int) {});
            }
            meet_many();
            // Two threads side by side have a place of two tiles.
#pragma unroll 1
            for (int t = 0; t < count; t += 2) {
                int tile = t + threadIdx.x % 2, e = threadIdx.x / 2;
                float sum = 0;
                if (tile < count) {
                    auto *found = reinterpret_cast<const float *>(memory.found[buffer + tile]) + e;
#pragma unroll
                    for (int w = 0; w < MANY_WARPS; w++) sum += found[w * 128];
                }
                int row = row_at(e);
                // First, since the sums are small without it.
                if (FP8 && tile < count) sum *= factors[(base + tile) * MANY_TILE + column_at(e)];
                if (normed) sum *= memory.scales[row];
                float partner = __shfl_xor_sync(0xffffffffu, sum, 1);
                int output = shape.output(base + tile) + column_at(e);
                bool mine = tile < count && (shape.halves == 1 || tile % 2 == 0);
                finish(base + tile, e, row, output, mine && row < s.rows && output < shape.outputs, sum, partner);
            }
            if (LONG) meet_many();
            else buffer ^= MANY_TILES / 2;
        }
    }

    template <bool LONG> __device__ __forceinline__ void add(int number, const void *input, const void *norm) {
        float squares = 0;
        multiply<LONG>(number, input, false, norm, [&](int tile, int e, int row, int output, bool mine, float sum, float) {
            if (!mine) return;
            float value = x[tile * 128 + e] + sum;
            x[tile * 128 + e] = value;
            put_normed(row, output, value, beside[tile * MANY_TILE + column_at(e)]);
            squares += value * value;
        });
        put_squares(squares);
    }

    __device__ __forceinline__ void run() {
        share_out();
        if (many_warp() >= MANY_WARPS) {
            give_registers<40>();
            if (threadIdx.x == MANY_THREADS) write();
            return;
        }
        take_registers<232>();
        begin();
        const int heads = s.heads, kv_heads = s.cache.kv_heads;
        for (int layer = 0; layer < s.cache.layers; layer++) {
            const ManyLayer of = s.layers[layer];
            multiply<false>(0, s.normed, true, of.qkv_bias, [&](int tile, int e, int row, int output, bool mine, float sum,
                                                                float) {
                if (tile < s.shapes[0].tiles()) sum += beside[tile * MANY_TILE + column_at(e)];
                float partner = __shfl_xor_sync(0xffffffffu, sum, 8); // of the pair's other
                if (!mine) return;
                int head = output / D, d = output % D;
                if (head < heads + kv_heads) {
                    float2 by = turns[(tile * MANY_ROWS + row) * 4 + output % MANY_TILE / 2];
                    sum = d % 2 ? sum * by.x + partner * by.y : sum * by.x - partner * by.y;
                }
                T value = from_float<T>(sum);
                static_cast<T *>(s.qkv)[static_cast<size_t>(row) * s.shapes[0].outputs + output] = value;
                if (head < heads) return;
                Cache cache = s.cache;
                cache.layer = layer;
                int of_values = head >= heads + kv_heads;
                T *to = cache_head<T>(cache, memory.rows.pages[row], of_values, head - heads - of_values * kv_heads, D);
                to[memory.rows.starts[row] % PAGE * D + d] = value;
            });
            meeting.arrive();
            meeting.wait();
            if (memory.part.chunks > 0)
                attend_part<T, D>(reader, memory.rows, memory.part, static_cast<const T *>(s.qkv), kv_heads, heads, s.shares,
                                  memory.attention, memory.found[0][0]);
            meeting.arrive();
            meeting.wait();
            join_many<T, D, WIDE, FP8>(memory.rows, s.rows, kv_heads, heads, s.shares, static_cast<T *>(s.attention));
            add<false>(1, s.attention, of.mlp_norm);
            multiply<false>(2, s.normed, true, nullptr, [&](int, int, int row, int output, bool mine, float sum,
                                                            float partner) {
                if (mine) static_cast<T *>(s.mlp)[input_at<WIDE, FP8>(row, output)] = from_float<T>(silu(sum) * partner);
            });
            add<true>(3, s.mlp, of.next_norm);
        }
        multiply<false>(4, s.normed, true, nullptr, [&](int, int, int row, int output, bool mine, float sum, float) {
            if (mine) s.logits[static_cast<size_t>(row) * s.shapes[4].outputs + output] = sum;
        });
    }
};

#define SIZED(T, name, D, WIDE, FP8)                                                                                   \
    extern "C" __global__ void __launch_bounds__(MANY_THREADS + WARP_GROUP, 1) name(const __grid_constant__ Many s) {  \
        SHARED_MEMORY(memory);                                                                                         \
        ManyStep<T, D, WIDE, FP8>(s, *reinterpret_cast<ManyMemory<T, D> *>(memory)).run();                             \
    }
SIZED(bf16, step_hopper_8_128_bf16, 128, false, false)
SIZED(bf16, step_hopper_16_128_bf16, 128, true, false)
SIZED(bf16, step_hopper_8_128_bf16_fp8, 128, false, true)
SIZED(bf16, step_hopper_16_128_bf16_fp8, 128, true, true)
