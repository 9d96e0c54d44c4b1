// The products of a decode step: x · weightᵀ for one or two rows of inputs, with what stands before and behind each.
//
// A lane's sixteen bytes are a piece of a column of an mma, and the inputs are its rows. All lanes of a column are summed, so
// what isn't to meet in a sum is kept apart by the mma's rows: each has the inputs of some lanes, and zeros for the others.
// In which order a sum is taken is free as long as both factors keep to it.
//
// The eight columns are eight pieces of a plain row, and of the rows that the inputs have there one is made of the same pieces:
// the sums wanted are where row and column have the same number. The others mean nothing.
//
// Of blocks the columns are the rows of a tile. Not the weights are scaled but the sums: a row of the mma has the inputs of one
// scale's weights. Numbers of 4 bits become 16-bit ones by an and-or, each too large by ZERO; what that adds is ZERO times
// the sum of the inputs, which is known. Numbers of 8 bits are two of 4 bits, the second with sixteen times the scale.
#pragma once
#include "decode_weights.cuh"

// What the inputs lie in.
struct Inputs {
    static constexpr int ZEROS = 512; // bytes that are 0
    // Elements behind a row, so that two rows lie in different banks.
    static constexpr int APART = 32;
    // Zeros; then for plain weights, [round][half of a unit][lane] two pairs of both rows of inputs; for blocks [m, stride]
    // inputs as T, and [m, stride / 32] sums of 32 of them as f32.
    unsigned char *memory;

    // Whole batches of any format.
    static __device__ __forceinline__ int whole(int k) { return (k + 511) / 512 * 512; }
    static __device__ __forceinline__ int stride(int k) { return whole(k) + APART; }
    __device__ __forceinline__ uint4 *pairs() const { return reinterpret_cast<uint4 *>(memory + ZEROS); }
    template <class T> __device__ __forceinline__ T *row(int k, int m) const {
        return reinterpret_cast<T *>(memory + ZEROS) + m * stride(k);
    }
    __device__ __forceinline__ float *sums(int k, int rows, int m) const {
        return reinterpret_cast<float *>(memory + ZEROS + rows * stride(k) * 2) + m * (stride(k) / 32);
    }
};

// Where the digits of a unit have their inputs, in which lanes' mma rows they are, and what is to be done with the sums. A lane's
// row of the mma is lane / 4: its second bit tells the row of inputs, the others part the scales.
template <class F> struct Scaled;

__device__ __forceinline__ int input_row() { return lane_id() / 8 % 2; }
__device__ __forceinline__ int part_low() { return lane_id() / 4 % 2; }
__device__ __forceinline__ int part_high() { return lane_id() / 16; }

// What a lane has of a batch: for each round the sums of the weight's rows 2q and 2q + 1, and that of the inputs.
struct Sums {
    float rows[ROUNDS][2], inputs[ROUNDS];
};

// What holds a lane's scales: of each round, those of rows 2q and 2q + 1.
struct Twos {
    Pack<f16, 2> twos[ROUNDS];
};

template <int BLOCKS> __device__ __forceinline__ Twos load_twos(const Slot &slot, int block) {
    Twos found;
#pragma unroll
    for (int r = 0; r < ROUNDS; r++)
        found.twos[r] = *reinterpret_cast<const Pack<f16, 2> *>(slot.heads + ((r * BLOCKS + block) * TILE + lane_id() % 4 * 2) * 2);
    return found;
}

// Adds sums times the scales of their block.
__device__ __forceinline__ void add_scaled(const Twos &heads, float by, const Sums &sums, float2 &total) {
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        auto two = heads.twos[r];
        total.x += to_float(two.v[0]) * by * sums.rows[r][0], total.y += to_float(two.v[1]) * by * sums.rows[r][1];
    }
}

// Two lanes have a block; the parts are block and digit.
template <> struct Scaled<Q8_0> {
    static constexpr int BLOCKS = 2; // of 32, in a round
    static __device__ __forceinline__ int place(bool) { return lane_id() % 4 * 16; }
    static __device__ __forceinline__ bool takes(bool high) {
        return part_high() == high && lane_id() % 4 / 2 == part_low();
    }
    static __device__ __forceinline__ int block() { return part_low(); }
    // The second digit is signed: 8 more than ZERO is its 0, once its top bit is turned.
    static constexpr uint32_t FLIPPED = 0x80808080u;
    static __device__ __forceinline__ int zero() { return part_high() ? 8 : 0; }
    static __device__ __forceinline__ Twos heads(const Slot &slot) { return load_twos<BLOCKS>(slot, block()); }
    static __device__ __forceinline__ void scale(const Twos &heads, const Sums &sums, float2 &total) {
        add_scaled(heads, part_high() ? 16.0f : 1.0f, sums, total);
    }
};

