"""Cells and their groups, as they are given to a job on groups: an .h5ad, or fragment files and a table of groups."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import check, pp, slots
from gpuatac.errors import FileFormatError, InputError
from gpuatac.io.fragments.attach import records_of, set_records
from gpuatac.io.fragments.source import is_bam, sample_names
from gpuatac.io.genome.sizes import read_genome
from gpuatac.io.tables.barcode_lists import BarcodeList, why_nothing_matches
from gpuatac.io.tables.by_barcode import read_by_barcode
from gpuatac.workflow.main_job.resume import fragments_on
from gpuatac.workflow.main_job.truth import known_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)
ALLOWED = "a table with a barcode (or sample#barcode) and a group on each line, split at tabs or commas, with or without a header"
HEADER_GROUP = (
    "group",
    "groups",
    "cluster",
    "clusters",
    "leiden",
    "louvain",
    "cell_type",
    "celltype",
    "label",
    "annotation",
    "seurat_clusters",
)
BESIDE = (slots.X_UMAP, slots.X_SPECTRAL, slots.X_HARMONY)
NO_CELL = "no barcode of the table of groups has a fragment on the genome; check the genome and the table."
BAM_OPTIONS = ("barcode_tag", "barcode_regex", "min_mapq", "is_paired")


@dataclass(frozen=True)
class Given:
    """Cells, the group of each (missing: in none), and the replicate where one was asked for."""

    adata: AnnData
    groups: pd.Categorical
    replicate: pd.Categorical | None
    label: str  # what the groups are called in obs


@dataclass(frozen=True)
class Reading:
    """How fragment files are read. An .h5ad with cells of its own takes none of it but the device."""

    genome: str | None
    contigs: str | None
    names: Sequence[str] | None
    bulk: bool
    bam: Mapping[str, Any]
    device: str

    def given(self) -> list[str]:
        """The names of what is set."""
        for_files = {"genome": self.genome, "contigs": self.contigs, "names": self.names, "bulk": self.bulk or None}
        return [name for name, value in {**for_files, **self.bam}.items() if value is not None]


def cells_and_groups(
    inputs: Sequence[Path],
    *,
    groupby: str | None,
    groups: Path | None,
    replicate: str | None,
    genome: str | None,
    contigs: str | None,
    names: Sequence[str] | None,
    bulk: bool,
    bam: Mapping[str, Any],
    device: str,
) -> Given:
    """Read what was given; the fragments lie on ``device``."""
    for path in inputs:
        check.existing_file(path, "input")
    if not inputs:
        msg = "no input is given; allowed: an .h5ad written by gpuatac, or fragment files; name at least one."
        raise InputError(msg)
    reading = Reading(genome, contigs, names, bulk, bam, device)
    own = [path for path in inputs if is_own_h5ad(path)]
    table = None if groups is None else read_labels(groups)
    if bulk and (groups is not None or groupby is not None):
        msg = "bulk takes each file as one group, and groups are given as well; leave one of them out (--bulk, --groups, --groupby)."
        raise InputError(msg)
    if own:
        _refuse_beside_h5ad(inputs, reading.given())
        adata = _cells_of(own[0])
        fragments_on(adata, device)
    else:
        if groupby is not None and (table is None or groupby not in table):
            foreign = [path.name for path in inputs if path.suffix == ".h5ad"]
            held = f"{foreign[0]} does not tell where its fragments are" if foreign else "no table of groups is given"
            if table is not None:
                held = f"the table of groups has {', '.join(table.columns)}"
            msg = (
                f"groupby {groupby!r} names no column: {held}; allowed: a column of obs of an .h5ad written by gpuatac, or of the "
                "table of groups; give one of these (--groups TSV)."
            )
            raise InputError(msg)
        adata = _imported(inputs, table, groups, reading)
    known = None if table is None else _matched(adata, table, groups)
    if known is not None and (groupby is None or groupby in known):
        label, values = groupby or "group", known[groupby or known.columns[0]]
        _tell_without_group(table, groups, str(groupby or known.columns[0]))
    elif groupby is not None:
        label, values = groupby, _column(adata, groupby, "groupby")
    else:
        label, values = slots.SAMPLE, _samples(adata)
    return Given(adata, _categories(values), _replicates(adata, known, replicate), label)


def is_own_h5ad(path: Path) -> bool:
    """Whether an .h5ad names its fragments as ours do."""
    import h5py

    if path.is_dir() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return f"uns/{slots.FRAGMENTS}/samples" in file and f"uns/{slots.GENOME}" in file


def _refuse_beside_h5ad(inputs: Sequence[Path], given: list[str]) -> None:
    if len(inputs) > 1:
        msg = (
            f"{len(inputs)} inputs are given and one is an .h5ad with cells of its own; allowed: one .h5ad, or fragment files; give "
            "the .h5ad alone, or the fragment files and a table of groups (--groups)."
        )
        raise InputError(msg)
    if given:
        msg = (
            f"{', '.join(given)} cannot be set for {inputs[0].name}, which says by itself where its fragments are; allowed: "
            "for fragment files; leave it out."
        )
        raise InputError(msg)


def _cells_of(path: Path) -> AnnData:
    """Cells, layout and embedding of an .h5ad, without its matrices; its fragments are found beside it."""
    import anndata as ad
    import h5py
    from anndata.io import read_elem

    with h5py.File(path, "r") as file:
        held = (slots.FRAGMENTS, slots.GENOME, slots.READ_SUMMARY, slots.HISTORY)
        uns = {key: read_elem(file["uns"][key]) for key in held if key in file["uns"]}
        obsm = {key: read_elem(file["obsm"][key]) for key in BESIDE if key in file.get("obsm", ())}
        adata = ad.AnnData(obs=read_elem(file["obs"]), uns=uns, obsm=obsm)
    set_records(adata, records_of(adata), str(path.absolute().parent))
    return adata


def _barcodes_of(table: pd.DataFrame, path: Path | None) -> BarcodeList:
    """Its barcodes as they may stand in a file: with and without what stands before the first "#"."""
    names = {form for name in table.index for form in (name, name.partition("#")[2] or name)}
    return BarcodeList(frozenset(names), "the table of groups" if path is None else path.name, required=False)


def _imported(inputs: Sequence[Path], table: pd.DataFrame | None, path: Path | None, reading: Reading) -> AnnData:
    if reading.genome is None:
        msg = (
            "genome is not given; allowed: hg38, hg19, mm10, mm39, or a chrom.sizes, .fai or FASTA file: pass genome=... (--genome), "
            "or an .h5ad written by gpuatac, which needs none."
        )
        raise InputError(msg)
    are_bam = any(is_bam(path) for path in inputs)
    given = {name: value for name, value in reading.bam.items() if value is not None}
    if given and not are_bam:
        msg = f"{', '.join(given)} is for BAM files, and none of the inputs is one; leave it out."
        raise InputError(msg)
    samples = sample_names(list(inputs), reading.names, of_files="inputs", of_names="names")
    sizes = read_genome(str(reading.genome), contigs=reading.contigs or "main")  # type: ignore[arg-type]
    if reading.bulk or "barcode_regex" in given:
        given["barcode_tag"] = None
    adata = pp.import_fragments(
        list(inputs),
        sizes,
        sample=samples,
        min_num_fragments=0,
        whitelist=None if table is None else _barcodes_of(table, path),
        device=reading.device,  # type: ignore[arg-type]
        bam_options=given or None,
    )
    if not adata.n_obs and table is not None and any(s.n_barcodes_seen for s in pp.read_summaries(adata).values()):
        notes = [note for s in pp.read_summaries(adata).values() for note in s.notes if note.startswith("none of the ")]
        raise InputError(notes[0] if notes else NO_CELL)
    if not adata.n_obs and table is None:
        texts = "\n".join(f"{name}: {s.as_text()}" for name, s in pp.read_summaries(adata).items())
        msg = f"no fragment was kept; check the genome and the file, and pass --bulk for BAM files without barcodes.\n{texts}"
        raise InputError(msg)
    return adata


# ---------------------------------------------------------------------------------------------------------- labels


def read_labels(path: Path) -> pd.DataFrame:
    """The table of groups by barcode, NaN where a field is empty or NA; the first column is the group.

    That is the one called group, else the only one with another usual name (cluster, leiden, cell_type, ...), else the first.
    """
    remedy = "give one line for each cell"
    repeated = "correct or remove the line"
    table = read_by_barcode(path, role="table of groups", allowed=ALLOWED, remedy=remedy, named=HEADER_GROUP, repeated=repeated)
    rest = table.frame
    columns = list(rest.columns)
    if not columns:
        raise FileFormatError(path, "no column beside the barcode", ALLOWED, "give the group of each cell")
    likely = [name for name in columns if name.lower() in HEADER_GROUP]
    first = "group" if "group" in columns else likely[0] if len(likely) == 1 else columns[0]
    if len(columns) > 1:
        others = ", ".join(name for name in columns if name != first)
        logger.info("%s: groups are those of column %s unless another is named (%s)", path.name, first, others)
    return rest[[first, *(name for name in columns if name != first)]]


def _matched(adata: AnnData, table: pd.DataFrame, path: Path | None) -> pd.DataFrame:
    """The lines of ``table`` in the order of the cells."""
    samples = [record["sample"] for record in records_of(adata)]
    known, ambiguous = known_cells(table, adata, samples, adata.obs)
    name = "the table of groups" if path is None else path.name
    if ambiguous:
        msg = (
            f"{ambiguous:,} barcodes of {name} are in several samples; name them sample#barcode ({', '.join(samples)})."
        )
        raise InputError(msg)
    found = len(set(table.index) & set(known.index))
    if not found:
        held = f"; {_differences(table, adata)}" if adata.n_obs else ", no cell has; check the fragment file and the genome"
        msg = f"none of the {len(table):,} barcodes of {name} has fragments{held}."
        raise InputError(msg)
    if found < len(table):
        logger.warning("%s: %d of %d barcodes have no fragments and are left out", name, len(table) - found, len(table))
    return known


def _tell_without_group(table: pd.DataFrame | None, path: Path | None, column: str) -> None:
    if table is not None and path is not None and (n := int(table[column].isna().sum())):
        told = 'and are in no group; put quotes around "NA" where it is the name of one'
        logger.warning("%s: %d of %d barcodes have no %s (empty or NA) %s", path.name, n, len(table), column, told)


def _differences(table: pd.DataFrame, adata: AnnData) -> str:
    """Why no line is that of a cell, and what to do."""
    seen = [str(name) for name in (adata.obs[slots.BARCODE] if slots.BARCODE in adata.obs else adata.obs_names)]
    return why_nothing_matches(list(table.index), seen, of_list="the table", of_data="the data")


def _column(adata: AnnData, name: str, role: str) -> Any:
    if name not in adata.obs:
        found = ", ".join(map(repr, adata.obs.columns)) or "none"
        msg = f"{role} {name!r} is no column of the cells; the columns are {found}; name one of them."
        raise InputError(msg)
    return adata.obs[name]


def _samples(adata: AnnData) -> pd.Series:
    """The sample of each cell."""
    if slots.SAMPLE in adata.obs:
        return adata.obs[slots.SAMPLE]
    return pd.Series(np.repeat(records_of(adata)[0]["sample"], adata.n_obs), index=adata.obs_names)


def _replicates(adata: AnnData, known: pd.DataFrame | None, replicate: str | None) -> pd.Categorical | None:
    if replicate is None:
        return None
    if known is not None and replicate in known:
        return _categories(known[replicate])
    if replicate not in adata.obs and Path(replicate).is_file():
        path = Path(replicate)
        table = _matched(adata, read_labels(path), path)
        return _categories(table[table.columns[0]])
    columns = [*(known.columns if known is not None else []), *adata.obs.columns]
    if replicate in adata.obs:
        return _categories(adata.obs[replicate])
    msg = (
        f"replicate {replicate!r} is neither a column of the cells ({', '.join(map(str, columns))}) nor a file; allowed: one of "
        "these, or a table with barcode and replicate; correct it."
    )
    raise InputError(msg)


def _categories(values: Any) -> pd.Categorical:
    """Text labels; categories keep their order, others come by first appearance."""
    series = pd.Series(np.asarray(values, dtype=object))
    if isinstance(getattr(values, "dtype", None), pd.CategoricalDtype):
        order = [str(name) for name in values.cat.remove_unused_categories().cat.categories]
    else:
        order = [str(name) for name in dict.fromkeys(series.dropna())]
    text = series.map(str, na_action="ignore")
    if not order:
        msg = "no cell has a group; give a column or table with labels (--groupby, --groups)."
        raise InputError(msg)
    return pd.Categorical(text, categories=list(dict.fromkeys(order)))
