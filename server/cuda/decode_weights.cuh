// The weights of a decode step, as they are read: without a pause, since they depend on nothing that is computed.
//
// Tiles, eight rows of a weight in blocks or one of a plain one, are shared out to the blocks of the grid in turn, and a
// block's warps share the length of its tiles evenly: each reads one piece of it, batch by batch. A batch is two rounds; in a
// round the lanes read 512 bytes that lie on end: of a tile four units of each row, lane % 4 of row lane / 4; of a plain row 32.
#pragma once
#include <climits>

#include "formats.cuh"

constexpr int WARPS = 16, THREADS = 32 * WARPS;
// Rows of inputs at most.
constexpr int MOST = 2;
constexpr int ROUNDS = 2;
// Batches that a warp has under way. The host knows it too.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ / 100 == 10
constexpr int DEPTH = 6;
#elif __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870
constexpr int DEPTH = 4;
#else
constexpr int DEPTH = 2;
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

    __device__ __forceinline__ int outputs() const { return mode == NORM_GATED ? weight.rows / 2 : weight.rows; }
    // Rows of a tile.
    __device__ __forceinline__ int height() const { return format == DENSE ? 1 : TILE; }
    // Of a gated product a tile's partner, the same rows of the second half, follows it.
    __device__ __forceinline__ int halves() const { return mode == NORM_GATED ? 2 : 1; }
    // Tiles of this block, and the first row of each.
    __device__ __forceinline__ int tiles() const {
        int all = (outputs() + height() - 1) / height(), blocks = gridDim.x;
        return (all + blocks - 1 - static_cast<int>(blockIdx.x)) / blocks * halves();
    }
    __device__ __forceinline__ int first_row(int tile) const {
        int half = tile % halves();
        return (tile / halves() * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x)) * height() + half * outputs();
    }
    // Batches of a tile: 512 plain weights of each row, 128 of q8_0, 256 of the others.
    __device__ __forceinline__ int batches() const {
        int bits = format == DENSE ? 9 : 6 + min(format, 2);
        return (weight.k + (1 << bits) - 1) >> bits;
    }
};

// Where the piece of a warp begins among the batches of a block's tiles, `all` in number.
__device__ __forceinline__ int piece_begin(int all, int warp) { return all * warp / WARPS; }
// The warp whose piece holds a batch.
__device__ __forceinline__ int piece_of(int all, int batch) { return ((batch + 1) * WARPS - 1) / all; }

// What a warp reads in a batch: units and, of blocks, what holds the scales of all rows.
struct Slot {
    uint4 units[ROUNDS][32];
    unsigned char heads[TILE * 16];
};

__device__ __forceinline__ int lane_id() { return threadIdx.x % 32; }
__device__ __forceinline__ int warp_id() { return threadIdx.x / 32; }

// How this block reads a product, of less than 4 GB, worked out once: the addresses of `at` and `head_at` of formats.cuh as numbers, so that
// reading is the same for all formats, and short.
struct alignas(16) Reading {
    const unsigned char *data, *heads;                   // of the block's first tile
    uint32_t stride, partner, head_stride, head_partner; // bytes to the next tile, and to a gated one's partner
    int batch, head_batch, row, unit;                    // bytes from one to the next
    int units, span;                                     // of a row, and in a round
    int blocks, lanes;                                   // what holds a tile's scales, 16 bytes each; lanes that bring them
    int tiles, batches, halves;
    float tile_of; // 1 / batches

    __device__ __forceinline__ explicit Reading(const Product &p) {
        Weight w = p.weight;
        bool plain = p.format == DENSE, q4k = p.format == Q4K_BLOCKS, q8 = p.format == Q8_0_BLOCKS;
        units = w.k >> (3 + min(p.format, 2)), blocks = q4k ? w.k / 256 * TILE : w.k / 32;
        int tile = plain ? units * 16 : q4k ? w.k / 256 * Q4K::BLOCKS : units * TILE * 16;
        batch = q4k ? Q4K::BLOCKS : ROUNDS * 32 * 16;
        row = plain ? 4 * 16 : 16, unit = plain ? 16 : TILE * 16, span = plain ? 32 : 4;
        lanes = plain ? 0 : q8 ? 4 : 8;
        int head_tile = q4k ? tile : blocks * 16;
        head_batch = q4k ? batch : lanes * 16;
        uint32_t grid = gridDim.x, partners = p.outputs() / p.height();
        stride = grid * tile, partner = partners * tile, head_stride = grid * head_tile, head_partner = partners * head_tile;
        data = w.data + static_cast<size_t>(blockIdx.x) * tile + (q4k ? TILE * Q4K::HEAD : 0);
        heads = q4k ? w.data : reinterpret_cast<unsigned char *>(w.scales);
        heads += static_cast<size_t>(blockIdx.x) * head_tile;
        tiles = p.tiles(), batches = p.batches(), halves = p.halves(), tile_of = 1.0f / batches;
    }

