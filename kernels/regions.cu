// Fragments or cuts in regions: counts per (row, region), and how many touch any region.
//
// region_hit_sizes  size[i] = number of counts that fragment i gives; 0 for row < 0
// region_hit_keys   key[offset[i] ...) = row * n_regions + region for each of them
//     strategy 0 (insertion)         one for each region that holds start, one for each that holds end - 1
//     strategy 1 (fragment)          one for each region that [start, end) overlaps
//     strategy 2 (paired-insertion)  one for each region that holds start or end - 1
// overlap_any       hits[row[i]] += 1 when [start, end) overlaps a region; as insertions: += cuts inside one
//
// Inputs     start, end, row i32 (n,), 0 <= start < end; region_start, region_end i32 (n_regions,), sorted by (start,
//            end); reach i32 (n_regions,), reach[j] = max of region_end[0..j], which makes overlapping regions
//            searchable. overlap_any: regions sorted and disjoint, hits u64 (n_rows,).
// One thread one fragment. [a, b) can only meet the regions from the first with reach > a up to the last with
//            start < b: two binary searches, then a walk over what lies between (one region for most data; a region that
//            spans many others makes the walk longer, never wrong). No shared memory.
// Traffic    12 B read per fragment, and 4 B per step of the searches, which stay in the cache for up to about 1M
//            regions; sizes: 4 written; keys: 8 read and 8 written per count; overlap_any: one 8-byte atomic per hit.
// Order      overlap_any: integer atomicAdd; the keys are a multiset. No dependence on order.
// Overflow   row < 2^31, n_regions < 2^31: a key is below 2^62; region indices and offsets are i64. A fragment gives
//            at most 2 n_regions counts: the wrapper refuses more than 2^30 regions, so that i32 holds them.
// Oracle     tests/kernels/oracle.py: region_counts, overlap_any
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

#define INSERTION 0
#define FRAGMENT 1

// Call visit(region) for each region that [a, b) overlaps, in ascending order.
template <class Visit>
__device__ __forceinline__ void each_overlap(i64 a, i64 b, const i32* region_start, const i32* region_end,
                                             const i32* reach, i64 n_regions, Visit visit) {
    const i64 stop = lower_bound(region_start, n_regions, b);
    for (i64 j = upper_bound(reach, n_regions, a); j < stop; j++)
        if (region_end[j] > a) visit(j);
}

template <class Visit>
__device__ __forceinline__ void each_hit(i64 start, i64 end, i32 strategy, const i32* region_start,
                                         const i32* region_end, const i32* reach, i64 n_regions, Visit visit) {
    if (strategy == FRAGMENT) {
        each_overlap(start, end, region_start, region_end, reach, n_regions, visit);
        return;
    }
    each_overlap(start, start + 1, region_start, region_end, reach, n_regions, visit);
    each_overlap(end - 1, end, region_start, region_end, reach, n_regions, [&](i64 j) {
        // paired: a region that holds the first cut as well was visited above
        if (strategy == INSERTION || !(region_start[j] <= start && start < region_end[j])) visit(j);
    });
}

extern "C" __global__ void region_hit_sizes(const i32* __restrict__ start, const i32* __restrict__ end,
                                            const i32* __restrict__ row, i64 n, const i32* __restrict__ region_start,
                                            const i32* __restrict__ region_end, const i32* __restrict__ reach,
                                            i64 n_regions, i32 strategy, i32* __restrict__ size) {
    FOR_EACH_ITEM(i, n) {
        i32 hits = 0;
        if (row[i] >= 0)
            each_hit(start[i], end[i], strategy, region_start, region_end, reach, n_regions, [&](i64) { hits++; });
        size[i] = hits;
    }
}

extern "C" __global__ void region_hit_keys(const i32* __restrict__ start, const i32* __restrict__ end,
                                           const i32* __restrict__ row, i64 n, const i32* __restrict__ region_start,
                                           const i32* __restrict__ region_end, const i32* __restrict__ reach,
                                           i64 n_regions, i32 strategy, const i64* __restrict__ offset,
                                           i64* __restrict__ key) {
    FOR_EACH_ITEM(i, n) {
        if (row[i] < 0) continue;
        i64 at = offset[i];
        const i64 base = row[i] * n_regions;
        each_hit(start[i], end[i], strategy, region_start, region_end, reach, n_regions,
                 [&](i64 j) { key[at++] = base + j; });
    }
}

extern "C" __global__ void overlap_any(const i32* __restrict__ start, const i32* __restrict__ end,
                                       const i32* __restrict__ row, i64 n, const i32* __restrict__ region_start,
                                       const i32* __restrict__ region_end, i64 n_regions, i32 as_insertion,
                                       u64* __restrict__ hits) {
    FOR_EACH_ITEM(i, n) {
        if (row[i] < 0) continue;
        const i64 a = start[i], b = end[i];
        u64 add;
        if (as_insertion)
            add = (u64)overlaps(a, a + 1, region_start, region_end, n_regions) +
                  (u64)overlaps(b - 1, b, region_start, region_end, n_regions);
        else
            add = overlaps(a, b, region_start, region_end, n_regions);
        if (add) atomicAdd(&hits[row[i]], add);
    }
}
