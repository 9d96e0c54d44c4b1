// The products of a decode step: x · weightᵀ for up to four rows, with what stands before and behind each.
//
// The blocks share a weight's rows in tiles of eight, the warps of a block the length of the rows. Eight rows of the
// weight are the columns of an mma, the inputs its rows: a lane brings what it read, sixteen bytes of one row, to the
// tensor cores as it is, since in which order a sum is taken is free as long as both factors keep to it; the inputs wait
// in shared memory in that order.
#pragma once
#include "formats.cuh"

constexpr int WARPS = 16, THREADS = 32 * WARPS;
// Rows of the weight in a tile, and rows of inputs at most.
constexpr int TILE = 8, MOST = 4;
// Units that the lanes of a warp with the same row read at once; those of all warps make a round.
constexpr int LANES = 4, ROUND = LANES * WARPS;
// Rounds that are under way: as many as shared memory holds beside two rows of 16384. The host knows it too.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ / 100 == 10
constexpr int DEPTH = 16;
#elif __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870
constexpr int DEPTH = 9;
#else
constexpr int DEPTH = 3;
#endif

enum Mode {
    NORM_BIAS,  // out[m, rows] = T(w · rms_norm(x) + bias)
    NORM_GATED, // out[m, rows / 2] = T(silu(first half) · second half) of w · rms_norm(x)
    NORM_F32,   // out[m, rows] = f32(w · rms_norm(x))
    ADD,        // x[m, rows] += w · input
};

struct Product {
    Weight weight;
    const void *input; // the residual stream, f32 [m, k]; of ADD: T [m, k]
    const void *norm;  // T [k]
    const void *bias;  // T [rows] or null
    void *out;
    int format, mode;
};

// What a warp's lanes read in a round: a unit each, and what holds their scales.
struct Slot {
    uint4 units[32];
    unsigned char heads[128];
};

// A product, cut up.
struct Tiles {
    int outputs; // of a tile: half of it where two rows make one output
    int count;   // outputs in all
    int tiles, rounds, units;

    __device__ __forceinline__ explicit Tiles(const Product &p) {
        outputs = p.mode == NORM_GATED ? TILE / 2 : TILE;
        count = p.mode == NORM_GATED ? p.weight.rows / 2 : p.weight.rows;
        tiles = (count + outputs - 1) / outputs;
        int size = p.format == DENSE ? 8 : p.format == Q8_0_BLOCKS ? 16 : 32;
        units = p.weight.k / size;
        rounds = (units + ROUND - 1) / ROUND;
    }
    // Column c of a tile: of a gated product the first half of them are gates, the others their partners.
    __device__ __forceinline__ int row(int tile, int c) const {
        int row = min(tile * outputs + c % outputs, count - 1);
        return c < outputs ? row : count + row;
    }
};

