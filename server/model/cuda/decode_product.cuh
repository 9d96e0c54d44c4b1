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
// scale's weights, and all rows the sums of their own. Numbers of 4 bits become 16-bit ones by an and-or, each too large by
// ZERO; what that adds is ZERO times the sum of the inputs, which is known. Numbers of 8 bits are two of 4 bits, the second with
// sixteen times the scale.
//
// Of 8-bit floats the columns are the rows of a tile too, and the mma's rows are the rows of the inputs: there is one scale for
// all of a row, and it comes last.
#pragma once
#include "decode_weights.cuh"

// What the inputs lie in, made up with zeros to whole batches of any format.
struct Inputs {
    // For plain weights, [round][half of a unit][lane] two pairs of both rows of inputs. For blocks, eight after eight: of one row
    // four pairs, those for a word's bytes 0 and 2, 1 and 3, and for the next word's; of two rows both their pairs 0 and 2, then
    // both their pairs 1 and 3. Behind them [m, whole / 32] sums of 32 inputs as f32.
    unsigned char *memory;

    static __device__ __forceinline__ int whole(int k) { return (k + 511) / 512 * 512; }
    __device__ __forceinline__ uint4 *quads() const { return reinterpret_cast<uint4 *>(memory); }
    __device__ __forceinline__ float *sums(int k, int rows, int m) const {
        return reinterpret_cast<float *>(memory + rows * whole(k) * 2) + m * (whole(k) / 32);
    }
};

// How a lane's row of the mma, lane / 4, is read in its bits: the round whose weights its inputs belong to, and the rest.
__device__ __forceinline__ int own_round() { return lane_id() / 16; }
__device__ __forceinline__ int own_middle() { return lane_id() / 8 % 2; }
__device__ __forceinline__ int own_low() { return lane_id() / 4 % 2; }

// What the sums of a weight's rows 2q and 2q + 1 are multiplied with, and what the sums of the inputs are that is taken off.
struct Factors {
    float scales[2], less[2];
};

// For each format the inputs of a lane's row of the mma, if it `takes` those that belong to lane % 4: `place` is where they begin
// in a slice, and `block` which 32 of it they are of. Which digits have them: the low ones or the high ones, by own_low, or
// both, where there are TWO pieces of sixteen. Of one piece, what the other digits give in this row means nothing.
template <class F> struct Scaled;

template <int BLOCKS> struct ScaledByOne {
    static constexpr int SLICE = BLOCKS * 32;
    static __device__ __forceinline__ Factors factors(const Slice &slot, int block, float by) {
        auto two = *reinterpret_cast<const Pack<f16, 2> *>(slot.heads + (block * TILE + lane_id() % 4 * 2) * 2);
        return {{to_float(two.v[0]) * by, to_float(two.v[1]) * by}, {0, 0}};
    }
};

// Two lanes have a block of two digits.
template <> struct Scaled<Q8_0> : ScaledByOne<4> {
    static constexpr bool TWO = false;
    static __device__ __forceinline__ bool takes() { return lane_id() % 4 / 2 == own_middle(); }
    static __device__ __forceinline__ int place() { return own_round() * 64 + lane_id() % 4 * 16; }
    static __device__ __forceinline__ int block() { return lane_id() / 8; }
    // The second digit is signed: 8 more than ZERO is its 0, once its top bit is turned.
    static constexpr uint32_t FLIPPED = 0x80808080u;
    static __device__ __forceinline__ int zero() { return own_low() ? 8 : 0; }
    static __device__ __forceinline__ Factors factors(const Slice &slot) {
        return ScaledByOne::factors(slot, block(), own_low() ? 16.0f : 1.0f);
    }
};

// A lane has a block.
template <> struct Scaled<Q4_0> : ScaledByOne<8> {
    static constexpr bool TWO = true;
    static __device__ __forceinline__ bool takes() { return lane_id() % 4 == lane_id() / 4 % 4; }
    static __device__ __forceinline__ int place() { return own_round() * 128 + lane_id() % 4 * 32; }
    static __device__ __forceinline__ int block() { return lane_id() / 4; }
    static constexpr uint32_t FLIPPED = 0;
    static __device__ __forceinline__ int zero() { return 8; }
    static __device__ __forceinline__ Factors factors(const Slice &slot) { return ScaledByOne::factors(slot, block(), 1); }
};

