"""One way to take genes and regions as arguments: a Genome, a path, or a frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuatac.errors import InputError
from gpuatac.genome import Genome
from gpuatac.io.genome.transcripts import read_transcripts

if TYPE_CHECKING:
    import pandas as pd


def transcripts_of(genes: Any) -> pd.DataFrame:
    """The transcripts of a Genome that carries them, of a GTF/GFF3/genePred/BED file, or the frame itself."""
    if isinstance(genes, Genome):
        if genes.transcripts is None:
            msg = f"genome {genes.name} carries no transcripts; pass genes=... to io.read_genome or a GTF file here."
            raise InputError(msg)
        return genes.transcripts
    return read_transcripts(genes) if isinstance(genes, str | Path) else genes
