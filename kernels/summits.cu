// Regions of segments above the cutoff: where they peak, by MACS3's rules.
//
// region_signal   signal[o] = t of the segment that covers position base + o - shift, 0 in a gap: one value for each base of a
//                 region and of its padding. The data stand `shift` further right than the padding asks for, as in MACS3.
// region_maxima   mask: bit b of chunk c is set where the smoothed signal turns from rising to falling (or flat) at offset
//                 32 c + b: sign D(o + 1) - sign D(o) <= -1 with D(o) = sum_{k=-h..h} k s(o + k), the numerator of a
//                 Savitzky-Golay derivative of order 2. Outside the region s(-k) = s(0) - |s(k) - s(0)| and
//                 s(last + k) = s(last) + |s(last - k) - s(last)|. Kept are offsets in [shift, shift + length].
// list_maxima     the set bits as a list: place (index into signal) and region
// find_valleys    valley[q] = first place of the lowest signal in [place[q], place[q + 1]) of one region
// find_subpeaks   kept[q]: the signal between the two valleys (or region ends), cut off where it first falls below the threshold
//                 on the right of the maximum, has 50 bases or more and 6 distinct values or more. Threshold: f + sqrt(f) of
//                 the higher valley f (f32); before the first valley sqrt(threshold) more. A maximum alone is always kept.
// write_summits   the kept maxima of each region; where it has none, the middle one of its highest segments, at its midpoint
//
// Inputs     segments start, end, t, n i32 (n_segments,), by group and position; region r is segments
//            [first[r], last[r]) i64; base, shift i32 (n_regions,); size i64 (n_regions,): values of its signal;
//            chunk_ptr i64 (n_regions + 1,): its chunks of 32 values, so that its signal begins at 32 chunk_ptr[r];
//            signal i32; mask u32, count i32, stop i64 (n_chunks,), stop the running sum of count; place i64, region i32,
//            valley i64, kept i32 (n_maxima,); maxima_ptr, out_ptr i64 (n_regions + 1,), maxima_ptr null: no subpeaks
// One thread one chunk of 32 bases (region_signal, region_maxima, list_maxima), one maximum (find_valleys, find_subpeaks), one
//            region (write_summits). region_maxima sums 2 h + 1 values once and moves the window 31 times:
//            D(o + 1) = D(o) - sum_{k=1-h..h} s(o + k) + h (s(o + h + 1) + s(o - h)).
// Traffic    per base 4 B written, 4 B read and (2 h + 1) / 32 + 3 cached reads; a maximum reads the bases between its
//            neighbours twice; a region reads its segments' t when it has no subpeak
// Order      no atomics: no dependence on order.
// Overflow   |D| <= h^2 max(t) in i64; places are i64. Offsets within a region are i64, as a chromosome may be one region.
//            What an unclipped start below 0 would put in front of the signal is left out.
//            Heights are exact in f32 up to 2^24, as MACS3 keeps them; sqrt is taken in f64 and rounded, as there.
// Oracle     tests/kernels/pileup_oracle.py: summits
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

#define CHUNK 32
#define LEAST_WIDTH 50
#define LEAST_LEVELS 6

// The first of segments [first, last) that ends behind p.
__device__ __forceinline__ i64 segment_at(const i32* end, i64 first, i64 last, i64 p) {
    return first + upper_bound(end + first, last - first, p);
}

extern "C" __global__ void region_signal(const i32* __restrict__ start, const i32* __restrict__ end,
                                         const i32* __restrict__ t, const i64* __restrict__ first,
                                         const i64* __restrict__ last, const i32* __restrict__ base,
                                         const i32* __restrict__ shift, const i64* __restrict__ size,
                                         const i64* __restrict__ chunk_ptr, i64 n_regions, i64 n_chunks,
                                         i32* __restrict__ signal) {
    FOR_EACH_ITEM(chunk, n_chunks) {
        const i64 r = owner(chunk_ptr, n_regions, chunk);
        const i64 offset = (chunk - chunk_ptr[r]) * CHUNK;
        i64 p = base[r] + offset - shift[r];
        i64 k = segment_at(end, first[r], last[r], p);
        for (i64 o = offset; o < offset + CHUNK; o++, p++) {
            while (k < last[r] && end[k] <= p) k++;
            signal[chunk * CHUNK + o - offset] = o < size[r] && k < last[r] && start[k] <= p ? t[k] : 0;
        }
    }
}

