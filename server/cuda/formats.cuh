// How weights lie in memory, [rows, k] row after row: plain, or in the blocks of ggml's q8_0, q4_0 and q4_K. The first
// two of those are split in quants and scales, since their blocks of 34 and 18 bytes would not be aligned.
//
// A format reads a row in units of 16 bytes, and a unit in groups of eight weights:
//   SIZE                    weights of a unit
//   at(w, row, u)           where unit u lies
//   HEAD, head_at(w, row, u)  how many bytes hold its scale, and where
//   STEP, HEAD_STEP         how far it is from a unit to the 32nd behind it, and between their heads
//   place(c)                where group c of a row has its weights 0..4 and 4..8
//   PAIRED                  0, 2, 1, 3 is the order of each four, not 0, 1, 2, 3
//   pairs<T>                all groups of a unit, as pairs of T
#pragma once
#include "common.cuh"

struct Weight {
    const unsigned char *data; // elements, quants, or whole blocks of q4_K
    const f16 *scales;         // [rows, k / 32] of q8_0 and q4_0
    int rows, k;
};

struct Place {
    int low, high;
};

__device__ __forceinline__ uint32_t word(const uint4 &v, int i) { return i < 2 ? (i ? v.y : v.x) : (i == 3 ? v.w : v.z); }

// Byte i of `v` as a number.
__device__ __forceinline__ float byte_of(uint32_t v, int i) {
    // 0x4B0000bb is 2^23 + bb: exact, and cheaper than a conversion.
    return __uint_as_float(__byte_perm(v, 0x4B000000u, 0x7440 | i)) - 8388608.0f;
}

// What two 4-bit numbers, at bits 0 and 16 of `v`, are above 8, as a pair: exact. Behind the exponent of 2^7 a bf16's last
// bit is worth 1, behind that of 2^10 an f16's.
template <class T> __device__ __forceinline__ uint32_t small_pair(uint32_t v);
template <> __device__ __forceinline__ uint32_t small_pair<bf16>(uint32_t v) {
    return pair_subtract<bf16>((v & 0x000f000fu) | 0x43004300u, 0x43084308u);
}
template <> __device__ __forceinline__ uint32_t small_pair<f16>(uint32_t v) {
    return pair_subtract<f16>((v & 0x000f000fu) | 0x64006400u, 0x64086408u);
}

// 32 numbers of 4 bits, of each four bytes the low halves and then the high ones, times a scale; `middle` is what 8
// stands for.
template <class T>
__device__ __forceinline__ void nibbles(const uint4 &v, const float (&scale)[2], const float (&middle)[2],
                                        uint32_t (&out)[16]) {
    uint32_t times[2], plus[2];
#pragma unroll
    for (int h = 0; h < 2; h++) times[h] = pack_pair<T>(scale[h], scale[h]), plus[h] = pack_pair<T>(middle[h], middle[h]);
#pragma unroll
    for (int i = 0; i < 16; i++) // bytes 0 and 2, bytes 1 and 3; the same of the high halves
        out[i] = pair_fma<T>(small_pair<T>(word(v, i / 4) >> (i % 2 * 8 + i / 2 % 2 * 4)), times[i / 2 % 2], plus[i / 2 % 2]);
}

// The pairs of four neighbours, 0, 1 and 2, 3, in the order of a paired format, 0, 2 and 1, 3; and back.
template <bool PAIRED> __device__ __forceinline__ uint2 paired(uint2 v) {
    return PAIRED ? uint2{__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632)} : v;
}

template <class E> struct Dense {
    static constexpr int SIZE = 8, HEAD = 0, STEP = 32 * 16, HEAD_STEP = 0;
    static constexpr bool PAIRED = false;
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return w.data + (static_cast<size_t>(row) * w.k + u * 8) * sizeof(E);
    }
    static __device__ __forceinline__ const void *head_at(const Weight &, int, int) { return nullptr; }
    static __device__ __forceinline__ Place place(int c) { return {c * 8, c * 8 + 4}; }
    template <class T>
    static __device__ __forceinline__ void pairs(const uint4 &v, const void *, int, uint32_t (&out)[4]) {
        out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
    }
};

// The scale of block b of q8_0 or q4_0.
__device__ __forceinline__ const void *scale_at(const Weight &w, int row, int b) {
    return w.scales + static_cast<size_t>(row) * (w.k / 32) + b;
}

