"""Peaks and coverage of each cluster: the steps of the main job whose results are files of their own."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpuatac import ex, metrics, pp, slots, tl
from gpuatac.core.differential.groups import FEWEST_FOR_MARKERS, marker_pvalue, standing_out
from gpuatac.io.files.atomic import replacing
from gpuatac.io.genome.peak_rows import line_name
from gpuatac.io.matrices.h5ad import read_h5ad, write_h5ad
from gpuatac.options import STEP_NAMES
from gpuatac.threads import get_threads
from gpuatac.workflow.main_job.steps import skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.genome import Genome
    from gpuatac.options import RunOptions
    from gpuatac.workflow.main_job.checks import Places

MARKERS = "markers"  # uns of the peak matrix: frame with group (categorical), region, rpkm, rpkm_others
MARKERS_SKIPPED = "marker regions"
BESIDE_PEAKS = (slots.X_UMAP, slots.X_SPECTRAL, slots.X_HARMONY)


class Made:
    """What the steps made; new files lie under temporary names until the run has ended well."""

    def __init__(self, places: Places, stack: ExitStack, from_step: str | None) -> None:
        self.places = places
        self._stack = stack
        self._outdated = outdated(from_step)
        self._new: dict[Path, Path] = {}
        self._peak_matrix: AnnData | None = None

    def new(self, target: Path) -> Path:
        """The temporary name of ``target``."""
        self._new[target] = self._stack.enter_context(replacing(target, force=True))
        return self._new[target]

    def found(self, target: Path, step: str) -> Path | None:
        """Where ``target`` lies now, if this run or the one it goes on from made it."""
        if target in self._new:
            return self._new[target]
        return target if step not in self._outdated and target.exists() else None

    @property
    def peak_matrix(self) -> AnnData | None:
        """Cells x consensus peaks."""
        path = self.found(self.places.peak_matrix, "peaks")
        if self._peak_matrix is None and path is not None:
            self._peak_matrix = read_h5ad(path)
        return self._peak_matrix

    @property
    def coverage(self) -> list[Path]:
        """The coverage tracks, under the names they will have."""
        folder = self.found(self.places.coverage, "coverage")
        return [] if folder is None else sorted(self.places.coverage / p.name for p in folder.glob("*.bw"))

    def keep(self, matrix: AnnData) -> None:
        """Write the peak matrix, and hold it for the figures."""
        write_h5ad(matrix, self.new(self.places.peak_matrix))
        self._peak_matrix = matrix

    def remove_outdated(self) -> None:
        """Remove what an earlier run left of steps that were not done this time."""
        of_step = {"peaks": (self.places.peaks, self.places.peak_matrix), "coverage": (self.places.coverage,)}
        for path in (path for step in self._outdated for path in of_step[step] if path not in self._new):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextmanager
def results(places: Places, from_step: str | None) -> Iterator[Made]:
    """Hold new files back; when the block ends well they take their places, and what they make outdated goes."""
    with ExitStack() as stack:
        made = Made(places, stack, from_step)
        yield made
    made.remove_outdated()


def outdated(from_step: str | None) -> list[str]:
    """The steps whose earlier results hold no more when a run goes on from ``from_step``."""
    start = 0 if from_step is None else STEP_NAMES.index(from_step)
    return [step for step in STEPS if STEP_NAMES.index(step) >= start]


def forget_peaks(adata: AnnData) -> None:
    """Drop the peaks of clusters that are computed again."""
    adata.uns.pop(slots.PEAKS, None)
    if slots.FRIP in adata.obs:
        adata.obs = adata.obs.drop(columns=slots.FRIP)


# ------------------------------------------------------------------------------------------------------ the steps


def peaks(adata: AnnData, options: RunOptions, genome: Genome, made: Made) -> None:
    """Peaks of each cluster, their consensus, the cells' counts in it, and the regions that mark a cluster."""
    if _no_clusters(adata, "peaks"):
        return
    largest = int(adata.obs[slots.LEIDEN].value_counts().max())
    if largest < options.peak_min_cells:
        skip(adata, "peaks", f"the largest cluster has {largest} cells and peak_min_cells is {options.peak_min_cells}")
        return
    excluded = [name for name in options.exclude_chroms.split(",") if name in genome.code]
    tl.call_peaks(
        adata,
        slots.LEIDEN,
        qvalue=options.peak_qvalue,
        max_frag_size=options.peak_max_frag_size,
        min_cells=options.peak_min_cells,
        blacklist=genome.blacklist if options.blacklist else None,
        exclude_chroms=excluded,
    )
    if adata.uns[slots.PEAKS].empty:
        forget_peaks(adata)
        skip(adata, "peaks", f"no cluster has a peak at q-value {options.peak_qvalue:g}")
        return
    consensus = tl.merge_peaks(adata, genome, half_width=options.peak_half_width)
    metrics.frip(adata, {slots.FRIP: consensus})
    matrix = pp.make_peak_matrix(adata, consensus)
    for key in BESIDE_PEAKS:
        if key in adata.obsm:
            matrix.obsm[key] = adata.obsm[key]
    matrix.uns[MARKERS] = _markers(adata, matrix, options)
    folder = made.new(made.places.peaks)
    ex.export_peaks(adata, out_dir=folder)
    _record_place(adata, folder.name, made.places.peaks.name)
    write_consensus(consensus, folder / "consensus.bed")
    matrix.uns[MARKERS].to_csv(folder / "markers.tsv", sep="\t", index=False, float_format="%.4g")
    made.keep(matrix)


