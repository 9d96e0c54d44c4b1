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
// Rounds that a warp has under way: as many as shared memory holds beside two rows of 14336 inputs. The host knows it too.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900 || __CUDA_ARCH__ / 100 == 10
constexpr int DEPTH = 16;
#elif __CUDA_ARCH__ == 800 || __CUDA_ARCH__ == 870
constexpr int DEPTH = 10;
#else
constexpr int DEPTH = 4;
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

// What a warp's lanes read in a round: a unit each, and what holds their scales.
struct Slot {
    uint4 units[32];
    unsigned char heads[128];
};

__device__ __forceinline__ int lane_id() { return threadIdx.x % 32; }
// All warps of the grid are numbered through, those of a block far from each other, so that few rows spread over all.
__device__ __forceinline__ int warp_number() { return threadIdx.x / 32 * gridDim.x + blockIdx.x; }
__device__ __forceinline__ int warp_count() { return gridDim.x * WARPS; }

// A product as a warp reads it: from row to row of those that it takes.
struct Reading {
    int format, rows, rounds, units; // rows, rounds and units of a row from this lane's on
    const char *row, *head;          // this lane's first unit, and its head
    // How far it is to the next row and its head: of a gate to its partner, and from there to the next gate.
    int jump[2], head_jump[2];
};

// Goes to the first product from this one on that has a row for this warp. Not inlined: it is long, and rare.
template <class T> __device__ __noinline__ void begin(const Product *&product, int &products, Reading *to) {
    int output = warp_number();
    while (products > 0 && output >= product->outputs()) products--, product++;
    if (products <= 0) { // nothing is left to be asked for
        *to = {DENSE, 0, INT_MAX, 0, nullptr, nullptr, {0, 0}, {0, 0}};
        return;
    }
    Weight weight = product->weight;
    int outputs = product->outputs();
    bool gated = product->mode == NORM_GATED;
    to->format = product->format;
    to->rows = ((outputs - 1 - output) / warp_count() + 1) * (gated ? 2 : 1);
    with_format<T>(to->format, [&](auto f) {
        using F = decltype(f);
        auto row = [&](int r) { return static_cast<const char *>(F::at(weight, r, lane_id())); };
        auto head = [&](int r) { return static_cast<const char *>(F::head_at(weight, r, lane_id())); };
        int after[2] = {gated ? outputs + output : output + warp_count(), output + warp_count()};
        to->row = row(output), to->head = head(output);
        to->jump[0] = row(after[0]) - row(output), to->head_jump[0] = head(after[0]) - head(output);
        to->jump[1] = gated ? row(after[1]) - row(after[0]) : to->jump[0];
        to->head_jump[1] = gated ? head(after[1]) - head(after[0]) : to->head_jump[0];
        to->units = weight.k / F::SIZE - lane_id();
        to->rounds = (weight.k / F::SIZE + 31) / 32;
    });
}

