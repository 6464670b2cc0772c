"""tl.denoise and tl.denoised_tracks with a network that is a box: against NumPy from the definitions, files, errors."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyBigWig
import pytest

import gpuatac as ga
from gpuatac.errors import InputError, MissingSlotError

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (gpuatac[nn])")

from gpuatac.nn.checkpoints import make_model, save_model  # noqa: E402
from gpuatac.nn.contract import ModelCard  # noqa: E402

SIZES = {"chr1": 60_000, "chr10": 20_007, "chrM": 4000}
FIELD, SCALE, LEVEL = (
    151,
    3.0,
    60.01,
)  # a peak is where SCALE times the mean of 151 bases reaches LEVEL, which none equals


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(7)
    found = []
    for chrom, size in SIZES.items():
        n = size // 20
        sites = rng.integers(300, size - 700, size // 3000 + 1)
        at = np.where(rng.random(n) < 0.5, rng.choice(sites, n) + rng.normal(0, 90, n), rng.integers(0, size - 500, n))
        start = np.clip(at, 0, size - 500).astype(int)
        end = start + rng.integers(25, 450, n)
        found += [(chrom, *row) for row in zip(start, end, rng.integers(0, 30, n), strict=True)]
    return sorted(found)


@pytest.fixture(scope="module")
def made(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("denoise") / "f.tsv"
    path.write_text("".join(f"{c}\t{s}\t{e}\tC{k:02d}\t1\n" for c, s, e, k in rows))
    adata = ga.pp.import_fragments(path, ga.Genome("toy", SIZES), min_num_fragments=0, device="cpu")
    number = adata.obs_names.str[1:].astype(int)
    adata.obs["kind"] = pd.Categorical(np.where(number < 22, "B / x", "a"), categories=["B / x", "a", "unused"])
    return adata


@pytest.fixture
def adata(made):
    return made.copy()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    box = make_model("linear", field=FIELD)
    with torch.no_grad():
        box.conv_layer.weight.fill_(SCALE / FIELD)
        box.conv_layer.bias.zero_()
        box.slope.fill_(0.125)
        box.intercept.fill_(-0.125 * LEVEL)
    path = tmp_path_factory.mktemp("model") / "box.pt"
    save_model(path, box, ModelCard(target_depth=50_000, license="none"))
    return path


def tracks(rows, chrom, cells):
    """Coverage and SCALE times its mean over FIELD bases."""
    out = np.zeros(SIZES[chrom] + 400)
    for c, start, end, cell in rows:
        if c == chrom and cell in cells:
            for cut in (start, end - 1):
                out[max(0, cut - 100) : cut + 101] += 1
    noisy = out[: SIZES[chrom]]
    return noisy, np.convolve(noisy, np.full(FIELD, SCALE / FIELD), "same")


def peaks_of(signal, max_gap, min_length):
    """Runs of LEVEL, joined, long enough: start, end, length, mean, max, peak, summit."""
    runs = []
    for at in np.flatnonzero(signal >= LEVEL).tolist():
        if runs and at - runs[-1][1] <= max_gap:
            runs[-1][1] = at + 1
        else:
            runs.append([at, at + 1])
    return [
        (a, b, b - a, signal[a:b].mean(), signal[a:b].max(), int(signal[a:b].argmax()), a + int(signal[a:b].argmax()))
        for a, b in runs
        if b - a >= min_length
    ]


GROUPS = {"B / x": set(range(22)), "a": set(range(22, 30))}
COLUMNS = ["group", "chrom", "start", "end", "length", "mean", "max", "peak", "summit"]


def expected(rows, *, max_gap=30, min_length=200):
    found = [
        (group, chrom, *peak)
        for group, cells in GROUPS.items()
        for chrom in SIZES
        for peak in peaks_of(tracks(rows, chrom, cells)[1], max_gap, min_length)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def same(frame, want, rows):
    assert list(frame) == COLUMNS
    got = frame.astype({"group": str, "chrom": str}).reset_index(drop=True)
    exact = ["group", "chrom", "start", "end", "length"]
    pd.testing.assert_frame_equal(got[exact], want[exact], check_dtype=False)
    np.testing.assert_allclose(got[["mean", "max"]], want[["mean", "max"]], rtol=1e-5)
    for (group, chrom), mine in got.groupby(["group", "chrom"]):  # which base of a plateau is first turns on roundings
        _, signal = tracks(rows, chrom, GROUPS[group])
        np.testing.assert_allclose(signal[mine["summit"]], mine["max"], rtol=1e-5)
    np.testing.assert_array_equal(got["peak"], got["summit"] - got["start"])


@pytest.mark.parametrize("options", [{}, {"max_gap": 0, "min_length": 1}, {"max_gap": 300, "min_length": 400}])
def test_peaks_are_runs_of_the_denoised_track(adata, model, rows, options):
    assert ga.tl.denoise(adata, "kind", model=model, **options) is None
    frame = adata.uns["denoised"]
    want = expected(rows, **options)
    assert len(want) > 20
    same(frame, want, rows)
    assert frame["group"].cat.categories.tolist() == ["B / x", "a"]
    assert frame["chrom"].cat.categories.tolist() == sorted(SIZES)
    assert [str(t) for t in frame.dtypes.iloc[2:]] == ["int32"] * 3 + ["float32"] * 2 + ["int32"] * 2
    record = adata.uns["denoised_record"]
    assert record["groups"].tolist() == ["B / x", "a"]
    cuts = [2 * sum(row[3] in cells for row in rows) for cells in GROUPS.values()]
    assert record["depth"].tolist() == cuts
    assert record["n_peaks"].tolist() == [(want["group"] == group).sum() for group in GROUPS]
    assert json.loads(record["model"])["target_depth"] == 50_000
    assert ga.pp.history(adata)[-1]["verb"] == "tl.denoise"


def test_results_survive_a_file_and_feed_the_other_verbs(adata, model, tmp_path):
    ga.tl.denoise(adata, "kind", model=model, key_added="box")
    ga.io.write_h5ad(adata, tmp_path / "x.h5ad")
    back = ga.io.read_h5ad(tmp_path / "x.h5ad")
    frames = ga.tl.peaks_by_group(back, "box")
    assert list(frames) == ["B / x", "a"]
    merged = ga.tl.merge_peaks(frames, dict(SIZES), by="max")
    assert len(merged) >= max(map(len, frames.values())) // 2
    assert back.uns["box_record"]["depth"].tolist() == adata.uns["box_record"]["depth"].tolist()


def values_of(path, chrom):
    with pyBigWig.open(str(path)) as file:
        return np.nan_to_num(file.values(chrom, 0, SIZES[chrom], numpy=True))


def test_files_hold_the_tracks_and_the_summary_of_the_peaks(adata, model, rows, tmp_path):
    ga.tl.denoise(adata, "kind", model=model, out_dir=tmp_path / "o", prefix="s.", decimals=2, probability_decimals=4)
    ends = ("peaks.bed", "probability.bw", "signal.bw")
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [f"s.{g}.{e}" for g in ("B _ x", "a") for e in ends]
    assert len(adata.uns["denoised_record"]["files"]) == 6
    for group, cells in GROUPS.items():
        stem = tmp_path / "o" / f"s.{group.replace('/', '_')}"
        for chrom in SIZES:
            _, signal = tracks(rows, chrom, cells)
            np.testing.assert_allclose(values_of(f"{stem}.signal.bw", chrom), signal, atol=0.0051, rtol=1e-5)
            probability = 1 / (1 + np.exp(-0.125 * (signal - LEVEL)))
            np.testing.assert_allclose(values_of(f"{stem}.probability.bw", chrom), probability, atol=0.000052)
        text = (tmp_path / "o" / f"{stem.name}.peaks.bed").read_text().splitlines()
        assert text[0] == "#chrom\tstart\tend\tlength\tmean\tmax\trelative_summit\tsummit"
        first = adata.uns["denoised"].query("group == @group").iloc[0]
        want = [*map(str, first[["chrom", "start", "end", "length"]]), f"{first['mean']:.6g}", f"{first['max']:.6g}"]
        assert text[1].split("\t") == [*want, str(first["peak"]), str(first["summit"])]


def test_one_track_as_bedgraph_scaled_to_a_depth(adata, model, rows, tmp_path):
    frame = ga.tl.denoise(
        adata, "kind", model=model, out_dir=tmp_path, tracks=["signal"], output_format="bedgraph", selections=["a"],
        signal_depth=100_000, inplace=False, resolution=10, decimals=0,
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.peaks.bed", "a.signal.bedgraph"]
    lines = pd.read_csv(tmp_path / "a.signal.bedgraph", sep="\t", header=None, comment="t")
    dense = np.zeros(SIZES["chr1"])
    for _, start, end, value in lines[lines[0] == "chr1"].itertuples(index=False):
        dense[start:end] = value
    _, signal = tracks(rows, "chr1", GROUPS["a"])
    np.testing.assert_allclose(dense[::10], 2 * signal.reshape(-1, 10).mean(axis=1), atol=0.501)
    want = expected(rows)
    np.testing.assert_allclose(frame["max"], 2 * want[want["group"] == "a"]["max"], rtol=1e-5)


def test_tracks_of_a_region_for_figures(adata, model, rows):
    at = ga.tl.denoised_tracks(adata, "kind", region="chr10:18000-20007", model=model)
    assert (at.groups, at.chrom, at.start, at.end) == (["B / x", "a"], "chr10", 18_000, 20_007)
    for g, cells in enumerate(GROUPS.values()):
        noisy, signal = tracks(rows, "chr10", cells)
        np.testing.assert_array_equal(at.noisy[g], noisy[18_000:])
        np.testing.assert_allclose(at.signal[g], signal[18_000:], rtol=1e-4, atol=1e-4)
    assert at.probability.shape == (2, 2007)
    assert at.depth.tolist() == [2 * sum(row[3] in cells for row in rows) for cells in GROUPS.values()]


@pytest.mark.parametrize(
    ("region", "told"),
    [
        ("two.bed", "region must look like chr11:118,300,000-118,400,000"),
        (["chr1", "chr10"], "write one stretch so"),
        ("chr1:1-99999999", r"0 <= start < end <= 60,000 \(the size of chr1\)"),
        (("chr1", 5, 60_001), "0 <= start < end <= 60,000"),
        ("", "region must look like"),
        (5, r"be \(chrom, start, end\), got 5"),
    ],
)
def test_tracks_for_figures_are_of_one_stretch_of_the_genome(adata, model, tmp_path, monkeypatch, region, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.bed").write_text("chr1\t0\t1000\nchr10\t0\t1000\n")
    with pytest.raises(InputError, match=told):
        ga.tl.denoised_tracks(adata, "kind", region=region, model=model)


def test_a_region_for_figures_may_be_a_tuple(adata, model):
    words = ga.tl.denoised_tracks(adata, "kind", region="chr1:1,000-1,200", model=model)
    given = ga.tl.denoised_tracks(adata, "kind", region=("chr1", 1000, 1200), model=model)
    np.testing.assert_array_equal(words.signal, given.signal)


def test_regions_are_named_in_many_ways(adata, model, tmp_path):
    bed = tmp_path / "r.bed"
    bed.write_text("chr1\t0\t30000\nchr10\t0\t99999999\n")
    frame = pd.DataFrame({"chrom": ["1", "10"], "start": [0, 0], "end": [30_000, 20_007]})
    found = [
        ga.tl.denoise(adata, "kind", model=model, inplace=False, regions=regions)
        for regions in (bed, frame, ["chr1:0-20000", "chr10", "chr1:20000-30000"], [str(bed)])
    ]
    assert len(found[0]) > 3
    assert (found[0].query("chrom == 'chr1'")["end"] <= 30_000).all()
    for other in found[1:]:
        pd.testing.assert_frame_equal(other, found[0])


def test_blacklisted_fragments_are_left_out(adata, model):
    plain = ga.tl.denoise(adata, model=model, inplace=False)
    clean = ga.tl.denoise(adata, model=model, inplace=False, blacklist=["chr1:0-30000"])
    first = clean.query("chrom == 'chr1' and end < 29000")
    assert len(first) == 0
    assert len(plain.query("chrom == 'chr1' and end < 29000")) > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cutoff": 0}, r"cutoff must be in \[1e-06, 1\], got 0"),
        ({"min_length": 0}, r"min_length must be in \[1,"),
        ({"max_gap": 1.5}, "max_gap must be a whole number"),
        ({"regions": []}, "empty list"),
        ({"regions": ["chr5"]}, r"region 'chr5' is no chromosome of genome toy"),
        ({"regions": ["chr1:5-5"]}, "hold no base"),
        ({"regions": ["chr1:60000-60010"]}, r"which ends behind the end of chr1 in genome toy; allowed: up to 60,000"),
        ({"regions": "chr10:5-20,008"}, r"regions name chr10:5-20,008, .*; allowed: up to 20,007, its length"),
        ({"regions": pd.DataFrame({"chrom": ["1"], "start": [60_000], "end": [60_010]})}, "begin behind the end"),
        ({"regions": ""}, r"region '' is empty; allowed: names like chr1"),
        ({"regions": [" "]}, r"region ' ' is empty"),
        ({"regions": 5}, r"region 5 is no text \(int\)"),
        ({"regions": object()}, r"regions must be a region .* or a list of them, got <object"),
        ({"regions": ["chr1:5-50", "chr77:5-50"]}, "regions name chr77, which genome toy lacks"),
        ({"out_dir": "o", "output_format": "wig"}, "output_format must be one of 'bigwig', 'bedgraph'"),
        ({"out_dir": "o", "tracks": ["peaks"]}, "tracks must be one of"),
        ({"out_dir": "o", "resolution": 0}, "resolution must be in"),
        ({"selections": ["zzz"]}, "selections names 'zzz'"),
        ({"dilation": 8}, "dilation"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_written(adata, model, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        ga.tl.denoise(adata, "kind", model=model, **options)
    assert "denoised" not in adata.uns
    assert list(tmp_path.iterdir()) == []


def test_without_a_model_the_one_that_ships_is_taken_and_without_a_column_that_is_told(adata, model):
    frame = ga.tl.denoise(adata, "kind", regions=["chr1:0-9000"], inplace=False)
    assert list(frame["group"].cat.categories) == ["B / x", "a"]
    with pytest.raises(MissingSlotError, match="no 'zzz'"):
        ga.tl.denoise(adata, "zzz", model=model)


def test_a_run_that_fails_half_way_leaves_no_file(adata, tmp_path):
    windows = []

    def extra(code, start, stop):
        windows.append((code, start, stop))
        return np.zeros((1 if code == 0 else 2, stop - start), np.float32)

    network = make_model("linear", field=FIELD, in_channels=2)
    with pytest.raises(InputError, match="extra tracks"):
        ga.tl.denoise(adata, "kind", model=(network, ModelCard()), extra=extra, out_dir=tmp_path / "o")
    assert {code for code, *_ in windows} == {0, 1}
    assert list(tmp_path.glob("o/*")) == []
    assert "denoised" not in adata.uns
