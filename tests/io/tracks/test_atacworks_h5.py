"""AtacWorks' HDF5 files: rows, intervals, and the tracks behind them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import gpuatac as ga
from gpuatac.backend import get
from gpuatac.core.track_source import HALF_WIDTH
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.tracks.atacworks_h5 import AtacworksH5, H5Tracks, Intervals
from gpuatac.io.tracks.file_tracks import FileTracks

GENOME = ga.Genome("toy", {"chr1": 9_500, "chr2": 3_000})
LENGTH, WINDOW = 1000, 2 * HALF_WIDTH + 1
KEPT = [("chr1", 0), ("chr1", 1000), ("chr1", 4000), ("chr1", 6000), ("chr1", 7000), ("chr1", 8000), ("chr2", 1000)]


def cut_sites(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.poisson(0.01 + 0.05 * (np.arange(size) % 1500 < 300)) for size in GENOME.sizes]


def coverage_of(cuts):
    return np.convolve(cuts, np.ones(WINDOW))[HALF_WIDTH:-HALF_WIDTH].astype(np.float32)


def write(folder, *, pad=0, places=KEPT, name="train.h5"):
    """A file of ``places`` and the BED of its intervals; noisy is every second cut."""
    clean = [coverage_of(c) for c in cut_sites()]
    noisy = [coverage_of(c // 2) for c in cut_sites()]

    def rows(tracks):
        out = []
        for chrom, start in places:
            row = np.pad(tracks[GENOME.code[chrom]], (pad, pad))
            out.append(row[start : start + LENGTH + 2 * pad])
        return np.array(out, np.float32)

    path, bed = folder / name, folder / f"{name}.bed"
    with h5py.File(path, "w") as file:
        for key, values in (("input", rows(noisy)), ("label_reg", rows(clean)), ("label_cla", rows(clean) > 8)):
            file.create_dataset(key, data=values.astype(np.float32), compression="lzf")
    bed.write_text("".join(f"{chrom}\t{start}\t{start + LENGTH}\n" for chrom, start in places))
    return path, bed, clean, noisy


@pytest.fixture
def made(tmp_path):
    return write(tmp_path)


def tracks_of(path, bed, bk=None, what="clean", pad=0, depth=1e6):
    file = AtacworksH5.open(path)
    at = Intervals.read(file, bed, GENOME, pad=pad)
    return H5Tracks([file], [at], what=what, genome=GENOME, depth=depth, bk=bk or get("cpu"), pad=pad)


def known_of(code, places=KEPT):
    out = np.zeros(GENOME.sizes[code], bool)
    for chrom, start in places:
        if GENOME.code[chrom] == code:
            out[start : start + LENGTH] = True
    return out


@pytest.mark.parametrize("pad", [0, 50])
def test_tracks_are_those_the_examples_were_cut_from(tmp_path, bk, pad):
    path, bed, clean, noisy = write(tmp_path, pad=pad)
    for what, whole in (("clean", clean), ("noisy", noisy)):
        source = tracks_of(path, bed, bk, what, pad=pad)
        assert source.codes == [0, 1]
        assert source.depth.tolist() == [1e6]
        for code, size in enumerate(GENOME.sizes.tolist()):
            known = known_of(code)
            got = bk.to_host(source.coverage(code, 0, size))[0]
            np.testing.assert_array_equal(got, np.where(known, whole[code], np.nan))
            np.testing.assert_array_equal(source.known(code, 700, 2500), known[700:2500])
            np.testing.assert_array_equal(bk.to_host(source.coverage(code, 700, 2500))[0], got[700:2500])
            peaks = np.zeros(size, bool)
            for a, b in source.peaks()[code]:
                peaks[a:b] = True
            np.testing.assert_array_equal(peaks, known & (clean[code] > 8))


def test_cuts_are_told_exactly_inside_known_stretches(made, bk):
    path, bed, *_ = made
    source = tracks_of(path, bed, bk)
    assert source.has_cuts
    for code, cuts in enumerate(cut_sites()):
        size = int(GENOME.sizes[code])
        got = bk.to_host(source.cuts(code, 0, size))[0, 0]
        known = known_of(code)
        near = np.convolve(known, np.ones(WINDOW))[HALF_WIDTH:-HALF_WIDTH] > 0
        np.testing.assert_array_equal(got[near], cuts[near])
        assert not got[~near].any()
    binned = bk.to_host(source.cuts(0, 400, 1200, bin_size=8))
    assert binned.shape == (1, 1, 100)
    np.testing.assert_array_equal(binned[0, 0], cut_sites()[0][400:1200].reshape(-1, 8).sum(1))
    beyond = bk.to_host(source.cuts(1, 2000, 3200, bin_size=8))
    assert beyond.shape == (1, 1, 150)
    with pytest.raises(InputError, match="do not tell fragment lengths"):
        source.cuts(0, 0, 8, by_length=True)


def test_empty_names_stretches_without_coverage_and_unknown_ones(made):
    path, bed, clean, _ = made
    source = tracks_of(path, bed)
    empty = np.zeros(9500, bool)
    for a, b in source.empty(0, 0, 9500):
        empty[a:b] = True
    np.testing.assert_array_equal(empty, ~(known_of(0) & (clean[0] > 0)))
    assert source.empty(0, 2100, 2300).tolist() == [[2100, 2300]]


def test_thinning_keeps_a_share_of_the_cuts_the_same_in_every_window(made, bk):
    path, bed, *_ = made
    source = tracks_of(path, bed, bk)
    thin = source.thin(0.3, 7)
    assert thin.depth.tolist() == [pytest.approx(3e5)]
    assert thin.has_cuts
    whole, deep = (bk.to_host(s.cuts(0, 0, 9496, bin_size=1))[0, 0] for s in (thin, source))
    assert (whole <= deep).all()
    assert abs(whole.sum() / deep.sum() - 0.3) < 0.1
    for a, b in ((0, 800), (1800, 5000), (8800, 9600)):
        got = bk.to_host(thin.cuts(0, a, b))[0, 0]
        np.testing.assert_array_equal(got[: 9496 - a], whole[a:b])
    np.testing.assert_array_equal(bk.to_host(thin.coverage(0, 300, 9000))[0], coverage_of(whole)[300:9000])
    other = bk.to_host(source.thin(0.3, 8).cuts(0, 0, 9496))[0, 0]
    assert not np.array_equal(other, whole)
    np.testing.assert_array_equal(thin.known(0, 0, 500), source.known(0, 0, 500))


def test_intervals_without_noisy_coverage_are_told_by_the_noisy_track(tmp_path):
    path, bed, *_ = write(tmp_path)
    rows = [(chrom, start) for chrom, size in GENOME.chrom_sizes.items() for start in range(0, size - 999, LENGTH)]
    bed.write_text("".join(f"{chrom}\t{start}\t{start + LENGTH}\n" for chrom, start in rows))
    file = AtacworksH5.open(path)

    class Noisy:
        def coverage(self, code, start, stop):
            out = np.zeros((1, stop - start), np.float32)
            out[0, -1] = (GENOME.names[code], start) in KEPT
            return out

    with pytest.raises(InputError, match=r"12 intervals and train.h5 7 examples.*give the noisy track"):
        Intervals.read(file, bed, GENOME)
    at = Intervals.read(file, bed, GENOME, noisy=Noisy())
    assert [(GENOME.names[c], s) for c, s in zip(at.code, at.start, strict=True)] == KEPT


def test_coverage_that_is_no_sum_of_cuts_has_none(tmp_path):
    path, bed, *_ = write(tmp_path)
    with h5py.File(path, "r+") as file:
        file["label_reg"][:] *= 0.37
    assert not tracks_of(path, bed).has_cuts


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.__delitem__("label_cla"), "no label_cla"),
        (lambda f: (f.__delitem__("input"), f.create_dataset("input", data=np.zeros((7, 5)))), r"input \(7, 5\)"),
        (lambda f: f["input"].__setitem__((2, 3), -1.0), "-1.0 in input, example 2"),
        (lambda f: f["label_reg"].__setitem__((4, 3), np.nan), "nan in label_reg, example 4"),
        (lambda f: f["label_cla"].__setitem__((0, 0), 0.5), "label_cla other than 0 and 1"),
    ],
)
def test_files_that_are_wrong_are_refused(made, spoil, message):
    path, bed, *_ = made
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(FileFormatError, match=message):
        tracks_of(path, bed)


def test_other_files_intervals_and_genomes_are_refused(made, tmp_path):
    path, bed, *_ = made
    other = tmp_path / "x.h5"
    other.write_text("hello")
    with pytest.raises(FileFormatError, match="no HDF5 file"):
        AtacworksH5.open(other)
    with pytest.raises(InputError, match="not of 900 bp"):
        tracks_of(path, bed, pad=50)
    bed.write_text(bed.read_text().replace("chr2", "chr9"))
    with pytest.raises(InputError, match=r"1 of 7 intervals of .* lie on no chromosome of genome toy"):
        tracks_of(path, bed)
    bed.write_text("".join(f"chr1\t{s}\t{s + LENGTH}\n" for s in range(0, 3500, 500)))
    with pytest.raises(InputError, match="overlap at base 500"):
        tracks_of(path, bed)


@pytest.mark.data
def test_the_published_example_gives_back_its_cut_sites(data_dir):
    folder = data_dir / "denoise" / "hsc_5m_to_80m_hg19"
    genome = ga.Genome.builtin("hg19")
    file = AtacworksH5.open(folder / "HSC.5M.chr123.10mb.coverage.bw.train.h5")
    assert (file.n, file.width) == (379, 24_000)
    with h5py.File(file.path) as h5:
        rows = h5["label_reg"][:]
    # the intervals that were left out are those without noisy coverage; the first ones of the file lie behind one another
    start = np.loadtxt(folder / "model_latest.24000.training_intervals.bed", usecols=1, dtype=np.int64)
    noisy = FileTracks([folder / "HSC.5M.chr123.10mb.coverage.bw"], genome=genome, depth=[5e6])
    at = Intervals.read(file, folder / "model_latest.24000.training_intervals.bed", genome, noisy=noisy)
    assert np.isin(at.start, start).all()
    assert (np.diff(at.start) > 0).all()
    code = genome.code["chr1"]
    source = H5Tracks([file], [at], what="clean", genome=genome, depth=8e7, bk=get("cpu"))
    assert source.has_cuts
    k = 100
    np.testing.assert_array_equal(source.coverage(code, int(at.start[k]), int(at.start[k]) + 24_000)[0], rows[k])
    cuts = source.cuts(code, 0, 10_000_000)[0, 0]
    known = source.known(code, 0, 10_000_000)
    again = np.convolve(cuts, np.ones(WINDOW))[HALF_WIDTH:-HALF_WIDTH]
    np.testing.assert_array_equal(again[known], source.coverage(code, 0, 10_000_000)[0][known])
