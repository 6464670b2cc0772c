"""Simulated samples: the files hold what they say, and the truth can be found again."""

import gzip
import random
import re

import numpy as np
import pandas as pd
import pytest

from gpuatac import Genome
from gpuatac.errors import InputError, MissingFileError, OutputExistsError
from gpuatac.io.files.bgzf import BgzfWriter
from gpuatac.simulate import simulate_fragments

SIZES = {"chr1": 40_000_000, "chr10": 5_000_000, "chr2": 20_000_000, "chrM": 16_569, "tiny": 4_000}
TOY = Genome("toy", SIZES)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("sim") / "toy"
    options = {"n_cells": 60, "n_types": 3, "n_batches": 2, "fragments_per_cell": 400, "doublet_rate": 0.1}
    return simulate_fragments(prefix, genome=TOY, seed=3, mito_fraction=0.05, **options)


@pytest.fixture(scope="module")
def rows(toy):
    return read_rows(toy.fragments)


@pytest.fixture(scope="module")
def cells(toy):
    return pd.read_csv(toy.cells, sep="\t", keep_default_na=False).set_index("barcode")


def read_rows(path):
    names = ["chrom", "start", "end", "barcode", "count"]
    return pd.read_csv(path, sep="\t", comment="#", header=None, names=names)


def test_rows_are_sorted_by_coordinate_with_chromosomes_in_natural_order(rows):
    order = {"chr1": 0, "chr2": 1, "chr10": 2, "chrM": 3}
    key = list(zip(rows["chrom"].map(order), rows["start"], rows["end"], strict=True))
    assert key == sorted(key)
    assert set(rows["chrom"]) == set(order)  # the 4-kb contig takes nothing


def test_fragments_lie_inside_their_chromosomes_and_have_copies(rows):
    size = rows["chrom"].map(TOY.chrom_sizes)
    assert (rows["start"] >= 0).all()
    assert (rows["end"] <= size).all()
    assert (rows["end"] - rows["start"]).between(20, 900).all()
    assert rows["count"].min() == 1
    assert 1 - len(rows) / rows["count"].sum() == pytest.approx(0.35, abs=0.02)


def test_no_position_is_repeated_within_a_barcode(rows):
    assert not rows.duplicated(["chrom", "start", "end", "barcode"]).any()


def test_cells_table_counts_what_the_fragment_file_holds(toy, rows, cells):
    mito = rows["chrom"] == "chrM"
    for column, part in (("n_fragment", rows[~mito]), ("n_mito", rows[mito])):
        found = part.groupby("barcode").size().reindex(cells.index, fill_value=0)
        np.testing.assert_array_equal(found, cells[column])
    assert toy.n_fragments == cells["n_fragment"].sum() == (~mito).sum()
    assert toy.n_mito == mito.sum()


def test_numbers_of_cells_doublets_and_empty_droplets_are_those_asked_for(toy, cells):
    assert (toy.n_cells, toy.n_doublets, toy.n_empty) == (60, 6, 300)
    assert cells["is_cell"].sum() == 60
    assert cells["is_doublet"].sum() == 6
    assert set(cells.loc[cells["is_cell"] == 0, "cell_type"]) == {"empty"}
    assert (cells["type2"] != "NA").sum() == 6
    assert set(cells.loc[cells["is_cell"] == 1, "cell_type"]) == {"type0", "type1", "type2"}
    assert cells.index.is_unique


def test_depth_is_near_what_was_asked_and_empty_droplets_are_shallow(cells):
    single = cells[(cells["is_cell"] == 1) & (cells["is_doublet"] == 0)]
    assert single["n_fragment"].mean() == pytest.approx(400, rel=0.15)
    assert cells.loc[cells["is_cell"] == 0, "n_fragment"].mean() == pytest.approx(50, rel=0.35)
    assert cells.loc[cells["is_doublet"] == 1, "n_fragment"].mean() > 1.4 * single["n_fragment"].mean()


def test_barcodes_end_in_the_number_of_their_batch(cells):
    suffix = "batch" + (cells.index.str.rsplit("-", n=1).str[1].astype(int) - 1).astype(str)
    assert (suffix == cells["batch"]).all()
    assert cells.index.str.fullmatch("[ACGT]{16}-[12]").all()


