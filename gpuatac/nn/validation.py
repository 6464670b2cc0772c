"""How good a model is on held-out examples: exact measures over all of their bases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gpuatac import backend
from gpuatac.core.tracks.track_metrics import evaluate
from gpuatac.nn.distributed import Ranks
from gpuatac.nn.dlpack import as_array

if TYPE_CHECKING:
    from gpuatac.nn.contract import Validation

MEASURES = ("mse", "pearson", "spearman", "auroc", "auprc")
LEAST_PROBABILITY = 1e-7


def validate(
    model: Any,
    examples: Validation,
    *,
    batch_size: int = 16,
    precision: str = "float32",
    ranks: Ranks | None = None,
) -> dict[str, dict[str, float]]:
    """Measure a model (``nn.contract.Denoiser``) on held-out examples, by the name of their noisy input.

    Returns
    -------
    Of each noisy input "mse", "pearson", "spearman", "auroc", "auprc" (NaN where there is only one class) and "bce", over all
    bases of weight 1, and "mean", the mean of each over the inputs. Of several processes each has them.

    Cost: a forward pass over the examples, a sort of their bases.
    """
    ranks = ranks or Ranks()
    found = {name: _measured(model, examples, name, batch_size, precision, ranks) for name in examples.names}
    names = next(iter(found.values()))
    return {**found, "mean": {key: float(np.mean([one[key] for one in found.values()])) for key in names}}


def _measured(
    model: Any, examples: Validation, name: str, batch_size: int, precision: str, ranks: Ranks
) -> dict[str, float]:
    parts: list[list[torch.Tensor]] = [[], [], [], []]
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.inference_mode(), autocast(device, precision):
        for example in examples.batches(name, batch_size, rank=ranks.rank, world=ranks.world):
            denoised = model.predict(example.x, example.depth)
            known = example.batch.weight > 0
            columns = (denoised.signal, denoised.probability, example.batch.signal, example.batch.peak)
            for part, values in zip(parts, columns, strict=True):
                part.append(values[known].float())
    model.train(was_training)
    none = torch.zeros(0, device=device)
    signal, probability, clean, label = (ranks.gathered(torch.cat([none, *part])) for part in parts)
    found = _measures(signal, probability, clean, label) if ranks.first else None
    return ranks.from_first(found)  # type: ignore[return-value]


def _measures(
    signal: torch.Tensor, probability: torch.Tensor, clean: torch.Tensor, label: torch.Tensor
) -> dict[str, float]:
    if not clean.numel():
        return dict.fromkeys((*MEASURES, "bce"), math.nan)
    bk = backend.get("gpu" if signal.is_cuda else "cpu")
    arrays = [as_array(values, bk) for values in (signal, probability, clean, label)]
    whole = evaluate(*arrays, bk=bk)
    p = probability.double().clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    bce = -(label * p.log() + (1 - label) * (1 - p).log()).mean()
    return {**{name: float(whole[name]) for name in MEASURES}, "bce": float(bce)}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 where it is asked for and safe, in the block."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