// All weights of a step, as this warp reads them: product after product without a pause, since they depend on nothing
// that is computed.
template <class T> struct Stream {
    const Product *end;
    Slot *ring;
    int lane, column, first, slot = 0;
    // What is read next.
    const Product *product;
    Weight weight;
    int format;
    Tiles tiles;
    int tile, round, row;

    __device__ __forceinline__ Stream(const Product *products, int count, Slot *ring)
        : end(products + count), ring(ring + threadIdx.x / 32 * DEPTH), lane(threadIdx.x % 32),
          column(lane / LANES), first(threadIdx.x / 32 * LANES + lane % LANES), product(products), weight(products->weight),
          format(products->format), tiles(*products) {
        tile = blockIdx.x, round = 0;
        settle();
        for (int i = 0; i < DEPTH; i++) fetch(i);
    }

    // To the next product that has a tile for this block.
    __device__ __forceinline__ void settle() {
        while (tile >= tiles.tiles && product < end) {
            if (++product < end) weight = product->weight, format = product->format, tiles = Tiles(*product);
            tile = blockIdx.x;
        }
        row = tiles.row(tile, column);
    }

    __device__ __forceinline__ void fetch(int into) {
        if (product < end) {
            Slot &to = ring[into];
            const Weight &w = weight;
            int u = min(round * ROUND + first, tiles.units - 1);
            with_format<T>(format, [&](auto format) {
                using F = decltype(format);
                copy_async<16>(&to.units[lane], F::at(w, row, u));
                if constexpr (F::HEAD == 4) copy_async<4>(to.heads + lane * 4, F::head_at(w, row, u));
                if constexpr (F::HEAD == 16)
                    if (lane % LANES == 0) copy_async<16>(to.heads + column * 16, F::head_at(w, row, u));
            });
            if (++round == tiles.rounds) {
                round = 0, tile += gridDim.x;
                if (tile < tiles.tiles) row = tiles.row(tile, column);
                else settle();
            }
        }
        copy_commit(); // also where there is nothing left, so that the count is right
    }

    // Asks for what this block has yet to read of the product, as far as the second-level cache.
    __device__ __forceinline__ void ask_ahead() const {
        int at = tile + threadIdx.x * gridDim.x, rows = min(tiles.outputs, tiles.count - at * tiles.outputs);
        if (product == end || at >= tiles.tiles) return;
        with_format<T>(format, [&](auto format) {
            using F = decltype(format);
            for (int c = 0; c < TILE; c += tiles.outputs) {
                auto *from = static_cast<const char *>(F::at(weight, tiles.row(at, c), 0));
                auto *next = static_cast<const char *>(F::at(weight, tiles.row(at, c) + 1, 0));
                prefetch(reinterpret_cast<const void *>(reinterpret_cast<size_t>(from) & ~size_t(15)), (next - from) * rows);
            }
        });
    }
};

// Group c of the inputs' row m, as f32 in the order of memory.
template <class F, class T>
__device__ __forceinline__ void load_group(const Product &p, int m, int c, float (&v)[8]) {
    Place place = F::place(c);
    size_t row = static_cast<size_t>(m) * p.weight.k;
    if (p.mode != ADD) {
        auto *x = static_cast<const float *>(p.input) + row;
        float4 low = load_fresh<float4>(x + place.low), high = load_fresh<float4>(x + place.high);
        v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
        v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
    } else {
        auto *x = static_cast<const T *>(p.input) + row;
        uint2 halves[2] = {load_fresh<uint2>(x + place.low), load_fresh<uint2>(x + place.high)};
        auto *values = reinterpret_cast<const T *>(halves);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = to_float(values[i]);
    }
}

// The inputs to shared memory, normed unless they are added to.
template <class F, class T> __device__ __forceinline__ void stage(const Product &p, int rows, float eps, T *staged) {
    int k = p.weight.k, groups = k / 8;
    for (int m = 0; m < rows; m++) {
        float v[8], inverse = 1; // v: the first group of this thread, and mostly its only one
        if (static_cast<int>(threadIdx.x) < groups) load_group<F, T>(p, m, threadIdx.x, v);
        if (p.mode != ADD) {
            float sum = 0;
            for (int c = threadIdx.x; c < groups; c += THREADS) {
                float w[8];
                if (c >= THREADS) load_group<F, T>(p, m, c, w);
#pragma unroll
                for (int i = 0; i < 8; i++) sum += c >= THREADS ? w[i] * w[i] : v[i] * v[i];
            }
            inverse = rsqrtf(block_sum(sum) / k + eps);
        }
        for (int c = threadIdx.x; c < groups; c += THREADS) {
            if (c >= THREADS) load_group<F, T>(p, m, c, v);
            if (p.mode != ADD) {
                Place place = F::place(c);
                auto *norm = static_cast<const T *>(p.norm);
                auto low = load<T, 4>(norm + place.low), high = load<T, 4>(norm + place.high);
#pragma unroll
                for (int i = 0; i < 8; i++) v[i] *= inverse * to_float(i < 4 ? low.v[i % 4] : high.v[i % 4]);
            }
            Pack<T, 8> pack;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                int from = F::PAIRED && (i % 4 == 1 || i % 4 == 2) ? i ^ 3 : i;
                pack.v[i] = from_float<T>(v[from]);
            }
            store<T, 8>(staged + static_cast<size_t>(m) * k + c * 8, pack);
        }
    }
    __syncthreads();
}