    // The tile that a batch belongs to: exact, since batches are few.
    __device__ __forceinline__ int tile_with(int at) const { return static_cast<int>((at + 0.5f) * tile_of); }
};

// All that a block reads, and where it goes; in shared memory.
struct Source {
    const Reading *readings; // [count]: of each product
    int count;
    Slot *ring; // [WARPS, DEPTH]
};

// Where a warp is in what it reads.
struct Position {
    int product;
    int tile, stop, until, after; // the next batch is the tile's stop - until; behind its stop this warp has that many more
    int slot;                     // the one that is read into, and before that from
};

// All of a step's weights that a warp reads, product after product. While it is used it must stay in registers, so nothing in
// it is indexed, and no function takes its address; and pointers must be known to be to shared memory.
struct Stream : Position {
    Source source;
    // What follows from these: see `resume`.
    const unsigned char *from, *head; // this lane's part of the next batch
    int units, heads;                 // that are left, from this lane's on; nothing is asked for behind the last
    int step, head_step, span, lanes;

    // Other work comes between two products, and it needs the registers.
    static __device__ __forceinline__ Position &kept() {
        __shared__ Position positions[WARPS];
        return positions[warp_id()];
    }

    __device__ __forceinline__ Stream(const Position &position, const Source &source) : Position(position), source(source) {}

    // From the beginning.
    static __device__ __forceinline__ Stream begin(const Source &source) {
        Stream stream(Position{}, source);
        stream.begin_product();
        for (int i = 0; i < DEPTH; i++) stream.ask();
        return stream;
    }

    // From where it was kept.
    static __device__ __forceinline__ Stream again(const Source &source) {
        Stream stream(kept(), source);
        stream.resume();
        return stream;
    }

    __device__ __forceinline__ void keep() const {
        __syncwarp();
        if (lane_id() == 0) kept() = *this;
        __syncwarp();
    }

    __device__ __forceinline__ const Reading &reading() const { return source.readings[product]; }

    // Goes to this warp's piece of the product or of the next one in which it has one.
    __device__ __forceinline__ void begin_product() {
#pragma unroll 1
        for (; product < source.count; product++) {
            const Reading &r = reading();
            int all = r.tiles * r.batches, first = piece_begin(all, warp_id());
            after = piece_begin(all, warp_id() + 1) - first, tile = r.tile_with(first);
            if (after > 0) {
                begin_run(first - tile * r.batches);
                return;
            }
        }
        stop = until = INT_MAX; // nothing is left to be asked for
        resume();
    }

    // Goes on from `batch` of the tile as far as it or this warp's piece reaches.
    __device__ __forceinline__ void begin_run(int batch) {
        until = min(after, reading().batches - batch), stop = batch + until, after -= until;
        resume();
    }

    // What follows from where the next batch is.
    __device__ __forceinline__ void resume() {
        units = heads = step = head_step = span = lanes = 0; // nothing is asked for where there is nothing
        from = head = nullptr;
        if (product == source.count) return;
        const Reading &r = reading();
        int lane = lane_id(), batch = stop - until, half = tile % r.halves;
        uint32_t strides = tile / r.halves;
        from = r.data + strides * r.stride + half * r.partner + batch * r.batch + lane / 4 * r.row + lane % 4 * r.unit;
        head = r.heads + strides * r.head_stride + half * r.head_partner + batch * r.head_batch + lane * 16;
        lanes = r.lanes, step = r.batch, head_step = r.head_batch, span = r.span;
        units = r.units - batch * ROUNDS * span - lane % span;
        heads = lane < lanes ? r.blocks - batch * lanes - lane : 0;
    }

    // Asks for a batch, and goes to the next slot.
    __device__ __forceinline__ void ask() {
        int lane = lane_id();
        Slot *to = source.ring + warp_id() * DEPTH + slot;
#pragma unroll
        for (int r = 0; r < ROUNDS; r++) copy_async(&to->units[r][lane], from + r * 32 * 16, units > r * span);
        if (lane < lanes) copy_async(to->heads + lane * 16, head, heads > 0);
        copy_commit();
        from += step, head += head_step, units -= ROUNDS * span, heads -= lanes;
        slot = slot == DEPTH - 1 ? 0 : slot + 1;
        if (--until > 0) return;
        if (after > 0) {
            tile++;
            begin_run(0);
        } else {
            product++;
            begin_product();
        }
    }

    // The slot whose batch comes next, once it is there.
    __device__ __forceinline__ const Slot &wait() const {
        copy_wait<DEPTH - 1>();
        __syncwarp(); // other lanes brought the heads
        return source.ring[warp_id() * DEPTH + slot];
    }

    // It was read.
    __device__ __forceinline__ void done() {
        __syncwarp();
        ask();
    }
};