// A lane has a block; the parts are the blocks.
template <> struct Scaled<Q4_0> {
    static constexpr int BLOCKS = 4;
    static __device__ __forceinline__ int place(bool high) { return lane_id() % 4 * 32 + (high ? 16 : 0); }
    static __device__ __forceinline__ bool takes(bool) { return lane_id() % 4 == block(); }
    static __device__ __forceinline__ int block() { return part_high() * 2 + part_low(); }
    static constexpr uint32_t FLIPPED = 0;
    static __device__ __forceinline__ int zero() { return 8; }
    static __device__ __forceinline__ Twos heads(const Slot &slot) { return load_twos<BLOCKS>(slot, block()); }
    static __device__ __forceinline__ void scale(const Twos &heads, const Sums &sums, float2 &total) {
        add_scaled(heads, 1, sums, total);
    }
};

// Two lanes have two blocks, one in the low digits, one in the high ones.
template <> struct Scaled<Q4K> {
    static constexpr int BLOCKS = 4;
    static __device__ __forceinline__ int place(bool high) {
        return lane_id() % 4 / 2 * 64 + lane_id() % 2 * 16 + (high ? 32 : 0);
    }
    static __device__ __forceinline__ bool takes(bool high) {
        return part_high() == high && lane_id() % 4 / 2 == part_low();
    }
    static __device__ __forceinline__ int block() { return part_low() * 2 + part_high(); }
    static constexpr uint32_t FLIPPED = 0;
    static __device__ __forceinline__ int zero() { return 0; }
    struct Heads {
        uint4 rows[2];
    };
    static __device__ __forceinline__ Heads heads(const Slot &slot) {
        auto *at = reinterpret_cast<const uint4 *>(slot.heads) + lane_id() % 4 * 2;
        return {{at[0], at[1]}};
    }
    // See Q4K::pairs.
    static __device__ __forceinline__ void scale(const Heads &heads, const Sums &sums, float2 &total) {
        static_assert(ROUNDS == 2, "a batch is a block");
        int shift = block() * 8;
        float found[2];
#pragma unroll
        for (int c = 0; c < 2; c++) {
            uint4 raw = heads.rows[c];
            auto d = *reinterpret_cast<const Pack<f16, 2> *>(&raw.x);
            uint32_t s = raw.y >> shift, m = raw.z >> shift, low = raw.w >> shift;
            float scaled = small_float(s & 63u) * sums.rows[0][c];
            scaled += small_float((low & 15u) | (s >> 2 & 0x30u)) * sums.rows[1][c];
            float less = small_float(m & 63u) * sums.inputs[0];
            less += small_float((low >> 4 & 15u) | (m >> 2 & 0x30u)) * sums.inputs[1];
            found[c] = to_float(d.v[0]) * scaled - to_float(d.v[1]) * less;
        }
        total.x += found[0], total.y += found[1];
    }
    static __device__ __forceinline__ float small_float(uint32_t v) {
        return __uint_as_float(v | 0x4B000000u) - 8388608.0f;
    }
};

// The sums over a block, for every thread.
__device__ __forceinline__ void block_sums(float (&x)[MOST]) {
    __shared__ float parts[MOST][WARPS];
#pragma unroll
    for (int m = 0; m < MOST; m++) x[m] = warp_sum(x[m]);
    if (lane_id() == 0)
#pragma unroll
        for (int m = 0; m < MOST; m++) parts[m][warp_id()] = x[m];
    __syncthreads();
#pragma unroll
    for (int m = 0; m < MOST; m++) {
        x[m] = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++) x[m] += parts[m][i];
    }
}

