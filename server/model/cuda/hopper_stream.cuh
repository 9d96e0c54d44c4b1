// What a decode step of many rows reads, on Hopper: its weights, and the keys and values that are in the cache already, all
// of which depend on nothing that is computed. A warp of each block asks for it in the order of its use, as bulk copies into
// a ring of slots; so while the blocks meet, or attend, the rings fill, and reading never stops.
//
// A block has every grid's worth of a weight's tiles, eight rows each. A tile comes in passes of 64 units, 64 columns each, of
// which each warp has eight; so a warp has the same columns of every tile, and keeps the inputs for them in registers. A pass
// is two slots, of 8-bit floats one; longer rows take several, over a few tiles at a time.
#pragma once
#include "hopper.cuh"
#include "plan.cuh"

// Warps that compute; four more ask, since registers are shared out to four at a time.
constexpr int MANY_WARPS = 8, MANY_THREADS = 32 * MANY_WARPS;
// Rows of inputs at most: those of an mma.
constexpr int MANY_ROWS = 16;
// Rows of a tile, columns of a unit, units of a pass; and of half of one, all and a warp's.
constexpr int MANY_TILE = 8, MANY_UNIT = 64, PASS_UNITS = 64, HALF_UNITS = PASS_UNITS / 2, WARP_UNITS = HALF_UNITS / MANY_WARPS;
// Bytes of a slot, and of a bulk copy of weights: lines of 128 bytes.
constexpr int MANY_SLOT = 32768, BOX_LINES = 32, BOX_BYTES = BOX_LINES * 128;
// Slots of the ring.
constexpr int MANY_DEPTH = 5;
// Tiles whose sums a block has room for.
constexpr int MANY_TILES = 4;
// Keys that a warp attends to at once, and how many such chunks are in a slot.
constexpr int CHUNK = 16, SLOT_CHUNKS = 4;
// Key/value heads of all rows at most.
constexpr int MANY_SEGMENTS = 64;

// A product of every layer, or the output's.
struct ManyShape {
    int k, outputs; // of a gated one the gates; the row so far behind a gate is multiplied with it
    int halves;     // two of a gated one

    __device__ __forceinline__ int units() const { return k / MANY_UNIT; }
    __device__ __forceinline__ int tiles() const {
        int all = (outputs + MANY_TILE - 1) / MANY_TILE, blocks = gridDim.x;
        return (all + blocks - 1 - static_cast<int>(blockIdx.x)) / blocks * halves;
    }
    // The first output of a tile; of a gated one's gates the partners' tile follows.
    __device__ __forceinline__ int output(int tile) const {
        return ((tile >> (halves - 1)) * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x)) * MANY_TILE; // one or two
    }
    __device__ __forceinline__ int row(int tile) const { return output(tile) + (tile & (halves - 1)) * outputs; }
    // Tiles whose sums are there at once: of a long one's all, since they go through the passes together; otherwise half as many,
    // in turn.
    static constexpr __device__ int together(bool is_long) { return is_long ? MANY_TILES : MANY_TILES / 2; }
};
LAYOUT(ManyShape, 12, 4);
FIELD(ManyShape, k, 0); FIELD(ManyShape, outputs, 4); FIELD(ManyShape, halves, 8);

// The keys that a block attends to, for the query heads of one row that share them.
struct Part {
    int row, kv_head;
    int begin, chunks; // its first chunk among the row's, and how many
};

__device__ __forceinline__ int many_lane() { return threadIdx.x % 32; }
__device__ __forceinline__ int many_warp() { return threadIdx.x / 32; }
// Where all warps but the one that asks meet.
__device__ __forceinline__ void meet_many() { meet(1, MANY_THREADS); }

// How weights come. Plain ones, in 16 bits, from their rows: a unit is eight lines, one of each row, and a box a row's part of
// four units for all eight. 8-bit floats as their tiles lie in memory: a unit is four lines, each of 16 columns of all rows.
template <bool FP8> struct ManyUnits {
    static constexpr int BYTES = MANY_TILE * MANY_UNIT * (FP8 ? 1 : 2);
    static constexpr int OF_SLOT = MANY_SLOT / BYTES, OF_BOX = BOX_BYTES / BYTES, LINES = BYTES / 128;
};

struct ManyRing {
    unsigned char slots[MANY_DEPTH][MANY_SLOT];
    Barrier full[MANY_DEPTH], free[MANY_DEPTH];
};

// A row's 16 bytes of a slot's 64 columns, swizzled as the bulk copies do it.
__device__ __forceinline__ unsigned char *swizzled(unsigned char *columns, int row, int chunk) {
    return columns + row * 128 + ((chunk ^ (row % 8)) * 16);
}
// The row of a tile, or the key of eight, that is an mma's column: so that those of two columns side by side lie in different
// banks.
__device__ __forceinline__ int row_of(int column) { return column / 2 + column % 2 * 4; }