// Two lanes have two blocks, one in the low digits, one in the high ones.
template <> struct Scaled<Q4K> {
    static constexpr int SLICE = 256;
    static constexpr bool TWO = false;
    static __device__ __forceinline__ bool takes() { return lane_id() % 4 / 2 == own_middle(); }
    static __device__ __forceinline__ int place() {
        int q = lane_id() % 4;
        return own_round() * 128 + q / 2 * 64 + q % 2 * 16 + own_low() * 32;
    }
    static __device__ __forceinline__ int block() { return lane_id() / 4; }
    static constexpr uint32_t FLIPPED = 0;
    static __device__ __forceinline__ int zero() { return 0; }
    static __device__ __forceinline__ Factors factors(const Slice &slot) {
        uint32_t four = *reinterpret_cast<const uint32_t *>(slot.heads + lane_id() * 4);
        auto worth = *reinterpret_cast<const Pack<f16, 4> *>(slot.heads + Q4K::SCALES + lane_id() % 4 * 8);
        return {{byte_of(four, 0) * to_float(worth.v[0]), byte_of(four, 1) * to_float(worth.v[1])},
                {byte_of(four, 2) * to_float(worth.v[2]), byte_of(four, 3) * to_float(worth.v[3])}};
    }
};

// A lane's part of the inputs of a slice, as the rows of mmas want it, and the sum of its row's. It lies in registers as it lies
// in memory: an mma takes four on end.
template <class F, int ROWS> struct SliceInputs {
    using S = Scaled<F>;
    static constexpr int PIECES = S::TWO ? 2 : 1;
    uint4 quads[PIECES][2 * ROWS];
    float sums[ROWS];

    __device__ __forceinline__ void load(const Inputs &inputs, int k, int slice) {
        const uint4 *from = inputs.quads() + (slice * S::SLICE + S::place()) / 8 * ROWS;
#pragma unroll
        for (int p = 0; p < PIECES; p++)
#pragma unroll
            for (int i = 0; i < 2 * ROWS; i++) {
                quads[p][i] = {0, 0, 0, 0};
                if (S::takes()) quads[p][i] = from[p * 2 * ROWS + i];
            }
#pragma unroll
        for (int m = 0; m < ROWS; m++) sums[m] = inputs.sums(k, ROWS, m)[slice * (S::SLICE / 32) + S::block()];
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
            uint4 *to = inputs.quads() + at / 256 * 64 + at / 8 % 32;
            to[0] = {pairs[0].x, pairs[1].x, pairs[0].y, pairs[1].y};
            to[32] = {pairs[0].z, pairs[1].z, pairs[0].w, pairs[1].w};
            return;
        }
        uint4 v[MOST];
#pragma unroll
        for (int m = 0; m < MOST; m++) {
            uint2 low = paired<true>({pairs[m].x, pairs[m].y}), high = paired<true>({pairs[m].z, pairs[m].w});
            v[m] = {low.x, low.y, high.x, high.y};
            auto values = *reinterpret_cast<const Pack<T, 8> *>(&pairs[m]);
            float sum = 0;
#pragma unroll
            for (int i = 0; i < 8; i++) sum += to_float(values.v[i]);
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if (m < rows && lane_id() % 4 == 0) inputs.sums(k, rows, m)[at / 32] = sum;
        }
        uint4 *to = inputs.quads() + at / 8 * rows;
        if (rows == 1) {
            to[0] = v[0];
        } else {
            to[0] = {v[0].x, v[1].x, v[0].z, v[1].z};
            to[1] = {v[0].y, v[1].y, v[0].w, v[1].w};
        }
    };
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

// What a warp has to read of a product: so many batches from one of a run on.
struct Piece {
    int run, batch, left;
    __device__ __forceinline__ explicit Piece(const Reading &r) {
        int begin = piece_begin(r.all, warp_id());
        left = piece_begin(r.all, warp_id() + 1) - begin, run = r.run_with(begin), batch = begin - run * r.length;
    }
    // Calls `f` with how many of each run.
    template <class F> __device__ __forceinline__ void for_runs(int length, const F &f) {
#pragma unroll 1
        while (left > 0) {
            int count = min(left, length - batch);
            f(count);
            left -= count, batch = 0, run++;
        }
    }
};

