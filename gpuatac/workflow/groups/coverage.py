"""The job behind ``gpuatac coverage``: groups of cells, or bulk samples, to tracks in files."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuatac import ex, slots
from gpuatac.io.tracks.outputs import file_names, format_of, suffix_of
from gpuatac.workflow.groups.shared import Written, check_targets, files_named, read_cells, refuse_unknown
from gpuatac.workflow.signatures import also_takes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.backend import Device

NOT_OF_COVERAGE = ("adata", "groupby", "out_dir")
FILES = ("blacklist", "include_for_norm", "exclude_for_norm")


@also_takes(ex.export_coverage, without=NOT_OF_COVERAGE)
def coverage(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    groupby: str | None = None,
    groups: str | Path | None = None,
    genome: str | Path | None = None,
    contigs: Literal["main", "all"] | None = None,
    names: Sequence[str] | None = None,
    bulk: bool = False,
    bam_options: Mapping[str, Any] | None = None,
    device: Device = "auto",
    memory: str | int | None = None,
    force: bool = False,
    **options: Any,
) -> Written:
    """Coverage tracks of your own groups of cells, or of bulk samples.

    Writes into ``out``: one file for each group; all take their places together at the end.

    Parameters
    ----------
    inputs, out, groupby, groups, genome, contigs, names, bulk, bam_options, device, memory, force
        As in ``peaks``.
    options
        Any other keyword of ``ex.export_coverage``, such as bin_size, normalization or selections.

    Returns
    -------
    Written
        Paths and numbers of cells.

    Raises
    ------
    OutputExistsError, InputError
        As in ``peaks``.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.workflow.coverage("sample.bed.gz", "tracks", genome="hg38", normalization="CPM")  # doctest: +SKIP
    """
    refuse_unknown(options, [name for name in signature(ex.export_coverage).parameters if name not in NOT_OF_COVERAGE])
    suffix = options.get("suffix")
    if suffix is None:
        suffix = suffix_of(options.get("output_format"), options.get("compression"))
    format_of(suffix, options.get("output_format"))
    given, paths = read_cells(inputs, out, device=device, memory=memory, files=files_named(options, FILES), groupby=groupby,
                         groups=groups, replicate=None, genome=genome, contigs=contigs, names=names, bulk=bulk,
                         bam_options=bam_options)  # fmt: skip
    found, codes = slots.groups_of(given.adata, given.groups, options.get("selections"))
    targets = [Path(out) / name for name in file_names(found, options.get("prefix", ""), suffix)]
    check_targets(targets, paths, force=force)
    files = ex.export_coverage(given.adata, given.groups, out_dir=out, **options)
    sizes = np.bincount(codes[codes >= 0], minlength=len(found))
    return Written(
        {name: Path(path) for name, path in files.items()},
        {name: int(n) for name, n in zip(found, sizes, strict=True)},
    )
