// Attention of a decode step of many rows: the query heads that share a key/value head are the rows of an mma. A row's keys, for
// one key/value head a segment, are shared out to some blocks, the more the longer it is; a block has a part of one segment, whose
// chunks its warps take in turn. What they find becomes one share, and a segment's shares are joined behind the blocks' next
// meeting.
#pragma once
#include "hopper_stream.cuh"

constexpr int MANY_HEADS = 16;

// What attention works in.
template <class T, int D> struct ManyAttention {
    uint4 queries[D / 16][32]; // as the mma wants them
    T key[D], value[D]; // of the new entry
    float2 found[MANY_WARPS][MANY_HEADS]; // the largest score, and the weights' sum
};

template <int D> constexpr int MANY_SHARE = MANY_HEADS * (D + 2);

// What is the same in all layers.
struct ManyRows {
    uint32_t starts[MANY_ROWS];     // entries in the cache before these
    uint32_t pages[MANY_ROWS];      // the page of the new one
    int before[MANY_SEGMENTS + 1];  // blocks that have a part of an earlier segment; of as many shares there are
};

// One part of a layer. `sums` is room for the sums of two warps.
template <class T, int D>
__device__ __forceinline__ void attend_part(ManyReader &reader, const ManyRows &rows, const Part &part, const T *qkv,
                                            int kv_heads, int heads, float *shares, ManyAttention<T, D> &memory, float4 *sums) {
    constexpr int PANELS = D / 64, TILES = D / 8, AT_ONCE = 2;
    const int lane = many_lane(), warp = many_warp(), g = lane / 4, q = lane % 4;
    const int width = (heads + 2 * kv_heads) * D, shared_by = heads / kv_heads;
    const T *row = qkv + static_cast<size_t>(part.row) * width;
    for (int i = threadIdx.x; i < MANY_HEADS * (D / 8); i += MANY_THREADS) {
        int head = i / (D / 8), chunk = i % (D / 8);
        auto v = load_fresh<uint4>(row + (part.kv_head * shared_by + min(head, shared_by - 1)) * D + chunk * 8);
        auto *to = reinterpret_cast<uint32_t *>(&memory.queries[chunk / 4 * 2][head % 8 * 4 + chunk % 4]) + head / 8;
        to[0] = v.x, to[2] = v.y, to[128] = v.z, to[130] = v.w;
    }
    const int start = rows.starts[part.row], fresh_chunk = start / CHUNK - part.begin;
    if (fresh_chunk < part.chunks && threadIdx.x >= MANY_THREADS - 2 * (D / 8)) { // the new entry is among ours
        int i = threadIdx.x - (MANY_THREADS - 2 * (D / 8)), value = i / (D / 8), chunk = i % (D / 8);
        auto v = load_fresh<uint4>(row + (heads + value * kv_heads + part.kv_head) * D + chunk * 8);
        *reinterpret_cast<uint4 *>((value ? memory.value : memory.key) + chunk * 8) = v;
    }
    meet_many();

    const float scale = LOG2_E * rsqrtf(static_cast<float>(D));
    float out[TILES][4], most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
#pragma unroll
    for (int d = 0; d < TILES; d++)
#pragma unroll
        for (int c = 0; c < 4; c++) out[d][c] = 0;
    auto attend = [&](unsigned char *keys, bool last) {
        unsigned char *values = keys + PANELS * CHUNK * 128;
        const int fresh = start % CHUNK, seen = last ? fresh + 1 : CHUNK;
        if (last) { // what lies behind the new entry may be anything, and 0 · it must be 0
#pragma unroll 1
            for (int i = lane; i < CHUNK * D / 8; i += 32) {
                int key = i / (D / 8), chunk = i % (D / 8), panel = chunk / 8 * CHUNK * 128;
                auto *to = reinterpret_cast<uint4 *>(swizzled(values + panel, key, chunk % 8));
                if (key > fresh) *to = uint4{0, 0, 0, 0};
                if (key != fresh) continue;
                auto *of_key = reinterpret_cast<uint4 *>(swizzled(keys + panel, key, chunk % 8));
                *to = *reinterpret_cast<const uint4 *>(memory.value + chunk * 8);
                *of_key = *reinterpret_cast<const uint4 *>(memory.key + chunk * 8);
            }
            publish(); // to the copies that come into this place
            __syncwarp();
        }
        float scores[2][4] = {};
#pragma unroll
        for (int p = 0; p < PANELS; p++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                uint4 low = memory.queries[p * 4 + c * 2][lane], high = memory.queries[p * 4 + c * 2 + 1][lane];
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    uint4 k = *reinterpret_cast<const uint4 *>(swizzled(keys + p * CHUNK * 128, n * 8 + row_of(g), 4 * c + q));
                    multiply_add<T>(scores[n], {low.x, low.y, low.z, low.w}, k.x, k.y);
                    multiply_add<T>(scores[n], {high.x, high.y, high.z, high.w}, k.z, k.w);
                }
            }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float next = most[h];
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float &score = scores[n][2 * h + c];
                    score = n * 8 + row_of(q * 2 + c) < seen ? score * scale : -INFINITY;
                    next = fmaxf(next, score);
                }
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 1));
            next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, 2));
            float keep = exp2_fast(most[h] - next); // the first key of a chunk is always there
            most[h] = next;
            sum[h] *= keep;
#pragma unroll
            for (int n = 0; n < 2; n++)
#pragma unroll
                for (int c = 0; c < 2; c++) {
                    float &score = scores[n][2 * h + c];
                    score = exp2_fast(score - next);
                    sum[h] += score;
                }
