"""Likelihood-ratio tests of many binary features: logistic regression with a group term against one without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpuatac.backend.protocol import Backend, Csr

DEPENDENT = 1e-9  # a column of which less than this is left beside the others adds nothing


def likelihood_ratio_pvalues(bk: Backend, detected: Csr, covariates: np.ndarray, second: np.ndarray) -> np.ndarray:
    """p of each feature: chi2_1 of twice the gain in log-likelihood when the group joins the covariates.

    ``detected``: features x cells, an entry where the feature is found; ``covariates`` (n, d) float64 and ``second`` (n,), the cells
    of the second group, on the host. The likelihood does not depend on the basis, so columns are made orthogonal; cells of
    equal covariates and group become one row with as many trials. A group that is a combination of the covariates gains
    nothing: p = 1.
    """
    from scipy.special import chdtrc

    table = np.column_stack([covariates, second.astype(np.float64)])
    rows, of_cell, trials = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    trials = trials.astype(np.float64)
    n_features = int(detected.indptr.shape[0]) - 1
    null = orthogonal(rows[:, :-1], trials)
    full = orthogonal(rows, trials)
    if full.shape[1] == null.shape[1]:
        return np.ones(n_features)
    of_cell = bk.asarray(of_cell.reshape(-1).astype(np.int32))
    successes = detected._replace(indices=of_cell[detected.indices])
    n_cells = float(trials.sum())
    share = (bk.to_host(detected.indptr[1:] - detected.indptr[:-1]) + 0.5) / (n_cells + 1)
    start = np.zeros((n_features, full.shape[1]))
    start[:, 0] = np.log(share / (1 - share))
    width = null.shape[1]
    trials = bk.asarray(trials)
    reduced, at = bk.matrices.logistic_fits(bk.asarray(null), trials, successes, bk.asarray(start[:, :width].copy()))
    start[:, :width] = bk.to_host(at)
    complete, _ = bk.matrices.logistic_fits(bk.asarray(full), trials, successes, bk.asarray(start))
    gain = 2.0 * (bk.to_host(complete) - bk.to_host(reduced))
    return np.asarray(chdtrc(1.0, np.maximum(gain, 0.0)))


def orthogonal(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """1 and the columns, each less its projection on those before, of mean square 1; dependent ones are left out."""
    total = weights.sum()
    basis = [np.ones(columns.shape[0])]
    for column in columns.T:
        left = column - (weights @ column) / total
        size = np.sqrt(weights @ left**2 / total)
        if not size > DEPENDENT * max(np.abs(column).max(initial=0.0), 1e-300):
            continue
        left /= size
        for _ in range(2):  # twice is enough
            for known in basis:
                left = left - (weights @ (known * left)) / total * known
        size = np.sqrt(weights @ left**2 / total)
        if size > DEPENDENT:
            basis.append(left / size)
    return np.column_stack(basis)


def design_columns(values: Any) -> np.ndarray:
    """float64 (n, d): a numeric column as it is, a categorical one as an indicator of each level but the first."""
    import pandas as pd

    column = pd.Series(values)
    if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(np.float64)[:, None]
    codes, levels = pd.factorize(column, sort=True)
    return (codes[:, None] == np.arange(1, len(levels))).astype(np.float64)
