// Every quality measure of a column of fragments in one pass; row < 0 leaves a fragment out.
//
// quality     lengths[length] += 1 for length = end - start <= max_length, lengths[0] += 1 for longer ones
//             table[row, k] += 1,  k = number of bounds <= length
//             with TSSs, for each cut p in {start, end - 1} and each TSS t with |p - t| <= window:
//                 offset = p - t + window, mirrored to 2 window - offset on the reverse strand; profile[offset] += 1;
//                 table[row, n_bounds + 1] += 1 when |p - t| <= half_center;
//                 table[row, n_bounds + 2] += 1 when offset < edge or offset > 2 window - edge;
//                 n_inside += 1 for a cut near at least one TSS
//             for each region set s: table[row, sets + s] += 1 when [start, end) overlaps one of its regions (as
//                 insertions: += cuts inside one); sets = n_bounds + 1, and 2 more with TSSs
//
// Inputs     start, end, row i32 (n,); bounds i32 (n_bounds,), ascending; tss i32 (n_tss,), sorted; reverse u8 (n_tss,);
//            region_start, region_end i32, the sets one after the other, set s in [set_edge[s], set_edge[s + 1]), sorted
//            and disjoint within a set; set_edge i64 (n_sets + 1,). lengths u64 (max_length + 1,); profile u64 (n_profile,),
//            n_profile = 2 window + 1, or 0: no TSSs are counted; table u64 (n_rows, n_columns), row-major; n_inside u64
//            (1,); all outputs zero at first.
// One thread one fragment: its columns are read once for all measures; one binary search for the first TSS that either cut
//            can reach (others follow for the few fragments near one), and one for each region set. One block keeps in
//            dynamic shared memory (4 B each) the first n_shared counters of [lengths | profile | table]: the wrapper gives
//            each of the three its room or none, and the block adds them up at its end.
// Traffic    12 B read per fragment; searches hit the cache; one shared atomic for the length; global 8-byte atomics: one
//            for the class, one per region set it overlaps, and those of the centre and the edges. A row's counters stand
//            side by side, so that a fragment's atomics fall into one or two 32-byte sectors of the L2 cache.
// Order      integer atomicAdd only: no dependence on order.
//            Atomics on one address queue in the L2 cache, one a clock: n / n_rows of them in the worst case. With
//            thousands of cells that is nothing; for bulk data and a few groups it would be milliseconds, so a small table
//            (shared_table = 1) is counted in shared memory. A warp's rows are those of neighbouring fragments, which
//            seldom share a cell: adding up within the warp first would cost more than it saves.
// Overflow   row * n_columns + column is formed in i64, positions are compared in i64 (p - window may be below 0, t + window
//            above 2^31). Shared counters are u32: a block sees n / grid fragments, each adds at most 2 x (TSSs at one
//            position or within 2 half_center) to one, so the sum stays below 2^32 for any column that fits a GPU.
// Oracle     tests/kernels/oracle.py: quality
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void quality(
    const i32* __restrict__ start, const i32* __restrict__ end, const i32* __restrict__ row, i64 n,
    const i32* __restrict__ bounds, i32 n_bounds, const i32* __restrict__ tss, const u8* __restrict__ reverse, i64 n_tss,
    i32 window, i32 half_center, i32 edge, const i32* __restrict__ region_start, const i32* __restrict__ region_end,
    const i64* __restrict__ set_edge, i32 n_sets, i32 as_insertion, i32 max_length, i32 shared_lengths, i64 n_profile,
    i32 shared_profile, i64 n_rows, i32 n_columns, i32 shared_table, u64* __restrict__ lengths, u64* __restrict__ profile,
    u64* __restrict__ table, u64* __restrict__ n_inside) {
    DYNAMIC_SHARED(u32, counters);
    const i64 at_profile = shared_lengths ? (i64)max_length + 1 : 0;
    const i64 at_table = at_profile + (shared_profile ? n_profile : 0);
    const i64 n_shared = at_table + (shared_table ? n_rows * n_columns : 0);
    for (i64 k = threadIdx.x; k < n_shared; k += blockDim.x) counters[k] = 0;
    __syncthreads();

    const i32 cuts = n_bounds + 1;
    const i32 sets = n_profile ? cuts + 2 : cuts;
    u64 near = 0;
    FOR_EACH_ITEM(i, n) {
        if (row[i] < 0) continue;
        const i64 a = start[i], b = end[i];
        const i64 base = (i64)row[i] * n_columns;
        const auto add = [&](i32 column, u32 value) {
            if (shared_table) atomicAdd(&counters[at_table + base + column], value);
            else atomicAdd(&table[base + column], (u64)value);
        };
        const i64 length = b - a;
        const i64 entry = length <= max_length ? length : 0;
        if (shared_lengths) atomicAdd(&counters[entry], 1u);
        else atomicAdd(&lengths[entry], (u64)1);
        i32 k = 0;
        while (k < n_bounds && length >= bounds[k]) k++;
        add(k, 1u);

        const i64 first = lower_bound(tss, n_tss, a - window);
        if (first < n_tss && tss[first] < b + window) {
            const auto visit = [&](i64 offset) {
                if (shared_profile) atomicAdd(&counters[at_profile + offset], 1u);
                else atomicAdd(&profile[offset], (u64)1);
                const i64 distance = offset - window;
                if (distance >= -half_center && distance <= half_center) add(cuts, 1u);
                if (offset < edge || offset >= n_profile - edge) add(cuts + 1, 1u);
            };
            near += each_tss(a, tss, reverse, n_tss, window, visit);
            near += each_tss(b - 1, tss, reverse, n_tss, window, visit);
        }

        for (i32 s = 0; s < n_sets; s++) {
            const i64 at = set_edge[s];
            const i64 n_regions = set_edge[s + 1] - at;
            const i32 *low = region_start + at, *high = region_end + at;
            u32 hits;
            if (as_insertion)
                hits = (u32)overlaps(a, a + 1, low, high, n_regions) + (u32)overlaps(b - 1, b, low, high, n_regions);
            else
                hits = overlaps(a, b, low, high, n_regions);
            if (hits) add(sets + s, hits);
        }
    }
    near = warp_sum_sync(near);
    if ((threadIdx.x & 31) == 0 && near) atomicAdd(n_inside, near);

    __syncthreads();
    for (i64 k = threadIdx.x; k < n_shared; k += blockDim.x) {
        if (!counters[k]) continue;
        u64* total = k < at_profile ? lengths + k : k < at_table ? profile + (k - at_profile) : table + (k - at_table);
        atomicAdd(total, (u64)counters[k]);
    }
}
