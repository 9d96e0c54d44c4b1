// How weights lie in memory: plain, [rows, k] row after row, or in the blocks of ggml's q8_0, q4_0 and q4_K, eight rows (a
// tile) beside each other.
//
// A format reads a row in units of 16 bytes, and a unit in groups of eight weights. In blocks, a tile is [units][8 rows], so
// that a warp that reads four units of eight rows reads 512 bytes on end; the scales of q8_0 and q4_0 lie apart, [blocks of
// 32][8 rows], those of q4_K before the units of each block of 256. Rows are made up to whole tiles. 8-bit floats lie in such
// tiles too, and a row of them is one block: its scale, an f32, lies apart.
//   FORMAT                  its number
//   SIZE                    weights of a unit
//   at(w, row, u)           where unit u lies
//   place(c)                where group c of a row has its weights 0..4 and 4..8
//   PAIRED                  0, 2, 1, 3 is the order of each four, not 0, 1, 2, 3
//   scales<T>(w, row, u)    what unit u is scaled with
//   group<T>(unit, s, i)    group i of a unit, as pairs of T
// Blocks moreover:
//   HEADS                   bytes of what holds the scales of eight units of a tile
//   heads_at(w, tile, u)    where they lie
#pragma once
#include "common.cuh"

struct Weight {
    unsigned char *data; // elements, quants, or whole blocks of q4_K
    f16 *scales;         // of q8_0 and q4_0; of 8-bit floats f32
    int rows, k;
};
LAYOUT(Weight, 24, 8);
FIELD(Weight, data, 0); FIELD(Weight, scales, 8); FIELD(Weight, rows, 16); FIELD(Weight, k, 20);

constexpr int TILE = 8;

struct Place {
    int low, high;
};

__device__ __forceinline__ uint32_t word(const uint4 &v, int i) { return i < 2 ? (i ? v.y : v.x) : (i == 3 ? v.w : v.z); }

// Byte i of `v` as a number.
__device__ __forceinline__ float byte_of(uint32_t v, int i) {
    // 0x4B0000bb is 2^23 + bb: exact, and cheaper than a conversion.
    return __uint_as_float(__byte_perm(v, 0x4B000000u, 0x7440 | i)) - 8388608.0f;
}

// Two 4-bit numbers at bits 0 and 16 as a pair, each above ZERO: behind the exponent of 2^7 a bf16's last bit is worth 1,
// behind that of 2^10 an f16's.
template <class T> struct Digits;
template <> struct Digits<bf16> {
    static constexpr uint32_t BITS = 0x43004300u;
    static constexpr int ZERO = 128;
};
template <> struct Digits<f16> {
    static constexpr uint32_t BITS = 0x64006400u;
    static constexpr int ZERO = 1024;
};
template <class T> __device__ __forceinline__ uint32_t digits(uint32_t v) { return and_or(v, 0x000f000fu, Digits<T>::BITS); }

// What they are above 8: exact.
template <class T> __device__ __forceinline__ uint32_t small_pair(uint32_t v) {
    return pair_subtract<T>(digits<T>(v), Digits<T>::BITS | 0x00080008u);
}

// What numbers of 4 bits are scaled with, those in the bytes' low halves and those in their high ones: as pairs of the same.
struct NibbleScales {
    uint32_t times[2], plus[2]; // `plus` is what 8 stands for
    template <class T> static __device__ __forceinline__ NibbleScales of(const float (&scale)[2], const float (&middle)[2]) {
        return {{pack_pair<T>(scale[0], scale[0]), pack_pair<T>(scale[1], scale[1])},
                {pack_pair<T>(middle[0], middle[0]), pack_pair<T>(middle[1], middle[1])}};
    }
};

// Of four bytes the low halves and then the high ones, bytes 0 and 2 before 1 and 3.
template <class T>
__device__ __forceinline__ void nibbles(uint32_t four, const NibbleScales &scales, uint32_t (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
        out[i] = pair_fma<T>(small_pair<T>(four >> (i % 2 * 8 + i / 2 * 4)), scales.times[i / 2], scales.plus[i / 2]);
}

// The pairs of four neighbours, 0, 1 and 2, 3, in the order of a paired format, 0, 2 and 1, 3; and back.
template <bool PAIRED> __device__ __forceinline__ uint2 paired(uint2 v) {
    return PAIRED ? uint2{__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632)} : v;
}

