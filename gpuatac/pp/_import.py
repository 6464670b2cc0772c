"""Fragment files to an AnnData with per-cell totals."""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.backend import resolve
from gpuatac.core.counting import cell_scores, counts
from gpuatac.fragments import ReadSummary
from gpuatac.genome import MITO_NAMES, Genome
from gpuatac.io.fragments import attach
from gpuatac.io.fragments.source import load_source, origin, resident, sample_names
from gpuatac.io.fragments.store import StoredFragments, is_store, save
from gpuatac.io.tables.barcode_lists import read_whitelist
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from anndata import AnnData

    from gpuatac.backend import Device
    from gpuatac.backend.protocol import Backend
    from gpuatac.fragments import Fragments

logger = logging.getLogger(__name__)


@records("pp.import_fragments")
def import_fragments(
    fragment_file: str | Path | Sequence[str | Path],
    genome: Genome,
    *,
    sample: str | Sequence[str] | None = None,
    min_num_fragments: int = 200,
    whitelist: str | Path | Iterable[str] | None = None,
    out: str | Path | None = None,
    chrM: Collection[str] = MITO_NAMES,
    device: Device = "auto",
    force: bool = False,
    resume: bool = False,
    bam_options: Mapping[str, Any] | None = None,
) -> AnnData:
    """Read fragment files into an AnnData of cells with their totals.

    Reads   fragment_file: see ``io.read_fragments`` for the formats; a Parquet data set that
            ``io.write_fragments`` wrote, a BAM file and an .h5ad of SnapATAC2 are read as well.
    Writes  obs["n_fragment"]: int64, rows not on the mitochondrial chromosome; obs["frac_dup"]: float64,
            1 - rows / sum of copies; obs["frac_mito"]: float64, mitochondrial rows / rows;
            uns["fragments"], uns["genome"], uns["read_summary"] (JSON by sample; every line is accounted for).
            With several files: obs["sample"], obs["barcode"]. X is empty.

    Cells are in byte order of their barcodes, samples one after the other.

    Parameters
    ----------
    fragment_file
        One file or several.
    genome
        Chromosome sizes, see ``io.read_genome``.
    sample
        Sample name or names; by default the files' stems. Several samples get obs names ``sample#barcode``.
    min_num_fragments
        Barcodes with fewer fragments outside the mitochondrial chromosome are left out (a bulk sample never is).
    whitelist
        Barcodes to keep: an iterable, or a file with one a line or a table with a column ``barcode``, as Cell Ranger
        (whose cells are taken: is__cell_barcode, is_cell), R and pandas write them; ``sample#barcode`` is one of that
        sample. None keeps all.
    out
        Folder for the Parquet data sets ``<sample>.fragments``; None keeps the columns in memory only, and reads
        the file again when they are needed in a later session.
    chrM
        Names of the mitochondrial chromosome.
    device
        Where the columns lie: "auto", "cpu" or "gpu".
    force
        Replace data sets that exist in ``out``.
    resume
        Take data sets in ``out`` that an interrupted import of the same files with the same options has finished.
    bam_options
        For BAM files: keywords of ``pp.make_fragment_file`` such as barcode_tag, barcode_regex and is_paired.

    Returns
    -------
    AnnData
        n_cells x 0.

    Raises
    ------
    FileFormatError
        For a bad line (with its number) or broken compression (with the byte offset).
    InputError
        For sample names that do not fit the files, and when none of the barcodes of the whitelist is in a file.

    Examples
    --------
    >>> import gpuatac as ga, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "pbmc.tsv"
    >>> _ = file.write_text("chr1\\t100\\t300\\tAAAC-1\\t2\\nchr1\\t150\\t250\\tAAAG-1\\t1\\n")
    >>> adata = ga.pp.import_fragments(file, ga.Genome.builtin("hg38"), min_num_fragments=1, device="cpu")
    >>> adata.obs["n_fragment"].to_dict()
    {'AAAC-1': 1, 'AAAG-1': 1}
    """
    import anndata as ad

    files = [Path(f) for f in ([fragment_file] if isinstance(fragment_file, str | Path) else fragment_file)]
    check.integer("min_num_fragments", min_num_fragments, 0)
    names = sample_names(files, sample)
    bk = resolve(device)
    whitelist = None if whitelist is None else read_whitelist(whitelist)
    reading = {
        "min_num_fragments": min_num_fragments,
        "whitelist": whitelist,
        "chr_m": chrM,
        "bam_options": bam_options,
    }
    jobs = [
        _Job.of(file, name, genome, out, bk.name, reading, resume=resume)
        for file, name in zip(files, names, strict=True)
    ]
    for job in jobs:
        if job.place is not None and job.finished is None:
            check.may_write(job.place, force=force, remedy="pass force=True (--force) to replace it")
    tables, record_list, summaries = [], [], {}
    with _all_or_none() as written:
        for job in jobs:
            fragments, place = job.do(genome, bk, reading, force=force)
            if place != job.file and job.finished is None:
                written.append(place)
            options = bam_options if place == job.file else None
            record = attach.describe(place, fragments, sample=job.name, device=bk.name, bam_options=options)
            attach.remember(attach.cache_key(place, record), fragments)
            tables.append(_cell_table(bk, fragments, genome.mito_codes(chrM), job.name))
            record_list.append(record)
            summaries[job.name] = json.dumps(asdict(fragments.summary))
    obs = pd.concat(tables)
    if len(names) > 1:
        obs.index = pd.Index(obs[slots.SAMPLE].astype(str) + "#" + obs.index, dtype=object)
        obs[slots.SAMPLE] = pd.Categorical(obs[slots.SAMPLE], categories=names)
    else:
        obs = obs.drop(columns=[slots.SAMPLE, slots.BARCODE])
    adata = ad.AnnData(X=None, obs=obs, var=pd.DataFrame(index=pd.Index([], dtype=object)))
    attach.set_records(adata, record_list)
    attach.set_genome(adata, genome)
    adata.uns[slots.READ_SUMMARY] = summaries
    return adata


