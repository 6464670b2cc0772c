"""Tracks of fragments and of files: every window against a loop over the fragments, thinning, depth, and what is refused."""

from __future__ import annotations

import numpy as np
import pyBigWig
import pytest

import gpuatac as ga
from gpuatac import memory
from gpuatac.core.track_source import LENGTH_CLASSES
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.fragments.attach import attached
from gpuatac.io.fragments.store import StoredFragments
from gpuatac.io.tracks.fragment_tracks import FileTracks, FragmentTracks, thinned

SIZES = {"chr1": 9000, "chr10": 4000, "chr2": 700, "chrM": 300}
GENOME = ga.Genome("toy", SIZES)
CELLS = ["AA-1", "CC-1", "GG-1", "TT-1"]
MEMBERS = [np.array([0, 1]), np.array([1, 2, 3]), np.array([], np.int64)]
GROUPS = ["a", "b", "none"]


def random_fragments(seed, n=500, cells=CELLS):
    rng = np.random.default_rng(seed)
    rows = set()
    while len(rows) < n:
        chrom = str(rng.choice(list(SIZES), p=[0.6, 0.3, 0.06, 0.04]))
        start = int(rng.integers(0, SIZES[chrom]))
        length = int(rng.integers(1, 400) if rng.random() < 0.97 else 2000)
        rows.add((chrom, start, min(start + length, SIZES[chrom]), str(rng.choice(cells))))
    return sorted(rows)


def imported(path, fragments, device="cpu"):
    path.write_text("".join(f"{c}\t{s}\t{e}\t{b}\t{1 + s % 3}\n" for c, s, e, b in fragments))
    return ga.pp.import_fragments(path, GENOME, min_num_fragments=1, device=device)


ROWS = random_fragments(0)


@pytest.fixture
def adata(tmp_path, bk):
    return imported(tmp_path / "toy.tsv", ROWS, bk.name)


def cuts_of(rows, group, members=MEMBERS, cells=CELLS):
    """(chrom, position, fragment length) of each cut of one group."""
    out = []
    for member in members[group].tolist():
        for chrom, start, end, barcode in rows:
            if barcode == cells[member]:
                out += [(chrom, start, end - start), (chrom, end - 1, end - start)]
    return out


def expected_cuts(rows, chrom, members=MEMBERS, cells=CELLS):
    """(n_groups, n_classes, size), cut by cut."""
    out = np.zeros((len(members), 3, SIZES[chrom]), int)
    for g in range(len(members)):
        for name, at, length in cuts_of(rows, g, members, cells):
            if name == chrom:
                which = next(k for k, (low, high) in enumerate(LENGTH_CLASSES) if low <= length < high)
                out[g, which, at] += 1
    return out


def expected_coverage(cuts, half_width):
    size = cuts.shape[-1]
    out = np.zeros_like(cuts)
    for i in range(size):
        out[..., i] = cuts[..., max(0, i - half_width) : i + half_width + 1].sum(axis=-1)
    return out


WINDOWS = [
    ("chr1", 0, 9000),
    ("chr1", 4321, 4322),
    ("chr1", 8950, 9000),
    ("chr10", 100, 3000),
    ("chrM", 0, 300),
    ("chr2", 0, 9),
]


@pytest.mark.parametrize(("chrom", "start", "stop"), WINDOWS)
@pytest.mark.parametrize("half_width", [100, 5])
def test_coverage_of_any_window_counts_the_cuts_around_each_base(adata, bk, chrom, start, stop, half_width):
    source = FragmentTracks(adata, MEMBERS, GROUPS, half_width=half_width)
    found = source.coverage(GENOME.code[chrom], start, stop)
    assert found.dtype == np.float32
    expected = expected_coverage(expected_cuts(ROWS, chrom).sum(axis=1), half_width)[:, start:stop]
    np.testing.assert_array_equal(bk.to_host(found), expected)


@pytest.mark.parametrize(("chrom", "start", "stop"), WINDOWS)
@pytest.mark.parametrize("by_length", [False, True])
def test_cuts_of_any_window_are_those_of_its_fragments(adata, bk, chrom, start, stop, by_length):
    source = FragmentTracks(adata, MEMBERS, GROUPS)
    found = source.cuts(GENOME.code[chrom], start, stop, by_length=by_length)
    assert found.dtype == np.float32
    expected = expected_cuts(ROWS, chrom)
    expected = expected if by_length else expected.sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(bk.to_host(found), expected[..., start:stop])


