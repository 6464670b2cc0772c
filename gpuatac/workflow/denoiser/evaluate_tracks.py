"""How well denoised tracks tell a deep library, beside the raw track and plain smoothing of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from gpuatac import check
from gpuatac.backend import resolve
from gpuatac.core.track_source import HALF_WIDTH
from gpuatac.core.tracks import block_bootstrap, smoothing, track_metrics
from gpuatac.core.tracks.block_bootstrap import BLOCK, Blocks
from gpuatac.core.tracks.threshold_peaks import ThresholdPeaks
from gpuatac.core.tracks.track_metrics import Tally
from gpuatac.errors import InputError
from gpuatac.progress import bar
from gpuatac.workflow.denoiser.track_comparison import MEASURES, OVERALL, Comparison, meets

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend
    from gpuatac.core.tracks.smoothing import Scale

logger = logging.getLogger(__name__)
PIECE = 4_000_000  # about so many bases at a time
MARGIN = 8_192  # bp: what the widest smoothing reaches, and more


class Method(NamedTuple):
    """One method on one stretch, float32 (n,) each, or None where it has no such output."""

    signal: Any
    score: Any
    is_probability: bool = False  # the score may be held against a threshold


class Stretch(NamedTuple):
    """What is known of the bases [start, stop) of a chromosome, arrays on the backend."""

    clean: Any  # NaN where unknown
    label: Any
    valid: Any | None
    methods: Mapping[str, Method]


class Given(Protocol):
    """Where tracks come from."""

    @property
    def bk(self) -> Backend:
        """Where arrays lie."""
        ...

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bases of each chromosome that can be evaluated, by name."""
        ...

    @property
    def has_noisy(self) -> bool:
        """Whether there is a shallow track."""
        ...

    @property
    def half_width(self) -> int:
        """Bp on each side of a cut that coverage counts."""
        ...

    @property
    def judged(self) -> Sequence[str]:
        """Those of the chromosomes that methods can be judged on."""
        ...

    def span(self, chrom: str, *, tuning: bool = False) -> tuple[int, int]:
        """[start, stop) that holds every base to look at."""
        ...

    def stretch(self, chrom: str, start: int, stop: int, *, tuning: bool = False) -> Stretch:
        """The clean track, its peaks and the methods in [start, stop); for tuning all bases and no methods."""
        ...

    def noisy(self, chrom: str, start: int, stop: int) -> tuple[Any, Any | None]:
        """Coverage and, where known, cuts of the shallow track in [start, stop)."""
        ...


