"""Files to evaluate, as tracks: of a deep and a shallow library, denoised ones, and peaks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check
from gpuatac.core.tracks.threshold_peaks import ThresholdPeaks
from gpuatac.errors import InputError
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.regions import window_of
from gpuatac.io.genome.sizes import read_genome
from gpuatac.io.tracks.atacworks_h5 import AtacworksH5, H5Tracks, Intervals
from gpuatac.io.tracks.file_tracks import FileTracks
from gpuatac.io.tracks.signal_files import open_signal
from gpuatac.workflow.denoiser.evaluate_tracks import Method, Stretch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.backend.protocol import Backend
    from gpuatac.core.track_source import TrackSource
    from gpuatac.genome import Genome

logger = logging.getLogger(__name__)
ENDINGS = (".gz", ".bw", ".bigwig", ".bedgraph", ".bdg", ".bg", ".signal", ".probability")
Peaks = dict[int, np.ndarray]


class _Values:
    """A file's values as they stand there, as a source of coverage."""

    def __init__(self, bk: Backend, path: str | Path, genome: Genome | None) -> None:
        self.bk, self._file = bk, open_signal(path, genome)
        self.genome, self.codes = self._file.genome, self._file.codes

    def coverage(self, code: int, start: int, stop: int) -> Any:
        """float32 (1, stop - start): the values."""
        return self.bk.asarray(self._file.values(code, start, stop))[None]


@dataclass(frozen=True)
class Files:
    """Tracks from files; satisfies ``evaluate_tracks.Given``."""

    bk: Backend
    clean: Any  # of these three, ``coverage`` is called, and ``cuts`` of the shallow one
    shallow: TrackSource | None
    methods: Mapping[str, tuple[Any, ...]]
    peaks: Peaks
    regions: Peaks | None
    half_width: int
    sizes: Mapping[str, int]
    judged: Sequence[str]  # those of the chromosomes that regions, if any, leave
    spans: Mapping[int, tuple[int, int]]  # by code, where not the whole chromosome is known

    @property
    def has_noisy(self) -> bool:
        """See ``Given``."""
        return self.shallow is not None

    def span(self, chrom: str, *, tuning: bool = False) -> tuple[int, int]:
        """See ``Given.span``."""
        code = self.clean.genome.code[chrom]
        first, last = self.spans.get(code, (0, self.sizes[chrom]))
        if self.regions is not None and not tuning:
            rows = self.regions[code]
            first, last = max(first, int(rows[:, 0].min())), min(last, int(rows[:, 1].max()))
        return first, max(first, last)

    def stretch(self, chrom: str, start: int, stop: int, *, tuning: bool = False) -> Stretch:
        """See ``Given.stretch``."""
        from gpuatac.nn.denoising.examples.clean_peaks import labels

        code = self.clean.genome.code[chrom]
        clean = self.clean.coverage(code, start, stop)[0]
        label = self.bk.asarray(labels(self.peaks, code, start, stop))
        everything = self.regions is None or tuning
        valid = None if everything else self.bk.asarray(labels(self.regions or {}, code, start, stop) > 0)
        found = {}
        for name, pair in () if tuning else self.methods.items():
            signal, score = (None if source is None else self._of(source, code, start, stop) for source in pair)
            found[name] = Method(signal, signal if score is None else score, score is not None)
        return Stretch(clean, label, valid, found)

    def noisy(self, chrom: str, start: int, stop: int) -> tuple[Any, Any | None]:
        """See ``Given.noisy``."""
        assert self.shallow is not None
        code = self.clean.genome.code[chrom]
        cuts = self.shallow.cuts(code, start, stop)[0, 0] if self.shallow.has_cuts else None
        return self._of(self.shallow, code, start, stop), cuts

    def _of(self, source: Any, code: int, start: int, stop: int) -> Any:
        """float32 (stop - start,): unknown bases are 0, as nothing was seen there."""
        return self.bk.xp.nan_to_num(source.coverage(code, start, stop)[0])

    def window(self, locus: str | tuple[str, int, int]) -> tuple[int, int, int]:
        """(code, start, end) of a region, checked."""
        return window_of(self.clean.genome, locus, what="locus")

    def draw(self, window: tuple[int, int, int], path: Path, *, threshold: float) -> None:
        """The figure of a locus: every track, with the peaks called from probabilities and those of the clean track."""
        from gpuatac.pl import denoised

        code, start, end = window
        tracks: dict[str, Any] = {}
        called: dict[str, np.ndarray] = {}
        if self.shallow is not None:
            tracks["noisy"] = self._of(self.shallow, code, start, end)
        for method, (signal, score) in self.methods.items():
            name = f"{method}, denoised" if method in ("noisy", "clean") else method
            if signal is not None:
                tracks[name] = self._of(signal, code, start, end)
            if score is not None:
                row = f"{name}, P(peak)"
                tracks[row] = self._of(score, code, start, end)
                values, finder = self.bk.to_host(tracks[row]), ThresholdPeaks(threshold)
                finder.add(start, values, values)
                found = finder.finish()
                called[row] = np.stack([found["start"], found["end"]], axis=1)
        tracks["clean"] = self.clean.coverage(code, start, end)[0]
        genome = self.clean.genome
        called["clean"] = self.peaks.get(code, np.zeros((0, 2), np.int64))
        chrom = genome.names[code]
        bars = {
            name: [f"{chrom}:{a}-{b}" for a, b in rows.tolist() if a < end and b > start]
            for name, rows in called.items()
        }
        host = {name: np.nan_to_num(self.bk.to_host(track)) for name, track in tracks.items()}
        denoised(host, (chrom, start, end), genome=genome, peaks=bars, save=path)


