// Where the lines of a text end.
//
// count_newlines   tile_count[t] = #{ i in tile t : text[i] == '\n' },  tile t = bytes [1024 t, 1024 (t + 1))
// find_line_ends   the positions of those newlines, ascending: tile t writes at tile_offset[t] onwards
//
// Inputs     text u8 (n,), contiguous, any alignment; tile_offset i64 (n_tiles,), the exclusive sum of tile_count.
// One warp   one tile: 32 neighbouring bytes a step, a ballot gives the newlines of the step in order. No shared
//            memory; a block is only a bundle of warps.
// Traffic    count: 1 byte read per byte of text (+ 4 B written per 1,024). find: 1 byte read per byte of text and
//            8 B written per line.
// Order      no atomics; the result does not depend on the order of threads.
// Overflow   byte positions are i64. A tile holds at most 1,024 newlines (i32); their sum is formed in int64.
// Oracle     tests/kernels/oracle.py: line_ends
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

#define TILE 1024

extern "C" __global__ void count_newlines(const u8* __restrict__ text, i64 n, i64 n_tiles,
                                          i32* __restrict__ tile_count) {
    const i64 lane = threadIdx.x & 31;
    for (i64 tile = first_item() >> 5; tile < n_tiles; tile += item_stride() >> 5) {
        i32 found = 0;
        for (i64 step = 0; step < TILE; step += 32) {
            const i64 i = tile * TILE + step + lane;
            found += __popc(__ballot_sync(FULL_WARP, i < n && text[i] == '\n'));
        }
        if (lane == 0) tile_count[tile] = found;
    }
}

extern "C" __global__ void find_line_ends(const u8* __restrict__ text, i64 n, i64 n_tiles,
                                          const i64* __restrict__ tile_offset, i64* __restrict__ line_end) {
    const i64 lane = threadIdx.x & 31;
    const u32 lower_lanes = (1u << lane) - 1u;
    for (i64 tile = first_item() >> 5; tile < n_tiles; tile += item_stride() >> 5) {
        i64 at = tile_offset[tile];
        for (i64 step = 0; step < TILE; step += 32) {
            const i64 i = tile * TILE + step + lane;
            const bool newline = i < n && text[i] == '\n';
            const u32 ballot = __ballot_sync(FULL_WARP, newline);
            if (newline) line_end[at + __popc(ballot & lower_lanes)] = i;
            at += __popc(ballot);
        }
    }
}
