// What every kernel shares: number types by width, the grid-stride loop, binary search, cuts and overlaps, warp sums.
//
// NVRTC compiles these files without any host header, so the types are named here. `launch.py` pastes this text in
// place of the #include line (CuPy's cache then sees a change of it) and reads the kernels' signatures: the
// names below are the dtypes that it checks arguments against.
//
// Rules that all kernels keep
//   - any block size that is a multiple of 32 and any grid give the same result;
//   - an index into an array of fragments, bytes, keys or non-zeros is i64; grid * block is formed in i64 too;
//   - a device function that waits for other threads ends in `_sync`; the CPU-run of the tests relies on that name;
//   - counts are added with integer atomics only, so no result depends on the order of the threads.
#ifndef GPUATAC_COMMON_CUH
#define GPUATAC_COMMON_CUH

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;

#ifndef DYNAMIC_SHARED
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#endif

#define FULL_WARP 0xffffffffu
#define NO_KEY 0x7fffffffffffffffLL  // sorts behind every key; stands for "nothing to count here"

__device__ __forceinline__ i64 first_item() { return (i64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ i64 item_stride() { return (i64)gridDim.x * blockDim.x; }

// for (i64 i : every item of this thread)
#define FOR_EACH_ITEM(i, n) for (i64 i = first_item(); i < (n); i += item_stride())

// The first index of sorted a[0..n) whose value is >= x (n when there is none).
__device__ __forceinline__ i64 lower_bound(const i32* a, i64 n, i64 x) {
    i64 lo = 0;
    while (n > 0) {
        const i64 half = n >> 1;
        if (a[lo + half] < x) {
            lo += half + 1;
            n -= half + 1;
        } else {
            n = half;
        }
    }
    return lo;
}

// The first index of sorted a[0..n) whose value is > x.
__device__ __forceinline__ i64 upper_bound(const i32* a, i64 n, i64 x) { return lower_bound(a, n, x + 1); }

// The k with ptr[k] <= x < ptr[k + 1], for ascending ptr[0..n] with ptr[0] <= x < ptr[n]; an empty range owns nothing.
__device__ __forceinline__ i64 owner(const i64* ptr, i64 n, i64 x) {
    i64 lo = 0;
    while (n - lo > 1) {
        const i64 middle = lo + ((n - lo) >> 1);
        if (ptr[middle] <= x) lo = middle;
        else n = middle;
    }
    return lo;
}

// Whether [a, b) overlaps one of the disjoint regions: only the last that starts before b can.
__device__ __forceinline__ bool overlaps(i64 a, i64 b, const i32* region_start, const i32* region_end,
                                         i64 n_regions) {
    const i64 j = lower_bound(region_start, n_regions, b) - 1;
    return j >= 0 && region_end[j] > a;
}

// Call visit(offset) for each TSS within window of cut p: offset = p - t + window, mirrored on the reverse strand.
// Returns whether there is one.
template <class Visit>
__device__ __forceinline__ bool each_tss(i64 p, const i32* tss, const u8* reverse, i64 n_tss, i32 window, Visit visit) {
    bool inside = false;
    for (i64 j = lower_bound(tss, n_tss, p - window); j < n_tss && tss[j] <= p + window; j++) {
        inside = true;
        visit((reverse[j] ? tss[j] - p : p - tss[j]) + window);
    }
    return inside;
}

// Add `value` of all 32 lanes; lane 0 holds the sum.
__device__ __forceinline__ u64 warp_sum_sync(u64 value) {
    for (int step = 16; step > 0; step >>= 1) value += __shfl_down_sync(FULL_WARP, value, step);
    return value;
}

// 64-bit FNV-1a with a final mix, over text[at .. at + length).
__device__ __forceinline__ u64 hash_bytes(const u8* text, i64 at, i64 length) {
    u64 h = 0xcbf29ce484222325ULL;
    for (i64 i = 0; i < length; i++) h = (h ^ text[at + i]) * 0x100000001b3ULL;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93ULL;
    return h ^ (h >> 32);
}

__device__ __forceinline__ bool same_bytes(const u8* a, const u8* b, i64 length) {
    for (i64 i = 0; i < length; i++)
        if (a[i] != b[i]) return false;
    return true;
}

#endif