// As the host counts them.
enum Format { DENSE, Q8_0_BLOCKS, Q4_0_BLOCKS, Q4K_BLOCKS, FP8_ROWS };
static_assert(DENSE == 0 && Q8_0_BLOCKS == 1 && Q4_0_BLOCKS == 2 && Q4K_BLOCKS == 3 && FP8_ROWS == 4,
              "the host numbers them so");

// A unit has two to the power of these weights.
__device__ __forceinline__ int unit_bits(int format) {
    return format == DENSE ? 3 : format == Q8_0_BLOCKS || format == FP8_ROWS ? 4 : 5;
}

template <class E> struct Dense {
    static constexpr int FORMAT = DENSE;
    static constexpr int SIZE = 8;
    static constexpr bool PAIRED = false;
    static __device__ __forceinline__ void *at(const Weight &w, int row, int u) {
        return w.data + (static_cast<size_t>(row) * w.k + u * 8) * sizeof(E);
    }
    static __device__ __forceinline__ Place place(int c) { return {c * 8, c * 8 + 4}; }
    struct Scales {};
    template <class T> static __device__ __forceinline__ Scales scales(const Weight &, int, int) { return {}; }
    template <class T>
    static __device__ __forceinline__ void group(const uint4 &v, const Scales &, int, uint32_t (&out)[4]) {
        out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
    }
};

// Unit u of a row, of `units`.
__device__ __forceinline__ unsigned char *tiled_at(const Weight &w, int units, int row, int u) {
    return w.data + ((static_cast<size_t>(row / TILE) * units + u) * TILE + row % TILE) * 16;
}

// The scale of block b of q8_0 or q4_0.
__device__ __forceinline__ f16 *scale_at(const Weight &w, int row, int b) {
    return w.scales + (static_cast<size_t>(row / TILE) * (w.k / 32) + b) * TILE + row % TILE;
}

struct Q8_0 {
    static constexpr int FORMAT = Q8_0_BLOCKS;
    static constexpr int SIZE = 16;
    static constexpr bool PAIRED = false;
    static __device__ __forceinline__ void *at(const Weight &w, int row, int u) { return tiled_at(w, w.k / SIZE, row, u); }
    static __device__ __forceinline__ Place place(int c) { return {c * 8, c * 8 + 4}; }
    static constexpr int HEADS = 4 * TILE * 2;
    static __device__ __forceinline__ void *heads_at(const Weight &w, int tile, int u) { return scale_at(w, tile * TILE, u / 2); }
    using Scales = float;
    template <class T> static __device__ __forceinline__ float scales(const Weight &w, int row, int u) {
        return to_float(*scale_at(w, row, u / 2));
    }
    template <class T>
    static __device__ __forceinline__ void group(const uint4 &v, float scale, int i, uint32_t (&out)[4]) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t bytes = word(v, 2 * i + j / 2) ^ 0x80808080u;
            float low = byte_of(bytes, j % 2 * 2) - 128.0f, high = byte_of(bytes, j % 2 * 2 + 1) - 128.0f;
            out[j] = pack_pair<T>(low * scale, high * scale);
        }
    }
};

struct Q4_0 {
    static constexpr int FORMAT = Q4_0_BLOCKS;
    static constexpr int SIZE = 32;
    static constexpr bool PAIRED = true;
    static __device__ __forceinline__ void *at(const Weight &w, int row, int u) { return tiled_at(w, w.k / SIZE, row, u); }
    // The low halves of the bytes are the first 16 weights, the high halves the others.
    static __device__ __forceinline__ Place place(int c) {
        int low = c / 4 * 32 + c % 4 * 4;
        return {low, low + 16};
    }
    static constexpr int HEADS = 8 * TILE * 2;
    static __device__ __forceinline__ void *heads_at(const Weight &w, int tile, int u) { return scale_at(w, tile * TILE, u); }
    using Scales = NibbleScales;
    template <class T> static __device__ __forceinline__ Scales scales(const Weight &w, int row, int u) {
        float scale = to_float(*scale_at(w, row, u));
        return Scales::of<T>({scale, scale}, {0, 0});
    }
    template <class T>
    static __device__ __forceinline__ void group(const uint4 &v, const Scales &scales, int i, uint32_t (&out)[4]) {
        nibbles<T>(word(v, i), scales, out);
    }
};

