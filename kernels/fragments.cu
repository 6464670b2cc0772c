// Fragment lines to columns: one status per line, and the columns of the lines that are kept.
//
// parse_lines   line l is text[line_end[l - 1] + 1 .. line_end[l]), one '\r' before its end left out. The tests come in
//               the order that protocol.Parsing.parse_block states; the first that fails is the status.
//
// keep_lines    the lines of one status behind one another: line l comes to row place[l] - 1, where place is the running
//               count of those lines. The columns may be null together (names alone are kept), and so may the names.
// chrom_runs    runs[0] = how many runs of rows of one chromosome there are, or more than max_runs; while they are no more,
//               runs[1 + 2 j] = the first row and runs[2 + 2 j] = the code of each, in no order
//
// Inputs     text u8; line_end i64 (n_lines,), ascending; the known chromosomes sorted by hash: name_hash u64,
//            name_ptr i64 (n_names + 1,) into names u8, name_code i32; sizes i64 by code; hash_mask is all ones (the
//            tests pass fewer to force collisions).
// Outputs    by line: status u8; chrom i16, start i32, end i32, count i32, strand i8 where kept; hash u64, name_at
//            i64, name_length i32 of the barcode where kept, of the chromosome name where that is unknown.
//            totals i64 (8,), zero but for totals[7] = 2^63 - 1: lines by status 0..5, kept lines that have a
//            strand column, first line with an error. runs i64 (1 + 2 max_runs,), zero.
// One thread one line. One block adds up its totals in shared memory before it adds them to the global ones.
// Traffic    parse_lines, per line of L bytes: L + 8 read, 36 written. The bytes of a line are read by one thread, a warp's lines
//            are neighbours, so the text passes once through the cache. keep_lines: 8 read per line, 35 read
//            and written per kept line. chrom_runs: 8 per line, 2 per kept line.
// Order      integer atomicAdd and atomicMin only: no dependence on order, but for that of the entries of runs.
// Overflow   positions are i64; the shared totals are u32: a block sees n_lines / grid lines, below 2^32 for any
//            text that fits a GPU; numbers saturate at 2^62 (at most ten times 2^58 is formed); start and end are
//            stored as i32 only once 0 <= start < end <= size held, and sizes are below 2^31. A name is shorter than
//            2^31 bytes, as is a line.
// Oracle     tests/kernels/oracle.py: parse_block
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

#define KEPT 0
#define COMMENT 1
#define BLANK 2
#define UNKNOWN_CHROM 3
#define BAD_LENGTH 4
#define OUTSIDE 5
#define LAST_DROP 5
#define ERR_COLUMNS 10
#define ERR_EXTRA 11
#define ERR_START 12
#define ERR_END 13
#define ERR_COUNT 14
#define ERR_STRAND 15
#define ERR_BARCODE 16
#define ERR_CHROM 17

#define MAX_FIELDS 6
#define SATURATED (1LL << 62)
#define WITH_STRAND 6
#define FIRST_ERROR 7

struct Number {
    bool ok;
    i64 value;
};

// [-]digits, the whole of text[at .. stop)
__device__ __forceinline__ Number whole_number(const u8* text, i64 at, i64 stop, bool may_be_negative) {
    Number out = {false, 0};
    const bool negative = may_be_negative && at < stop && text[at] == '-';
    if (negative) at++;
    if (at == stop) return out;
    for (; at < stop; at++) {
        const i32 digit = (i32)text[at] - '0';
        if (digit < 0 || digit > 9) return out;
        out.value = out.value >= SATURATED / 16 ? SATURATED : out.value * 10 + digit;
    }
    out.ok = true;
    if (negative) out.value = -out.value;
    return out;
}

__device__ __forceinline__ bool printable(const u8* text, i64 at, i64 stop) {
    if (at == stop) return false;
    for (; at < stop; at++)
        if (text[at] < 0x20 || text[at] > 0x7e) return false;
    return true;
}

// The code of a chromosome name, or -1.
__device__ __forceinline__ i32 chrom_code(const u8* name, i64 length, u64 hash, const u8* names, const i64* name_ptr,
                                          const u64* name_hash, const i32* name_code, i32 n_names) {
    i32 lo = 0, hi = n_names;
    while (lo < hi) {
        const i32 mid = lo + (hi - lo) / 2;
        if (name_hash[mid] < hash) lo = mid + 1;
        else hi = mid;
    }
    for (; lo < n_names && name_hash[lo] == hash; lo++)
        if (name_ptr[lo + 1] - name_ptr[lo] == length && same_bytes(names + name_ptr[lo], name, length))
            return name_code[lo];
    return -1;
}

