// Neighbours that two cells share.
//
// shared_neighbors  shared[i, e] = | N+(i) n N+(j) |,  j = indices[i, e],  N+(i) = the neighbours of i and i itself
//
// Inputs     indices i32 (n, k), row-major; closed i32 (n, k + 1), row-major: N+(i) in ascending order, without
//            duplicates; shared i32 (n, k).
// One thread one entry (i, e): it walks through the two sorted lists at once. The threads of a warp share the list of
//            i, as a rule; the list of j is anywhere. No shared memory.
// Traffic    per entry: 4 B read, 4 written and 4 (k + 1) for the list of j, gathered; the list of i is cached.
// Order      no atomics; no dependence on order.
// Overflow   entries and list positions are i64: n k may pass 2^31.
// Oracle     tests/kernels/oracle.py: shared_neighbors
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void shared_neighbors(const i32* __restrict__ indices, const i32* __restrict__ closed,
                                            i64 n_entries, i64 k, i32* __restrict__ shared) {
    FOR_EACH_ITEM(entry, n_entries) {
        const i32* a = closed + entry / k * (k + 1);
        const i32* b = closed + indices[entry] * (k + 1);
        i32 found = 0;
        for (i64 p = 0, q = 0; p <= k && q <= k;) {
            const i32 left = a[p], right = b[q];
            found += left == right;
            p += left <= right;
            q += right <= left;
        }
        shared[entry] = found;
    }
}