def compare(
    methods: Mapping[str, Any],
    clean: Any,
    label: Any,
    *,
    noisy: Any = None,
    cuts: Any = None,
    valid: Any = None,
    chroms: Sequence[str] | None = None,
    tune: Sequence[str] | None = None,
    scale: Scale = "depth",
    depth_ratio: float | None = None,
    half_width: int = HALF_WIDTH,
    threshold: float = 0.5,
    bootstrap: int = 0,
    block: int = BLOCK,
    seed: int = 0,
    level: float = 0.95,
    bk: Backend | None = None,
) -> Comparison:
    """Judge denoised tracks by every measure of the AtacWorks paper, beside the raw track and smoothings of it.

    Every track is an array (n,) or, for several chromosomes, a mapping {name: array}.

    Parameters
    ----------
    methods
        {name: (signal, score)}: what stands for the clean coverage, and what tells peaks (a probability); either may be None.
        May be empty.
    clean, label
        Coverage of the deep library, NaN where unknown; nonzero in its peaks.
    noisy, cuts
        Coverage of the shallow library, from which come "raw", "box 201", "box 401", "Gaussian 80", "Gaussian 150",
        "Gaussian 250" and "Gaussian mix"; its cuts at each base, which the Gaussians smooth where given. None: no baselines.
    valid
        bool: bases that count.
    chroms
        Names of the chromosomes to evaluate. None: all but those of ``tune``, or all where that leaves none.
    tune
        Chromosomes on which factors and mixes of the smoothings are fitted. None: the first.
    scale, depth_ratio
        Factor of the smoothings' signals: "depth" takes reads of the clean library over reads of the noisy one (``depth_ratio``;
        None: ratio of the sums of the tracks), "least-squares" the factor of least MSE.
    half_width
        bp on each side of a cut that coverage counts.
    threshold
        Probability from which bases and peaks are called.
    bootstrap, block, seed, level
        Draws of the paired bootstrap over blocks of ``block`` bp (0: none), its seed, and the share its intervals hold.
    bk
        Backend that computes; None: the CPU.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        Tracks of different lengths, values that are not finite, unknown chromosomes.

    Source: Lal et al. 2021, Nat. Commun. 12:1507. Cost: about 1 s per 10 Mb and method on one core, and as much for the bootstrap.

    Examples
    --------
    >>> import numpy as np
    >>> from gpuatac.workflow.denoiser.evaluate_tracks import compare
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.poisson(np.repeat(rng.gamma(0.5, 9, 500), 100)).astype("float32")
    >>> found = compare({"half": (clean / 2, None)}, clean, clean > 20, noisy=rng.binomial(clean.astype(int), 0.1))
    >>> round(float(found.overall().loc["half", "pearson"]), 3)
    1.0
    """
    given = _Arrays(
        bk or resolve("cpu"), methods, clean, label, noisy=noisy, cuts=cuts, valid=valid, half_width=half_width
    )
    return judge(given, chroms=chroms, tune=tune, scale=scale, depth_ratio=depth_ratio, threshold=threshold, bootstrap=bootstrap,
                 block=block, seed=seed, level=level)  # fmt: skip


class _Arrays:
    """Tracks that lie in memory."""

    def __init__(
        self,
        bk: Backend,
        methods: Mapping[str, Any],
        clean: Any,
        label: Any,
        *,
        noisy: Any,
        cuts: Any,
        valid: Any,
        half_width: int,
    ) -> None:
        self.bk, self.half_width, self.has_noisy = bk, half_width, noisy is not None
        self._clean, self._label = _by_chrom(clean), _by_chrom(label)
        self._noisy, self._cuts, self._valid = (None if v is None else _by_chrom(v) for v in (noisy, cuts, valid))
        self._methods = {name: [None if v is None else _by_chrom(v) for v in pair] for name, pair in methods.items()}
        self.sizes = {name: int(np.shape(track)[0]) for name, track in self._clean.items()}
        self.judged = list(self.sizes)
        named = {"label": self._label, "noisy": self._noisy, "cuts": self._cuts, "valid": self._valid}
        named |= {
            f"{kind} of {name}": v
            for name, pair in self._methods.items()
            for kind, v in zip(("signal", "score"), pair, strict=True)
        }
        for what, tracks in named.items():
            if tracks is None:
                continue
            for chrom, size in self.sizes.items():
                found = np.shape(tracks[chrom])[0] if chrom in tracks else 0
                if found != size:
                    msg = f"{what} has {found:,} bases on {chrom or 'the chromosome'}, the clean track {size:,}; cut them alike."
                    raise InputError(msg)

    def span(self, chrom: str, *, tuning: bool = False) -> tuple[int, int]:
        return 0, self.sizes[chrom]

    def stretch(self, chrom: str, start: int, stop: int, *, tuning: bool = False) -> Stretch:
        def cut(tracks: Any, dtype: Any = np.float32) -> Any:
            return None if tracks is None else self.bk.asarray(tracks[chrom][start:stop]).astype(dtype)

        found = {}
        for name, (signal, score) in () if tuning else self._methods.items():
            found[name] = Method(of_signal := cut(signal), of_signal if score is None else cut(score), score is not None)
        return Stretch(cut(self._clean), cut(self._label), cut(self._valid, bool), found)

    def noisy(self, chrom: str, start: int, stop: int) -> tuple[Any, Any | None]:
        assert self._noisy is not None
        cut = [
            None if v is None else self.bk.asarray(v[chrom][start:stop]).astype(np.float32)
            for v in (self._noisy, self._cuts)
        ]
        return cut[0], cut[1]