// The warps' sums of a tile. There are two, in turns: whoever writes one again has passed the barrier of the other,
// behind which nobody reads it.
using Partial = float[WARPS][TILE][MOST];

// Writes what a tile's sums give.
template <class T>
__device__ __forceinline__ void put(const Product &p, const Tiles &tiles, const Partial &parts, int tile, int rows) {
    int c = threadIdx.x / MOST, m = threadIdx.x % MOST, row = tile * tiles.outputs + c;
    if (c >= tiles.outputs || m >= rows || row >= tiles.count) return;
    float sum = 0, partner = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
        sum += parts[w][c][m];
        if (p.mode == NORM_GATED) partner += parts[w][c + TILE / 2][m];
    }
    size_t at = static_cast<size_t>(m) * tiles.count + row;
    if (p.mode == NORM_BIAS) {
        float bias = p.bias ? to_float(static_cast<const T *>(p.bias)[row]) : 0;
        static_cast<T *>(p.out)[at] = from_float<T>(sum + bias);
    } else if (p.mode == NORM_GATED) {
        static_cast<T *>(p.out)[at] = from_float<T>(silu(sum) * partner);
    } else if (p.mode == NORM_F32) {
        static_cast<float *>(p.out)[at] = sum;
    } else {
        float *out = static_cast<float *>(p.out) + at;
        *out = load_fresh<float>(out) + sum;
    }
}

template <class F, class T>
__device__ __forceinline__ void multiply(const Product &p, int rows, float eps, Stream<T> &stream, T *staged,
                                         Partial *partial) {
    constexpr int GROUPS = F::SIZE / 8;
    stage<F, T>(p, rows, eps, staged);
    Tiles tiles(p);
    Weight weight = p.weight;
    int lane = stream.lane, column = stream.column, turn = 0;
    for (int tile = blockIdx.x; tile < tiles.tiles; tile += gridDim.x) {
        float sums[2][4] = {};
        int row = tiles.row(tile, column);
        for (int round = 0; round < tiles.rounds; round++) {
            int u = round * ROUND + stream.first;
            const T *x = staged + static_cast<size_t>(column) * weight.k + u * F::SIZE;
            bool mine = column < rows && u < tiles.units;
            copy_wait<DEPTH - 1>();
            if (F::HEAD == 16) __syncwarp(); // another lane brought the head
            Slot &slot = stream.ring[stream.slot];
            uint4 unit = slot.units[lane];
            uint32_t w[GROUPS * 4];
            F::template pairs<T>(unit, slot.heads + (F::HEAD == 16 ? column * 16 : lane * 4), weight, row, u, w);
            if (F::HEAD == 16) __syncwarp();
            stream.fetch(stream.slot);
            if (++stream.slot == DEPTH) stream.slot = 0;
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                uint4 v = mine ? *reinterpret_cast<const uint4 *>(x + g * 8) : uint4{0, 0, 0, 0};
                multiply_add<T>(sums[0], {v.x, 0, v.y, 0}, w[4 * g], w[4 * g + 1]);
                multiply_add<T>(sums[1], {v.z, 0, v.w, 0}, w[4 * g + 2], w[4 * g + 3]);
            }
        }
        Partial &parts = partial[turn];
        turn ^= 1;
        if (column < rows) {
            parts[threadIdx.x / 32][lane % LANES * 2][column] = sums[0][0] + sums[1][0];
            parts[threadIdx.x / 32][lane % LANES * 2 + 1][column] = sums[0][1] + sums[1][1];
        }
        __syncthreads();
        put<T>(p, tiles, parts, tile, rows);
    }
}