def coverage(adata: AnnData, options: RunOptions, genome: Genome, made: Made) -> None:
    """A bigWig coverage track of each cluster."""
    if _no_clusters(adata, "coverage"):
        return
    folder = made.new(made.places.coverage)
    folder.mkdir(parents=True)
    normalization: Any = None if options.coverage_normalization == "none" else options.coverage_normalization
    ex.export_coverage(
        adata,
        slots.LEIDEN,
        bin_size=options.coverage_bin_size,
        normalization=normalization,
        blacklist=genome.blacklist if options.blacklist else None,
        out_dir=folder,
        tempdir=folder,
        n_jobs=get_threads(),
    )
    _record_place(adata, folder.name, made.places.coverage.name)


#: Steps that follow those of ``steps.STEPS``; each takes (adata, options, genome, made).
STEPS: dict[str, Callable[[AnnData, Any, Genome, Made], None]] = {"peaks": peaks, "coverage": coverage}


def _no_clusters(adata: AnnData, step: str) -> bool:
    if slots.LEIDEN in adata.obs:
        return False
    skip(adata, step, f"there are no clusters (gpuatac {step} takes groups of your own and bulk samples)")
    return True


def _record_place(adata: AnnData, temporary: str, place: str) -> None:
    """Put the folder's own name into the history."""
    held = [str(record) for record in np.atleast_1d(adata.uns[slots.HISTORY])]
    last = json.loads(held[-1])
    last["parameters"] = {k: place if v == temporary else v for k, v in last["parameters"].items()}
    adata.uns[slots.HISTORY] = np.array([*held[:-1], json.dumps(last)], dtype=object)


def write_consensus(consensus: pd.DataFrame, path: Path) -> None:
    """BED of chrom, start, end and the groups that have the region, separated by commas; by position."""
    groups = [str(name) for name in consensus.columns if consensus[name].dtype == bool]
    table = consensus.sort_values([slots.CHROM, slots.START], kind="stable")
    held = table[groups].to_numpy(bool)
    shown = [line_name(name).replace(",", "_") or "_" for name in groups]
    names = [",".join(name for name, here in zip(shown, row, strict=True) if here) or "." for row in held]
    bed = table[[slots.CHROM, slots.START, slots.END]].assign(name=names)
    bed.to_csv(path, sep="\t", header=False, index=False)


# ---------------------------------------------------------------------------------------------------- marker regions


