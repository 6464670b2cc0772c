"""Quality measures of a small sample against the oracles; slots, arguments and errors."""

from __future__ import annotations

import numpy as np
import oracles
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.errors import InputError, MissingFileError, MissingSlotError

SIZES = {"chr1": 30_000, "chr2": 12_000, "chrM": 900}
BARCODES = ["AA-1", "CC-1", "GG-1"]
TRANSCRIPTS = [
    oracles.Transcript("chr1", 9000, 12_000, "+", "t1", "g1", "G1"),
    oracles.Transcript("chr1", 9000, 15_000, "+", "t2", "g1", "G1"),  # the same TSS once more
    oracles.Transcript("chr1", 17_000, 21_000, "-", "t3", "g2", "G2"),
    oracles.Transcript("chr2", 700, 5000, "+", "t4", "g3", "G3"),  # nearer than 2 kb to the start
    oracles.Transcript("chrM", 100, 700, "+", "t5", "g4", "G4"),
]
PEAKS = [("chr1", 8500, 9500), ("chr2", 0, 800), ("chr1", 9400, 9600), ("chrM", 0, 450), ("chr9", 1, 5)]


def random_fragments(seed, n=700):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        chrom = rng.choice(list(SIZES), p=[0.6, 0.35, 0.05])
        start = int(rng.integers(0, SIZES[chrom]))
        if chrom == "chr1" and rng.random() < 0.5:
            start = int(rng.choice([8990, 20_990])) + int(rng.integers(0, 20))
        end = min(start + int(rng.integers(1, 500)), SIZES[chrom])
        out.append(oracles.Fragment(chrom, start, end, str(rng.choice(BARCODES)), int(rng.integers(1, 4))))
    return out


def frame(rows=TRANSCRIPTS):
    return pd.DataFrame(rows, columns=list(oracles.Transcript._fields))


def write(path, fragments):
    path.write_text("".join(f"{f.chrom}\t{f.start}\t{f.end}\t{f.barcode}\t{f.count}\n" for f in fragments))
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    fragments = random_fragments(0)
    return fragments, write(tmp_path_factory.mktemp("toy") / "toy.tsv", fragments)


