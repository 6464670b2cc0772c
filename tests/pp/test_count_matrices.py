"""Tile, peak and gene matrices of a small sample against the oracles; var, arguments and errors."""

from __future__ import annotations

import tracemalloc

import anndata as ad
import numpy as np
import oracles
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.backend.protocol import STRATEGIES
from gpuatac.errors import InputError, MissingSlotError

SIZES = {"chr1": 12_345, "chr10": 4000, "chr2": 999, "chrM": 600, "chrY": 800, "chrX": 5}
BARCODES = ["AA-1", "CC-1", "GG-1"]
TRANSCRIPTS = [
    oracles.Transcript("chr1", 5000, 7000, "+", "t1", "g1", "G1"),
    oracles.Transcript("chr1", 2500, 4200, "-", "t2", "g2", "G2"),
    oracles.Transcript("chr1", 5500, 9000, "+", "t3", "g1", "G1"),
    oracles.Transcript("scaffold", 1, 900, "+", "t4", "g4", "G4"),
    oracles.Transcript("chr10", 100, 3000, "+", "t5", "g5", "G5"),
    oracles.Transcript("chr10", 2000, 3900, "-", "t6", "g2", "G2"),  # one name, two places
]


def random_fragments(seed, n=500):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        chrom = str(rng.choice(list(SIZES), p=[0.5, 0.3, 0.1, 0.04, 0.03, 0.03]))
        start = int(rng.integers(0, SIZES[chrom]))
        end = min(start + int(rng.integers(1, 700)), SIZES[chrom])
        out.append(oracles.Fragment(chrom, start, end, str(rng.choice(BARCODES))))
    return out


def write(path, fragments):
    path.write_text("".join(f"{f.chrom}\t{f.start}\t{f.end}\t{f.barcode}\n" for f in fragments))
    return path


def frame(rows=TRANSCRIPTS):
    return pd.DataFrame(rows, columns=list(oracles.Transcript._fields))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    fragments = random_fragments(0)
    return fragments, write(tmp_path_factory.mktemp("matrices") / "toy.tsv", fragments)


@pytest.fixture
def fragments(toy):
    return toy[0]


