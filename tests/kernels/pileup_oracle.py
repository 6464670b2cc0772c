"""Pileups and peaks from their definitions (gpuatac/backend/protocol/peaks.py, spec of MACS3): slow, plain, base by base.

Ends of one chromosome are a list over groups of (lefts, rights, left copies, right copies), plain lists.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np


def group_ends(start, end, group, weight, *, n_groups, insertions):
    """For each group its sorted lefts and rights, with copies; ties in the order of the input."""
    copies = [1] * len(start) if weight is None else weight.tolist()
    rows = list(zip(start.tolist(), end.tolist(), group.tolist(), copies, strict=True))
    out = []
    for g in range(n_groups):
        own = [(a, b, w) for a, b, which, w in rows if which == g]
        if insertions:
            cuts = sorted([(a, w) for a, _, w in own] + [(b - 1, w) for _, b, w in own], key=lambda cut: cut[0])
            lows, highs = cuts, [(cut + 1, w) for cut, w in cuts]
        else:
            lows = sorted(((a, w) for a, _, w in own), key=lambda low: low[0])
            highs = sorted(((b, w) for _, b, w in own), key=lambda high: high[0])
        out.append(([a for a, _ in lows], [b for b, _ in highs], [w for _, w in lows], [w for _, w in highs]))
    return out


def coverage(ends, *, bin_size, size):
    """For each group (start, end, value), from the depth of every bin."""
    out = []
    n_bins = -(-size // bin_size)
    for lefts, rights, _, _ in ends:
        depth = np.zeros(n_bins + 1, int)
        for a in lefts:
            depth[a // bin_size :] += 1
        for b in rights:
            depth[-(-b // bin_size) :] -= 1
        runs = []
        for i in range(n_bins):
            if depth[i] == 0:
                continue
            low, high = i * bin_size, min((i + 1) * bin_size, size)
            if runs and runs[-1][1] == low and runs[-1][2] == depth[i]:
                runs[-1][1] = high
            else:
                runs.append([low, high, int(depth[i])])
        out.append(runs)
    return out


def window_sums(runs, *, left, right, begin, stop):
    """For each group (start, end, sum), from the value of every base."""
    out = []
    for rows in runs:
        value = Counter({p: v for a, b, v in rows for p in range(a, b)})
        sums: list[list[int]] = []
        for i in range(begin, stop):
            total = sum(value[p] for p in range(i - right, i + left + 1))
            if sums and sums[-1][2] == total:
                sums[-1][1] = i + 1
            else:
                sums.append([i, i + 1, total])
        out.append([row for row in sums if row[2]])
    return out


def stream(opens, closes, clip):
    """MACS's [end position, value] pairs of the pileup of weighted opens and closes."""
    net: Counter = Counter()
    for position, weight in opens:
        net[max(position, 0) if clip else position] += weight
    for position, weight in closes:
        net[max(position, 0) if clip else position] -= weight
    places = sorted(p for p, change in net.items() if change)
    value, pairs = 0, []
    for i, p in enumerate(places):
        if i > 0 or p != 0:
            pairs.append((p, value))
        value += net[p]
    return pairs


def segments(ends, geometry):
    """For each group (start, end, t, n)."""
    out = []
    for lefts, rights, left_copies, right_copies in ends:
        plus = list(zip(lefts, left_copies, strict=True))
        minus = [(b if geometry.whole else b - 1, w) for b, w in zip(rights, right_copies, strict=True)]
        if geometry.whole:
            treated = stream(plus, minus, geometry.clip)
        else:
            five, three = geometry.shift, geometry.shift + geometry.extsize
            opens = [(c + five, w) for c, w in plus] + [(c - three, w) for c, w in minus]
            closes = [(c + three, w) for c, w in plus] + [(c - five, w) for c, w in minus]
            treated = stream(opens, closes, geometry.clip)
        reach = geometry.wide // 2
        both = plus + minus
        around = stream(
            [(c - reach, w) for c, w in both], [(c + geometry.wide - reach, w) for c, w in both], geometry.clip
        )
        if not geometry.wide:
            around = [(treated[-1][0], 0)] if treated else []
        found, since, i, j = [], 0, 0, 0
        while i < len(treated) and j < len(around):
            p = min(treated[i][0], around[j][0])
            found.append((since, p, treated[i][1], around[j][1]))
            since = p
            i, j = i + (treated[i][0] == p), j + (around[j][0] == p)
        out.append(found)
    return out


