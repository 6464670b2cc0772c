"""Quality measures from fragments: each is computed once, stored, and only read by the figures."""

from functools import partial

from gpuatac.metrics._quality import (
    blacklist_fraction,
    frag_size_distr,
    frip,
    nucleosome_signal,
    qc,
    tsse,
)

__all__ = ["blacklist_fraction", "frag_size_distr", "frip", "nucleosome_signal", "qc", "tsse"]
__dir__ = partial(list[str], __all__)