// Goes through this warp's piece of plain weights, and puts down what it finds: `found` is [tile + warp][m].
template <class T, bool BLOCKS>
__device__ __forceinline__ void sum_plain(const Reading &r, Piece piece, Stream<BLOCKS> &stream, const Inputs &inputs, float *found) {
    int lane = lane_id();
    piece.for_runs(r.length, [&](int count) {
        const uint4 *x = inputs.quads() + piece.batch * ROUNDS * 64 + lane;
        float sums[2 * ROUNDS][4] = {}; // side by side: the tensor cores take their time
#pragma unroll 1
        for (; count > 0; count--, x += ROUNDS * 64) {
            uint4 units[ROUNDS];
            stream.take([&](const auto &slot) {
#pragma unroll
                for (int r = 0; r < ROUNDS; r++) units[r] = slot.units[r][lane];
            });
#pragma unroll
            for (int r = 0; r < ROUNDS; r++) {
                uint4 w = units[r], a = x[r * 64], b = x[r * 64 + 32];
                multiply_add<T>(sums[2 * r], {a.x, a.y, a.z, a.w}, w.x, w.y);
                multiply_add<T>(sums[2 * r + 1], {b.x, b.y, b.z, b.w}, w.z, w.w);
            }
        }
#pragma unroll
        for (int i = 1; i < 2 * ROUNDS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) sums[0][j] += sums[i][j];
        // Of a lane's two columns at most one has its row's number.
        int own = lane / 4 - lane % 4 * 2;
        float low = warp_sum(own == 0 ? sums[0][0] : own == 1 ? sums[0][1] : 0);
        float high = warp_sum(own == 0 ? sums[0][2] : own == 1 ? sums[0][3] : 0);
        if (lane == 0) *reinterpret_cast<float2 *>(found + (piece.run + warp_id()) * MOST) = {low, high};
    });
}

// The sum over the mma's rows of what each lane has of a tile's rows 2q and 2q + 1, for the lanes that `has` one: that of row
// `at`, [m][row of the tile].
template <int ROWS> struct TileSum {
    float value;
    __device__ __forceinline__ explicit TileSum(const float (&mine)[ROWS][2]) {
        auto half = [&](float low, float high, int bit) { // what both halves of the lanes have, of low or of high
            bool upper = lane_id() & bit;
            return (upper ? high : low) + __shfl_xor_sync(0xffffffffu, upper ? low : high, bit);
        };
        value = half(mine[0][0], mine[0][1], 16);
        if (ROWS == 2) value = half(value, half(mine[ROWS - 1][0], mine[ROWS - 1][1], 16), 8);
        else value += __shfl_xor_sync(0xffffffffu, value, 8);
        value += __shfl_xor_sync(0xffffffffu, value, 4);
    }
    static __device__ __forceinline__ bool has() { return (lane_id() & (ROWS == 2 ? 4 : 12)) == 0; }
    static __device__ __forceinline__ int at() {
        return (ROWS == 2 ? own_middle() * TILE : 0) + lane_id() % 4 * 2 + own_round();
    }
};