// All weights of a step, as this warp reads them: product after product without a pause, since they depend on nothing
// that is computed.
template <class T> struct Stream {
    const Product *product; // what is read,
    int products;           // and how many there are, it included
    Reading reading;
    int turn;                // of the jumps
    const char *from, *head; // this lane's next unit, and its head
    int rounds, left;        // of the row; nothing is asked for behind the last unit
    Slot *ring, *slot;       // this warp's slots; the one that is read into, and before that from

    __device__ __forceinline__ Stream(const Product *product, int products, Slot *ring)
        : product(product), products(products), ring(ring + threadIdx.x / 32 * DEPTH), slot(this->ring) {
        begin_product();
        for (int i = 0; i < DEPTH; i++) fetch();
    }

    __device__ __forceinline__ void begin_product() {
        const Product *at = product;
        int count = products;
        Reading next;
        begin<T>(at, count, &next);
        product = at, products = count, reading = next, turn = 0;
        begin_row();
    }

    __device__ __forceinline__ void begin_row() {
        from = reading.row, head = reading.head, rounds = reading.rounds, left = reading.units;
    }

    __device__ __forceinline__ void next_row() {
        reading.row += reading.jump[turn], reading.head += reading.head_jump[turn];
        turn ^= 1;
        if (--reading.rows > 0) return begin_row();
        product++, products--;
        begin_product();
    }

    // Asks for a round, and goes to the next slot.
    __device__ __forceinline__ void fetch() {
        int lane = lane_id();
        copy_async(&slot->units[lane], from, left > 0);
        from += Dense<T>::STEP;
        if (reading.format == Q4K_BLOCKS) {
            // Of the eight lanes with the same block the first brings the head.
            if (lane % 8 == 0) copy_async(slot->heads + lane * 2, head, left > 0);
            from += Q4K::STEP - Dense<T>::STEP, head += Q4K::HEAD_STEP;
        } else if (reading.format != DENSE) { // the four bytes that hold the scale
            auto *word = reinterpret_cast<const char *>(reinterpret_cast<size_t>(head) & ~size_t(3));
            copy_async_word(slot->heads + lane * 4, word, left > 0);
            head += reading.format == Q8_0_BLOCKS ? Q8_0::HEAD_STEP : Q4_0::HEAD_STEP;
        }
        copy_commit();
        left -= 32;
        slot = slot == ring + DEPTH - 1 ? ring : slot + 1;
        if (--rounds == 0) next_row();
    }

    // Asks for the row behind the one that is read, as far as the second-level cache.
    __device__ __forceinline__ void ask_ahead() const {
        if (products <= 0 || reading.rows < 2 || lane_id() != 0) return;
        auto *next = reinterpret_cast<const char *>(reinterpret_cast<size_t>(reading.row + reading.jump[turn]) & ~size_t(15));
        prefetch(next, reading.format == Q4K_BLOCKS ? reading.units / 8 * Q4K::BLOCK - 16 : reading.units * 16);
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

// The inputs' groups in shared memory, as a round's lanes want them: [round][group of a unit][lane].
template <class F> __device__ __forceinline__ int staged_groups(int k) {
    return (k / F::SIZE + 31) / 32 * 32 * (F::SIZE / 8);
}

// The inputs to shared memory, normed unless they are added to.
template <class F, class T> __device__ __forceinline__ void stage(const Product &p, int rows, float eps, T *staged) {
    constexpr int GROUPS = F::SIZE / 8;
    int k = p.weight.k, groups = staged_groups<F>(k);
    bool norms = p.mode != ADD;
    for (int m = 0; m < rows; m++) {
        float v[8], inverse = 1; // v: the first group of this thread, and mostly its only one
        if (static_cast<int>(threadIdx.x) < groups) load_group<F, T>(p, m, threadIdx.x, v);
        if (norms) {
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
            if (c >= THREADS) load_group<F, T>(p, m, c, v);
            if (norms && c < k / 8) {
                Place place = F::place(c);
                auto *norm = static_cast<const T *>(p.norm);
                auto low = load<T, 4>(norm + place.low), high = load<T, 4>(norm + place.high);
#pragma unroll
                for (int i = 0; i < 8; i++) v[i] *= inverse * to_float(i < 4 ? low.v[i % 4] : high.v[i % 4]);
            }
            Pack<T, 8> pack;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                int from = F::PAIRED && (i % 4 == 1 || i % 4 == 2) ? i ^ 3 : i;
                pack.v[i] = from_float<T>(v[from]);
            }
            int u = c / GROUPS, place = (u / 32 * GROUPS + c % GROUPS) * 32 + u % 32;
            store<T, 8>(staged + static_cast<size_t>(m) * groups * 8 + place * 8, pack);
        }
    }
    __syncthreads();
}

// The sums of a row with one row of inputs, or with two.
template <class F, class T>
__device__ __forceinline__ float2 row_sums(const Weight &weight, int row, bool two, Stream<T> &stream, const T *staged) {
    constexpr int GROUPS = F::SIZE / 8;
    int lane = lane_id(), rounds = (weight.k / F::SIZE + 31) / 32;
    // Where a lane finds its head.
    int head = F::HEAD == 16 ? lane / 8 * 16 : lane * 4;
    if (F::HEAD == 2) head += reinterpret_cast<size_t>(F::head_at(weight, row, lane)) % 4;
    const T *x = staged + lane * 8;
    size_t second = static_cast<size_t>(staged_groups<F>(weight.k)) * 8;
    float sums[2][4] = {};
#pragma unroll 1
    for (int round = 0; round < rounds; round++) {
        copy_wait<DEPTH - 1>();
        if (F::HEAD == 16) __syncwarp(); // another lane brought the head
        Slot &slot = *stream.slot;
        uint32_t w[GROUPS * 4];
        F::template pairs<T>(slot.units[lane], slot.heads + head, lane, w);
        if (F::HEAD == 16) __syncwarp();
        stream.fetch();
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            uint4 a = *reinterpret_cast<const uint4 *>(x + g * 256), b = {0, 0, 0, 0};
            if (two) b = *reinterpret_cast<const uint4 *>(x + second + g * 256);
            multiply_add<T>(sums[0], {a.x, b.x, a.y, b.y}, w[4 * g], w[4 * g + 1]);
            multiply_add<T>(sums[1], {a.z, b.z, a.w, b.w}, w[4 * g + 2], w[4 * g + 3]);
        }
        x += GROUPS * 256;
    }
    // Of a lane's two columns at most one has its row's number.
    int own = lane / 4 - lane % 4 * 2;
    float2 found;
    found.x = own == 0 ? sums[0][0] + sums[1][0] : own == 1 ? sums[0][1] + sums[1][1] : 0;
    found.y = own == 0 ? sums[0][2] + sums[1][2] : own == 1 ? sums[0][3] + sums[1][3] : 0;
    found.x = warp_sum(found.x);
    found.y = warp_sum(found.y);
    return found;
}

template <class F, class T>
__device__ __forceinline__ void multiply(const Product &product, int rows, float eps, Stream<T> &stream, T *staged) {
    stage<F, T>(product, rows, eps, staged);
    Product p = product;
    int outputs = p.outputs(), m = min(lane_id(), rows - 1), parts = p.mode == NORM_GATED ? 2 : 1;
    for (int output = warp_number(); output < outputs; output += warp_count()) {
        size_t at = static_cast<size_t>(m) * outputs + output;
        float before = 0, sum = 0; // asked for before it is needed
        if (p.mode == ADD) before = load_fresh<float>(static_cast<float *>(p.out) + at);
        if (p.mode == NORM_BIAS && p.bias) before = to_float(static_cast<const T *>(p.bias)[output]);
#pragma unroll 1
        for (int part = 0; part < parts; part++) {
            float2 both = row_sums<F, T>(p.weight, part * outputs + output, rows == 2, stream, staged);
            float found = m ? both.y : both.x;
            sum = part == 0 ? found : silu(sum) * found;
        }
        if (lane_id() >= rows) continue;
        if (p.mode == NORM_F32 || p.mode == ADD) static_cast<float *>(p.out)[at] = before + sum;
        else static_cast<T *>(p.out)[at] = from_float<T>(before + sum);
    }
}
