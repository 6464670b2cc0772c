// Sums over the fragments of each row.
//
// row_sums  sums[row[i]] += values[i], or += 1 when values is null; row < 0 is left out
//
// Inputs     row i32 (n,); values i32 (n,) or null; sums u64 (n_rows,), zero at first.
// One thread one fragment; no shared memory.
// Traffic    4 B read per fragment (8 with values) and one global 8-byte atomic. Neighbouring fragments belong to
//            different cells, so the atomics spread; with one row (bulk) they queue on one address.
// Order      integer atomicAdd only: no dependence on order.
// Overflow   |values| <= 2^31 and n below 2^32: the sum fits 63 bits (negative values wrap back into place).
// Oracle     tests/kernels/oracle.py: row_sums
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void row_sums(const i32* __restrict__ row, const i32* __restrict__ values, i64 n,
                                    u64* __restrict__ sums) {
    FOR_EACH_ITEM(i, n)
        if (row[i] >= 0) atomicAdd(&sums[row[i]], values ? (u64)values[i] : (u64)1);
}