// The signal of one region, continued on both sides.
struct Signal {
    const i32* at;
    i64 size;

    __device__ __forceinline__ i64 operator()(i64 o) const {
        const bool before = o < 0, behind = o >= size;
        if (!before && !behind) return at[o];
        const i64 edge = before ? at[0] : at[size - 1];
        const i64 mirrored = at[before ? -o : 2 * (size - 1) - o];
        const i64 distance = mirrored > edge ? mirrored - edge : edge - mirrored;
        return before ? edge - distance : edge + distance;
    }
};

__device__ __forceinline__ i32 sign_of(i64 x) { return (x > 0) - (x < 0); }

extern "C" __global__ void region_maxima(const i32* __restrict__ signal, const i32* __restrict__ shift,
                                         const i64* __restrict__ length, const i64* __restrict__ size,
                                         const i64* __restrict__ chunk_ptr, i64 n_regions, i64 n_chunks, i64 half,
                                         u32* __restrict__ mask, i32* __restrict__ count) {
    FOR_EACH_ITEM(chunk, n_chunks) {
        const i64 r = owner(chunk_ptr, n_regions, chunk);
        const i64 begin = (chunk - chunk_ptr[r]) * CHUNK;
        const Signal s{signal + chunk_ptr[r] * CHUNK, size[r]};
        const i64 low = shift[r], high = shift[r] + length[r];
        u32 found = 0;
        if (half < s.size && begin + 1 < s.size) {
            i64 moment = -half * s(begin - half), window = 0;
            for (i64 k = 1 - half; k <= half; k++) {
                const i64 value = s(begin + k);
                moment += k * value;
                window += value;
            }
            const i64 stop = begin + CHUNK < s.size - 1 ? begin + CHUNK : s.size - 1;
            i32 sign = sign_of(moment);
            for (i64 o = begin; o < stop; o++) {
                const i64 in = s(o + half + 1);
                moment += half * (in + s(o - half)) - window;
                window += in - s(o + 1 - half);
                const i32 next = sign_of(moment);
                if (next < sign && o >= low && o <= high) found |= 1u << (o - begin);
                sign = next;
            }
        }
        mask[chunk] = found;
        count[chunk] = __popc(found);
    }
}

extern "C" __global__ void list_maxima(const u32* __restrict__ mask, const i32* __restrict__ count,
                                       const i64* __restrict__ stop, const i64* __restrict__ chunk_ptr, i64 n_regions,
                                       i64 n_chunks, i64* __restrict__ place, i32* __restrict__ region) {
    FOR_EACH_ITEM(chunk, n_chunks) {
        if (count[chunk] == 0) continue;
        const i32 r = (i32)owner(chunk_ptr, n_regions, chunk);
        i64 at = stop[chunk] - count[chunk];
        for (i32 b = 0; b < CHUNK; b++) {
            if (!(mask[chunk] >> b & 1u)) continue;
            place[at] = chunk * CHUNK + b;
            region[at] = r;
            at++;
        }
    }
}

extern "C" __global__ void find_valleys(const i32* __restrict__ signal, const i64* __restrict__ place,
                                        const i32* __restrict__ region, i64 n_maxima, i64* __restrict__ valley) {
    FOR_EACH_ITEM(q, n_maxima) {
        i64 lowest = place[q];
        if (q + 1 < n_maxima && region[q + 1] == region[q]) {
            i32 value = signal[lowest];
            for (i64 o = place[q] + 1; o < place[q + 1]; o++) {
                if (signal[o] < value) {
                    value = signal[o];
                    lowest = o;
                }
            }
        }
        valley[q] = lowest;
    }
}

