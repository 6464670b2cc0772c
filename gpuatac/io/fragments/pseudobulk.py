"""Fragments of groups of an AnnData's cells: read once, kept by group, in memory or beyond the limit on disk."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuatac.backend.protocol import GroupEnds
from gpuatac.core.counting.counts import LOADING_BYTES
from gpuatac.core.tracks import pseudobulk
from gpuatac.core.tracks.pseudobulk import FragmentFilter, GroupedSample, Totals
from gpuatac.errors import InputError
from gpuatac.fragments import Fragments
from gpuatac.io.files.scratch import new_scratch
from gpuatac.io.fragments.attach import attached, genome_of, path_of, records_of
from gpuatac.io.fragments.store import backend_holding, is_store
from gpuatac.threads import COUNTING_THREAD, get_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from anndata import AnnData

    from gpuatac.backend.protocol import Backend

KEPT_SHARE = 4  # ends stay in memory up to this part of the limit
END_BYTES = 8  # both ends of a fragment


class Pseudobulks:
    """The ends of each group's fragments, chromosome by chromosome. A context manager: scratch files go with it.

    Attributes
    ----------
    bk
        The backend the ends lie on.
    codes
        Chromosomes that have fragments, ascending (names in byte order).
    n_groups
        Number of groups.
    totals
        Rows, bases and copies of each group.
    """

    def __init__(
        self,
        adata: AnnData,
        group_of_row: np.ndarray,
        n_groups: int,
        *,
        keep: FragmentFilter,
        weighted: bool = False,
        insertions: bool = False,
        codes: Sequence[int] | None = None,
    ) -> None:
        self.bk, self.samples, self._scratch_parent = grouped_samples(adata, group_of_row)
        self.genome = genome_of(adata)
        self.n_groups = n_groups
        self._make = partial(
            pseudobulk.ends_of,
            self.bk,
            self.samples,
            keep=keep,
            n_groups=n_groups,
            weighted=weighted,
            insertions=insertions,
        )
        present = {code for s in self.samples for code, _ in s.fragments.chromosomes()}
        self.codes = sorted(present if codes is None else present & set(codes))
        self._held: dict[int, GroupEnds] = {}
        self._lock = Lock()
        self._bytes = 0
        self._limit = self.bk.limit() // KEPT_SHARE
        self._scratch: Path | None = None
        self.totals = Totals(*(np.zeros(n_groups, np.int64) for _ in range(4)))

    def __enter__(self) -> Pseudobulks:
        try:
            for totals in self._each(self._collect, self.codes):
                self.totals = self.totals + totals
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.clear()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _each(self, work: Callable[[int], Any], codes: list[int]) -> list[Any]:
        """``work`` of each chromosome, the largest first; side by side on a CPU, as far as memory goes."""
        size = {
            c: sum(int(s.fragments.chrom_ptr[c + 1] - s.fragments.chrom_ptr[c]) for s in self.samples) for c in codes
        }
        order = sorted(codes, key=lambda c: -size[c])
        n_threads = 1 if self.bk.name == "gpu" else get_threads()
        if order:
            n_threads = max(1, min(n_threads, self.bk.limit() // 4 // max(1, size[order[0]] * LOADING_BYTES)))
        if n_threads == 1:
            return [work(code) for code in order]
        with ThreadPoolExecutor(n_threads, COUNTING_THREAD, initializer=self.bk.use) as pool:
            return list(pool.map(work, order))

    def _collect(self, code: int) -> Totals:
        ends = self._make(code)
        totals = pseudobulk.totals_of(self.bk, ends)
        n_bytes = sum(a.nbytes for a in ends[1:] if a is not None)
        with self._lock:
            on_disk = self._bytes + n_bytes > self._limit
            if not on_disk:
                self._bytes += n_bytes
            elif self._scratch is None:
                self._scratch = new_scratch(self._scratch_parent)
        self._held[code] = self._on_disk(code, ends) if on_disk else ends
        return totals

    def _on_disk(self, code: int, ends: GroupEnds) -> GroupEnds:
        """The same ends, as maps of scratch files."""
        assert self._scratch is not None
        maps = []
        for name, values in zip(ends._fields[1:], ends[1:], strict=True):
            if values is None or not values.size:
                maps.append(values)
                continue
            path = self._scratch / f"{code}.{name}.npy"
            np.save(path, self.bk.to_host(values))
            maps.append(np.load(path, mmap_mode="r"))
        return GroupEnds(ends.ptr, *maps)

    def ends(self, code: int) -> GroupEnds:
        """The ends on one chromosome, on the backend's device."""
        held = self._held[code]
        if self.bk.name == "cpu":  # a map of a file is read as it is used
            return held
        return GroupEnds(held.ptr, *(None if values is None else self.bk.asarray(values) for values in held[1:]))

    @property
    def sources(self) -> list[Callable[[], GroupEnds]]:
        """One function for each of ``codes`` that gives its ends."""
        return [partial(self.ends, code) for code in self.codes]


def grouped_samples(adata: AnnData, group_of_row: np.ndarray) -> tuple[Backend, list[GroupedSample], Path | None]:
    """Backend, samples with the group of each barcode, and where scratch files may lie."""
    parts = attached(adata)
    bk = backend_holding(parts[0].fragments)
    if any(backend_holding(part.fragments) is not bk for part in parts):
        msg = "the samples' fragments lie on different devices; move them with gpuatac.to_device first."
        raise InputError(msg)
    samples = []
    for part in parts:
        known = part.row_of_cell >= 0
        group = np.full(part.row_of_cell.size, -1, np.int32)
        group[known] = group_of_row[part.row_of_cell[known]]
        fragments = part.fragments.on(bk) if isinstance(part.fragments, Fragments) else part.fragments
        samples.append(GroupedSample(fragments, bk.asarray(group)))
    path = path_of(adata, records_of(adata)[0])
    return bk, samples, path.parent if is_store(path) else None
