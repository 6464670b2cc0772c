"""What a run is given, checked before anything is read or written."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.options import RunOptions, choices, defaults

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


LEAST_P = 1e-300  # a smaller one has no logarithm to compare with


@dataclass(frozen=True)
class Places:
    """Where a run writes: into ``folder``, under names that begin with ``label``.

    Attributes
    ----------
    stores
        The fragments of each sample.
    final
        The result.
    checkpoint
        Every barcode with its quality measures.
    peak_matrix
        Cells x consensus peaks.
    figures, peaks, coverage
        The folders of the figures, the peaks and the coverage tracks.
    """

    folder: Path
    label: str
    stores: tuple[Path, ...]
    final: Path
    checkpoint: Path
    peak_matrix: Path
    figures: Path
    peaks: Path
    coverage: Path

    @classmethod
    def of(cls, folder: Path, samples: Sequence[str]) -> Places:
        """The places of a run on ``samples``."""
        if folder.exists() and not folder.is_dir():
            msg = f"out {folder} is a file; allowed: a folder, made when it is not there; choose another name."
            raise InputError(msg)
        label = samples[0] if len(samples) == 1 else "combined"
        stores = tuple(folder / f"{name}.fragments" for name in samples)
        ends = ("h5ad", "qc.h5ad", "peaks.h5ad", "figures", "peaks", "coverage")
        return cls(folder, label, stores, *(folder / f"{label}.{end}" for end in ends))

    def outputs(self) -> list[Path]:
        """Everything a run replaces."""
        told = [self.folder / f"{self.label}.summary.{kind}" for kind in ("txt", "json")]
        by_cluster = [self.peaks, self.peak_matrix, self.coverage]
        return [self.final, self.checkpoint, *told, self.figures, *by_cluster, *self.stores]


def refuse_inputs_among_outputs(inputs: Iterable[tuple[str, Path]], places: Places) -> None:
    """Raise when an input is, or lies in, something that the run writes."""
    outputs = {path.resolve(): path for path in places.outputs()}
    for role, path in inputs:
        found = path.resolve()
        for output in (found, *found.parents):
            if output in outputs:
                msg = (
                    f"{role} {path} is where this run writes {outputs[output].name}; allowed: inputs outside the outputs; "
                    "choose another folder for the results (out, --out) or other sample names (names, --names)."
                )
                raise InputError(msg)


def given_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options with plain types: text, int, float, bool or None. Raises for names and types that do not fit."""
    known = {f.name: f for f in fields(RunOptions)}
    for name in sorted(options):
        if name not in known:
            msg = f"unknown option {name!r}; allowed: {', '.join(defaults())}."
            raise InputError(msg)
    return {name: _typed(name, value, str(known[name].type)) for name, value in options.items()}


def _typed(name: str, value: Any, annotation: str) -> Any:
    annotation = "str" if choices(name) else annotation
    kind = annotation.split(" | ", maxsplit=1)[0]
    if value is None and "None" in annotation:
        return None
    if name == "exclude_chroms" and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return ",".join(value)
    if kind == "str" and isinstance(value, str | Path):
        return str(value)
    if kind == "bool" and isinstance(value, bool | np.bool_):
        return bool(value)
    number = isinstance(value, Real) and not isinstance(value, bool)
    if kind == "int" and number:
        return int(value) if isinstance(value, Integral) else check.integer(name, float(value), -(2**63))
    if kind == "float" and number:
        return int(value) if isinstance(value, Integral) else float(value)
    shown = repr(value) if isinstance(value, str | int | float | list | tuple | None) else "an object"
    shown = shown if len(shown) < 60 else shown[:57] + "..."
    msg = f"{name} must be {_allowed(name, kind, annotation)}, got {shown} ({type(value).__name__}); {_remedy(name, kind)}."
    raise InputError(msg)


def _allowed(name: str, kind: str, annotation: str) -> str:
    words = {"str": "text", "int": "a whole number", "float": "a number", "bool": "True or False"}[kind]
    if name == "genome":
        words = "the name of an assembly or a path"
    elif RunOptions.__dataclass_fields__[name].metadata.get("path"):
        words = "the path of a file"
    elif name == "exclude_chroms":
        words = "text, or a list of names"
    return words + (" or None" if "None" in annotation else "")


def _remedy(name: str, kind: str) -> str:
    if name == "genome":
        return "pass the name or a chrom.sizes file; a Genome object goes to pp.import_fragments"
    if name == "whitelist":
        return "write the barcodes to a file, one a line; a list goes to pp.import_fragments"
    return {
        "str": "pass it as a string",
        "int": "pass it as an int",
        "float": "pass it as a number, without quotes",
        "bool": "pass one of the two",
    }[kind]


