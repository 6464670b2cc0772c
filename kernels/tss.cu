// Cuts around transcription start sites.
//
// tss_counts  for each cut p in {start, end - 1} of a fragment with row >= 0 and each TSS t with |p - t| <= window:
//             offset = p - t + window, mirrored to 2 window - offset on the reverse strand;
//             profile[offset] += 1;  center[row] += 1 when |p - t| <= half_center;
//             flank[row] += 1 when offset < edge or offset > 2 window - edge.
//             totals[0] += 1 for a cut near at least one TSS, totals[1] += 1 for every cut.
//
// Inputs     start, end, row i32 (n,); tss i32 (n_tss,), sorted; reverse u8 (n_tss,); center, flank u64 (n_rows,);
//            profile u64 (2 window + 1,); totals u64 (2,); all outputs zero at first.
// One thread one fragment: two binary searches a cut, then a walk over the TSSs in the window. One block keeps its
//            profile in shared memory (privatise = 1; dynamic, 4 B per position) and adds it to the global one at
//            its end; windows too wide for shared memory go straight to the global profile (privatise = 0).
// Traffic    12 B read per fragment, 4 B per step of the searches (cached), one shared atomic per (cut, TSS) and a
//            global 8-byte atomic for those in the centre or at the edges (about one cut in ten near a TSS).
// Order      integer atomicAdd only: no dependence on order.
// Overflow   p - window may be below 0 and t + window above 2^31: positions are compared in i64. The shared profile
//            is u32: a block sees n / grid fragments, each adds at most 2 x (TSSs at one position) to a bin, so the sum
//            stays below 2^32 for any column that fits a GPU (the launcher uses all blocks before it loops).
// Oracle     tests/kernels/oracle.py: tss_counts
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void tss_counts(const i32* __restrict__ start, const i32* __restrict__ end,
                                      const i32* __restrict__ row, i64 n, const i32* __restrict__ tss,
                                      const u8* __restrict__ reverse, i64 n_tss, i32 window, i32 half_center,
                                      i32 edge, i32 privatise, u64* __restrict__ center, u64* __restrict__ flank,
                                      u64* __restrict__ profile, u64* __restrict__ totals) {
    DYNAMIC_SHARED(u32, block_profile);
    const i64 width = 2 * (i64)window + 1;
    if (privatise)
        for (i64 k = threadIdx.x; k < width; k += blockDim.x) block_profile[k] = 0;
    __syncthreads();

    u64 n_inside = 0, n_cuts = 0;
    FOR_EACH_ITEM(i, n) {
        if (row[i] < 0) continue;
        n_cuts += 2;
        for (int side = 0; side < 2; side++) {
            const i64 p = side ? (i64)end[i] - 1 : (i64)start[i];
            n_inside += each_tss(p, tss, reverse, n_tss, window, [&](i64 offset) {
                if (privatise) atomicAdd(&block_profile[offset], 1u);
                else atomicAdd(&profile[offset], (u64)1);
                const i64 distance = offset - window;
                if (distance >= -half_center && distance <= half_center) atomicAdd(&center[row[i]], (u64)1);
                if (offset < edge || offset >= width - edge) atomicAdd(&flank[row[i]], (u64)1);
            });
        }
    }
    n_inside = warp_sum_sync(n_inside);
    n_cuts = warp_sum_sync(n_cuts);
    if ((threadIdx.x & 31) == 0) {
        if (n_inside) atomicAdd(&totals[0], n_inside);
        if (n_cuts) atomicAdd(&totals[1], n_cuts);
    }

    __syncthreads();
    if (privatise)
        for (i64 k = threadIdx.x; k < width; k += blockDim.x)
            if (block_profile[k]) atomicAdd(&profile[k], (u64)block_profile[k]);
}