// Goes through this warp's piece of weights in blocks, for so many rows of inputs, and puts down what it finds: `found` is
// [warp][tile][m][row of the tile].
template <class F, class T, int ROWS>
__device__ __forceinline__ void sum_blocks(const Reading &r, int k, Piece piece, Stream<true> &stream, const Inputs &inputs, float *found) {
    using S = Scaled<F>;
    constexpr int APART = 3 - ROWS;
    int lane = lane_id(), tiles = r.tiles, halves = r.halves;
    float *mine = found + warp_id() * tiles * ROWS * TILE;
    for (int i = lane; i < tiles * ROWS * TILE; i += 32) mine[i] = 0;
    __syncwarp();
    bool high = own_low(), second = own_round();
    float zero = -static_cast<float>(Digits<T>::ZERO + S::zero());
    piece.for_runs(r.length, [&](int count) {
        SliceInputs<F, ROWS> x;
        x.load(inputs, k, piece.run >> (halves - 1)); // one half or two
        float *to = mine + (piece.batch * halves + (piece.run & (halves - 1))) * ROWS * TILE + TileSum<ROWS>::at();
#pragma unroll 1
        for (; count > 0; count--, to += halves * ROWS * TILE) {
            uint4 units[ROUNDS];
            Factors factors;
            stream.take([&](const Slice &slot) {
#pragma unroll
                for (int r = 0; r < ROUNDS; r++) units[r] = slot.units[r][read_place()];
                factors = S::factors(slot);
            });
            // The rows of an mma behind the eighth are those of the second row of inputs or, where there is only one, its pairs
            // for bytes 1 and 3, whose sums are apart then. Sums of other rounds and digits go side by side anyway: the tensor
            // cores take their time.
            float sums[APART][ROUNDS][2][4] = {};
#pragma unroll
            for (int i = 0; i < 4; i++) // two words and, of each two bytes, one
#pragma unroll
                for (int h = 0; h < 2; h++)
#pragma unroll
                    for (int r = 0; r < ROUNDS; r++) {
                        int w = i / 2 * 2, by = 4 * h + i % 2 * 8;
                        uint4 a = x.quads[S::TWO ? h : 0][i / APART];
                        multiply_add<T>(sums[i % APART][r][h], {a.x, a.y, a.z, a.w},
                                        digits<T>((word(units[r], w) ^ S::FLIPPED) >> by),
                                        digits<T>((word(units[r], w + 1) ^ S::FLIPPED) >> by));
                    }
            float totals[ROWS][2];
#pragma unroll
            for (int m = 0; m < ROWS; m++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float own[ROUNDS];
#pragma unroll
                    for (int r = 0; r < ROUNDS; r++) {
                        float both[2];
#pragma unroll
                        for (int h = 0; h < 2; h++)
                            both[h] = ROWS == 1 ? sums[0][r][h][c] + sums[APART - 1][r][h][2 + c] : sums[0][r][h][2 * m + c];
                        own[r] = S::TWO ? both[0] + both[1] : high ? both[1] : both[0];
                    }
                    float sum = (second ? own[1] : own[0]) + zero * x.sums[m];
                    totals[m][c] = factors.scales[c] * sum - factors.less[c] * x.sums[m];
                }
            TileSum<ROWS> sum(totals);
            if (sum.has()) *to += sum.value;
        }
    });
}

// Goes through this warp's piece of 8-bit floats, for so many rows of inputs, and puts down what it finds, not yet scaled:
// `found` is [warp][tile][m][row of the tile].
template <class T, int ROWS>
__device__ __forceinline__ void sum_fp8(const Reading &r, Piece piece, Stream<false> &stream, const Inputs &inputs, float *found) {
    constexpr int SLICE = ROUNDS * 4 * Fp8::SIZE, WORDS = Fp8::SIZE / 4;
    int lane = lane_id(), m = lane / 4, tiles = r.tiles, halves = r.halves;
    bool takes = m < ROWS;
    float *mine = found + warp_id() * tiles * ROWS * TILE;
    for (int i = lane; i < tiles * ROWS * TILE; i += 32) mine[i] = 0;
    __syncwarp();
    piece.for_runs(r.length, [&](int count) {
        uint32_t x[ROUNDS][WORDS][2]; // this lane's inputs for a word's bytes 0 and 2, and 1 and 3
        int slice = piece.run >> (halves - 1); // one half or two
#pragma unroll
        for (int i = 0; i < ROUNDS; i++)
#pragma unroll
            for (int w = 0; w < WORDS; w++) {
                int eight = (slice * SLICE + i * (SLICE / ROUNDS) + lane % 4 * Fp8::SIZE) / 8 + w / 2;
                auto *from = reinterpret_cast<const uint32_t *>(inputs.quads() + eight * ROWS);
#pragma unroll
                for (int p = 0; p < 2; p++) {
                    x[i][w][p] = 0;
                    if (takes) x[i][w][p] = from[ROWS == 1 ? w % 2 * 2 + p : p * 4 + w % 2 * 2 + m];
                }
            }
        float *to = mine + (piece.batch * halves + (piece.run & (halves - 1))) * ROWS * TILE + m * TILE + lane % 4 * 2;
#pragma unroll 1
        for (; count > 0; count--, to += halves * ROWS * TILE) {
            uint4 units[ROUNDS];
            stream.take([&](const Batch &slot) {
#pragma unroll
                for (int i = 0; i < ROUNDS; i++) units[i] = slot.units[i][read_place()];
            });
            float sums[2 * ROUNDS][4] = {}; // side by side: the tensor cores take their time
#pragma unroll
            for (int w = 0; w < WORDS; w++)
#pragma unroll
                for (int i = 0; i < ROUNDS; i++) {
                    uint32_t wide[2];
                    widen<T>(word(units[i], w), wide);
                    multiply_add<T>(sums[2 * i + w % 2], {x[i][w][0], 0, x[i][w][1], 0}, wide[0], wide[1]);
                }
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float sum = 0;
#pragma unroll
                for (int i = 0; i < 2 * ROUNDS; i++) sum += sums[i][c];
                if (takes) to[c] += sum * Widened<T>::WORTH;
            }
        }
    });
}

