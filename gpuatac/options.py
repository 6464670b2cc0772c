"""Every option of the main job with its default: the one table that the CLI, the README and the summary show."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

#: Steps of the main job after the import, in order; a run may go on from any of them.
STEP_NAMES = (
    "qc", "cells", "tiles", "features", "doublets", "spectral", "knn", "umap", "leiden", "genes", "peaks", "coverage", "figures",
)  # fmt: skip
#: What ``until`` may say, with the last step that is then done before the figures.
UNTIL = {"clusters": "genes", "peaks": "peaks", "coverage": "coverage"}


def _opt(default: Any, step: str, text: str, **meta: Any) -> Any:
    """A field; ``step`` is the first step of the main job that uses it."""
    return field(default=default, metadata={"help": text, "step": step, **meta})


@dataclass(frozen=True)
class RunOptions:
    """Options of ``gpuatac.run`` and ``gpuatac run``; one set of defaults for every data set."""

    genome: str | None = _opt(None, "import", "hg38, hg19, mm10, mm39, or a chrom.sizes, .fai or FASTA file; required")
    genes: str | None = _opt(
        None, "qc", "GTF, GFF3, genePred or BED of transcripts; without it no TSS and gene steps", path=True
    )
    blacklist: str | None = _opt(
        None,
        "qc",
        "BED of regions whose tiles are never selected, whose peaks and coverage are left out, and whose share is measured",
        path=True,
    )
    contigs: Literal["main", "all"] = _opt("main", "import", "chromosomes to keep: main (numbered, X, Y, M) or all")
    whitelist: str | None = _opt(
        None, "import", "barcodes to keep: one a line, or a table (of singlecell.csv its cells)", path=True
    )
    call_cells: Literal["none", "knee", "ordmag"] = _opt(
        "none", "cells", "tell cells from empty droplets: none, knee or ordmag"
    )
    min_fragments: int = _opt(1000, "cells", "fewest fragments of a cell, outside the mitochondrial chromosome")
    max_fragments: int | None = _opt(None, "cells", "most fragments of a cell")
    min_tsse: float = _opt(5.0, "cells", "lowest TSS enrichment of a cell (needs --genes)")
    max_frac_mito: float | None = _opt(None, "cells", "highest mitochondrial share of a cell's fragments")
    max_nucleosome_signal: float | None = _opt(None, "cells", "highest ratio of 147-293 bp fragments to shorter ones")
    max_blacklist_fraction: float | None = _opt(
        None, "cells", "highest share of fragments in blacklisted regions (needs --blacklist)"
    )
    bin_size: int = _opt(2000, "tiles", "tile width in bp")
    counting_strategy: Literal["paired-insertion", "insertion", "fragment"] = _opt(
        "paired-insertion",
        "tiles",
        "what a fragment adds to a tile",
    )
    exclude_chroms: str = _opt(
        "chrM,chrMT,M,MT,chrY,Y", "tiles", "chromosomes without tiles and peaks, separated by commas"
    )
    n_features: int = _opt(500_000, "features", "tiles to embed with, at most")
    feature_method: Literal["count", "variability"] = _opt(
        "count", "features", "how tiles are ranked: count or variability"
    )
    lower_quantile: float = _opt(0.005, "features", "share of the rarest tiles that are never selected")
    upper_quantile: float = _opt(0.005, "features", "share of the most common tiles that are never selected")
    doublets: Literal["remove", "label", "skip"] = _opt(
        "remove", "doublets", "doublets by scrublet: remove, label or skip"
    )
    expected_doublet_rate: float = _opt(0.1, "doublets", "expected share of doublets")
    n_comps: int = _opt(30, "spectral", "spectral components, at most")
    sample_size: int | None = _opt(
        None, "spectral", "landmark cells for the Nystrom embedding of very many cells; unset: exact"
    )
    keep_depth_components: bool = _opt(
        default=False, step="knn", text="cluster also on components that follow sequencing depth (|r| >= 0.9)"
    )
    batch_correction: Literal["none", "harmony"] = _opt("none", "knn", "of several samples: none or harmony")
    n_neighbors: int | None = _opt(
        None, "knn", "neighbours of each cell; unset: round(1.75 sqrt(cells)) within 5 and 50"
    )
    min_dist: float = _opt(0.3, "umap", "UMAP's min_dist")
    resolution: float = _opt(1.0, "leiden", "Leiden resolution")
    leiden_flavor: Literal["auto", "igraph", "cugraph"] = _opt(
        "auto", "leiden", "auto, igraph (deterministic) or cugraph (GPU)"
    )
    gene_upstream: int = _opt(2000, "genes", "bp upstream of a gene that count towards its activity")
    gene_key: Literal["gene", "gene_id"] = _opt(
        "gene", "genes", "what tells genes apart: gene (their names) or gene_id (also where a name is at several places)"
    )
    until: Literal["clusters", "peaks", "coverage"] = _opt(
        "coverage",
        "peaks",
        "where the job ends: clusters, peaks (of each cluster), or coverage (bigWig tracks of each cluster)",
    )
    peak_qvalue: float = _opt(0.05, "peaks", "highest q-value of a peak")
    peak_max_frag_size: int | None = _opt(
        None, "peaks", "longest fragment that peaks are called from, in bp (180: nucleosome-free ones)"
    )
    peak_min_cells: int = _opt(5, "peaks", "clusters of fewer cells get no peaks")
    peak_half_width: int = _opt(250, "peaks", "bp of a consensus peak on either side of its summit")
    marker_pvalue: float | None = _opt(
        None, "peaks", "p-value of a marker region; unset: 0.01, more where 3 to 6 clusters cannot reach it"
    )
    coverage_bin_size: int = _opt(10, "coverage", "bin of the coverage tracks in bp")
    coverage_normalization: Literal["RPKM", "CPM", "BPM", "none"] = _opt(
        "RPKM", "coverage", "how coverage is scaled: RPKM, CPM, BPM or none"
    )
    seed: int = _opt(0, "doublets", "seed of everything random")
    figure_format: Literal["png", "pdf", "svg"] = _opt("png", "figures", "png, pdf or svg")

    @property
    def min_num_fragments(self) -> int:
        """Barcodes below this are left out on import: 10 when cells are called, else min(200, min_fragments)."""
        return 10 if self.call_cells != "none" else min(200, self.min_fragments)


_HINTS = get_type_hints(RunOptions)


def choices(name: str) -> tuple[str, ...]:
    """What the option may be, where its type names it; else nothing."""
    return get_args(_HINTS[name]) if get_origin(_HINTS[name]) is Literal else ()


def defaults() -> dict[str, Any]:
    """Default by option name."""
    return {f.name: f.default for f in fields(RunOptions)}


def defaults_table() -> str:
    """The table of defaults as Markdown."""
    rows = ["| option | default | what it is |", "| --- | --- | --- |"]
    for f in fields(RunOptions):
        shown = "unset" if f.default is None else "off" if f.default is False else f"{f.default}"
        rows.append(f"| `--{f.name.replace('_', '-')}` | {shown} | {f.metadata['help'].replace('|', chr(92) + '|')} |")
    return "\n".join(rows)
