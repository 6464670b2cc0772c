// Pileups as segments: sorted starts and ends of intervals, by group, to the stretches on which their depth is constant.
//
// merge_ends            out[2 ptr[g] ..] = the sorted union of a[i] + add_a and b[i] + add_b, i in [ptr[g], ptr[g + 1])
// count_segments_above  size[s] = segments opened in slice s with t >= least[least_ptr[g] + n]
// write_segments_above  the same segments (group, start, end, t, n) from offset[s] on
// add_segment_lengths   table[n << 32 | t] += end - start for every segment, one hash table for each group
//
//            t(x) = weight of opens <= x less weight of closes <= x, n(x) alike from the background's two streams. A segment
//            runs from one position where t or n changes to the next; the first one from 0. Position 0 is no boundary where
//            a stream begins there, and with clip nothing below it is. No segment ends behind the last close or the last
//            background end, whichever comes first.
//
// Inputs     opens, closes, around i32, sorted within each group: group g holds opens and closes [ptr[g], ptr[g + 1]), around
//            [around_ptr[g], around_ptr[g + 1]) (n_around = 0: there is no background, n = 0 everywhere); the four streams are
//            opens + add_open, closes + add_close, around + add_low, around + add_high. *_sum: cumulative weights i64, one
//            longer than their stream, or null (weight 1). slice_ptr i64 (n_groups + 1,): slices of each group, `width` opens
//            each. least i32; least_ptr i64. key u64 (all ones: free), length u64 (zero): table g in [slot_ptr[g],
//            slot_ptr[g + 1]), a power of two; full i32 (n_groups,), zero.
// One thread one slice: of the positions from its first open to the first open of the next slice (the first slice of a group
//            begins with the chromosome, the last one ends with it). Four binary searches place its four pointers, then it
//            walks through its positions as the merge of four sorted runs; the segment it opens last it follows to its end,
//            behind the slice. So no event is stored or sorted, and no thread waits. (merge_ends: one thread one element,
//            whose place is its index plus its rank in the other array.)
// Traffic    4 B per position of each stream; a thread's four runs are contiguous, 64 B each for a width of 16. Weights add
//            16 B. add_segment_lengths adds a 16-byte slot per segment (the table fits the L2 cache: 10^5 pairs a group),
//            write_segments_above 20 B for each segment found; merge_ends 8 B per element (16 with weights).
// Order      integer atomicAdd and atomicCAS: which slot a pair gets depends on the order of the threads, its sum does not.
//            Sums are taken modulo 2^64, so that a negative length (a first segment that ends below 0) adds up as well.
//            A pair that finds no slot within MAX_PROBES raises full[g]; the wrapper then starts again with a larger table.
// Overflow   positions are compared in i64: an end of 2^31 - 1 plus a window does not wrap; they are written as i32, as those of
//            segments end where the pileup does, within the chromosome. Indices, offsets and cumulative weights are i64;
//            t and n stay below 2^31: a chromosome of one group has fewer copies than that.
// Oracle     tests/kernels/pileup_oracle.py: segments, segment_lengths, above, coverage
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

#define NO_PAIR 0xffffffffffffffffULL
#define MAX_PROBES 128
#define NOWHERE 0x7fffffffffffffffLL

struct Stream {
    const i32* at;
    const i64* sum;
    i64 add, low, high;

    __device__ __forceinline__ i64 position(i64 i) const { return i < high ? at[i] + add : NOWHERE; }
    // The first index whose position is >= x.
    __device__ __forceinline__ i64 find(i64 x) const { return low + lower_bound(at + low, high - low, x - add); }
    __device__ __forceinline__ i64 weight(i64 i, i64 j) const { return sum ? sum[j] - sum[i] : j - i; }
    // The first index behind i with another position: doubling steps, so that thousands of copies cost little.
    __device__ __forceinline__ i64 behind(i64 i) const {
        const i64 x = at[i];
        i64 step = 1;
        while (i + step < high && at[i + step] == x) step *= 2;
        const i64 from = i + (step >> 1), until = i + step < high ? i + step : high;
        return step == 1 ? i + 1 : from + upper_bound(at + from, until - from, x);
    }
};

struct Pileup {
    Stream open, close, low, high;
    const i64* slice_ptr;
    i32 n_groups, clip;
    i64 width;
};