@pytest.fixture
def adata(toy):
    return ga.pp.import_fragments(toy[1], ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")


@pytest.fixture
def fragments(toy):
    return toy[0]


# ------------------------------------------------------------------------------------------------------ TSSe


def test_tss_enrichment_of_cells_and_library_equals_the_oracle(adata, fragments):
    ga.metrics.tsse(adata, frame())
    expected = oracles.tss_enrichment(fragments, BARCODES, TRANSCRIPTS)
    np.testing.assert_allclose(adata.obs["tsse"], expected.score, rtol=1e-12)
    np.testing.assert_array_equal(adata.uns["TSS_profile"], expected.profile)
    assert adata.uns["library_tsse"] == pytest.approx(expected.library, rel=1e-12)
    assert adata.uns["frac_overlap_TSS"] == pytest.approx(expected.frac_overlap, rel=1e-12)
    assert adata.obs["tsse"].dtype == np.float64
    assert adata.uns["TSS_profile"].dtype == np.int64
    assert adata.uns["TSS_profile"].shape == (4001,)
    assert isinstance(adata.uns["library_tsse"], float)


def test_genes_come_as_frame_genome_or_file_with_one_result(adata, tmp_path):
    gtf = tmp_path / "genes.gtf"
    gtf.write_text("".join(
        f"{t.chrom}\tx\ttranscript\t{t.start + 1}\t{t.end}\t.\t{t.strand}\t.\t"
        f'gene_id "{t.gene_id}"; transcript_id "{t.transcript_id}"; gene_name "{t.gene_name}";\n'
        for t in TRANSCRIPTS
    ))  # fmt: skip
    scores = []
    for genes in (frame(), ga.Genome("toy", SIZES).with_transcripts(frame()), gtf, str(gtf)):
        ga.metrics.tsse(adata, genes)
        scores.append(adata.obs["tsse"].to_numpy(copy=True))
    for other in scores[1:]:
        np.testing.assert_array_equal(other, scores[0])


def test_excluded_chromosomes_lose_their_tss_and_keep_their_cuts(adata, fragments):
    ga.metrics.tsse(adata, frame(), exclude_chroms=("chr1", "chrM"))
    kept = [t for t in TRANSCRIPTS if t.chrom == "chr2"]
    expected = oracles.tss_enrichment(fragments, BARCODES, kept)
    np.testing.assert_array_equal(adata.uns["TSS_profile"], expected.profile)
    assert adata.uns["frac_overlap_TSS"] == pytest.approx(expected.frac_overlap)


def test_tss_near_the_chromosome_start_is_not_shifted(tmp_path):
    # SnapATAC2 2.9.0 starts its window at 0 and so moves this cut by 1,300 positions; here it stays at the TSS
    path = write(tmp_path / "a.tsv", [oracles.Fragment("chr2", 700, 701, "AA-1")])
    adata = ga.pp.import_fragments(path, ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")
    ga.metrics.tsse(adata, frame())
    assert np.flatnonzero(adata.uns["TSS_profile"]).tolist() == [2000]
    assert adata.obs["tsse"].tolist() == [pytest.approx(2 / 11 / 0.1)]


def test_genes_on_no_chromosome_are_refused(adata):
    elsewhere = frame([oracles.Transcript("scaffold", 10, 20, "+", "t", "g", "G")])
    with pytest.raises(InputError, match="scaffold"):
        ga.metrics.tsse(adata, elsewhere)
    with pytest.raises(InputError, match="genome toy carries no transcripts; pass genes"):
        ga.metrics.tsse(adata, ga.Genome("toy", SIZES))
    assert "tsse" not in adata.obs


# ----------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("top", [1, 50, 1000])
def test_fragment_sizes_equal_the_oracle(adata, fragments, top):
    ga.metrics.frag_size_distr(adata, max_recorded_size=top)
    found = adata.uns["frag_size_distr"]
    np.testing.assert_array_equal(found, oracles.frag_size_distr(fragments, max_recorded_size=top))
    assert found.dtype == np.int64
    assert found.sum() == len(fragments)


@pytest.mark.parametrize("bad", [0, -5, 2**31, 1.5])
def test_a_size_that_cannot_be_is_refused(adata, bad):
    with pytest.raises(InputError, match="max_recorded_size must be"):
        ga.metrics.frag_size_distr(adata, max_recorded_size=bad)
    assert "frag_size_distr" not in adata.uns


def test_nucleosome_signal_equals_the_oracle_with_inf_and_nan(tmp_path, adata, fragments):
    ga.metrics.nucleosome_signal(adata)
    np.testing.assert_allclose(adata.obs["nucleosome_signal"], oracles.nucleosome_signal(fragments, BARCODES))
    rows = [
        oracles.Fragment("chr1", 0, 147, "A"),
        oracles.Fragment("chr1", 0, 294, "B"),
        oracles.Fragment("chr1", 0, 146, "C"),
        oracles.Fragment("chr1", 0, 293, "C"),
    ]
    few = ga.pp.import_fragments(
        write(tmp_path / "a.tsv", rows), ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu"
    )
    ga.metrics.nucleosome_signal(few)
    np.testing.assert_array_equal(few.obs["nucleosome_signal"], [np.inf, np.nan, 1.0])


# ---------------------------------------------------------------------------------------------------- regions


@pytest.mark.parametrize("as_insertion", [False, True])
def test_fraction_in_regions_equals_the_oracle(adata, fragments, as_insertion):
    regions = pd.DataFrame(PEAKS, columns=["chrom", "start", "end"])
    ga.metrics.frip(adata, {"share": regions}, count_as_insertion=as_insertion)
    expected = oracles.frip(fragments, BARCODES, PEAKS, count_as_insertion=as_insertion)
    np.testing.assert_allclose(adata.obs["share"], expected, rtol=1e-12)
    ga.metrics.frip(adata, {"share": regions}, count_as_insertion=as_insertion, normalized=False)
    total = np.array([sum(f.barcode == b for f in fragments) for b in BARCODES]) * (1 + as_insertion)
    assert adata.obs["share"].dtype == np.int64
    np.testing.assert_array_equal(adata.obs["share"], np.rint(expected * total))


def test_regions_alone_go_to_the_column_frip_and_names_to_theirs(adata, tmp_path):
    bed = tmp_path / "peaks.bed"
    bed.write_text("".join(f"{c}\t{s}\t{e}\n" for c, s, e in PEAKS))
    names = [f"{c}:{s}-{e}" for c, s, e in PEAKS]
    ga.metrics.frip(adata, bed)
    ga.metrics.frip(adata, {"a": names, "b": str(bed), "c": ["chr1:0-30000"]})
    np.testing.assert_array_equal(adata.obs["frip"], adata.obs["a"])
    np.testing.assert_array_equal(adata.obs["frip"], adata.obs["b"])
    assert (adata.obs["c"] > adata.obs["a"]).all()
    ga.metrics.frip(adata, pd.DataFrame(PEAKS, columns=["chrom", "start", "end"]))
    np.testing.assert_array_equal(adata.obs["frip"], adata.obs["b"])


def test_blacklist_fraction_is_the_share_of_fragments_that_overlap(adata, fragments):
    ga.metrics.blacklist_fraction(adata, [f"{c}:{s}-{e}" for c, s, e in PEAKS])
    np.testing.assert_allclose(adata.obs["blacklist_fraction"], oracles.frip(fragments, BARCODES, PEAKS))


def test_regions_that_are_none_are_refused(adata, tmp_path):
    with pytest.raises(MissingFileError, match="does not exist; check the path"):
        ga.metrics.frip(adata, tmp_path / "nowhere.bed")
    with pytest.raises(InputError, match="chr1:100-200"):
        ga.metrics.frip(adata, ["chr1:200-100"])
    with pytest.raises(InputError, match="none of the 1 regions of blacklist lies on a chromosome of genome toy"):
        ga.metrics.blacklist_fraction(adata, ["chr77:1-5"])
    assert "blacklist_fraction" not in adata.obs


# -------------------------------------------------------------------------------------------------- together


def test_qc_computes_what_the_annotation_allows(adata):
    ga.metrics.qc(adata)
    assert {"nucleosome_signal"} <= set(adata.obs)
    assert "frag_size_distr" in adata.uns
    assert not {"tsse", "blacklist_fraction", "frip"} & set(adata.obs)
    ga.metrics.qc(
        adata, genes=frame(), blacklist=["chr1:0-100"], regions={"mine": ["chr1:0-9000"]}, max_recorded_size=50
    )
    assert {"tsse", "blacklist_fraction", "mine"} <= set(adata.obs)
    assert adata.uns["frag_size_distr"].shape == (51,)


def test_cells_taken_out_or_reordered_keep_their_own_values(adata):
    ga.metrics.qc(adata, genes=frame())
    part = adata[["GG-1", "AA-1"]].copy()
    expected = part.obs.copy()
    ga.metrics.qc(part, genes=frame())
    pd.testing.assert_frame_equal(part.obs, expected)
    assert part.uns["frag_size_distr"].sum() < adata.uns["frag_size_distr"].sum()


def test_samples_are_measured_each_by_its_own_fragments(tmp_path):
    tables = {name: random_fragments(seed, 300) for seed, name in enumerate(["one", "two"], 1)}
    files = [write(tmp_path / f"{name}.tsv", rows) for name, rows in tables.items()]
    adata = ga.pp.import_fragments(files, ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")
    ga.metrics.qc(adata, genes=frame(), regions={"share": [f"{c}:{s}-{e}" for c, s, e in PEAKS]})
    profile = 0
    for name, rows in tables.items():
        own = adata.obs[adata.obs["sample"] == name]
        expected = oracles.tss_enrichment(rows, BARCODES, TRANSCRIPTS)
        np.testing.assert_allclose(own["tsse"], expected.score, rtol=1e-12)
        np.testing.assert_allclose(own["share"], oracles.frip(rows, BARCODES, PEAKS))
        np.testing.assert_allclose(own["nucleosome_signal"], oracles.nucleosome_signal(rows, BARCODES))
        profile = profile + expected.profile
    np.testing.assert_array_equal(adata.uns["TSS_profile"], profile)
    both = [f for rows in tables.values() for f in rows]
    np.testing.assert_array_equal(adata.uns["frag_size_distr"], oracles.frag_size_distr(both))


def test_data_without_fragments_say_where_they_come_from():
    import anndata

    bare = anndata.AnnData(np.ones((2, 2), np.float32))
    for verb in (
        ga.metrics.nucleosome_signal,
        ga.metrics.frag_size_distr,
        lambda a: ga.metrics.tsse(a, frame()),
        lambda a: ga.metrics.frip(a, ["chr1:1-5"]),
    ):
        with pytest.raises(MissingSlotError, match=r"pp\.import_fragments"):
            verb(bare)


def test_every_measure_is_recorded_with_its_parameters(adata):
    ga.metrics.tsse(adata, frame(), exclude_chroms=["chrM"])
    ga.metrics.frag_size_distr(adata, max_recorded_size=77)
    ga.metrics.nucleosome_signal(adata)
    ga.metrics.frip(adata, {"x": ["chr1:1-50"]})
    ga.metrics.blacklist_fraction(adata, ["chr1:1-50"])
    records = {r["verb"]: r for r in ga.pp.history(adata)}
    assert list(records) == [
        "pp.import_fragments", "metrics.tsse", "metrics.frag_size_distr", "metrics.nucleosome_signal",
        "metrics.frip", "metrics.blacklist_fraction",
    ]  # fmt: skip
    assert records["metrics.frag_size_distr"]["parameters"] == {"max_recorded_size": 77}
    assert records["metrics.tsse"]["parameters"]["exclude_chroms"] == ["chrM"]
    for record in records.values():
        assert record["version"] == ga.__version__
        assert record["device"] == "cpu"
        assert record["seconds"] >= 0
