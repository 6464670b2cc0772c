"""One way to take genes and regions as arguments: a Genome, a path, or a frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.genome import Genome
from gpuatac.io.genome.regions import MAX_COORDINATE
from gpuatac.io.genome.transcripts import COLUMNS, read_transcripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


def transcripts_of(genes: Any, *, named: bool = True) -> pd.DataFrame:
    """The transcripts of a Genome that carries them, of a GTF/GFF3/genePred/BED file, or the frame itself, checked.

    Without ``named`` a frame needs no columns but chrom, start, end and strand.
    """
    if isinstance(genes, Genome):
        if genes.transcripts is None:
            msg = f"genome {genes.name} carries no transcripts; pass genes=... to io.read_genome or a GTF file here."
            raise InputError(msg)
        return genes.transcripts
    if isinstance(genes, str | Path):
        check.existing_file(Path(genes), "annotation")
        return read_transcripts(genes)
    return _checked(genes, COLUMNS if named else COLUMNS[:4])


def _checked(genes: Any, needed: Sequence[str]) -> pd.DataFrame:
    """A frame of transcripts as ``read_transcripts`` gives one; names that are missing become ids."""
    frame = genes.to_pandas() if hasattr(genes, "to_pandas") else genes
    missing = [name for name in needed if name not in getattr(frame, "columns", ())]
    if missing:
        msg = f"genes has no column {', '.join(missing)}; it needs {', '.join(needed)}, as io.read_transcripts gives."
        raise InputError(msg)
    for name in ("start", "end"):
        whole = frame[name].dtype.kind in "iu"
        values = frame[name].to_numpy(np.float64) if frame[name].dtype.kind == "f" else frame[name].to_numpy()
        if not whole and (values.dtype.kind != "f" or not (values == np.floor(values)).all()):
            msg = f"{name} of genes must be whole numbers in bp, got {frame[name].dtype}; convert the column."
            raise InputError(msg)
        values = values.astype(np.int64)
        outside = (values < 0) | (values > MAX_COORDINATE)
        check.none_true(outside, f"values of {name} of genes lie outside [0, {MAX_COORDINATE}]", "correct the transcripts")
    check.none_true((frame["start"] > frame["end"]).to_numpy(), "transcripts have start > end", "correct the transcripts")
    if set(COLUMNS) <= set(needed) and (frame["gene_id"].isna().any() or frame["gene_name"].isna().any()):
        gene_id = frame["gene_id"].fillna(frame["transcript_id"])
        filled = frame.assign(gene_id=gene_id, gene_name=frame["gene_name"].fillna(gene_id))
        filled.attrs = dict(frame.attrs)
        return filled
    return frame