def check_options(
    options: RunOptions, *, n_samples: int, device: str, todo: Sequence[str], given: Collection[str] = ()
) -> None:
    """Raise for values out of range, and for options that do not fit the samples or the device; ``given`` are those set now."""
    _check_files(options)
    check.integer("min_fragments", options.min_fragments, 0)
    if options.max_fragments is not None:
        check.integer("max_fragments", options.max_fragments, options.min_fragments)
    for name in ("min_tsse", "max_frac_mito", "max_nucleosome_signal", "max_blacklist_fraction"):
        value = getattr(options, name)
        if value is not None and not math.isfinite(value):
            msg = f"{name} must be a finite number, got {value!r}; leave it out to ask nothing."
            raise InputError(msg)
    for name in ("bin_size", "n_features", "n_comps"):
        check.integer(name, getattr(options, name), 1)
    for name in ("lower_quantile", "upper_quantile"):
        check.between(name, getattr(options, name), 0, 1)
    if options.lower_quantile + options.upper_quantile >= 1:
        msg = (
            f"lower_quantile + upper_quantile must be below 1, got {options.lower_quantile:g} + {options.upper_quantile:g}; "
            "lower one of them (--lower-quantile, --upper-quantile)."
        )
        raise InputError(msg)
    check.between("resolution", options.resolution, 0)
    check.between("expected_doublet_rate", options.expected_doublet_rate, 1e-6, 0.9)
    if options.n_neighbors is not None:
        check.integer("n_neighbors", options.n_neighbors, 1)
    check.integer("seed", options.seed, 0, 2**32 - 1)
    check.integer("gene_upstream", options.gene_upstream, 0)
    check.between("min_dist", options.min_dist, 0, 1)  # UMAP's spread
    if options.sample_size is not None:
        check.integer("sample_size", options.sample_size, options.n_comps + 1)
    _check_by_cluster(options)
    if options.max_blacklist_fraction is not None and options.blacklist is None:
        msg = "max_blacklist_fraction needs a blacklist; pass blacklist=BED (--blacklist) or leave it out."
        raise InputError(msg)
    asked = "min_tsse" in given or options.min_tsse != defaults()["min_tsse"]
    if asked and options.min_tsse > 0 and options.genes is None and "cells" in todo:
        msg = (
            f"min_tsse={options.min_tsse:g} needs genes, whose TSSs it is measured at; pass genes=GTF (--genes) or leave it out "
            "(min_tsse=0, --min-tsse 0, asks nothing)."
        )
        raise InputError(msg)
    if options.batch_correction == "harmony" and n_samples < 2:
        msg = "batch_correction='harmony' needs several samples, got one; give more files or leave it out."
        raise InputError(msg)
    if options.leiden_flavor == "cugraph" and device == "cpu" and "leiden" in todo:
        msg = (
            "leiden_flavor='cugraph' needs a GPU, got device 'cpu'; pass device='gpu' (--device gpu) where there is one, or "
            "leiden_flavor='igraph' (--leiden-flavor igraph)."
        )
        raise InputError(msg)


def _check_by_cluster(options: RunOptions) -> None:
    check.between("peak_qvalue", options.peak_qvalue, LEAST_P, 1)
    if options.peak_max_frag_size is not None:
        check.integer("peak_max_frag_size", options.peak_max_frag_size, 1)
    check.integer("peak_min_cells", options.peak_min_cells, 0)
    check.integer("peak_half_width", options.peak_half_width, 0, 2**28)
    if options.marker_pvalue is not None:
        check.between("marker_pvalue", options.marker_pvalue, 0, 1)
    check.integer("coverage_bin_size", options.coverage_bin_size, 1, 2**31 - 1)


def _check_files(options: RunOptions) -> None:
    for f in fields(options):
        value = getattr(options, f.name)
        if allowed := choices(f.name):
            check.one_of(f.name, value, allowed)
        if f.metadata.get("path") and value is not None:
            check.existing_file(Path(value), f.name)
            if Path(value).is_dir():
                msg = f"{f.name} {value} is a folder; allowed: a file; pass the file's path."
                raise InputError(msg)
    if options.genome is None:
        msg = "genome is not given; allowed: hg38, hg19, mm10, mm39, or a chrom.sizes, .fai or FASTA file: pass genome=... (--genome)."
        raise InputError(msg)
