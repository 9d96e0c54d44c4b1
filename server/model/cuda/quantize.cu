// Plain weights into ggml's blocks of q8_0, q4_0 and q4_K and into 8-bit floats, laid out as formats.cuh has them: `first` is
// which block of 32 of the weight comes first, counted row after row. Each operation is the CPU's (candle's k_quants, and
// weights/fp8.rs), in its order and rounded alike, so that the same bytes come out. A thread takes 32 weights; of 8-bit floats
// a warp takes a row.
#include "formats.cuh"

constexpr int RUN = 32;

// As Rust's `as i32` of a rounded number: half away from zero, NaN to 0, what is too large to the largest.
__device__ __forceinline__ int nearest(float x) { return __float2int_rz(roundf(x)); }

__device__ __forceinline__ int between(int x, int least, int most) { return min(max(x, least), most); }

// The weights from x on, as f32.
template <class T> __device__ __forceinline__ void read(const T *x, float (&v)[RUN]) {
#pragma unroll
    for (int i = 0; i < RUN; i += WIDE<T>) {
        auto pack = load<T, WIDE<T>>(x + i);
#pragma unroll
        for (int j = 0; j < WIDE<T>; j++) v[i + j] = to_float(pack.v[j]);
    }
}

// Block `run` of 32 of a weight, counted row after row: its row, and its number there.
struct Run {
    int row, block;
    __device__ __forceinline__ Run(const Weight &w, size_t run) {
        int blocks = w.k / RUN;
        row = static_cast<int>(run / blocks), block = static_cast<int>(run % blocks);
    }
};

template <class T> __device__ void quantize_q8_0(const T *x, const Weight &w, size_t first, size_t runs) {
    size_t run = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (run >= runs) return;
    float v[RUN], most = 0;
    read(x + run * RUN, v);
#pragma unroll
    for (int i = 0; i < RUN; i++) most = fmaxf(most, fabsf(v[i]));
    float d = __fdiv_rn(most, 127.0f), inverse = d != 0 ? __fdiv_rn(1.0f, d) : 0;
    uint32_t quants[8] = {};
#pragma unroll
    for (int i = 0; i < RUN; i++)
        quants[i / 4] |= (between(nearest(__fmul_rn(v[i], inverse)), -128, 127) & 255) << (i % 4 * 8);
    Run to(w, first + run);
    *scale_at(w, to.row, to.block) = __float2half_rn(d);
#pragma unroll
    for (int i = 0; i < 2; i++)
        *static_cast<uint4 *>(Q8_0::at(w, to.row, to.block * 2 + i)) = {quants[4 * i], quants[4 * i + 1], quants[4 * i + 2],
                                                                        quants[4 * i + 3]};
}

template <class T> __device__ void quantize_q4_0(const T *x, const Weight &w, size_t first, size_t runs) {
    size_t run = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (run >= runs) return;
    float v[RUN], size = 0, most = 0;
    read(x + run * RUN, v);
#pragma unroll
    for (int i = 0; i < RUN; i++)
        if (size < fabsf(v[i])) {
            size = fabsf(v[i]);
            most = v[i];
        }
    float d = __fdiv_rn(most, -8.0f), inverse = d != 0 ? __fdiv_rn(1.0f, d) : 0;
    uint32_t quants[4] = {};
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        int q = between(__float2int_rz(__fadd_rn(__fmul_rn(v[i], inverse), 8.5f)), 0, 15);
        quants[i % 16 / 4] |= q << (i % 4 * 8 + i / 16 * 4);
    }
    Run to(w, first + run);
    *scale_at(w, to.row, to.block) = __float2half_rn(d);
    *static_cast<uint4 *>(Q4_0::at(w, to.row, to.block)) = {quants[0], quants[1], quants[2], quants[3]};
}

// Scale and minimum of 32 weights of 0..15 each, by rounding to them and fitting again, up to five times.
__device__ __forceinline__ void fit(const float (&v)[RUN], float &scale, float &least) {
    constexpr int TRIES = 5;
    float low = v[0], high = v[0];
#pragma unroll
    for (int i = 1; i < RUN; i++) {
        low = fminf(low, v[i]);
        high = fmaxf(high, v[i]);
    }
    scale = least = 0;
    if (high == low) return;
    low = fminf(low, 0.0f);
    float inverse = __fdiv_rn(15.0f, __fsub_rn(high, low));
    uint32_t chosen[4] = {}; // 4 bits each
    for (int attempt = 0; attempt < TRIES; attempt++) {
        float products = 0;
        int squares = 0;
        uint32_t now[4] = {};
#pragma unroll
        for (int i = 0; i < RUN; i++) {
            float above = __fsub_rn(v[i], low);
            int q = between(nearest(__fmul_rn(inverse, above)), 0, 15);
            now[i / 8] |= q << (i % 8 * 4);
            products = __fadd_rn(products, __fmul_rn(above, static_cast<float>(q)));
            squares += q * q;
        }
        scale = __fdiv_rn(products, static_cast<float>(squares));
        float sum = 0;
#pragma unroll
        for (int i = 0; i < RUN; i++)
            sum = __fadd_rn(sum, __fsub_rn(v[i], __fmul_rn(scale, static_cast<float>(now[i / 8] >> (i % 8 * 4) & 15))));
        low = __fmul_rn(sum, 1.0f / RUN);
        if (low > 0) low = 0;
        inverse = __fdiv_rn(1.0f, scale);
        bool same = true;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            same &= now[i] == chosen[i];
            chosen[i] = now[i];
        }
        if (same) break;
    }
    least = -low;
}

