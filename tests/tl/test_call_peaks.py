"""tl.call_peaks on an AnnData: groups, filters, replicates, storage, files, errors."""

import numpy as np
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac import slots
from gpuatac.core.tracks.pseudobulk import FragmentFilter
from gpuatac.errors import InputError, MissingSlotError
from gpuatac.io.fragments.pseudobulk import Pseudobulks

SIZES = {"chr1": 400_000, "chr10": 150_000, "chr2": 90_000, "chrM": 16_000}


def lines(seed, n, cells):
    rng = np.random.default_rng(seed)
    rows = []
    for chrom, size in SIZES.items():
        m = n * size // sum(SIZES.values())
        sites = np.random.default_rng(1).integers(2000, size - 2000, size // 10_000 + 1)
        at = np.where(rng.random(m) < 0.6, rng.choice(sites, m) + rng.normal(0, 90, m), rng.integers(0, size - 900, m))
        start = np.clip(at, 0, size - 900).astype(int)
        end = start + np.where(rng.random(m) < 0.6, rng.integers(25, 140, m), rng.integers(180, 600, m))
        cell = rng.integers(0, cells, m)
        rows += [
            (chrom, s, e, f"C{c:02d}", k) for s, e, c, k in zip(start, end, cell, rng.geometric(0.6, m), strict=True)
        ]
    rows.sort(key=lambda row: row[:3])
    return rows


def write(path, rows):
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("peaks")


@pytest.fixture(scope="module")
def genome(folder):
    path = folder / "sizes.tsv"
    path.write_text("".join(f"{name}\t{size}\n" for name, size in SIZES.items()))
    return ga.io.read_genome(path, contigs="all")


@pytest.fixture(scope="module")
def rows():
    return lines(5, 24_000, 40)


@pytest.fixture(scope="module")
def made(folder, genome, rows):
    adata = ga.pp.import_fragments(write(folder / "one.tsv", rows), genome, min_num_fragments=0)
    number = adata.obs_names.str[1:].astype(int)
    adata.obs["kind"] = pd.Categorical(np.where(number < 20, "b", "a"), categories=["b", "a", "unused"])
    adata.obs["donor"] = np.where(number % 2 == 0, "even", "odd")
    return adata


@pytest.fixture
def adata(made):
    return made.copy()


def columns(frame):
    return frame.drop(columns=["group"], errors="ignore").reset_index(drop=True)


def equal(a, b):
    pd.testing.assert_frame_equal(columns(a), columns(b), check_categorical=False)


def test_peaks_are_stored_in_one_frame_and_come_back_by_group(adata):
    assert ga.tl.call_peaks(adata, groupby="kind") is None
    frame = adata.uns["peaks"]
    assert list(frame) == [
        "group", "chrom", "start", "end", "score", "strand", "signal_value", "p_value", "q_value", "peak",
        "raw_score",
    ]  # fmt: skip
    assert list(frame["group"].cat.categories) == ["b", "a"]
    assert list(frame["chrom"].cat.categories) == sorted(SIZES)
    found = ga.tl.peaks_by_group(adata)
    returned = ga.tl.call_peaks(adata, groupby="kind", inplace=False)
    assert list(found) == list(returned) == ["b", "a"]
    for name in found:
        assert len(found[name]) > 20
        equal(found[name], returned[name])
        assert (found[name]["q_value"] > -np.log10(0.05)).all()
        assert (found[name]["p_value"] >= found[name]["q_value"]).all()
        assert (found[name]["end"] - found[name]["start"] >= 200).all()
        np.testing.assert_array_equal(
            found[name]["score"], np.minimum((10 * found[name]["q_value"].astype(float)).astype(int), 1000)
        )


def test_labels_in_a_list_missing_labels_and_selections(adata):
    by_column = ga.tl.call_peaks(adata, groupby="kind", inplace=False)
    by_list = ga.tl.call_peaks(adata, groupby=adata.obs["kind"].tolist(), inplace=False, selections=["a"])
    assert list(by_list) == ["a"]
    equal(by_list["a"], by_column["a"])
    adata.obs["some"] = adata.obs["kind"].astype(object).where(adata.obs["kind"] == "a")
    only = ga.tl.call_peaks(adata, groupby="some", inplace=False)
    assert list(only) == ["a"]
    equal(only["a"], by_column["a"])


def test_all_cells_are_one_group_without_groupby(adata):
    ga.tl.call_peaks(adata)
    labels = ga.tl.call_peaks(adata, groupby=["x"] * adata.n_obs, inplace=False)
    equal(ga.tl.peaks_by_group(adata)["all"], labels["x"])


def test_fragment_lengths_are_filtered_before_anything_else(adata, folder, genome, rows):
    kept = [row for row in rows if 40 <= row[2] - row[1] <= 180]
    other = ga.pp.import_fragments(write(folder / "short.tsv", kept), genome, min_num_fragments=0)
    want = ga.tl.call_peaks(other, inplace=False)["all"]
    got = ga.tl.call_peaks(adata, min_frag_size=40, max_frag_size=180, inplace=False)["all"]
    equal(got, want)
    assert len(columns(got).merge(columns(ga.tl.call_peaks(adata, inplace=False)["all"]))) < len(got)


def test_samples_of_several_files_are_pooled(adata, folder, genome, rows):
    files = [write(folder / f"half{k}.tsv", [row for row in rows if int(row[3][1:]) % 2 == k]) for k in range(2)]
    both = ga.pp.import_fragments(files, genome, min_num_fragments=0)
    for options in ({}, {"counting_strategy": "fragment", "use_counts": True}):
        want = ga.tl.call_peaks(adata, inplace=False, **options)["all"]
        equal(ga.tl.call_peaks(both, inplace=False, **options)["all"], want)


def test_peaks_do_not_depend_on_where_the_ends_are_kept(adata, monkeypatch, folder):
    want = ga.tl.call_peaks(adata, groupby="kind", inplace=False, use_counts=True, counting_strategy="fragment")
    monkeypatch.setattr("gpuatac.io.fragments.pseudobulk.KEPT_SHARE", 1 << 40)  # nothing may stay in memory
    got = ga.tl.call_peaks(adata, groupby="kind", inplace=False, use_counts=True, counting_strategy="fragment")
    for name in want:
        equal(got[name], want[name])
    names, group = slots.groups_of(adata, "kind")
    with Pseudobulks(adata, group, len(names), keep=FragmentFilter()) as bulk:
        assert all(isinstance(bulk.ends(code).left, np.memmap) for code in bulk.codes)
        scratch = bulk._scratch
        assert scratch.is_dir()
    assert not scratch.exists()


def test_copies_count_only_when_asked(adata, folder, genome, rows):
    once = [(*row[:4], 1) for row in rows]
    other = ga.pp.import_fragments(write(folder / "once.tsv", once), genome, min_num_fragments=0)
    want = ga.tl.call_peaks(other, inplace=False)["all"]
    equal(ga.tl.call_peaks(adata, inplace=False)["all"], want)
    assert len(ga.tl.call_peaks(adata, use_counts=True, inplace=False)["all"]) != len(want)
    repeated = [row for row in rows for _ in range(row[4])]
    many = ga.pp.import_fragments(write(folder / "many.tsv", repeated), genome, min_num_fragments=0)
    equal(ga.tl.call_peaks(adata, use_counts=True, inplace=False)["all"], ga.tl.call_peaks(many, inplace=False)["all"])


def test_copies_count_at_most_so_often(adata, folder, genome, rows):
    cut = [(*row[:4], min(row[4], 2)) for row in rows]
    other = ga.pp.import_fragments(write(folder / "cut.tsv", cut), genome, min_num_fragments=0)
    for strategy in ("insertion", "fragment"):
        options = {"use_counts": True, "counting_strategy": strategy, "inplace": False}
        got = ga.tl.call_peaks(adata, max_count=2, **options)["all"]
        equal(got, ga.tl.call_peaks(other, **options)["all"])
        assert not columns(got).equals(columns(ga.tl.call_peaks(adata, **options)["all"]))


def overlap(frame, other):
    return np.array(
        [
            ((other["chrom"] == c) & (other["start"] < e) & (other["end"] > s)).any()
            for c, s, e in zip(frame["chrom"], frame["start"], frame["end"], strict=True)
        ]
    )


def test_replicates_keep_what_each_of_them_has(adata):
    plain = ga.tl.call_peaks(adata, groupby="kind", inplace=False)
    kept = ga.tl.call_peaks(adata, groupby="kind", replicate="donor", inplace=False)
    strict = ga.tl.call_peaks(adata, groupby="kind", replicate="donor", replicate_qvalue=1e-25, inplace=False)
    for name, frame in plain.items():
        for found, cutoff in ((kept[name], 0.05), (strict[name], 1e-25)):
            keep = np.ones(len(frame), bool)
            for donor in ("even", "odd"):
                cells = adata[(adata.obs["kind"] == name) & (adata.obs["donor"] == donor)].copy()
                keep &= overlap(frame, ga.tl.call_peaks(cells, qvalue=cutoff, inplace=False)["all"])
            equal(found, frame[keep])
        assert 0 < len(strict[name]) < len(frame)


def test_blacklisted_peaks_and_excluded_chromosomes_go(adata, folder):
    plain = ga.tl.call_peaks(adata, inplace=False)["all"]
    banned = pd.DataFrame(
        {"chrom": ["chr1", "chr1", "chr2"], "start": [10_000, 50_000, 0], "end": [120_000, 90_000, 90_000]}
    )
    bed = folder / "banned.bed"
    banned.to_csv(bed, sep="\t", header=False, index=False)
    got = ga.tl.call_peaks(adata, blacklist=bed, inplace=False)["all"]
    equal(got, plain[~overlap(plain, banned)])
    assert 0 < len(got) < len(plain)
    without = ga.tl.call_peaks(adata, exclude_chroms=["chrM"], inplace=False)["all"]
    assert set(without["chrom"]) == set(plain["chrom"]) - {"chrM"}


def test_groups_of_few_cells_get_no_peaks_and_are_named(adata, caplog):
    adata.obs["kind"] = ["few"] * 3 + ["many"] * (adata.n_obs - 3)
    with caplog.at_level("WARNING"):
        found = ga.tl.call_peaks(adata, groupby="kind", min_cells=4, inplace=False)
    assert len(found["few"]) == 0
    assert len(found["many"]) > 20
    assert "few" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        ga.tl.call_peaks(adata, groupby="kind", min_cells=3, inplace=False)
    assert "few" not in caplog.text  # as many as asked for are enough


def test_genome_size_sets_the_rate_of_the_background(adata):
    whole = float(sum(SIZES.values()))
    equal(
        ga.tl.call_peaks(adata, nolambda=True, inplace=False)["all"],
        ga.tl.call_peaks(adata, nolambda=True, genome_size=whole, inplace=False)["all"],
    )
    far = ga.tl.call_peaks(adata, nolambda=True, genome_size="hs", inplace=False)["all"]
    assert (
        far["signal_value"].max()
        > 3 * ga.tl.call_peaks(adata, nolambda=True, inplace=False)["all"]["signal_value"].max()
    )


def test_broad_regions_carry_their_blocks(adata):
    ga.tl.call_peaks(adata, call_broad_peaks=True)
    frame = adata.uns["peaks"]
    assert (frame["peak"] == -1).all()
    for row in frame.itertuples():
        sizes, starts = ([int(x) for x in text.split(",")] for text in (row.block_sizes, row.block_starts))
        assert starts[0] == 0
        assert starts[-1] + sizes[-1] == row.end - row.start
        assert all(a + n <= b for a, n, b in zip(starts[:-1], sizes[:-1], starts[1:], strict=True))


def test_peaks_survive_a_file(adata, tmp_path):
    adata.obs["kind"] = adata.obs["kind"].cat.rename_categories({"b": "B / naive"})
    ga.tl.call_peaks(adata, groupby="kind")
    ga.io.write_h5ad(adata, tmp_path / "x.h5ad")
    back = ga.io.read_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(back.uns["peaks"], adata.uns["peaks"], check_dtype=False, check_categorical=False)
    assert list(ga.tl.peaks_by_group(back)) == ["B / naive", "a"]


def test_files_read_back_as_the_peaks(adata, tmp_path):
    adata.obs["kind"] = adata.obs["kind"].cat.rename_categories({"b": "B / naive"})
    ga.tl.call_peaks(adata, groupby="kind")
    written = ga.ex.export_peaks(adata, out_dir=tmp_path, prefix="s.")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.B _ naive.narrowPeak", "s.a.narrowPeak"]
    for name, frame in ga.tl.peaks_by_group(adata).items():
        back = pd.read_csv(written[name], sep="\t", header=None)
        np.testing.assert_array_equal(back[[1, 2, 9]], frame[["start", "end", "peak"]])
        np.testing.assert_allclose(back[[6, 7, 8]], frame[["signal_value", "p_value", "q_value"]], rtol=1e-5)
        assert back[3].str.startswith(f"{name}_peak_").all()
        assert back[3].is_unique
    bed = ga.ex.export_peaks(adata, out_dir=tmp_path, suffix=".bed", selections=["a"])
    assert pd.read_csv(bed["a"], sep="\t", header=None).shape[1] == 6
    with pytest.raises(InputError, match="blocks"):
        ga.ex.export_peaks(adata, out_dir=tmp_path, output_format="gappedPeak")
    ga.tl.call_peaks(adata, call_broad_peaks=True, key_added="broad")
    assert next(iter(ga.ex.export_peaks(adata, key="broad", out_dir=tmp_path).values())).endswith("all.broadPeak")
    gapped = ga.ex.export_peaks(adata, key="broad", out_dir=tmp_path, suffix=".gappedPeak")["all"]
    assert pd.read_csv(gapped, sep="\t", header=None).shape == (len(adata.uns["broad"]), 15)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"qvalue": 0}, "qvalue must be"),
        ({"qvalue": 1.5}, "qvalue must be"),
        ({"pvalue": "a"}, "pvalue must be a number"),
        ({"qvalue": 0.1, "pvalue": 0.1}, r"pvalue \(0.1\) is a bound instead of qvalue, and qvalue \(0.1\) is given as well; leave"),
        ({"extsize": 0}, "extsize must be"),
        ({"shift": 0.5}, "shift must be a whole number"),
        ({"min_len": -1}, "min_len must be"),
        ({"max_frag_size": 10, "min_frag_size": 20}, "max_frag_size must be"),
        ({"counting_strategy": "paired-insertion"}, "counting_strategy must be one of"),
        ({"genome_size": "hg38"}, "genome_size must be one of"),
        ({"exclude_chroms": ["chr77"]}, "chr77"),
        ({"call_broad_peaks": True, "qvalue": 0.2}, "broad_cutoff"),
        ({"groupby": ["a"]}, "1 labels for 40 cells"),
        ({"groupby": "kind", "selections": ["zz"]}, "the groups are b, a"),
    ],
)
def test_bad_parameters_are_refused_before_any_work(adata, options, told):
    with pytest.raises(InputError, match=told):
        ga.tl.call_peaks(adata, **options)
    assert "peaks" not in adata.uns


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({"replicate_qvalue": 0.1}, "replicate"),
        ({"broad_cutoff": 0.2}, "call_broad_peaks"),
        ({"max_count": 2}, "use_counts"),
    ],
)
def test_an_option_without_effect_is_named_with_what_it_needs(adata, options, needed, caplog):
    ga.tl.call_peaks(adata, **options)
    assert f"tl.call_peaks: {next(iter(options))} has no effect without {needed}" in caplog.messages


def test_missing_slots_are_named(adata):
    with pytest.raises(MissingSlotError, match="nothere"):
        ga.tl.call_peaks(adata, groupby="nothere")
    with pytest.raises(MissingSlotError, match=r"tl\.call_peaks"):
        ga.tl.peaks_by_group(adata)