def _by_chrom(tracks: Any) -> Mapping[str, Any]:
    return tracks if isinstance(tracks, Mapping) else {"": tracks if hasattr(tracks, "shape") else np.asarray(tracks)}


def judge(
    given: Given,
    *,
    chroms: Sequence[str] | None,
    tune: Sequence[str] | None,
    scale: Scale,
    depth_ratio: float | None,
    threshold: float,
    bootstrap: int,
    block: int,
    seed: int,
    level: float,
) -> Comparison:
    """``compare`` for tracks from anywhere, a piece of a chromosome at a time."""
    check.one_of("scale", scale, ("depth", "least-squares"))
    bootstrap = check.integer("bootstrap", bootstrap, 0)
    block = check.integer("block", block, 1)
    check.between("threshold", threshold, 0)
    check.between("level", level, 0, 1)
    if depth_ratio is not None and not depth_ratio > 0:
        msg = f"depth_ratio must be above 0, got {depth_ratio!r}; give reads of the clean library over reads of the noisy one."
        raise InputError(msg)
    evaluated_on, tuned_on = _chromosomes(given, chroms, tune)
    pieces = {name: _pieces(*given.span(name), block) for name in evaluated_on}
    to_tune = {name: _pieces(*given.span(name, tuning=True), block) for name in tuned_on}
    todo = sum(stop - start for of in (to_tune, pieces) for parts in of.values() for start, stop in parts)
    with bar("evaluating", todo, unit="bp", scale=True) as advance:
        tuned = None
        if given.has_noisy:
            tuning = smoothing.Tuning(given.bk)
            for name in tuned_on:
                for start, stop in to_tune[name]:
                    known = given.stretch(name, start, stop, tuning=True)
                    if _any_known(given.bk, known):
                        tuning.add(_shapes(given, name, start, stop), known.clean, known.label, known.valid)
                    advance(stop - start)
            tuned = tuning.fit(scale=scale, depth_ratio=depth_ratio)
        judged = _Judged(given.bk, threshold, block if bootstrap else 0)
        for name in evaluated_on:
            for start, stop in pieces[name]:
                known = given.stretch(name, start, stop)
                advance(stop - start)
                if not _any_known(given.bk, known) and start > pieces[name][0][0]:
                    continue
                baselines = {}
                if tuned is not None:
                    made = tuned.apply(given.bk, _shapes(given, name, start, stop))
                    baselines = {key: Method(*both) for key, both in made.items()}
                same = sorted(set(baselines) & set(known.methods))
                if same:
                    msg = f"a method is called {same[0]!r}, as a smoothing is; give it another name."
                    raise InputError(msg)
                judged.add(name, start, known._replace(methods={**known.methods, **baselines}))
    own = [name for name in judged.names if tuned is None or name not in {*tuned.factors, smoothing.MIXED}]
    pairs = [(a, b) for a in own for b in judged.names if b not in own] or [
        (a, b) for i, a in enumerate(own) for b in own[:i]
    ]
    table = judged.table()
    return Comparison(
        table,
        judged.intervals(pairs, table, n=bootstrap, seed=seed, level=level),
        judged.called(),
        tuned,
        tuned_on if tuned is not None else [],
        evaluated_on,
    )