// What the eight threads of a block of 256 hold at most, and at least 0.
__device__ __forceinline__ float most_of_block(float x) {
    x = fmaxf(x, 0.0f);
#pragma unroll
    for (int lane = 4; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
    return x;
}

template <class T> __device__ void quantize_q4k(const T *x, const Weight &w, size_t first, size_t runs) {
    size_t run = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    // Threads beyond the end compute the last block once more: all of a warp must meet below.
    bool beyond = run >= runs;
    if (beyond) run = runs - 8 + threadIdx.x % 8;
    float v[RUN], scale, least;
    read(x + run * RUN, v);
    fit(v, scale, least);
    float most_scale = most_of_block(scale), most_least = most_of_block(least);
    float to_scale = most_scale > 0 ? __fdiv_rn(63.0f, most_scale) : 0;
    float to_least = most_least > 0 ? __fdiv_rn(63.0f, most_least) : 0;
    int s = min(nearest(__fmul_rn(to_scale, scale)), 63) & 255, m = min(nearest(__fmul_rn(to_least, least)), 63) & 255;
    f16 d = __float2half_rn(__fdiv_rn(most_scale, 63.0f)), d_least = __float2half_rn(__fdiv_rn(most_least, 63.0f));

    float step = __fmul_rn(__half2float(d), static_cast<float>(s)), shift = 0;
    uint32_t quants[8] = {}; // 8 bits each
    if (step != 0) {
        shift = __fmul_rn(__half2float(d_least), static_cast<float>(m));
#pragma unroll
        for (int i = 0; i < RUN; i++)
            quants[i / 4] |= between(nearest(__fdiv_rn(__fadd_rn(v[i], shift), step)), 0, 15) << (i % 4 * 8);
    }
    // Two threads share 32 bytes, low halves and high ones: each writes 16.
    uint32_t out[4];
    bool high = threadIdx.x % 2;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t other = __shfl_xor_sync(0xffffffffu, high ? quants[i] : quants[i + 4], 1);
        out[i] = high ? other | quants[i + 4] << 4 : quants[i] | other << 4;
    }
    if (beyond) return;
    Run to(w, first + run);
    *static_cast<uint4 *>(Q4K::at(w, to.row, to.block)) = {out[0], out[1], out[2], out[3]};
    unsigned char *head = Q4K::scale_at(w, to.row, to.block);
    head[0] = s & 63, head[2] = m & 63;
    if (threadIdx.x % 8 == 0) {
        f16 *worth = Q4K::worth_at(w, to.row, to.block);
        worth[0] = d, worth[2] = d_least;
    }
}

// The nearest 8-bit float (e4m3), of two the even one, and the largest for what is beyond it; NaN to the largest.
__device__ __forceinline__ uint32_t to_fp8(float x) {
    uint32_t bits = __float_as_uint(x), sign = bits >> 31 << 7;
    float size = fminf(fabsf(x), 448.0f);
    if (size < 0x1p-6f) return sign | __float2int_rn(size * 512.0f); // subnormal, in steps of 2^-9
    bits = __float_as_uint(size);
    bits += 0x7ffff + (bits >> 20 & 1);
    return sign | ((bits >> 20) - (120 << 3));
}

