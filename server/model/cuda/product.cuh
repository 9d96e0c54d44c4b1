// Products of many rows on Hopper whose results are worked on before they are written: gelu(x · weightᵀ + bias), and
// silu(x · gateᵀ) · (x · upᵀ). Otherwise what is between the two would be written and read once more.
//
// Two blocks, each on a processor of its own, make the tiles of the same 256 weights (or of 128 of the gate, and of the 128 that
// belong to them) for N rows of x each, and share the weights. Of a block one thread copies, and two warp groups multiply 128 weights each with all rows, as weight · xᵀ: so N can
// be any multiple of eight, and fit the rows there are.
#pragma once
#include "hopper.cuh"

// The shared memory of a block. Matrices lie as panels of 64 columns, swizzled over 128 bytes.
template <class T_, int N_> struct Tiles {
    using T = T_;
    static constexpr int N = N_, GROUPS = 2, DEPTH = 64, STAGES = 4, THREADS = (GROUPS + 1) * WARP_GROUP;
    static constexpr int WEIGHTS = 2 * 64; // of a group
    static constexpr int PART = 48;        // rows of results that leave together

    T weights[STAGES][GROUPS][WEIGHTS * DEPTH];
    T x[STAGES][N * DEPTH];
    T out[GROUPS][2][PART * 64];
    Barrier full[STAGES], free[STAGES];

    static_assert(N % 8 == 0 && PART % 16 == 0, "matrices are of eight rows, and two leave together");
    static_assert(GROUPS == 2, "of two blocks that share, each brings the weights of a group");
};

// What becomes of a group's sums. A thread has `sums[m][4 · i + 2 · h + c]` of the weight 64 · m + 8 · h + lane / 4 + 16 for
// each warp before its own, and of x's row 8 · i + lane % 4 · 2 + c. `pair` gives two results of 16 bits for panel m of PANELS
// of 64 columns each: of the rows with c = 0 and 1.
template <class T> struct GeluOfSum {
    static constexpr int PANELS = 2;
    const T *bias;
    int n;
    float own[PANELS][2];

    // Before the sums are there; `column` is the first of the group's.
    __device__ __forceinline__ void prepare(int column) {
#pragma unroll
        for (int m = 0; m < PANELS; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int at = column + m * 64 + threadIdx.x % WARP_GROUP / 32 * 16 + 8 * h + threadIdx.x % 32 / 4;
                own[m][h] = at < n ? to_float(bias[at]) : 0.0f;
            }
    }
    template <int R> __device__ __forceinline__ uint32_t pair(const float (&sums)[2][R], int m, int i, int h) const {
        const float *at = &sums[m][4 * i + 2 * h];
        return pack_pair<T>(gelu_one<T>(at[0] + own[m][h]), gelu_one<T>(at[1] + own[m][h]));
    }
};
// A group's first 64 weights are of the gate, the others those that belong to them.
template <class T> struct SwigluOfSums {
    static constexpr int PANELS = 1;

    __device__ __forceinline__ void prepare(int) {}
    template <int R> __device__ __forceinline__ uint32_t pair(const float (&sums)[2][R], int, int i, int h) const {
        const float *gate = &sums[0][4 * i + 2 * h], *up = &sums[1][4 * i + 2 * h];
        return pack_pair<T>(silu(gate[0]) * up[0], silu(gate[1]) * up[1]);
    }
};