class _Judged:
    """Gathers what every measure needs, piece by piece."""

    def __init__(self, bk: Backend, threshold: float, block: int) -> None:
        self._bk, self._threshold, self._block = bk, threshold, block
        self.names: list[str] = []
        self._tallies: dict[str, dict[str, list[Tally]]] = {}  # by chromosome and method
        self._edges: dict[str, np.ndarray] = {}
        self._blocks: dict[str, list[Blocks]] = {}
        self._peaks: dict[tuple[str, str], ThresholdPeaks] = {}  # by chromosome and method, "" for the clean peaks

    def add(self, chrom: str, start: int, known: Stretch) -> None:
        """Take in one piece."""
        bk = self._bk
        self.names = list(known.methods)
        tallies = self._tallies.setdefault(chrom, {})
        if any(method.is_probability for method in known.methods.values()):
            counted = ~bk.xp.isnan(known.clean) if known.valid is None else ~bk.xp.isnan(known.clean) & known.valid
            self._call(chrom, "", start, known.label * counted, ThresholdPeaks(0.5, min_length=1, max_gap=0))
        for name, (signal, score, is_probability) in known.methods.items():
            tally = Tally.of(bk, signal, score, known.clean, known.label, valid=known.valid)
            _pile(tallies.setdefault(name, []), tally)
            if self._block:
                if name not in self._edges and score is not None:
                    curve = tally.curve()
                    self._edges[name] = block_bootstrap.score_edges(type(curve)(*map(bk.to_host, curve)))
                self._blocks.setdefault(name, []).append(
                    block_bootstrap.block_sums(bk, signal, score, known.clean, known.label, valid=known.valid,
                                               edges=self._edges.get(name), block=self._block)
                )  # fmt: skip
            if is_probability:
                self._call(chrom, name, start, bk.xp.where(counted, score, 0), ThresholdPeaks(self._threshold))

    def _call(self, chrom: str, name: str, start: int, values: Any, fresh: ThresholdPeaks) -> None:
        values = self._bk.to_host(values).astype(np.float32)
        self._peaks.setdefault((chrom, name), fresh).add(start, values, values)

    def table(self) -> pd.DataFrame:
        """Every measure of every method."""
        tallies = {chrom: {name: track_metrics.merged(of[name]) for name in of} for chrom, of in self._tallies.items()}
        if len(tallies) > 1:
            all_of = {name: track_metrics.merged([of[name] for of in tallies.values()]) for name in self.names}
        else:
            all_of = next(iter(tallies.values()))
        rows = []
        for chrom, of in {OVERALL: all_of, **tallies}.items():
            for name in self.names:
                threshold = self._threshold if (next(iter(tallies)), name) in self._peaks else None
                for part, found in track_metrics.measures(of[name], threshold=threshold).items():
                    reasons: dict[str, list[str]] = {}
                    for measure, reason in found["undefined"].items():
                        reasons.setdefault(reason, []).append(measure)
                    note = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
                    row = {"method": name, "chromosome": chrom, "part": part, "bases": int(found["bases"])}
                    rows.append(row | {m: found.get(m, np.nan) for m in MEASURES} | {"note": note})
        return pd.DataFrame(rows, columns=["method", "chromosome", "part", "bases", *MEASURES, "note"])

    def intervals(
        self, pairs: Sequence[tuple[str, str]], table: pd.DataFrame, *, n: int, seed: int, level: float
    ) -> pd.DataFrame:
        """Differences between methods with their intervals."""
        columns = ["method", "baseline", "measure", "difference", "low", "high", "draws", "blocks", "binning"]
        if not n or not pairs:
            return pd.DataFrame(columns=columns)
        blocks = {name: block_bootstrap.joined(parts) for name, parts in self._blocks.items()}
        exact = table[(table["chromosome"] == OVERALL) & (table["part"] == "whole")].set_index("method")
        rows = []
        n_blocks = int(block_bootstrap.with_bases(blocks).sum())
        for (a, b), of in block_bootstrap.paired_intervals(blocks, pairs, n=n, seed=seed, level=level).items():
            for measure, (difference, low, high) in of.items():
                whole = float(exact.loc[a, measure]) - float(exact.loc[b, measure])
                shift = whole - difference
                if not np.isnan(shift):
                    rows.append((a, b, measure, whole, low + shift, high + shift, n, n_blocks, abs(shift)))
        out = pd.DataFrame(rows, columns=columns)
        out.attrs["level"] = level
        return out

    def called(self) -> pd.DataFrame:
        """Peaks called from probabilities against those of the clean track."""
        rows = []
        finished = {key: peaks.finish() for key, peaks in self._peaks.items()}
        for name in self.names:
            counts = np.zeros(4, np.int64)
            for (chrom, of), found in finished.items():
                if of == name:
                    clean = finished[chrom, ""]
                    met = meets(found, clean).sum(), meets(clean, found).sum()
                    counts += [len(found["start"]), len(clean["start"]), *met]
            n_called, n_clean, right, met_clean = counts.tolist()
            if n_called + n_clean:
                precision, recall = right / max(n_called, 1), met_clean / max(n_clean, 1)
                f1 = 2 * precision * recall / (precision + recall) if right and met_clean else 0.0
                rows.append((name, self._threshold, n_called, n_clean, precision, recall, f1))
        return pd.DataFrame(rows, columns=["method", "threshold", "called", "clean", "precision", "recall", "f1"])


