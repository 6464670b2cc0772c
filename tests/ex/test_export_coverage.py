"""Coverage tracks and exported fragments: every option against the oracle, formats, names, and what fails."""

from __future__ import annotations

import gzip
import io
import itertools
import resource
from pathlib import Path

import numpy as np
import oracles
import pandas as pd
import pyBigWig
import pytest
import zstandard

import gpuatac as ga
from gpuatac import memory
from gpuatac.errors import GpuatacError, InputError, MissingSlotError
from gpuatac.io.fragments.attach import attached
from gpuatac.io.fragments.store import StoredFragments
from gpuatac.io.tracks.outputs import InOrder, file_names

SIZES = {"chr1": 12_345, "chr10": 4003, "chr2": 999, "chrM": 600, "chrX": 5, "chrZ": 50}
GROUPS = {"AA-1": "a", "CC-1": "b", "GG-1": "a", "TT-1": "c"}
BLACKLIST = [("chr1", 2000, 2600), ("chr10", 3900, 4003)]
PROMOTERS = [("chr1", 0, 4000), ("chr2", 100, 120)]


def random_fragments(n=600, seed=0):
    rng = np.random.default_rng(seed)
    out = set()
    while len(out) < n:
        chrom = str(rng.choice(list(SIZES)[:5], p=[0.5, 0.3, 0.1, 0.07, 0.03]))
        start = int(rng.integers(0, SIZES[chrom]))
        end = min(start + int(rng.integers(1, 400) if rng.random() < 0.95 else 2500), SIZES[chrom])
        out.add(oracles.Fragment(chrom, start, end, str(rng.choice(["AA-1", "CC-1", "GG-1"]))))
    return sorted(out)


FRAGMENTS = random_fragments()


