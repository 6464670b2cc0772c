"""Denoising of whole sources: stretch by stretch through the model, on to peaks and files while the next is computed."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from gpuatac import check, progress
from gpuatac.core.differential.track_differences import Stretches, stretches_of
from gpuatac.core.track_source import denser
from gpuatac.core.tracks.threshold_peaks import ThresholdPeaks
from gpuatac.errors import InputError
from gpuatac.nn import checkpoints
from gpuatac.nn.contract import PeakRule
from gpuatac.nn.denoising.streaming import denoise_chromosome
from gpuatac.nn.dlpack import as_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from gpuatac.backend.protocol import Backend
    from gpuatac.core.track_source import TrackSource
    from gpuatac.nn.contract import Denoiser, ModelCard
    from gpuatac.nn.denoising.streaming import Precision, Stretch

logger = logging.getLogger(__name__)
WAITING = 4  # stretches computed ahead of the writing
MOST_OFF = 2.0  # times the depth a model was trained for, or its inverse
PEAK_COLUMNS = ("group", "chrom", "start", "end", "length", "mean", "max", "summit")


class Writer(Protocol):
    """What takes a track, piece by piece: ``io.tracks.denoised_files.DenoisedWriter``."""

    def add(self, group_index: int, code: int, start: int, values: np.ndarray) -> None:
        """Consecutive host float32 values of one group on one chromosome."""
        ...


class Tracks(NamedTuple):
    """Host float32 (n_groups, n_bases) of one region: coverage as it is, and what the model makes of it."""

    noisy: np.ndarray
    signal: np.ndarray
    probability: np.ndarray


def denoise(
    model: Denoiser,
    card: ModelCard,
    source: TrackSource,
    *,
    regions: Stretches | None = None,
    writers: Mapping[str, Writer] | None = None,
    rule: PeakRule | None = None,
    extra: Any = None,
    precision: Precision = "float32",
    signal_depth: float | None = None,
    compiled: bool = False,
) -> pd.DataFrame:
    """Denoise every group of a source and call peaks, all groups in one batch.

    Reads   ``source``, chromosome by chromosome; whole ones where ``regions`` is None.
    Writes  to ``writers``, while the next stretch is computed.
    Returns peaks, rows by group, chromosome and position: group (categorical), chrom (categorical), start, end, length (int32, bp),
            mean, max (float32: of the signal over the peak), summit (int32: position of the first maximum).

    Parameters
    ----------
    model, card
        As ``nn.checkpoints.load_model`` gives them, on the source's device.
    source
        Tracks of groups.
    regions
        Stretches to denoise; None: chromosomes that have data.
    writers
        "signal" and "probability": who takes that track.
    rule
        How peaks are cut from the probability; None: >= 0.5, gaps of 30 bp at most, 200 bp or longer.
    extra
        Extra input tracks, see ``nn.denoising.examples.extra_tracks``.
    precision
        "float32" or "bfloat16".
    signal_depth
        Reads of the library the signal is scaled to; None: that of the model's training (``card.target_depth``).
    compiled
        Whether the model goes through ``torch.compile``.

    Raises
    ------
    InputError
        When the source does not fit the model.

    Cost: that of the model; memory holds a few stretches of all groups.

    Source: Lal et al., Nature Communications 12:1507 (2021); peaks as MACS2's bdgpeakcall.

    Examples
    --------
    >>> from gpuatac.nn.denoising.inference import denoise
    >>> peaks = denoise(model, card, source)  # doctest: +SKIP
    """
    rule = rule or PeakRule()
    sink = _Sink(source, rule, dict(writers or {}), factors_of(model, card, source, signal_depth))
    with _Behind(sink.take, begin=source.bk.use) as behind:
        for code, stretch in stretches(
            model, card, source, regions=regions, extra=extra, precision=precision, compiled=compiled
        ):
            behind.put((code, stretch))
    return sink.peaks()


def ready_model(model: str | Path | tuple[Any, ModelCard] | None, bk: Backend, **how: Any) -> tuple[Any, ModelCard]:
    """A checkpoint's model and card, or those given, on the device of ``bk``; None for the weights that ship.

    ``how``: what ``nn.checkpoints.load_model`` takes, such as the dilation of a published checkpoint.
    """
    if model is None:
        network, card = checkpoints.pretrained()
    elif isinstance(model, tuple):
        network, card = model
    else:
        network, card = checkpoints.load_model(
            model, **{name: value for name, value in how.items() if value is not None}
        )
    bk.make_room()
    return network.to("cuda" if bk.name == "gpu" else "cpu").eval(), card


def stretches(
    model: Denoiser,
    card: ModelCard,
    source: TrackSource,
    *,
    regions: Stretches | None = None,
    extra: Any = None,
    precision: Precision = "float32",
    compiled: bool = False,
    title: str = "denoising",
) -> Iterator[tuple[int, Stretch]]:
    """(chromosome code, denoised stretch), ascending, of ``regions`` or of every chromosome that has data."""
    check.one_of("precision", precision, ("float32", "bfloat16"))
    check_fit(model, card, source, extra=extra)
    warn_of_depth(card, source.groups, source.depth)
    regions = whole_chromosomes(source) if regions is None else regions
    with progress.bar(title, regions.n_bases, unit="bp", scale=True) as done:
        for code, start, stop in _rows(regions):
            for stretch in denoise_chromosome(
                model, source, code, start=start, stop=stop, extra=extra, precision=precision, compiled=compiled
            ):
                yield code, stretch
                done(stretch.stop - stretch.start)


def signal_over(
    model: Denoiser,
    card: ModelCard,
    source: TrackSource,
    regions: Stretches,
    *,
    extra: Any = None,
    precision: Precision = "float32",
    title: str = "denoising",
) -> Any:
    """float32 (n_groups, bases of ``regions`` end to end) on the source's backend: the denoised signal."""
    xp = source.bk.xp
    out = xp.empty((len(source.groups), regions.n_bases), np.float32)
    at = 0
    for _, stretch in stretches(
        model, card, source, regions=regions, extra=extra, precision=precision, title=title
    ):  # in the order of the regions
        out[:, at : at + stretch.stop - stretch.start] = as_array(stretch.signal, source.bk)
        at += stretch.stop - stretch.start
    return out