def _markers(adata: AnnData, matrix: AnnData, options: RunOptions) -> pd.DataFrame:
    """Regions that mark a cluster, as ``tl.marker_regions`` finds them: with the RPKM of the cluster and the mean RPKM of the others.

    The strongest come first: those of the largest difference.
    """
    clusters = adata.obs[slots.LEIDEN].cat.categories
    parts = []
    k = len(clusters)
    if k < FEWEST_FOR_MARKERS and options.marker_pvalue is None:
        skip(adata, MARKERS_SKIPPED, f"they stand out among {FEWEST_FOR_MARKERS} clusters or more and there {_are(k)}")
    else:
        counts = tl.aggregate(matrix, slots.LEIDEN, normalize="RPKM")
        marks = standing_out(np.log2(1 + counts.X), marker_pvalue(options.marker_pvalue, k))
        total = counts.X.sum(axis=0)
        for name in clusters:
            row = counts.obs_names.get_loc(str(name))
            here, others = counts.X[row], (total - counts.X[row]) / max(1, k - 1)
            at = np.flatnonzero(marks[row])
            at = at[np.argsort(others[at] - here[at], kind="stable")]
            regions = np.asarray(counts.var_names[at], dtype=object)
            parts.append((np.repeat(name, at.size), regions, here[at], others[at]))
    empty = (np.empty(0, object),) * 2 + (np.empty(0),) * 2
    group, region, here, others = (np.concatenate(columns) for columns in zip(empty, *parts, strict=True))
    return pd.DataFrame(
        {
            "group": pd.Categorical(group, categories=clusters),
            "region": region,
            "rpkm": here,
            "rpkm_others": others,
        }
    )


def _are(n: int) -> str:
    return "is 1" if n == 1 else f"are {n}"


def markers_of(matrix: AnnData | None) -> dict[str, list[str]]:
    """Names of the marker regions by cluster, strongest first; clusters without any are left out."""
    if matrix is None or MARKERS not in matrix.uns:
        return {}
    table = matrix.uns[MARKERS]
    return {str(name): list(part["region"]) for name, part in table.groupby("group", observed=True)}


# -------------------------------------------------------------------------------------------------------- the summary


def report_of(adata: AnnData, options: RunOptions, made: Made) -> dict[str, Any]:
    """The numbers of peaks and coverage."""
    out: dict[str, Any] = {}
    if slots.PEAKS in adata.uns:
        groups = adata.uns[slots.PEAKS]["group"]
        sizes = adata.obs[slots.LEIDEN].value_counts()
        out["peaks"] = {str(name): int((groups == name).sum()) for name in groups.cat.categories}
        out["clusters_without_peaks"] = [str(n) for n in groups.cat.categories if sizes[n] < options.peak_min_cells]
        out["median_frip"] = float(adata.obs[slots.FRIP].median())
        matrix = made.peak_matrix
        if matrix is not None:
            marked = markers_of(matrix)
            out["n_consensus_peaks"] = int(matrix.n_vars)
            out["markers"] = {name: len(marked.get(name, ())) for name in out["peaks"]}
            out["marker_pvalue"] = marker_pvalue(options.marker_pvalue, len(out["peaks"]))
    if made.coverage:
        out["coverage"] = [path.name for path in made.coverage]
    return out


def as_lines(report: dict[str, Any]) -> list[str]:
    """Peaks and coverage in words."""
    options = report["options"]
    lines = []
    if "peaks" in report:
        lines.append(f"peaks (q <= {options['peak_qvalue']:g}) by cluster: {_counted(report['peaks'])}")
        if report["clusters_without_peaks"]:
            few = ", ".join(report["clusters_without_peaks"])
            lines.append(f"  not called in {few}: fewer than {options['peak_min_cells']} cells (peak_min_cells)")
    if "n_consensus_peaks" in report:
        lines.append(
            f"consensus: {report['n_consensus_peaks']:,} peaks of {2 * options['peak_half_width'] + 1:,} bp; "
            f"{report['median_frip']:.0%} of a cell's fragments lie in them (median FRiP)"
        )
        if any(report["markers"].values()):
            lines.append(f"marker regions (p < {report['marker_pvalue']:.2g}): {_counted(report['markers'])}")
    if "coverage" in report:
        how = options["coverage_normalization"]
        scale = "counts" if how == "none" else how
        lines.append(
            f"coverage: {len(report['coverage'])} bigWig files, {scale} in bins of {options['coverage_bin_size']} bp"
        )
    if options["until"] != "coverage":
        lines.append(f"the job ended at the {options['until']} (--until {options['until']})")
    return lines


def _counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name}: {n:,}" for name, n in numbers.items())
