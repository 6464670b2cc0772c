"""Cluster labels in a fixed order."""

from __future__ import annotations

import numpy as np


def by_falling_size(labels: np.ndarray) -> np.ndarray:
    """Labels 0, 1, ... (int32) by falling cluster size; of equal sizes, the one with the first member comes first."""
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(sizes.size, np.int32)
    rank[np.lexsort((first, -sizes))] = np.arange(sizes.size, dtype=np.int32)
    return rank[inverse]
