// Compressed rows (CSR): joining blocks of columns, the maximum over groups of columns, scaling of rows.
//
// copy_rows    part p of a horizontal join: row r of the part goes to out[cursor[r] ...), its columns shifted; then
//              cursor[r] += the row's length
// group_keys   key[j] = row of non-zero j * n_groups + group[column[j]]
// segment_max  out[s] = max { values[order[j]] : segment[s] <= j < segment[s + 1] }
// scale_rows   out[j] = data[j] * factor[r] for the non-zeros j of row r
//
// Inputs     indptr i64 (n_rows + 1,), indices i32 (nnz,), data f32 (nnz,); cursor i64 (n_rows,); group i32 (n_columns,);
//            order i64 (nnz,); segment i64 (n_segments + 1,), every segment non-empty. scale_rows:
//            data, out f64 (nnz,), factor f64 (n_rows,).
// One warp   copy_rows, group_keys, scale_rows: one row, its lanes neighbouring non-zeros. segment_max: one thread one segment.
//            No shared memory.
// Traffic    copy_rows: 8 B read and 8 written per non-zero, 24 per row. group_keys: 4 + 4 (cached) read, 8 written per
//            non-zero. segment_max: 12 read per non-zero, gathered, and 4 written per segment. scale_rows: 8 read
//            and 8 written per non-zero, 16 per row.
// Order      no atomics; no dependence on order.
// Overflow   non-zeros are indexed in i64; shift + column < 2^31 is the width of the joined matrix, checked by the
//            wrapper; a key is below 2^62.
// Oracle     numpy.hstack; tests/kernels/oracle.py: max_over_groups; dense rows times factors
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void copy_rows(const i64* __restrict__ indptr, const i32* __restrict__ indices,
                                     const f32* __restrict__ data, i64 n_rows, i32 shift, i64* __restrict__ cursor,
                                     i32* __restrict__ out_indices, f32* __restrict__ out_data) {
    const i64 lane = threadIdx.x & 31;
    for (i64 r = first_item() >> 5; r < n_rows; r += item_stride() >> 5) {
        const i64 from = indptr[r], length = indptr[r + 1] - from, to = cursor[r];
        for (i64 j = lane; j < length; j += 32) {
            out_indices[to + j] = indices[from + j] + shift;
            out_data[to + j] = data[from + j];
        }
        __syncwarp();  // all lanes have read the cursor
        if (lane == 0) cursor[r] = to + length;
    }
}

extern "C" __global__ void group_keys(const i64* __restrict__ indptr, const i32* __restrict__ indices,
                                      const i32* __restrict__ group, i64 n_rows, i64 n_groups,
                                      i64* __restrict__ key) {
    const i64 lane = threadIdx.x & 31;
    for (i64 r = first_item() >> 5; r < n_rows; r += item_stride() >> 5)
        for (i64 j = indptr[r] + lane; j < indptr[r + 1]; j += 32) key[j] = r * n_groups + group[indices[j]];
}

extern "C" __global__ void segment_max(const f32* __restrict__ values, const i64* __restrict__ order,
                                       const i64* __restrict__ segment, i64 n_segments, f32* __restrict__ out) {
    FOR_EACH_ITEM(s, n_segments) {
        f32 best = values[order[segment[s]]];
        for (i64 j = segment[s] + 1; j < segment[s + 1]; j++) {
            const f32 value = values[order[j]];
            best = value > best ? value : best;
        }
        out[s] = best;
    }
}

extern "C" __global__ void scale_rows(const i64* __restrict__ indptr, const f64* __restrict__ data,
                                      const f64* __restrict__ factor, i64 n_rows, f64* __restrict__ out) {
    const i64 lane = threadIdx.x & 31;
    for (i64 r = first_item() >> 5; r < n_rows; r += item_stride() >> 5)
        for (i64 j = indptr[r] + lane; j < indptr[r + 1]; j += 32) out[j] = data[j] * factor[r];
}