def test_fragments_file_is_bgzf_and_ends_with_the_end_of_file_block(toy):
    data = toy.fragments.read_bytes()
    assert data[:4] == b"\x1f\x8b\x08\x04"
    assert data[12:14] == b"BC"
    assert data.endswith(bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000"))


@pytest.mark.parametrize("level", [0, 1, 3])
def test_bgzf_holds_incompressible_bytes_in_blocks_that_fit(tmp_path, level):
    data = np.random.default_rng(0).bytes(200_000)
    with BgzfWriter(tmp_path / "x.gz", level=level) as out:
        out.write(data[:7])
        out.write(data[7:])
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == data


def test_pysam_can_index_the_file_and_finds_the_same_rows(toy, rows, tmp_path):
    pysam = pytest.importorskip("pysam")
    path = tmp_path / "toy.tsv.gz"
    path.write_bytes(toy.fragments.read_bytes())
    pysam.tabix_index(str(path), preset="bed")
    with pysam.TabixFile(str(path)) as index:
        found = [line.split("\t") for line in index.fetch("chr2", 1_000_000, 3_000_000)]
    here = rows[(rows["chrom"] == "chr2") & (rows["start"] < 3_000_000) & (rows["end"] > 1_000_000)]
    assert [int(f[1]) for f in found] == here["start"].tolist()


def test_gtf_has_a_gene_and_its_transcripts_within_the_chromosome(toy):
    gtf = pd.read_csv(toy.genes, sep="\t", comment="#", header=None)
    assert set(gtf[2]) == {"gene", "transcript"}
    assert (gtf[2] == "gene").sum() == toy.n_genes
    assert (gtf[3] >= 1).all()
    assert (gtf[3] <= gtf[4]).all()
    assert (gtf[4] <= gtf[0].map(TOY.chrom_sizes)).all()
    transcripts = gtf[gtf[2] == "transcript"]
    gene = transcripts[8].str.extract('gene_id "([^"]+)"')[0]
    tss = np.where(transcripts[6] == "+", transcripts[3], transcripts[4])
    assert pd.Series(tss).groupby(gene.to_numpy()).nunique().max() == 1  # isoforms share their TSS
    assert gene.value_counts().max() == 2


def test_fragments_of_a_type_pile_up_in_the_peaks_open_in_it(toy, rows, cells):
    peaks = pd.read_csv(toy.peaks, sep="\t", header=None, names=["chrom", "start", "end", "name"])
    assert len(peaks) == toy.n_peaks
    only = peaks[peaks["name"].str.fullmatch(r"distal:type0")]
    closed = peaks[peaks["name"].str.fullmatch(r"distal:type[12]")]
    mine = rows[rows["barcode"].map((cells["cell_type"] == "type0") & (cells["is_doublet"] == 0))]

    def per_peak(table):
        hits = 0
        for chrom, part in table.groupby("chrom"):
            start = mine.loc[mine["chrom"] == chrom, "start"].to_numpy()
            hits += (np.searchsorted(start, part["end"]) - np.searchsorted(start, part["start"])).sum()
        return hits / len(table)

    assert per_peak(only) > 4 * per_peak(closed)


def test_distal_peaks_overlap_no_other_peak(toy):
    peaks = pd.read_csv(toy.peaks, sep="\t", header=None, names=["chrom", "start", "end", "name"])
    for _, part in peaks.groupby("chrom"):
        assert part["start"].is_monotonic_increasing
        touches = part["start"].to_numpy()[1:] < part["end"].to_numpy()[:-1]
        distal = part["name"].str.startswith("distal").to_numpy()
        assert not (touches & (distal[1:] | distal[:-1])).any()


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    small = {"n_cells": 10, "n_types": 2, "fragments_per_cell": 50, "genome": TOY}
    runs = (("a", 1), ("b", 1), ("c", 2))
    a, b, c = (simulate_fragments(tmp_path / name, seed=seed, **small) for name, seed in runs)
    for kind in ("fragments", "cells", "genes", "peaks", "chrom_sizes"):
        assert getattr(a, kind).read_bytes() == getattr(b, kind).read_bytes()
    assert gzip.decompress(a.fragments.read_bytes()) != gzip.decompress(c.fragments.read_bytes())


def test_sample_without_doublets_empties_or_mito_can_be_made(tmp_path):
    none = {"doublet_rate": 0, "empty_per_cell": 0, "mito_fraction": 0, "n_distal_peaks": 0}
    few = {"n_cells": 1, "n_types": 1, "n_genes": 5, "fragments_per_cell": 200}
    made = simulate_fragments(tmp_path / "x", genome=Genome("one", {"1": 100_000}), **none, **few)
    assert (made.n_cells, made.n_doublets, made.n_empty, made.n_mito) == (1, 0, 0, 0)
    assert set(read_rows(made.fragments)["chrom"].astype(str)) == {"1"}


def test_file_that_exists_is_kept_unless_told_to_replace(tmp_path):
    small = {"n_cells": 3, "fragments_per_cell": 10, "genome": TOY}
    (tmp_path / "x.cells.tsv").write_text("mine")
    with pytest.raises(OutputExistsError, match=re.escape("x.cells.tsv exists already")):
        simulate_fragments(tmp_path / "x", **small)
    assert [p.name for p in tmp_path.iterdir()] == ["x.cells.tsv"]
    simulate_fragments(tmp_path / "x", force=True, **small)
    assert (tmp_path / "x.cells.tsv").read_text() != "mine"
    assert len(list(tmp_path.iterdir())) == 5


def test_failure_half_way_leaves_no_file(tmp_path, monkeypatch):
    def fail(*_):
        msg = "no space left"
        raise OSError(msg)

    monkeypatch.setattr("gpuatac.simulate.samples.write_peaks", fail)
    with pytest.raises(OSError, match="no space left"):
        simulate_fragments(tmp_path / "x", n_cells=3, fragments_per_cell=10, genome=TOY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_cells": 0}, "n_cells must be at least 1, got 0"),
        ({"n_types": 1.5}, "n_types must be a whole number"),
        ({"doublet_rate": 2}, r"doublet_rate must be in \[0, 1\], got 2"),
        ({"duplicate_rate": 1}, "duplicate_rate must be in"),
        ({"genome": "hg99"}, r"genome \(neither one of hg38, .* nor a file\): hg99 does not exist"),
        ({"genome": 38}, r"genome must be a name \(hg38, .*\), the path of .*, or a Genome, got 38 \(int\); pass one"),
        ({"genome": Genome("m", {"chrM": 16_569})}, "no chromosome to put fragments on; allowed: "),
    ],
)
def test_wrong_argument_is_named(tmp_path, wrong, message):
    with pytest.raises((InputError, MissingFileError), match=message):
        simulate_fragments(tmp_path / "x", **wrong)