def tracks_at(
    model: Denoiser,
    card: ModelCard,
    source: TrackSource,
    region: tuple[int, int, int],
    *,
    extra: Any = None,
    precision: Precision = "float32",
    signal_depth: float | None = None,
) -> Tracks:
    """The noisy and the denoised tracks of every group over (chromosome code, start, stop)."""
    code, start, stop = region
    one = stretches_of(*(np.array([x]) for x in region))
    parts = [s for _, s in stretches(model, card, source, regions=one, extra=extra, precision=precision)]
    signal = np.concatenate([_host(s.signal) for s in parts], axis=1) * factors_of(model, card, source, signal_depth)
    noisy = source.bk.to_host(source.coverage(code, start, stop))
    return Tracks(noisy, signal, np.concatenate([_host(s.probability) for s in parts], axis=1))


def whole_chromosomes(source: TrackSource) -> Stretches:
    """Every chromosome that has data, from end to end."""
    codes = np.asarray(list(source.codes), np.int64)
    return stretches_of(codes, np.zeros(codes.size, np.int64), source.genome.sizes[codes])


def factors_of(model: Denoiser, card: ModelCard, source: TrackSource, signal_depth: float | None) -> np.ndarray:
    """float32 (n_groups, 1): ``factor_of`` for each group; a model of any depth knows its target by its density."""
    factors = np.full(len(source.groups), factor_of(card, signal_depth))
    if signal_depth is not None and "target_depth" in model.options:
        factors = signal_depth * denser(source) / float(model.options["target_depth"])
    return factors.astype(np.float32)[:, None]


def factor_of(card: ModelCard, signal_depth: float | None) -> float:
    """What the model's signal is multiplied by."""
    if signal_depth is None:
        return 1.0
    check.between("signal_depth", signal_depth, 1.0, 1e15)
    if card.target_depth is None:
        msg = "signal_depth is given, but the model does not say which depth its signal has; leave signal_depth out."
        raise InputError(msg)
    return float(signal_depth) / float(card.target_depth)


def check_fit(model: Any, card: ModelCard, source: TrackSource, *, extra: Any = None) -> None:
    """Raise when ``source`` is not what the model was made for, or has groups without a read."""
    if model.inputs == "cuts" and not source.has_cuts:
        msg = (
            "the model reads cuts, and this track has coverage alone (it is binned, smoothed or scaled); give fragments, a BAM file "
            "or a track of whole counts, or a model that reads coverage."
        )
        raise InputError(msg)
    if model.inputs == "coverage" and source.half_width != card.half_width:
        msg = (
            f"the tracks count cuts within {source.half_width} bp of a base, and the model was trained on {card.half_width} bp; make "
            f"the tracks with half_width={card.half_width} or take another model."
        )
        raise InputError(msg)
    named = ", ".join(map(str, card.extra_tracks)) or "unnamed"
    if model.n_extra and extra is None:
        msg = f"the model reads {model.n_extra} extra track(s) ({named}) and none is given; pass them (extra, --extra)."
        raise InputError(msg)
    if extra is not None and not model.n_extra:
        msg = "extra tracks are given, and the model reads none; leave them out or take a model trained with them."
        raise InputError(msg)
    groups, depth = source.groups, np.asarray(source.depth, np.float64)
    unread = [name for name, reads in zip(groups, depth, strict=True) if not (np.isfinite(reads) and reads > 0)]
    if unread:
        shown = ", ".join(map(repr, unread[:3]))
        msg = f"{len(unread)} of {len(groups)} groups have no reads ({shown}); leave them out, or give the depth of their library."
        raise InputError(msg)