def open_files(
    bk: Backend,
    clean: str | Path | None,
    noisy: str | Path | None,
    denoised: Sequence[str | Path],
    probability: Sequence[str | Path],
    *,
    names: Sequence[str] | None,
    h5: Sequence[str | Path],
    intervals: Sequence[str | Path],
    pad: int,
    peaks: Any,
    peak_cutoff: float | None,
    genome: str | Path | Genome | None,
    regions: Any,
    half_width: int,
    tune: Sequence[str] = (),
) -> Files:
    """Open every file and see that they fit together. Smoothings may be tuned where nothing is denoised."""
    from gpuatac.nn.contract import PeakRule
    from gpuatac.nn.denoising.examples.clean_peaks import peaks_of_bed, peaks_of_track

    made = None if genome is None else read_genome(genome)
    spans: dict[int, tuple[int, int]] = {}
    deep: Any
    if h5:
        deep, shallow, spans = _from_h5(bk, h5, intervals, noisy, genome=made, pad=pad, half_width=half_width)
    else:
        assert clean is not None
        deep = _Values(bk, clean, made)
        shallow = None if noisy is None else _shallow(bk, noisy, deep.genome, half_width)
    made = deep.genome
    methods = {
        name: tuple(None if path is None else _Values(bk, path, made) for path in pair)
        for name, pair in _pairs(denoised, probability, names).items()
    }
    if not methods and shallow is None:
        msg = "nothing to evaluate; give a noisy track (--noisy), denoised ones (--denoised) or probabilities (--probability)."
        raise InputError(msg)
    wanted = None if regions is None else peaks_of_bed(_regions(regions, made), made)
    every = _shared(deep, [shallow, *(source for pair in methods.values() for source in pair)])
    judged = _inside(every, wanted)
    codes = every
    needed = set(judged)
    if shallow is not None:
        tuned = {made.code[name] for name in tune if name in made.code} & set(deep.codes) & set(shallow.codes)
        codes = sorted({*codes, *tuned})
        needed |= tuned or set(codes[:1])
    if peaks is not None:
        found = peaks_of_bed(peaks, made)
    elif peak_cutoff is not None:
        check.between("peak_cutoff", peak_cutoff, 0)
        found = peaks_of_track(deep, sorted(needed), rule=PeakRule(cutoff=peak_cutoff))
    else:
        found = deep.peaks() if h5 else peaks_of_track(deep, sorted(needed))
    sizes = {made.names[code]: int(made.sizes[code]) for code in codes}
    names_of = [made.names[code] for code in judged]
    return Files(bk, deep, shallow, methods, found, wanted, half_width, sizes, names_of, spans)


def _shallow(bk: Backend, path: str | Path, genome: Genome, half_width: int) -> FileTracks:
    """The shallow track; its depth is of no account here."""
    return FileTracks([Path(path)], genome=genome, depth=[1.0], device=bk.name, half_width=half_width)


