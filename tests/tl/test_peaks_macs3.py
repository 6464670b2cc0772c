"""Peaks equal MACS3 3.0.4's, row by row: rows it printed for simulated fragments, and its own reference files."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.core.peaks.calling import call_peaks
from gpuatac.core.peaks.scores import PeakModel
from gpuatac.core.tracks.pseudobulk import totals_of

sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))
from macs3 import CASES, ours

GOLDEN = Path(__file__).parent / "golden_macs3"
DATA = Path(os.environ.get("GPUATAC_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
FRAG = DATA / "scatac" / "pbmc500_chr22_hg38"


@pytest.fixture(scope="module")
def fragments():
    table = pd.read_csv(GOLDEN / "fragments.tsv.gz", sep="\t", header=None, names=["chrom", "start", "end", "count"])
    return {name: part.reset_index(drop=True) for name, part in table.groupby("chrom")}


@pytest.fixture(scope="module")
def rows():
    return pd.read_csv(GOLDEN / "rows.tsv.gz", sep="\t", dtype=str)


@pytest.mark.parametrize("case", CASES)
def test_every_mode_gives_the_rows_that_macs3_prints(case, fragments, rows):
    want = rows[rows["case"] == case].drop(columns="case").dropna(axis=1, how="all")
    got = ours(fragments, CASES[case][2])
    assert len(want) > 10
    np.testing.assert_array_equal(got.to_numpy(), want.to_numpy())


def test_the_golden_rows_have_subpeaks_and_nested_blocks(rows):
    assert rows.loc[rows["case"] == "insertions", "3"].str.endswith("b").any()
    assert (rows["case"] == "broad").sum() > 10


@pytest.mark.skipif(not FRAG.exists(), reason="needs the real data (GPUATAC_TEST_DATA)")
@pytest.mark.parametrize(
    ("reference", "n", "subset"),
    [("run_callpeak_frag_peaks", 1455, False), ("run_callpeak_frag_barcode_peaks", 1045, True)],
)
def test_references_of_macs3_for_fragments_with_copies(reference, n, subset):
    table = pd.read_csv(FRAG / "test.fragments.tsv.gz", sep="\t", header=None, comment="#")
    mean = int((table[2] - table[1]).mean())  # MACS3 takes it before it chooses barcodes
    if subset:
        table = table[table[3].isin((FRAG / "barcodes.txt").read_text().split())]
    table = table.sort_values([1, 2], kind="stable")
    columns = [table[k].to_numpy(np.int32) for k in (1, 2, 4)]
    bk = ga.backend.resolve("cpu")
    ends = bk.pileup.group_ends(*columns[:2], np.zeros(len(table), np.int32), n_groups=1, weight=columns[2])
    model = PeakModel(whole=True, copies=True, call_summits=False, min_length=mean, max_gap=mean)
    totals = totals_of(bk, ends)
    ((_, peaks, _),) = call_peaks(
        bk, [lambda: ends], totals, model, genome_size=2_913_022_398, mean_length=totals.bases / totals.rows
    )
    want = pd.read_csv(FRAG / f"{reference}.narrowPeak", sep="\t", header=None)
    assert len(want) == n
    for column, values in (
        (1, peaks.start),
        (2, peaks.end),
        (4, (peaks.q.astype(float) * 10).astype(int)),
        (9, peaks.summit - peaks.start),
    ):
        np.testing.assert_array_equal(values, want[column])
    for column, values in ((6, peaks.fold), (7, peaks.p), (8, peaks.q)):
        assert [f"{x:.6g}" for x in values.astype(float)] == [f"{x:.6g}" for x in want[column]]
