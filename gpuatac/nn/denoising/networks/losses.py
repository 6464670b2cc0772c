"""The losses that denoising models descend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from gpuatac.nn.contract import Losses, LossWeights

if TYPE_CHECKING:
    import torch

    from gpuatac.nn.contract import Batch

EPS = 1e-7
LEAST_RATE = 1e-6  # counts: a rate of 0 would make a count of 1 impossible


def published_loss(
    signal: torch.Tensor, logit: torch.Tensor, batch: Batch, weights: LossWeights | None = None
) -> Losses:
    """The published multi-task loss: 0.0005 MSE + (1 - Pearson) + BCE.

    With w the weights of the bases, x the signal, y the clean track, z the logit and p the peak label:

        mse     = sum w (x - y)^2 / sum w
        pearson = 1 - sum w a b / (sqrt(sum w a^2) sqrt(sum w b^2) + 1e-7), a = x - mean x, b = y - mean y
        bce     = sum w (softplus(z) - z p) / sum w
        poisson = sum w (x - y log x) / sum w

    Means and the correlation are over all bases of the batch together. ``weights.poisson`` > 0 puts the Poisson term in the
    place of ``mse`` and ``pearson``; the signal is then a rate, taken as at least 1e-6.

    Parameters
    ----------
    signal
        (n, L) predicted coverage.
    logit
        (n, L) log odds of lying in a peak.
    batch
        What to predict; bases of weight 0 do not count. A batch without any weight has loss 0.
    weights
        Weights of the parts; None for the published ones.

    Returns
    -------
    The total, and its unweighted parts "mse", "pearson", "bce", or "poisson", "bce", computed in float32.

    References: Lal et al. 2021, Nature Communications 12, 1507.
    """
    weights = LossWeights() if weights is None else weights
    x, y, w = signal.float(), batch.signal.float(), batch.weight.float()
    total = w.sum().clamp_min(EPS)
    bce = (w * functional.binary_cross_entropy_with_logits(logit.float(), batch.peak.float(), reduction="none")).sum()
    parts = {"bce": bce / total}
    if weights.poisson > 0:
        rate = x.clamp_min(LEAST_RATE)
        parts["poisson"] = (w * (rate - y * rate.log())).sum() / total
    else:
        parts["mse"] = (w * (x - y).square()).sum() / total
        parts["pearson"] = _one_minus_pearson(x, y, w, total)
    loss = sum((getattr(weights, name) * value for name, value in parts.items()), start=x.new_zeros(()))
    return Losses(loss, parts)


def _one_minus_pearson(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    a = x - (w * x).sum() / total
    b = y - (w * y).sum() / total
    norms = (w * a.square()).sum().clamp_min(EPS**2).sqrt() * (w * b.square()).sum().sqrt()
    return w.any().to(x.dtype) - (w * a * b).sum() / (norms + EPS)
