// Weights in blocks back to plain ones, a whole matrix or chosen rows of a table; and products of few rows with them, for
// which that takes too long.
#include "formats.cuh"

// out[n, k] = the rows of w, `ids` of them or, where it is null, all. A warp reads what lies on end in a tile: four units of
// eight rows. A unit becomes runs of 16 neighbours, 32 bytes each, and two lanes write a run together: the card's memory takes
// 32 bytes at a time. Grid: 32 units, eight rows.
template <class F, class T> __device__ void dequantize(const Weight &w, const uint32_t *ids, T *out, int rows) {
    constexpr int GROUPS = F::SIZE / 8, RUNS = F::SIZE / 16;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, units = w.k / F::SIZE;
    int u = (blockIdx.x * (blockDim.x / 32) + warp) * 4 + lane % 4;
    bool odd = lane % 2;
    auto other_lanes = [](uint32_t v) { return __shfl_xor_sync(0xffffffffu, v, 1); };
    for (int tile = blockIdx.y; tile * TILE < rows; tile += gridDim.y) {
        int row = tile * TILE + lane / 4, from = min(row, rows - 1);
        uint32_t v[GROUPS * 4];
        load_pairs<F, T>(w, ids ? ids[from] : from, min(u, units - 1), v);
        T *to = out + static_cast<size_t>(row) * w.k;
        auto write = [&](int unit, int run, const uint4 &eight) {
            Place place = F::place(unit * GROUPS);
            if (row < rows && unit < units) *reinterpret_cast<uint4 *>(to + (run ? place.high : place.low) + odd * 8) = eight;
        };
#pragma unroll
        for (int run = 0; run < RUNS; run++) {
            // Where a unit has one run, its groups' halves follow each other.
            auto four = [&](int i) {
                int at = RUNS == 2 ? 4 * i + 2 * run : 2 * i;
                return paired<F::PAIRED>({v[at], v[at + 1]});
            };
            uint2 fours[4] = {four(0), four(1), four(2), four(3)};
            uint4 low = {fours[0].x, fours[0].y, fours[1].x, fours[1].y};
            uint4 high = {fours[2].x, fours[2].y, fours[3].x, fours[3].y}, other = odd ? low : high;
            other = {other_lanes(other.x), other_lanes(other.y), other_lanes(other.z), other_lanes(other.w)};
            write(u & ~1, run, odd ? other : low);
            write(u | 1, run, odd ? high : other);
        }
    }
}

// The inputs of a product of few rows, x [m, k], in the order in which its mmas take them: for each 8 · GROUPS rows
// [slice][round][group of a unit][eight rows][lane], of row lane / 4 what belongs to unit lane % 4; zeros where there is nothing.
template <class F, class T> __device__ void arrange(const T *x, uint4 *out, int m, int k, int eights, int size) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, units = k / F::SIZE, slices = (units + 7) / 8;
    if (i >= size) return;
    int at = i / 32, lane = i % 32;
    auto next = [&](int n) {
        int digit = at % n;
        at /= n;
        return digit;
    };
    int eight = next(eights), group = next(F::SIZE / 8), round = next(ROUNDS), slice = next(slices);
    int row = (at * eights + eight) * 8 + lane / 4, unit = slice * 8 + round * 4 + lane % 4;
    uint4 v = {0, 0, 0, 0};
    if (row < m && unit < units) {
        Place place = F::place(unit * (F::SIZE / 8) + group);
        auto four = [&](int from) {
            return paired<F::PAIRED>(*reinterpret_cast<const uint2 *>(x + static_cast<size_t>(row) * k + from));
        };
        uint2 low = four(place.low), high = four(place.high);
        v = {low.x, low.y, high.x, high.y};
    }
    out[i] = v;
}

constexpr int WARPS = 8, TILES = 4, STAGES = 2;

