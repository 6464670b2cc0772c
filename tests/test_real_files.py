"""Every fragment file of the real data through ``pp.import_fragments``, against the truth that comes with it."""

from __future__ import annotations

import gzip
from collections import Counter

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import gpuatac as ga
from gpuatac.errors import InputError
from gpuatac.io.fragments import attach

pytestmark = pytest.mark.data

ARCHR = "scatac/archr_pbsmall_hg19/PBSmall.tsv.gz"
C1 = "scatac/c1_39cells_hg19/c1_39cells.hg19.fragments.tsv.gz"
PBMC = "scatac/pbmc500_chr22_hg38/test.fragments.tsv.gz"
MUON = "multiome/muon_pbmc/test_rna_atac_fragments.tsv.gz"
QC = {
    ARCHR: ("hg19", "archr.snapatac2_qc.tsv"),
    C1: ("hg19", "c1.snapatac2_qc.tsv"),
    PBMC: ("hg38", "macs_chr22.snapatac2_qc.tsv"),
}


def imported(data_dir, file, genome, **options):
    options = {"min_num_fragments": 0, "device": "cpu", **options}
    return ga.pp.import_fragments(data_dir / file, ga.Genome.builtin(genome), **options)


def summary_of(adata):
    (summary,) = ga.pp.read_summaries(adata).values()
    assert summary.accounted
    return summary


# ----------------------------------------------------------------------------------------- SnapATAC2


@pytest.mark.parametrize("file", QC)
def test_cell_totals_equal_snapatac2s_exactly(data_dir, file):
    genome, table = QC[file]
    peer = pd.read_csv((data_dir / file).parent / table, sep="\t", index_col=0, dtype=str).astype(float)
    adata = imported(data_dir, file, genome)
    assert adata.obs_names.tolist() == sorted(peer.index, key=str.encode)
    ours = adata.obs.loc[peer.index]
    for column in ("n_fragment", "frac_dup", "frac_mito"):
        assert ours[column].tolist() == peer[column].tolist()
    assert peer["frac_dup"].max() > 0 or file != PBMC


@pytest.mark.parametrize("file", QC)
def test_tsse_equals_snapatac2s_on_the_coding_transcripts_of_refgene(data_dir, file):
    """The stored scores were made with the NM_ (protein-coding) transcripts; all of them give other numbers."""
    genome, table = QC[file]
    peer = pd.read_csv((data_dir / file).parent / table, sep="\t", index_col=0, dtype=str).astype(float)
    transcripts = ga.io.read_transcripts(data_dir / "annotation" / "genes" / f"{genome}.refGene.txt.gz")
    coding = transcripts[transcripts["transcript_id"].str.startswith("NM_")]
    adata = imported(data_dir, file, genome)
    ga.metrics.tsse(adata, coding)
    np.testing.assert_allclose(adata.obs.loc[peer.index, "tsse"], peer["tsse"], rtol=0, atol=1e-9)
    ga.metrics.tsse(adata, transcripts)
    assert np.abs(adata.obs.loc[peer.index, "tsse"] - peer["tsse"]).max() > 1


# ------------------------------------------------------------------------------------ every file reads

#: file: (genome, lines, kept, dropped, cells, columns, compression)
READ = {
    ARCHR: ("hg19", 29_399, 29_399, {}, 150, 5, "bgzf"),
    C1: ("hg19", 357_282, 357_282, {}, 39, 5, "bgzf"),
    PBMC: ("hg38", 57_115, 57_115, {}, 100, 5, "gzip"),
    MUON: ("hg38", 367_439, 367_439, {}, 24_508, 5, "bgzf"),
    "formats/bpcells_four_columns/mini_fragments.tsv.gz": ("hg19", 14_678, 14_678, {}, 2065, 4, "gzip"),
    "formats/macs_tiny/tiny.bedpe.gz": ("hg38", 1000, 1000, {}, 1, 3, "gzip"),
    "formats/macs_tiny/tiny.frag.tsv.gz": ("hg38", 4, 4, {}, 1, 5, "gzip"),
    "formats/signac_header/fragments.tsv.gz": ("hg38", 100, 100, {}, 54, 5, "bgzf"),
    "formats/signac_header/fragments_header.tsv.gz": ("hg38", 151, 100, {"comment": 51}, 54, 5, "bgzf"),
    "formats/snapatac2_unsorted/test.bed.gz": ("hg38", 6216, 6202, {"unknown chromosome": 14}, 1, 5, "gzip"),
    "formats/snapatac2_unsorted/test_clean.tsv.gz": ("hg38", 17_751, 17_751, {}, 17_751, 5, "gzip"),
    "coverage/snapatac2/fragments.tsv.gz": ("hg38", 964, 964, {}, 1, 5, "gzip"),
    "coverage/snapatac2/coverage.bdg.gz": ("hg38", 980, 980, {}, 3, 4, "gzip"),  # a bedGraph looks like four columns
}


