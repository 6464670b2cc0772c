"""The loss of the model of any depth: the published one on bins, and one that counts of every size weigh alike in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from gpuatac.nn.contract import Losses, LossWeights
from gpuatac.nn.denoising.networks.losses import EPS, published_loss

if TYPE_CHECKING:
    from gpuatac.nn.contract import Batch

PEAKS = 10.0  # the cross-entropy of bins is about a twentieth of 1 - Pearson in the middle of training
ROOTS = 0.5


def rate_loss(signal: torch.Tensor, logit: torch.Tensor, batch: Batch, weights: LossWeights | None = None) -> Losses:
    """The published loss with ten times the weight on peaks, and the distance of square roots.

    With w, x and y as in :func:`gpuatac.nn.denoising.networks.losses.published_loss`,

        roots = sum w (sqrt(x + 1/2) - sqrt(y + 1/2))^2 / sum w

    to which a count of any size adds about a quarter of its Poisson noise; half of it is added. ``weights.poisson`` > 0 puts the
    Poisson term in the place of it too.

    Parameters
    ----------
    signal, logit
        (n, bins): coverage in counts of the clean library, log odds of lying in a peak.
    batch
        What to predict, averaged over each bin.
    weights
        Weights of the parts; None for the published ones.

    Returns
    -------
    The total, and its unweighted parts.
    """
    weights = LossWeights() if weights is None else weights
    total, parts = published_loss(signal, logit, batch, weights._replace(bce=PEAKS * weights.bce))
    if weights.poisson > 0:
        return Losses(total, parts)
    w = batch.weight
    roots = (w * (torch.sqrt(signal + 0.5) - torch.sqrt(batch.signal + 0.5)).square()).sum() / w.sum().clamp_min(EPS)
    return Losses(total + ROOTS * roots, {**parts, "roots": roots})
