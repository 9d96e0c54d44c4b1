// The weights of a decode step, as they are read: without a pause, since they depend on nothing that is computed.
//
// Tiles, eight rows of a weight in blocks or one of a plain one, are shared out to the blocks of the grid in turn, and what a
// block has to read its warps share evenly: each reads a piece of it, batch by batch. A batch is two rounds; in a round the
// lanes read 512 bytes that lie on end: of a tile four units of each row, of a plain row 32.
//
// Batches follow each other in runs. A plain row is a run. Of tiles a run is what they all have at the same place of their
// rows, a slice, so that a warp keeps the inputs for it in registers.
#pragma once
#include <climits>
#include <type_traits>

#include "formats.cuh"

constexpr int WARPS = 16, THREADS = 32 * WARPS;
// Rows of inputs at most.
constexpr int MOST = 2;

// Batches that a warp has under way. The host knows it too.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ / 100 == 10
constexpr int DEPTH = 6;
#elif __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870
constexpr int DEPTH = 4;
#else
constexpr int DEPTH = 2;
#endif
// Where one lies. A step whose weights are plain or 8-bit floats has no scales to bring.
struct Batch {
    uint4 units[ROUNDS][32];
};
LAYOUT(Batch, 1024, 16);
template <bool BLOCKS> using Slot = std::conditional_t<BLOCKS, Slice, Batch>;

enum Mode {
    NORM_BIAS,  // out[m, rows] = T(w · rms_norm(x) + bias)
    NORM_GATED, // out[m, rows / 2] = T(silu(first half) · second half) of w · rms_norm(x)
    NORM_F32,   // out[m, rows] = f32(w · rms_norm(x))
    ADD,        // x[m, rows] += w · input
};
static_assert(NORM_BIAS == 0 && NORM_GATED == 1 && NORM_F32 == 2 && ADD == 3, "the host numbers them so");

// A product, or a part of its outputs where they are many.
struct Product {
    Weight weight;     // of a gated one the gates: the row `width` behind a gate is multiplied with it
    const void *input; // the residual stream, f32 [m, k]; of ADD: T [m, k]
    const void *norm;  // T [k]
    const void *bias;  // T [rows] or null
    void *out;         // [m, width] from this part's first one on
    int width, format, mode, part;
    int reading, first; // which `Reading` is its, and whether it is the first to have it

    __device__ __forceinline__ int outputs() const { return weight.rows; }
    // Rows of a tile.
    __device__ __forceinline__ int height() const { return format == DENSE ? 1 : TILE; }
    // Of a gated product a tile's partner follows it.
    __device__ __forceinline__ int halves() const { return mode == NORM_GATED ? 2 : 1; }
    // Tiles of this block, and the first output of each.
    __device__ __forceinline__ int tiles() const {
        int all = (outputs() + height() - 1) / height(), blocks = gridDim.x;
        return (all + blocks - 1 - static_cast<int>(blockIdx.x)) / blocks * halves();
    }
    __device__ __forceinline__ int first_output(int tile) const {
        return ((tile >> (halves() - 1)) * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x)) * height(); // one or two
    }
    // Batches of a tile: 512 plain weights of each row, 128 where they have 8 bits, 256 where 4.
    __device__ __forceinline__ int batches() const {
        int bits = format == DENSE ? 9 : 3 + unit_bits(format);
        return (weight.k + (1 << bits) - 1) >> bits;
    }
};
LAYOUT(Product, 80, 8);
FIELD(Product, weight, 0); FIELD(Product, input, 24); FIELD(Product, norm, 32); FIELD(Product, bias, 40);
FIELD(Product, out, 48); FIELD(Product, width, 56); FIELD(Product, format, 60); FIELD(Product, mode, 64);
FIELD(Product, part, 68); FIELD(Product, reading, 72); FIELD(Product, first, 76);

