"""Going on from a step of an earlier run: which file, which steps, and whether the options fit what is kept."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import check, slots
from gpuatac.device import to_device
from gpuatac.errors import InputError, MissingFileError
from gpuatac.io.fragments.attach import records_of, set_records
from gpuatac.io.matrices.h5ad import read_for
from gpuatac.options import STEP_NAMES, UNTIL, RunOptions, defaults
from gpuatac.workflow.main_job import by_cluster, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from gpuatac.workflow.main_job.checks import Places

RUN = "run"  # uns: JSON of the options
RUN_ID = "run_id"  # uns: hex, new with each writing of the checkpoint
ORDER = ("import", *STEP_NAMES)
#: What the quality measures write; gone when they are computed again with other files.
QUALITY_OBS = (slots.TSSE, slots.NUCLEOSOME_SIGNAL, slots.BLACKLIST_FRACTION)
QUALITY_UNS = (slots.TSS_PROFILE, slots.LIBRARY_TSSE, slots.FRAC_OVERLAP_TSS, slots.FRAG_SIZE_DISTR)


@dataclass(frozen=True)
class Stored:
    """What an .h5ad of a run says about it."""

    options: RunOptions
    run_id: str
    samples: list[str]
    fewest: int  # fragments of a barcode that its import kept


def plan(from_step: str, places: Places, samples: Sequence[str], given: dict[str, Any]) -> tuple[RunOptions, list[str]]:
    """The options of the earlier run with those given now in their place, and the steps to do."""
    check.one_of("from_step", from_step, steps.RESTARTS)
    if not places.checkpoint.exists():
        msg = (
            f"there is no earlier run to go on from: {places.checkpoint} does not exist; run once without from_step (--from), "
            "or give the files and names of that run."
        )
        raise MissingFileError(msg)
    kept = stored_in(places.checkpoint)
    if kept is None:
        msg = f"{places.checkpoint} was not written by gpuatac run; run again without from_step (--from), with force=True (--force)."
        raise InputError(msg)
    if sorted(samples) != sorted(kept.samples):
        msg = (
            f"the earlier run in {places.folder} has the samples {', '.join(kept.samples)}, got {', '.join(samples)}; give the "
            "same files and names (--names), or run again without from_step (--from), with force=True (--force)."
        )
        raise InputError(msg)
    finished = stored_in(places.final) if places.final.exists() else None
    start = "cells" if from_step in steps.FROM_QUALITY else from_step
    if start not in ("qc", "cells"):
        _check_final(from_step, places, finished, kept)
    same_run = finished is not None and finished.run_id == kept.run_id
    earlier = finished.options if finished is not None and same_run else kept.options
    options = _reaching(from_step, earlier, replace(earlier, **given), given)
    _check_changes(earlier, options, given, start=start, from_step=from_step, fewest=kept.fewest)
    return options, steps_from(start, options)


def steps_from(start: str, options: RunOptions) -> list[str]:
    """The steps from ``start`` to where ``options.until`` ends, without the figures."""
    last = ORDER.index(UNTIL[options.until])
    return list(ORDER[ORDER.index(start) : last + 1])


def _reaching(from_step: str, earlier: RunOptions, options: RunOptions, given: dict[str, Any]) -> RunOptions:
    """The options with ``until`` no earlier than the step to go on from."""
    if from_step not in by_cluster.STEPS:
        return options
    if from_step == "coverage" and earlier.until == "clusters":
        msg = (
            "from_step='coverage' needs an earlier run that went on to its peaks, and that one ended at the clusters; go on from "
            "'peaks' (--from peaks)."
        )
        raise InputError(msg)
    if ORDER.index(from_step) <= ORDER.index(UNTIL[options.until]):
        return options
    if "until" in given:
        msg = (
            f"from_step={from_step!r} lies behind until={options.until!r}; allowed: a step that is done; leave one of them out "
            "(--from, --until)."
        )
        raise InputError(msg)
    return replace(options, until=defaults()["until"])


def stored_in(path: Path) -> Stored | None:
    """What ``path`` says about its run, read without its matrices; None when it was not written by a run."""
    import h5py
    from anndata.io import read_elem

    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        uns = file.get("uns", {})
        if any(key not in uns for key in (RUN, RUN_ID, slots.FRAGMENTS, slots.HISTORY)):
            return None
        options = json.loads(read_elem(uns[RUN]))
        run_id = str(read_elem(uns[RUN_ID]))
        records = np.atleast_1d(read_elem(uns[slots.FRAGMENTS]["samples"]))
        history = [json.loads(str(r)) for r in np.atleast_1d(read_elem(uns[slots.HISTORY]))]
    known = defaults()
    fewest = [r["parameters"]["min_num_fragments"] for r in history if r["verb"] == "pp.import_fragments"]
    return Stored(
        RunOptions(**{k: v for k, v in options.items() if k in known}),
        run_id,
        [json.loads(str(r))["sample"] for r in records],
        int(fewest[0]),
    )


def _check_final(from_step: str, places: Places, finished: Stored | None, kept: Stored) -> None:
    if not places.final.exists():
        msg = f"{places.final} does not exist, so there is no finished step before {from_step!r}; go on from 'cells' instead."
        raise MissingFileError(msg)
    if finished is None or finished.run_id != kept.run_id:
        msg = (
            f"{places.final.name} and {places.checkpoint.name} in {places.folder} are of two runs (the later one did not "
            f"finish), so {from_step!r} cannot go on; allowed: both of one run; go on from 'cells' (--from cells), or run again "
            "with force=True (--force)."
        )
        raise InputError(msg)


def _check_changes(
    earlier: RunOptions, now: RunOptions, given: dict[str, Any], *, start: str, from_step: str, fewest: int
) -> None:
    """Raise when an option that was changed belongs to a step that would not be done again."""
    changed = []
    for f in fields(RunOptions):
        before, after = getattr(earlier, f.name), getattr(now, f.name)
        further = f.name == "until" and (before, after) == ("peaks", "coverage")
        step = "coverage" if further else f.metadata["step"]
        if f.name in given and not _same(f, before, after) and ORDER.index(step) < ORDER.index(start):
            changed.append((f.name, before, after, step))
    if now.min_num_fragments < fewest:
        name = "call_cells" if now.call_cells != "none" and "call_cells" in given else "min_fragments"
        msg = (
            f"{name}={getattr(now, name)!r} needs barcodes from {now.min_num_fragments} fragments, and the import of the earlier run "
            f"left out those below {fewest}; run again without from_step (--from), with force=True (--force)."
        )
        raise InputError(msg)
    if not changed:
        return
    first = min((step for *_, step in changed), key=ORDER.index)
    told = ", ".join(
        f"{n} (--{n.replace('_', '-')}) was {before!r} and is {after!r}" for n, before, after, _ in changed
    )
    remedy = (
        "run again without from_step (--from), with force=True (--force)"
        if first == "import"
        else f"go on from {first!r} (--from {first})"
    )
    msg = f"{told}; from {from_step!r} only options of that step and later ones can change: {remedy}, or leave the option out."
    raise InputError(msg)


def _same(f: Any, before: Any, after: Any) -> bool:
    if before == after:
        return True
    is_path = f.metadata.get("path") or f.name == "genome"
    return bool(is_path and before and after and Path(before).resolve() == Path(after).resolve())


def load(places: Places, from_step: str, todo: list[str], device: Literal["cpu", "gpu"]) -> AnnData:
    """The cells to go on with, their arrays and fragments on ``device``."""
    adata = read_for(places.checkpoint if {"qc", "cells"} & set(todo) else places.final, device)
    fragments_on(adata, device)
    if device == "gpu":
        to_device(adata)
    if "qc" in todo:
        adata.obs = adata.obs.drop(columns=[c for c in QUALITY_OBS if c in adata.obs])
        for key in QUALITY_UNS:
            adata.uns.pop(key, None)
    outdated = by_cluster.outdated(from_step)
    steps.forget_skipped(adata, [*todo, *outdated])
    if "peaks" in outdated:
        by_cluster.forget_peaks(adata)
    return adata


def fragments_on(adata: AnnData, device: str) -> None:
    """Let the fragments be read to ``device``."""
    records = records_of(adata)
    for record in records:
        record["device"] = device
    set_records(adata, records, str(adata.uns[slots.FRAGMENTS].get("base", "")))