// What the warps found of a tile's row.
__device__ __forceinline__ float sum_found(const float *found, const Reading &r, bool plain, int rows, int tile, int m, int row) {
    float sum = 0;
    if (plain) {
        int last = r.piece_with((tile + 1) * r.length - 1);
        for (int warp = r.piece_with(tile * r.length); warp <= last; warp++)
            if (piece_begin(r.all, warp) < piece_begin(r.all, warp + 1)) sum += found[(tile + warp) * MOST + m];
    } else {
#pragma unroll
        for (int warp = 0; warp < WARPS; warp++) sum += found[((warp * r.tiles + tile) * rows + m) * TILE + row];
    }
    return sum;
}

// Result i of a block, [tile][row of inputs][row].
struct Result {
    int tile, m, row, output; // the last: which of the outputs it is, or -1 where there is none

    __device__ __forceinline__ Result(const Product &p, const Reading &r, int rows, int i) {
        int bits = p.format == DENSE ? 0 : 3;
        row = i & ((1 << bits) - 1), m = (i >> bits) % MOST, tile = (i >> bits) / MOST << (r.halves - 1); // one or two
        output = p.first_output(tile) + row;
        if (tile >= r.tiles || m >= rows || output >= p.outputs()) output = -1;
    }
    // What it is added to.
    template <class T> __device__ __forceinline__ float before(const Product &p) const {
        if (output < 0) return 0;
        if (p.mode == ADD) return load_fresh<float>(static_cast<float *>(p.out) + static_cast<size_t>(m) * p.width + output);
        return p.mode == NORM_BIAS && p.bias ? to_float(static_cast<const T *>(p.bias)[output]) : 0.0f;
    }
    // What its sum is scaled with, and its gated partner's.
    __device__ __forceinline__ float2 scales(const Product &p) const {
        if (output < 0 || p.format != FP8_ROWS) return {1, 1};
        const float *scale = Fp8::scale_at(p.weight, output);
        return {*scale, p.mode == NORM_GATED ? scale[p.width] : 1};
    }
};

// The outputs of a block from what its warps found. What each thread's first one is added to is known, and what it is scaled
// with where the sums are.
template <class T, bool SCALED>
__device__ __forceinline__ void finish(const Product &p, const Reading &r, int rows, const float *found, float first_before,
                                       float2 first_scales) {
    int mode = p.mode;
    bool plain = p.format == DENSE;
    for (int i = threadIdx.x; i < (r.tiles >> (r.halves - 1)) * MOST * p.height(); i += THREADS) { // one half or two
        Result result(p, r, rows, i);
        if (result.output < 0) continue;
        float2 scales = {1, 1};
        if constexpr (SCALED) scales = i < THREADS ? first_scales : result.scales(p);
        float sum = scales.x * sum_found(found, r, plain, rows, result.tile, result.m, result.row);
        if (mode == NORM_GATED) {
            sum = silu(sum) * (scales.y * sum_found(found, r, plain, rows, result.tile + 1, result.m, result.row));
        } else sum += i < THREADS ? first_before : result.before<T>(p);
        size_t at = static_cast<size_t>(result.m) * p.width + result.output;
        if (mode == NORM_F32 || mode == ADD) static_cast<float *>(p.out)[at] = sum;
        else static_cast<T *>(p.out)[at] = from_float<T>(sum);
    }
}

