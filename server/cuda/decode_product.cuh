// The products of a decode step: x · weightᵀ for one or two rows, with what stands before and behind each.
//
// A warp takes a row of the weight and reads it in rounds, a lane sixteen bytes, one behind the other. They go to the
// tensor cores as they are: a lane's bytes are a piece of one of the eight columns of an mma, and of the eight rows that the
// inputs have there, one is made of the same pieces. So the sums wanted are where row and column have the same number; the
// others mean nothing. In which order a sum is taken is free as long as both factors keep to it: the inputs wait in
// shared memory in that order.
#pragma once
#include <climits>

#include "formats.cuh"

constexpr int WARPS = 16, THREADS = 32 * WARPS;
// Rows of inputs at most: an mma has room for twice eight.
constexpr int MOST = 2;
// Rounds that are asked for and waited for at once, and such batches that a warp has under way: as many as shared memory
// holds beside two rows of 14336 inputs. The host knows it too.
constexpr int BATCH = 4;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ / 100 == 10
constexpr int DEPTH = 3;
#elif __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870
constexpr int DEPTH = 2;
#else
constexpr int DEPTH = 1;
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
};

// What a warp's lanes read in a batch: in each round a unit, and what holds its scale.
struct Slot {
    uint4 units[BATCH][32];
    unsigned char heads[BATCH][128];
};

__device__ __forceinline__ int lane_id() { return threadIdx.x % 32; }
// All warps of the grid are numbered through, those of a block far from each other, so that few rows spread over all.
__device__ __forceinline__ int warp_number() { return threadIdx.x / 32 * gridDim.x + blockIdx.x; }
__device__ __forceinline__ int warp_count() { return gridDim.x * WARPS; }

// Batches of a row of k.
template <class F> __device__ __forceinline__ int batches_of(int k) {
    return (k / F::SIZE + 32 * BATCH - 1) / (32 * BATCH);
}

// All weights of a step, as this warp reads them: product after product without a pause, since they depend on nothing
// that is computed. It must stay in registers, so nothing in it is indexed, and no function takes its address.
template <class T> struct Stream {
    const Product *product, *end; // what is read, in shared memory
    int output, outputs, format;
    bool partner;            // the row is a gate's partner
    const char *from, *head; // this lane's next unit, and its head
    int batches, left;       // of the row, and units from this lane's on; nothing is asked for behind the last
    Slot *ring, *slot;       // this warp's slots; the one that is read into, and before that from

    __device__ __forceinline__ Stream(const Product *products, int count, Slot *ring)
        : product(products), end(products + count), ring(ring + threadIdx.x / 32 * DEPTH), slot(this->ring) {
        output = warp_number(), partner = false;
        begin_row();
        for (int i = 0; i < DEPTH; i++) fetch();
    }

    // Goes to the row of `output` or, behind a product's last one, of the next product that has one for this warp.
    __device__ __forceinline__ void begin_row() {
        while (product < end && output >= product->outputs()) product++, output = warp_number();
        if (product >= end) { // nothing is left to be asked for
            batches = INT_MAX, left = 0;
            return;
        }
        Weight weight = product->weight;
        outputs = product->outputs(), format = product->format;
        int row = partner ? outputs + output : output;
        with_format<T>(format, [&](auto f) {
            using F = decltype(f);
            from = static_cast<const char *>(F::at(weight, row, lane_id()));
            head = static_cast<const char *>(F::head_at(weight, row, lane_id()));
            left = weight.k / F::SIZE - lane_id(), batches = batches_of<F>(weight.k);
        });
    }

    __device__ __forceinline__ void next_row() {
        partner = !partner && product->mode == NORM_GATED;
        if (!partner) output += warp_count();
        begin_row();
    }

    // Asks for a batch, and goes to the next slot.
    __device__ __forceinline__ void fetch() {
        int lane = lane_id();
        if (format == Q4K_BLOCKS) {
#pragma unroll
            for (int r = 0; r < BATCH; r++) {
                copy_async(&slot->units[r][lane], from + r * Q4K::STEP, left > 32 * r);
                // Of the eight lanes with the same block the first brings the head.
                if (lane % 8 == 0) copy_async(slot->heads[r] + lane * 2, head + r * Q4K::HEAD_STEP, left > 32 * r);
            }
            from += BATCH * Q4K::STEP, head += BATCH * Q4K::HEAD_STEP;
        } else {
#pragma unroll
            for (int r = 0; r < BATCH; r++)
                copy_async(&slot->units[r][lane], from + r * Dense<T>::STEP, left > 32 * r);
            from += BATCH * Dense<T>::STEP;
            if (format != DENSE) { // the four bytes that hold the scale
                int step = format == Q8_0_BLOCKS ? Q8_0::HEAD_STEP : Q4_0::HEAD_STEP;
                auto *word = reinterpret_cast<const char *>(reinterpret_cast<size_t>(head) & ~size_t(3));
#pragma unroll
                for (int r = 0; r < BATCH; r++)
                    copy_async_word(slot->heads[r] + lane * 4, word + r * step, left > 32 * r);
                head += BATCH * step;
            }
        }
        copy_commit();
        left -= 32 * BATCH;
        slot = slot == ring + DEPTH - 1 ? ring : slot + 1;
        if (--batches == 0) next_row();
    }

    // Asks for the row behind the one that is read, as far as the second-level cache.
    __device__ __forceinline__ void ask_ahead() const {
        if (product >= end || output + warp_count() >= outputs || partner || lane_id() != 0) return;
        Weight weight = product->weight;
        with_format<T>(format, [&](auto f) {
            using F = decltype(f);
            auto *begin = static_cast<const char *>(F::at(weight, output + warp_count(), 0));
            auto *next = static_cast<const char *>(F::at(weight, output + warp_count() + 1, 0));
            prefetch(reinterpret_cast<const void *>(reinterpret_cast<size_t>(begin) & ~size_t(15)), next - begin - 16);
        });
    }
};