// Blocks of 256: eight scales and minima of 6 bits, of 32 weights each, and what they are worth, two f16. Bytes 32j..32j+32 of
// the quants hold the weights 64j..64j+32 in their low halves and the next 32 in their high ones. Here a tile's blocks lie
// together: first, for each 32 weights and each two rows, two scales and two minima, a byte each; then for each two rows what
// the scales and the minima are worth; then the units.
struct Q4K {
    static constexpr int FORMAT = Q4K_BLOCKS;
    static constexpr int SIZE = 32;
    static constexpr bool PAIRED = true;
    // Bytes of the scales, of what stands before the units, and of a tile's blocks.
    static constexpr int SCALES = 8 * TILE * 2, HEADS = SCALES + TILE * 4, BLOCKS = HEADS + 8 * TILE * 16;
    static __device__ __forceinline__ unsigned char *blocks(const Weight &w, int row, int u) {
        return w.data + (static_cast<size_t>(row / TILE) * (w.k / 256) + u / 8) * BLOCKS;
    }
    static __device__ __forceinline__ void *at(const Weight &w, int row, int u) {
        return blocks(w, row, u) + HEADS + (u % 8 * TILE + row % TILE) * 16;
    }
    // The scale of block b of 32, and two bytes behind it the minimum.
    static __device__ __forceinline__ unsigned char *scale_at(const Weight &w, int row, int b) {
        return blocks(w, row, b) + (b % 8 * (TILE / 2) + row % TILE / 2) * 4 + row % 2;
    }
    // What a scale is worth, and two numbers behind it a minimum.
    static __device__ __forceinline__ f16 *worth_at(const Weight &w, int row, int b) {
        return reinterpret_cast<f16 *>(blocks(w, row, b) + SCALES) + row % TILE / 2 * 4 + row % 2;
    }
    static __device__ __forceinline__ Place place(int c) {
        int u = c / 4, low = u / 2 * 64 + u % 2 * 16 + c % 4 * 4;
        return {low, low + 32};
    }
    static __device__ __forceinline__ void *heads_at(const Weight &w, int tile, int u) { return blocks(w, tile * TILE, u); }
    using Scales = NibbleScales;
    template <class T> static __device__ __forceinline__ Scales scales(const Weight &w, int row, int u) {
        // Both rows' in one piece.
        auto *scales = reinterpret_cast<const uint32_t *>(scale_at(w, row / 2 * 2, u / 2 * 2));
        auto worth = load<f16, 4>(worth_at(w, row / 2 * 2, u));
        bool odd = row % 2;
        float worths[2] = {to_float(odd ? worth.v[1] : worth.v[0]), to_float(odd ? worth.v[3] : worth.v[2])};
        float scale[2], middle[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t four = scales[h * (TILE / 2)] >> odd * 8;
            scale[h] = byte_of(four, 0) * worths[0];
            middle[h] = 8.0f * scale[h] - byte_of(four, 2) * worths[1];
        }
        return Scales::of<T>(scale, middle);
    }
    template <class T>
    static __device__ __forceinline__ void group(const uint4 &v, const Scales &scales, int i, uint32_t (&out)[4]) {
        nibbles<T>(word(v, i), scales, out);
    }
};

// 8-bit floats, e4m3, in wider ones: sign, exponent and fraction are moved to their places, and the exponent is not biased
// anew, so that subnormal numbers come out right too. What is meant is WORTH times as much.
template <class T> struct Widened;
template <> struct Widened<bf16> {
    static constexpr int SHIFT = 4;
    static constexpr uint32_t MASK = 0x07f007f0u;
    static constexpr float WORTH = 0x1p120f;
};
template <> struct Widened<f16> {
    static constexpr int SHIFT = 1;
    static constexpr uint32_t MASK = 0x3f803f80u;
    static constexpr float WORTH = 0x1p8f;
};

// Four of them as pairs: bytes 0 and 2, and 1 and 3.
template <class T> __device__ __forceinline__ void widen(uint32_t four, uint32_t (&out)[2]) {
    constexpr int SHIFT = Widened<T>::SHIFT;
    constexpr uint32_t MASK = Widened<T>::MASK, SIGNS = 0x80008000u;
    out[0] = and_or(four << 8, SIGNS, (four << (8 - SHIFT)) & MASK);
    out[1] = and_or(four, SIGNS, (four >> SHIFT) & MASK);
}

// Group i of a unit of them, as pairs.
template <class T> __device__ __forceinline__ void widen_group(const uint4 &v, int i, uint32_t (&out)[4]) {
#pragma unroll
    for (int j = 0; j < 2; j++) {
        uint32_t pairs[2];
        widen<T>(word(v, 2 * i + j), pairs);
        out[2 * j] = pairs[0], out[2 * j + 1] = pairs[1];
    }
}

