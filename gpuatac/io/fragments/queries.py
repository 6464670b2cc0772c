"""Questions to the fragments of an AnnData: asked of each sample, answers added up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gpuatac.backend import backend_of
from gpuatac.core.counting import counts
from gpuatac.io.fragments.attach import attached
from gpuatac.io.fragments.store import backend_holding

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from gpuatac.backend.protocol import Backend

T = TypeVar("T")


def each_sample(adata: AnnData, question: Callable[[Backend, counts.Sample, int], T]) -> list[T]:
    """``question(backend, sample, n_rows)`` for each sample of ``adata``, on the device its fragments lie on."""
    answers = []
    for part in attached(adata):
        bk = backend_holding(part.fragments)
        answers.append(question(bk, counts.sample_rows(bk, part.fragments, part.row_of_cell), adata.n_obs))
    return answers


def on_host(answers: list[Any]) -> np.ndarray:
    """Sum of array answers, on the host."""
    return np.asarray(sum(backend_of(a).to_host(a) for a in answers))