def test_bins_hold_their_bases_and_may_reach_beyond_the_chromosome(adata, bk):
    source = FragmentTracks(adata, MEMBERS, GROUPS)
    found = bk.to_host(source.cuts(GENOME.code["chr2"], 64, 768, bin_size=64, by_length=True))
    expected = np.zeros((3, 3, 768))
    expected[..., :700] = expected_cuts(ROWS, "chr2")
    np.testing.assert_array_equal(found, expected.reshape(3, 3, 12, 64).sum(axis=-1)[..., 1:])


def test_row_in_no_group_or_named_twice(adata, bk):
    members = [np.array([2, 2])]
    source = FragmentTracks(adata, members, ["twice"])
    np.testing.assert_array_equal(
        bk.to_host(source.cuts(0, 0, 9000))[:, 0], expected_cuts(ROWS, "chr1", members).sum(axis=1)
    )
    assert source.depth.tolist() == [4 * sum(b == "GG-1" for *_, b in ROWS)]


def test_depth_counts_the_cuts_of_every_chromosome(adata):
    source = FragmentTracks(adata, MEMBERS, GROUPS)
    assert source.depth.dtype == np.float64
    assert source.depth.tolist() == [len(cuts_of(ROWS, g)) for g in range(3)]
    assert source.codes == [GENOME.code[c] for c in sorted(SIZES)]
    assert (source.has_cuts, source.has_lengths) == (True, True)


def test_blacklist_takes_both_cuts_of_a_fragment(adata, bk):
    regions = [("chr1", 2000, 2600), ("chr10", 0, 50)]
    left = [r for r in ROWS if not any(r[0] == c and r[1] < e and r[2] > s for c, s, e in regions)]
    assert len(left) < len(ROWS) - 20
    source = FragmentTracks(adata, MEMBERS, GROUPS, blacklist=[f"{c}:{s}-{e}" for c, s, e in regions])
    for chrom in ("chr1", "chr10", "chr2"):
        found = source.cuts(GENOME.code[chrom], 0, SIZES[chrom], by_length=True)
        np.testing.assert_array_equal(bk.to_host(found), expected_cuts(left, chrom))
    assert source.depth.tolist() == [len(cuts_of(left, g)) for g in range(3)]


@pytest.fixture
def two_samples(tmp_path, bk):
    """An import of two samples that share barcodes, and its rows with cells named by sample and barcode."""
    other = random_fragments(1, 200, ["AA-1", "CC-1"])
    paths = []
    for name, rows in (("x", ROWS), ("y", other)):
        paths.append(tmp_path / f"{name}.tsv")
        paths[-1].write_text("".join(f"{c}\t{s}\t{e}\t{b}\t1\n" for c, s, e, b in rows))
    rows = [(c, s, e, "x" + b) for c, s, e, b in ROWS] + [(c, s, e, "y" + b) for c, s, e, b in other]

    def read(**options):
        adata = ga.pp.import_fragments(paths, GENOME, min_num_fragments=1, device=bk.name, **options)
        return adata, (adata.obs["sample"].astype(str) + adata.obs["barcode"].astype(str)).tolist()

    return rows, read


def test_samples_add_up(two_samples, bk):
    rows, read = two_samples
    adata, cells = read()
    members = [np.array([0, 4]), np.array([1, 5, 3])]
    found = FragmentTracks(adata, members, ["a", "b"])
    expected = expected_cuts(rows, "chr1", members, cells)
    np.testing.assert_array_equal(bk.to_host(found.cuts(0, 0, 9000, by_length=True)), expected)
    assert found.depth.tolist() == [len(cuts_of(rows, g, members, cells)) for g in range(2)]