// `first` and `runs` are whole rows.
template <class T> __device__ void quantize_fp8(const T *x, const Weight &w, size_t first, size_t runs) {
    int lane = threadIdx.x % 32, runs_of_row = w.k / RUN;
    size_t row = static_cast<size_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
    if (row >= runs / runs_of_row) return;
    x += row * w.k;
    float most = 0;
    for (int run = lane; run < runs_of_row; run += 32) {
        float v[RUN];
        read(x + run * RUN, v);
#pragma unroll
        for (int i = 0; i < RUN; i++) most = fmaxf(most, fabsf(v[i]));
    }
    most = warp_max(most);
    float scale = __fdiv_rn(most, 448.0f), inverse = scale != 0 ? __fdiv_rn(1.0f, scale) : 0;
    int to = static_cast<int>(first / runs_of_row + row);
    if (lane == 0) *Fp8::scale_at(w, to) = scale;
    for (int run = lane; run < runs_of_row; run += 32) {
        float v[RUN];
        read(x + run * RUN, v);
        uint32_t quants[8] = {};
#pragma unroll
        for (int i = 0; i < RUN; i++) quants[i / 4] |= to_fp8(__fmul_rn(v[i], inverse)) << (i % 4 * 8);
#pragma unroll
        for (int i = 0; i < 2; i++)
            *static_cast<uint4 *>(Fp8::at(w, to, run * 2 + i)) = {quants[4 * i], quants[4 * i + 1], quants[4 * i + 2],
                                                                  quants[4 * i + 3]};
    }
}

// Stored blocks of ggml's, `count` of them, to where they lie here, that of the weight's block `first` first. A thread takes a
// word of 16 bits.
struct Stored {
    const uint16_t *block;
    int row, unit, word; // where the block goes to, its first unit there, and which of its words this thread has
    // Blocks of so many words and units; false where there is no word for this thread.
    template <class F, int WORDS, int UNITS>
    __device__ __forceinline__ bool find(const uint16_t *blocks, const Weight &w, size_t first, size_t count) {
        size_t at = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x, number = first + at / WORDS;
        int in_row = w.k / (UNITS * F::SIZE);
        row = static_cast<int>(number / in_row), unit = static_cast<int>(number % in_row) * UNITS;
        word = static_cast<int>(at % WORDS), block = blocks + at / WORDS * WORDS;
        return at < count * WORDS;
    }
};

// A scale, and so many units.
template <class F, int UNITS>
__device__ void place_blocks(const uint16_t *blocks, const Weight &w, size_t first, size_t count) {
    Stored from;
    if (!from.find<F, 1 + UNITS * 8, UNITS>(blocks, w, first, count)) return;
    uint16_t value = from.block[from.word];
    if (from.word == 0) *reinterpret_cast<uint16_t *>(scale_at(w, from.row, from.unit / UNITS)) = value;
    else static_cast<uint16_t *>(F::at(w, from.row, from.unit + (from.word - 1) / 8))[(from.word - 1) % 8] = value;
}

// What scales and minima are worth, twelve bytes of these, and eight units.
template <> __device__ void place_blocks<Q4K, 8>(const uint16_t *blocks, const Weight &w, size_t first, size_t count) {
    constexpr int HEAD = 8; // words before the units
    Stored from;
    if (!from.find<Q4K, HEAD + 64, 8>(blocks, w, first, count)) return;
    int word = from.word, quant = word - HEAD;
    if (quant >= 0) {
        static_cast<uint16_t *>(Q4K::at(w, from.row, from.unit + quant / 8))[quant % 8] = from.block[word];
        return;
    }
    // Bytes 0..4 of the twelve: scales 0..4, and the top bits of scales 4..8; 4..8: the same of the minima; 8..12: the low
    // bits of scales 4..8 and, above them, of the minima.
    auto byte = [&](int i) { return from.block[2 + i / 2] >> i % 2 * 8 & 255; };
    int i = word % 4, scale = byte(i), least = byte(4 + i), low = byte(8 + i);
    unsigned char *to = Q4K::scale_at(w, from.row, from.unit + word);
    to[0] = word < 4 ? scale & 63 : (low & 15) | scale >> 6 << 4;
    to[2] = word < 4 ? least & 63 : low >> 4 | least >> 6 << 4;
    if (word < 2) reinterpret_cast<uint16_t *>(Q4K::worth_at(w, from.row, from.unit))[2 * word] = from.block[word];
}

#define PLACE(F, name, UNITS)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        place_##name(const uint16_t *blocks, Weight w, size_t first, size_t count) {                                   \
        place_blocks<F, UNITS>(blocks, w, first, count);                                                               \
    }
PLACE(Q8_0, q8_0, 2)
PLACE(Q4_0, q4_0, 1)
PLACE(Q4K, q4k, 8)

#define QUANTIZE(T, name, format)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256)                                                                  \
        quantize_##format##_##name(const T *x, Weight w, size_t first, size_t runs) {                                  \
        quantize_##format(x, w, first, runs);                                                                          \
    }
#define DEFINE(T, name)                                                                                                \
    QUANTIZE(T, name, q8_0)                                                                                            \
    QUANTIZE(T, name, q4_0)                                                                                            \
    QUANTIZE(T, name, q4k)                                                                                             \
    QUANTIZE(T, name, fp8)
FOR_EACH_TYPE(DEFINE)