#pragma unroll
            for (int d = 0; d < TILES; d++) out[d][2 * h] *= keep, out[d][2 * h + 1] *= keep;
        }
        uint32_t weights[4] = {pack_pair<T>(scores[0][0], scores[0][1]), pack_pair<T>(scores[0][2], scores[0][3]),
                               pack_pair<T>(scores[1][0], scores[1][1]), pack_pair<T>(scores[1][2], scores[1][3])};
        int key = lane % 16 / 8 * 8 + row_of(lane % 8);
#pragma unroll
        for (int d = 0; d < TILES / 2; d++) {
            uint32_t b[4];
            load_matrices_transposed(b, swizzled(values + d / 4 * CHUNK * 128, key, 2 * (d % 4) + lane / 16));
            multiply_add<T>(out[2 * d], weights, b[0], b[1]);
            multiply_add<T>(out[2 * d + 1], weights, b[2], b[3]);
        }
    };
#pragma unroll 1
    for (int first = 0; first < part.chunks; first += SLOT_CHUNKS)
        reader.take([&](unsigned char *slot) {
            int mine = warp % SLOT_CHUNKS, chunk = first + mine;
            if (chunk % MANY_WARPS == warp && chunk < part.chunks)
                attend(slot + mine * 2 * PANELS * CHUNK * 128, chunk == fresh_chunk);
        });
    // The warps' sums become one.
#pragma unroll
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        if (q == 0) memory.found[warp][g + 8 * h] = {most[h], sum[h]};
    }
    meet_many();
    const int active = min(part.chunks, MANY_WARPS);
    float all[2], total[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        all[h] = -INFINITY, total[h] = 0;
#pragma unroll 1
        for (int w = 0; w < active; w++) all[h] = fmaxf(all[h], memory.found[w][g + 8 * h].x);
#pragma unroll 1
        for (int w = 0; w < active; w++) {
            float2 f = memory.found[w][g + 8 * h];
            total[h] += f.y * exp2_fast(f.x - all[h]);
        }
        float keep = exp2_fast(most[h] - all[h]);
#pragma unroll
        for (int d = 0; d < TILES; d++) out[d][2 * h] *= keep, out[d][2 * h + 1] *= keep;
    }
    float4 mine[TILES / MANY_WARPS] = {};
#pragma unroll 1
    for (int w = 0; w < active; w += AT_ONCE) {
        if (warp / AT_ONCE == w / AT_ONCE && warp < active) {
#pragma unroll
            for (int d = 0; d < TILES; d++)
                sums[(warp % AT_ONCE * TILES + d) * 32 + lane] = {out[d][0], out[d][1], out[d][2], out[d][3]};
        }
        meet_many();
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
#pragma unroll
            for (int d = 0; d < TILES / MANY_WARPS; d++) {
                if (w + i >= active) break;
                float4 v = sums[(i * TILES + d * MANY_WARPS + warp) * 32 + lane];
                mine[d].x += v.x, mine[d].y += v.y, mine[d].z += v.z, mine[d].w += v.w;
            }
        meet_many();
    }
    float *share = shares + static_cast<size_t>(blockIdx.x) * MANY_SHARE<D>;
#pragma unroll
    for (int d = 0; d < TILES / MANY_WARPS; d++) {
        float *to = share + (d * MANY_WARPS + warp) * 8 + q * 2;
        *reinterpret_cast<float2 *>(to + g * (D + 2)) = {mine[d].x, mine[d].y};
        *reinterpret_cast<float2 *>(to + (g + 8) * (D + 2)) = {mine[d].z, mine[d].w};
    }
    if (warp == 0 && q == 0) {
        *reinterpret_cast<float2 *>(share + g * (D + 2) + D) = {all[0], total[0]};
        *reinterpret_cast<float2 *>(share + (g + 8) * (D + 2) + D) = {all[1], total[1]};
    }
}

// The inputs of what follows from the shares, a head a warp.
template <class T, int D, bool WIDE, bool FP8>
__device__ __forceinline__ void join_many(const ManyRows &rows, int count, int kv_heads, int heads, const float *shares,
                                          T *out) {
    constexpr int EACH = D / 32, SHARE = MANY_SHARE<D>;
    static_assert(EACH == 4, "two pairs of columns a lane");
    const int lane = many_lane(), shared_by = heads / kv_heads;
    for (int i = blockIdx.x + gridDim.x * many_warp(); i < count * heads; i += gridDim.x * MANY_WARPS) {
        int row = i / heads, head = i % heads, segment = row * kv_heads + head / shared_by;
        int first = rows.before[segment], used = rows.before[segment + 1] - first;
        const float *share = shares + static_cast<size_t>(first) * SHARE + head % shared_by * (D + 2);
        float most = -INFINITY, total = 0;
        for (int s = lane; s < used; s += 32) most = fmaxf(most, load_fresh<float>(share + s * SHARE + D));
        most = warp_max(most);
        float value[EACH] = {};
#pragma unroll 4
        for (int s = 0; s < used; s++) {
            float2 known = load_fresh<float2>(share + s * SHARE + D);
            float weight = exp2_fast(known.x - most);
            total += known.y * weight;
#pragma unroll
            for (int e = 0; e < EACH; e += 2) {
                float2 v = load_fresh<float2>(share + s * SHARE + lane * EACH + e);
                value[e] += v.x * weight, value[e + 1] += v.y * weight;
            }
        }
        constexpr int APART = FP8 ? 2 : 1; // the columns of a pair
#pragma unroll
        for (int p = 0; p < 2; p++) {
            int first = p * (2 / APART);
            *reinterpret_cast<uint32_t *>(out + input_at<WIDE, FP8>(row, head * D + lane * EACH + first)) =
                pack_pair<T>(value[first] / total, value[first + APART] / total);
        }
    }
}