// out[m, w.rows] = x[m, k] · wᵀ + bias, or out += that, for x as `arrange` left it. The weights are the rows of the mmas, two
// tiles at a time, and eight rows of x the columns. A block has TILES tiles, whose slices its warps take in turn. Grid: tiles
// of w by TILES, rows of x by 8 · EIGHTS.
template <class F, class T, int EIGHTS>
__device__ void few_rows(const Weight &w, const uint4 *x, const T *bias, T *out, int m, int adds) {
    constexpr int GROUPS = F::SIZE / 8, ROWS = TILES * TILE, COLUMNS = 8 * EIGHTS;
    constexpr bool BY_ROW = F::FORMAT == FP8_ROWS; // not the weights are scaled but the sums
    SHARED_MEMORY(raw);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, q = lane % 4;
    int units = w.k / F::SIZE, slices = (units + 7) / 8, first_tile = blockIdx.x * TILES, first = blockIdx.y * COLUMNS;
    auto *ring = reinterpret_cast<Slice *>(raw) + warp * STAGES * TILES;
    x += static_cast<size_t>(blockIdx.y) * slices * ROUNDS * GROUPS * EIGHTS * 32 + lane;
    auto ask = [&](int slice, int stage) {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            Slice &to = ring[stage * TILES + t];
            int tile = first_tile + t, blocks = F::HEADS / 16; // of 32 weights, of all but q4_K
            bool there = slice < slices && tile * TILE < w.rows;
#pragma unroll
            for (int r = 0; r < ROUNDS; r++) {
                int u = slice * 8 + r * 4 + copied_unit();
                copy_async(&to.units[r][copied_place()], F::at(w, tile * TILE + copied_row(), u), there && u < units);
            }
            bool whole = F::FORMAT == Q4K_BLOCKS || (slice * blocks + lane) * 32 < w.k;
            if (lane < blocks)
                copy_async(to.heads + lane * 16, static_cast<unsigned char *>(F::heads_at(w, tile, slice * 8)) + lane * 16, there && whole);
        }
        copy_commit();
    };
    float sums[TILES / 2][EIGHTS][4] = {};
    ask(warp, 0);
    for (int slice = warp, stage = 0; slice < slices; slice += WARPS, stage ^= 1) {
        ask(slice + WARPS, stage ^ 1);
        copy_wait<1>();
        __syncwarp();
        const uint4 *columns = x + static_cast<size_t>(slice) * ROUNDS * GROUPS * EIGHTS * 32;
#pragma unroll
        for (int r = 0; r < ROUNDS; r++) {
            uint4 units[TILES];
            typename F::Scales scales[TILES];
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                Slice &from = ring[stage * TILES + t];
                units[t] = from.units[r][read_place()];
                if constexpr (!BY_ROW) scales[t] = F::template scales<T>(from.template weight<F>(), g, r * 4 + q);
            }
#pragma unroll
            for (int i = 0; i < GROUPS; i++) {
                uint4 b[EIGHTS];
#pragma unroll
                for (int e = 0; e < EIGHTS; e++) b[e] = columns[((r * GROUPS + i) * EIGHTS + e) * 32];
#pragma unroll
                for (int t = 0; t < TILES; t += 2) {
                    uint32_t low[4], high[4];
                    auto group = [&](int tile, uint32_t (&out)[4]) {
                        if constexpr (BY_ROW) widen_group<T>(units[tile], i, out);
                        else F::template group<T>(units[tile], scales[tile], i, out);
                    };
                    group(t, low);
                    group(t + 1, high);
#pragma unroll
                    for (int e = 0; e < EIGHTS; e++) {
                        multiply_add<T>(sums[t / 2][e], {low[0], high[0], low[1], high[1]}, b[e].x, b[e].y);
                        multiply_add<T>(sums[t / 2][e], {low[2], high[2], low[3], high[3]}, b[e].z, b[e].w);
                    }
                }
            }
        }
        __syncwarp(); // before more comes there
    }
    copy_wait<0>();
    __syncthreads();
    auto *parts = reinterpret_cast<float *>(raw); // [WARPS][COLUMNS][ROWS], over what was read
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int e = 0; e < EIGHTS; e++)
#pragma unroll
            for (int c = 0; c < 2; c++)
                parts[(warp * COLUMNS + e * 8 + q * 2 + c) * ROWS + t * TILE + g] = sums[t / 2][e][t % 2 * 2 + c];
    __syncthreads();
    for (int i = threadIdx.x; i < COLUMNS * ROWS; i += blockDim.x) {
        int row = first + i / ROWS, column = blockIdx.x * ROWS + i % ROWS;
        if (row >= m || column >= w.rows) continue;
        float sum = 0;
#pragma unroll
        for (int part = 0; part < WARPS; part++) sum += parts[part * COLUMNS * ROWS + i];
        if constexpr (BY_ROW) sum = sum * Widened<T>::WORTH * *Fp8::scale_at(w, column);
        if (bias) sum += to_float(bias[column]);
        T *to = out + static_cast<size_t>(row) * w.rows + column;
        *to = from_float<T>(adds ? to_float(*to) + sum : sum);
    }
}

#define FORMAT(F, format, T, name)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        dequantize_##format##_##name(Weight w, const uint32_t *ids, T *out, int rows) {                                \
        dequantize<F, T>(w, ids, out, rows);                                                                           \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        arrange_##format##_##name(const T *x, uint4 *out, int m, int k, int eights, int size) {                        \
        arrange<F, T>(x, out, m, k, eights, size);                                                                     \
    }                                                                                                                  \
    FEW(F, format, T, name, 2)                                                                                         \
    FEW(F, format, T, name, 4)
#define FEW(F, format, T, name, EIGHTS)                                                                                \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) few_rows_##EIGHTS##_##format##_##name(                 \
        Weight w, const uint4 *x, const T *bias, T *out, int m, int adds) {                                            \
        few_rows<F, T, EIGHTS>(w, x, bias, out, m, adds);                                                              \
    }
#define DEFINE(T, name)                                                                                                \
    FORMAT(Q8_0, q8_0, T, name)                                                                                        \
    FORMAT(Q4_0, q4_0, T, name)                                                                                        \
    FORMAT(Q4K, q4k, T, name)                                                                                          \
    FORMAT(Fp8, fp8, T, name)
FOR_EACH_HALF(DEFINE)