__device__ __forceinline__ f32 root(f32 x) { return (f32)sqrt((f64)x); }

extern "C" __global__ void find_subpeaks(const i32* __restrict__ signal, const i64* __restrict__ place,
                                         const i32* __restrict__ region, const i64* __restrict__ valley, i64 n_maxima,
                                         const i64* __restrict__ size, const i64* __restrict__ chunk_ptr,
                                         const i64* __restrict__ maxima_ptr, i32* __restrict__ kept) {
    FOR_EACH_ITEM(q, n_maxima) {
        const i64 r = region[q], from = maxima_ptr[r], until = maxima_ptr[r + 1] - 1;
        if (from == until) {
            kept[q] = 1;
            continue;
        }
        const i64 begin = chunk_ptr[r] * CHUNK;
        const i64 low = q == from ? begin : valley[q - 1];
        i64 high = q == until ? begin + size[r] : valley[q];
        i32 level = q == from ? signal[valley[q]] : signal[valley[q - 1]];
        if (q != from && q != until && signal[valley[q]] > level) level = signal[valley[q]];
        const f32 threshold = (f32)level + root((f32)level);
        const f32 more = q == from ? root(threshold) : 0.0f;
        for (i64 o = place[q]; o < high; o++)
            if ((f32)signal[o] - threshold - more < 0.0f) high = o;

        i32 levels[LEAST_LEVELS], n_levels = 0;
        if (high - low >= LEAST_WIDTH) {
            for (i64 o = low; o < high && n_levels < LEAST_LEVELS; o++) {
                bool known = false;
                for (i32 k = 0; k < LEAST_LEVELS; k++) known |= k < n_levels && levels[k] == signal[o];
                for (i32 k = 0; k < LEAST_LEVELS; k++)
                    if (!known && k == n_levels) levels[k] = signal[o];
                n_levels += !known;
            }
        }
        kept[q] = n_levels == LEAST_LEVELS;
    }
}

extern "C" __global__ void write_summits(
    const i32* __restrict__ group, const i32* __restrict__ start, const i32* __restrict__ end,
    const i32* __restrict__ t, const i32* __restrict__ n, const i64* __restrict__ first, const i64* __restrict__ last,
    const i32* __restrict__ base, const i32* __restrict__ shift, const i64* __restrict__ chunk_ptr,
    const i64* __restrict__ place, const i32* __restrict__ kept, const i64* __restrict__ maxima_ptr,
    const i64* __restrict__ out_ptr, i64 n_regions, i32* __restrict__ out, i64 n_out) {
    FOR_EACH_ITEM(r, n_regions) {
        const i64 a = first[r], b = last[r];
        i64 at = out_ptr[r];
        const auto write = [&](i64 segment, i64 summit) {
            const i32 row[7] = {group[a], start[a], end[b - 1], (i32)summit, t[segment], n[segment], (i32)(at - out_ptr[r])};
            for (i32 k = 0; k < 7; k++) out[k * n_out + at] = row[k];
            at++;
        };
        if (maxima_ptr) {
            for (i64 q = maxima_ptr[r]; q < maxima_ptr[r + 1]; q++) {
                if (!kept[q]) continue;
                const i64 summit = base[r] + (place[q] - chunk_ptr[r] * CHUNK) - shift[r];
                const i64 k = segment_at(end, a, b, summit);
                write(k < b && start[k] <= summit ? k : a, summit);  // in a gap MACS3 takes the first segment
            }
        }
        if (at > out_ptr[r]) continue;
        i32 highest = t[a];
        i64 ties = 0;
        for (i64 k = a; k < b; k++) {
            if (t[k] > highest) {
                highest = t[k];
                ties = 0;
            }
            ties += t[k] == highest;
        }
        i64 left = (ties + 1) / 2, middle = a - 1;
        while (left > 0) left -= t[++middle] == highest;
        const i64 both = (i64)start[middle] + end[middle];
        write(middle, both >> 1);  // rounded down, below 0 too
    }
}