def test_genome_may_be_a_file_of_sizes_an_index_or_a_fasta(tmp_path):
    small = {"n_cells": 3, "fragments_per_cell": 10}
    (tmp_path / "toy.chrom.sizes").write_text("chr2\t50000\nchr1\t100000\n")
    (tmp_path / "toy.fai").write_text("chr2\t50000\t0\t60\t61\nchr1\t100000\t0\t60\t61\n")
    (tmp_path / "toy.fa").write_text(f">chr1\n{'A' * 100_000}\n>chr2\n{'C' * 50_000}\n")
    whole = simulate_fragments(tmp_path / "whole", genome=Genome("toy", {"chr1": 100_000, "chr2": 50_000}), **small)
    for k, name in enumerate(("toy.chrom.sizes", "toy.fai", "toy.fa")):
        made = simulate_fragments(tmp_path / f"made{k}", genome=tmp_path / name if k else str(tmp_path / name), **small)
        assert made.fragments.read_bytes() == whole.fragments.read_bytes()
        assert made.chrom_sizes.read_text() == "chr1\t100000\nchr2\t50000\n"


@pytest.mark.slow
def test_spectral_embedding_and_leiden_find_the_types_of_the_default_sample(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    igraph = pytest.importorskip("igraph")
    from scipy.sparse.linalg import LinearOperator, eigsh
    from sklearn.metrics import adjusted_rand_score
    from sklearn.neighbors import NearestNeighbors

    made = simulate_fragments(tmp_path / "demo")
    truth = pd.read_csv(made.cells, sep="\t", keep_default_na=False).set_index("barcode")
    truth = truth[truth["is_cell"] == 1]
    rows = read_rows(made.fragments)
    rows = rows[rows["barcode"].isin(truth.index) & ~rows["chrom"].isin(["chrM", "chrY"])]
    cell = pd.Index(truth.index).get_indexer(rows["barcode"])
    chrom = rows["chrom"].astype("category").cat.codes.to_numpy(np.int64)
    bins = [chrom * 50_000 + site // 5_000 for site in (rows["start"].to_numpy(), rows["end"].to_numpy() - 1)]
    columns = np.unique(np.concatenate(bins), return_inverse=True)[1]
    x = sparse.csr_matrix((np.ones(len(columns)), (np.tile(cell, 2), columns)))
    n = x.shape[0]
    document_share = np.clip(np.asarray((x > 0).sum(axis=0)).ravel(), 1, n - 1)
    y = x @ sparse.diags(np.log(n / document_share))
    y = sparse.diags(1 / np.sqrt(np.asarray(y.multiply(y).sum(axis=1)).ravel())) @ y
    degree = y @ (y.T @ np.ones(n)) - 1
    z = sparse.diags(degree**-0.5) @ y
    walk = LinearOperator((n, n), matvec=lambda v: z @ (z.T @ v) - v / degree, dtype=np.float64)
    values, vectors = eigsh(walk, k=30, which="LA", v0=np.ones(n))
    order = np.argsort(-values)[1:]  # the first follows depth
    embedding = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
    index = NearestNeighbors(n_neighbors=50).fit(embedding)
    near = index.kneighbors(return_distance=False)  # without the cell itself
    graph = igraph.Graph(n, np.column_stack([np.repeat(np.arange(n), 50), near.ravel()]).tolist())
    random.seed(0)  # igraph draws from it
    found = np.array(graph.community_leiden("modularity", n_iterations=-1).membership)
    single = (truth["is_doublet"] == 0).to_numpy()
    assert adjusted_rand_score(truth["cell_type"], found) > 0.9
    assert adjusted_rand_score(truth["cell_type"][single], found[single]) > 0.97
    assert len(set(found)) == 6
