"""Quality measures from fragments: each is computed once, stored, and only read by the figures."""

from gpuatac.metrics._quality import (
    blacklist_fraction,
    frag_size_distr,
    frip,
    nucleosome_signal,
    qc,
    tsse,
)

__all__ = ["blacklist_fraction", "frag_size_distr", "frip", "nucleosome_signal", "qc", "tsse"]


def __dir__() -> list[str]:
    return list(__all__)
