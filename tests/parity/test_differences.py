"""Where gpuatac differs from SnapATAC2 2.9.0 on purpose: both numbers side by side.

The peer's answers are stored in differences.json; ``make parity`` measures them again.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import parity_inputs as inputs
import pytest
import scipy.sparse as sp
from anndata import AnnData

import gpuatac as ga
from gpuatac.errors import FileFormatError

PEER = json.loads((Path(__file__).parent / "differences.json").read_text())
GENOME = ga.Genome("two", inputs.DIFFERENCE_SIZES)


def load(folder, text):
    path = folder / "fragments.tsv"
    path.write_text(text)
    return ga.pp.import_fragments(path, GENOME, min_num_fragments=0, device="cpu")


def summary_of(adata):
    (text,) = adata.uns["read_summary"].values()
    return json.loads(text)


def genes_from(folder, genes):
    inputs.write_case(folder, fragments=folder / "x", sizes=inputs.DIFFERENCE_SIZES, genes=genes, regions=[])
    return folder / "genes.gtf"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("end beyond the chromosome", "outside the chromosome"),
        ("start beyond the chromosome", "outside the chromosome"),
        ("blank line", "blank line"),
    ],
)
def test_row_that_makes_the_peer_panic_is_dropped_and_counted(tmp_path, name, reason):
    adata = load(tmp_path, inputs.BAD_ROWS[name])
    summary = summary_of(adata)
    assert summary["dropped"][reason] == 1
    assert summary["lines"] == summary["kept"] + sum(summary["dropped"].values())
    ga.pp.add_tile_matrix(adata, bin_size=100, exclude_chroms=())
    kept = inputs.BAD_ROWS[name].count(inputs.GOOD_ROW)
    assert adata.X.sum() == 2 * kept
    assert PEER["bad rows"][name]["tile sum"] == "raises PanicException"


@pytest.mark.parametrize("name", ["truncated line", "text in column 6"])
def test_line_that_makes_the_peer_panic_is_refused_with_its_number(tmp_path, name):
    with pytest.raises(FileFormatError, match="line 2") as refused:
        load(tmp_path, inputs.BAD_ROWS[name])
    assert refused.value.line == 2
    assert PEER["bad rows"][name]["n_fragment"] == "raises PanicException"


def test_cut_on_the_last_base_of_a_gene_counts_and_in_the_peer_does_not(tmp_path):
    adata = load(tmp_path, inputs.LAST_BASE_ROW)
    genes = genes_from(tmp_path, inputs.LAST_BASE_GENE)
    assert ga.pp.make_gene_matrix(adata, genes).X.sum() == 1
    assert ga.pp.make_gene_matrix(adata, genes, interval_rule="snapatac2").X.sum() == PEER["last base"] == 0


def test_tss_near_the_chromosome_start_keeps_its_zero_and_in_the_peer_does_not(tmp_path):
    adata = load(tmp_path, inputs.EARLY_TSS_ROW)
    ga.metrics.tsse(adata, genes_from(tmp_path, inputs.EARLY_TSS_GENE))
    assert np.flatnonzero(adata.uns["TSS_profile"]).tolist() == [2050, 2150]
    assert PEER["early TSS"] == [150, 250]  # counted from the chromosome start, 1,900 bp off


def test_of_tied_features_the_first_columns_are_taken_and_the_peer_takes_others():
    adata = AnnData(sp.csr_matrix(np.array([inputs.TIED_COUNTS], np.float32)))
    ga.pp.select_features(adata, n_features=3, filter_lower_quantile=0, filter_upper_quantile=0)
    assert np.flatnonzero(adata.var["selected"]).tolist() == [0, 1, 6]
    assert PEER["ties"] == [4, 5, 6]  # whatever NumPy's unstable sort gives on that machine
