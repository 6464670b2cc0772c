// Distinct names (barcodes, chromosome names) among the fields of a text, byte for byte.
//
// Rows are grouped by the hash of their name (a sort, in the wrapper); these kernels make the grouping exact.
// first_of_group  first[g] = min { item[i] : group[i] = g }
// names_differ    differs[i] = 1 when the bytes of item i are not those of the first item of its group
// gather_names    copies the bytes of chosen items behind one another: item k to out[out_ptr[k] ...)
// Rows that differ are grouped again among themselves, until none is left: equal hashes never join two names.
//
// Inputs     group i64 (n,), item i64 (n,): row numbers; name_at i64, name_length i32 by row; text u8; first i64
//            (n_groups,), filled with 2^63 - 1 before first_of_group.
// One thread one item; no shared memory.
// Traffic    per item: first_of_group 16 B read and one 8-byte atomic; names_differ 16 + 2 x (20 + length) B read,
//            1 written; gather_names 28 + length read, length written (only the few distinct names).
// Order      integer atomicMin: no dependence on order.
// Overflow   rows and byte positions are i64.
// Oracle     tests/kernels/oracle.py: distinct_names
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

extern "C" __global__ void first_of_group(const i64* __restrict__ group, const i64* __restrict__ item, i64 n,
                                          i64* __restrict__ first) {
    FOR_EACH_ITEM(i, n) atomicMin(&first[group[i]], item[i]);
}

extern "C" __global__ void names_differ(const u8* __restrict__ text, const i64* __restrict__ name_at,
                                        const i32* __restrict__ name_length, const i64* __restrict__ group,
                                        const i64* __restrict__ item, const i64* __restrict__ first, i64 n,
                                        u8* __restrict__ differs) {
    FOR_EACH_ITEM(i, n) {
        const i64 a = item[i], b = first[group[i]];
        const i32 length = name_length[a];
        differs[i] = length != name_length[b] || !same_bytes(text + name_at[a], text + name_at[b], length);
    }
}

extern "C" __global__ void gather_names(const u8* __restrict__ text, const i64* __restrict__ name_at,
                                        const i32* __restrict__ name_length, const i64* __restrict__ item,
                                        const i64* __restrict__ out_ptr, i64 n, u8* __restrict__ out) {
    FOR_EACH_ITEM(k, n) {
        const i64 from = name_at[item[k]], to = out_ptr[k];
        for (i64 j = 0; j < name_length[item[k]]; j++) out[to + j] = text[from + j];
    }
}