struct Q8_0 {
    static constexpr int SIZE = 16, HEAD = 2, STEP = 32 * 16, HEAD_STEP = 32;
    static constexpr bool PAIRED = false;
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return w.data + static_cast<size_t>(row) * w.k + u * 16;
    }
    static __device__ __forceinline__ const void *head_at(const Weight &w, int row, int u) {
        return scale_at(w, row, u / 2);
    }
    static __device__ __forceinline__ Place place(int c) { return {c * 8, c * 8 + 4}; }
    template <class T>
    static __device__ __forceinline__ void pairs(const uint4 &v, const void *head, int, uint32_t (&out)[8]) {
        float scale = to_float(*static_cast<const f16 *>(head));
#pragma unroll
        for (int i = 0; i < 8; i++) {
            uint32_t bytes = word(v, i / 2) ^ 0x80808080u;
            float low = byte_of(bytes, i % 2 * 2) - 128.0f, high = byte_of(bytes, i % 2 * 2 + 1) - 128.0f;
            out[i] = pack_pair<T>(low * scale, high * scale);
        }
    }
};

struct Q4_0 {
    static constexpr int SIZE = 32, HEAD = 2, STEP = 32 * 16, HEAD_STEP = 64;
    static constexpr bool PAIRED = true;
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return w.data + static_cast<size_t>(row) * (w.k / 2) + u * 16;
    }
    static __device__ __forceinline__ const void *head_at(const Weight &w, int row, int u) {
        return scale_at(w, row, u);
    }
    // The low halves of the bytes are the first 16 weights, the high halves the others.
    static __device__ __forceinline__ Place place(int c) {
        int low = c / 4 * 32 + c % 4 * 4;
        return {low, low + 16};
    }
    template <class T>
    static __device__ __forceinline__ void pairs(const uint4 &v, const void *head, int, uint32_t (&out)[16]) {
        float scale = to_float(*static_cast<const f16 *>(head));
        nibbles<T>(v, {scale, scale}, {0, 0}, out);
    }
};

// Blocks of 256: two f16 scales, eight pairs of 6-bit scale and minimum, 128 bytes of quants. Bytes 32j..32j+32 of the
// quants hold the weights 64j..64j+32 in their low halves and the next 32 in their high ones.
struct Q4K {
    static constexpr int SIZE = 32, HEAD = 16, STEP = 4 * 144, HEAD_STEP = STEP;
    static constexpr bool PAIRED = true;
    static constexpr int BLOCK = 144;
    static __device__ __forceinline__ const unsigned char *block(const Weight &w, int row, int u) {
        return w.data + (static_cast<size_t>(row) * (w.k / 256) + u / 8) * BLOCK;
    }
    static __device__ __forceinline__ const void *at(const Weight &w, int row, int u) {
        return block(w, row, u) + 16 + u % 8 * 16;
    }
    static __device__ __forceinline__ const void *head_at(const Weight &w, int row, int u) { return block(w, row, u); }
    static __device__ __forceinline__ Place place(int c) {
        int u = c / 4, low = u / 2 * 64 + u % 2 * 16 + c % 4 * 4;
        return {low, low + 32};
    }
    template <class T>
    static __device__ __forceinline__ void pairs(const uint4 &v, const void *head, int u, uint32_t (&out)[16]) {
        uint4 raw = *static_cast<const uint4 *>(head);
        auto d = *reinterpret_cast<const Pack<f16, 2> *>(&raw.x);
        // Scales and minima 2j and 2j + 1. Bytes 0..4 of the twelve: scales 0..4, and the top bits of scales 4..8; 4..8:
        // the same of the minima; 8..12: the low bits of scales 4..8 and, above them, of the minima.
        int j = u % 8 / 2, shift = j % 2 * 16;
        uint32_t s = raw.y >> shift, m = raw.z >> shift, low = raw.w >> shift;
        uint32_t scales = j < 2 ? s & 0x3f3fu : (low & 0x0f0fu) | (s >> 2 & 0x3030u);
        uint32_t minima = j < 2 ? m & 0x3f3fu : (low >> 4 & 0x0f0fu) | (m >> 2 & 0x3030u);
        float scale[2], middle[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            scale[h] = byte_of(scales, h) * to_float(d.v[0]);
            middle[h] = 8.0f * scale[h] - byte_of(minima, h) * to_float(d.v[1]);
        }
        nibbles<T>(v, scale, middle, out);
    }
};

// As the host counts them.
enum Format { DENSE, Q8_0_BLOCKS, Q4_0_BLOCKS, Q4K_BLOCKS };

// Calls `f` with the format.
template <class T, class F> __device__ __forceinline__ void with_format(int format, const F &f) {
    if (format == DENSE) f(Dense<T>());
    else if (format == Q8_0_BLOCKS) f(Q8_0());
    else if (format == Q4_0_BLOCKS) f(Q4_0());
    else f(Q4K());
}