@pytest.fixture
def adata(toy):
    return ga.pp.import_fragments(toy[1], ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")


# ------------------------------------------------------------------------------------------------------ tiles


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("bin_size", [1, 500, 20_000])
def test_tile_matrix_equals_the_oracle(adata, fragments, strategy, bin_size):
    ga.pp.add_tile_matrix(adata, bin_size=bin_size, counting_strategy=strategy)
    expected = oracles.tile_counts(fragments, BARCODES, SIZES, bin_size=bin_size, strategy=strategy)
    np.testing.assert_array_equal(adata.X.toarray(), expected)
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.int32
    assert adata.X.has_canonical_format
    assert adata.var_names.tolist() == oracles.tile_names(SIZES, bin_size=bin_size)


def test_tile_coordinates_are_integers_and_the_last_tile_is_clipped(adata):
    ga.pp.add_tile_matrix(adata, bin_size=500)
    var = adata.var
    assert var["start"].dtype == var["end"].dtype == np.int32
    assert isinstance(var["chrom"].dtype, pd.CategoricalDtype)
    names = var["chrom"].astype(str) + ":" + var["start"].astype(str) + "-" + var["end"].astype(str)
    assert names.tolist() == var.index.tolist()
    last = var[var["chrom"] == "chr1"].iloc[-1]
    assert (last["start"], last["end"]) == (12_000, 12_345)
    assert (var["end"] - var["start"]).clip(upper=500).equals(var["end"] - var["start"])
    tiny = var[var["chrom"] == "chrX"]
    assert tiny[["start", "end"]].to_numpy().tolist() == [[0, 5]]


def test_default_bin_size_is_2000_as_in_the_main_job_and_counts_pairs(adata, fragments):
    ga.pp.add_tile_matrix(adata)
    np.testing.assert_array_equal(adata.X.toarray(), oracles.tile_counts(fragments, BARCODES, SIZES, bin_size=2000))


@pytest.mark.parametrize("excluded", [None, [], ["chr1"], ("chrM", "chrY")])
def test_excluded_chromosomes_have_no_tiles(adata, fragments, excluded):
    ga.pp.add_tile_matrix(adata, bin_size=777, exclude_chroms=excluded)
    expected = oracles.tile_counts(fragments, BARCODES, SIZES, bin_size=777, exclude=excluded or ())
    np.testing.assert_array_equal(adata.X.toarray(), expected)


def test_a_chromosome_to_exclude_may_be_one_name_in_any_spelling(adata, fragments):
    ga.pp.add_tile_matrix(adata, bin_size=777, exclude_chroms="1")
    expected = oracles.tile_counts(fragments, BARCODES, SIZES, bin_size=777, exclude=["chr1"])
    np.testing.assert_array_equal(adata.X.toarray(), expected)


def test_a_chromosome_to_exclude_that_the_genome_lacks_is_refused(adata):
    with pytest.raises(InputError, match="exclude_chroms names 'nonsense', which genome toy lacks; allowed: chr1"):
        ga.pp.add_tile_matrix(adata, exclude_chroms=["chrY", "nonsense"])


@pytest.mark.parametrize("prefix", ["chr", ""])
def test_mitochondrial_and_y_chromosomes_are_left_out_under_every_spelling(tmp_path, prefix):
    genome = ga.Genome("g", {f"{prefix}{name}": 100 for name in ("1", "2", "X", "Y", "M", "MT")})
    path = write(tmp_path / "a.tsv", [oracles.Fragment(name, 5, 60, "A") for name in genome.names])
    adata = ga.pp.import_fragments(path, genome, min_num_fragments=1, device="cpu")
    ga.pp.add_tile_matrix(adata)
    assert list(adata.var["chrom"]) == [f"{prefix}1", f"{prefix}2", f"{prefix}X"]
    assert adata.X.toarray().tolist() == [[1, 1, 1]]


def test_a_new_object_leaves_the_old_one_alone(adata):
    new = ga.pp.add_tile_matrix(adata, bin_size=1000, inplace=False)
    assert isinstance(new, ad.AnnData)
    assert adata.n_vars == 0
    assert new.obs_names.equals(adata.obs_names)
    ga.pp.add_tile_matrix(adata, bin_size=1000)
    np.testing.assert_array_equal(new.X.toarray(), adata.X.toarray())
    assert [r["verb"] for r in ga.pp.history(new)] == ["pp.import_fragments", "pp.add_tile_matrix"]
    ga.metrics.nucleosome_signal(new)  # it finds its fragments


def test_a_second_matrix_replaces_the_first_and_keeps_the_cells(adata, fragments):
    ga.metrics.nucleosome_signal(adata)
    adata.obsm["mine"] = np.arange(3.0)[:, None]
    ga.pp.add_tile_matrix(adata, bin_size=500)
    adata.var["extra"] = 1
    adata.layers["old"] = adata.X.copy()
    ga.pp.add_tile_matrix(adata, bin_size=2000)
    assert list(adata.var) == ["chrom", "start", "end"]
    assert "old" not in adata.layers
    assert adata.obsm["mine"].ravel().tolist() == [0, 1, 2]
    assert "nucleosome_signal" in adata.obs
    np.testing.assert_array_equal(
        adata.X.toarray(), oracles.tile_counts(fragments, BARCODES, SIZES, bin_size=2000)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bin_size": 0}, r"bin_size must be in \[1, .*got 0"),
        ({"bin_size": 2.5}, "bin_size must be a whole number, got 2.5"),
        ({"bin_size": True}, "bin_size must be a whole number, got True"),
        ({"counting_strategy": "reads"}, "counting_strategy must be one of 'insertion', 'fragment', 'paired"),
        ({"exclude_chroms": list(SIZES)}, "exclude_chroms"),
    ],
)
def test_bad_tile_arguments_are_refused(adata, options, message):
    with pytest.raises(InputError, match=message):
        ga.pp.add_tile_matrix(adata, **options)
    assert adata.n_vars == 0
    assert len(ga.pp.history(adata)) == 1


def test_too_many_tiles_are_refused_with_the_remedy(toy):
    big = ga.Genome("big", {f"chr{i}": 2**31 - 1 for i in range(1, 4)})
    adata = ga.pp.import_fragments(toy[1], big, min_num_fragments=1, device="cpu")
    with pytest.raises(InputError, match=r"number of tiles \(raise bin_size\)"):
        ga.pp.add_tile_matrix(adata, bin_size=2)


def test_var_of_six_million_tiles_stays_below_a_gigabyte(tmp_path):
    genome = ga.Genome.builtin("hg38")
    path = write(tmp_path / "a.tsv", [oracles.Fragment("chr1", 5, 60, "A")])
    adata = ga.pp.import_fragments(path, genome, min_num_fragments=1, device="cpu")
    ga.pp.add_tile_matrix(adata, bin_size=500)
    var = adata.var
    assert len(var) > 6_000_000
    assert var["start"].dtype == np.int32
    assert var.memory_usage(deep=True).sum() < 2**30
    assert adata.X.data.nbytes + adata.X.indices.nbytes + adata.X.indptr.nbytes < 100
    assert var.index[-1] == f"chrX:{var['start'].iloc[-1]}-{genome.chrom_sizes['chrX']}"


def test_making_the_matrix_takes_little_more_than_its_var(tmp_path):
    path = write(tmp_path / "a.tsv", [oracles.Fragment("chr1", 5, 60, "A")])
    adata = ga.pp.import_fragments(path, ga.Genome.builtin("hg38"), min_num_fragments=1, device="cpu")
    tracemalloc.start()
    ga.pp.add_tile_matrix(adata, bin_size=10_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * adata.var.memory_usage(deep=True).sum()


def test_cells_taken_out_are_counted_by_barcode(adata, fragments):
    part = adata[["GG-1", "AA-1"]].copy()
    ga.pp.add_tile_matrix(part, bin_size=500)
    np.testing.assert_array_equal(
        part.X.toarray(), oracles.tile_counts(fragments, ["GG-1", "AA-1"], SIZES)
    )


def test_samples_do_not_mix_equal_barcodes(tmp_path):
    tables = {name: random_fragments(seed, 200) for seed, name in enumerate(["one", "two"], 1)}
    files = [write(tmp_path / f"{name}.tsv", rows) for name, rows in tables.items()]
    adata = ga.pp.import_fragments(files, ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")
    adata = adata[::-1].copy()
    ga.pp.add_tile_matrix(adata, bin_size=900, counting_strategy="insertion")
    genes = ga.pp.make_gene_matrix(adata, frame())
    for name, rows in tables.items():
        mine = (adata.obs["sample"] == name).to_numpy()
        barcodes = adata.obs["barcode"][mine].tolist()
        expected = oracles.tile_counts(rows, barcodes, SIZES, bin_size=900, strategy="insertion")
        np.testing.assert_array_equal(adata.X[mine].toarray(), expected)
        known = [t for t in TRANSCRIPTS if t.chrom in SIZES]
        np.testing.assert_array_equal(genes.X[mine].toarray(), oracles.gene_counts(rows, barcodes, known)[1])


# ------------------------------------------------------------------------------------------------------ peaks


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_peak_matrix_equals_the_oracle_in_the_order_given(adata, fragments, strategy):
    peaks = [("chr10", 100, 900), ("chr1", 0, 1), ("chr1", 11_000, 12_345), ("chr10", 100, 900), ("chrZ", 5, 9)]
    peaks += [("chr1", 3000, 9000), ("chr1", 4000, 4100), ("chrM", 0, 600)]
    regions = pd.DataFrame(peaks, columns=["chrom", "start", "end"])
    with pytest.warns(UserWarning, match="Variable names are not unique"):  # AnnData tells of the repeat
        found = ga.pp.make_peak_matrix(adata, regions, counting_strategy=strategy)
    np.testing.assert_array_equal(
        found.X.toarray(), oracles.region_counts(fragments, BARCODES, peaks, strategy=strategy)
    )
    assert found.X.dtype == np.int32
    assert found.var["start"].tolist() == [s for _, s, _ in peaks]
    assert found.var["start"].dtype == np.int32
    assert found.var_names[0] == "chr10:100-900"
    assert adata.n_vars == 0


def test_peaks_from_a_file_and_from_names_are_the_same(adata, tmp_path):
    bed = tmp_path / "p.bed"
    bed.write_text("chr1\t100\t900\tname\nchr10\t5\t400\tother\n")
    a = ga.pp.make_peak_matrix(adata, bed)
    b = ga.pp.make_peak_matrix(adata, ["chr1:100-900", "chr10:5-400"])
    np.testing.assert_array_equal(a.X.toarray(), b.X.toarray())
    assert a.var_names.tolist() == b.var_names.tolist()
    assert ga.pp.history(a)[-1]["verb"] == "pp.make_peak_matrix"
    with pytest.raises(InputError, match="none of the 1 peaks lies on a chromosome of genome toy"):
        ga.pp.make_peak_matrix(adata, ["chr99:1-5"])
    with pytest.raises(InputError, match="counting_strategy must be one of"):
        ga.pp.make_peak_matrix(adata, bed, counting_strategy="cuts")


def test_counts_of_real_peaks_agree_with_those_published_with_them(data_dir):
    # MAESTRO counted fragments that overlap a peak, as 0 or 1
    folder = data_dir / "scatac/pbmc500_chr22_hg38"
    expected = ga.io.read_10x_h5(folder / "test_peak_count.h5")
    adata = ga.pp.import_fragments(
        folder / "test.fragments.tsv.gz", ga.Genome.builtin("hg38"), min_num_fragments=1, device="cpu"
    )
    expected.obs_names = expected.obs_names.str.removeprefix("0w#")
    assert set(expected.obs_names) == set(adata.obs_names)
    regions = expected.var[["chrom", "start", "end"]]
    found = ga.pp.make_peak_matrix(adata, regions, counting_strategy="fragment")
    np.testing.assert_array_equal(
        found[expected.obs_names].X.toarray() > 0, expected.X.toarray() > 0
    )


# ------------------------------------------------------------------------------------------------------ genes


@pytest.mark.parametrize("rule", ["closed", "snapatac2"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gene_activity_equals_the_oracle(adata, fragments, rule, strategy):
    found = ga.pp.make_gene_matrix(adata, frame(), counting_strategy=strategy, interval_rule=rule)
    known = [t for t in TRANSCRIPTS if t.chrom in SIZES]
    genes, expected = oracles.gene_counts(fragments, BARCODES, known, strategy=strategy, rule=rule)
    assert found.var_names.tolist() == genes == ["G1", "G2", "G5"]
    np.testing.assert_array_equal(found.X.toarray(), expected)
    assert found.X.dtype == np.int32
    assert found.X.format == "csr"


@pytest.mark.parametrize(
    ("upstream", "downstream", "body"), [(0, 0, True), (500, 300, True), (1000, 0, False), (200, 400, False)]
)
def test_windows_around_gene_or_tss_equal_the_oracle(adata, fragments, upstream, downstream, body):
    domain = {"upstream": upstream, "downstream": downstream, "include_gene_body": body}
    found = ga.pp.make_gene_matrix(adata, frame(), **domain)
    known = [t for t in TRANSCRIPTS if t.chrom in SIZES]
    _, expected = oracles.gene_counts(fragments, BARCODES, known, **domain)
    np.testing.assert_array_equal(found.X.toarray(), expected)


def test_transcripts_can_have_a_column_each(adata, fragments):
    found = ga.pp.make_gene_matrix(adata, frame(), id_type="transcript")
    known = [t for t in TRANSCRIPTS if t.chrom in SIZES]
    assert found.var_names.tolist() == [t.transcript_id for t in known]
    expected = oracles.region_counts(fragments, BARCODES, oracles.gene_regions(known))
    np.testing.assert_array_equal(found.X.toarray(), expected)


def test_gene_var_spans_its_transcripts(adata):
    var = ga.pp.make_gene_matrix(adata, frame()).var
    assert var.loc["G1", ["chrom", "start", "end", "gene_id"]].tolist() == ["chr1", 5000, 9000, "g1"]
    assert var.loc["G5", ["chrom", "start", "end"]].tolist() == ["chr10", 100, 3000]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upstream": -1}, "upstream must be at least 0, got -1"),
        ({"downstream": 1.5}, "downstream must be a whole number, got 1.5"),
        ({"id_type": "exon"}, "id_type must be one of 'gene', 'gene_id', 'transcript', got 'exon'"),
        ({"interval_rule": "open"}, "interval_rule must be one of 'closed', 'snapatac2', got 'open'"),
        ({"counting_strategy": "x"}, "counting_strategy must be one of"),
    ],
)
def test_bad_gene_arguments_are_refused(adata, options, message):
    with pytest.raises(InputError, match=message):
        ga.pp.make_gene_matrix(adata, frame(), **options)


def test_genes_of_another_assembly_are_refused(adata):
    with pytest.raises(InputError, match="none of the 1 transcripts lies on a chromosome of genome toy"):
        ga.pp.make_gene_matrix(adata, frame(TRANSCRIPTS[3:4]))


def test_matrices_need_fragments():
    bare = ad.AnnData(np.ones((2, 2), np.float32))
    for verb in (
        ga.pp.add_tile_matrix,
        lambda a: ga.pp.make_peak_matrix(a, ["chr1:1-5"]),
        lambda a: ga.pp.make_gene_matrix(a, frame()),
    ):
        with pytest.raises(MissingSlotError, match=r"pp\.import_fragments"):
            verb(bare)


def test_matrix_is_recorded_with_its_parameters(adata):
    ga.pp.add_tile_matrix(adata, bin_size=750, counting_strategy="fragment", exclude_chroms=["chrM"])
    record = ga.pp.history(adata)[-1]
    assert record["verb"] == "pp.add_tile_matrix"
    assert record["parameters"] == {
        "bin_size": 750, "exclude_chroms": ["chrM"], "counting_strategy": "fragment", "inplace": True,
    }  # fmt: skip


def test_host_data_stay_as_they_are_when_moved_to_the_host(adata):
    ga.pp.add_tile_matrix(adata, bin_size=500)
    x = adata.X
    ga.to_host(adata)
    assert adata.X is x or (adata.X != x).nnz == 0
    if ga.backend.gpu_problem() is not None:
        from gpuatac.errors import DeviceUnavailableError

        with pytest.raises(DeviceUnavailableError, match="device 'gpu' is not available"):
            ga.to_device(adata)