__device__ __forceinline__ Pileup pileup_of(const i32* opens, const i64* open_sum, i64 add_open, const i32* closes,
                                            const i64* close_sum, i64 add_close, const i32* around,
                                            const i64* around_sum, i64 add_low, i64 add_high, const i64* slice_ptr,
                                            i32 n_groups, i32 clip, i64 width) {
    return Pileup{{opens, open_sum, add_open, 0, 0}, {closes, close_sum, add_close, 0, 0},
                  {around, around_sum, add_low, 0, 0}, {around, around_sum, add_high, 0, 0},
                  slice_ptr, n_groups, clip, width};
}

// Call visit(group, start, end, t, n) for each segment opened in the slice, in order.
template <class Visit>
__device__ __forceinline__ void each_segment(Pileup p, const i64* ptr, const i64* around_ptr, i64 n_around, i64 slice,
                                             Visit visit) {
    const i64 g = owner(p.slice_ptr, p.n_groups, slice);
    Stream open = p.open, close = p.close, low = p.low, high = p.high;
    open.low = close.low = ptr[g];
    open.high = close.high = ptr[g + 1];
    const bool background = n_around > 0;
    low.low = high.low = background ? around_ptr[g] : 0;
    low.high = high.high = background ? around_ptr[g + 1] : 0;

    const bool first = slice == p.slice_ptr[g];
    const i64 from = open.low + (slice - p.slice_ptr[g]) * p.width;
    const i64 begin = open.position(from);
    const i64 stop = open.position(from + p.width);
    if (!first && begin == stop) return;
    i64 last = close.position(close.high - 1);
    if (background && high.position(high.high - 1) < last) last = high.position(high.high - 1);

    // where a stream begins at 0, what happens there is its value from the start
    const i64 least = -NOWHERE / 2;
    const i64 floor_t = p.clip || open.position(open.low) == 0 ? 1 : least;
    const i64 floor_n = p.clip || (background && low.position(low.low) == 0) ? 1 : least;
    const i64 here = first ? least : begin;
    i64 i = open.find(here < floor_t ? floor_t : here), j = close.find(here < floor_t ? floor_t : here);
    i64 k = low.find(here < floor_n ? floor_n : here), m = high.find(here < floor_n ? floor_n : here);
    i64 t = open.weight(open.low, i) - close.weight(close.low, j);
    i64 n = low.weight(low.low, k) - high.weight(high.low, m);
    i64 a = open.position(i), b = close.position(j), c = low.position(k), d = high.position(m);

    bool begun = first;
    i64 start = 0;
    for (;;) {
        const i64 ab = a < b ? a : b, cd = c < d ? c : d;
        const i64 x = ab < cd ? ab : cd;
        if (x > last) return;
        i64 more_t = 0, more_n = 0;
        if (a == x) {
            const i64 next = open.behind(i);
            more_t += open.weight(i, next);
            a = open.position(i = next);
        }
        if (b == x) {
            const i64 next = close.behind(j);
            more_t -= close.weight(j, next);
            b = close.position(j = next);
        }
        if (c == x) {
            const i64 next = low.behind(k);
            more_n += low.weight(k, next);
            c = low.position(k = next);
        }
        if (d == x) {
            const i64 next = high.behind(m);
            more_n -= high.weight(m, next);
            d = high.position(m = next);
        }
        if (more_t == 0 && more_n == 0) continue;
        if (begun) visit((i32)g, start, x, t, n);
        if (x >= stop || x == last) return;
        begun = true;
        start = x;
        t += more_t;
        n += more_n;
    }
}

extern "C" __global__ void merge_ends(const i32* __restrict__ a, i64 add_a, const i32* __restrict__ weight_a,
                                      const i32* __restrict__ b, i64 add_b, const i32* __restrict__ weight_b,
                                      const i64* __restrict__ ptr, i32 n_groups, i64 n, i32* __restrict__ out,
                                      i32* __restrict__ weight) {
    FOR_EACH_ITEM(item, 2 * n) {
        const bool second = item >= n;
        const i64 i = second ? item - n : item;
        const i64 g = owner(ptr, n_groups, i);
        const i64 low = ptr[g], size = ptr[g + 1] - low;
        const i64 x = second ? b[i] + add_b : a[i] + add_a;
        const i64 rank = second ? upper_bound(a + low, size, x - add_a) : lower_bound(b + low, size, x - add_b);
        const i64 place = low + i + rank;
        out[place] = (i32)x;
        if (weight_a) weight[place] = second ? weight_b[i] : weight_a[i];
    }
}