@pytest.mark.parametrize("file", READ)
def test_file_is_read_with_every_line_accounted_for(data_dir, file):
    genome, lines, kept, dropped, cells, columns, compression = READ[file]
    adata = imported(data_dir, file, genome)
    s = summary_of(adata)
    assert (s.lines, s.kept, s.n_columns, s.compression) == (lines, kept, columns, compression)
    assert {k: n for k, n in s.dropped.items() if n} == dropped
    assert adata.n_obs == cells
    with gzip.open(data_dir / file, "rt") as text:
        rows = [line.rstrip("\n").split("\t") for line in text if line[0] != "#"]
    known = set(ga.Genome.builtin(genome).code)
    expected = Counter(
        row[3] if columns > 3 else adata.obs_names[0] for row in rows if row[0] in known and row[0] != "chrM"
    )
    assert adata.obs["n_fragment"].sum() == sum(expected.values())
    assert adata.obs["n_fragment"].to_dict() == {cell: expected[cell] for cell in adata.obs_names}


def test_every_fragment_file_of_these_folders_is_tested_here(data_dir):
    folders = ("scatac", "formats", "coverage", "multiome/muon_pbmc")
    found = {
        str(p.relative_to(data_dir))
        for folder in folders
        for p in (data_dir / folder).rglob("*")
        if p.name.endswith((".tsv.gz", ".bed.gz", ".bedpe.gz", ".bdg.gz", ".bam"))
    }
    assert found == {*READ, BAM}


def test_the_wrong_assembly_is_said_to_be_wrong(data_dir):
    adata = imported(data_dir, "formats/bpcells_four_columns/mini_fragments.tsv.gz", "hg38")
    s = summary_of(adata)
    assert s.dropped["outside the chromosome"] == 139
    assert "is hg38 the assembly of this file?" in s.as_text()


def test_grouped_by_barcode_and_unsorted_files_come_out_sorted(data_dir):
    for file in (PBMC, "formats/snapatac2_unsorted/test_clean.tsv.gz"):
        adata = imported(data_dir, file, "hg38")
        assert not summary_of(adata).sorted_input
        fragments = attach.attached(adata)[0].fragments
        for _, rows in fragments.chromosomes():
            assert (np.diff(fragments.start[rows]) >= 0).all()


def test_a_header_changes_nothing(data_dir):
    plain = imported(data_dir, "formats/signac_header/fragments.tsv.gz", "hg38")
    headed = imported(data_dir, "formats/signac_header/fragments_header.tsv.gz", "hg38")
    assert plain.obs.equals(headed.obs)


def test_read_names_glued_to_barcodes_are_named_as_they_stand(data_dir):
    adata = imported(data_dir, "formats/snapatac2_unsorted/test_clean.tsv.gz", "hg38")
    assert adata.obs_names[0].startswith("AAATCCGCATAAAGGATCGGCT:K00168:263:")


def test_barcode_list_keeps_its_cells(data_dir):
    listed = (data_dir / PBMC).parent / "barcodes.txt"
    adata = imported(data_dir, PBMC, "hg38", whitelist=listed)
    assert adata.obs_names.tolist() == sorted(listed.read_text().split())
    s = summary_of(adata)
    assert s.dropped["barcode not in whitelist"] == 57_115 - s.kept > 0


@pytest.mark.parametrize("file", [ARCHR, PBMC])
def test_data_set_holds_the_same_as_the_source(data_dir, file, tmp_path):
    genome, _ = QC[file]
    adata = imported(data_dir, file, genome, out=tmp_path)
    stem = summary_of(adata).source.removesuffix(".tsv.gz").removesuffix(".fragments")
    again = ga.pp.import_fragments(
        tmp_path / f"{stem}.fragments", ga.Genome.builtin(genome), min_num_fragments=0, device="cpu"
    )
    assert again.obs.equals(adata.obs)


# ------------------------------------------------------------------------------------------------ BAM

BAM = "formats/macs_tiny/tiny.bam"


def test_bam_of_the_wrong_assembly_is_refused(data_dir):
    with pytest.raises(
        InputError, match=r"chr10 has 135,534,747 bp in .*tiny\.bam and 133,797,422 bp in genome hg38; pass"
    ):
        imported(data_dir, BAM, "hg38")


def test_single_reads_of_a_bam_are_a_bulk_sample(data_dir):
    """971 reads of 36 bp, all mapped with quality 37, none paired; rows are what pysam says, duplicates collapsed."""
    pysam = pytest.importorskip("pysam", reason="pysam is the oracle; install gpuatac[dev]")
    with pysam.AlignmentFile(str(data_dir / BAM)) as file:
        reads = [
            (r.reference_name, r.reference_start, r.reference_end, r.is_reverse) for r in file.fetch(until_eof=True)
        ]
        sizes = dict(zip(file.references, file.lengths, strict=True))
    assert len(reads) == 971
    adata = ga.pp.import_fragments(
        data_dir / BAM, ga.Genome("hg19", sizes), device="cpu", bam_options={"barcode_tag": None, "is_paired": False}
    )
    assert adata.n_obs == 1
    fragments = attach.attached(adata)[0].fragments
    names = [fragments.genome.names[c] for c in fragments.chrom_codes()]
    strand = (fragments.strand < 0).tolist()
    rows = list(zip(names, fragments.start.tolist(), fragments.end.tolist(), strand, strict=True))
    assert Counter(rows) == Counter(set(reads))
    assert fragments.count.sum() == 971