def test_fragments_that_stay_on_disk_give_the_same(two_samples, bk, tmp_path, monkeypatch):
    _, read = two_samples
    members = [np.array([0, 4]), np.array([1, 5, 3])]
    in_memory = FragmentTracks(read()[0], members, ["a", "b"])
    monkeypatch.setitem(memory._state, "given", 3000)  # bytes
    ga.io.forget()
    adata = read(out=tmp_path / "stored")[0]
    assert {type(part.fragments) for part in attached(adata)} == {StoredFragments}
    on_disk = FragmentTracks(adata, members, ["a", "b"])
    for code in range(4):
        size = int(GENOME.sizes[code])
        for one, other in ((in_memory, on_disk), [thinned(s, 0.5, seed=2) for s in (in_memory, on_disk)]):
            assert (one.coverage(code, 0, size) == other.coverage(code, 0, size)).all()
    assert on_disk.depth.tolist() == in_memory.depth.tolist()
    ga.io.forget()


@pytest.mark.parametrize("window", [(0, 9000), (100, 8000), (1, 3)])
def test_empty_stretches_have_no_coverage_and_long_ones_are_named(tmp_path, bk, window):
    rows = [("chr1", 30, 90, "AA-1"), ("chr1", 2000, 6000, "AA-1"), ("chr1", 8000, 8001, "CC-1")]
    adata = imported(tmp_path / "few.tsv", rows, bk.name)
    source = FragmentTracks(adata, [np.array([0]), np.array([1])], ["a", "c"])
    found = source.empty(0, *window)
    assert found.dtype == np.int64
    covered = np.zeros(9000, bool)
    for at in (30, 89, 2000, 5999, 8000):
        covered[max(0, at - 100) : at + 101] = True
    named = np.zeros(9000, bool)
    for low, high in found.tolist():
        assert window[0] <= low < high <= window[1]
        named[low:high] = True
    assert not (named & covered).any()
    for between in ((190, 1900), (2101, 5899), (6100, 7900)):
        low, high = max(between[0], window[0]), min(between[1], window[1])
        if high - low > 1000:
            assert named[low:high].mean() > 0.9
    assert (np.diff(found.ravel()) > 0).all()


# -------------------------------------------------------------------------------------------- thinning


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """12,000 distinct fragments of one cell, some of them twice."""
    rows = random_fragments(5, 12_000, ["AA-1"])
    return imported(tmp_path_factory.mktemp("many") / "many.tsv", rows + rows[:50])


def test_thinning_keeps_the_share_and_the_same_reads_in_any_window(many):
    source = FragmentTracks(many, [np.array([0]), np.array([0])], ["a", "b"])
    thin = thinned(source, np.array([0.25, 0.6]), seed=3)
    assert thin.depth.tolist() == [6025 * 2 * 2 * 0.25, 6025 * 2 * 2 * 0.6]
    whole = thin.cuts(0, 0, 9000, by_length=True)
    assert (whole <= source.cuts(0, 0, 9000, by_length=True)).all()
    assert (whole[0] <= whole[1]).all()  # the same hash for both
    kept = whole.sum(axis=(1, 2)) / source.cuts(0, 0, 9000).sum(axis=(1, 2))
    assert kept == pytest.approx([0.25, 0.6], abs=0.03)
    for low, high in ((0, 10), (3000, 3300), (4999, 9000), (777, 778)):
        assert (thin.cuts(0, low, high, by_length=True) == whole[..., low:high]).all()
    coverage = thin.coverage(0, 2500, 2600)
    assert (coverage[:, 0] == whole[:, :, 2400:2601].sum(axis=(1, 2))).all()


def test_thinning_keeps_or_loses_both_cuts_of_a_fragment(tmp_path):
    rows = [("chr1", 40 * i, 40 * i + 20, "AA-1") for i in range(200)]
    source = FragmentTracks(imported(tmp_path / "f.tsv", rows), [np.array([0])], ["a"])
    cuts = thinned(source, 0.5, seed=1).cuts(0, 0, 8000)[0, 0]
    assert (cuts[0::40] == cuts[19::40]).all()
    assert 70 < cuts[0::40].sum() < 130


