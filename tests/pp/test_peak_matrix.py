"""Peak matrices from merged peaks, length windows and other ways to name regions."""

from __future__ import annotations

import numpy as np
import oracles
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.backend.protocol import STRATEGIES
from gpuatac.errors import InputError

SIZES = {"chr2": 3000, "chr1": 9000, "chr10": 2000}
BARCODES = ["AA-1", "CC-1", "GG-1"]


def random_fragments(n=600):
    rng = np.random.default_rng(0)
    out = []
    for _ in range(n):
        chrom = str(rng.choice(list(SIZES)))
        start = int(rng.integers(0, SIZES[chrom] - 1))
        end = min(start + int(rng.integers(1, 400)), SIZES[chrom])
        out.append(oracles.Fragment(chrom, start, end, str(rng.choice(BARCODES))))
    return out + [
        oracles.Fragment("chr1", 50 + i, 50 + i + n, "AA-1") for i, n in enumerate((99, 100, 101, 199, 200, 201))
    ]


FRAGMENTS = random_fragments()


@pytest.fixture(scope="module")
def adata(tmp_path_factory):
    path = tmp_path_factory.mktemp("peaks") / "toy.tsv"
    path.write_text("".join(f"{f.chrom}\t{f.start}\t{f.end}\t{f.barcode}\n" for f in FRAGMENTS))
    return ga.pp.import_fragments(path, ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")


def random_regions(n, seed=1):
    rng = np.random.default_rng(seed)
    chrom = rng.choice(list(SIZES), n)
    start = rng.integers(0, 1800, n)
    return pd.DataFrame({"chrom": chrom, "start": start, "end": start + rng.integers(1, 200, n)})


def expected(regions, fragments=FRAGMENTS, strategy="paired-insertion"):
    rows = list(regions[["chrom", "start", "end"]].itertuples(index=False, name=None))
    return oracles.region_counts(fragments, BARCODES, rows, strategy=strategy)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", ["shuffled", "sorted", "few repeats", "many repeats", "disjoint"])
def test_counts_stand_in_the_order_given(adata, strategy, kind):
    regions = random_regions(60)
    if kind == "sorted":  # chromosomes in an order that is not the genome's
        regions = pd.concat(
            [regions[regions["chrom"] == c].sort_values(["start", "end"]) for c in ("chr2", "chr1", "chr10")]
        )
    if kind == "few repeats":
        regions = pd.concat([regions, regions.iloc[[4]]])
    if kind == "many repeats":
        regions = pd.concat([regions] * 3).sample(frac=1, random_state=0)
    if kind == "disjoint":
        regions = pd.DataFrame({"chrom": "chr1", "start": np.arange(0, 9000, 300), "end": np.arange(120, 9120, 300)})
    found = ga.pp.make_peak_matrix(adata, regions, counting_strategy=strategy)
    np.testing.assert_array_equal(found.X.toarray(), expected(regions, strategy=strategy))
    assert found.X.has_canonical_format
    names = (regions["chrom"] + ":" + regions["start"].astype(str) + "-" + regions["end"].astype(str)).tolist()
    assert found.var_names.tolist() == names


def test_groups_of_merged_peaks_become_columns_of_var(adata):
    peaks = {}
    for name in ("T", "B", "none"):
        frame = random_regions(30, seed=len(name)) if name != "none" else random_regions(1).iloc[:0]
        peaks[name] = frame.assign(peak=20, p_value=np.arange(len(frame), dtype=float))
    merged = ga.tl.merge_peaks(peaks, SIZES, half_width=60)
    found = ga.pp.make_peak_matrix(adata, merged)
    assert found.var.columns.tolist() == ["chrom", "start", "end", "T", "B", "none"]
    assert found.var_names.tolist() == merged["Peaks"].tolist()
    for name in peaks:
        assert found.var[name].dtype == bool
        np.testing.assert_array_equal(found.var[name], merged[name])
    np.testing.assert_array_equal(found.X.toarray(), expected(merged))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("low", "high"), [(100, None), (None, 200), (100, 200), (0, 10**6), (5000, None)])
def test_length_window_takes_in_both_ends(adata, strategy, low, high):
    regions = random_regions(40)
    found = ga.pp.make_peak_matrix(adata, regions, counting_strategy=strategy, min_frag_size=low, max_frag_size=high)
    kept = [f for f in FRAGMENTS if (low or 0) <= f.end - f.start <= (high or 10**9)]
    np.testing.assert_array_equal(found.X.toarray(), expected(regions, kept, strategy))


def test_length_window_is_checked(adata):
    with pytest.raises(InputError, match="max_frag_size must be"):
        ga.pp.make_peak_matrix(adata, random_regions(3), min_frag_size=100, max_frag_size=50)
    with pytest.raises(InputError, match="min_frag_size"):
        ga.pp.make_peak_matrix(adata, random_regions(3), min_frag_size=-1)


def test_every_way_to_name_regions_gives_the_same(adata, tmp_path):
    regions = random_regions(20)
    names = (regions["chrom"] + ":" + regions["start"].astype(str) + "-" + regions["end"].astype(str)).tolist()
    bed = tmp_path / "peaks.bed"
    bed.write_text("".join(f"{c}\t{s}\t{e}\n" for c, s, e in regions.itertuples(index=False)))
    mine = adata.copy()
    mine.uns["my_peaks"] = regions
    wanted = expected(regions)
    for given in (regions, names, bed, str(bed), pd.DataFrame({"Peaks": names}), "my_peaks"):
        found = ga.pp.make_peak_matrix(mine, given)
        np.testing.assert_array_equal(found.X.toarray(), wanted)
        assert found.var_names.tolist() == names