@dataclass(frozen=True)
class _Job:
    """One sample to import."""

    file: Path
    name: str
    place: Path | None  # of its data set
    source: dict[str, Any]  # what decides its content
    finished: StoredFragments | None  # by an import that was interrupted later

    @classmethod
    def of(
        cls,
        file: Path,
        name: str,
        genome: Genome,
        out: str | Path | None,
        device: Literal["cpu", "gpu"],
        reading: dict[str, Any],
        *,
        resume: bool,
    ) -> _Job:
        place = None if out is None else Path(out) / f"{name}.fragments"
        source = origin(file, genome, **reading)
        finished = None
        if resume and place is not None and is_store(place):
            stored = StoredFragments(place, device=device)
            finished = stored if stored.source == source else None
        return cls(file, name, place, source, finished)

    def do(
        self, genome: Genome, bk: Backend, reading: dict[str, Any], *, force: bool
    ) -> tuple[Fragments | StoredFragments, Path]:
        """The fragments, and where they can be read again: the data set, or the file where none was asked for."""
        if self.finished is not None:
            logger.info("import of %s: %s was finished before and is taken as it is", self.name, self.finished.path)
            return resident(self.finished), self.finished.path
        fragments = load_source(
            self.file,
            genome,
            sample=self.name,
            device=bk.name,
            place=self.place,
            force=force,
            source=self.source,
            **reading,
        )
        if self.place is None:
            return fragments, self.file
        if isinstance(fragments, StoredFragments) and fragments.path == self.place != self.file:
            return fragments, self.place
        if not len(fragments):
            return fragments, self.file
        save(fragments, self.place, force=force, source=self.source)
        if isinstance(fragments, StoredFragments):
            fragments = StoredFragments(self.place, device=bk.name)
        return fragments, self.place


@contextmanager
def _all_or_none() -> Iterator[list[Path]]:
    """A list of folders; when the block fails, those named in it are removed again."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for folder in written:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _cell_table(bk: Any, fragments: Fragments | StoredFragments, mito_codes: list[int], name: str) -> pd.DataFrame:
    totals = fragments.totals
    if totals is None:
        n = fragments.n_cells
        sample = counts.sample_rows(bk, fragments, np.arange(n, dtype=np.int32))
        totals = counts.cell_totals(bk, sample, n, mito_codes=mito_codes)
    return pd.DataFrame(
        {
            slots.N_FRAGMENT: totals.rows - totals.mito_rows,
            slots.FRAC_DUP: cell_scores.frac_dup(totals),
            slots.FRAC_MITO: cell_scores.frac_mito(totals),
            slots.SAMPLE: name,
            slots.BARCODE: fragments.barcodes,
        },
        index=pd.Index(fragments.barcodes, dtype=object),
    )


def read_summaries(adata: AnnData) -> dict[str, ReadSummary]:
    """What the reader kept and dropped, by sample.

    Reads   adata.uns["read_summary"].

    Examples
    --------
    >>> import gpuatac as ga
    >>> print(ga.pp.read_summaries(adata)["pbmc"].as_text())  # doctest: +SKIP
    """
    stored = slots.uns_of(adata, slots.READ_SUMMARY, writer="pp.import_fragments")
    return {name: ReadSummary(**json.loads(str(text))) for name, text in stored.items()}