def test_thinning_by_extremes_seeds_and_twice(many):
    source = FragmentTracks(many, [np.array([0])], ["a"])
    whole = source.cuts(0, 0, 9000)
    assert (thinned(source, 1.0, seed=0).cuts(0, 0, 9000) == whole).all()
    assert not thinned(source, 0.0, seed=0).cuts(0, 0, 9000).any()
    one, two = (thinned(source, 0.5, seed=seed).cuts(0, 0, 9000) for seed in (1, 2))
    assert (one != two).any()
    assert (thinned(source, 0.5, seed=1).cuts(0, 0, 9000) == one).all()
    twice = thinned(thinned(source, 0.5, seed=1), 0.5, seed=2)
    assert twice.depth.tolist() == [source.depth[0] / 4]
    both = twice.cuts(0, 0, 9000)
    assert (both <= np.minimum(one, two)).all()
    assert both.sum() / whole.sum() == pytest.approx(0.25, abs=0.03)
    assert (source.cuts(0, 0, 9000) == whole).all()


def test_thinning_does_not_depend_on_which_other_cells_are_there(tmp_path):
    rows = random_fragments(6, 900)
    alone = imported(tmp_path / "alone.tsv", [r for r in rows if r[3] == "GG-1"])
    among = imported(tmp_path / "among.tsv", rows)
    among.uns["fragments"]["samples"][0] = among.uns["fragments"]["samples"][0].replace('"among"', '"alone"')
    found = [
        thinned(FragmentTracks(a, [np.flatnonzero(a.obs_names == "GG-1")], ["g"]), 0.4, seed=8).cuts(0, 0, 9000)
        for a in (alone, among)
    ]
    assert found[0].sum() > 20
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1.5, "share must lie in"),
        (-0.1, "share must lie in"),
        (np.nan, "share must lie in"),
        (np.ones(3) / 2, "one for each"),
    ],
)
def test_share_outside_its_range_is_refused(many, share, message):
    with pytest.raises(InputError, match=message):
        thinned(FragmentTracks(many, [np.array([0])], ["a"]), share, seed=0)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([np.array([0])], "1 entries for 2 groups"),
        ([np.array([0]), np.array([4])], r"1 of 2 row numbers lie outside \[0, 4\)"),
        ([np.array([0]), np.array([True, False])], "one-dimensional arrays of row numbers"),
    ],
)
def test_members_that_are_no_rows_are_refused(tmp_path, members, message):
    with pytest.raises(InputError, match=message):
        FragmentTracks(imported(tmp_path / "f.tsv", ROWS), members, ["a", "b"])


# ----------------------------------------------------------------------------------------------- files


def file_of(path, tracks, sizes=SIZES):
    """A bigWig or bedGraph of dense tracks by chromosome."""
    runs = []
    for chrom in sorted(tracks):
        values = tracks[chrom]
        edges = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1, [values.size]])
        starts, ends = edges[:-1], edges[1:]
        runs += [(chrom, int(s), int(e), float(values[s])) for s, e in zip(starts, ends, strict=True) if values[s]]
    if path.suffix == ".bw":
        with pyBigWig.open(str(path), "w") as out:
            out.addHeader(sorted(sizes.items()))
            chroms, starts, ends, values = (list(column) for column in zip(*runs, strict=True))
            out.addEntries(chroms, starts, ends=ends, values=values)
    else:
        path.write_text("".join(f"{c}\t{s}\t{e}\t{v:.9g}\n" for c, s, e, v in runs))
    return path


@pytest.fixture(scope="module")
def group_cuts():
    """Cuts of group a, by chromosome."""
    return {chrom: expected_cuts(ROWS, chrom)[0].sum(axis=0) for chrom in SIZES}


def coverages(cuts, half_width=100, factor=1.0):
    return {chrom: expected_coverage(one, half_width) * factor for chrom, one in cuts.items()}


