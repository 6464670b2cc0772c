"""Deep bulk libraries with peaks of every shape, which denoisers are trained on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gpuatac import check
from gpuatac.io.files.atomic import replacing
from gpuatac.progress import bar
from gpuatac.simulate import library_model
from gpuatac.simulate.files import checked_prefix, write_fragments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuatac.simulate.files import Window


class Library(NamedTuple):
    """Files of a simulated library, its fragments, and the depth in reads that it has as a part of a human genome."""

    fragments: Path
    chrom_sizes: Path
    n_fragments: int
    depth: float


def simulate_library(
    prefix: str | Path, *, n_chroms: int = 20, chrom_size: int = 10_000_000, seed: int = 0, force: bool = False
) -> Library:
    """Write one deep bulk library with peaks of every shape, to train denoisers on.

    Writes  PREFIX.fragments.tsv.gz (BGZF, one barcode "library", one copy each), PREFIX.chrom.sizes.

    Density, height and width of the peaks and the patchiness of the background differ from chromosome to chromosome, so that
    what is learnt is not one library. The depth is that of ``Library.depth`` reads over a human genome, some 26 reads a kb. The
    same arguments give the same files. Cost: about 1 s for 10 Mb.

    Parameters
    ----------
    prefix
        Path and start of the names of the two files; its folder is made where there is none.
    n_chroms, chrom_size
        Chromosomes, named sim1, sim2, ..., and bp of each, from 100 kb.
    seed
        Of everything random.
    force
        Replace files that exist.

    Raises
    ------
    InputError
        An argument outside its range.
    OutputExistsError
        One of the files exists and ``force`` is False.

    Examples
    --------
    >>> import tempfile
    >>> from gpuatac.simulate import simulate_library
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = simulate_library(f"{folder}/deep", n_chroms=1, chrom_size=200_000)
    >>> made.fragments.name, made.depth
    ('deep.fragments.tsv.gz', 80000000.0)
    """
    n_chroms = check.integer("n_chroms", n_chroms, 1, 10_000)
    chrom_size = check.integer("chrom_size", chrom_size, 100_000, 2**31 - 1)
    paths = [Path(f"{checked_prefix(prefix)}.{end}") for end in ("fragments.tsv.gz", "chrom.sizes")]
    for path in paths:
        check.may_write(path, force=force)
    names = [f"sim{k + 1}" for k in range(n_chroms)]

    def rows() -> Iterator[Window]:
        for k in range(n_chroms):
            rng = np.random.default_rng([seed, k])
            cuts = library_model.expected_cuts(rng, chrom_size // library_model.BIN)
            start, end = library_model.fragments(rng, cuts, chrom_size)
            yield k, start, end, np.zeros(start.size, np.int64), np.ones(start.size, np.int64), chrom_size

    with ExitStack() as stack:
        parts = [stack.enter_context(replacing(path, force=force)) for path in paths]
        advance = stack.enter_context(bar("simulate", n_chroms * chrom_size, unit="bp", scale=True))
        barcode = np.array([b"library"])
        tally = write_fragments(
            parts[0], f"# gpuatac simulate_library seed={seed}\n", rows(),
            barcodes=barcode, chroms=names, mito=np.zeros(n_chroms, bool), advance=advance,
        )  # fmt: skip
        parts[1].write_text("".join(f"{name}\t{chrom_size}\n" for name in names))
    return Library(paths[0], paths[1], n_fragments=int(tally.sum()), depth=library_model.DEEP)
