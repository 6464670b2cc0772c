"""How well a track tells a deeper one, and its peaks: exact measures of every base, from tables that add up.

A base counts as often as it weighs. Tracks are counts, so the same pair (signal, clean) comes again and again: a table of the
distinct pairs with their weights gives every measure exactly, and the tables of parts add up to that of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuatac.backend.protocol import Backend

AT_ONCE = 1 << 24  # bases sorted at a time
PARTS = ("whole", "inside", "outside")  # all bases, those in peaks of the clean track, the others
REGRESSION = ("mse", "pearson", "spearman")
RANKING = ("auroc", "auprc")
AT_THRESHOLD = ("precision", "recall", "f1")


class Table(NamedTuple):
    """Distinct keys, ascending, and the weight of each (float64: whole numbers are exact up to 2^53)."""

    key: Any
    weight: Any


@dataclass(frozen=True)
class Tally:
    """All that the measures of one method need, for bases outside peaks (entry 0) and inside (entry 1). Tallies add up.

    Attributes
    ----------
    pairs
        Keys uint64: the code of the signal, then that of the clean track, 32 bits each. None where there is no signal.
    scores
        Keys uint32: the code of the score. None: there is no score.
    """

    bk: Backend | None
    pairs: tuple[Table, Table] | None
    scores: tuple[Table, Table] | None

    @classmethod
    def of(
        cls,
        bk: Backend | None,
        signal: Any,
        score: Any,
        clean: Any,
        label: Any,
        *,
        valid: Any = None,
        weights: Any = None,
    ) -> Tally:
        """The tally of one stretch: arrays of one length on the backend (None: NumPy's), all finite where ``valid``.

        ``signal``, ``score``: float32, or None; one object where they are the same. ``clean``: float32, NaN where it is
        unknown. ``label``: nonzero in peaks.
        ``weights``: how often each base counts, 0 or above; None: once.
        """
        xp = _xp(bk)
        parts = []
        for begin in range(0, max(int(clean.shape[0]), 1), AT_ONCE):
            at = slice(begin, begin + AT_ONCE)
            y = xp.asarray(clean[at], dtype=np.float32)
            known = ~xp.isnan(y)
            if valid is not None:
                known &= xp.asarray(valid[at], dtype=bool)
            w = None if weights is None else xp.asarray(weights[at], dtype=np.float64)
            inside = xp.asarray(label[at]) > 0
            sides = (known & ~inside, known & inside)
            x, s = (None if v is None else xp.asarray(v[at], dtype=np.float32) for v in (signal, score))
            pairs = scores = None
            if x is not None:
                _finite(xp, x, known, "signal")
                key = (_code(xp, x).astype(np.uint64) << np.uint64(32)) | _code(xp, y).astype(np.uint64)
                pairs = _by_side(xp, key, w, sides)
            if score is signal and pairs is not None:
                scores = _upper(xp, pairs[0]), _upper(xp, pairs[1])
            elif s is not None:
                _finite(xp, s, known, "score")
                scores = _by_side(xp, _code(xp, s), w, sides)
            parts.append(cls(bk, pairs, scores))
        return merged(parts)

    def curve(self) -> Curve:
        """Weights by distinct score, from the highest down."""
        assert self.scores is not None
        xp = _xp(self.bk)
        outside, inside = self.scores
        key = xp.concatenate([outside.key, inside.key])
        positive = xp.concatenate([xp.zeros(outside.key.shape), inside.weight])
        negative = xp.concatenate([outside.weight, xp.zeros(inside.key.shape)])
        order = xp.argsort(key)
        key, at = _firsts(xp, key[order])
        sums = [_sums(xp, v[order], at)[::-1] for v in (positive, negative)]
        return Curve(_value(xp, key)[::-1], *sums)

    def columns(self, part: str = "whole") -> tuple[Any, Any, Any]:
        """(signal, clean, weight): the distinct pairs of one of ``PARTS``, sorted by signal."""
        assert self.pairs is not None
        xp = _xp(self.bk)
        table = _join(xp, self.pairs) if part == "whole" else self.pairs[PARTS[1:].index(part) == 0]
        low = table.key & np.uint64(0xFFFFFFFF)
        return (
            _value(xp, (table.key >> np.uint64(32)).astype(np.uint32)),
            _value(xp, low.astype(np.uint32)),
            table.weight,
        )

    @property
    def n_rows(self) -> int:
        """Rows of all tables."""
        return sum(int(t.key.shape[0]) for tables in (self.pairs, self.scores) for t in tables or ())

    def weight(self, part: str = "whole") -> float:
        """Bases of one of ``PARTS``."""
        tables = self.pairs or self.scores
        assert tables is not None
        outside, inside = (float(t.weight.sum()) for t in tables)
        return {"whole": outside + inside, "inside": inside, "outside": outside}[part]


class Curve(NamedTuple):
    """Distinct scores, descending; weights of the bases with each, inside peaks and outside."""

    score: Any
    positive: Any
    negative: Any


def merged(tallies: Sequence[Tally]) -> Tally:
    """One tally of several."""
    first = tallies[0]
    if len(tallies) == 1:
        return first
    xp = _xp(first.bk)

    def join(tables: list[tuple[Table, Table] | None]) -> tuple[Table, Table] | None:
        some = [t for t in tables if t is not None]
        if not some:
            return None
        return _join(xp, [t[0] for t in some]), _join(xp, [t[1] for t in some])

    return Tally(first.bk, join([t.pairs for t in tallies]), join([t.scores for t in tallies]))


def measures(tally: Tally, *, threshold: float | None = None) -> dict[str, dict[str, Any]]:
    """Every measure of a tally, by part: "whole", "inside" (peaks of the clean track), "outside".

    Each part has ``bases``, ``mse``, ``pearson`` and ``spearman``; the whole also ``auroc`` and ``auprc``, and with a threshold
    ``precision``, ``recall`` and ``f1`` of the bases whose score reaches it. ``undefined`` says of each NaN why it is one.
    """
    out: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        found: dict[str, Any] = {"bases": tally.weight(part), "undefined": {}}
        if tally.pairs is None:
            found |= dict.fromkeys(REGRESSION, np.nan)
            found["undefined"] |= dict.fromkeys(REGRESSION, "no signal was given")
        else:
            _regression(_xp(tally.bk), found, *tally.columns(part))
        out[part] = found
    whole = out["whole"]
    names = (*RANKING, *(AT_THRESHOLD if threshold is not None else ()))
    reason = _why_no_ranking(tally, whole, out["inside"]["bases"])
    if reason:
        whole |= dict.fromkeys(names, np.nan)
        whole["undefined"] |= dict.fromkeys(names, reason)
        return out
    curve = tally.curve()
    whole |= ranking(_xp(tally.bk), curve.positive, curve.negative)
    if threshold is not None:
        called = curve.score >= np.float32(threshold)
        hit, wrong = float(curve.positive[called].sum()), float(curve.negative[called].sum())
        missed = out["inside"]["bases"] - hit
        whole |= {"precision": np.nan, "recall": hit / (hit + missed), "f1": 2 * hit / (2 * hit + wrong + missed)}
        if hit + wrong:
            whole["precision"] = hit / (hit + wrong)
        else:
            whole["undefined"]["precision"] = f"no score reaches {threshold:g}"
    return out


def evaluate(
    signal: Any,
    score: Any,
    clean: Any,
    label: Any,
    valid: Any = None,
    weights: Any = None,
    *,
    threshold: float | None = None,
    bk: Backend | None = None,
) -> dict[str, Any]:
    """How well a denoised track tells the clean one, and its peaks, base by base.

    Parameters
    ----------
    signal, score
        (n,): what stands for coverage at the clean depth, and what ranks bases by how likely they lie in a peak; kept as float32.
        ``score`` None: the signal. ``signal`` None: only the score is judged.
    clean, label
        (n,): coverage of the deep library, NaN where it is unknown (such bases are left out); nonzero in its peaks.
    valid
        bool (n,): which bases count; None: all.
    weights
        (n,), 0 or above: how many bases an entry stands for (its length, for runs); None: one.
    threshold
        Score from which a base is called, for precision, recall and F1.
    bk
        The backend the arrays lie on; None: host arrays.

    Returns
    -------
    dict: ``mse``, ``pearson``, ``spearman`` (ties have their mean rank), the same with ``_inside`` and ``_outside`` peaks,
    ``auroc``, ``auprc`` (average precision: sum over distinct scores of (R_i - R_i-1) P_i), ``bases`` and so on, floats.
    ``undefined``: {name: reason} of those that are NaN, such as both without a base in a peak.

    Raises
    ------
    InputError
        Arrays of different lengths; a signal or score that is not finite; negative weights.

    Source: the measures of Lal et al. 2021, Nat. Commun. 12:1507. Cost: one sort of the bases, about 0.2 s per million.

    Examples
    --------
    >>> from gpuatac.core.tracks.track_metrics import evaluate
    >>> found = evaluate([0, 1, 2, 5], None, [0, 2, 4, 10], [0, 0, 1, 1])
    >>> round(found["pearson"], 6), found["mse"], found["auprc"]
    (1.0, 7.5, 1.0)
    """
    xp = _xp(bk)
    arrays = {
        "signal": signal,
        "score": signal if score is None else score,
        "clean": clean,
        "label": label,
        "valid": valid,
        "weights": weights,
    }
    arrays = {name: None if v is None else xp.asarray(v) for name, v in arrays.items()}
    if arrays["score"] is None:
        msg = "signal and score are both None; give at least one of them."
        raise InputError(msg)
    n = arrays["clean"].shape
    wrong = [f"{name} {v.shape}" for name, v in arrays.items() if v is not None and v.shape != n]
    if wrong or len(n) != 1:
        msg = f"tracks must be one-dimensional and as long as clean {n}, got {', '.join(wrong) or 'clean itself'}; cut them alike."
        raise InputError(msg)
    if weights is not None and not bool((arrays["weights"] >= 0).all()):
        msg = "weights must be 0 or above, some are not; give lengths of runs."
        raise InputError(msg)
    parts = measures(Tally.of(bk, **arrays), threshold=threshold)
    out = dict(parts["whole"])
    for part in PARTS[1:]:
        out |= {f"{name}_{part}": value for name, value in parts[part].items() if name != "undefined"}
        out["undefined"] |= {f"{name}_{part}": reason for name, reason in parts[part]["undefined"].items()}
    return out


def ranking(xp: Any, positive: Any, negative: Any) -> dict[str, Any]:
    """Areas under the ROC curve and of average precision, along the last axis.

    ``positive``, ``negative``: (..., n) weights at n scores in descending order; bases of one score are tied.
    AUROC = sum dF (T + T') / 2 / (P N), AUPRC = sum dT / P * T / (T + F), with T and F summed down to each score.
    NaN where either class has no weight.
    """
    hit, wrong = xp.cumsum(positive, axis=-1), xp.cumsum(negative, axis=-1)
    n_positive, n_negative = hit[..., -1], wrong[..., -1]
    both = (n_positive > 0) & (n_negative > 0)
    auroc = (negative * (hit - positive / 2)).sum(axis=-1) / xp.where(both, n_positive * n_negative, 1)
    called = hit + wrong
    precision = hit / xp.where(called > 0, called, 1)
    auprc = (positive * precision).sum(axis=-1) / xp.where(both, n_positive, 1)
    areas = {"auroc": xp.where(both, auroc, np.nan), "auprc": xp.where(both, auprc, np.nan)}
    return {name: float(area) if area.ndim == 0 else area for name, area in areas.items()}


def _regression(xp: Any, found: dict[str, Any], x: Any, y: Any, w: Any) -> None:
    total = float(w.sum())
    if not total:
        found |= dict.fromkeys(REGRESSION, np.nan)
        found["undefined"] |= dict.fromkeys(REGRESSION, "no base")
        return
    x, y = x.astype(np.float64), y.astype(np.float64)
    found["mse"] = float((w * (x - y) ** 2).sum()) / total
    order = xp.argsort(y)
    back = xp.empty_like(order)
    back[order] = xp.arange(order.shape[0])
    of_y = _mid_ranks(xp, y[order], w[order])[back]
    ranked = {"pearson": (x, y), "spearman": (_mid_ranks(xp, x, w), of_y)}
    for name, (a, b) in ranked.items():
        found[name] = _correlation(a, b, w, total)
        if np.isnan(found[name]):
            flat = "signal" if bool((x == x[0]).all()) else "clean track"
            found["undefined"][name] = f"the {flat} is the same at every base"


def _correlation(x: Any, y: Any, w: Any, total: float) -> float:
    dx, dy = x - (w * x).sum() / total, y - (w * y).sum() / total
    xx, yy = float((w * dx * dx).sum()), float((w * dy * dy).sum())
    flat = bool((x == x[0]).all()) or bool((y == y[0]).all())
    return float("nan") if flat or not xx * yy > 0 else float((w * dx * dy).sum()) / (xx * yy) ** 0.5


def _mid_ranks(xp: Any, values: Any, w: Any) -> Any:
    """Weight below each of the ascending ``values`` plus half the weight of its ties."""
    _, at = _firsts(xp, values)
    sums = _sums(xp, w, at)
    middle = xp.cumsum(sums) - sums / 2
    run = xp.zeros(values.shape, np.int64)
    run[at[1:]] = 1
    return middle[xp.cumsum(run)]


def _why_no_ranking(tally: Tally, whole: dict[str, Any], inside: float) -> str:
    if tally.scores is None:
        return "no score was given"
    if not whole["bases"]:
        return "no base"
    if not inside:
        return "no base lies in a peak"
    return "every base lies in a peak" if inside == whole["bases"] else ""


def _xp(bk: Backend | None) -> Any:
    return np if bk is None else bk.xp


def _finite(xp: Any, values: Any, known: Any, what: str) -> None:
    bad = int((~xp.isfinite(values) & known).sum())
    if bad:
        msg = f"{bad} of {values.shape[0]} values of the {what} are NaN or infinite; leave those bases out (valid) or correct them."
        raise InputError(msg)


def _code(xp: Any, values: Any) -> Any:
    """uint32 that sort as the float32 do; -0 is 0."""
    bits = (values + np.float32(0)).view(np.uint32)
    return xp.where(bits >> np.uint32(31) != 0, ~bits, bits | np.uint32(0x80000000))


def _value(xp: Any, code: Any) -> Any:
    """The float32 of a code."""
    bits = xp.where(code >> np.uint32(31) != 0, code & np.uint32(0x7FFFFFFF), ~code)
    return bits.astype(np.uint32).view(np.float32)


def _by_side(xp: Any, key: Any, w: Any, sides: tuple[Any, Any]) -> tuple[Table, Table]:
    def one(side: Any) -> Table:
        return _distinct(xp, key[side], None if w is None else w[side])

    return one(sides[0]), one(sides[1])


def _distinct(xp: Any, key: Any, w: Any) -> Table:
    """Each key once. Without weights runs of equal neighbours are joined first, which leaves little to sort where they are long."""
    if w is None:
        firsts, at = _firsts(xp, key)
        n = int(key.shape[0])
        if 2 * int(at.shape[0]) > n:
            firsts, at = _firsts(xp, xp.sort(key))
            return Table(firsts, xp.diff(xp.append(at, xp.asarray([n]))).astype(np.float64))
        key, w = firsts, xp.diff(xp.append(at, xp.asarray([n]))).astype(np.float64)
    else:
        key, w = key[w > 0], w[w > 0]
    order = xp.argsort(key)
    key, at = _firsts(xp, key[order])
    return Table(key, _sums(xp, w[order], at))


def _upper(xp: Any, pairs: Table) -> Table:
    """The first column of a table of pairs: scores where the signal is the score."""
    key, at = _firsts(xp, (pairs.key >> np.uint64(32)).astype(np.uint32))
    return Table(key, _sums(xp, pairs.weight, at))


def _join(xp: Any, tables: Sequence[Table]) -> Table:
    key = xp.concatenate([t.key for t in tables])
    w = xp.concatenate([t.weight for t in tables])
    order = xp.argsort(key)
    key, at = _firsts(xp, key[order])
    return Table(key, _sums(xp, w[order], at))


def _firsts(xp: Any, key: Any) -> tuple[Any, Any]:
    """(the key of each run of equal neighbours, where it begins)."""
    fresh = xp.ones(key.shape, bool)
    fresh[1:] = key[1:] != key[:-1]
    at = xp.flatnonzero(fresh)
    return key[at], at


def _sums(xp: Any, values: Any, at: Any) -> Any:
    """Sums of the runs that begin at ``at``."""
    total = xp.concatenate([xp.zeros(1), xp.cumsum(values)])
    return total[xp.append(at[1:], xp.asarray([values.shape[0]], dtype=at.dtype))] - total[at] if at.size else values
