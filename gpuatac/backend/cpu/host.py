"""The primitives of the host, see ``protocol.host``."""

from __future__ import annotations

from gpuatac.backend.cpu.peaks import consensus
from gpuatac.backend.cpu.reading import bam, bam_pairs
from gpuatac.backend.cpu.tracks import encoding


class HostKernels:
    """See ``protocol.host.Host``."""

    records = bam
    pairs = bam_pairs
    encoding = encoding
    windows = consensus
