"""Peaks by a cutoff against a loop over the bases, in pieces of any length, and against labels that MACS2 made."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpuatac.core.tracks.threshold_peaks import ThresholdPeaks
from gpuatac.errors import InputError


def by_loop(probability, signal, cutoff, min_length, max_gap):
    """[(start, end, mean, max, summit)], base by base."""
    regions = []
    for at, value in enumerate(probability.tolist()):
        if value >= cutoff:
            if regions and at - regions[-1][1] <= max_gap:
                regions[-1][1] = at + 1
            else:
                regions.append([at, at + 1])
    out = []
    for start, end in regions:
        if end - start >= min_length:
            values = signal[start:end].astype(float).tolist()
            out.append((start, end, sum(values) / len(values), max(values), start + values.index(max(values))))
    return out


def track(seed, size=4000):
    """Smooth enough for runs and gaps of all lengths; a signal with ties."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 40))
    smooth = np.convolve(rng.random(size + width - 1), np.ones(width) / width, "valid")
    return (smooth - smooth.mean() + 0.5).astype(np.float32), rng.integers(0, 6, size).astype(np.float32)


def called(probability, signal, pieces, **rule):
    peaks = ThresholdPeaks(**rule)
    for low, high in pieces:
        peaks.add(low, probability[low:high], signal[low:high])
    return peaks.finish()


def as_rows(found):
    assert (found["length"] == found["end"] - found["start"]).all()
    return list(zip(*(found[name].tolist() for name in ("start", "end", "mean", "max", "summit")), strict=True))


def assert_same(found, expected):
    rows = as_rows(found)
    assert [r[:2] + r[3:] for r in rows] == [e[:2] + e[3:] for e in expected]
    np.testing.assert_allclose([r[2] for r in rows], [e[2] for e in expected], rtol=1e-12)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("min_length", "max_gap"), [(0, 0), (1, 1), (20, 5), (200, 30), (3, 1000)])
def test_peaks_equal_those_of_a_loop_however_the_track_is_cut(seed, min_length, max_gap):
    probability, signal = track(seed)
    rule = {"cutoff": 0.5, "min_length": min_length, "max_gap": max_gap}
    expected = by_loop(probability, signal, **rule)
    rng = np.random.default_rng(seed)
    cuts = [
        [0, 4000],
        [0, *np.unique(rng.integers(1, 4000, 30)).tolist(), 4000],
        [0, *np.unique(rng.integers(1, 4000, 1500)).tolist(), 4000],
    ]
    for edges in cuts:
        assert_same(called(probability, signal, itertools.pairwise(edges), **rule), expected)


def test_bases_left_out_between_pieces_are_below_and_without_signal():
    probability, signal = track(3)
    keep = np.ones(4000, bool)
    pieces = [(0, 700), (705, 1100), (1500, 1501), (1520, 3990)]
    keep[:] = False
    for low, high in pieces:
        keep[low:high] = True
    for max_gap in (0, 4, 5, 18, 19, 500):
        rule = {"cutoff": 0.5, "min_length": 5, "max_gap": max_gap}
        expected = by_loop(np.where(keep, probability, 0), np.where(keep, signal, 0), **rule)
        assert_same(called(probability, signal, pieces, **rule), expected)


def test_bounds_are_inclusive():
    probability = np.zeros(40, np.float32)
    probability[[2, 3, 6, 7, 20, 21, 25, 26]] = 0.5
    signal = np.arange(40, dtype=np.float32)
    found = called(probability, signal, [(0, 40)], cutoff=0.5, min_length=6, max_gap=2)
    assert as_rows(found) == [(2, 8, 4.5, 7.0, 7)]
    assert len(called(probability, signal, [(0, 40)], cutoff=0.5, min_length=6, max_gap=3)["start"]) == 2
    assert len(called(probability, signal, [(0, 40)], cutoff=0.5, min_length=7, max_gap=2)["start"]) == 0
    assert len(called(probability, signal, [(0, 40)], cutoff=0.6, min_length=0, max_gap=2)["start"]) == 0


def test_defaults_are_those_of_bdgpeakcall_and_finish_begins_anew():
    probability = np.ones(250, np.float32)
    peaks = ThresholdPeaks()
    for _ in range(2):
        peaks.add(1000, probability, probability)
        peaks.add(1280, probability, probability)  # over 30 bp
        peaks.add(1561, probability, probability)  # 31 bp further on
        found = peaks.finish()
        assert as_rows(found) == [(1000, 1530, 500 / 530, 1.0, 1000), (1561, 1811, 1.0, 1.0, 1561)]
        assert {name: column.dtype.name for name, column in found.items()} == {
            "start": "int64", "end": "int64", "length": "int64", "mean": "float64", "max": "float32", "summit": "int64",
        }  # fmt: skip
    assert all(column.size == 0 for column in peaks.finish().values())


def test_pieces_out_of_order_or_of_different_lengths_are_refused():
    peaks = ThresholdPeaks()
    values = np.zeros(10, np.float32)
    peaks.add(5, values, values)
    with pytest.raises(InputError, match="does not follow base 15"):
        peaks.add(14, values, values)
    with pytest.raises(InputError, match="pieces of equal length"):
        peaks.add(15, values, values[:9])


def test_real_labels_are_the_peaks_of_the_real_track(data_dir):
    """MACS2's labels of a track of 80 million reads: bdgpeakcall -c 17, with its defaults of 200 and 30 bp."""
    import h5py

    path = data_dir / "denoise" / "hsc_5m_to_80m_hg19" / "HSC.5M.chr123.10mb.coverage.bw.val.h5"
    with h5py.File(path) as file:  # 410 intervals of chr2, 6 without reads left out
        track, label = file["label_reg"][:], file["label_cla"][:]
    peaks = ThresholdPeaks(17)
    for number, values in enumerate(track[:200]):
        peaks.add(24_000 * number, values, values)
    found = peaks.finish()
    marked = np.zeros(200 * 24_000, np.float32)
    for start, end in zip(found["start"].tolist(), found["end"].tolist(), strict=True):
        marked[start:end] = 1
    assert found["start"].size > 150
    np.testing.assert_array_equal(marked, label[:200].ravel())
