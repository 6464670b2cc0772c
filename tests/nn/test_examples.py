"""Examples cut from tracks: against slices of whole arrays; splits, labels, and what noisy inputs are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from devices import torch_device
from scipy import stats

torch = pytest.importorskip("torch", reason="needs the nn extra")

from training_cases import GENOME, HALF_WIDTH, ArrayTracks, TinyCoverage, TinyCuts, toy_tracks  # noqa: E402

import gpuatac as ga  # noqa: E402
from gpuatac.errors import InputError  # noqa: E402
from gpuatac.nn.contract import PeakRule  # noqa: E402
from gpuatac.nn.denoising.examples import clean_peaks  # noqa: E402
from gpuatac.nn.denoising.examples.from_tracks import Sample, Shape, TrackExamples, TrackValidation, Windows  # noqa: E402
from gpuatac.nn.denoising.examples.noisy_inputs import Measured, Track  # noqa: E402
from gpuatac.nn.denoising.examples.splits import Split, split_genome  # noqa: E402

ALL = Split(train=(0, 1, 2), validation=())
PEAKS = {0: np.array([[100, 400], [950, 1100]]), 2: np.array([[6900, 7003]])}
WHOLE = {code: clean_peaks.labels(PEAKS, code, 0, size) for code, size in enumerate(GENOME.sizes.tolist())}


def sample_of(clean, measured, **changes):
    return Sample(**{"clean": Track(clean), "peaks": PEAKS, "noisy": [(Measured(Track(measured)), 1.0)], **changes})


def padded(row, start, stop):
    """[start, stop) of a row, zeros beyond its ends."""
    low, high = max(-start, 0), max(stop - len(row), 0)
    return np.pad(row, (low, high))[start + low : stop + low]


def whole(source):
    return {code: source.bk.to_host(source.coverage(code, 0, int(GENOME.sizes[code])))[0] for code in source.codes}


# ------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize("model", [TinyCoverage, TinyCuts])
def test_every_interval_is_a_slice_of_the_whole_tracks(model, bk):
    clean, noisy = (ArrayTracks(s.held, s.depth, bk) for s in toy_tracks())
    device = torch_device(bk)
    net = model()
    examples = TrackExamples(
        [sample_of(clean, noisy)], ALL, Shape.of(net), Windows(interval=1000, nonzero=False), device=device
    )
    length = Shape.of(net).interval(1000)
    assert length == (1000 if model is TinyCoverage else 1024)
    places = [(code, s) for code, size in enumerate(GENOME.sizes.tolist()) for s in range(0, size, length)]
    assert len(examples) == len(places)
    clean_whole, noisy_whole = whole(clean), whole(noisy)
    got = examples.batch(range(len(places)), epoch=0, positions=range(len(places)))
    assert got.x.device.type == device.type
    h = net.halo
    for k, (code, start) in enumerate(places):
        stop = start + length
        if model is TinyCoverage:
            x = padded(noisy_whole[code], start - h, stop + h)[None]
        else:
            x = padded(noisy.held[code][0], start - h, stop + h).reshape(1, -1, 8).sum(-1)
        np.testing.assert_array_equal(got.x[k].cpu(), x)
        np.testing.assert_array_equal(got.batch.signal[k].cpu(), padded(clean_whole[code], start, stop))
        np.testing.assert_array_equal(got.batch.peak[k].cpu(), padded(WHOLE[code], start, stop))
        inside = padded(np.ones(GENOME.sizes[code]), start, stop)
        np.testing.assert_array_equal(got.batch.weight[k].cpu(), inside)
    np.testing.assert_allclose(got.depth.cpu(), noisy.depth[0], rtol=1e-6)


@pytest.mark.parametrize("model", [TinyCoverage, TinyCuts])
def test_random_starts_and_reversed_examples_are_slices_too(model):
    clean, noisy = toy_tracks()
    net = model()
    windows = Windows(interval=512, random_starts=True, flip=True)
    examples = TrackExamples([sample_of(clean, noisy)], ALL, Shape.of(net), windows, seed=3)
    n = len(examples)
    got = examples.batch(range(n), epoch=1, positions=range(n))
    target = whole(clean)
    base = whole(noisy) if model is TinyCoverage else {code: held[0] for code, held in noisy.held.items()}
    starts, flips = [], []
    for k in range(n):
        y = got.batch.signal[k].numpy()
        if not y.any():
            continue
        places = [
            (flip, code, at)
            for flip in (False, True)
            for code, row in target.items()
            for at in np.flatnonzero(
                (np.lib.stride_tricks.sliding_window_view(row, 512) == (y[::-1] if flip else y)).all(axis=1)
            )
        ]
        assert places
        flip, code, at = places[0]
        x = padded(base[code], at - net.halo, at + 512 + net.halo)
        x = x if model is TinyCoverage else x.reshape(-1, 8).sum(-1)
        np.testing.assert_array_equal(got.x[k, 0], x[::-1] if flip else x)
        np.testing.assert_array_equal(got.batch.peak[k], WHOLE[code][at : at + 512][:: -1 if flip else 1])
        starts.append(at)
        flips.append(flip)
    assert len({at % 8 for at in starts}) > 4
    assert 0.2 < np.mean(flips) < 0.8
    again = examples.batch([5, 2], epoch=1, positions=[5, 2])
    np.testing.assert_array_equal(again.x[1], got.x[2])  # the same in any order
    other = examples.batch(range(n), epoch=2, positions=range(n))
    assert not torch.equal(other.x, got.x)


def test_a_reversed_example_is_reversed_in_every_part():
    """The weights too: bases whose clean coverage is unknown lie at the front of each interval, at its end when reversed."""
    clean, noisy = toy_tracks(deep=400)
    clean.known = lambda code, start, stop: np.arange(start, stop) % 500 >= 190
    parts = ([sample_of(clean, noisy)], ALL, Shape("coverage", halo=16))
    plain = TrackExamples(*parts, Windows(interval=500))
    turned = TrackExamples(*parts, Windows(interval=500, flip=True))
    n = len(plain)
    as_they_lie = plain.batch(range(n), epoch=0, positions=range(n))
    got = turned.batch(range(n), epoch=0, positions=range(n))
    np.testing.assert_array_equal(as_they_lie.batch.weight[1], np.arange(500) >= 190)
    flips = []
    for k in range(n):
        flip = not torch.equal(got.batch.signal[k], as_they_lie.batch.signal[k])
        for part, lies in zip((got.x, *got.batch), (as_they_lie.x, *as_they_lie.batch), strict=True):
            assert torch.equal(part[k], lies[k].flip(-1) if flip else lies[k])
        flips.append(flip)
    assert 0.2 < np.mean(flips) < 0.8


def test_random_starts_lie_as_often_before_the_interval_as_behind_it():
    """Up to half its length, evenly, and within the chromosome; an extra track tells where an example was cut."""
    clean, noisy = toy_tracks()

    def position(code, start, stop):
        return np.arange(start, stop)[None].astype(np.float32)

    windows = Windows(interval=1000, nonzero=False, random_starts=True)
    examples = TrackExamples([sample_of(clean, noisy)], ALL, Shape("coverage", n_extra=1), windows, extra=position)
    n = 1500

    def starts(pick):
        return examples.batch([pick] * n, epoch=0, positions=range(n)).x[:, 1, 0].numpy()

    moved = starts(7) - 7000
    assert -500 <= moved.min() < -480
    assert 480 < moved.max() <= 500
    assert abs(moved.mean()) < 5 * (1000 / np.sqrt(12)) / np.sqrt(n)
    assert stats.kstest((moved + 500.5) / 1001, "uniform").pvalue > 1e-4
    first, last = starts(0), starts(19)
    assert first.min() == 0
    assert 480 < first.max() <= 500
    assert last.max() == 19_000
    assert 18_500 <= last.min() < 18_520


def test_intervals_without_noisy_coverage_are_left_out_as_published():
    clean, noisy = toy_tracks()
    examples = TrackExamples([sample_of(clean, noisy, filtered_by=Track(noisy))], ALL, Shape("coverage"), Windows(1000))
    covered = whole(noisy)
    expected = sum(row[s : s + 1000].any() for row in covered.values() for s in range(0, len(row), 1000))
    assert len(examples) == expected < 38
    everything = TrackExamples([sample_of(clean, noisy)], ALL, Shape("coverage"), Windows(1000, nonzero=False))
    assert len(everything) == 20 + 9 + 8


def test_a_pad_shorter_than_the_halo_leaves_zeros_beyond():
    clean, noisy = toy_tracks(deep=400, shallow=0.9)
    shape = Shape("coverage", halo=32)
    full = TrackExamples([sample_of(clean, noisy)], ALL, shape, Windows(1000)).batch([1], epoch=0, positions=[0]).x
    cut = (
        TrackExamples([sample_of(clean, noisy)], ALL, shape, Windows(1000, pad=8)).batch([1], epoch=0, positions=[0]).x
    )
    assert full.shape == cut.shape == (1, 1, 1064)
    np.testing.assert_array_equal(cut[..., 24:-24], full[..., 24:-24])
    assert not cut[..., :24].any()
    assert not cut[..., -24:].any()
    assert full[..., :24].any()


def test_clean_coverage_is_scaled_to_the_target_depth():
    clean, noisy = toy_tracks()
    plain, scaled = (
        TrackExamples([sample_of(clean, noisy, scale=s)], ALL, Shape("coverage"), Windows(1000))
        .batch([0], epoch=0, positions=[0])
        for s in (1.0, 2.5)
    )  # fmt: skip
    np.testing.assert_allclose(scaled.batch.signal, plain.batch.signal * 2.5)
    np.testing.assert_array_equal(scaled.x, plain.x)


def test_extra_tracks_stand_behind_the_first_channel():
    clean, noisy = toy_tracks()
    net = TinyCoverage(n_extra=2)

    def extra(code, start, stop):
        return np.stack([np.arange(start, stop), np.full(stop - start, code)]).astype(np.float32)

    got = TrackExamples([sample_of(clean, noisy)], ALL, Shape.of(net), Windows(1000, nonzero=False), extra=extra)
    x = got.batch([1, 20], epoch=0, positions=[0, 1]).x
    np.testing.assert_array_equal(x[0, 1], np.arange(1000 - 16, 2016))
    np.testing.assert_array_equal(x[1, 1, :16], np.zeros(16))  # before the chromosome
    np.testing.assert_array_equal(x[1, 2, 16:], np.ones(1016))
    with pytest.raises(InputError, match="2 extra input tracks"):
        TrackExamples([sample_of(clean, noisy)], ALL, Shape.of(net), Windows(1000))


def test_noisy_inputs_are_drawn_by_their_shares():
    clean, noisy = toy_tracks()
    mixed = [(Measured(Track(noisy), "noisy"), 0.3), (Measured(Track(clean), "deep"), 0.7)]
    examples = TrackExamples([sample_of(clean, noisy, noisy=mixed)], ALL, Shape("coverage"), Windows(1000))
    depths = examples.batch([0] * 400, epoch=0, positions=range(400)).depth
    assert 0.2 < float((depths < clean.depth[0] / 2).float().mean()) < 0.4
    held_out = TrackValidation([sample_of(clean, noisy, noisy=mixed)], ALL, shape=Shape("coverage"), part="train")
    assert held_out.names == ["noisy", "deep"]


def test_validation_holds_every_base_once_and_its_batches_split_among_processes():
    clean, noisy = toy_tracks()
    split = split_genome(GENOME, clean.codes, fraction=0.4, block=1500, seed=1)
    args = ([sample_of(clean, noisy)], split)
    held = TrackValidation(*args, shape=Shape("coverage"), windows=Windows(800, nonzero=False))
    n = sum(float(e.batch.weight.sum()) for e in held.batches("noisy", 3))
    assert n == sum(int((b[:, 1] - b[:, 0]).sum()) for b in split.blocks.values())
    own = [sum(len(e.x) for e in held.batches("noisy", 3, rank=r, world=2)) for r in (0, 1)]
    assert sum(own) == len(held)
    assert min(own) > 0
    trained = TrackExamples(*args, Shape("coverage"), Windows(800, nonzero=False))
    for example in (trained.batch(range(len(trained)), epoch=0, positions=range(len(trained))),):
        assert float(example.batch.weight.sum()) <= GENOME.sizes.sum() - n
    assert len(TrackValidation(*args, shape=Shape("coverage"), windows=Windows(800), most=4)) == 4


def test_unknown_clean_bases_have_no_weight():
    clean, noisy = toy_tracks()
    clean.known = lambda code, start, stop: np.arange(start, stop) % 3 == 0
    got = TrackExamples([sample_of(clean, noisy)], ALL, Shape("coverage"), Windows(1000)).batch(
        [0], epoch=0, positions=[0]
    )
    np.testing.assert_array_equal(got.batch.weight[0], np.arange(1000) % 3 == 0)


def test_no_interval_left_is_said():
    clean, noisy = toy_tracks()
    empty = ArrayTracks({code: held * 0 for code, held in noisy.held.items()}, 1)
    with pytest.raises(InputError, match="no interval of 1,000 bp is left to train on"):
        TrackExamples([sample_of(clean, empty, filtered_by=Track(empty))], ALL, Shape("coverage"), Windows(1000))


# ------------------------------------------------------------------------------------------------- splits


def names(genome, codes):
    return [genome.names[code] for code in codes]


def test_default_splits_are_the_published_ones():
    human, mouse = ga.Genome.builtin("hg19"), ga.Genome.builtin("mm10")
    split = split_genome(human, range(len(human.names)))
    assert names(human, split.validation) == ["chr20"]
    assert names(human, split.holdout) == ["chr10"]
    assert set(names(human, split.train)) == {f"chr{k}" for k in range(1, 23)} - {"chr10", "chr20"}
    split = split_genome(mouse, range(len(mouse.names)))
    assert names(mouse, split.validation) == ["chr11"]
    assert names(mouse, split.holdout) == ["chr10"]


def test_parts_are_disjoint_and_blocks_are_of_the_asked_share():
    genome = ga.Genome("one", {"chr1": 10_000_000})
    split = split_genome(genome, [0], fraction=0.25, seed=4)
    parts = [split.inside(part, 0, 0, 10_000_000) for part in ("train", "validation", "holdout")]
    np.testing.assert_array_equal(np.sum(parts, axis=0), 1)
    assert abs(parts[1].mean() - 0.25) < 0.02
    window = split.inside("train", 0, 150_000, 900_000)
    np.testing.assert_array_equal(window, parts[0][150_000:900_000])
    held = split_genome(genome, [0], fraction=0.5, extents={0: (3_000_000, 4_000_000)}).blocks[0]
    assert held[0, 0] >= 3_000_000
    assert held[-1, 1] <= 4_000_000
    assert (held[:, 1] - held[:, 0]).sum() == 500_000
    other = split_genome(genome, [0], fraction=0.25, seed=5)
    assert not np.array_equal(other.blocks[0], split.blocks[0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no chromosome is left to choose the best epoch by"),
        ({"validation": ["chr9"]}, "1 of 1 validation chromosomes have no data"),
        ({"validation": ["chr2"], "holdout": ["chr2"]}, "chr2 is in validation and in holdout"),
        ({"validation": ["chr1", "chr2", "chr3"]}, "no chromosome is left to train on"),
        ({"validation": ["chr2"], "fraction": 0.1}, "both a validation fraction"),
        ({"fraction": 0.99}, "validation fraction must be in"),
    ],
)
def test_splits_that_cannot_be_say_so(given, message):
    with pytest.raises(InputError, match=message):
        split_genome(GENOME, [0, 1, 2], **given)


# ------------------------------------------------------------------------------------------------- peaks


@pytest.mark.parametrize("mean", [0.01, 0.3, 5.2, 40.0])
def test_poisson_cutoff_is_the_least_significant_coverage(mean):
    t = clean_peaks.poisson_cutoff(mean)
    tail = [1 - sum(stats.poisson.pmf(k, mean) for k in range(n)) for n in (t, t - 1)]
    assert tail[0] < 1e-3 <= tail[1] or t == 1


def test_peaks_of_a_track_are_runs_over_the_cutoff():
    clean, _ = toy_tracks()
    found = clean_peaks.peaks_of_track(clean, clean.codes, rule=PeakRule(cutoff=8, min_length=30, max_gap=5))
    for code in clean.codes:
        row = clean.coverage(code, 0, int(GENOME.sizes[code]))[0]
        runs = []
        for a, b in np.flatnonzero(np.diff(row >= 8, prepend=False, append=False)).reshape(-1, 2):
            if runs and a - runs[-1][1] <= 5:
                runs[-1][1] = b
            else:
                runs.append([a, b])
        np.testing.assert_array_equal(found[code], [r for r in runs if r[1] - r[0] >= 30])
        assert len(found[code]) > 2
    by_rule = clean_peaks.peaks_of_track(clean, [1])
    mean = clean.held[1].sum() * (2 * HALF_WIDTH + 1) / GENOME.sizes[1]
    assert clean_peaks.mean_coverage(clean, 1) == pytest.approx(mean, rel=0.02)  # cuts at the ends reach beyond
    same = clean_peaks.peaks_of_track(clean, [1], rule=PeakRule(clean_peaks.poisson_cutoff(mean)))
    np.testing.assert_array_equal(by_rule[1], same[1])


def test_labels_of_a_window_are_those_of_the_chromosome():
    rng = np.random.default_rng(0)
    edges = np.sort(rng.choice(5000, 60, replace=False)).reshape(-1, 2)
    whole_ = np.zeros(5000)
    for a, b in edges:
        whole_[a:b] = 1
    for a, b in np.sort(rng.integers(0, 5000, (40, 2)), axis=1) + np.array([0, 1]):
        np.testing.assert_array_equal(clean_peaks.labels({0: edges}, 0, a, b), padded(whole_, a, b))
    assert not clean_peaks.labels({0: edges}, 1, 0, 10).any()


def test_peaks_of_bed_are_joined_and_of_the_genome():
    frame = ["chr2:5-20", "chr2:15-30", "chr2:30-40", "chr2:50-60", "chr1:1-2", "chrUn:7-9"]
    found = clean_peaks.peaks_of_bed(frame, GENOME)
    assert {code: rows.tolist() for code, rows in found.items()} == {0: [[1, 2]], 1: [[5, 40], [50, 60]]}
    with pytest.raises(InputError, match="none of the 1 peaks"):
        clean_peaks.peaks_of_bed(["chrUn:1-9"], GENOME)
