"""The engine behind tl.denoise: against whole chromosomes through the network at once and loops over bases."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

import gpuatac as ga
from gpuatac.errors import InputError

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (gpuatac[nn])")

from gpuatac.core.differential.track_differences import stretches_of  # noqa: E402
from gpuatac.io.tracks.fragment_tracks import FragmentTracks  # noqa: E402
from gpuatac.nn.checkpoints import load_model, make_model, save_model  # noqa: E402
from gpuatac.nn.contract import Batch, LossWeights, ModelCard, PeakRule  # noqa: E402
from gpuatac.nn.denoising import inference  # noqa: E402
from gpuatac.nn.denoising.examples.extra_tracks import check_names, extra_tracks, is_signal  # noqa: E402

SIZES = {"chr1": 30_011, "chr2": 9_003, "chr3": 5_000}
RULE = PeakRule(cutoff=0.5, min_length=60, max_gap=10)
CARD = ModelCard(target_depth=20_000)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    found = []
    for chrom, size in list(SIZES.items())[:2]:
        n = size // 10
        sites = rng.integers(500, size - 700, size // 2500)
        at = np.where(rng.random(n) < 0.6, rng.choice(sites, n) + rng.normal(0, 80, n), rng.integers(0, size - 400, n))
        start = np.clip(at, 0, size - 400).astype(int)
        end = start + rng.integers(30, 400, n)
        found += [(chrom, *row) for row in zip(start, end, rng.integers(0, 12, n), strict=True)]
    return sorted(found)


@pytest.fixture(scope="module")
def adata(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "f.tsv"
    path.write_text("".join(f"{c}\t{s}\t{e}\tC{k:02d}\t1\n" for c, s, e, k in rows))
    return ga.pp.import_fragments(path, ga.Genome("toy", SIZES), min_num_fragments=0, device="cpu")


MEMBERS = [np.arange(8), np.array([2, 9, 10, 11])]


@pytest.fixture(scope="module")
def source(adata):
    return FragmentTracks(adata, MEMBERS, ["many", "few"])


def network(in_channels=1, seed=3):
    """Small, with signal and probabilities that vary."""
    torch.manual_seed(seed)
    model = make_model(
        "denoising_resnet", in_channels=in_channels, out_channels=4, num_blocks=1, kernel_size=7, dilation=4,
        num_blocks_class=1, kernel_size_class=5, dilation_class=4, out_channels_class=4,
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.regressor.conv_layer.weight.abs_()
        model.classifier.conv_layer.bias.fill_(0.0)
    return model


def coverage(rows, adata, chrom):
    """(2, size): cuts within 100 bp, base by base from the definition."""
    out = np.zeros((2, SIZES[chrom] + 400), np.float32)
    number = {name: i for i, name in enumerate(adata.obs_names)}
    for c, start, end, cell in rows:
        if c == chrom:
            for g, members in enumerate(MEMBERS):
                if number[f"C{cell:02d}"] in members:
                    for cut in (start, end - 1):
                        out[g, max(0, cut - 100) : cut + 101] += 1
    return out[:, : SIZES[chrom]]


def whole(model, tracks):
    """Signal and probability of a chromosome in one go, zeros beyond its ends."""
    x = torch.as_tensor(tracks)
    x = x[:, None] if x.ndim == 2 else x
    size = x.shape[-1]
    length = -(-size // model.align) * model.align
    x = torch.nn.functional.pad(x, (model.halo, model.halo + length - size))
    with torch.no_grad():
        out = model.predict(x, torch.ones(x.shape[0]))
    return out.signal[:, :size].numpy(), out.probability[:, :size].numpy()


def peaks_by_loop(signal, probability, rule):
    runs = []
    for at in np.flatnonzero(probability >= rule.cutoff).tolist():
        if runs and at - runs[-1][1] <= rule.max_gap:
            runs[-1][1] = at + 1
        else:
            runs.append([at, at + 1])
    out = []
    for a, b in runs:
        if b - a >= rule.min_length:
            out.append((a, b, signal[a:b].mean(dtype=np.float64), signal[a:b].max(), a + int(signal[a:b].argmax())))
    return out


class Kept:
    """Takes what the engine writes."""

    def __init__(self):
        self.pieces = []

    def add(self, group_index, code, start, values):
        self.pieces.append((code, group_index, start, values.copy()))

    def whole(self, code, group):
        mine = [(start, values) for c, g, start, values in self.pieces if (c, g) == (code, group)]
        at = mine[0][0]
        for start, values in mine:
            assert start == at  # ascending, without a gap
            at += values.size
        return mine[0][0], np.concatenate([values for _, values in mine])


@pytest.fixture(scope="module")
def model(rows, adata):
    """The bias is such that a tenth of the bases lie in peaks."""
    made = network()
    _, probability = whole(made, coverage(rows, adata, "chr1"))
    cut = np.quantile(probability, 0.9)
    with torch.no_grad():
        made.classifier.conv_layer.bias.sub_(float(np.log(cut / (1 - cut))))
    return made


@pytest.mark.parametrize("factor", [None, 3])
def test_tracks_and_peaks_are_those_of_whole_chromosomes_and_a_loop(source, model, rows, adata, factor):
    signal_to, probability_to = Kept(), Kept()
    frame = inference.denoise(
        model, CARD, source, rule=RULE, writers={"signal": signal_to, "probability": probability_to},
        signal_depth=None if factor is None else factor * CARD.target_depth,
    )  # fmt: skip
    assert list(frame) == ["group", "chrom", "start", "end", "length", "mean", "max", "summit"]
    assert frame["group"].cat.categories.tolist() == ["many", "few"]
    assert [str(t) for t in frame.dtypes.iloc[2:]] == ["int32"] * 3 + ["float32"] * 2 + ["int32"]
    want = []
    for g, group in enumerate(("many", "few")):
        for code, chrom in enumerate(("chr1", "chr2")):
            signal, probability = (tracks[g] for tracks in whole(model, coverage(rows, adata, chrom)))
            signal = signal * np.float32(factor or 1)
            for kept, track in ((signal_to, signal), (probability_to, probability)):
                start, found = kept.whole(code, g)
                assert start == 0
                np.testing.assert_allclose(found, track, rtol=1e-4, atol=1e-5 * np.abs(track).max())
            want += [(group, chrom, *peak) for peak in peaks_by_loop(signal, probability, RULE)]
    assert len(want) > 10
    names = ["group", "chrom", "start", "end", "mean", "max", "summit"]
    expected = pd.DataFrame(want, columns=names)
    pd.testing.assert_frame_equal(
        frame[names].astype({"group": str, "chrom": str}), expected, check_dtype=False, rtol=1e-4
    )
    np.testing.assert_array_equal(frame["length"], frame["end"] - frame["start"])


def test_regions_alone_give_what_the_whole_gives_there(source, model):
    regions = stretches_of(np.array([0, 0, 1]), np.array([4001, 20_000, 37]), np.array([9003, 30_011, 5000]))
    part, all_ = Kept(), Kept()
    frame = inference.denoise(model, CARD, source, regions=regions, writers={"signal": part})
    inference.denoise(model, CARD, source, writers={"signal": all_})
    assert {(c, s) for c, _, s, _ in part.pieces} >= {(0, 4001), (0, 20_000), (1, 37)}
    for code, group, start, values in part.pieces:
        _, track = all_.whole(code, group)
        np.testing.assert_allclose(values, track[start : start + values.size], rtol=1e-4, atol=1e-4)
    assert sum(values.size for *_, values in part.pieces) == 2 * regions.n_bases
    assert all(
        ((regions.chrom == ["chr1", "chr2"].index(c)) & (regions.start <= s) & (e <= regions.end)).any()
        for c, s, e in zip(frame["chrom"], frame["start"], frame["end"], strict=True)
    )
    over = inference.signal_over(model, CARD, source, regions)
    assert over.shape == (2, regions.n_bases)
    np.testing.assert_allclose(over[1, :5002], all_.whole(0, 1)[1][4001:9003], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(over[0, -4963:], all_.whole(1, 0)[1][37:5000], rtol=1e-4, atol=1e-4)
    at = inference.tracks_at(model, CARD, source, (0, 4001, 9003))
    np.testing.assert_array_equal(at.noisy, source.coverage(0, 4001, 9003))
    np.testing.assert_allclose(at.signal, over[:, :5002], rtol=1e-4, atol=1e-4)
    assert ((at.probability >= 0) & (at.probability <= 1)).all()


def test_a_failure_while_writing_stops_the_run(source, model):
    class Full:
        n = 0

        def add(self, *_):
            self.n += 1
            if self.n > 1:
                raise OSError(28, "No space left on device")

    writer = Full()
    with pytest.raises(OSError, match="No space left"):
        inference.denoise(model, CARD, source, writers={"signal": writer})
    assert writer.n == 2


def test_data_that_do_not_fit_the_model_are_refused(source, adata, model):
    narrow = FragmentTracks(adata, MEMBERS, ["a", "b"], half_width=5)
    with pytest.raises(InputError, match="within 5 bp of a base, and the model was trained on 100 bp"):
        inference.denoise(model, CARD, narrow)
    unread = FragmentTracks(adata, [np.arange(3), np.arange(0)], ["a", "none"])
    with pytest.raises(InputError, match=r"1 of 2 groups have no reads \('none'\)"):
        inference.denoise(model, CARD, unread)
    with pytest.raises(InputError, match=r"reads 2 extra track\(s\) \(ctcf\+, ctcf-\) and none is given"):
        inference.denoise(network(3), CARD._replace(extra_tracks=("ctcf+", "ctcf-")), source)
    with pytest.raises(InputError, match="extra tracks are given, and the model reads none"):
        inference.denoise(model, CARD, source, extra=lambda *_: None)
    with pytest.raises(InputError, match="does not say which depth"):
        inference.denoise(model, ModelCard(), source, signal_depth=1e6)
    with pytest.raises(InputError, match="precision must be one of"):
        inference.denoise(model, CARD, source, precision="float16")
    assert inference.ready_model(None, source.bk)[0].kind == "multiscale"  # what ships


def test_a_depth_far_from_the_models_is_told_with_both_numbers(source, model, caplog):
    few, many = sorted(source.depth)
    with caplog.at_level(logging.WARNING):
        inference.denoise(model, CARD._replace(input_depth=float(many)), source)
    assert bool(caplog.records) == (few < many / 2)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        inference.denoise(model, CARD._replace(input_depth=1e6), source)
    assert "trained on libraries of 1,000,000 reads, and 2 of 2 groups" in caplog.text
    assert f"many {many:,.0f}, few {few:,.0f}" in caplog.text


# --------------------------------------------------------------------------------------------------- extra tracks


@pytest.fixture
def motifs(tmp_path):
    rng = np.random.default_rng(5)
    rows = [
        (chrom, s, s + 19, "m", 0, rng.choice(["+", "-"]))
        for chrom in ("chr1", "chr2", "chr9")
        for s in sorted(rng.integers(0, 8900, 60))
    ]
    path = tmp_path / "ctcf.bed"
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path, rows


def dense(rows, chrom, sign):
    out = np.zeros(SIZES[chrom], np.float32)
    for c, s, e, *_, strand in rows:
        if c == chrom and strand in (sign, "."):
            out[s:e] = 1
    return out


def test_motifs_are_one_track_for_each_strand(motifs):
    path, rows = motifs
    names, read = extra_tracks([path], ga.Genome("toy", SIZES))
    assert names == ["ctcf+", "ctcf-"]
    for code, chrom in enumerate(("chr1", "chr2")):
        want = np.stack([dense(rows, chrom, sign) for sign in "+-"])
        np.testing.assert_array_equal(read(code, 0, SIZES[chrom]), want)
        np.testing.assert_array_equal(read(code, 1003, 1100), want[:, 1003:1100])
        beyond = read(code, -50, SIZES[chrom] + 70)
        np.testing.assert_array_equal(beyond[:, 50:-70], want)
        assert beyond[:, :50].sum() == beyond[:, -70:].sum() == 0
    assert read(2, 0, 5000).sum() == 0
    assert read(0, 0, 10).dtype == np.float32


def test_files_are_told_apart_by_what_is_in_them(tmp_path):
    import gzip

    import pyBigWig

    genome = ga.Genome("toy", SIZES)
    (tmp_path / "plain.bed").write_text("chr1\t5\t9\nchr2\t1\t2\n")
    with gzip.open(tmp_path / "values.txt.gz", "wt") as file:
        file.write("track type=bedGraph\nchr1\t5\t9\t2.5\nchr1\t20\t22\t1\n")
    with pyBigWig.open(str(tmp_path / "big.bw"), "w") as file:
        file.addHeader(list(SIZES.items()))
        file.addEntries(["chr1"], [6], ends=[8], values=[4.0])
    names, read = extra_tracks([tmp_path / n for n in ("plain.bed", "values.txt.gz", "big.bw")], genome)
    assert names == ["plain", "values", "big"]
    assert read(0, 4, 10).tolist() == [[0, 1, 1, 1, 1, 0], [0, 2.5, 2.5, 2.5, 2.5, 0], [0, 0, 4, 4, 0, 0]]
    assert read(1, 0, 3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert [is_signal(tmp_path / n) for n in ("plain.bed", "values.txt.gz", "big.bw")] == [False, True, True]
    with pytest.raises(InputError, match="named 'plain'"):
        extra_tracks([tmp_path / "plain.bed"] * 2, genome)
    with pytest.raises(InputError, match="no extra track"):
        extra_tracks([], genome)
    (tmp_path / "half.bed").write_text("chr1\t5\t9\tm\t0\t+\nchr1\t5\t9\tm\t0\t.\n")
    with pytest.raises(InputError, match=r"1 of 2 regions of half\.bed have no strand"):
        extra_tracks([tmp_path / "half.bed"], genome)
    (tmp_path / "other.bed").write_text("scaffold7\t5\t9\n")
    with pytest.raises(InputError, match=r"none of the 1 regions of other\.bed"):
        extra_tracks([tmp_path / "other.bed"], genome)


def test_a_network_with_motifs_learns_is_stored_and_denoises(source, motifs, rows, adata, tmp_path):
    path, motif_rows = motifs
    names, read = extra_tracks([path], source.genome)
    model = network(3, seed=5).train()
    x = torch.as_tensor(np.concatenate([source.coverage(0, 0, 8192)[:1], read(0, 0, 8192)]))[None]
    motif = x[0, 1] + x[0, 2]
    inside = slice(model.halo, 8192 - model.halo)
    batch = Batch(5 * motif[None, inside], motif[None, inside].clamp(max=1), torch.ones_like(motif[None, inside]))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        loss = model.loss(x, torch.ones(1), batch, LossWeights()).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    card = ModelCard(extra_tracks=tuple(names))
    save_model(tmp_path / "m.pt", model, card)
    loaded, card = load_model(tmp_path / "m.pt")
    check_names(names, card)
    with pytest.raises(InputError, match=r"are ctcf-, and the model was trained with ctcf\+, ctcf-"):
        check_names(["ctcf-"], card)
    kept = Kept()
    inference.denoise(loaded, card, source, writers={"probability": kept}, extra=read)
    motif = np.stack([dense(motif_rows, "chr2", sign) for sign in "+-"])
    tracks = [np.concatenate([row[None], motif]) for row in coverage(rows, adata, "chr2")]
    _, want = whole(loaded, np.stack(tracks))
    np.testing.assert_allclose(kept.whole(1, 1)[1], want[1], rtol=1e-4, atol=1e-5)
    on = motif.max(axis=0) > 0
    assert want[1][on].mean() > want[1][~on].mean() + 0.3