// Group c of the inputs' row m, as f32 in the order of memory; zeros behind the last.
template <class F, class T>
__device__ __forceinline__ void load_group(const Product &p, int m, int c, float (&v)[8]) {
    Place place = F::place(c);
    size_t row = static_cast<size_t>(m) * p.weight.k;
    float4 low = {0, 0, 0, 0}, high = low;
    if (c < p.weight.k / 8 && p.mode != ADD) {
        auto *x = static_cast<const float *>(p.input) + row;
        low = load_fresh<float4>(x + place.low), high = load_fresh<float4>(x + place.high);
    }
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
    if (c < p.weight.k / 8 && p.mode == ADD) {
        auto *x = static_cast<const T *>(p.input) + row;
        uint2 halves[2] = {load_fresh<uint2>(x + place.low), load_fresh<uint2>(x + place.high)};
        auto *values = reinterpret_cast<const T *>(halves);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = to_float(values[i]);
    }
}

// The inputs in shared memory: 16 bytes are what a lane brings to an mma, two pairs of each of the two rows (or of one, and
// zeros). They lie [round][group of a unit][half of it][lane], for plain weights in whole batches: there rounds aren't counted.
template <class F> __device__ __forceinline__ int staged_groups(int k) {
    int rounds = F::HEAD == 0 ? batches_of<F>(k) * BATCH : (k / F::SIZE + 31) / 32;
    return rounds * 32 * (F::SIZE / 8);
}

// This thread's first group of the weights that the inputs are normed with. They depend on nothing.
template <class F, class T> __device__ __forceinline__ Pack<T, 8> load_norm(const Product &p, int c) {
    Pack<T, 8> norm = {};
    if (p.mode == ADD || c >= p.weight.k / 8) return norm;
    Place place = F::place(c);
    auto low = load<T, 4>(static_cast<const T *>(p.norm) + place.low);
    auto high = load<T, 4>(static_cast<const T *>(p.norm) + place.high);
#pragma unroll
    for (int i = 0; i < 8; i++) norm.v[i] = i < 4 ? low.v[i % 4] : high.v[i % 4];
    return norm;
}

// The inputs to shared memory, normed unless they are added to.
template <class F, class T>
__device__ __forceinline__ void stage(const Product &p, int rows, float eps, const Pack<T, 8> &norm, uint32_t *staged) {
    constexpr int GROUPS = F::SIZE / 8;
    int k = p.weight.k, groups = staged_groups<F>(k);
    bool norms = p.mode != ADD;
    for (int m = 0; m < MOST; m++) {
        float v[8], inverse = 1; // v: the first group of this thread, and mostly its only one
        bool there = m < rows;
        if (static_cast<int>(threadIdx.x) < groups && there) load_group<F, T>(p, m, threadIdx.x, v);
        if (norms && there) {
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
            if (c >= THREADS && there) load_group<F, T>(p, m, c, v);
            auto scale = c >= THREADS && there ? load_norm<F, T>(p, c) : norm;
            int u = c / GROUPS;
            uint32_t *to = staged + ((u / 32 * GROUPS + c % GROUPS) * 64 + u % 32) * 4 + m;
#pragma unroll
            for (int i = 0; i < 4; i++) { // pairs: 0, 2 and 1, 3 of each four where they are paired so
                int first = F::PAIRED ? i / 2 * 4 + i % 2 : i * 2, second = F::PAIRED ? first + 2 : first + 1;
                float a = v[first] * inverse, b = v[second] * inverse;
                if (norms) a *= to_float(scale.v[first]), b *= to_float(scale.v[second]);
                to[i / 2 * 128 + i % 2 * 2] = there ? pack_pair<T>(a, b) : 0;
            }
        }
    }
    __syncthreads();
}