@pytest.fixture(scope="module")
def adata(tmp_path_factory):
    path = tmp_path_factory.mktemp("coverage") / "toy.tsv"
    rows = [f"{f.chrom}\t{f.start}\t{f.end}\t{f.barcode}\t{1 + i % 3}\n" for i, f in enumerate(FRAGMENTS)]
    # the only fragment of group c is too long for a track
    path.write_text("".join([*rows, "chr1\t10\t3000\tTT-1\t1\n"]))
    adata = ga.pp.import_fragments(path, ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")
    adata.obs["group"] = pd.Categorical([GROUPS[b] for b in adata.obs_names], categories=["a", "b", "c", "unused"])
    return adata


def of_group(group):
    return [f for f in FRAGMENTS if GROUPS[f.barcode] == group]


def read_text(path):
    raw = path.read_bytes()
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read().decode()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


def read_bedgraph(path):
    """Rows (chrom, start, end, value)."""
    rows = [line.split("\t") for line in read_text(path).splitlines()]
    return [(c, int(s), int(e), float(v)) for c, s, e, v in rows]


def read_bigwig(path):
    with pyBigWig.open(str(path)) as track:
        assert track.chroms() == SIZES
        return [(c, *run) for c in sorted(SIZES) for run in track.intervals(c) or ()]


def per_base(rows):
    values = {c: np.zeros(n) for c, n in SIZES.items()}
    for chrom, start, end, value in rows:
        assert (values[chrom][start:end] == 0).all()
        values[chrom][start:end] = value
    return values


def assert_same(rows, expected, rtol=1e-12):
    found = per_base(rows)
    for chrom, values in expected.items():
        np.testing.assert_allclose(found[chrom], values, rtol=rtol, atol=1e-9 * max(1, values.max(initial=0)))


def names(regions):
    return [f"{c}:{s}-{e}" for c, s, e in regions]


# ----------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize(("bin_size", "expected"), [(3, [1, 3, 4, 3, 2, 4, 3, 2]), (5, [2, 4, 3, 4, 3, 2, 1])])
def test_values_of_the_test_in_snapatac2(tmp_path, bin_size, expected):
    spans = [(0, 10), (3, 13), (5, 41), (8, 18), (15, 25), (22, 24), (23, 33), (29, 40)]
    (tmp_path / "f.tsv").write_text("".join(f"chr1\t{s}\t{e}\tA\t1\n" for s, e in spans))
    adata = ga.pp.import_fragments(tmp_path / "f.tsv", ga.Genome("t", {"chr1": 50}), min_num_fragments=1, device="cpu")
    found = ga.ex.export_coverage(
        adata, None, bin_size=bin_size, normalization=None, out_dir=tmp_path, suffix=".bedgraph"
    )
    assert list(found) == ["all"]
    rows = read_bedgraph(tmp_path / "all.bedgraph")
    assert [value for *_, value in rows] == expected
    assert [row[1] for row in rows[1:]] == [row[2] for row in rows[:-1]]
    assert rows[0][1] == 0


def test_last_bin_ends_with_the_chromosome_and_counts_have_no_decimal_point(tmp_path):
    (tmp_path / "f.tsv").write_text("chr1\t11\t12\tA\t1\nchr1\t25\t33\tA\t1\nchr1\t30\t33\tA\t1\n")
    adata = ga.pp.import_fragments(tmp_path / "f.tsv", ga.Genome("t", {"chr1": 33}), min_num_fragments=1, device="cpu")
    ga.ex.export_coverage(adata, ["x"], normalization=None, out_dir=tmp_path, suffix=".bdg")
    assert (tmp_path / "x.bdg").read_text() == "chr1\t10\t30\t1\nchr1\t30\t33\t2\n"


def test_bpm_divides_by_whole_bins_and_leaves_a_shorter_last_bin_out_of_the_sum(tmp_path):
    """Bins of 10 bp on 33: 1 read in [10, 20), 2 in [20, 30), 3 in the last [30, 33); BPM's sum is 3, RPKM's N is 3."""
    (tmp_path / "f.tsv").write_text("chr1\t11\t33\tA\t1\nchr1\t25\t33\tA\t1\nchr1\t30\t33\tA\t1\n")
    adata = ga.pp.import_fragments(tmp_path / "f.tsv", ga.Genome("t", {"chr1": 33}), min_num_fragments=1, device="cpu")
    for method, divisor in (("BPM", 3 / 1e6), ("CPM", 3 / 1e6), ("RPKM", 3 / 1e6 * 10 / 1e3)):
        ga.ex.export_coverage(adata, ["x"], normalization=method, out_dir=tmp_path, suffix=".bdg")
        rows = [(start, end, value * divisor) for _, start, end, value in read_bedgraph(tmp_path / "x.bdg")]
        assert rows == [(10, 20, pytest.approx(1)), (20, 30, pytest.approx(2)), (30, 33, pytest.approx(3))]


@pytest.mark.data
def test_raw_counts_equal_the_file_that_snapatac2_ships(data_dir, tmp_path):
    folder = data_dir / "coverage" / "snapatac2"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    genome = ga.Genome("hg38", {"chr1": 248_956_422, "chr2": 242_193_529})
    adata = ga.pp.import_fragments(folder / "fragments.tsv.gz", genome, min_num_fragments=0, device="cpu")
    ga.ex.export_coverage(
        adata, None, bin_size=1, normalization=None, max_frag_length=None, out_dir=tmp_path, suffix=".bdg.gz"
    )
    expected = gzip.decompress((folder / "coverage.bdg.gz").read_bytes()).decode().splitlines()
    assert len(expected) == 980
    assert read_text(tmp_path / "all.bdg.gz").splitlines() == expected


# ------------------------------------------------------------------------------------- the oracle


OPTIONS = [
    ({}, {}),
    ({"bin_size": 1}, {"bin_size": 1}),
    ({"bin_size": 7}, {"bin_size": 7}),
    ({"bin_size": 20_000}, {"bin_size": 20_000}),
    ({"normalization": None}, {"normalization": None}),
    ({"normalization": "CPM"}, {"normalization": "CPM"}),
    ({"normalization": "BPM"}, {"normalization": "BPM"}),
    ({"denominator": "bases"}, {"denominator": "bases"}),
    ({"denominator": "bases", "normalization": "CPM"}, {"denominator": "bases", "normalization": "CPM"}),
    ({"counting_strategy": "insertion"}, {"strategy": "insertion"}),
    (
        {"counting_strategy": "insertion", "denominator": "bases", "normalization": "CPM"},
        {"strategy": "insertion", "denominator": "bases", "normalization": "CPM"},
    ),
    ({"min_frag_length": 100, "max_frag_length": 200}, {"shortest": 100, "longest": 200}),
    ({"max_frag_length": None}, {"longest": 10**9}),
    ({"blacklist": names(BLACKLIST)}, {"blacklist": BLACKLIST}),
    (
        {"blacklist": names(BLACKLIST), "counting_strategy": "insertion"},
        {"blacklist": BLACKLIST, "strategy": "insertion"},
    ),
    ({"include_for_norm": names(PROMOTERS)}, {"include": PROMOTERS}),
    ({"exclude_for_norm": names(PROMOTERS), "normalization": "CPM"}, {"exclude": PROMOTERS, "normalization": "CPM"}),
    (
        {"include_for_norm": names(PROMOTERS), "exclude_for_norm": names(BLACKLIST), "denominator": "bases"},
        {"include": PROMOTERS, "exclude": BLACKLIST, "denominator": "bases"},
    ),
    (
        {"include_for_norm": names(PROMOTERS), "counting_strategy": "insertion"},
        {"include": PROMOTERS, "strategy": "insertion"},
    ),
    ({"smooth_base": 1}, {}),
    ({"smooth_base": 2}, {"smooth": 2}),
    ({"smooth_base": 50}, {"smooth": 50}),
    ({"smooth_base": 51, "bin_size": 1}, {"smooth": 51, "bin_size": 1}),
    ({"smooth_base": 5001, "normalization": "BPM"}, {"smooth": 5001, "normalization": "BPM"}),
]


@pytest.mark.parametrize(
    ("options", "asked"), OPTIONS, ids=[" ".join(map(str, o.items())) or "defaults" for o, _ in OPTIONS]
)
def test_every_option_equals_the_oracle(adata, tmp_path, options, asked):
    found = ga.ex.export_coverage(adata, "group", out_dir=tmp_path, suffix=".bedgraph", n_jobs=2, **options)
    assert found == {g: str(tmp_path / f"{g}.bedgraph") for g in "abc"}
    for group in "ab":
        rows = read_bedgraph(tmp_path / f"{group}.bedgraph")
        assert_same(rows, oracles.coverage(of_group(group), SIZES, **asked))
        assert all(value != 0 and start < end for _, start, end, value in rows)
        neighbours = itertools.pairwise(rows)
        assert not [1 for a, b in neighbours if a[0] == b[0] and a[2] == b[1] and a[3] == b[3]], "equal neighbours"
        assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    ga.ex.export_coverage(adata, "group", selections=["a"], out_dir=tmp_path / "bw", n_jobs=1, **options)
    expected = oracles.coverage(of_group("a"), SIZES, **asked)
    assert_same(read_bigwig(tmp_path / "bw" / "a.bw"), expected, rtol=1e-6)


@pytest.mark.parametrize("n_jobs", [-1, 1, 2, 5])
def test_threads_do_not_change_what_the_files_hold(adata, tmp_path, n_jobs):
    """Not byte for byte: igzip may compress the same data in several ways."""
    for suffix in (".bw", ".bedgraph", ".bedgraph.gz"):
        one = ga.ex.export_coverage(adata, "group", out_dir=tmp_path / "1", suffix=suffix, n_jobs=1)
        many = ga.ex.export_coverage(adata, "group", out_dir=tmp_path / "n", suffix=suffix, n_jobs=n_jobs)
        assert many.keys() == one.keys()
        for group in one:
            a, b = (tmp_path / folder / f"{group}{suffix}" for folder in "1n")
            if suffix != ".bw":
                assert read_text(a) == read_text(b)
                continue
            assert read_bigwig(a) == read_bigwig(b)
            with pyBigWig.open(str(a)) as x, pyBigWig.open(str(b)) as y:
                assert x.header() == y.header()
                assert [x.stats(c, nBins=2) for c in SIZES] == [y.stats(c, nBins=2) for c in SIZES]


def test_regions_may_come_as_a_bed_file_or_a_frame(adata, tmp_path):
    bed = tmp_path / "r.bed"
    bed.write_text("".join(f"{c}\t{s}\t{e}\n" for c, s, e in BLACKLIST))
    frame = pd.DataFrame(BLACKLIST, columns=["chrom", "start", "end"])
    texts = []
    for i, regions in enumerate([names(BLACKLIST), bed, str(bed), frame]):
        found = ga.ex.export_coverage(
            adata, None, blacklist=regions, exclude_for_norm=names(PROMOTERS), out_dir=tmp_path / str(i), suffix=".bg"
        )
        texts.append((tmp_path / str(i) / "all.bg").read_text())
        assert found == {"all": str(tmp_path / str(i) / "all.bg")}
    assert len(set(texts)) == 1
    ga.ex.export_coverage(adata, None, out_dir=tmp_path, suffix=".bg")
    assert (tmp_path / "all.bg").read_text() != texts[0]


# --------------------------------------------------------------------------------- where they lie


def fragment_file(path, fragments):
    path.write_text("".join(f"{f.chrom}\t{f.start}\t{f.end}\t{f.barcode}\t1\n" for f in fragments))
    return path


@pytest.mark.parametrize(
    "options", [{}, {"smooth_base": 60}, {"counting_strategy": "insertion", "blacklist": names(BLACKLIST)}]
)
def test_several_samples_add_up(adata, tmp_path, options):
    files = [fragment_file(tmp_path / f"{k}.tsv", FRAGMENTS[k::2]) for k in range(2)]
    both = ga.pp.import_fragments(files, ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")
    assert both.n_obs == 6
    labels = [GROUPS[barcode] for barcode in both.obs["barcode"]]
    ga.ex.export_coverage(both, labels, out_dir=tmp_path, suffix=".bg", **options)
    ga.ex.export_fragments(both, labels, ids="barcode", out_dir=tmp_path, suffix=".bed")
    one = tmp_path / "one"
    ga.ex.export_coverage(adata, "group", out_dir=one, suffix=".bg", **options)
    ga.ex.export_fragments(adata, "group", out_dir=one, suffix=".bed")
    for group in "ab":
        assert (tmp_path / f"{group}.bg").read_text() == (one / f"{group}.bg").read_text()
        rows = [sorted(row[:4] for row in rows_of(folder / f"{group}.bed")) for folder in (tmp_path, one)]
        assert rows[0] == rows[1]
        assert [(r[0], int(r[1]), int(r[2])) for r in rows_of(tmp_path / f"{group}.bed")] == [
            (f.chrom, f.start, f.end) for f in sorted(of_group(group))
        ]


def test_fragments_that_stay_on_disk_give_the_same_files(adata, tmp_path, monkeypatch):
    file = fragment_file(tmp_path / "f.tsv", FRAGMENTS)
    monkeypatch.setitem(memory._state, "given", 5000)  # bytes
    ga.io.forget()
    genome = ga.Genome("toy", SIZES)
    stored = ga.pp.import_fragments(file, genome, min_num_fragments=1, device="cpu", out=tmp_path / "stored")
    assert isinstance(attached(stored)[0].fragments, StoredFragments)
    for folder, data in (("1", stored), ("2", adata[adata.obs["group"] != "c"].copy())):
        labels = [GROUPS[barcode] for barcode in data.obs_names]
        ga.ex.export_coverage(data, labels, out_dir=tmp_path / folder, n_jobs=3)
        ga.ex.export_fragments(data, labels, out_dir=tmp_path / folder, suffix=".bed")
    for group in "ab":
        assert read_bigwig(tmp_path / "1" / f"{group}.bw") == read_bigwig(tmp_path / "2" / f"{group}.bw")
        rows = [[row[:4] for row in rows_of(tmp_path / folder / f"{group}.bed")] for folder in "12"]
        assert rows[0] == rows[1]


def test_devices_write_the_same_tracks(bk, adata, tmp_path):
    file = fragment_file(tmp_path / "f.tsv", FRAGMENTS)
    there = ga.pp.import_fragments(file, ga.Genome("toy", SIZES), min_num_fragments=1, device=bk.name)
    here = adata[there.obs_names].copy()
    for options in (
        {},
        {"normalization": "BPM", "smooth_base": 31},
        {"counting_strategy": "insertion", "denominator": "bases"},
    ):
        for data, folder in ((there, tmp_path / "there"), (here, tmp_path / "here")):
            labels = [GROUPS[barcode] for barcode in data.obs_names]
            ga.ex.export_coverage(data, labels, out_dir=folder, suffix=".bg", **options)
        for group in "ab":
            assert (tmp_path / "there" / f"{group}.bg").read_text() == (tmp_path / "here" / f"{group}.bg").read_text()


# --------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("suffix", [".bedgraph", ".BEDGRAPH", ".bg.gz", ".bdg.zst"])
@pytest.mark.parametrize("level", [None, 1, 5, 9])
def test_compression_changes_no_text(adata, tmp_path, suffix, level):
    if suffix.lower() == ".bedgraph":
        if level is not None:
            with pytest.raises(InputError, match="nothing is compressed"):
                ga.ex.export_coverage(adata, None, out_dir=tmp_path, suffix=suffix, compression_level=level)
            return
        level = None
    found = ga.ex.export_coverage(adata, "group", out_dir=tmp_path, suffix=suffix, compression_level=level)
    plain = ga.ex.export_coverage(adata, "group", out_dir=tmp_path / "plain", suffix=".txt", output_format="bedgraph")
    for group in plain:
        path = tmp_path / f"{group}{suffix}"
        assert found[group] == str(path)
        assert read_text(path) == (tmp_path / "plain" / f"{group}.txt").read_text()
    magic = {"z": b"\x1f\x8b\x08\x04", "t": b"\x28\xb5\x2f\xfd"}.get(suffix[-1])
    if magic:
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(magic)


def test_higher_levels_are_smaller(adata, tmp_path):
    for kind, levels in {"gzip": (1, 6, 9), "zstandard": (1, 3, 19)}.items():
        sizes = []
        for level in levels:
            ga.ex.export_coverage(
                adata, None, bin_size=1, smooth_base=50, out_dir=tmp_path, suffix=f".{level}", output_format="bedgraph",
                compression=kind, compression_level=level,
            )  # fmt: skip
            sizes.append((tmp_path / f"all.{level}").stat().st_size)
        assert sizes[0] > sizes[-1], (kind, sizes)


def test_bedgraph_gz_can_be_indexed_by_tabix(adata, tmp_path):
    pysam = pytest.importorskip("pysam")
    ga.ex.export_coverage(adata, None, out_dir=tmp_path, suffix=".bg.gz")
    path = str(tmp_path / "all.bg.gz")
    pysam.tabix_index(path, seq_col=0, start_col=1, end_col=2, zerobased=True)
    with pysam.TabixFile(path) as table:
        fetched = list(table.fetch("chr2", 100, 200))
    rows = [r for r in read_bedgraph(tmp_path / "all.bg.gz") if r[0] == "chr2" and r[1] < 200 and r[2] > 100]
    assert len(fetched) == len(rows) > 3


def test_smallest_values_have_no_exponent(adata, tmp_path):
    ga.ex.export_coverage(
        adata, None, smooth_base=10_000_000, normalization=None, out_dir=tmp_path, suffix=".bg", bin_size=1
    )
    text = (tmp_path / "all.bg").read_text()
    assert "e-" not in text
    assert "0.0000029\n" in text


def test_formats_that_contradict_are_refused(adata, tmp_path):
    for options, message in [
        ({"suffix": ".track"}, "tells no format"),
        ({"suffix": ".bw.gz"}, "tells no format"),
        ({"suffix": ".bw", "compression": "gzip"}, "compressed by itself"),
        ({"suffix": ".bg", "compression": "lz4"}, "compression must be one of"),
        ({"suffix": ".bg", "output_format": "wig"}, "output_format must be one of"),
        ({"suffix": ".bg.gz", "compression_level": 10}, r"in \[1, 9\]"),
        ({"suffix": ".bg.zst", "compression_level": 23}, r"in \[1, 22\]"),
        ({"suffix": ".bw", "output_format": "bedgraph"}, r"suffix '\.bw' says bigwig, and output_format is 'bedgraph'; allowed"),
        ({"suffix": ".bedGraph.gz", "output_format": "bigwig"}, "says bedgraph, and output_format is 'bigwig'"),
        ({"suffix": ".bg.gz", "compression": "zstandard"}, "says gzip, and compression is 'zstandard'"),
    ]:
        with pytest.raises(InputError, match=message):
            ga.ex.export_coverage(adata, None, out_dir=tmp_path, **options)
    with pytest.raises(InputError, match=r"regions must be names like chr1:100-200 .* got 123; correct it or pass a BED file"):
        ga.ex.export_coverage(adata, None, out_dir=tmp_path, blacklist=123)
    with pytest.raises(InputError, match=r"groupby must name a column of obs or .* got 3 \(int\)"):
        ga.ex.export_coverage(adata, 3, out_dir=tmp_path)
    with pytest.raises(InputError, match="says zstandard, and compression is 'gzip'"):
        ga.ex.export_fragments(adata, None, out_dir=tmp_path, suffix=".bed.zst", compression="gzip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        ({}, ".bw"),
        ({"output_format": "bigwig"}, ".bw"),
        ({"output_format": "bedgraph"}, ".bedgraph"),
        ({"output_format": "bedgraph", "compression": "gzip"}, ".bedgraph.gz"),
        ({"output_format": "bedgraph", "compression": "zstandard"}, ".bedgraph.zst"),
        ({"output_format": "bedgraph", "suffix": ".cov"}, ".cov"),
        ({"output_format": "bigwig", "suffix": ".cov"}, ".cov"),
    ],
)
def test_names_of_tracks_end_as_their_format_and_compression_ask(adata, tmp_path, options, suffix):
    path = ga.ex.export_coverage(adata, None, out_dir=tmp_path, **options)["all"]
    assert path == str(tmp_path / f"all{suffix}")
    if options.get("output_format") == "bedgraph":
        assert read_bedgraph(tmp_path / f"all{suffix}")
    else:
        assert read_bigwig(path)


def test_names_of_fragment_files_end_as_their_compression_asks(adata, tmp_path):
    for options, suffix in (({}, ".bed.zst"), ({"compression": "zstandard"}, ".bed.zst"), ({"compression": "gzip"}, ".bed.gz")):
        path = ga.ex.export_fragments(adata, None, out_dir=tmp_path, **options)["all"]
        assert path == str(tmp_path / f"all{suffix}")
        assert read_text(tmp_path / f"all{suffix}").startswith("chr1\t")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bin_size": 0}, "bin_size must be at least 1|bin_size must be in"),
        ({"normalization": "RPGC"}, "normalization must be one of 'RPKM', 'CPM', 'BPM', None"),
        ({"denominator": "fragments"}, "denominator must be one of"),
        ({"counting_strategy": "paired-insertion"}, "counting_strategy must be one of 'fragment', 'insertion'"),
        ({"smooth_base": 0}, "smooth_base"),
        ({"min_frag_length": 100, "max_frag_length": 50}, "max_frag_length"),
        ({"max_frag_length": -1}, "max_frag_length"),
        ({"n_jobs": 1.5}, "n_jobs"),
        ({"tempdir": "absent"}, "tempdir absent does not exist"),
        ({"selections": ["z"]}, "selections names 'z'"),
        ({"blacklist": ["chrQ:1-5"]}, "none of the 1 regions of blacklist"),
        ({"include_for_norm": ["chr1:1-5"], "normalization": None}, "have no meaning"),
        ({"exclude_for_norm": ["chr1:1-5"], "normalization": "BPM"}, "have no meaning"),
        ({"include_for_norm": ["chrZ:1-5"]}, "have no read to normalise by .'a', 'b'.; widen"),
    ],
)
def test_arguments_out_of_range_are_named_and_nothing_is_written(adata, tmp_path, options, message):
    with pytest.raises(GpuatacError, match=message):
        ga.ex.export_coverage(adata, "group", out_dir=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_fragments_are_asked_for():
    import anndata

    with pytest.raises(MissingSlotError, match="genome"):
        ga.ex.export_coverage(anndata.AnnData(np.ones((2, 1), np.float32)), ["a", "b"])


# ------------------------------------------------------------------------------------ groups, files


def test_empty_group_gets_a_valid_empty_file(adata, tmp_path):
    for suffix in (".bw", ".bg", ".bg.gz", ".bg.zst"):
        ga.ex.export_coverage(adata, "group", out_dir=tmp_path, suffix=suffix)
    assert [read_text(tmp_path / f"c{suffix}") for suffix in (".bg", ".bg.gz", ".bg.zst")] == ["", "", ""]
    assert read_bigwig(tmp_path / "c.bw") == []
    with pyBigWig.open(str(tmp_path / "c.bw")) as track:
        assert track.header()["nBasesCovered"] == 0


def test_no_cell_in_any_group_writes_nothing(adata, tmp_path):
    assert ga.ex.export_coverage(adata, [None] * adata.n_obs, out_dir=tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_odd_group_names_make_files_of_their_own(adata, tmp_path):
    labels = ["a/b", "a_b", "CD4+ T cell", ""]
    found = ga.ex.export_coverage(
        adata, labels, out_dir=tmp_path / "new", prefix="x.", suffix=".bg", max_frag_length=None
    )
    assert {g: p.rpartition("/")[2] for g, p in found.items()} == {
        "a/b": "x.a_b_2.bg", "a_b": "x.a_b.bg", "CD4+ T cell": "x.CD4+ T cell.bg", "": "x._.bg",
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.rpartition("/")[2] for p in found.values())
    order = list(adata.obs_names)
    for label, barcode in zip(labels, order, strict=True):
        alone = ga.ex.export_coverage(
            adata,
            [label if b == barcode else None for b in order],
            out_dir=tmp_path / barcode,
            suffix=".bg",
            max_frag_length=None,
        )
        assert Path(alone[label]).read_text() == Path(found[label]).read_text()


def test_names_that_collide_once_made_safe_are_numbered():
    assert file_names(["a/b", "a\\b", "a_b", "a_b_2", "", "_", "\x00"], "p", ".s") == [
        "pa_b_3.s", "pa_b_4.s", "pa_b.s", "pa_b_2.s", "p__2.s", "p_.s", "p__3.s",
    ]  # fmt: skip


def test_existing_files_are_replaced_and_others_left_alone(adata, tmp_path):
    (tmp_path / "a.bw").write_text("old")
    (tmp_path / "other.bw").write_text("mine")
    ga.ex.export_coverage(adata, "group", out_dir=tmp_path)
    assert (tmp_path / "other.bw").read_text() == "mine"
    assert read_bigwig(tmp_path / "a.bw")
    (tmp_path / "a.bg").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        ga.ex.export_coverage(adata, "group", out_dir=tmp_path, suffix=".bg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bg", "a.bw", "b.bw", "c.bw", "other.bw"]


@pytest.mark.parametrize("suffix", [".bw", ".bg", ".bg.gz"])
def test_a_full_disk_leaves_old_files_and_no_partial_ones(adata, tmp_path, suffix):
    out, temp = tmp_path / "out", tmp_path / "temp"
    out.mkdir()
    temp.mkdir()
    (out / f"a{suffix}").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            ga.ex.export_coverage(adata, "group", out_dir=out, tempdir=temp, suffix=suffix, bin_size=1, n_jobs=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in out.iterdir()] == [f"a{suffix}"]
    assert (out / f"a{suffix}").read_text() == "old"
    assert list(temp.iterdir()) == []
    ga.ex.export_coverage(adata, "group", out_dir=out, tempdir=temp, suffix=suffix)
    assert list(temp.iterdir()) == []
    assert sorted(p.name for p in out.iterdir()) == [f"{g}{suffix}" for g in "abc"]


def test_pieces_are_written_in_order_whatever_order_they_come_in():
    class Written(list):
        """Collects what it is given."""

    written = Written()
    out = InOrder(written)
    for number in (2, 0, 3, 1):
        out.put(number, number)
    assert written == [0, 1, 2, 3]


def test_the_call_is_recorded(adata, tmp_path):
    ga.ex.export_coverage(adata, "group", out_dir=tmp_path, bin_size=50)
    record = ga.pp.history(adata)[-1]
    assert record["verb"] == "ex.export_coverage"
    assert record["parameters"]["bin_size"] == 50


# ------------------------------------------------------------------------------------- fragments


def rows_of(path):
    return [tuple(line.split("\t")) for line in read_text(path).splitlines()]


@pytest.mark.parametrize("suffix", [".bed.zst", ".bed.gz", ".tsv"])
def test_exported_fragments_are_those_of_the_group(adata, tmp_path, suffix):
    found = ga.ex.export_fragments(adata, "group", out_dir=tmp_path, suffix=suffix, max_frag_length=2000)
    assert found == {g: str(tmp_path / f"{g}{suffix}") for g in "abc"}
    copies = {f: 1 + i % 3 for i, f in enumerate(FRAGMENTS)}
    for group in "ab":
        kept = [f for f in of_group(group) if f.end - f.start <= 2000]
        expected = [(f.chrom, str(f.start), str(f.end), f.barcode, str(copies[f])) for f in kept]
        assert rows_of(tmp_path / f"{group}{suffix}") == expected
    assert rows_of(tmp_path / f"c{suffix}") == []


def test_exported_fragments_read_back_as_the_same_fragments(adata, tmp_path):
    found = ga.ex.export_fragments(adata, None, out_dir=tmp_path, suffix=".tsv.gz")
    again = ga.pp.import_fragments(found["all"], ga.Genome("toy", SIZES), min_num_fragments=1, device="cpu")
    assert list(again.obs_names) == list(adata.obs_names)
    twice = ga.ex.export_fragments(again, None, out_dir=tmp_path / "2", suffix=".tsv.gz")
    assert read_text(tmp_path / "all.tsv.gz") == read_text(tmp_path / "2" / "all.tsv.gz")
    assert twice["all"].endswith("2/all.tsv.gz")


def test_cells_may_have_other_names(adata, tmp_path):
    adata.obs["cell"] = [f"cell {i}" for i in range(adata.n_obs)]
    for ids in ("cell", adata.obs["cell"].tolist()):
        ga.ex.export_fragments(adata, "group", ids=ids, out_dir=tmp_path, suffix=".bed", min_frag_length=2001)
        assert rows_of(tmp_path / "c.bed") == [
            ("chr1", "10", "3000", f"cell {list(adata.obs_names).index('TT-1')}", "1")
        ]
    for ids, error, message in [
        ("absent", MissingSlotError, "no 'absent'"),
        (["a"], InputError, "1 names for 4 cells"),
        (["a\tb"] * 4, InputError, "holds a tab"),
    ]:
        with pytest.raises(error, match=message):
            ga.ex.export_fragments(adata, "group", ids=ids, out_dir=tmp_path, suffix=".bed")
