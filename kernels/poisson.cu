// Poisson tails as MACS3 sums them.
//
// poisson_scores  out = -round(((ln sum_{m > t} rate^m / m!) - rate) / ln 10, 5 decimals), as float32
//            in logs: x_m = m ln(rate) - ln m! from m = t + 1 on; each term is added by log-sum-exp, until the sum moves by less
//            than 1e-5. The sum is truncated there on purpose: an exact tail gives other peaks than MACS3.
//
// Inputs     t i32 (n,); rate, log_rate f64 (n,), log_rate = ln(rate); log_of f64 (n_logs,): ln m at m (0 at 0);
//            log_factorial f64: ln m!, up to max(t) + 1; out f32 (n,)
// One thread one pair. A warp runs as long as its longest series: about rate - t terms and a few sqrt(rate) more.
// Traffic    24 B per pair and 8 B of a table (cached) per term; the arithmetic decides: one exp, one log1p per term.
// Order      no atomics: no dependence on order.
// Overflow   m is i64: t + 1 may be 2^31. Behind the end of its table ln m is computed.
//            Products that a sum follows are rounded first (__dmul_rn): a fused multiply-add would give another last digit
//            than the CPU. The logarithms come from the host for the same reason; what is left to the GPU (exp, log1p) adds
//            at most ln 2 to a term, with an error of 1e-16. The last step is exact: fma gives the rounded product's own
//            error, which decides at a half, and k / 1e5 is the double nearest to a decimal of five places, as Python's
//            round() returns it. A rate of 0 or NaN ends the loop at once.
// Oracle     tests/kernels/pileup_oracle.py: poisson_scores
// Bandwidth  not yet measured on a GPU
#include "common.cuh"

// x to five decimals, a half to the even side: what round(x, 5) is in Python.
__device__ __forceinline__ f64 five_decimals(f64 x) {
    const f64 product = __dmul_rn(x, 1e5);
    const f64 error = fma(x, 1e5, -product);
    const f64 below = floor(product);
    f64 whole = rint(product);
    if (product - below == 0.5 && error != 0.0) whole = error > 0.0 ? below + 1.0 : below;
    return whole / 1e5;
}

extern "C" __global__ void poisson_scores(const i32* __restrict__ t, const f64* __restrict__ rate,
                                          const f64* __restrict__ log_rate, const f64* __restrict__ log_of, i64 n_logs,
                                          const f64* __restrict__ log_factorial, i64 n, f32* __restrict__ out) {
    FOR_EACH_ITEM(i, n) {
        const f64 step = log_rate[i];
        i64 m = (i64)t[i] + 1;
        f64 term = __dmul_rn((f64)m, step) - log_factorial[m];
        f64 sum = term, before;
        do {
            m++;
            term = term + step - (m < n_logs ? log_of[m] : log((f64)m));
            before = sum;
            const f64 high = sum > term ? sum : term, low = sum > term ? term : sum;
            sum = high + log1p(exp(low - high));
        } while (fabs(before - sum) >= 1e-5);
        out[i] = (f32)-five_decimals((sum - rate[i]) / 2.302585092994046);
    }
}
