"""Merging of peaks: hand-made windows, then random ones against the definition, both rules."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.backend.cpu.peaks import consensus as sweeps
from gpuatac.core.peaks import consensus
from gpuatac.errors import InputError, MissingSlotError

SIZES = {"chr1": 10_000, "chr10": 4_000, "chr2": 5_000}
NO_PEAKS = pd.DataFrame({"chrom": [], "start": [], "end": [], "peak": [], "p_value": []})


def frame(*rows):
    """Rows of (chrom, start, end, summit offset, -log10 p)."""
    return pd.DataFrame(rows, columns=["chrom", "start", "end", "peak", "p_value"])


def random_groups(seed, n_groups=6, n=120, decimals=0):
    rng = np.random.default_rng(seed)
    groups = {}
    for g in range(n_groups):
        k = int(rng.integers(0, n)) if g != 2 else 0
        chrom = rng.choice(list(SIZES), k)
        size = np.array([SIZES[c] for c in chrom], int)
        width = rng.integers(20, 500, k)
        start = (rng.random(k) * (size - width)).astype(int)
        p = np.round(rng.exponential(3, k), decimals)
        groups[f"g{g}"] = pd.DataFrame(
            {"chrom": chrom, "start": start, "end": start + width, "peak": rng.integers(0, width), "p_value": p}
        )
    return groups


def merged_by_definition(groups, half_width):
    """Chains of windows; in each the best is taken (the last of equals) and what it overlaps removed, until none is left."""
    windows = []
    for peaks in groups.values():
        for chrom, start, _end, offset, p in peaks[["chrom", "start", "end", "peak", "p_value"]].itertuples(
            index=False
        ):
            summit = start + offset
            windows.append((chrom, max(summit - half_width, 0), summit + half_width + 1, p))
    windows.sort(key=lambda w: w[:3])
    chains, reach = [], -1
    for w in windows:
        if not chains or chains[-1][-1][0] != w[0] or w[1] > reach:
            chains.append([])
            reach = -1
        chains[-1].append(w)
        reach = max(reach, w[2])
    out = []
    for chain in chains:
        left = chain
        while left:
            top = max(w[3] for w in left)
            best = [w for w in left if w[3] == top][-1]
            out.append((best[0], best[1], min(best[2], SIZES[best[0]])))
            left = [w for w in left if w[1] >= best[2] or w[2] <= best[1]]
    return out


def overlapped_by_definition(regions, peaks):
    rows = list(peaks[["chrom", "start", "end"]].itertuples(index=False))
    return [any(c == chrom and s < end and e > start for c, s, e in rows) for chrom, start, end in regions]


# ---------------------------------------------------------------------------------------------- SnapATAC2's rule


def test_window_is_centred_on_the_summit():
    found = ga.tl.merge_peaks({"A": frame(("chr1", 900, 1100, 30, 5.0))}, SIZES)
    assert found["Peaks"].tolist() == ["chr1:680-1181"]
    assert found.columns.tolist() == ["Peaks", "chrom", "start", "end", "A"]
    assert found["A"].dtype == bool


def test_windows_are_cut_at_both_ends_of_the_chromosome():
    peaks = frame(("chr2", 10, 60, 0, 3.0), ("chr2", 4900, 5000, 50, 3.0))
    found = ga.tl.merge_peaks({"A": peaks}, SIZES)
    assert found[["start", "end"]].values.tolist() == [[0, 261], [4700, 5000]]


def test_summit_before_the_chromosome_counts_as_base_0():
    found = ga.tl.merge_peaks({"A": frame(("chr2", 4, 60, -9, 3.0))}, SIZES, half_width=3)
    assert found["Peaks"].tolist() == ["chr2:0-4"]


def test_better_window_drops_the_one_it_overlaps_and_spares_the_next():
    peaks = frame(("chr1", 1000, 1001, 0, 2.0), ("chr1", 1300, 1301, 0, 9.0), ("chr1", 1801, 1802, 0, 1.0))
    found = ga.tl.merge_peaks({"A": peaks}, SIZES)
    assert found["start"].tolist() == [1050, 1551]  # touching, so one chain: the best first


def test_within_a_chain_rows_go_by_significance():
    peaks = frame(("chr1", 1000, 1001, 0, 2.0), ("chr1", 1501, 1502, 0, 9.0), ("chr1", 3000, 3001, 0, 50.0))
    assert ga.tl.merge_peaks({"A": peaks}, SIZES)["start"].tolist() == [1251, 750, 2750]


def test_of_equal_scores_the_last_by_position_wins():
    peaks = frame(("chr1", 1000, 1001, 0, 4.0), ("chr1", 1100, 1101, 0, 4.0), ("chr1", 1050, 1051, 0, 4.0))
    assert ga.tl.merge_peaks({"A": peaks}, SIZES)["start"].tolist() == [850]


def test_group_column_is_about_the_peak_and_not_its_window():
    groups = {
        "best": frame(("chr1", 900, 1100, 100, 50.0)),
        "overlaps by one": frame(("chr1", 1250, 1400, 100, 1.0)),
        "touches": frame(("chr1", 1251, 1400, 0, 1.0)),
        "spans": frame(("chr1", 10, 8000, 7900, 1.0)),
        "empty": NO_PEAKS,
    }
    found = ga.tl.merge_peaks(groups, SIZES)
    assert found.columns.tolist()[4:] == list(groups)
    assert found.iloc[0, 4:].tolist() == [True, True, False, True, False]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("half_width", [0, 40, 250])
def test_random_peaks_merge_as_defined(seed, half_width):
    groups = random_groups(seed)
    expected = merged_by_definition(groups, half_width)
    found = ga.tl.merge_peaks(groups, SIZES, half_width=half_width)
    assert list(zip(found["chrom"], found["start"], found["end"], strict=True)) == expected
    for name, peaks in groups.items():
        assert found[name].tolist() == overlapped_by_definition(expected, peaks)


def test_order_of_groups_and_of_rows_does_not_matter():
    groups = random_groups(7, decimals=3)
    turned = {name: groups[name].sample(frac=1, random_state=1) for name in reversed(groups)}
    one, other = ga.tl.merge_peaks(groups, SIZES), ga.tl.merge_peaks(turned, SIZES)
    pd.testing.assert_frame_equal(one, other[one.columns])


def test_frame_with_groups_and_anndata_say_the_same_as_a_dict():
    groups = random_groups(8)
    table = pd.concat([peaks.assign(group=name) for name, peaks in groups.items()], ignore_index=True)
    table["group"] = pd.Categorical(table["group"], list(groups))
    table["chrom"] = table["chrom"].astype("category")
    adata = ad.AnnData(np.zeros((1, 1)), uns={"peaks": table})
    expected = ga.tl.merge_peaks(groups, SIZES)
    pd.testing.assert_frame_equal(ga.tl.merge_peaks(table, SIZES), expected)
    pd.testing.assert_frame_equal(ga.tl.merge_peaks(adata, ga.Genome("g", SIZES)), expected)


def test_score_may_be_another_column():
    peaks = frame(("chr1", 1000, 1001, 0, 2.0), ("chr1", 1100, 1101, 0, 1.0)).assign(q_value=[1.0, 2.0])
    assert ga.tl.merge_peaks({"A": peaks}, SIZES, by="q_value")["start"].tolist() == [850]


@pytest.mark.parametrize(
    ("peaks", "message"),
    [
        ({"A": NO_PEAKS}, "none of the 1 groups has a peak"),
        ({"A": frame(("chr9", 1, 5, 0, 1.0))}, "chromosomes without a size"),
        ({"A": frame(("chr1", 1, 5, 0, np.nan))}, "1 of 1 peaks of group 'A' have no p_value"),
        ({"A": frame(("chr1", 5, 1, 0, 1.0))}, "start > end"),
        ({"A": frame(("chr1", 20_000, 20_005, 0, 1.0))}, "behind the end"),
        ({"A": frame(("chr1", 1, 5, 0, 1.0)).drop(columns="peak")}, "lack the column peak"),
        ({1: frame(("chr1", 1, 5, 0, 1.0)), "1": NO_PEAKS}, "group names"),
        (frame(("chr1", 1, 5, 0, 1.0)), "no column 'group'"),
        ({"A": [1, 2]}, "must be a frame"),
    ],
)
def test_bad_peaks_are_named(peaks, message):
    with pytest.raises(InputError, match=message):
        ga.tl.merge_peaks(peaks, SIZES)


def test_anndata_without_peaks_says_what_to_call():
    with pytest.raises(MissingSlotError, match=r"call tl[.]call_peaks first"):
        ga.tl.merge_peaks(ad.AnnData(np.zeros((1, 1))), SIZES)


# -------------------------------------------------------------------------------------------------- ArchR's rule


def archr(groups, **more):
    return ga.tl.merge_peaks(groups, SIZES, flavor="archr", **more)


def at(*positions, p=None):
    """One-base peaks at ``positions`` of chr1, falling in significance unless ``p`` is given."""
    p = p or [float(len(positions) - i) for i in range(len(positions))]
    return frame(*(("chr1", x, x + 1, 0, y) for x, y in zip(positions, p, strict=True)))


def test_archr_windows_that_leave_the_chromosome_or_meet_the_blacklist_go():
    peaks = at(249, 250, 3000, 9749, 9750)
    found = archr({"A": peaks}, blacklist=["chr1:3250-3260", "chr10:1-5"])
    assert found["Peaks"].tolist() == ["chr1:0-501", "chr1:9499-10000"]
    assert len(archr({"A": peaks}, blacklist=["chr1:3251-3260"])) == 3


def test_quantile_ranks_of_equal_scores_are_their_mean_rank_rounded_down():
    """ArchR's trunc(rank(x)) / length(x), rank of R: equal scores have the mean of their ranks."""
    found = consensus.quantile_ranks(np.array([5.0, 1.0, 3.0, 3.0, 1.0, 1.0, 3.0]))
    np.testing.assert_array_equal(found * 7, [7, 2, 5, 5, 2, 2, 5])
    np.testing.assert_array_equal(consensus.quantile_ranks(np.array([4.0, 9.0, 4.0])) * 3, [1, 3, 1])  # 1.5 is 1
    assert consensus.quantile_ranks(np.empty(0)).size == 0


