// Counts per (row, tile): every count becomes a key  row * n_bins + bin,  sorted and counted by the wrapper.
//
// tile_cut_keys    key[i], key[n + i] = the bins of start[i] and of end[i] - 1; NO_KEY for row < 0, for a bin >= n_bins,
//                  and, when paired, for the second of two cuts in one bin
// tile_span_sizes  size[i] = number of bins that [start, end) overlaps, bins >= n_bins left out; 0 for row < 0
// tile_span_keys   key[offset[i] ...) = those bins
//
// Inputs     start, end, row i32 (n,), 0 <= start < end; offset i64 (n,), the exclusive sum of size; key i64.
// One thread one fragment; no shared memory. Keys of the cut kernel are written as two coalesced halves.
// Traffic    cut: 12 B read, 16 written per fragment. span: 12 read, 4 written; then 20 read, 8 per overlapped bin.
// Order      no atomics; the multiset of keys is the result and does not depend on the order of threads.
// Overflow   row < 2^31 and n_bins < 2^31, so a key is below 2^62, formed in i64; NO_KEY is 2^63 - 1. A fragment
//            overlaps fewer than 2^31 bins (i32); offsets are i64.
// Oracle     tests/kernels/oracle.py: tile_counts
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void tile_cut_keys(const i32* __restrict__ start, const i32* __restrict__ end,
                                         const i32* __restrict__ row, i64 n, i32 bin_size, i32 n_bins, i32 paired,
                                         i64* __restrict__ key) {
    FOR_EACH_ITEM(i, n) {
        const i64 r = row[i];
        const i32 first = start[i] / bin_size, last = (end[i] - 1) / bin_size;
        key[i] = r >= 0 && first < n_bins ? r * n_bins + first : NO_KEY;
        key[n + i] = r >= 0 && last < n_bins && !(paired && first == last) ? r * n_bins + last : NO_KEY;
    }
}

__device__ __forceinline__ i32 last_tile(i32 end, i32 bin_size, i32 n_bins) {
    const i32 last = (end - 1) / bin_size;
    return last < n_bins ? last : n_bins - 1;
}

extern "C" __global__ void tile_span_sizes(const i32* __restrict__ start, const i32* __restrict__ end,
                                           const i32* __restrict__ row, i64 n, i32 bin_size, i32 n_bins,
                                           i32* __restrict__ size) {
    FOR_EACH_ITEM(i, n) {
        const i32 tiles = last_tile(end[i], bin_size, n_bins) - start[i] / bin_size + 1;
        size[i] = row[i] >= 0 && tiles > 0 ? tiles : 0;
    }
}

extern "C" __global__ void tile_span_keys(const i32* __restrict__ start, const i32* __restrict__ end,
                                          const i32* __restrict__ row, i64 n, i32 bin_size, i32 n_bins,
                                          const i64* __restrict__ offset, i64* __restrict__ key) {
    FOR_EACH_ITEM(i, n) {
        if (row[i] < 0) continue;
        const i32 first = start[i] / bin_size, last = last_tile(end[i], bin_size, n_bins);
        for (i32 bin = first; bin <= last; bin++) key[offset[i] + bin - first] = (i64)row[i] * n_bins + bin;
    }
}