// The products one by one, in shared memory: past a meeting everything else has to be fetched again.
struct Products {
    static constexpr int WORDS = sizeof(Product) / 4;
    const uint32_t *words; // of all
    int count;
    Product *now; // [2]: this one and the next

    // A thread's word of product i, and to where it goes.
    __device__ __forceinline__ uint32_t word(int i) const {
        return i < count && threadIdx.x < WORDS ? words[i * WORDS + threadIdx.x] : 0;
    }
    __device__ __forceinline__ void put(int i, uint32_t word) const {
        if (threadIdx.x < WORDS) reinterpret_cast<uint32_t *>(now + i % 2)[threadIdx.x] = word;
    }
};

// Where all blocks of the grid meet.
struct Meeting {
    uint32_t *arrived; // 0 at the start
    uint32_t all;      // that have arrived once they have met
    __device__ __forceinline__ void arrive() {
        all += gridDim.x;
        ::arrive(arrived);
    }
    __device__ __forceinline__ void wait() const { wait_for(arrived, all); }
};

// What a step's weights are, beside plain ones: each kind has a kernel of its own.
enum Kind { PLAIN, BLOCKS, FP8 };

// Product i: meets the other blocks, unless an earlier part of it did, since its inputs are theirs, and multiplies.
template <class T, Kind KIND>
__device__ __forceinline__ void multiply(const Products &products, int i, const Source &source, int rows, float eps,
                                         const Inputs &inputs, float *found, Meeting &meeting) {
    const Product &p = products.now[i % 2];
    const Reading &r = source.readings[p.reading];
    if (p.part == 0) meeting.arrive();
    // What depends on nothing is done before the others are waited for.
    uint32_t next = products.word(i + 1);
    Pack<T, 8> norm = {};
    int first = threadIdx.x * 8;
    if (p.mode != ADD && first < p.weight.k) norm = load<T, 8>(static_cast<const T *>(p.norm) + first);
    __shared__ float before[THREADS]; // registers are wanted for the weights
    __shared__ float2 scales[KIND == FP8 ? THREADS : 1];
    Result own(p, r, rows, threadIdx.x);
    before[threadIdx.x] = own.template before<T>(p);
    if constexpr (KIND == FP8) scales[threadIdx.x] = own.scales(p);
    Piece piece(r);
    if (p.part == 0) {
        meeting.wait();
        stage<T>(p, rows, eps, norm, inputs);
    } else __syncthreads(); // what was found before may still be read
    products.put(i + 1, next); // over the one before this, which nobody reads any more
    auto stream = Stream<KIND == BLOCKS>::again(source);
    if constexpr (KIND == BLOCKS) {
        with_format<T>(p.format, [&](auto format) {
            using F = decltype(format);
            if constexpr (F::FORMAT == DENSE) sum_plain<T>(r, piece, stream, inputs, found);
            else if constexpr (F::FORMAT == FP8_ROWS) return; // there is a kernel of another kind for these
            else if (rows == 1) sum_blocks<F, T, 1>(r, p.weight.k, piece, stream, inputs, found);
            else sum_blocks<F, T, 2>(r, p.weight.k, piece, stream, inputs, found);
        });
    } else if constexpr (KIND == FP8) {
        if (p.format == DENSE) sum_plain<T>(r, piece, stream, inputs, found);
        else if (rows == 1) sum_fp8<T, 1>(r, piece, stream, inputs, found);
        else sum_fp8<T, 2>(r, piece, stream, inputs, found);
    } else sum_plain<T>(r, piece, stream, inputs, found);
    stream.keep();
    __syncthreads();
    finish<T, KIND == FP8>(p, r, rows, found, before[threadIdx.x], scales[KIND == FP8 ? threadIdx.x : 0]);
}