@pytest.mark.parametrize("suffix", [".bw", ".bedGraph"])
@pytest.mark.parametrize("factor", [1.0, 0.0371])
@pytest.mark.parametrize("half_width", [100, 5])
def test_file_gives_back_the_cuts_behind_it(tmp_path, bk, group_cuts, suffix, factor, half_width):
    tracks = coverages(group_cuts, half_width, factor)
    path = file_of(tmp_path / f"a{suffix}", tracks)
    source = FileTracks([path], genome=GENOME, depth=[5e6], half_width=half_width, device=bk.name)
    assert (source.groups, source.has_cuts, source.has_lengths, source.codes) == (["a"], True, False, [0, 1, 2, 3])
    assert source.factors == [pytest.approx(factor, rel=1e-6)]
    assert source.depth.tolist() == [5e6]
    for chrom, start, stop in WINDOWS:
        code = GENOME.code[chrom]
        coverage = source.coverage(code, start, stop)
        assert coverage.dtype == np.float32
        np.testing.assert_allclose(bk.to_host(coverage)[0] * factor, tracks[chrom][start:stop], rtol=1e-6)
        if chrom == "chrM" and half_width == 100:  # every base is covered: many cuts fit
            continue
        cuts = source.cuts(code, start, stop)
        assert cuts.dtype == np.float32
        np.testing.assert_array_equal(bk.to_host(cuts)[0, 0], group_cuts[chrom][start:stop])
    padded = np.zeros(768)
    padded[:700] = group_cuts["chr2"]
    binned = bk.to_host(source.cuts(GENOME.code["chr2"], 64, 768, bin_size=64))
    if half_width == 5:
        np.testing.assert_array_equal(binned[0, 0], padded.reshape(12, 64).sum(axis=1)[1:])


def test_blocks_join(tmp_path, bk, group_cuts, monkeypatch):
    from gpuatac.io.tracks import file_tracks

    monkeypatch.setattr(file_tracks, "BLOCK", 777)
    path = file_of(tmp_path / "a.bw", coverages(group_cuts))
    source = FileTracks([path], depth=[1], device=bk.name)
    np.testing.assert_array_equal(bk.to_host(source.coverage(0, 0, 9000))[0], coverages(group_cuts)["chr1"])
    np.testing.assert_array_equal(bk.to_host(source.cuts(0, 0, 9000))[0, 0], group_cuts["chr1"])
    np.testing.assert_array_equal(bk.to_host(source.cuts(0, 776, 1600))[0, 0], group_cuts["chr1"][776:1600])


def test_file_that_holds_a_part_of_a_chromosome_tells_its_cuts(tmp_path, bk, group_cuts):
    tracks = coverages(group_cuts)
    tracks = {"chr1": tracks["chr1"].copy()}
    tracks["chr1"][:3017] = 0
    tracks["chr1"][8123:] = 0
    source = FileTracks([file_of(tmp_path / "a.bw", tracks)], depth=[1], device=bk.name)
    assert source.has_cuts
    np.testing.assert_array_equal(bk.to_host(source.cuts(0, 3017, 8123))[0, 0], group_cuts["chr1"][3017:8123])


def test_several_files_are_several_groups(tmp_path, bk, group_cuts):
    paths = [
        file_of(tmp_path / "one.bw", coverages(group_cuts)),
        file_of(tmp_path / "two.bedGraph", {"chr10": coverages(group_cuts)["chr10"]}),
    ]
    source = FileTracks(paths, genome=None, groups=["x", "y"], depth=[3, 4], device=bk.name)
    assert source.groups == ["x", "y"]
    assert source.codes == [0, 1, 2, 3]
    found = bk.to_host(source.coverage(1, 0, 4000))
    np.testing.assert_array_equal(found, np.repeat(coverages(group_cuts)["chr10"][None], 2, axis=0))
    assert not source.coverage(0, 0, 9000)[1].any()
    assert not source.cuts(0, 0, 9000)[1].any()
    assert source.cuts(0, 0, 9000)[0].any()


@pytest.mark.parametrize("kind", ["binned", "smoothed", "rounded", "fragments"])
def test_track_that_is_no_sum_of_cuts_has_coverage_alone(tmp_path, bk, group_cuts, kind):
    values = coverages(group_cuts)["chr1"].astype(float)
    if kind == "binned":
        values = np.repeat(values.reshape(-1, 50).max(axis=1), 50)
    elif kind in ("smoothed", "rounded"):
        values = np.convolve(values, np.hanning(51), mode="same").round(6 if kind == "smoothed" else 1)
    else:
        values = np.zeros(9000)
        for chrom, start, end, _ in ROWS:
            if chrom == "chr1":
                values[start:end] += 1
    source = FileTracks([file_of(tmp_path / "a.bw", {"chr1": values})], depth=[7], device=bk.name)
    assert not source.has_cuts
    np.testing.assert_allclose(bk.to_host(source.coverage(0, 0, 9000))[0], values, rtol=1e-6)
    with pytest.raises(InputError, match="do not tell cuts; use a fragment file"):
        source.cuts(0, 0, 9000)
    with pytest.raises(InputError, match="cuts cannot be told from these files"):
        thinned(source, 0.5, seed=0)
    assert source.factors == [None]


