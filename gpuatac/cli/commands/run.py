"""``gpuatac run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuatac.cli.command import Command, Section
from gpuatac.cli.hints import Hint
from gpuatac.options import STEP_NAMES
from gpuatac.workflow import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpuatac.workflow import Result


def _told(result: Result, _given: Mapping[str, Any]) -> str:
    parts = [
        str(result.h5ad),
        str(result.summary),
        f"{len(result.figures)} figures in {result.h5ad.with_suffix('.figures')}",
    ]
    if result.peaks is not None:
        parts += [f"peaks in {result.peaks}", str(result.peak_matrix)]
    if result.coverage:
        parts.append(f"{len(result.coverage)} coverage tracks in {result.coverage[0].parent}")
    return f"{result.summary.read_text()}written: {', '.join(parts[:-1])} and {parts[-1]}"


COMMAND = Command(
    name="run",
    job=run,
    report=_told,
    examples=(
        "gpuatac run fragments.tsv.gz --genome hg38 --genes gencode.gtf.gz --out results",
        "gpuatac run fragments.tsv.gz --from leiden --resolution 0.5 --out results",
    ),
    flags={"fragments": "FRAGMENTS", "from_step": "--from"},
    metavars={
        "out": "DIR",
        "names": "NAME",
        "from_step": "STEP",
        "truth": "TSV",
        "memory": "SIZE",
        "log": "FILE",
        "genes": "FILE",
        "blacklist": "FILE",
        "whitelist": "FILE",
    },
    helps={
        "memory": "use about so much at most, such as 4G (default: 70 % of free, 80 % of a GPU)",
        "from_step": f"go on from a step of an earlier run with its options: {', '.join(STEP_NAMES)}",
        "truth": "table of barcode and cell_type, if known is_doublet, to compare with",
        "genes": "GTF, GFF3, genePred or BED of transcripts; without it no TSS and gene steps",
        "blacklist": "BED of regions left out of tiles, peaks and coverage",
        "until": "where the job ends: clusters, peaks or coverage",
        "device": "where to compute: auto, cpu or gpu",
        "fragments": "fragment file of each sample: 10x, BED, BAM, a .fragments data set or SnapATAC2's .h5ad",
    },
    hints={"from_step": Hint(str, STEP_NAMES)},
    switches=("keep_depth_components",),
    sections=(
        Section("Input and output", ("fragments", "out", "genome", "genes", "names", "force")),
        Section("What is done", ("from_step", "until", "device", "memory", "quiet")),
        Section(
            "Cells and clusters",
            ("min_fragments", "min_tsse", "doublets", "batch_correction", "bin_size", "resolution"),
        ),
        Section(
            "Reading and cells",
            (
                "contigs",
                "blacklist",
                "whitelist",
                "call_cells",
                "max_fragments",
                "max_frac_mito",
                "max_nucleosome_signal",
                "max_blacklist_fraction",
                "expected_doublet_rate",
            ),
            more=True,
        ),
        Section(
            "Matrix and embedding",
            (
                "counting_strategy",
                "exclude_chroms",
                "n_features",
                "feature_method",
                "lower_quantile",
                "upper_quantile",
                "n_comps",
                "sample_size",
            ),
            more=True,
        ),
        Section(
            "Graph and clusters",
            ("n_neighbors", "keep_depth_components", "min_dist", "leiden_flavor", "gene_upstream", "gene_key"),
            more=True,
        ),
        Section(
            "Peaks and coverage",
            (
                "peak_qvalue",
                "peak_max_frag_size",
                "peak_min_cells",
                "peak_half_width",
                "marker_pvalue",
                "coverage_bin_size",
                "coverage_normalization",
            ),
            more=True,
        ),
        Section("This run", ("truth", "seed", "figure_format", "threads", "log"), more=True),
    ),
)