def test_archr_groups_compete_by_rank_and_not_by_score():
    weak = at(1000, 3000, p=[2.0, 1.0])  # ranks 1 and 1/2
    strong = at(1100, 5000, p=[50.0, 90.0])  # ranks 1/2 and 1
    assert sorted(archr({"weak": weak, "strong": strong})["start"]) == [750, 2750, 4750]
    by_score = ga.tl.merge_peaks({"weak": weak, "strong": strong}, SIZES)
    assert sorted(by_score["start"]) == [850, 2750, 4750]


def test_archr_peak_of_one_replicate_goes_unless_the_group_has_no_other():
    twice = {"r1": at(1000, 3000), "r2": at(1100, 7000)}
    assert archr({"A": twice})["start"].tolist() == [850]  # rank 1 twice: the last by position
    assert sorted(archr({"A": twice}, reproducibility=1)["start"]) == [850, 2750, 6750]
    assert sorted(archr({"A": {"r1": at(1000, 3000)}})["start"]) == [750, 2750]


def test_archr_limits_the_peaks_of_a_group_by_its_cells():
    peaks = at(1000, 3000, 5000, 7000, p=[1.0, 9.0, 5.0, 7.0])
    assert sorted(archr({"A": peaks}, n_cells={"A": 1}, peaks_per_cell=2)["start"]) == [2750, 6750]
    assert len(archr({"A": peaks}, max_peaks=3)) == 3
    with pytest.raises(InputError, match="n_cells has no group 'A'"):
        archr({"A": peaks}, n_cells={"B": 1})