def _pile(pile: list[Tally], tally: Tally) -> None:
    """Put a tally on a pile in which each is more than twice the next: what lies below is merged rarely."""
    pile.append(tally)
    while len(pile) > 1 and pile[-2].n_rows <= 2 * pile[-1].n_rows:
        pile[-2:] = [track_metrics.merged(pile[-2:])]


def _shapes(given: Given, chrom: str, start: int, stop: int) -> dict[str, Any]:
    """The smoothings of [start, stop), made with what lies around it."""
    low, high = max(start - MARGIN, 0), min(stop + MARGIN, given.sizes[chrom])
    noisy, cuts = given.noisy(chrom, low, high)
    made = smoothing.shapes(given.bk, noisy, cuts, half_width=given.half_width)
    return {name: track[start - low : stop - low] for name, track in made.items()}


def _any_known(bk: Backend, known: Stretch) -> bool:
    there = ~bk.xp.isnan(known.clean)
    return bool((there if known.valid is None else there & known.valid).any())


def _pieces(first: int, last: int, block: int) -> list[tuple[int, int]]:
    """Whole blocks of the chromosome, some Mb at a time."""
    step = max(PIECE // block, 1) * block
    return [(at, min(at + step, last)) for at in range(first // block * block, last, step)]


def _chromosomes(given: Given, chroms: Sequence[str] | None, tune: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """(evaluated, tuned on)."""
    have = list(given.sizes)
    for what, names in (("chroms", chroms), ("tune", tune)):
        unknown = [name for name in names or () if name not in have]
        if unknown:
            msg = f"{what} names {unknown[0]!r}, on which there is no clean track; allowed: {', '.join(have)}."
            raise InputError(msg)
    outside = [name for name in chroms or () if name not in given.judged]
    if outside:
        msg = (
            f"chroms names {outside[0]!r}, where nothing is judged: the regions leave it out, or not every track has data there; "
            f"allowed: {', '.join(given.judged)}; correct it (--chroms), or the regions (--regions)."
        )
        raise InputError(msg)
    if not given.has_noisy:
        return list(chroms or given.judged), []
    tuned_on = list(tune) if tune else have[:1]
    evaluated = (
        list(chroms) if chroms else [name for name in given.judged if name not in tuned_on] or list(given.judged)
    )
    both = [name for name in evaluated if name in tuned_on]
    if both:
        logger.warning(
            "smoothings are tuned and evaluated on %s: they look a little better than they are; tune on another chromosome "
            "(tune, --tune-chroms)",
            ", ".join(both) or "the same bases",
        )
    return evaluated, tuned_on