def test_cuts_that_stop_fitting_further_on_name_the_place(tmp_path, bk, group_cuts, monkeypatch):
    from gpuatac.io.tracks import file_tracks

    monkeypatch.setattr(file_tracks, "TRIED", 1000)
    monkeypatch.setattr(file_tracks, "BLOCK", 1000)
    values = coverages(group_cuts)["chr1"].copy()
    values[6000] += 1
    source = FileTracks([file_of(tmp_path / "a.bw", {"chr1": values})], depth=[7], device=bk.name)
    with pytest.raises(
        FileFormatError, match=r"on chr1 from base 6,000 a track that is no sum of cuts .the coverage 1 bp into"
    ):
        source.cuts(0, 0, 9000)


def test_depth_is_told_by_a_file_that_covers_the_genome(tmp_path, bk, group_cuts, caplog):
    inner = {
        chrom: np.where((i := np.arange(SIZES[chrom])) < 100, 0, np.where(i >= SIZES[chrom] - 100, 0, c))
        for chrom, c in group_cuts.items()
    }
    path = file_of(tmp_path / "a.bw", coverages(inner, factor=0.25))
    with caplog.at_level("INFO"):
        source = FileTracks([path], device=bk.name)
    assert source.depth.tolist() == [pytest.approx(sum(c.sum() for c in inner.values()), rel=1e-6)]
    assert "depth taken from the file" in caplog.text
    assert "a cut counts 0.25" in caplog.text


def test_depth_must_be_given_where_the_file_does_not_tell_it(tmp_path, bk, group_cuts):
    part = file_of(tmp_path / "part.bw", {"chr10": coverages(group_cuts)["chr10"]})
    with pytest.raises(InputError, match=r"part.bw has values on 2\d.\d% of genome part, so the depth .* give depth"):
        FileTracks([part], device=bk.name)
    ratio = file_of(tmp_path / "ratio.bw", {c: np.sqrt(v + 0.3) for c, v in coverages(group_cuts).items()})
    with pytest.raises(
        InputError, match=r"ratio.bw does not count cuts within 100 bp of each base and so does not tell its depth"
    ):
        FileTracks([ratio], device=bk.name)


@pytest.mark.parametrize("depth", [[0.0], [-1], [1, 2], ["x"], [np.nan]])
def test_depth_that_is_none_is_refused(tmp_path, bk, group_cuts, depth):
    path = file_of(tmp_path / "a.bw", coverages(group_cuts))
    with pytest.raises(InputError, match="depth must be 1 numbers above 0"):
        FileTracks([path], depth=depth, device=bk.name)


def test_no_file_and_names_that_do_not_match_are_refused(tmp_path, group_cuts):
    path = file_of(tmp_path / "a.bw", coverages(group_cuts))
    for paths, groups in (([], None), ([path], ["a", "b"]), ([path, path], None)):
        with pytest.raises(InputError, match="a name of its own to each"):
            FileTracks(paths, groups=groups, depth=[1])


def test_empty_stretches_of_files(tmp_path, bk):
    cuts = np.zeros(9000, int)
    cuts[[500, 4000, 8999]] = 1
    source = FileTracks([file_of(tmp_path / "a.bw", coverages({"chr1": cuts}))], depth=[3], device=bk.name)
    assert source.empty(0, 0, 9000).tolist() == [[0, 400], [601, 3900], [4101, 8899]]
    assert source.empty(0, 450, 700).tolist() == [[601, 700]]
    assert thinned(source, 0.0, seed=1).empty(0, 0, 9000).tolist() == [[0, 9000]]