def segment_lengths(chromosomes, geometry, n_groups):
    """For each group {(n, t): length} over all chromosomes, without lengths of 0."""
    out = [Counter() for _ in range(n_groups)]
    for ends in chromosomes:
        for g, found in enumerate(segments(ends, geometry)):
            for a, b, t, n in found:
                out[g][n, t] += b - a
    return [{pair: length for pair, length in sorted(counts.items()) if length} for counts in out]


def above(ends, geometry, least, holes=()):
    """For each group the segments with t >= least[group][n] but those whose (n, t) is a hole."""
    out = []
    for g, found in enumerate(segments(ends, geometry)):
        none = holes[g] if holes else set()
        out.append([row for row in found if row[2] >= least[g][row[3]] and (row[3], row[2]) not in none])
    return out


def poisson_score(t: int, rate: float) -> np.float32:
    """-log10 P(X > t), X ~ Poisson(rate), by the series and with the stop of MACS3."""
    factorial = 0.0
    for i in range(1, t + 2):
        factorial += math.log(i)
    m = t + 1
    term = m * math.log(rate) - factorial
    total = term
    while True:
        m += 1
        term = term + math.log(rate) - math.log(m)
        before = total
        total = max(before, term) + math.log1p(math.exp(min(before, term) - max(before, term)))
        if abs(before - total) < 1e-5:
            return np.float32(-round((total - rate) / math.log(10), 5))


def poisson_scores(t, rate):
    return np.array([poisson_score(k, r) for k, r in zip(t.tolist(), rate.tolist(), strict=True)], np.float32)


def summits(ends, geometry, least, holes=(), *, max_gap, min_length, subpeaks):
    """(group, start, end, summit, t, n, number) of every summit."""
    out = []
    for g, found in enumerate(above(ends, geometry, least, holes)):
        regions: list[list] = []
        for segment in found:
            if regions and segment[0] - regions[-1][-1][1] <= max_gap:
                regions[-1].append(segment)
            else:
                regions.append([segment])
        for region in regions:
            low, high = region[0][0], region[-1][1]
            if high - low < min_length:
                continue
            places = subpeaks_of(region, min_length) if subpeaks else []
            for number, (summit, segment) in enumerate(places or [middle_of(region)]):
                out.append((g, low, high, summit, segment[2], segment[3], number))
    return out


def middle_of(region):
    top = max(t for _, _, t, _ in region)
    highest = [segment for segment in region if segment[2] == top]
    middle = highest[(len(highest) + 1) // 2 - 1]
    return (middle[0] + middle[1]) // 2, middle


def subpeaks_of(region, width):
    """(summit, segment) by the rules of MACS3: a padded signal, its smoothed derivative, and what stands out."""
    low, high = region[0][0], region[-1][1]
    origin, boundary = (low - 10, 10) if low >= 10 else (0, low)
    signal = [0] * (high + 10 - origin)
    segment_at = [region[0]] * len(signal)
    for segment in region:
        for p in range(segment[0], segment[1]):
            signal[p - origin + boundary] = segment[2]
            segment_at[p - origin + boundary] = segment
    half = width // 2
    head, tail = signal[0], signal[-1]
    padded = [head - abs(signal[k] - head) for k in range(half, 0, -1)] + signal
    padded += [tail + abs(signal[-1 - k] - tail) for k in range(1, half + 1)]
    around = np.lib.stride_tricks.sliding_window_view(np.array(padded, np.int64), 2 * half + 1)
    slope = (around * np.arange(-half, half + 1)).sum(1)
    turns = [o for o in range(len(slope) - 1) if np.sign(slope[o + 1]) - np.sign(slope[o]) <= -1]
    turns = [o for o in turns if boundary <= o <= high - low + boundary]
    return [(origin + o - boundary, segment_at[o]) for o in standing_out(signal, turns)]


def root(value):
    return np.float32(math.sqrt(value))


def standing_out(signal, turns):
    if len(turns) < 2:
        return turns
    heights = np.array(signal, np.float32)
    valleys = [a + int(np.argmin(heights[a:b])) for a, b in pairwise(turns)]
    edges = [0, *valleys, len(signal)]
    kept = []
    for i, turn in enumerate(turns):
        beside = [heights[v] for v in valleys[max(i - 1, 0) : i + 1]]
        threshold = max(beside)
        threshold = np.float32(threshold + root(threshold))
        piece = heights[edges[i] : edges[i + 1]] - threshold
        if i == 0:
            piece = piece - root(threshold)
        after = np.flatnonzero(piece[turn - edges[i] :] < 0)
        if after.size:
            piece = piece[: turn - edges[i] + after[0]]
        if piece.size >= 50 and np.unique(piece).size >= 6:
            kept.append(turn)
    return kept