// Where the piece of a warp begins among a block's batches, `all` in number.
__device__ __forceinline__ int piece_begin(int all, int warp) { return all * warp / WARPS; }
__device__ __forceinline__ int lane_id() { return threadIdx.x % 32; }
__device__ __forceinline__ int warp_id() { return threadIdx.x / 32; }

// How this block reads products of the same sizes, of less than 4 GB each, worked out once: the addresses of `at` and of the
// scales of formats.cuh as numbers, so that reading is the same for all formats, and short.
struct alignas(16) Reading {
    uint32_t begin, batch, slice, partner;                     // bytes to the block's first batch, to a run's next one, to the
    uint32_t head_begin, head_batch, head_slice, head_partner; // next run, to a gated one's partner; the same of the scales
    int units, span, batch_units, slice_units;                 // of a row: all, in a round, and from a batch or a run to the next
    int blocks, lanes;                                         // what holds a tile's scales, 16 bytes each; lanes that bring them
    int tiles, halves, all, length;                            // the last: batches of this block, and of a run
    float run_of, piece_of;                                    // 1 / length, 1 / all

    __device__ __forceinline__ explicit Reading(const Product &p) {
        Weight w = p.weight;
        bool plain = p.format == DENSE, q4k = p.format == Q4K_BLOCKS, q8 = p.format == Q8_0_BLOCKS;
        bool scaled = !plain && p.format != FP8_ROWS;
        units = w.k >> unit_bits(p.format), span = plain ? 32 : 4;
        lanes = !scaled ? 0 : q4k ? Q4K::HEADS / 16 : q8 ? 4 : 8, blocks = !scaled ? 0 : q4k ? w.k / 256 * lanes : w.k / 32;
        uint32_t along = q4k ? Q4K::BLOCKS : ROUNDS * 32 * 16, head_along = q4k ? Q4K::BLOCKS : lanes * 16;
        uint32_t tile = plain ? units * 16 : q4k ? w.k / 256 * Q4K::BLOCKS : units * TILE * 16;
        uint32_t head_tile = q4k ? tile : blocks * 16, grid = gridDim.x, partners = p.width / p.height();
        batch = plain ? along : grid * tile, slice = plain ? grid * tile : along;
        head_batch = grid * head_tile, head_slice = head_along;
        partner = partners * tile, head_partner = partners * head_tile;
        batch_units = plain ? ROUNDS * span : 0, slice_units = plain ? 0 : ROUNDS * span;
        begin = blockIdx.x * tile + (q4k ? Q4K::HEADS : 0), head_begin = blockIdx.x * head_tile;
        tiles = p.tiles(), halves = p.halves(), all = tiles * p.batches(), length = plain ? p.batches() : tiles / halves;
        run_of = 1.0f / length, piece_of = 1.0f / all;
    }

    // The run that a batch belongs to, and the warp whose piece holds it: exact, since batches are few.
    __device__ __forceinline__ int run_with(int at) const { return static_cast<int>((at + 0.5f) * run_of); }
    __device__ __forceinline__ int piece_with(int at) const {
        return static_cast<int>((at * WARPS + (WARPS - 0.5f)) * piece_of);
    }
};
LAYOUT(Reading, 80, 16);

// Where a product's weight lies, and which reading is its.
struct Location {
    const unsigned char *data, *heads;
    int reading;

    __device__ __forceinline__ explicit Location(const Product &p) : data(p.weight.data), reading(p.reading) {
        heads = p.format == Q4K_BLOCKS ? data : reinterpret_cast<unsigned char *>(p.weight.scales);
    }
};
LAYOUT(Location, 24, 8);

// All that a block reads, and where it goes; in shared memory.
struct Source {
    const Location *locations; // [count]: of each product
    const Reading *readings;
    int count;
    unsigned char *ring; // [WARPS, DEPTH] `Slot`s
};

// Where a warp is in what it reads.
struct Position {
    int product;
    int run, stop, until, after; // the next batch is the run's stop - until; behind its stop this warp has that many more
    int slot;                    // the one that is read into, and before that from
};

