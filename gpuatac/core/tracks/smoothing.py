"""What plain smoothing makes of a shallow track: the baselines that a denoiser has to beat, tuned on a part of the genome.

Tracks are dense arrays of one chromosome on the backend; beyond its ends they are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gpuatac.core.track_source import HALF_WIDTH
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.backend.protocol import Backend

BOXES = (201, 401)  # bp
GAUSSIANS = (80.0, 150.0, 250.0)  # standard deviations in bp
MIX = (60.0, 250.0, 1500.0)
TRUNCATE = 4.0  # standard deviations
BITS = 12  # kept of a smoothed value: 2^-13 of it is the largest error
FFT_LENGTH = 1 << 17
FLOORS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # coverage added under the logarithm of the mix: the likeliest is taken
EVERY = 8  # bp between the bases the log mix is fitted to; neighbours say the same
MOST_ROWS = 1 << 20  # of these bases; where there are more, every second stays
RAW, MIXED = "raw", "Gaussian mix"
Scale = Literal["depth", "least-squares"]


def box(bk: Backend, track: Any, width: int) -> Any:
    """float32: mean of ``track`` over ``width`` bp (odd) centred on each base."""
    xp = bk.xp
    n, half = int(track.shape[0]), width // 2
    total = xp.concatenate([xp.zeros(1), xp.cumsum(track, dtype=np.float64)])
    at = xp.arange(n)
    return ((total[xp.minimum(at + half + 1, n)] - total[xp.maximum(at - half, 0)]) / width).astype(np.float32)


def gaussians(bk: Backend, track: Any, sds: Sequence[float], *, factor: float = 1.0) -> list[Any]:
    """float32: ``track`` smoothed by a normal density of each standard deviation (bp), cut at 4 of them, times ``factor``.

    By FFT in blocks that overlap, one forward transform for all; bases out of reach of every count are exactly 0.
    """
    xp = bk.xp
    radii = [int(TRUNCATE * sd + 0.5) for sd in sds]
    reach = max(radii)
    n = int(track.shape[0])
    length = FFT_LENGTH if n > FFT_LENGTH // 2 else 1 << int(np.ceil(np.log2(n + 4 * reach + 1)))
    while length < 4 * reach:
        length *= 2
    spectra, least = [], []
    for sd, radius in zip(sds, radii, strict=True):
        at = np.arange(-radius, radius + 1)
        kernel = np.exp(-0.5 * (at / sd) ** 2)
        kernel /= kernel.sum()
        around = np.zeros(length)
        around[at % length] = kernel
        spectra.append(xp.fft.rfft(bk.asarray(around)))
        least.append(float(kernel[0]))
    smallest = float(xp.where(track > 0, track, np.inf).min()) if n else np.inf
    useful = length - 2 * reach
    out = [xp.zeros(n, np.float32) for _ in sds]
    padded = xp.zeros(length)
    for begin in range(0, n, useful):
        low, high = max(begin - reach, 0), min(begin + useful + reach, n)
        padded[:] = 0
        padded[low - begin + reach : high - begin + reach] = track[low:high]
        if not bool(padded.any()):
            continue
        stop = min(begin + useful, n)
        spectrum = xp.fft.rfft(padded)
        for smooth, kernel, edge in zip(out, spectra, least, strict=True):
            part = xp.fft.irfft(spectrum * kernel, length)[reach : reach + stop - begin]
            # what a transform leaves where nothing is in reach lies far below the least a count can add
            smooth[begin:stop] = xp.where(part > 0.5 * edge * smallest, part * factor, 0)
    return out


def rounded(bk: Backend, values: Any, bits: int = BITS) -> Any:
    """float32 of ``bits`` significant bits, to the nearest: so the distinct values of a genome stay few."""
    xp = bk.xp
    dropped = np.uint32(24 - bits)
    raw = values.astype(np.float32).view(np.uint32) + (np.uint32(1) << (dropped - np.uint32(1)))
    return xp.asarray((raw >> dropped) << dropped).view(np.float32)


class Smoothed(NamedTuple):
    """One baseline on one chromosome: float32 (n,) each, on the backend."""

    signal: Any
    score: Any


def shapes(
    bk: Backend,
    noisy: Any,
    cuts: Any | None,
    *,
    half_width: int = HALF_WIDTH,
    boxes: Sequence[int] = BOXES,
    sds: Sequence[float] = GAUSSIANS,
    mix: Sequence[float] = MIX,
) -> dict[str, Any]:
    """Every smoothing of one chromosome in the depth of the noisy track, by name; Gaussians of the cuts where they are known.

    ``noisy``: float32 (n,) coverage; ``cuts``: (n,) cuts at each base, or None: the coverage itself is smoothed.
    """
    wanted = sorted({*sds, *mix})
    smooth = gaussians(
        bk, noisy if cuts is None else cuts, wanted, factor=1.0 if cuts is None else 2.0 * half_width + 1.0
    )
    out = {RAW: noisy.astype(np.float32)}
    out |= {f"box {width}": rounded(bk, box(bk, noisy, width)) for width in boxes}
    return out | {gaussian_name(sd): rounded(bk, track) for sd, track in zip(wanted, smooth, strict=True)}


def gaussian_name(sd: float) -> str:
    """The name of a smoothing by a Gaussian."""
    return f"Gaussian {sd:g}"


@dataclass(frozen=True)
class Tuned:
    """What the tuning chromosomes say: factors to the clean depth, and the two mixes.

    Attributes
    ----------
    factors
        By smoothing: what its signal is multiplied by.
    signal_mix
        Weights, 0 or above, of raw and the Gaussians of the mix: least squares against the clean track.
    log_mix
        Weights of log(g_k + floor) in the score, fitted by logistic regression of the labels; None where there is one class.
    floor
        Coverage in the depth of the noisy track.
    """

    factors: Mapping[str, float]
    mix: tuple[float, ...]
    signal_mix: tuple[float, ...]
    log_mix: tuple[float, ...] | None
    floor: float

    def apply(self, bk: Backend, shapes: Mapping[str, Any]) -> dict[str, Smoothed]:
        """Every baseline on one chromosome: raw, boxes, Gaussians and the mix."""
        xp = bk.xp
        out = {}
        for name, factor in self.factors.items():
            signal = shapes[name] * np.float32(factor)
            out[name] = Smoothed(signal, signal)
        parts = [shapes[name] for name in _mix_names(self.mix)]
        signal = parts[0] * np.float32(self.signal_mix[0])
        for part, weight in zip(parts[1:], self.signal_mix[1:], strict=True):
            signal = signal + part * np.float32(weight)
        signal = rounded(bk, signal)
        if self.log_mix is None:
            out[MIXED] = Smoothed(signal, signal)
            return out
        logit = xp.zeros(signal.shape, np.float32)
        for part, weight in zip(parts[1:], self.log_mix, strict=True):
            logit += xp.log(part + np.float32(self.floor)) * np.float32(weight)
        # steps of 1/1024 of the log odds, for few distinct values
        out[MIXED] = Smoothed(signal, xp.round(logit * np.float32(1024)) / np.float32(1024))
        return out


class Tuning:
    """Gathers what ``Tuned`` needs, chromosome by chromosome."""

    def __init__(self, bk: Backend, *, sds: Sequence[float] = GAUSSIANS, mix: Sequence[float] = MIX) -> None:
        self._bk, self._mix = bk, tuple(mix)
        self._drop = {gaussian_name(sd) for sd in mix if sd not in sds}
        self._sums: dict[str, np.ndarray] = {}  # by smoothing: sums of its square, of its product with clean, of itself
        self._clean = 0.0
        self._gram = np.zeros((len(mix) + 1, len(mix) + 1))
        self._product = np.zeros(len(mix) + 1)
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []
        self._every = EVERY

    def add(self, shapes: Mapping[str, Any], clean: Any, label: Any, valid: Any = None) -> None:
        """Take in one chromosome: what ``shapes`` made of it, the clean track (NaN: unknown) and its peaks."""
        bk, xp = self._bk, self._bk.xp
        known = ~xp.isnan(clean)
        if valid is not None:
            known &= valid
        y = clean[known].astype(np.float64)
        self._clean += float(y.sum())
        for name, track in shapes.items():
            x = track[known]
            found = np.array([float((x * x).sum(dtype=np.float64)), float(x @ y), float(x.sum(dtype=np.float64))])
            self._sums[name] = self._sums.get(name, 0.0) + found
        design = xp.stack([shapes[name][known] for name in _mix_names(self._mix)]).astype(np.float64)
        self._gram += bk.to_host(design @ design.T)
        self._product += bk.to_host(design @ y)
        of_label = (label[known] > 0)[:: self._every]
        self._rows.append((bk.to_host(design[1:, :: self._every]).astype(np.float32), bk.to_host(of_label)))
        while sum(label.size for _, label in self._rows) > MOST_ROWS:
            self._rows = [(rows[:, ::2].copy(), label[::2].copy()) for rows, label in self._rows]
            self._every *= 2

    def fit(self, *, scale: Scale = "depth", depth_ratio: float | None = None) -> Tuned:
        """The factors and mixes. ``scale`` "depth": reads of the clean library over those of the noisy one (``depth_ratio``, else
        the ratio of the sums of the tracks), "least-squares": the factor of least MSE.
        """
        if RAW not in self._sums or not self._sums[RAW][2] > 0:
            msg = "the noisy track is 0 on all tuning chromosomes; tune on chromosomes with data (tune_chroms, --tune-chroms)."
            raise InputError(msg)
        ratio = self._clean / self._sums[RAW][2] if depth_ratio is None else depth_ratio
        factors = {
            name: float(ratio if scale == "depth" else max(xy / xx, 0.0) if xx else 1.0)
            for name, (xx, xy, _) in self._sums.items()
            if name not in self._drop
        }
        of_signal = _non_negative(self._gram, self._product)
        log_mix, floor = self._log_mix()
        return Tuned(factors, self._mix, tuple(of_signal.tolist()), log_mix, floor)

    def _log_mix(self) -> tuple[tuple[float, ...] | None, float]:
        parts = np.concatenate([rows for rows, _ in self._rows], axis=1)
        label = np.concatenate([of_label for _, of_label in self._rows])
        if not label.any() or label.all():
            return None, FLOORS[0]
        fits = [(*_logistic(np.log(parts + np.float32(floor)), label), floor) for floor in FLOORS]
        _, coefficients, floor = max(fits, key=lambda fit: fit[0])
        return tuple(coefficients[1:].tolist()), floor


def _mix_names(mix: Sequence[float]) -> list[str]:
    return [RAW, *map(gaussian_name, mix)]


def _non_negative(gram: np.ndarray, product: np.ndarray) -> np.ndarray:
    """argmin over w >= 0 of w' G w - 2 w' p: with G = L L', |L' w - L^-1 p|^2."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    size = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    scaled = gram / np.outer(size, size) + 1e-10 * np.eye(size.size)
    lower = np.linalg.cholesky(scaled)
    weights, _ = nnls(lower.T, solve_triangular(lower, product / size, lower=True))
    return weights / size


def _logistic(features: np.ndarray, label: np.ndarray, *, steps: int = 40) -> tuple[float, np.ndarray]:
    """(log-likelihood, coefficients with the intercept first) of logistic regression, by Newton steps halved where they fail.

    A ridge of 0.001 keeps the coefficients finite where the classes can be told apart without error.
    """
    from scipy.special import expit

    x = np.concatenate([np.ones((1, features.shape[1])), features.astype(np.float64)])
    y = label.astype(np.float64)
    share = y.mean()
    w = np.zeros(x.shape[0])
    w[0] = np.log(share / (1 - share))
    ridge = 1e-3 * np.eye(w.size)

    def likelihood(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = w @ x
        return float((y * z - np.logaddexp(0, z)).sum() - w @ ridge @ w / 2), z

    best, z = likelihood(w)
    for _ in range(steps):
        p = expit(z)
        step = np.linalg.solve((x * (p * (1 - p))) @ x.T + ridge, x @ (y - p) - ridge @ w)
        for _half in range(20):
            found, z_new = likelihood(w + step)
            if found >= best:
                break
            step /= 2
        else:
            break
        gain, w, z, best = found - best, w + step, z_new, found
        if gain < 1e-7 * abs(best):
            break
    return best, w