def test_single_reads_under_the_rules_of_pairs_are_refused_with_the_remedy(data_dir):
    with pytest.raises(
        InputError, match=r"none of 971 reads in .*tiny\.bam is paired; pass is_paired=False \(--single-end\) for"
    ):
        ga.io.read_bam_fragments(data_dir / BAM)


# ---------------------------------------------------------------------------------------- peak counts


def read_matrix(group, shape):
    return sp.csr_matrix((group["data"][:], group["indices"][:], group["indptr"][:]), shape=shape).toarray()


def test_maestro_peak_counts_are_the_overlaps_of_fragments(data_dir):
    with h5py.File((data_dir / PBMC).parent / "test_peak_count.h5") as file:
        group = file["matrix"]
        barcodes = [b.decode().partition("#")[2] for b in group["barcodes"][:]]
        peaks = [p.decode().split("_") for p in group["features/id"][:]]
        expected = read_matrix(group, (len(barcodes), len(peaks)))
    assert expected.shape == (100, 4283)
    adata = imported(data_dir, PBMC, "hg38")
    counts = ga.pp.make_peak_matrix(adata, [f"{c}:{s}-{e}" for c, s, e in peaks], counting_strategy="fragment")
    ours = counts[barcodes].X.toarray() > 0
    assert ours.sum() == 29_773
    assert np.array_equal(ours, expected > 0)


def test_10x_peak_counts_reproduce_as_the_readme_says(data_dir):
    """123 of 174 columns are exact when ``start`` and ``end`` are the cuts; ours are ``start`` and ``end - 1``: 119."""
    with h5py.File((data_dir / MUON).parent / "test_rna_atac.h5mu") as file:
        group = file["mod/atac"]
        cells, peaks = ([v.decode() for v in group[key][:]] for key in ("obs/_index", "var/_index"))
        expected = read_matrix(group["X"], (len(cells), len(peaks)))
    adata = imported(data_dir, MUON, "hg38", whitelist=cells)
    part = attach.attached(adata)[0].fragments
    at = {cell: i for i, cell in enumerate(cells)}
    row = np.array([at[b] for b in part.barcodes])[part.cell]
    chrom = np.array(part.genome.names)[part.chrom_codes()]
    by_hand = np.zeros_like(expected)
    for i, peak in enumerate(peaks):
        name, start, end = peak.replace(":", "-").split("-")
        for cut in (part.start, part.end):
            inside = (chrom == name) & (cut >= int(start)) & (cut < int(end))
            by_hand[:, i] += np.bincount(row[inside], minlength=len(cells))
    assert (by_hand == expected).all(axis=0).sum() == 123
    counts = ga.pp.make_peak_matrix(adata, peaks, counting_strategy="insertion")
    ours = np.zeros_like(expected)
    ours[[at[c] for c in counts.obs_names]] = counts.X.toarray()
    assert (ours == expected).all(axis=0).sum() == 119
    assert np.abs(ours - by_hand).max() <= 2  # cuts at a peak's last base


# -------------------------------------------------------------------------------------------- coverage


def test_fragments_pile_up_to_snapatac2s_bedgraph(data_dir):
    """980 rows: the coverage by whole fragments, computed here from the columns that were read."""
    adata = imported(data_dir, "coverage/snapatac2/fragments.tsv.gz", "hg38")
    part = attach.attached(adata)[0].fragments
    rows = []
    for code, span in part.chromosomes():
        position = np.concatenate([part.start[span], part.end[span]])
        change = np.repeat([1, -1], span.stop - span.start)
        edges, inverse = np.unique(position, return_inverse=True)
        depth = np.cumsum(np.bincount(inverse, weights=change)).astype(int)
        merged = np.flatnonzero(np.diff(depth, prepend=0))  # an edge where the depth stays the same is none
        edges, depth = edges[merged], depth[merged]
        name = part.genome.names[code]
        rows += [(name, int(a), int(b), int(d)) for a, b, d in zip(edges, edges[1:], depth, strict=False) if d]
    with gzip.open(data_dir / "coverage/snapatac2/coverage.bdg.gz", "rt") as text:
        expected = [(c, int(s), int(e), float(d)) for c, s, e, d in (line.split("\t") for line in text)]
    assert len(expected) == 980
    assert sorted(rows) == sorted(expected)