struct Line {
    i32 status, chrom, count, strand;
    i64 start, end, name_at, name_length;
    u64 hash;
    bool with_strand;
};

struct Chroms {
    const u8* names;
    const i64* name_ptr;
    const u64* name_hash;
    const i32* name_code;
    i32 n_names;
    const i64* sizes;
};

__device__ __forceinline__ void read_line(const u8* text, i64 at, i64 stop, const Chroms& chroms, bool bulk,
                                          u64 hash_mask, Line& out) {
    if (stop > at && text[stop - 1] == '\r') stop--;

    i64 field[MAX_FIELDS + 1];  // where fields begin; field f ends one byte before field[f + 1]
    i32 n_fields = 1;
    bool blank = true;
    field[0] = at;
    for (i64 i = at; i < stop; i++) {
        const u8 c = text[i];
        blank = blank && (c == ' ' || c == '\t' || c == '\r');
        if (c == '\t') {
            if (n_fields <= MAX_FIELDS) field[n_fields] = i + 1;
            n_fields++;
        }
    }
    if (n_fields <= MAX_FIELDS) field[n_fields] = stop + 1;

    out.status = BLANK;
    if (blank) return;
    out.status = COMMENT;
    if (text[at] == '#') return;
    out.status = ERR_COLUMNS;
    if (n_fields < (bulk ? 3 : 4)) return;
    out.status = ERR_EXTRA;
    if (n_fields > (bulk ? 3 : MAX_FIELDS)) return;

    const i64 chrom_length = field[1] - 1 - field[0];
    out.status = ERR_CHROM;
    if (!printable(text, field[0], field[1] - 1)) return;
    const Number start = whole_number(text, field[1], field[2] - 1, true);
    out.status = ERR_START;
    if (!start.ok) return;
    const Number end = whole_number(text, field[2], field[3] - 1, true);
    out.status = ERR_END;
    if (!end.ok) return;

    out.count = 1;
    out.strand = 0;
    out.with_strand = n_fields > 5;
    if (!bulk) {
        out.status = ERR_BARCODE;
        if (!printable(text, field[3], field[4] - 1)) return;
        if (n_fields > 4 && !(field[5] - 1 - field[4] == 1 && text[field[4]] == '.')) {
            const Number count = whole_number(text, field[4], field[5] - 1, false);
            out.status = ERR_COUNT;
            if (!count.ok || count.value < 1 || count.value > 2147483647LL) return;
            out.count = (i32)count.value;
        }
        if (n_fields > 5) {
            const u8 sign = field[6] - 1 - field[5] == 1 ? text[field[5]] : 0;
            out.status = ERR_STRAND;
            if (sign != '+' && sign != '-' && sign != '.') return;
            out.strand = sign == '+' ? 1 : sign == '-' ? -1 : 0;
        }
    }

    const u64 chrom_hash = hash_bytes(text, field[0], chrom_length) & hash_mask;
    const i32 code = chrom_code(text + field[0], chrom_length, chrom_hash, chroms.names, chroms.name_ptr,
                                chroms.name_hash, chroms.name_code, chroms.n_names);
    if (code < 0) {
        out.status = UNKNOWN_CHROM;
        out.hash = chrom_hash;
        out.name_at = field[0];
        out.name_length = chrom_length;
        return;
    }
    out.status = BAD_LENGTH;
    if (end.value <= start.value) return;
    out.status = OUTSIDE;
    if (start.value < 0 || end.value > chroms.sizes[code]) return;

    out.status = KEPT;
    out.chrom = code;
    out.start = start.value;
    out.end = end.value;
    if (!bulk) {
        out.name_at = field[3];
        out.name_length = field[4] - 1 - field[3];
        out.hash = hash_bytes(text, out.name_at, out.name_length) & hash_mask;
    }
}