extern "C" __global__ void count_segments_above(
    const i32* __restrict__ opens, const i64* __restrict__ open_sum, i64 add_open, const i32* __restrict__ closes,
    const i64* __restrict__ close_sum, i64 add_close, const i64* __restrict__ ptr, const i32* __restrict__ around,
    const i64* __restrict__ around_sum, i64 add_low, i64 add_high, const i64* __restrict__ around_ptr, i64 n_around,
    const i64* __restrict__ slice_ptr, i32 n_groups, i64 n_slices, i64 width, i32 clip,
    const i64* __restrict__ least_ptr, const i32* __restrict__ least, i32* __restrict__ size) {
    const Pileup p = pileup_of(opens, open_sum, add_open, closes, close_sum, add_close, around, around_sum, add_low,
                               add_high, slice_ptr, n_groups, clip, width);
    FOR_EACH_ITEM(slice, n_slices) {
        i32 found = 0;
        each_segment(p, ptr, around_ptr, n_around, slice,
                     [&](i32 g, i64, i64, i64 t, i64 n) { found += t >= least[least_ptr[g] + n]; });
        size[slice] = found;
    }
}

extern "C" __global__ void write_segments_above(
    const i32* __restrict__ opens, const i64* __restrict__ open_sum, i64 add_open, const i32* __restrict__ closes,
    const i64* __restrict__ close_sum, i64 add_close, const i64* __restrict__ ptr, const i32* __restrict__ around,
    const i64* __restrict__ around_sum, i64 add_low, i64 add_high, const i64* __restrict__ around_ptr, i64 n_around,
    const i64* __restrict__ slice_ptr, i32 n_groups, i64 n_slices, i64 width, i32 clip,
    const i64* __restrict__ least_ptr, const i32* __restrict__ least, const i32* __restrict__ size,
    const i64* __restrict__ offset, i32* __restrict__ group, i32* __restrict__ start, i32* __restrict__ end,
    i32* __restrict__ t, i32* __restrict__ n) {
    const Pileup p = pileup_of(opens, open_sum, add_open, closes, close_sum, add_close, around, around_sum, add_low,
                               add_high, slice_ptr, n_groups, clip, width);
    FOR_EACH_ITEM(slice, n_slices) {
        if (size[slice] == 0) continue;
        i64 at = offset[slice];
        each_segment(p, ptr, around_ptr, n_around, slice, [&](i32 g, i64 from, i64 to, i64 depth, i64 near) {
            if (depth < least[least_ptr[g] + near]) return;
            group[at] = g;
            start[at] = (i32)from;
            end[at] = (i32)to;
            t[at] = (i32)depth;
            n[at] = (i32)near;
            at++;
        });
    }
}

extern "C" __global__ void add_segment_lengths(
    const i32* __restrict__ opens, const i64* __restrict__ open_sum, i64 add_open, const i32* __restrict__ closes,
    const i64* __restrict__ close_sum, i64 add_close, const i64* __restrict__ ptr, const i32* __restrict__ around,
    const i64* __restrict__ around_sum, i64 add_low, i64 add_high, const i64* __restrict__ around_ptr, i64 n_around,
    const i64* __restrict__ slice_ptr, i32 n_groups, i64 n_slices, i64 width, i32 clip,
    const i64* __restrict__ slot_ptr, u64* key, u64* length, i32* full) {
    const Pileup p = pileup_of(opens, open_sum, add_open, closes, close_sum, add_close, around, around_sum, add_low,
                               add_high, slice_ptr, n_groups, clip, width);
    FOR_EACH_ITEM(slice, n_slices) {
        each_segment(p, ptr, around_ptr, n_around, slice, [&](i32 g, i64 start, i64 end, i64 t, i64 n) {
            if (full[g]) return;
            const u64 pair = (u64)n << 32 | (u64)t;
            const u64 mask = (u64)(slot_ptr[g + 1] - slot_ptr[g]) - 1;
            u64 slot = (pair ^ (pair >> 32)) * 0x9e3779b97f4a7c15ULL;
            slot ^= slot >> 29;
            for (i32 probe = 0; probe < MAX_PROBES; probe++, slot++) {
                const i64 place = slot_ptr[g] + (i64)(slot & mask);
                u64 held = key[place];
                if (held == NO_PAIR) held = atomicCAS(&key[place], NO_PAIR, pair);
                if (held == NO_PAIR || held == pair) {
                    atomicAdd(&length[place], (u64)(end - start));
                    return;
                }
            }
            full[g] = 1;
        });
    }
}
