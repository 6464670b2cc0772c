// One number for each distinct name (barcodes, chromosome names) of a text, by first appearance, byte for byte, over many
// blocks of text: a hash table that only grows.
//
// A slot is free (NO_KEY), or the number k of a name that is known, or NEW_NAME + i for the rows of this block whose name is
// not: i is the lowest of them so far. Equal names meet in one slot, whatever the order of the threads; two names never
// share one, for the bytes are compared. A slot's owner never changes, only the lowest row of a new one falls.
//
// find_names     slot_of[i] = the slot of row i's name; new names take free slots
// first_names    opens[i] = 1 and new_bytes[i] = the length of its name where row i is the first of a new name, else 0
// keep_names     the new names in order of those rows, their numbers from n_known on: bytes, where they end, their slots;
//                rank and stop are the running sums of opens and new_bytes
// place_names    slots for all known names in a larger, free table
// add_totals     rows[k] += 1, mito_rows[k] += is_mito[chrom], copies[k] += count, of the rows with number k
//
// Inputs     text u8; name_at i64, name_length i32, hash u64 by row; slot u64 (slot_mask + 1,), a power of two of at least
//            twice the names that are known and rows that come; known_text u8, known_ptr i64 (n_known + 1,) ascending from 0;
//            hash_mask is all ones (the tests pass fewer to force collisions). add_totals: chrom i16, is_mito u8 by code
//            and count i32 may be null together; then rows alone are counted.
// One thread one row (place_names: one name); no shared memory.
// Traffic    per row of a name of L bytes: find_names 40 + 2 L read, 8 written (a slot and the bytes of its owner lie
//            anywhere); first_names 20 read, 5 written; add_totals 11 read and three 8-byte atomics. keep_names: 1 per row, and
//            56 + 2 L per new name. place_names: 32 + L per name.
// Order      the slots that names take depend on it; numbers, bytes and totals do not. A row reads a slot that other rows
//            write: it sees it free (then atomicCAS says what it is), or its owner, or an earlier row of the same owner.
// Overflow   rows, slots and byte positions are i64; numbers are below 2^31, rows of a block below 2^40.
// Oracle     tests/kernels/oracle.py: distinct_names
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

#define NEW_NAME (1LL << 40)

extern "C" __global__ void find_names(const u8* __restrict__ text, const i64* __restrict__ name_at,
                                      const i32* __restrict__ name_length, const u64* __restrict__ hash, i64 n,
                                      const u8* __restrict__ known_text, const i64* __restrict__ known_ptr,
                                      u64* slot, i64 slot_mask, i64* __restrict__ slot_of) {
    FOR_EACH_ITEM(i, n) {
        const u8* name = text + name_at[i];
        const i64 length = name_length[i];
        i64 at = (i64)(hash[i] & (u64)slot_mask);
        while (true) {
            i64 owner = (i64)slot[at];
            if (owner == NO_KEY) {
                owner = (i64)atomicCAS(&slot[at], (u64)NO_KEY, (u64)(NEW_NAME + i));
                if (owner == NO_KEY) break;  // a new name, and this row its first so far
            }
            if (owner < NEW_NAME) {
                const i64 low = known_ptr[owner];
                if (known_ptr[owner + 1] - low == length && same_bytes(known_text + low, name, length)) break;
            } else {
                const i64 row = owner - NEW_NAME;
                if (name_length[row] == length && same_bytes(text + name_at[row], name, length)) {
                    if (row > i) atomicMin(&slot[at], (u64)(NEW_NAME + i));
                    break;
                }
            }
            at = (at + 1) & slot_mask;
        }
        slot_of[i] = at;
    }
}

extern "C" __global__ void first_names(const u64* __restrict__ slot, const i64* __restrict__ slot_of,
                                       const i32* __restrict__ name_length, i64 n, u8* __restrict__ opens,
                                       i32* __restrict__ new_bytes) {
    FOR_EACH_ITEM(i, n) {
        const bool first = (i64)slot[slot_of[i]] == NEW_NAME + i;
        opens[i] = first;
        new_bytes[i] = first ? name_length[i] : 0;
    }
}

extern "C" __global__ void keep_names(const u8* __restrict__ text, const i64* __restrict__ name_at,
                                      const i32* __restrict__ name_length, const i64* __restrict__ slot_of,
                                      const u8* __restrict__ opens, const i64* __restrict__ rank,
                                      const i64* __restrict__ stop, i64 n, i64 n_known, i64 known_bytes,
                                      u64* __restrict__ slot, u8* __restrict__ known_text,
                                      i64* __restrict__ known_ptr) {
    FOR_EACH_ITEM(i, n) {
        if (!opens[i]) continue;
        const i64 number = n_known + rank[i] - 1, length = name_length[i], end = known_bytes + stop[i];
        slot[slot_of[i]] = (u64)number;
        known_ptr[number + 1] = end;
        for (i64 j = 0; j < length; j++) known_text[end - length + j] = text[name_at[i] + j];
    }
}

extern "C" __global__ void place_names(const u8* __restrict__ known_text, const i64* __restrict__ known_ptr,
                                       i64 n_known, u64 hash_mask, u64* slot, i64 slot_mask) {
    FOR_EACH_ITEM(k, n_known) {
        const u64 hash = hash_bytes(known_text, known_ptr[k], known_ptr[k + 1] - known_ptr[k]) & hash_mask;
        i64 at = (i64)(hash & (u64)slot_mask);
        while (true) {
            const i64 owner = (i64)atomicCAS(&slot[at], (u64)NO_KEY, (u64)k);
            if (owner == NO_KEY || owner == k) break;  // its own: the kernel may run again
            at = (at + 1) & slot_mask;
        }
    }
}

extern "C" __global__ void add_totals(const i32* __restrict__ number, const i16* __restrict__ chrom,
                                      const i32* __restrict__ count, const u8* __restrict__ is_mito, i64 n,
                                      u64* __restrict__ rows, u64* __restrict__ mito_rows,
                                      u64* __restrict__ copies) {
    FOR_EACH_ITEM(i, n) {
        const i64 k = number[i];
        atomicAdd(&rows[k], 1ULL);
        if (chrom == nullptr) continue;
        if (is_mito[chrom[i]]) atomicAdd(&mito_rows[k], 1ULL);
        atomicAdd(&copies[k], (u64)count[i]);
    }
}
