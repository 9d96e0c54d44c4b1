// How weights lie in memory, [rows, k] row after row: plain, or in the blocks of ggml's q8_0, q4_0 and q4_K. The first
// two of those are split in quants and scales, since their blocks of 34 and 18 bytes would not be aligned.
#pragma once
#include "common.cuh"

struct Weight {
    const unsigned char *data; // elements, quants, or whole blocks of q4_K
    const f16 *scales;         // [rows, k / 32] of q8_0 and q4_0
    int rows, k;
};

// Byte i of `v` as a number.
__device__ __forceinline__ float byte_of(uint32_t v, int i) {
    // 0x4B0000bb is 2^23 + bb: exact, and cheaper than a conversion.
    return __uint_as_float(__byte_perm(v, 0x4B000000u, 0x7440 | i)) - 8388608.0f;
}

__device__ __forceinline__ const uint32_t &word(const uint4 &v, int i) { return (&v.x)[i]; }

// A format reads a row in units of 16 bytes. Of the unit u:
//   SIZE             weights in it, in chunks of 8 as `chunk` numbers them within the row
//   chunk(u, p)      the chunk that holds the unit's p-th 8 weights
//   place(c)         its reverse: u · SIZE / 8 + p
//   at               where the unit lies; `Scale` is what goes with it
//   values(…, p, w)  the p-th 8 weights, without what is the same for all of a unit
//   finish           adds what a unit gives: sums[p / 2] of weight · x and totals[p / 2] of x, each over two chunks

template <class T> struct Dense {
    static constexpr int SIZE = 8;
    static constexpr bool TOTALS = false;
    struct Scale {};
    static __device__ __forceinline__ int place(int c) { return c; }
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return w.data + (static_cast<size_t>(row) * w.k + u * 8) * sizeof(T);
    }
    static __device__ __forceinline__ Scale scale(const Weight &, int, int) { return {}; }
    static __device__ __forceinline__ void values(const uint4 &v, int, float (&w)[8]) {
        auto pack = *reinterpret_cast<const Pack<T, 8> *>(&v);
#pragma unroll
        for (int i = 0; i < 8; i++) w[i] = to_float(pack.v[i]);
    }
    static __device__ __forceinline__ float finish(const Scale &, const float *sums, const float *) { return sums[0]; }
};

struct Q8_0 {
    static constexpr int SIZE = 16;
    static constexpr bool TOTALS = false;
    using Scale = float;
    static __device__ __forceinline__ int place(int c) { return c; }
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return w.data + static_cast<size_t>(row) * w.k + u * 16;
    }
    static __device__ __forceinline__ Scale scale(const Weight &w, int row, int u) {
        return to_float(w.scales[static_cast<size_t>(row) * (w.k / 32) + u / 2]);
    }
    static __device__ __forceinline__ void values(const uint4 &v, int p, float (&w)[8]) {
#pragma unroll
        for (int i = 0; i < 8; i++) w[i] = byte_of(word(v, 2 * p + i / 4) ^ 0x80808080u, i % 4) - 128.0f;
    }
    static __device__ __forceinline__ float finish(Scale d, const float *sums, const float *) { return d * sums[0]; }
};

struct Q4_0 {
    static constexpr int SIZE = 32;
    static constexpr bool TOTALS = true;
    using Scale = float;
    static __device__ __forceinline__ int place(int c) { return c; }
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return w.data + static_cast<size_t>(row) * (w.k / 2) + u * 16;
    }
    static __device__ __forceinline__ Scale scale(const Weight &w, int row, int u) {
        return to_float(w.scales[static_cast<size_t>(row) * (w.k / 32) + u]);
    }
    // The low halves of the bytes are the first 16 weights, the high halves the others.
    static __device__ __forceinline__ void values(const uint4 &v, int p, float (&w)[8]) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            w[i] = byte_of((word(v, p % 2 * 2 + i / 4) >> (p / 2 * 4)) & 0x0f0f0f0fu, i % 4);
    }
    static __device__ __forceinline__ float finish(Scale d, const float *sums, const float *totals) {
        return d * (sums[0] + sums[1] - 8.0f * (totals[0] + totals[1]));
    }
};

// Blocks of 256: two f16 scales, eight pairs of 6-bit scale and minimum, 128 bytes of quants. Bytes 32j..32j+32 of the
// quants hold the weights 64j..64j+32 in their low halves and the next 32 in their high ones.
struct Q4K {
    static constexpr int SIZE = 32;
    static constexpr bool TOTALS = true;
    static constexpr int BLOCK = 144;
    struct Scale {
        float scale[2], least[2]; // of the low halves and of the high ones
    };
    static __device__ __forceinline__ int place(int c) {
        // Within 64 weights: chunks 0..4 are low halves, 4..8 high; 0, 1 of each lie in the first 16 bytes.
        int half = c % 4 / 2, p = c % 8 / 4 * 2 + c % 2;
        return (c / 8 * 2 + half) * 4 + p;
    }
    static __device__ __forceinline__ const unsigned char *block(const Weight &w, int row, int u) {
        return w.data + (static_cast<size_t>(row) * (w.k / 256) + u / 8) * BLOCK;
    }
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return block(w, row, u) + 16 + u % 8 * 16;
    }
    static __device__ __forceinline__ Scale scale(const Weight &w, int row, int u) {
        uint4 head = *reinterpret_cast<const uint4 *>(block(w, row, u));
        auto d = *reinterpret_cast<const Pack<f16, 2> *>(&head.x);
        Scale out;
#pragma unroll
        for (int high = 0; high < 2; high++) {
            int j = u % 8 / 2 * 2 + high, shift = j % 4 * 8;
            // Bytes 0..4 of the twelve: scales 0..4, and the top bits of scales 4..8; 4..8: the same of the minima;
            // 8..12: the low bits of scales 4..8 and, above them, of the minima.
            uint32_t s = head.y >> shift, m = head.z >> shift, low = head.w >> shift;
            uint32_t scale = j < 4 ? s & 63 : (low & 15) | (s >> 6 & 3) << 4;
            uint32_t least = j < 4 ? m & 63 : (low >> 4 & 15) | (m >> 6 & 3) << 4;
            out.scale[high] = to_float(d.v[0]) * scale;
            out.least[high] = to_float(d.v[1]) * least;
        }
        return out;
    }
    static __device__ __forceinline__ void values(const uint4 &v, int p, float (&w)[8]) { Q4_0::values(v, p, w); }
    static __device__ __forceinline__ float finish(const Scale &s, const float *sums, const float *totals) {
        return s.scale[0] * sums[0] - s.least[0] * totals[0] + s.scale[1] * sums[1] - s.least[1] * totals[1];
    }
};