// The inputs to shared memory, normed unless they are added to; zeros behind their end. Nobody reads there any more.
template <class T>
__device__ __forceinline__ void stage(const Product &p, int rows, float eps, const Pack<T, 8> &norm, const Inputs &inputs) {
    constexpr int EIGHTS = 4; // that a thread loads at once
    int k = p.weight.k, whole = Inputs::whole(k), mine = threadIdx.x * 8;
    bool plain = p.format == DENSE;
    auto put = [&](int at, const uint4 (&pairs)[MOST]) {
        if (plain) {
            uint4 *to = inputs.pairs() + at / 256 * 64 + at / 8 % 32;
            to[0] = {pairs[0].x, pairs[1].x, pairs[0].y, pairs[1].y};
            to[32] = {pairs[0].z, pairs[1].z, pairs[0].w, pairs[1].w};
            return;
        }
#pragma unroll
        for (int m = 0; m < MOST; m++) {
            if (m >= rows) continue;
            uint2 low = paired<true>({pairs[m].x, pairs[m].y}), high = paired<true>({pairs[m].z, pairs[m].w});
            *reinterpret_cast<uint4 *>(inputs.row<T>(k, m) + at) = {low.x, low.y, high.x, high.y};
            auto values = *reinterpret_cast<const Pack<T, 8> *>(&pairs[m]);
            float sum = 0;
#pragma unroll
            for (int i = 0; i < 8; i++) sum += to_float(values.v[i]);
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if (lane_id() % 4 == 0) inputs.sums(k, rows, m)[at / 32] = sum;
        }
    };
    for (int i = threadIdx.x; i < Inputs::ZEROS / 4; i += THREADS) reinterpret_cast<float *>(inputs.memory)[i] = 0;
    if (p.mode == ADD) {
        auto *x = static_cast<const T *>(p.input);
#pragma unroll 1
        for (int begin = mine; begin < whole; begin += EIGHTS * THREADS * 8) {
            uint4 some[EIGHTS][MOST];
#pragma unroll
            for (int e = 0; e < EIGHTS; e++)
#pragma unroll
                for (int m = 0; m < MOST; m++) {
                    int at = begin + e * THREADS * 8;
                    some[e][m] = uint4{0, 0, 0, 0};
                    if (at < k && m < rows) some[e][m] = load_fresh<uint4>(x + static_cast<size_t>(m) * k + at);
                }
#pragma unroll
            for (int e = 0; e < EIGHTS; e++)
                if (begin + e * THREADS * 8 < whole) put(begin + e * THREADS * 8, some[e]);
        }
    } else {
        auto *x = static_cast<const float *>(p.input);
        float v[MOST][8], inverse[MOST] = {};
        auto load_at = [&](int at) {
#pragma unroll
            for (int m = 0; m < MOST; m++) {
                float4 low = {0, 0, 0, 0}, high = low;
                if (m < rows && at < k) {
                    auto *from = x + static_cast<size_t>(m) * k + at;
                    low = load_fresh<float4>(from), high = load_fresh<float4>(from + 4);
                }
                v[m][0] = low.x, v[m][1] = low.y, v[m][2] = low.z, v[m][3] = low.w;
                v[m][4] = high.x, v[m][5] = high.y, v[m][6] = high.z, v[m][7] = high.w;
            }
        };
        // All but the first eight of a thread, if there are any, are loaded twice.
        int last = mine + (k - 1 - mine) / (THREADS * 8) * (THREADS * 8);
#pragma unroll 1
        for (int at = max(last, mine); at >= mine; at -= THREADS * 8) {
            load_at(at);
#pragma unroll
            for (int m = 0; m < MOST; m++)
#pragma unroll
                for (int i = 0; i < 8; i++) inverse[m] += v[m][i] * v[m][i];
        }
        block_sums(inverse);
#pragma unroll
        for (int m = 0; m < MOST; m++) inverse[m] = rsqrtf(inverse[m] / k + eps);
#pragma unroll 1
        for (int at = mine; at < whole; at += THREADS * 8) {
            auto scale = norm;
            if (at != mine) {
                scale = {};
                if (at < k) scale = load<T, 8>(static_cast<const T *>(p.norm) + at);
                load_at(at);
            }
            uint4 pairs[MOST];
#pragma unroll
            for (int m = 0; m < MOST; m++) {
                auto pair = [&](int i) {
                    return pack_pair<T>(v[m][i] * inverse[m] * to_float(scale.v[i]),
                                        v[m][i + 1] * inverse[m] * to_float(scale.v[i + 1]));
                };
                pairs[m] = {pair(0), pair(2), pair(4), pair(6)};
            }
            put(at, pairs);
        }
    }
    __syncthreads();
}