def warn_of_depth(card: ModelCard, groups: Sequence[str], depth: np.ndarray) -> None:
    """Warn where a model of one depth gets another by more than a factor of 2."""
    if card.input_depth is None:
        return
    depth = np.asarray(depth, np.float64)
    ratio = depth / card.input_depth
    far = [
        f"{name} {reads:,.0f}"
        for name, reads, r in zip(groups, depth, ratio, strict=True)
        if not 1 / MOST_OFF <= r <= MOST_OFF
    ]
    if far:
        logger.warning(
            "the model was trained on libraries of %s reads, and %d of %d groups have more than %g times more or fewer (%s%s): expect "
            "wrong signal and peaks; use a model for this depth, or one for any",
            f"{card.input_depth:,.0f}", len(far), len(groups), MOST_OFF, ", ".join(far[:3]), ", ..." if len(far) > 3 else "",
        )  # fmt: skip


def _host(values: torch.Tensor) -> np.ndarray:
    host: np.ndarray = values.float().cpu().numpy()
    return host


def _rows(regions: Stretches) -> Iterator[tuple[int, int, int]]:
    return zip(regions.chrom.tolist(), regions.start.tolist(), regions.end.tolist(), strict=True)


class _Sink:
    """Takes stretches in order: hands them to the writers and cuts peaks, chromosome by chromosome."""

    def __init__(self, source: TrackSource, rule: PeakRule, writers: dict[str, Writer], factors: np.ndarray) -> None:
        self._groups, self._genome, self._rule = list(source.groups), source.genome, rule
        self._writers, self._factors = writers, factors
        self._code = -1
        self._open: list[ThresholdPeaks] = []
        self._found: list[list[dict[str, np.ndarray]]] = [[] for _ in self._groups]

    def take(self, piece: tuple[int, Stretch]) -> None:
        """One stretch of the chromosome with this code; its way to the host is made here, while the next is computed."""
        code, stretch = piece
        start, signal, probability = stretch.start, _host(stretch.signal), _host(stretch.probability)
        if code != self._code:
            self._close()
            rule = self._rule
            self._code = code
            self._open = [
                ThresholdPeaks(cutoff=rule.cutoff, min_length=rule.min_length, max_gap=rule.max_gap)
                for _ in self._groups
            ]
        if (self._factors != 1).any():
            signal = signal * self._factors
        for g, peaks in enumerate(self._open):
            peaks.add(start, probability[g], signal[g])
        for what, values in (("signal", signal), ("probability", probability)):
            if what in self._writers:
                for g in range(len(self._groups)):
                    self._writers[what].add(g, code, start, values[g])

    def _close(self) -> None:
        for found, peaks in zip(self._found, self._open, strict=False):
            columns = {name: np.asarray(values) for name, values in peaks.finish().items()}
            found.append({"chrom": np.full(columns["start"].size, self._code, np.int32), **columns})
        self._open = []

    def peaks(self) -> pd.DataFrame:
        """All peaks."""
        self._close()
        frames = [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in self._found
            if parts
        ]
        sizes = [frame["start"].size for frame in frames] or [0] * len(self._groups)
        group = np.repeat(np.arange(len(self._groups), dtype=np.int32), sizes)

        def column(name: str, dtype: type) -> np.ndarray:
            return np.concatenate([frame[name] for frame in frames] or [np.empty(0)]).astype(dtype)

        return pd.DataFrame(
            {
                "group": pd.Categorical.from_codes(group, [str(name) for name in self._groups]),
                "chrom": pd.Categorical.from_codes(column("chrom", np.int32), list(self._genome.names)),
                **{name: column(name, np.int32) for name in ("start", "end", "length")},
                **{name: column(name, np.float32) for name in ("mean", "max")},
                "summit": column("summit", np.int32),
            }
        )


class _Behind:
    """Runs ``work`` on pieces in the order they are put, in a thread of its own; its first error is raised in the caller.

    The thread calls ``begin`` first.
    """

    def __init__(self, work: Callable[[Any], None], begin: Callable[[], None]) -> None:
        self._work, self._begin = work, begin
        self._queue: queue.Queue[Any] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._stopped = False  # what still waits is dropped
        self._thread = threading.Thread(target=self._run, name="gpuatac-writing", daemon=True)

    def _run(self) -> None:
        try:
            self._begin()
        except BaseException as error:  # noqa: BLE001 - raised again by ``put`` or at the end
            self._error, self._stopped = error, True
        while (piece := self._queue.get()) is not None:
            if self._stopped:
                continue
            try:
                self._work(piece)
            except BaseException as error:  # noqa: BLE001 - raised again by ``put`` or at the end
                self._error, self._stopped = error, True

    def put(self, piece: Any) -> None:
        """Hand over one piece; waits while ``WAITING`` of them are not done."""
        if self._error is not None:
            raise self._error
        self._queue.put(piece)

    def __enter__(self) -> _Behind:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._stopped |= kind is not None
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