def test_thinning_of_files_keeps_the_share_and_the_same_cuts_in_any_window(tmp_path, bk):
    rng = np.random.default_rng(4)
    cuts = {"chr1": np.bincount(rng.integers(1500, 7500, 9000), minlength=9000)}
    paths = [file_of(tmp_path / f"{name}.bw", coverages(cuts)) for name in "ab"]
    source = FileTracks(paths, depth=[9000, 9000], device=bk.name)
    whole = bk.to_host(source.cuts(0, 0, 9000))
    assert (whole[:, 0] == cuts["chr1"]).all()
    thin = thinned(source, [0.3, 0.3], seed=5)
    assert thin.depth.tolist() == [2700, 2700]
    found = bk.to_host(thin.cuts(0, 0, 9000))
    assert (found <= whole).all()
    assert found.sum(axis=(1, 2)) / 9000 == pytest.approx([0.3, 0.3], abs=0.03)
    assert (found[0] != found[1]).any()  # libraries of their own
    for low, high in ((0, 10), (2000, 2001), (3333, 6666)):
        np.testing.assert_array_equal(bk.to_host(thin.cuts(0, low, high)), found[..., low:high])
    coverage = bk.to_host(thin.coverage(0, 0, 9000))
    np.testing.assert_array_equal(coverage, expected_coverage(found[:, 0], 100))
    np.testing.assert_array_equal(bk.to_host(thin.coverage(0, 50, 60)), coverage[:, 50:60])


# ------------------------------------------------------------------------------------------- real data


def test_real_track_gives_its_cuts_and_its_coverage_back(data_dir):
    folder = data_dir / "denoise" / "hsc_5m_to_80m_hg19"
    source = FileTracks([folder / "HSC.5M.chr123.10mb.coverage.bw"], depth=[5e6], device="cpu")
    assert (source.has_cuts, source.factors, source.codes) == (True, [1.0], [0, 1, 2])
    assert source.cuts(0, 0, 10_000_000).sum() == 13_388
    size = 3_000_000
    coverage, cuts = source.coverage(2, 0, size)[0], source.cuts(2, 0, size + 100)[0, 0]
    total = np.concatenate([np.zeros(101), np.cumsum(cuts)])  # of the cuts left of each base, from base -100 on
    np.testing.assert_array_equal(coverage, total[201 : 201 + size] - total[:size])
    assert coverage.max() > 50
    with pytest.raises(InputError, match=r"has values on 4\.3% of genome"):
        FileTracks([folder / "HSC.5M.chr123.10mb.coverage.bw"], device="cpu")


def test_thinned_files_lose_cuts_by_two_where_paired(tmp_path):
    """The variance of thinned counts is that of pairs, whatever window is asked, and the same for the same seed."""
    rng = np.random.default_rng(0)
    size = 400_000
    start = rng.integers(200, size - 900, 12_000)
    cuts = np.bincount(np.concatenate([start, start + rng.integers(40, 120, start.size)]), minlength=size)
    coverage = np.convolve(cuts, np.ones(201))[100:-100].round()
    edges = np.flatnonzero(np.diff(coverage, prepend=np.nan))
    with (tmp_path / "deep.bedGraph").open("w") as out:
        for a, b in zip(edges, [*edges[1:], size], strict=True):
            out.write(f"chr1\t{a}\t{b}\t{coverage[a]:.0f}\n")
    deep = FileTracks(
        [tmp_path / "deep.bedGraph"], genome=ga.Genome("toy", {"chr1": size}), depth=[24_000], device="cpu"
    )
    spread = {}
    for paired in (False, True):
        counts = [
            thinned(deep, 0.25, seed=seed, paired=paired).cuts(0, 0, size, bin_size=1_000)[0, 0] for seed in range(40)
        ]
        spread[paired] = np.var(counts, axis=0).sum() / np.mean(counts, axis=0).sum()
        one = thinned(deep, 0.25, seed=3, paired=paired)
        whole = one.cuts(0, 0, size)
        np.testing.assert_array_equal(one.cuts(0, 100_000, 150_000), whole[..., 100_000:150_000])
        assert (whole <= deep.cuts(0, 0, size)).all()
    assert spread[False] == pytest.approx(0.75, abs=0.1)
    assert 1.2 < spread[True] < 1.5
