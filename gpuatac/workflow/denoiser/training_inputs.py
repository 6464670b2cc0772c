"""What a denoiser is trained on: pairs of tracks, one deep source, groups of cells, or AtacWorks' HDF5 files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpuatac.backend import resolve
from gpuatac.errors import InputError
from gpuatac.io.genome.bed import regions_frame
from gpuatac.io.genome.sizes import read_genome
from gpuatac.io.tracks.atacworks_h5 import AtacworksH5, H5Tracks, Intervals
from gpuatac.io.tracks.file_tracks import FileTracks
from gpuatac.io.tracks.fragment_tracks import FragmentTracks
from gpuatac.workflow.groups.inputs import cells_and_groups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gpuatac.genome import Genome
    from gpuatac.nn.denoising.examples.from_tracks import Sample
    from gpuatac.nn.denoising.examples.noisy_inputs import NoisyInput, Track
    from gpuatac.nn.denoising.examples.splits import Split
    from gpuatac.nn.recipes import Recipe
    from gpuatac.workflow.denoiser.training_data import Asked

logger = logging.getLogger(__name__)
PUBLISHED_WIDTH, PUBLISHED_PAD = 60_000, 5_000
PIECE = 8_000_000  # bases looked at at a time
HALF_SHARE = 0.5  # of measured inputs where a recipe without thinning is asked to thin


class Material(NamedTuple):
    """Samples of one genome with their parts, or (``rows``) files of examples to train and to validate on."""

    samples: list[Sample]
    split: Split | None
    genome: Genome | None
    input_depth: float | None
    target_depth: float | None
    names: list[str]
    rows: tuple[list[AtacworksH5], list[AtacworksH5], int] | None = None


def material_of(asked: Asked, recipe: Recipe) -> Material:
    """Open what was asked for."""
    return {"tracks": _tracks, "h5": _h5, "cells": _cells}[asked.kind()](asked, recipe)


# ----------------------------------------------------------------------------------------------------- tracks


def _tracks(asked: Asked, recipe: Recipe) -> Material:
    genome = None if asked.genome is None else read_genome(asked.genome, contigs=asked.contigs or "main")  # type: ignore[arg-type]
    n_pairs = max(len(asked.clean), len(asked.noisy))
    if asked.noisy and len(asked.clean) not in (1, len(asked.noisy)):
        msg = (
            f"{len(asked.clean)} clean and {len(asked.noisy)} noisy tracks are given; allowed: one clean track, or one for each "
            "noisy one, in the same order."
        )
        raise InputError(msg)
    opened: list[FileTracks] = []
    for path, depth in zip(asked.clean, _each(asked.clean_depth, len(asked.clean), "clean"), strict=True):
        opened.append(_file(path, genome, depth, asked))
        genome = opened[0].genome
    noisy = [
        _file(path, genome, depth, asked)
        for path, depth in zip(asked.noisy, _each(asked.noisy_depth, len(asked.noisy), "noisy"), strict=True)
    ]
    codes = sorted({code for source in opened for code in source.codes})
    split = _split(asked, opened[0].genome, codes, opened)
    beds = _peaks_of(asked, len(opened), opened[0].genome)
    known = [
        _labels(source, split, bed, path.name, asked.peak_cutoff)
        for source, bed, path in zip(opened, beds, asked.clean, strict=True)
    ]
    pairs = []
    for k in range(n_pairs):
        at = k if len(opened) > 1 else 0
        pairs.append(
            (_track(opened[at]), known[at], _track(noisy[k]) if noisy else None, asked.noisy[k].name if noisy else "")
        )
    return _material(
        asked, recipe, pairs, split, opened[0].genome, [path.name for path in (*asked.clean, *asked.noisy)]
    )


def _file(path: Path, genome: Genome | None, depth: float | None, asked: Asked) -> FileTracks:
    return FileTracks(
        [path],
        genome=genome,
        depth=None if depth is None else [depth],
        half_width=asked.half_width,
        device=asked.device,  # type: ignore[arg-type]
    )


def _each(values: Sequence[float] | None, n: int, what: str) -> Sequence[float | None]:
    if values is None:
        return [None] * n
    if len(values) not in (1, n):
        msg = f"{len(values)} {what} depths for {n} {what} tracks; allowed: one for all, or one for each (--{what}-depth)."
        raise InputError(msg)
    return [float(v) for v in (values if len(values) == n else [values[0]] * n)]


def _peaks_of(asked: Asked, n: int, genome: Genome) -> list[dict[int, np.ndarray] | None]:
    from gpuatac.nn.denoising.examples.clean_peaks import peaks_of_bed

    if not asked.peaks:
        return [None] * n
    if len(asked.peaks) not in (1, n):
        msg = (
            f"{len(asked.peaks)} files of peaks for {n} clean tracks; allowed: one for all, or one for each (--peaks)."
        )
        raise InputError(msg)
    found = [peaks_of_bed(path, genome) for path in asked.peaks]
    return found if len(found) == n else found * n  # type: ignore[return-value]


def _labels(
    source: Any, split: Split, bed: dict[int, np.ndarray] | None, name: str, cutoff: float | None
) -> dict[int, np.ndarray]:
    """Peaks of a clean track outside the holdout: as given, by a cutoff, or by the Poisson rule."""
    from gpuatac.nn.contract import PeakRule
    from gpuatac.nn.denoising.examples.clean_peaks import peaks_of_track

    if bed is not None:
        return bed
    rule = None if cutoff is None else PeakRule(cutoff)
    found = peaks_of_track(source, sorted({*split.codes("train"), *split.codes("validation")}), rule=rule)
    how = f"coverage of {cutoff:g} or more" if cutoff is not None else "p < 0.001 against the mean of the chromosome"
    logger.info("%s: %d peaks (%s)", name, sum(map(len, found.values())), how)
    return found


# ------------------------------------------------------------------------------------------------------ cells


def _cells(asked: Asked, recipe: Recipe) -> Material:
    given = cells_and_groups(
        list(asked.inputs),
        groupby=asked.groupby,
        groups=asked.groups,
        replicate=None,
        genome=asked.genome,
        contigs=asked.contigs,
        names=None,
        bulk=False,
        bam={},
        device=asked.device,
    )
    names = list(map(str, given.groups.categories))
    if asked.selections is not None:
        absent = [name for name in asked.selections if name not in names]
        if absent:
            msg = f"{len(absent)} groups are not there ({', '.join(absent[:3])}); allowed: {', '.join(names[:8])}; correct --select."
            raise InputError(msg)
        names = [name for name in names if name in asked.selections]
    members = [np.flatnonzero(np.asarray(given.groups == name)) for name in names]
    kept = [k for k, rows in enumerate(members) if len(rows) > max(asked.cells, default=0)]
    if len(kept) < len(names):
        left = [names[k] for k in range(len(names)) if k not in kept]
        logger.warning("%d groups have too few cells and are left out: %s", len(left), ", ".join(left[:5]))
    options: dict[str, Any] = {"half_width": asked.half_width, "blacklist": asked.blacklist}
    sources = {k: FragmentTracks(given.adata, [members[k]], [names[k]], **options) for k in kept}
    if not asked.cells:
        lowest = min(asked.thin) if asked.thin else recipe.depth[0]
        deep = [k for k in kept if float(sources[k].depth[0]) > lowest]
        if deep and len(deep) < len(kept):
            logger.warning(
                "%d groups have fewer reads than the lowest depth of %.3g and are left out",
                len(kept) - len(deep),
                lowest,
            )
        kept = deep or kept
    if not kept:
        msg = (
            f"no group has more than {max(asked.cells, default=0)} cells; allowed: groups with more cells than are drawn; draw fewer "
            "(--cells) or name larger groups (--groupby)."
        )
        raise InputError(msg)
    first = sources[kept[0]]
    split = _split(
        asked, first.genome, sorted({code for k in kept for code in sources[k].codes}), [sources[k] for k in kept]
    )
    beds = _peaks_of(asked, len(kept), first.genome)
    pairs = []
    drawn: list[NoisyInput | None] = []
    depths = _each(asked.clean_depth, len(kept), "clean")
    for k, bed, depth in zip(kept, beds, depths, strict=True):
        pairs.append(
            (_track(sources[k], depth), _labels(sources[k], split, bed, names[k], asked.peak_cutoff), None, "")
        )
        drawn.append(_drawn_cells(asked, given.adata, members[k], options))
    used = [path.name for path in asked.inputs] + [names[k] for k in kept]
    return _material(asked, recipe, pairs, split, first.genome, used, drawn)


def _drawn_cells(asked: Asked, adata: Any, members: np.ndarray, options: dict[str, Any]) -> NoisyInput | None:
    from gpuatac.nn.denoising.examples.noisy_inputs import Cells

    return Cells(adata, members, asked.cells, seed=asked.seed, **options) if asked.cells else None


# --------------------------------------------------------------------------------------------------------- h5


def _h5(asked: Asked, recipe: Recipe) -> Material:
    files = [AtacworksH5.open(path) for path in asked.h5]
    names = [path.name for path in asked.h5]
    if not asked.intervals:
        if len(files) != 2:
            msg = (
                f"{len(files)} HDF5 files without intervals are given; allowed: one to train on and one to validate on, in this order, "
                "or any number with their intervals (--intervals)."
            )
            raise InputError(msg)
        pad = asked.pad
        if pad is None:
            pad = PUBLISHED_PAD if files[0].width == PUBLISHED_WIDTH else 0
            logger.info("the examples are taken to have %d bp of padding on each side (--pad)", pad)
        noisy_depth = _one(asked.noisy_depth)
        return Material([], None, None, noisy_depth, _one(asked.clean_depth), names, ([files[0]], [files[1]], pad))
    if len(asked.intervals) != len(files):
        msg = f"{len(asked.intervals)} files of intervals for {len(files)} HDF5 files; give one for each, in the same order."
        raise InputError(msg)
    if asked.genome is None:
        msg = "genome is not given; allowed: hg38, hg19, mm10, mm39, or a chrom.sizes file; pass --genome."
        raise InputError(msg)
    depths = _one(asked.noisy_depth), _one(asked.clean_depth)
    if None in depths:
        msg = (
            "HDF5 files do not say how deep their libraries are; give the reads of both (--noisy-depth, --clean-depth)."
        )
        raise InputError(msg)
    genome = read_genome(asked.genome, contigs=asked.contigs or "main")  # type: ignore[arg-type]
    noisy = _file(asked.noisy[0], genome, depths[0], asked) if asked.noisy else None
    at, pads = [], []
    for file, bed in zip(files, asked.intervals, strict=True):
        frame = regions_frame(bed)
        pads.append((file.width - int(frame["end"].iloc[0] - frame["start"].iloc[0])) // 2)
        at.append(Intervals.read(file, bed, genome, pad=pads[-1], noisy=noisy))
    if len(set(pads)) > 1:
        msg = f"the HDF5 files have {', '.join(map(str, sorted(set(pads))))} bp of padding; allowed: one; train on files of one kind."
        raise InputError(msg)
    bk = resolve(asked.device)  # type: ignore[arg-type]
    options: dict[str, Any] = {"genome": genome, "bk": bk, "half_width": asked.half_width, "pad": pads[0]}
    shallow = H5Tracks(files, at, what="noisy", depth=depths[0], **options)  # type: ignore[arg-type]
    deep = H5Tracks(files, at, what="clean", depth=depths[1], **options)  # type: ignore[arg-type]
    split = _h5_split(asked, genome, deep, at)
    pair = (_track(deep), deep.peaks(), _track(shallow), "noisy")
    return _material(asked, recipe, [pair], split, genome, names)


def _one(values: Sequence[float] | None) -> float | None:
    return None if values is None else float(values[0])


def _h5_split(asked: Asked, genome: Genome, deep: H5Tracks, at: list[Intervals]) -> Split:
    """As asked; else two files are to train on and to validate on."""
    from gpuatac.nn.denoising.examples.splits import Split

    chosen = (asked.val_chroms, asked.val_fraction, asked.train_chroms, asked.holdout_chroms)
    if len(at) != 2 or any(one is not None for one in chosen):
        return _split(asked, genome, deep.codes, [deep])
    train, held = (tuple(sorted(set(one.code.tolist()))) for one in at)
    blocks = {}
    for code in set(train) & set(held):
        start = np.sort(at[1].start[at[1].code == code])
        blocks[int(code)] = np.stack([start, start + at[1].length], axis=1)
    return Split(train, tuple(code for code in held if code not in train), (), blocks)


# ----------------------------------------------------------------------------------------------------- shared


def _track(source: Any, depth: float | None = None) -> Track:
    from gpuatac.nn.denoising.examples.noisy_inputs import Track

    return Track(source, 0, depth)


def _split(asked: Asked, genome: Genome, codes: Sequence[int], sources: Sequence[Any]) -> Split:
    from gpuatac.nn.denoising.examples.splits import split_genome

    extents = None
    if asked.val_fraction is not None:
        extents = {code: found for code in codes if (found := _extent(sources, code, int(genome.sizes[code])))}
    return split_genome(
        genome,
        codes,
        train=asked.train_chroms,
        validation=asked.val_chroms,
        holdout=asked.holdout_chroms,
        fraction=asked.val_fraction,
        extents=extents,
        seed=asked.seed,
    )


def _extent(sources: Sequence[Any], code: int, size: int) -> tuple[int, int] | None:
    """The first base with coverage in any source and the end of the last one, looked for from both ends."""
    low, high = size, 0
    for source in sources:
        starts = range(0, size, PIECE)
        for start in starts:
            stop = min(start + PIECE, size)
            inside = _covered(source, code, start, stop)
            if inside is not None:
                low = min(low, inside[0])
                break
        for start in reversed(starts):
            inside = _covered(source, code, start, min(start + PIECE, size))
            if inside is not None:
                high = max(high, inside[1])
                break
    return (low, high) if low < high else None


def _covered(source: Any, code: int, start: int, stop: int) -> tuple[int, int] | None:
    """Ends of what is not empty in [start, stop)."""
    low, high = start, stop
    for a, b in np.asarray(source.empty(code, start, stop)).reshape(-1, 2).tolist():
        low = b if a <= low else low
        if b >= stop:
            high = a
    return (low, high) if low < high else None


def _material(
    asked: Asked,
    recipe: Recipe,
    pairs: Sequence[tuple[Track, dict[int, np.ndarray], Track | None, str]],
    split: Split,
    genome: Genome,
    names: list[str],
    drawn: list[NoisyInput | None] | None = None,
) -> Material:
    """Samples of (clean track, its peaks, a measured noisy one or None, its name), scaled to one depth."""
    from gpuatac.nn.denoising.examples.from_tracks import Sample
    from gpuatac.nn.denoising.examples.noisy_inputs import Measured

    depths = [clean.depth for clean, *_ in pairs]
    target = float(np.median(depths)) if asked.target_depth is None else asked.target_depth
    samples, seen = [], []
    for k, (clean, peaks, measured, name) in enumerate(pairs):
        noisy: list[tuple[NoisyInput, float]] = []
        cells = drawn[k] if drawn is not None else None
        share = 1.0 if measured is not None else 0.0
        if measured is not None:
            share = HALF_SHARE if asked.thin and recipe.real_share == 1 else recipe.real_share
            if share < 1 and not clean.source.has_cuts and not asked.thin:
                logger.warning("%s cannot be thinned; its noisy tracks are used alone", clean.source.groups[clean.row])
                share = 1.0
            if share > 0:
                noisy.append((Measured(measured, f"{name} ({measured.depth / 1e6:.3g}M)"), share))
                seen.append(measured.depth)
        if cells is not None:
            noisy.append((cells, 1.0))
            seen += [-1.0, -2.0]  # many depths
        elif share < 1:
            thin = _thinned(asked, recipe, clean)
            noisy.append((thin, 1 - share))
            seen += list(thin.depths or thin.depth)
        only = measured if len(noisy) == 1 and measured is not None else None
        samples.append(Sample(clean, peaks, noisy, target / clean.depth, only))
    input_depth = float(np.mean(seen)) if max(seen) <= 1.01 * min(seen) else None
    return Material(samples, split, genome, input_depth, target, names)


def _thinned(asked: Asked, recipe: Recipe, clean: Track) -> Any:
    from gpuatac.nn.denoising.examples.noisy_inputs import Thinned

    depths = tuple(map(float, asked.thin)) or recipe.depths
    low, high = (depth / clean.denser for depth in recipe.depth)
    return Thinned(clean, depth=(low, high), depths=depths, paired=recipe.paired)
