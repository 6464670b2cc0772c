"""What to train a denoiser on, as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpuatac import check
from gpuatac.core.track_source import HALF_WIDTH
from gpuatac.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Fields that name files, several or one.
FILES, FILE = ("clean", "noisy", "peaks", "h5", "intervals", "inputs"), ("groups", "blacklist")
#: What data each option is for, where it is not for all; and those that need to know where examples lie.
FOR = {
    "noisy": ("tracks", "h5"), "peaks": ("tracks", "cells"), "peak_cutoff": ("tracks", "cells"), "intervals": ("h5",),
    "cells": ("cells",), "groupby": ("cells",), "groups": ("cells",), "selections": ("cells",), "blacklist": ("cells",),
    "noisy_depth": ("tracks", "h5"),
}  # fmt: skip
NEED_PLACES = (
    "noisy", "thin", "genome", "train_chroms", "val_chroms", "holdout_chroms", "val_fraction", "target_depth",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingData:
    """What a denoiser is trained on: deep tracks, AtacWorks' HDF5 files, or groups of cells; one of the three.

    Attributes
    ----------
    clean
        Tracks of deep libraries at single bases: bigWig or bedGraph. Without ``noisy`` they are thinned.
    noisy
        Tracks of shallow libraries, one for each clean one or all of one.
    peaks
        BED of the clean tracks' peaks, one for all or one for each; by default they are where coverage has p < 0.001 under a Poisson
        law of the chromosome's mean.
    peak_cutoff
        Or the clean coverage that makes a peak, of 200 bp or more with gaps of 30.
    h5
        AtacWorks' HDF5 files of examples: one to train on and one to validate on.
    intervals
        Of ``h5``: where the examples lie, one BED file for each; needed to thin them (with ``noisy`` where rows were left out).
    inputs
        An .h5ad written by gpuatac, or fragment files; all cells of a group are its deep library.
    groupby
        Of cells: column of the .h5ad's cells, or of ``groups``, that holds the groups.
    groups
        Of cells: table of barcode (or sample#barcode) and group.
    selections
        Of cells: groups to train on; by default all.
    cells
        Draw so many random cells of a group instead of thinning its reads, such as 1 5 10 50.
    blacklist
        Of cells: leave out fragments that overlap the regions of this BED file.
    thin
        Thin the clean data to these depths in reads, anew for each example; by default to any depth within the recipe's.
    genome
        hg38, hg19, mm10, mm39, or a chrom.sizes file; an .h5ad and a bigWig say it themselves.
    contigs
        Chromosomes to keep: "main" (default) or "all".
    clean_depth
        Reads of the whole deep library, where a file holds a part of it: one, or one for each.
    noisy_depth
        Reads of the whole noisy library, likewise.
    target_depth
        Depth in reads that clean coverage is scaled to; by default the median of the clean libraries.
    train_chroms
        Chromosomes to train on; by default the other autosomes.
    val_chroms
        Chromosomes to choose the best epoch by; by default chr20 of human, chr11 of mouse.
    holdout_chroms
        Chromosomes that are not looked at; by default chr10.
    val_fraction
        Instead of chromosomes hold out this share of the training ones, in random blocks of 208 kb.
    half_width
        Bases on each side of a cut that coverage counts; 5 to learn footprints.
    pad
        Padding of the rows of ``h5``, in bp, or of the examples instead of the recipe's.

    Examples
    --------
    >>> from gpuatac.workflow import TrainingData
    >>> TrainingData(clean="deep.bw", clean_depth=80e6, thin=[1e6, 5e6]).kind()
    'tracks'
    """

    clean: str | Path | Sequence[str | Path] = ()
    noisy: str | Path | Sequence[str | Path] = ()
    peaks: str | Path | Sequence[str | Path] = ()
    peak_cutoff: float | None = None
    h5: str | Path | Sequence[str | Path] = ()
    intervals: str | Path | Sequence[str | Path] = ()
    inputs: str | Path | Sequence[str | Path] = ()
    groupby: str | None = None
    groups: str | Path | None = None
    selections: Sequence[str] | None = None
    cells: int | Sequence[int] = ()
    blacklist: str | Path | None = None
    thin: Sequence[float] = ()
    genome: str | Path | None = None
    contigs: Literal["main", "all"] | None = None
    clean_depth: float | Sequence[float] | None = None
    noisy_depth: float | Sequence[float] | None = None
    target_depth: float | None = None
    train_chroms: Sequence[str] | None = None
    val_chroms: Sequence[str] | None = None
    holdout_chroms: Sequence[str] | None = None
    val_fraction: float | None = None
    half_width: int = HALF_WIDTH
    pad: int | None = None

    def kind(self) -> str:
        """ "tracks", "h5" or "cells"; raises unless exactly one of them is given, with options that are for it."""
        given = [name for name, value in (("tracks", self.clean), ("h5", self.h5), ("cells", self.inputs)) if value]
        if len(given) != 1:
            msg = (
                f"{' and '.join(given) or 'nothing'} to train on; allowed: one of clean tracks (--clean, with --noisy or without), "
                "AtacWorks' HDF5 files (--h5), or cells (an .h5ad or fragment files); give one of them."
            )
            raise InputError(msg)
        self._only(given[0], FOR)
        if given[0] == "h5" and not self.intervals:
            self._only("h5", dict.fromkeys(NEED_PLACES, ("tracks", "cells", "h5 with --intervals")))
        return given[0]

    def _only(self, kind: str, allowed: Mapping[str, Sequence[str]]) -> None:
        """Raise where an option is given that this kind of data has no use for."""
        for name, kinds in allowed.items():
            value = getattr(self, name)
            if value is not None and value not in ((), []) and kind not in kinds:
                flag = "--select" if name == "selections" else f"--{name.replace('_', '-')}"
                msg = f"{name} ({flag}) is given and training is on {kind}; allowed: with {' or '.join(kinds)}; leave it out."
                raise InputError(msg)


@dataclass(frozen=True)
class Asked(TrainingData):
    """Training data in one form: lists of paths and of depths, with the seed and the device of the job."""

    clean: Sequence[Path] = ()
    noisy: Sequence[Path] = ()
    peaks: Sequence[Path] = ()
    h5: Sequence[Path] = ()
    intervals: Sequence[Path] = ()
    inputs: Sequence[Path] = ()
    groups: Path | None = None
    cells: Sequence[int] = ()
    blacklist: Path | None = None
    genome: str | None = None
    clean_depth: Sequence[float] | None = None
    noisy_depth: Sequence[float] | None = None
    seed: int = 0
    device: str = "auto"

    @classmethod
    def of(cls, data: TrainingData, *, pad: int | None, seed: int, device: str) -> Asked:
        """What was asked for, with ``pad`` where the data do not say one."""
        values: dict[str, Any] = {field.name: getattr(data, field.name) for field in fields(TrainingData)}
        for name in FILES:
            values[name] = [Path(path) for path in _several(values[name])]
        for name in FILE:
            values[name] = None if values[name] is None else Path(values[name])
        for name in ("clean_depth", "noisy_depth"):
            values[name] = None if values[name] is None else list(_several(values[name]))
        values["cells"] = [check.integer("cells", number, 1) for number in _several(data.cells)]
        values["genome"] = None if data.genome is None else str(data.genome)
        values["pad"] = pad if data.pad is None else data.pad
        return cls(**values, seed=seed, device=device)


def _several(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, str | Path | float | int) else value