struct Fp8 {
    static constexpr int FORMAT = FP8_ROWS;
    static constexpr int SIZE = 16;
    static constexpr bool PAIRED = true;
    static __device__ __forceinline__ void *at(const Weight &w, int row, int u) { return tiled_at(w, w.k / SIZE, row, u); }
    static __device__ __forceinline__ Place place(int c) { return {c * 8, c * 8 + 4}; }
    static constexpr int HEADS = 0;
    static __device__ __forceinline__ void *heads_at(const Weight &, int, int) { return nullptr; }
    static __device__ __forceinline__ float *scale_at(const Weight &w, int row) {
        return reinterpret_cast<float *>(w.scales) + row;
    }
    // A single one.
    static __device__ __forceinline__ float value(const Weight &w, int row, int column) {
        uint32_t byte = static_cast<const unsigned char *>(at(w, row, column / SIZE))[column % SIZE];
        return __uint_as_float((byte & 0x80u) << 24 | (byte & 0x7fu) << 20) * Widened<bf16>::WORTH * *scale_at(w, row);
    }
    using Scales = float;
    template <class T> static __device__ __forceinline__ float scales(const Weight &w, int row, int) { return *scale_at(w, row); }
    template <class T>
    static __device__ __forceinline__ void group(const uint4 &v, float scale, int i, uint32_t (&out)[4]) {
        uint32_t wide[4];
        widen_group<bf16>(v, i, wide);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            // A bf16 is the upper half of an f32.
            float low = __uint_as_float(wide[j] << 16), high = __uint_as_float(wide[j] & 0xffff0000u);
            out[j] = pack_pair<T>(low * Widened<bf16>::WORTH * scale, high * Widened<bf16>::WORTH * scale);
        }
    }
};

// What is at the same place of a tile's rows: eight units of each, and what holds their scales. The order is that of a block of
// q4_K, but for the units of a round. In memory they lie as [unit][row], and a warp is to copy them so, since the card asks for
// its memory by what eight lanes want together; it reads them by rows, unit q of row g by lane 4g + q. Where a unit lies is
// turned by which of its row it is, so that neither has two of eight lanes at the same banks.
constexpr int ROUNDS = 2;
__device__ __forceinline__ int unit_place(int row, int unit) { return unit * TILE + (row ^ unit * 2); }
// Which row's unit a lane copies, which of that row's four it is, and where it lies; and where the unit lies that it reads.
__device__ __forceinline__ int copied_row() { return threadIdx.x % TILE; }
__device__ __forceinline__ int copied_unit() { return threadIdx.x % 32 / TILE; }
__device__ __forceinline__ int copied_place() { return unit_place(copied_row(), copied_unit()); }
__device__ __forceinline__ int read_place() { return unit_place(threadIdx.x % 32 / 4, threadIdx.x % 4); }

struct alignas(16) Slice {
    unsigned char heads[Q4K::HEADS];
    uint4 units[ROUNDS][32]; // of plain weights as they follow each other

    // As a weight of its own, for the scales; its units lie otherwise than a weight's.
    template <class F> __device__ __forceinline__ Weight weight() {
        constexpr bool TOGETHER = F::FORMAT == Q4K_BLOCKS;
        return {TOGETHER ? heads : nullptr, TOGETHER ? nullptr : reinterpret_cast<f16 *>(heads), TILE, 8 * F::SIZE};
    }
};
LAYOUT(Slice, 1184, 16);

// All groups of a row's unit u, as pairs of T.
template <class F, class T> __device__ __forceinline__ void load_pairs(const Weight &w, int row, int u, uint32_t (&out)[F::SIZE / 2]) {
    uint4 unit = load_streaming(F::at(w, row, u));
    auto scales = F::template scales<T>(w, row, u);
#pragma unroll
    for (int i = 0; i < F::SIZE / 8; i++) {
        uint32_t group[4];
        F::template group<T>(unit, scales, i, group);
#pragma unroll
        for (int j = 0; j < 4; j++) out[4 * i + j] = group[j];
    }
}

// Calls `f` with the format.
template <class T, class F> __device__ __forceinline__ void with_format(int format, const F &f) {
    if (format == DENSE) f(Dense<T>());
    else if (format == Q8_0_BLOCKS) f(Q8_0());
    else if (format == Q4_0_BLOCKS) f(Q4_0());
    else if (format == FP8_ROWS) f(Fp8());
    else f(Q4K());
}