// Maps: x [1, rows, depth] with boxes of N rows; weights [1, n, depth] with boxes of 128 rows, or [2, n, depth] with boxes of
// 64 of both. `out` is [rows, n] with `stride` elements from row to row.
template <class Tiles, class Result, class T>
__device__ __forceinline__ void product_tiles(const TensorMap &x, const TensorMap &weights, T *out, int stride,
                                              Result result, int rows, int n, int depth, int band) {
    constexpr int N = Tiles::N, STAGES = Tiles::STAGES, DEPTH = Tiles::DEPTH, PART = Tiles::PART;
    constexpr int COLUMNS = Result::PANELS * 64; // of a group's results
    SHARED_MEMORY(memory);
    Tiles &tiles = *reinterpret_cast<Tiles *>(memory);
    const int group = static_cast<int>(threadIdx.x / WARP_GROUP) - 1, rank = cluster_rank();
    const int clusters = gridDim.x / 2, steps = (depth + DEPTH - 1) / DEPTH;
    const int down = (rows + 2 * N - 1) / (2 * N), across = (n + 2 * COLUMNS - 1) / (2 * COLUMNS);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++)
            barrier_init(&tiles.full[i], 1), barrier_init(&tiles.free[i], 2 * Tiles::GROUPS);
        barriers_ready();
    }
    cluster_meet();

    // All that a group does job by job: across a band of columns, then the next rows, so that what is read again is still in
    // the second-level cache.
    auto each_job = [&](auto &&work) {
        for (int job = blockIdx.x / 2; job < down * across; job += clusters) {
            const int from = job / (down * band) * band, wide = min(band, across - from), left = job - from * down;
            work((left / wide * 2 + rank) * N, (from + left % wide) * 2 * COLUMNS);
        }
    };

    uint32_t step = 0;
    if (group < 0) {
        give_registers<40>();
        if (threadIdx.x == 0) {
            each_job([&](int row, int column) {
#pragma unroll 1
                for (int k = 0; k < steps; k++, step++) {
                    const int stage = step % STAGES;
                    Barrier *full = &tiles.full[stage];
                    barrier_wait(&tiles.free[stage], step / STAGES % 2 ^ 1);
                    barrier_expect(full, sizeof(tiles.weights[0]) + sizeof(tiles.x[0]));
                    copy_box_to_both(weights, tiles.weights[stage][rank], full, k * DEPTH, column + rank * COLUMNS, 0);
                    copy_box(x, tiles.x[stage], full, k * DEPTH, row, 0);
                }
            });
        }
    } else {
        take_registers<232>();
        const int thread = threadIdx.x % WARP_GROUP, lane = thread % 32;
        // What a group has read may be overwritten by both blocks.
        auto release = [&](uint32_t step) {
            if (thread < 2) barrier_arrive_at(&tiles.free[step % STAGES], thread);
        };
        float sums[2][N / 2];
        int turn = 0;
        each_job([&](int row, int column) {
            column += group * COLUMNS;
            result.prepare(column);
            pin(sums[0]), pin(sums[1]);
            for (int k = 0; k < steps; k++, step++) {
                const int stage = step % STAGES;
                barrier_wait(&tiles.full[stage], step / STAGES % 2);
                products_begin();
#pragma unroll
                for (int d = 0; d < DEPTH / 16; d++)
#pragma unroll
                    for (int m = 0; m < 2; m++)
                        multiply_rows<T, N>(sums[m], operand(tiles.weights[stage][group] + m * 64 * DEPTH, d * 32),
                                            operand(tiles.x[stage], d * 32), k + d > 0);
                products_commit();
                products_wait<1>();
                if (k > 0) release(step - 1);
            }
            products_wait<0>();
            pin(sums[0]), pin(sums[1]);
            release(step - 1);
            // Two buffers, so that nobody waits for who still reads one.
            constexpr int EIGHTS = PART / 8, PARTS = (N + PART - 1) / PART;
#pragma unroll
            for (int p = 0; p < Result::PANELS * PARTS; p++, turn ^= 1) {
                const int panel = p / PARTS, part = p % PARTS;
                T *buffer = tiles.out[group][turn];
#pragma unroll
                for (int i = 0; i < EIGHTS && (part * EIGHTS + i) * 8 < N; i += 2) {
                    uint32_t matrices[4];
#pragma unroll
                    for (int m = 0; m < 4; m++) {
                        const int at = part * EIGHTS + i + m / 2;
                        matrices[m] = at * 8 < N ? result.pair(sums, panel, at, m % 2) : 0;
                    }
                    const int line = (i + lane / 16) * 8 + lane % 8, unit = thread / 32 * 2 + lane / 8 % 2;
                    store_matrices_transposed(buffer + line * 64 + (unit ^ line % 8) * 8, matrices);
                }
                meet(1 + group, WARP_GROUP);
#pragma unroll
                for (int first = 0; first < PART; first += WARP_GROUP / 8) {
                    const int line = first + thread / 8, unit = thread % 8, at = part * PART + line;
                    const int to = column + panel * 64 + unit * 8;
                    if (at < N && row + at < rows && to < n)
                        store<T, 8>(out + static_cast<size_t>(row + at) * stride + to,
                                    load<T, 8>(buffer + line * 64 + (unit ^ line % 8) * 8));
                }
            }
        });
    }
    cluster_meet(); // the other block may still arrive at this one's barriers
}