// All of a step's weights that a warp reads, product after product. While it is used it must stay in registers, so nothing in
// it is indexed, and no function takes its address; and pointers must be known to be to shared memory.
template <bool BLOCKS> struct Stream : Position {
    Source source;
    // What follows from these: see `resume`.
    const unsigned char *from, *head; // this lane's part of the next batch
    int units;                        // that are left, from this lane's on; nothing is asked for behind the last
    uint32_t step, head_step;
    int step_units, span, lanes, place; // the last: of its unit in a round
    bool scaled; // whether there are scales where this lane is to bring some

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

    __device__ __forceinline__ const Reading &reading() const { return source.readings[source.locations[product].reading]; }

    // Goes to this warp's piece of the product or of the next one in which it has one.
    __device__ __forceinline__ void begin_product() {
#pragma unroll 1
        for (; product < source.count; product++) {
            const Reading &r = reading();
            int first = piece_begin(r.all, warp_id());
            after = piece_begin(r.all, warp_id() + 1) - first, run = r.run_with(first);
            if (after > 0) {
                begin_run(first - run * r.length);
                return;
            }
        }
        stop = until = INT_MAX; // nothing is left to be asked for
        resume();
    }

    // Goes on from `batch` of the run as far as it or this warp's piece reaches.
    __device__ __forceinline__ void begin_run(int batch) {
        until = min(after, reading().length - batch), stop = batch + until, after -= until;
        resume();
    }

    // What follows from where the next batch is.
    __device__ __forceinline__ void resume() {
        units = step = head_step = step_units = span = lanes = place = 0, scaled = false; // nothing is asked for where there is nothing
        from = head = nullptr;
        if (product == source.count) return;
        const Location &at = source.locations[product];
        const Reading &r = source.readings[at.reading];
        bool plain = r.span == 32;
        int lane = lane_id(), batch = stop - until, half = run & (r.halves - 1), slice = run >> (r.halves - 1); // one half or two
        from = at.data + (r.begin + slice * r.slice + half * r.partner + batch * r.batch) + lane * 16;
        head = at.heads + (r.head_begin + slice * r.head_slice + half * r.head_partner + batch * r.head_batch) + lane * 16;
        step = r.batch, head_step = r.head_batch, step_units = r.batch_units, span = r.span, lanes = r.lanes;
        units = r.units - slice * r.slice_units - batch * step_units - (plain ? lane : copied_unit());
        place = plain ? lane : copied_place();
        scaled = slice * lanes + lane < r.blocks;
    }

    __device__ __forceinline__ Slot<BLOCKS> &now() const {
        return reinterpret_cast<Slot<BLOCKS> *>(source.ring)[warp_id() * DEPTH + slot];
    }

    // Asks for a batch, and goes to the next slot.
    __device__ __forceinline__ void ask() {
        int lane = lane_id();
        Slot<BLOCKS> &to = now();
#pragma unroll
        for (int r = 0; r < ROUNDS; r++) copy_async(&to.units[r][place], from + r * 32 * 16, units > r * span);
        if constexpr (BLOCKS)
            if (lane < lanes) copy_async(to.heads + lane * 16, head, scaled);
        copy_commit();
        from += step, head += head_step, units -= step_units;
        slot = slot == DEPTH - 1 ? 0 : slot + 1;
        if (--until > 0) return;
        if (after > 0) {
            run++;
            begin_run(0);
        } else {
            product++;
            begin_product();
        }
    }

    // Calls `read` with the slot whose batch comes next, once it is there. It is to take all that it needs: another comes there.
    template <class R> __device__ __forceinline__ void take(const R &read) {
        copy_wait<DEPTH - 1>();
        __syncwarp(); // other lanes brought the heads
        read(static_cast<const Slot<BLOCKS> &>(now()));
        __syncwarp();
        ask();
    }
};