def archr_by_definition(groups, half_width, reproducibility, most):
    """The steps of the docstring on lists of (chrom, start, end, score)."""

    def overlap(a, b):
        return a[0] == b[0] and a[1] < b[2] and a[2] > b[1]

    def thinned(windows):
        left, out = sorted(windows, key=lambda w: w[:3]), []
        while left:
            top = max(w[3] for w in left)
            out.append([w for w in left if w[3] == top][-1])
            left = [w for w in left if not overlap(w, out[-1])]
        return out

    def ranked(windows):
        scores = np.array([w[3] for w in windows])
        mean_rank = [np.sum(scores < s) + (np.sum(scores == s) + 1) / 2 for s in scores]
        return [(*w[:3], np.floor(r) / len(windows)) for w, r in zip(windows, mean_rank, strict=True)]

    union = []
    for replicates in groups.values():
        thin = []
        for peaks in replicates.values():
            windows = []
            for chrom, start, _end, offset, p in peaks.itertuples(index=False):
                s = start + offset
                if s >= half_width and s + half_width + 1 <= SIZES[chrom]:
                    windows.append((chrom, s - half_width, s + half_width + 1, p))
            thin.append(ranked(thinned(windows)))
        pool = thinned([w for replicate in thin for w in replicate])
        if len(thin) > 1:
            pool = [w for w in pool if sum(any(overlap(w, v) for v in r) for r in thin) >= reproducibility]
        pool = sorted(ranked(pool), key=lambda w: -w[3])
        union += pool[:most]
    return {w[:3] for w in thinned(union)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reproducibility", [1, 2, 3])
@pytest.mark.parametrize("decimals", [6, 0], ids=["distinct", "ties"])
def test_archr_random_replicates_merge_as_defined(seed, reproducibility, decimals):
    flat = random_groups(seed, n_groups=8, n=60, decimals=decimals)
    groups = {
        "A": {k: flat[k] for k in ("g0", "g1", "g3")},
        "B": {k: flat[k] for k in ("g2", "g4")},
        "C": {"g5": flat["g5"]},
    }
    expected = archr_by_definition(groups, 60, reproducibility, 10**9)
    found = archr(groups, half_width=60, reproducibility=reproducibility)
    assert set(zip(found["chrom"], found["start"], found["end"], strict=True)) == expected


# ------------------------------------------------------------------------------------------------------- sweeps


def test_regions_are_found_from_any_starting_point():
    """Peaks in random order make the search gallop both ways."""
    rng = np.random.default_rng(3)
    start = np.sort(rng.choice(50_000, 900, replace=False)) * 3
    regions = consensus.Regions(np.repeat([0, 2], [600, 300]).astype(np.int32), start, start + 3, np.arange(900))
    n = 500
    peaks = consensus.Peaks(
        rng.integers(0, 3, n).astype(np.int32), (s := rng.integers(0, 150_000, n)), s + rng.integers(1, 900, n), s, s
    )
    found = consensus.membership(sweeps, regions, 3, [peaks])[0]
    expected = np.zeros(900, bool)
    for c, s, e in zip(peaks.chrom, peaks.start, peaks.end, strict=True):
        expected |= (regions.chrom == c) & (regions.start < e) & (regions.end > s)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("top", [1, 2, 2**11, 2**40])
def test_order_is_that_of_a_stable_sort(top):
    key = np.random.default_rng(0).integers(0, top, 3000)
    np.testing.assert_array_equal(sweeps.sorted_order(key.copy()), np.argsort(key, kind="stable"))


def test_nothing_to_order():
    assert sweeps.sorted_order(np.empty(0, np.int64)).shape == (0,)