def _from_h5(
    bk: Backend,
    h5: Sequence[str | Path],
    intervals: Sequence[str | Path],
    noisy: str | Path | None,
    *,
    genome: Genome | None,
    pad: int,
    half_width: int,
) -> tuple[H5Tracks, Any, dict[int, tuple[int, int]]]:
    """(clean track, shallow track, from the first to behind the last base known, by chromosome)."""
    if genome is None or len(intervals) != len(h5):
        msg = (
            f"{len(h5)} HDF5 files need their genome (--genome) and as many BED files of intervals (--intervals), "
            f"got {len(intervals)}."
        )
        raise InputError(msg)
    shallow: Any = None if noisy is None else _shallow(bk, noisy, genome, half_width)
    opened = [AtacworksH5.open(path) for path in h5]
    places = [Intervals.read(f, bed, genome, pad=pad, noisy=shallow) for f, bed in zip(opened, intervals, strict=True)]
    same: dict[str, Any] = {"genome": genome, "depth": 1.0, "bk": bk, "pad": pad, "half_width": half_width}
    deep = H5Tracks(opened, places, what="clean", **same)
    spans: dict[int, tuple[int, int]] = {}
    for at in places:
        for code in np.unique(at.code).tolist():
            own = at.start[at.code == code]
            low, high = spans.get(code, (2**31, 0))
            spans[code] = min(low, int(own.min())), max(high, int(own.max()) + at.length)
    return deep, H5Tracks(opened, places, what="noisy", **same) if shallow is None else shallow, spans


def _shared(deep: Any, others: Sequence[Any]) -> list[int]:
    """Chromosomes on which every file has data, ascending."""
    genome: Genome = deep.genome
    codes = set(deep.codes)
    for source in others:
        codes &= codes if source is None else set(source.codes)
    if not codes:
        msg = f"no chromosome of genome {genome.name} has data in every file; give tracks of the same chromosomes."
        raise InputError(msg)
    left_out = [genome.names[code] for code in deep.codes if code not in codes]
    if left_out:
        logger.info("left out, as not every file has data there: %s", ", ".join(left_out))
    return sorted(codes)


def _inside(every: list[int], regions: Peaks | None) -> list[int]:
    """Those of the chromosomes on which regions lie; all where there are none."""
    codes = [code for code in every if regions is None or code in regions]
    if not codes:
        msg = "the regions lie on no chromosome that has data in every file; correct them (regions, --regions)."
        raise InputError(msg)
    return codes


def _pairs(
    denoised: Sequence[str | Path], probability: Sequence[str | Path], names: Sequence[str] | None
) -> dict[str, tuple[str | Path | None, str | Path | None]]:
    """Signal and score file of each method, by name."""
    n = max(len(denoised), len(probability))
    if denoised and probability and len(denoised) != len(probability):
        msg = (
            f"{len(denoised)} denoised tracks and {len(probability)} probabilities do not pair; give one of each for each method, "
            "in the same order, or only one kind (--denoised, --probability)."
        )
        raise InputError(msg)
    labels = [_stem(path) for path in (denoised or probability)] if names is None else list(names)
    if len(labels) != n or len({*labels}) != n:
        msg = f"{n} methods need {n} different names, got {', '.join(map(repr, labels)) or 'none'}; give them (names, --names)."
        raise InputError(msg)
    nothing: list[str | Path | None] = [None] * n
    signals, scores = ([*paths] or nothing for paths in (denoised, probability))
    return dict(zip(labels, zip(signals, scores, strict=True), strict=True))


def _stem(path: str | Path) -> str:
    name = Path(path).name
    while ending := next((e for e in ENDINGS if name.lower().endswith(e) and len(name) > len(e)), None):
        name = name[: -len(ending)]
    return name


def _regions(regions: Any, genome: Genome) -> Any:
    """A frame of regions; names of whole chromosomes are regions, too."""
    if isinstance(regions, str | Path) and Path(regions).exists():
        return regions_frame(regions)
    if isinstance(regions, str):
        regions = [regions]
    if isinstance(regions, list | tuple) and len(regions) == 1 and Path(regions[0]).exists():
        return regions_frame(regions[0])
    return regions_frame(regions, genome)
