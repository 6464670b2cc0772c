"""p-values of many tests at once."""

from __future__ import annotations

import numpy as np


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values: the least p_(j) n / j over j >= i, at most 1 (Benjamini and Hochberg 1995)."""
    n = p.size
    order = np.argsort(-p, kind="stable")
    steps = n / np.arange(n, 0, -1.0)
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(steps * p[order])) if n else p
    return adjusted
