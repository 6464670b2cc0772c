// Fragments by length, end - start; row < 0 leaves a fragment out.
//
// length_histogram  hist[length] += 1 for 1 <= length <= max_length, hist[0] += 1 for longer ones
// length_classes    classes[row * (n_bounds + 1) + k] += 1,  k = number of bounds <= length
//
// Inputs     start, end, row i32 (n,); bounds i32 (n_bounds,), ascending; hist u64 (max_length + 1,); classes u64
//            (n_rows, n_bounds + 1), row-major; both zero at first.
// One thread one fragment. length_histogram: one block counts in shared memory (privatise = 1; dynamic, 4 B per entry)
//            and adds up at its end: most fragments fall on a few hundred lengths, and global atomics on these would
//            queue; histograms too long for shared memory go straight to global memory (privatise = 0).
// Traffic    12 B read per fragment; histogram: one shared atomic; classes: one global 8-byte atomic, spread over rows.
// Order      integer atomicAdd only: no dependence on order.
// Overflow   row * (n_bounds + 1) is formed in i64. The shared histogram is u32: a block sees n / grid fragments, below
//            2^32 for any column that fits a GPU.
// Oracle     tests/kernels/oracle.py: length_histogram, length_classes
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void length_histogram(const i32* __restrict__ start, const i32* __restrict__ end,
                                            const i32* __restrict__ row, i64 n, i32 max_length, i32 privatise,
                                            u64* __restrict__ hist) {
    DYNAMIC_SHARED(u32, block_hist);
    if (privatise)
        for (i64 k = threadIdx.x; k <= max_length; k += blockDim.x) block_hist[k] = 0;
    __syncthreads();
    FOR_EACH_ITEM(i, n) {
        if (row[i] < 0) continue;
        const i32 length = end[i] - start[i];
        const i32 entry = length <= max_length ? length : 0;
        if (privatise) atomicAdd(&block_hist[entry], 1u);
        else atomicAdd(&hist[entry], (u64)1);
    }
    __syncthreads();
    if (privatise)
        for (i64 k = threadIdx.x; k <= max_length; k += blockDim.x)
            if (block_hist[k]) atomicAdd(&hist[k], (u64)block_hist[k]);
}

extern "C" __global__ void length_classes(const i32* __restrict__ start, const i32* __restrict__ end,
                                          const i32* __restrict__ row, i64 n, const i32* __restrict__ bounds,
                                          i32 n_bounds, u64* __restrict__ classes) {
    FOR_EACH_ITEM(i, n) {
        if (row[i] < 0) continue;
        const i32 length = end[i] - start[i];
        i32 k = 0;
        while (k < n_bounds && length >= bounds[k]) k++;
        atomicAdd(&classes[(i64)row[i] * (n_bounds + 1) + k], (u64)1);
    }
}