// Inputs of products lie as the mma wants them, so that a warp reads 512 bytes on end, and a lane four columns of rows g and
// g + 8, or where there are no more than eight rows of row g. Which four they are follows from the 16 bytes of a weight that a
// lane has: eight columns of plain ones, so that of 32 columns those come first that are 0 to 3 of eight; of 8-bit floats 16,
// of which those of a word come together, 0 and 2 before 1 and 3, as `widen` makes them. Where an element is.
template <bool WIDE, bool FP8> __device__ __forceinline__ size_t input_at(int row, int column) {
    int four = FP8 ? column / 64 * 4 + column % 16 / 4 : column / 32 * 2 + column % 8 / 4;
    int pair = FP8 ? column % 2 : column % 4 / 2, of_pair = FP8 ? column % 4 / 2 : column % 2;
    size_t lane = four * 32 + row % 8 * 4 + (FP8 ? column % 64 / 16 : column % 32 / 8);
    return WIDE ? lane * 8 + pair * 4 + row / 8 * 2 + of_pair : lane * 4 + pair * 2 + of_pair;
}

// What is put into the ring; by one thread.
struct ManyWriter {
    ManyRing &ring;
    int slot, parity;

    __device__ __forceinline__ explicit ManyWriter(ManyRing &ring) : ring(ring), slot(0), parity(1) {}

    // Calls `copy` with the slot that comes next, once it is free, and what waits for so many bytes.
    template <class C> __device__ __forceinline__ void put(int bytes, const C &copy) {
        barrier_wait(&ring.free[slot], parity);
        barrier_expect(&ring.full[slot], bytes);
        copy(ring.slots[slot], &ring.full[slot]);
        if (++slot == MANY_DEPTH) slot = 0, parity ^= 1;
    }

    // `map` has boxes as `ManyUnits` says.
    template <bool FP8> __device__ __forceinline__ void weights(const TensorMap &map, const ManyShape &shape, bool is_long) {
        using Units = ManyUnits<FP8>;
        const int tiles = shape.tiles(), units = shape.units(), together = shape.together(is_long);
#pragma unroll 1
        for (int base = 0; base < tiles; base += together)
#pragma unroll 1
            for (int pass = 0; pass < units; pass += PASS_UNITS)
#pragma unroll 1
                for (int tile = base; tile < min(base + together, tiles); tile++) {
                    const int row = shape.row(tile);
#pragma unroll 1
                    for (int unit = pass; unit < min(pass + PASS_UNITS, units); unit += Units::OF_SLOT) {
                        const int boxes = (min(Units::OF_SLOT, units - unit) + Units::OF_BOX - 1) / Units::OF_BOX;
                        put(boxes * BOX_BYTES, [&](unsigned char *to, Barrier *full) {
#pragma unroll 1
                            for (int i = 0; i < boxes; i++) {
                                // Behind a tile's last unit there may be another tile's, which nobody reads.
                                int first = unit + i * Units::OF_BOX, line = (row / MANY_TILE * units + first) * Units::LINES;
                                copy_box(map, to + i * BOX_BYTES, full, 0, FP8 ? line : row, FP8 ? 0 : first);
                            }
                        });
                    }
                }
    }

    // `map` has boxes of 64 columns of a chunk. Of each chunk a slot has the keys, then the values.
    template <int D>
    __device__ __forceinline__ void cache(const TensorMap &map, const Cache &cache, const Part &part, const uint32_t *pages) {
        constexpr int PANELS = D / 64;
#pragma unroll 1
        for (int first = 0; first < part.chunks; first += SLOT_CHUNKS) {
            const int count = min(SLOT_CHUNKS, part.chunks - first);
            put(count * 2 * PANELS * CHUNK * 128, [&](unsigned char *to, Barrier *full) {
#pragma unroll 1
                for (int i = 0; i < count * 2; i++) {
                    int chunk = first + i / 2, page = pages[chunk];
                    int head = ((page * cache.layers + cache.layer) * 2 + i % 2) * cache.kv_heads + part.kv_head;
#pragma unroll
                    for (int p = 0; p < PANELS; p++)
                        copy_box(map, to + (i * PANELS + p) * CHUNK * 128, full, p * 64,
                                 (part.begin + chunk) % (PAGE / CHUNK) * CHUNK, head);
                }
            });
        }
    }
};

// What a warp takes out of it.
struct ManyReader {
    ManyRing &ring;
    int slot, parity;

    __device__ __forceinline__ explicit ManyReader(ManyRing &ring) : ring(ring), slot(0), parity(0) {}

    // Calls `read` with the slot that comes next, once all of it is there. All warps go through all slots.
    template <class R> __device__ __forceinline__ void take(const R &read) {
        barrier_wait(&ring.full[slot], parity);
        read(ring.slots[slot]);
        __syncwarp();
        if (many_lane() == 0) barrier_arrive(&ring.free[slot]);
        if (++slot == MANY_DEPTH) slot = 0, parity ^= 1;
    }
};