// The sums of a row with each row of inputs.
template <class F, class T>
__device__ __forceinline__ float2 row_sums(const Weight &weight, int row, Stream<T> &stream, const uint32_t *staged) {
    // Sums that are taken side by side: the tensor cores take their time.
    constexpr int GROUPS = F::SIZE / 8, SUMS = F::HEAD == 0 ? 4 : 2;
    int lane = lane_id(), rounds = (weight.k / F::SIZE + 31) / 32;
    // Where a lane finds its head.
    int head = F::HEAD == 16 ? lane / 8 * 16 : lane * 4;
    if (F::HEAD == 2) head += reinterpret_cast<size_t>(F::head_at(weight, row, lane)) % 4;
    const uint4 *x = reinterpret_cast<const uint4 *>(staged) + lane;
    float sums[SUMS][4] = {};
    auto round = [&](const Slot &slot, int r) {
        uint32_t w[GROUPS * 4];
        F::template pairs<T>(slot.units[r][lane], slot.heads[r] + head, lane, w);
#pragma unroll
        for (int i = 0; i < 2 * GROUPS; i++) {
            uint4 a = x[i * 32];
            multiply_add<T>(sums[F::HEAD == 0 ? r % 2 * 2 + i : i % 2], {a.x, a.y, a.z, a.w}, w[2 * i], w[2 * i + 1]);
        }
        x += GROUPS * 64;
    };
#pragma unroll 1
    for (; rounds > 0; rounds -= BATCH) {
        copy_wait<DEPTH - 1>();
        if (F::HEAD == 16) __syncwarp(); // another lane brought the head
        const Slot &slot = *stream.slot;
        if constexpr (F::HEAD == 0) {
#pragma unroll
            for (int r = 0; r < BATCH; r++) round(slot, r);
        } else {
#pragma unroll 1
            for (int r = 0; r < min(BATCH, rounds); r++) round(slot, r);
        }
        if (F::HEAD == 16) __syncwarp();
        stream.fetch();
    }
#pragma unroll
    for (int i = 1; i < SUMS; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[0][j] += sums[i][j];
    // Of a lane's two columns at most one has its row's number.
    int own = lane / 4 - lane % 4 * 2;
    float2 found;
    found.x = own == 0 ? sums[0][0] : own == 1 ? sums[0][1] : 0;
    found.y = own == 0 ? sums[0][2] : own == 1 ? sums[0][3] : 0;
    found.x = warp_sum(found.x);
    found.y = warp_sum(found.y);
    return found;
}

// Waits with `meet_all` until the inputs are there, and multiplies.
template <class F, class T, class Meet>
__device__ __forceinline__ void multiply(const Product &p, int rows, float eps, Stream<T> &stream, uint32_t *staged,
                                         const Meet &meet_all) {
    auto norm = load_norm<F, T>(p, threadIdx.x);
    meet_all();
    stage<F, T>(p, rows, eps, norm, staged);
    Weight weight = p.weight;
    int mode = p.mode, outputs = p.outputs(), m = min(lane_id(), rows - 1);
    void *out = p.out;
    for (int output = warp_number(); output < outputs; output += warp_count()) {
        size_t at = static_cast<size_t>(m) * outputs + output;
        float before = 0, sum = 0; // asked for before it is needed
        if (mode == ADD) before = load_fresh<float>(static_cast<float *>(out) + at);
        if (mode == NORM_BIAS && p.bias) before = to_float(static_cast<const T *>(p.bias)[output]);
#pragma unroll 1
        for (int row = output; row < weight.rows; row += outputs) { // two of a gated product
            float2 both = row_sums<F, T>(weight, row, stream, staged);
            float found = m ? both.y : both.x;
            sum = row == output ? found : silu(sum) * found;
        }
        if (lane_id() >= rows) continue;
        if (mode == NORM_F32 || mode == ADD) static_cast<float *>(out)[at] = before + sum;
        else static_cast<T *>(out)[at] = from_float<T>(before + sum);
    }
}
