// The largest scores of a table, for who chooses among few tokens: what each group of scores has at most, and the k-th largest of
// these, which the k-th largest score can't be less than, and which few scores reach.
#include "common.cuh"

// Scores of a group, groups of a warp of `group_keys`, threads of a block of `largest_scores` and groups of each; what can be
// listed of a row. The host knows them too.
constexpr int GROUP = 64, WARP_GROUPS = 8, SEEKERS = 1024, SEEKER_GROUPS = 8, LISTED = 512;
constexpr int THREADS = 256;
constexpr uint32_t ALL_LANES = 0xffffffffu, SIGN = 0x80000000u, INFINITE = 0xff800000u;

// Numbers in the order of the floats; that of a NaN is above all, and 0 is below all.
__device__ __forceinline__ uint32_t key_of(float x) {
    uint32_t bits = __float_as_uint(x);
    if (x != x) return ALL_LANES;
    return bits & SIGN ? ~bits : bits | SIGN;
}

__device__ __forceinline__ float score_of(uint32_t key) { return __uint_as_float(key & SIGN ? key & ~SIGN : ~key); }

// The largest key of each group of the rows of scores [rows, n]: keys [rows, groups]. blockIdx.y is the row.
extern "C" __global__ void __launch_bounds__(THREADS) group_keys(const float *scores, uint32_t *keys, int n, int groups) {
    int first = (blockIdx.x * THREADS + threadIdx.x) / 32 * WARP_GROUPS, lane = threadIdx.x % 32;
    scores += static_cast<size_t>(blockIdx.y) * n, keys += static_cast<size_t>(blockIdx.y) * groups;
    uint32_t most[WARP_GROUPS];
#pragma unroll
    for (int g = 0; g < WARP_GROUPS; g++) {
        int at = (first + g) * GROUP + lane;
        uint32_t a = at < n ? key_of(scores[at]) : 0, b = at + 32 < n ? key_of(scores[at + 32]) : 0;
        most[g] = max(a, b);
    }
#pragma unroll
    for (int g = 0; g < WARP_GROUPS; g++) {
        uint32_t key = __reduce_max_sync(ALL_LANES, most[g]);
        if (lane == 0 && first + g < groups) keys[first + g] = key;
    }
}

// The k-th largest of all threads' keys; 0 if there are fewer than k above it.
__device__ uint32_t kth_key(const uint32_t (&own)[SEEKER_GROUPS], int k) {
    __shared__ int counts[2][SEEKERS / 32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t bound = 0;
    for (int bit = 31; bit >= 0; bit--) {
        uint32_t candidate = bound | 1u << bit;
        int reach = 0;
#pragma unroll
        for (int i = 0; i < SEEKER_GROUPS; i++) reach += own[i] >= candidate;
        reach = __reduce_add_sync(ALL_LANES, reach);
        // Two places in turn, so that one meeting a bit is enough.
        if (lane == 0) counts[bit % 2][warp] = reach;
        __syncthreads();
        if (__reduce_add_sync(ALL_LANES, counts[bit % 2][lane]) >= k) bound = candidate;
    }
    return bound;
}

// Lists of each row the scores that reach its bound, in any order: how many, their ids, their scores. More than can be listed, a
// NaN or an infinite score make that number ~0. One block a row.
extern "C" __global__ void __launch_bounds__(SEEKERS)
    largest_scores(const float *scores, const uint32_t *keys, uint32_t *found, int n, int groups, int k) {
    __shared__ int listed;
    __shared__ uint32_t refused;
    scores += static_cast<size_t>(blockIdx.x) * n, keys += static_cast<size_t>(blockIdx.x) * groups;
    found += blockIdx.x * (1 + 2 * LISTED);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t own[SEEKER_GROUPS], most = 0;
#pragma unroll
    for (int i = 0; i < SEEKER_GROUPS; i++) {
        int group = i * SEEKERS + threadIdx.x;
        own[i] = group < groups ? keys[group] : 0;
        most = max(most, own[i]);
    }
    if (threadIdx.x == 0) listed = 0, refused = 0;
    __syncthreads();
    if (most >= INFINITE) refused = 1;
    uint32_t bound = kth_key(own, k);
    float least = bound ? score_of(bound) : -INFINITY;
#pragma unroll
    for (int i = 0; i < SEEKER_GROUPS; i++) {
        // As floats: -0 is as much as 0.
        uint32_t reaching = __ballot_sync(ALL_LANES, own[i] && score_of(own[i]) >= least);
        for (; reaching; reaching &= reaching - 1) {
            int first = (i * SEEKERS + warp * 32 + __ffs(reaching) - 1) * GROUP;
            for (int at = first + lane; at < min(first + GROUP, n); at += 32) {
                float score = scores[at];
                if (score < least) continue;
                int place = atomicAdd(&listed, 1);
                if (place < LISTED) found[1 + place] = at, found[1 + LISTED + place] = __float_as_uint(score);
            }
        }
    }
    __syncthreads();
    if (threadIdx.x == 0) found[0] = refused || listed > LISTED ? ~0u : listed;
}