extern "C" __global__ void parse_lines(const u8* __restrict__ text, const i64* __restrict__ line_end, i64 n_lines,
                                       const u8* __restrict__ names, const i64* __restrict__ name_ptr,
                                       const u64* __restrict__ name_hash, const i32* __restrict__ name_code,
                                       i32 n_names, const i64* __restrict__ sizes, i32 bulk, u64 hash_mask,
                                       u8* __restrict__ status, i16* __restrict__ chrom, i32* __restrict__ start,
                                       i32* __restrict__ end, i32* __restrict__ count, i8* __restrict__ strand,
                                       u64* __restrict__ hash, i64* __restrict__ name_at,
                                       i32* __restrict__ name_length, i64* __restrict__ totals) {
    __shared__ u32 block_totals[FIRST_ERROR];
    if (threadIdx.x < FIRST_ERROR) block_totals[threadIdx.x] = 0;
    __syncthreads();

    const Chroms chroms = {names, name_ptr, name_hash, name_code, n_names, sizes};
    FOR_EACH_ITEM(l, n_lines) {
        Line line = {};
        read_line(text, l ? line_end[l - 1] + 1 : 0, line_end[l], chroms, bulk != 0, hash_mask, line);
        status[l] = (u8)line.status;
        if (line.status == KEPT || line.status == UNKNOWN_CHROM) {
            hash[l] = line.hash;
            name_at[l] = line.name_at;
            name_length[l] = (i32)line.name_length;
        }
        if (line.status == KEPT) {
            chrom[l] = (i16)line.chrom;
            start[l] = (i32)line.start;
            end[l] = (i32)line.end;
            count[l] = line.count;
            strand[l] = (i8)line.strand;
            if (line.with_strand) atomicAdd(&block_totals[WITH_STRAND], 1u);
        }
        if (line.status <= LAST_DROP) atomicAdd(&block_totals[line.status], 1u);
        else atomicMin(&totals[FIRST_ERROR], l);
    }

    __syncthreads();
    if (threadIdx.x < FIRST_ERROR && block_totals[threadIdx.x])
        atomicAdd((u64*)&totals[threadIdx.x], (u64)block_totals[threadIdx.x]);
}

// Whether line l is kept: the running count of kept lines grows at it.
__device__ __forceinline__ bool is_kept(const i64* place, i64 l) { return place[l] != (l ? place[l - 1] : 0); }

extern "C" __global__ void keep_lines(const i64* __restrict__ place, i64 n_lines, const i16* __restrict__ chrom,
                                      const i32* __restrict__ start, const i32* __restrict__ end,
                                      const i32* __restrict__ count, const i8* __restrict__ strand,
                                      const u64* __restrict__ hash, const i64* __restrict__ name_at,
                                      const i32* __restrict__ name_length, i16* __restrict__ kept_chrom,
                                      i32* __restrict__ kept_start, i32* __restrict__ kept_end,
                                      i32* __restrict__ kept_count, i8* __restrict__ kept_strand,
                                      u64* __restrict__ kept_hash, i64* __restrict__ kept_name_at,
                                      i32* __restrict__ kept_name_length) {
    FOR_EACH_ITEM(l, n_lines) {
        if (!is_kept(place, l)) continue;
        const i64 row = place[l] - 1;
        if (chrom != nullptr) {
            kept_chrom[row] = chrom[l];
            kept_start[row] = start[l];
            kept_end[row] = end[l];
            kept_count[row] = count[l];
            kept_strand[row] = strand[l];
        }
        if (hash != nullptr) {
            kept_hash[row] = hash[l];
            kept_name_at[row] = name_at[l];
            kept_name_length[row] = name_length[l];
        }
    }
}

extern "C" __global__ void chrom_runs(const i64* __restrict__ place, i64 n_lines, const i16* __restrict__ kept_chrom,
                                      i64 max_runs, i64* __restrict__ runs) {
    FOR_EACH_ITEM(l, n_lines) {
        if (!is_kept(place, l)) continue;
        const i64 row = place[l] - 1;
        if (row > 0 && kept_chrom[row - 1] == kept_chrom[row]) continue;
        if (*(volatile i64*)&runs[0] > max_runs) continue;  // many: their number is of no use any more
        const i64 j = (i64)atomicAdd((u64*)&runs[0], 1ULL);
        if (j >= max_runs) continue;
        runs[1 + 2 * j] = row;
        runs[2 + 2 * j] = kept_chrom[row];
    }
}