// Goes through this warp's piece of the block's tiles, from a batch of a tile on so many, and puts down what it finds:
// `found` is [tile + warp][m][row of the tile].
template <class F, class T>
__device__ __forceinline__ void sum_up(int k, int batches, int rows, int tile, int batch, int left, Stream &stream,
                                       const Inputs &inputs, float *found) {
    int lane = lane_id();
    // Calls `f` with each run of batches of a tile.
    auto for_runs = [&](const auto &f) {
#pragma unroll 1
        while (left > 0) {
            int run = min(left, batches - batch);
            f(run);
            left -= run, batch = 0, tile++;
        }
    };
    if constexpr (F::FORMAT == DENSE) {
        for_runs([&](int run) {
            const uint4 *x = inputs.pairs() + batch * ROUNDS * 64 + lane;
            float sums[2 * ROUNDS][4] = {}; // side by side: the tensor cores take their time
#pragma unroll 1
            for (; run > 0; run--, x += ROUNDS * 64) {
                const Slot &slot = stream.wait();
#pragma unroll
                for (int r = 0; r < ROUNDS; r++) {
                    uint4 w = slot.units[r][lane], a = x[r * 64], b = x[r * 64 + 32];
                    multiply_add<T>(sums[2 * r], {a.x, a.y, a.z, a.w}, w.x, w.y);
                    multiply_add<T>(sums[2 * r + 1], {b.x, b.y, b.z, b.w}, w.z, w.w);
                }
                stream.done();
            }
#pragma unroll
            for (int i = 1; i < 2 * ROUNDS; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sums[0][j] += sums[i][j];
            // Of a lane's two columns at most one has its row's number.
            int own = lane / 4 - lane % 4 * 2;
            float low = warp_sum(own == 0 ? sums[0][0] : own == 1 ? sums[0][1] : 0);
            float high = warp_sum(own == 0 ? sums[0][2] : own == 1 ? sums[0][3] : 0);
            if (lane == 0) *reinterpret_cast<float2 *>(found + (tile + warp_id()) * MOST) = {low, high};
        });
    } else {
        using S = Scaled<F>;
        constexpr int ROUND = 4 * F::SIZE * 2, BATCH = ROUNDS * ROUND; // bytes of inputs
        int q = lane % 4, m = input_row();
        bool there = m < rows, low = there && S::takes(false), high = there && S::takes(true);
        const unsigned char *row = reinterpret_cast<const unsigned char *>(inputs.row<T>(k, m));
        // Lanes whose digits aren't their row's read zeros.
        const unsigned char *low_at = low ? row + S::place(false) * 2 : inputs.memory;
        const unsigned char *high_at = high ? row + S::place(true) * 2 : inputs.memory;
        const float *sums_at = there ? inputs.sums(k, rows, m) + S::block() : reinterpret_cast<float *>(inputs.memory);
        int low_step = low ? BATCH : 0, high_step = high ? BATCH : 0, sums_step = there ? ROUNDS * S::BLOCKS : 0;
        float zero = -static_cast<float>(Digits<T>::ZERO + S::zero());
        for_runs([&](int run) {
            const unsigned char *low_x = low_at + batch * low_step, *high_x = high_at + batch * high_step;
            const float *sum_at = sums_at + batch * sums_step;
            float2 total = {0, 0};
#pragma unroll 1
            for (; run > 0; run--, low_x += low_step, high_x += high_step, sum_at += sums_step) {
                const Slot &slot = stream.wait();
                float even[ROUNDS][4] = {}, odd[ROUNDS][4] = {};
                uint4 units[ROUNDS];
#pragma unroll
                for (int r = 0; r < ROUNDS; r++) units[r] = slot.units[r][lane];
                auto heads = S::heads(slot);
                Sums sums;
#pragma unroll
                for (int r = 0; r < ROUNDS; r++) sums.inputs[r] = sum_at[r * S::BLOCKS];
                // The tensor cores take their time: their sums go side by side.
#pragma unroll
                for (int i = 0; i < 2; i++) // two words, eight numbers of each kind
#pragma unroll
                    for (int high = 0; high < 2; high++)
#pragma unroll
                        for (int r = 0; r < ROUNDS; r++) {
                            uint32_t v = (word(units[r], 2 * i) ^ S::FLIPPED) >> 4 * high;
                            uint32_t w = (word(units[r], 2 * i + 1) ^ S::FLIPPED) >> 4 * high;
                            uint4 a = *reinterpret_cast<const uint4 *>((high ? high_x : low_x) + r * ROUND + i * 16);
                            multiply_add<T>(even[r], {a.x, a.y, a.z, a.w}, digits<T>(v), digits<T>(w));
                            multiply_add<T>(odd[r], {a.x, a.y, a.z, a.w}, digits<T>(v >> 8), digits<T>(w >> 8));
                        }
#pragma unroll
                for (int r = 0; r < ROUNDS; r++) {
#pragma unroll
                    for (int c = 0; c < 2; c++) sums.rows[r][c] = even[r][c] + odd[r][2 + c] + zero * sums.inputs[r];
                }
                S::scale(heads, sums, total);
                stream.done();
            }
            // A tile's sums are parted between the lanes with the same q and row of inputs.
#pragma unroll
            for (int other = 4; other <= 16; other *= 4) {
                total.x += __shfl_xor_sync(0xffffffffu, total.x, other);
                total.y += __shfl_xor_sync(0xffffffffu, total.y, other);
            }
            auto *to = found + ((tile + warp_id()) * MOST + m) * TILE + q * 2;
            if ((lane & 20) == 0) *reinterpret_cast<float2 *>(to) = total;
        });
    }
}

// What the warps found of a tile's row.
__device__ __forceinline__ float sum_found(const float *found, const Reading &r, int height, int tile, int m, int row) {
    float sum = 0;
    int all = r.tiles * r.batches, last = piece_of(all, (tile + 1) * r.batches - 1);
    for (int warp = piece_of(all, tile * r.batches); warp <= last; warp++)
        if (piece_begin(all, warp) < piece_begin(all, warp + 1)) sum += found[((tile + warp) * MOST + m) * height + row];
    return sum;
}

// Result i of a block, [tile][row of inputs][row].
struct Result {
    int tile, m, row, output; // the last: which of the outputs it is, or -1 where there is none

    __device__ __forceinline__ Result(const Product &p, const Reading &r, int rows, int i) {
        int bits = p.format == DENSE ? 0 : 3;
        row = i & ((1 << bits) - 1), m = (i >> bits) % MOST, tile = (i >> bits) / MOST * r.halves;
        output = p.first_row(tile) + row;
        if (tile >= r.tiles || m >= rows || output >= p.outputs()) output = -1;
    }
    // What it is added to.
    template <class T> __device__ __forceinline__ float before(const Product &p) const {
        if (output < 0) return 0;
        if (p.mode == ADD) return load_fresh<float>(static_cast<float *>(p.out) + static_cast<size_t>(m) * p.outputs() + output);
        return p.mode == NORM_BIAS && p.bias ? to_float(static_cast<const T *>(p.bias)[output]) : 0.0f;
    }
};

template <class T>
__device__ __forceinline__ void finish(const Product &p, const Reading &r, int rows, const float *found, float first_before) {
    int height = p.height(), mode = p.mode;
    for (int i = threadIdx.x; i < r.tiles / r.halves * MOST * height; i += THREADS) {
        Result result(p, r, rows, i);
        if (result.output < 0) continue;
        float sum = sum_found(found, r, height, result.tile, result.m, result.row);
        if (mode == NORM_GATED) sum = silu(sum) * sum_found(found, r, height, result.tile + 1, result.m, result.row);
        else sum += i < THREADS ? first_before : result.before<T>(p);
        size_t at = static_cast<size_t>(result.m) * p.outputs() + result.output;
        if (mode == NORM_F32 || mode == ADD) static_cast<float *>(p.out)[at] = sum;
        else static_cast<T *>(p.out)[at] = from_float<T>(sum);
    }
}

// Waits with `meet_all` until the inputs are there, and multiplies.
template <class T, class Meet>
__device__ __forceinline__ void multiply(const Product &p, const Reading &r, const Source &source, int rows, float eps, const Inputs &inputs, float *found,
                                         const Meet &meet_all) {
    // What depends on nothing is done before the others are waited for.
    Pack<T, 8> norm = {};
    int first = threadIdx.x * 8;
    if (p.mode != ADD && first < p.weight.k) norm = load<T, 8>(static_cast<const T *>(p.norm) + first);
    float before = Result(p, r, rows, threadIdx.x).template before<T>(p);
    int all = r.tiles * r.batches, begin = piece_begin(all, warp_id()), left = piece_begin(all, warp_id() + 1) - begin;
    int tile = r.tile_with(begin), batch = begin - tile * r.batches;
    meet_all();
    stage<T>(p, rows, eps, norm, inputs);
    Stream stream = Stream::again(source);
    with_format<T>(p.format, [&](auto format) {
        sum_up<decltype(format), T>(p.weight.k, r.batches, rows, tile, batch, left, stream, inputs, found);
    });
    stream.keep();
    __syncthreads();
    finish<T>(p, r, rows, found, before);
}
