"""Training examples, cut from tracks where they lie: no intermediate files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gpuatac.core.track_source import LENGTH_CLASSES
from gpuatac.errors import InputError
from gpuatac.nn.contract import Batch, Example
from gpuatac.nn.denoising.examples import clean_peaks
from gpuatac.nn.dlpack import as_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpuatac.core.track_source import TrackSource
    from gpuatac.nn.contract import Denoiser, Inputs
    from gpuatac.nn.denoising.examples.noisy_inputs import NoisyInput, Track
    from gpuatac.nn.denoising.examples.splits import Part, Split

PIECE = 8_000_000  # bases asked for at a time
LEAST_TRAINABLE = 0.25  # of the bases of a training interval


@dataclass(frozen=True)
class Shape:
    """What a model asks for, see ``nn.contract.Denoiser``."""

    inputs: Inputs
    bin_size: int = 1
    halo: int = 0
    align: int = 1
    n_extra: int = 0
    by_length: bool = False

    @classmethod
    def of(cls, model: Denoiser) -> Shape:
        """The shape of a model's input. With an attribute ``by_length`` that is set it reads cuts by fragment length, where known."""
        return cls(
            model.inputs,
            model.bin_size,
            model.halo,
            model.align,
            model.n_extra,
            bool(getattr(model, "by_length", False)),
        )

    def interval(self, wanted: int) -> int:
        """``wanted`` bp rounded up to what the model is aligned to."""
        step = int(np.lcm(self.align, self.bin_size))
        return -(-wanted // step) * step


@dataclass(frozen=True)
class Sample:
    """One clean track with its peaks, and its noisy versions.

    Attributes
    ----------
    clean
        The clean track.
    peaks
        Peaks by chromosome code, see ``nn.denoising.examples.clean_peaks``.
    noisy
        Its noisy versions, each with the share of the examples it is drawn for.
    scale
        What clean coverage is multiplied by, to be of the target depth.
    filtered_by
        The track whose intervals without coverage are left out; None: the clean one.
    """

    clean: Track
    peaks: Mapping[int, np.ndarray]
    noisy: Sequence[tuple[NoisyInput, float]]
    scale: float = 1.0
    filtered_by: Track | None = None


@dataclass(frozen=True)
class Windows:
    """How intervals are cut: their length and context in bp, and which are left out. As in ``nn.recipes.Recipe``."""

    interval: int = 50_000
    pad: int | None = None
    nonzero: bool = True
    random_starts: bool = False
    flip: bool = False


class _Cutter:
    """Cuts single examples out of tracks, as torch tensors on ``device``."""

    def __init__(
        self, shape: Shape, windows: Windows, split: Split, part: Part, device: torch.device, extra: Any
    ) -> None:
        self.shape, self.windows, self.split, self.part, self.device, self.extra = (
            shape, windows, split, part, device, extra,
        )  # fmt: skip
        self.length = shape.interval(windows.interval)
        if shape.n_extra and extra is None:
            msg = (
                f"the model takes {shape.n_extra} extra input tracks and none are given; give them, or a model without."
            )
            raise InputError(msg)

    def depth_of(self, noisy: Track) -> float:
        """Its depth as the model is told it."""
        return noisy.depth * noisy.denser if self.shape.inputs == "cuts" else noisy.depth

    def intervals(self, sample: Sample) -> np.ndarray:
        """int64 (n, 2): code and start of the intervals of a sample, ascending."""
        found = []
        track = sample.filtered_by or sample.clean
        have = {*map(int, sample.clean.source.codes), *map(int, track.source.codes)}
        for code in self.split.codes(self.part):
            if code not in have:
                continue
            size = int(track.source.genome.sizes[code])
            starts = np.arange(0, size, self.length, dtype=np.int64)
            keep = np.ones(len(starts), bool)
            if self.windows.nonzero:
                ends = np.minimum(starts + self.length, size)
                keep &= _bases_inside(_empty(track.source, code, size), starts, ends) < ends - starts
            least = LEAST_TRAINABLE if self.part == "train" else 0.0
            for k in np.flatnonzero(keep):
                share = self._weight(sample, code, int(starts[k])).mean()
                keep[k] = share > 0 and share >= min(least, (size - starts[k]) / self.length)
            found.append(np.stack([np.full(int(keep.sum()), code, np.int64), starts[keep]], axis=1))
        return np.concatenate(found) if found else np.empty((0, 2), np.int64)

    def cut(self, sample: Sample, noisy: Track, code: int, start: int, *, flip: bool) -> tuple[torch.Tensor, ...]:
        """x, clean coverage, peak labels and weights of the interval at ``start``."""
        x = self._input(noisy, code, start)
        y = _coverage(sample.clean, code, start, start + self.length, self.device) * sample.scale
        peak = torch.from_numpy(clean_peaks.labels(sample.peaks, code, start, start + self.length)).to(self.device)
        weight = torch.from_numpy(self._weight(sample, code, start)).to(self.device)
        if flip:
            x, y, peak, weight = (part.flip(-1) for part in (x, y, peak, weight))
        return x, y, peak, weight

    def _weight(self, sample: Sample, code: int, start: int) -> np.ndarray:
        """float32 (length,): 1 where the base is on the chromosome, in the part, and its clean coverage is known."""
        source = sample.clean.source
        stop = min(start + self.length, int(source.genome.sizes[code]))
        out = np.zeros(self.length, np.float32)
        inside = self.split.inside(self.part, code, start, stop)
        known = getattr(source, "known", None)
        if known is not None:
            inside &= known(code, start, stop)
        out[: stop - start] = inside
        return out

    def _input(self, noisy: Track, code: int, start: int) -> torch.Tensor:
        shape = self.shape
        pad = shape.halo if self.windows.pad is None else min(self.windows.pad, shape.halo)
        pad -= pad % shape.bin_size
        first, last = start - pad, start + self.length + pad
        if shape.inputs == "coverage":
            x = _coverage(noisy, code, first, last, self.device)[None]
            if shape.n_extra:
                size = int(noisy.source.genome.sizes[code])
                a, b = max(first, 0), min(last, size)
                more = as_tensor(self.extra(code, a, b)).to(self.device)
                x = torch.cat([x, torch.nn.functional.pad(more, (a - first, last - b))])
        else:
            x = _cuts(noisy, code, first, last, shape, self.device)
        missing = (shape.halo - pad) // shape.bin_size
        return torch.nn.functional.pad(x, (missing, missing)) if missing else x


def _empty(source: TrackSource, code: int, size: int) -> np.ndarray:
    """Stretches of a chromosome without coverage, asked for in pieces."""
    pieces = [np.asarray(source.empty(code, a, min(a + PIECE, size))).reshape(-1, 2) for a in range(0, size, PIECE)]
    return np.concatenate(pieces)


def _bases_inside(stretches: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How many bases of each interval lie in the disjoint, ascending ``stretches``."""
    if not len(stretches):
        return np.zeros(len(starts), np.int64)
    total = np.concatenate([[0], np.cumsum(stretches[:, 1] - stretches[:, 0])])

    def before(at: np.ndarray) -> np.ndarray:
        k = np.searchsorted(stretches[:, 0], at, "right")
        beyond = np.where(k > 0, np.maximum(stretches[np.maximum(k - 1, 0), 1] - at, 0), 0)
        inside: np.ndarray = total[k] - beyond
        return inside

    found: np.ndarray = before(ends) - before(starts)
    return found


def _coverage(track: Track, code: int, start: int, stop: int, device: torch.device) -> torch.Tensor:
    """(stop - start,) coverage, 0 beyond the chromosome and where it is unknown."""
    size = int(track.source.genome.sizes[code])
    a, b = min(max(start, 0), size), min(max(stop, 0), size)
    if a >= b:
        return torch.zeros(stop - start, device=device)
    values = as_tensor(track.source.coverage(code, a, b)[track.row]).to(device)
    return torch.nn.functional.pad(torch.nan_to_num(values, nan=0.0), (a - start, stop - b))


def _cuts(track: Track, code: int, start: int, stop: int, shape: Shape, device: torch.device) -> torch.Tensor:
    """(classes, bins) cuts in bins from ``start`` on, whatever ``start`` is a multiple of; none beyond the chromosome."""
    step = shape.bin_size
    size = int(track.source.genome.sizes[code])
    unit = step if start % step == 0 else 1
    a, b = max(start, 0), max(min(stop, -(-size // unit) * unit), 0)
    by_length = shape.by_length and track.source.has_lengths
    n_classes = len(LENGTH_CLASSES) if by_length else 1
    if a >= b:
        return torch.zeros(n_classes, (stop - start) // step, device=device)
    found = track.source.cuts(code, a, b, bin_size=unit, by_length=by_length)[track.row]
    values = torch.nan_to_num(as_tensor(found).to(device), nan=0.0)
    values = torch.nn.functional.pad(values, ((a - start) // unit, (stop - b) // unit))
    return values if unit == step else values.view(len(values), -1, step).sum(-1)


def _stacked(parts: Sequence[tuple[torch.Tensor, ...]], depth: Sequence[float], device: torch.device) -> Example:
    x, y, peak, weight = (torch.stack(column) for column in zip(*parts, strict=True))
    return Example(x, torch.tensor(depth, dtype=torch.float32, device=device), Batch(y, peak, weight))


@dataclass
class TrackExamples:
    """Examples of the training part of a split, cut from tracks.

    An epoch has one example for each sample and interval. The noisy version is drawn by its share; with
    ``windows.random_starts`` the interval is moved by up to half its length, with ``windows.flip`` every second is reversed.

    Parameters
    ----------
    samples
        Clean tracks with their noisy versions, of one genome.
    split
        Parts of the genome; bases outside the training part have weight 0.
    shape
        What the model asks for.
    windows
        How intervals are cut.
    seed
        Of everything random.
    device
        Where the examples lie.
    extra
        ``(code, start, stop) -> float32 (n_extra, stop - start)`` extra input tracks.

    Raises
    ------
    InputError
        When no interval is left.

    Cost: a few window queries of the sources for each example.

    Examples
    --------
    >>> from gpuatac.nn.denoising.examples.from_tracks import TrackExamples
    >>> TrackExamples(samples, split, shape=shape).batch([0], epoch=0, positions=[0]).x.shape  # doctest: +SKIP
    """

    samples: Sequence[Sample]
    split: Split
    shape: Shape
    windows: Windows = field(default_factory=Windows)
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    extra: Any = None

    def __post_init__(self) -> None:
        self._cutter = _Cutter(self.shape, self.windows, self.split, "train", self.device, self.extra)
        self._table = _table(self._cutter, self.samples, "train on")

    def __len__(self) -> int:
        """Examples of an epoch."""
        return len(self._table)

    def batch(self, picks: Sequence[int], *, epoch: int, positions: Sequence[int]) -> Example:
        """See ``Examples``."""
        parts, depths = [], []
        for pick, position in zip(picks, positions, strict=True):
            rng = np.random.default_rng([self.seed, epoch, position])
            number, code, start = map(int, self._table[pick])
            sample = self.samples[number]
            noisy = _drawn(sample, rng, epoch)
            length = self._cutter.length
            if self.windows.random_starts:
                room = max(int(sample.clean.source.genome.sizes[code]) - length, 0)
                start = min(max(start + int(rng.integers(-length // 2, length // 2 + 1)), 0), room)
            flip = self.windows.flip and bool(rng.integers(2))
            parts.append(self._cutter.cut(sample, noisy, code, start, flip=flip))
            depths.append(self._cutter.depth_of(noisy))
        return _stacked(parts, depths, self.device)


def _drawn(sample: Sample, rng: np.random.Generator, epoch: int) -> Track:
    shares = np.array([share for _, share in sample.noisy], np.float64)
    return sample.noisy[int(rng.choice(len(shares), p=shares / shares.sum()))][0].draw(rng, epoch)


def _table(cutter: _Cutter, samples: Sequence[Sample], what: str) -> np.ndarray:
    """int64 (n, 3): sample, code and start of each interval."""
    rows = []
    for number, sample in enumerate(samples):
        at = cutter.intervals(sample)
        rows.append(np.column_stack([np.full(len(at), number, np.int64), at]))
    table = np.concatenate(rows) if rows else np.empty((0, 3), np.int64)
    if not len(table):
        msg = (
            f"no interval of {cutter.length:,} bp is left to {what}: none has noisy coverage and a known clean track; check that "
            "the tracks are of one genome, or choose other chromosomes."
        )
        raise InputError(msg)
    return table


class TrackValidation:
    """Examples of the validation (or holdout) part of a split: whole, in order, the same each time.

    Parameters
    ----------
    samples, split, shape, windows, seed, device, extra
        As for ``TrackExamples``; intervals are neither moved nor reversed.
    part
        "validation" or "holdout".
    most
        At most this many intervals, evenly chosen; None: all.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        split: Split,
        *,
        shape: Shape,
        windows: Windows | None = None,
        part: Part = "validation",
        most: int | None = None,
        seed: int = 0,
        device: torch.device | None = None,
        extra: Any = None,
    ) -> None:
        self.samples, self.device = samples, torch.device("cpu") if device is None else device
        self._cutter = _Cutter(shape, windows or Windows(), split, part, self.device, extra)
        table = _table(self._cutter, samples, "choose the best epoch by")
        if most is not None and len(table) > most:
            table = table[np.linspace(0, len(table) - 1, most).round().astype(np.int64)]
        self._table = table
        self._fixed: list[dict[str, Track]] = [
            {name: track for noisy, _ in sample.noisy for name, track in noisy.fixed(seed)} for sample in samples
        ]
        self.names = list(dict.fromkeys(name for fixed in self._fixed for name in fixed))

    def __len__(self) -> int:
        """Intervals."""
        return len(self._table)

    def batches(self, name: str, batch_size: int, *, rank: int = 0, world: int = 1) -> Iterator[Example]:
        """See ``Validation``."""
        rows = [row for row in self._table if name in self._fixed[row[0]]]
        for first in range(rank * batch_size, len(rows), world * batch_size):
            parts, depths = [], []
            for number, code, start in rows[first : first + batch_size]:
                noisy = self._fixed[number][name]
                parts.append(self._cutter.cut(self.samples[number], noisy, int(code), int(start), flip=False))
                depths.append(self._cutter.depth_of(noisy))
            yield _stacked(parts, depths, self.device)
