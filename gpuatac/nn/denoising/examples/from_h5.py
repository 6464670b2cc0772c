"""Examples straight from the rows of AtacWorks' HDF5 files, where nothing says which places they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from gpuatac.errors import InputError
from gpuatac.nn.contract import Batch, Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpuatac.io.tracks.atacworks_h5 import AtacworksH5
    from gpuatac.nn.denoising.examples.from_tracks import Shape

NAME = "noisy"


class H5Rows:
    """Examples of files, one for each row; for models of coverage.

    It is both: examples to train on, and, in order, to validate on. Of the padding as much is used as the model looks beyond an
    interval; where the file has less, zeros stand.

    Parameters
    ----------
    files
        Files of one width.
    shape
        What the model asks for.
    depth
        Reads of the noisy library.
    pad
        bp of padding on each side of a row.
    flip
        Reverse half of the examples in training.
    nonzero
        Leave out rows whose interval has no noisy coverage.
    most
        At most this many rows, evenly chosen; None: all.
    seed
        Of what is reversed.
    device
        Where the examples lie.

    Raises
    ------
    InputError
        When the model takes cuts or extra tracks, files differ in width, or intervals do not fit the model.
    """

    names = (NAME,)

    def __init__(
        self,
        files: Sequence[AtacworksH5],
        shape: Shape,
        *,
        depth: float,
        pad: int = 0,
        flip: bool = False,
        nonzero: bool = True,
        most: int | None = None,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        if shape.inputs != "coverage" or shape.n_extra:
            msg = (
                "this model reads cuts or extra tracks, and the HDF5 files do not say where their examples lie; give their intervals "
                "too (--intervals), or train a model of coverage (--model resnet)."
            )
            raise InputError(msg)
        self.files, self.shape, self.depth, self.pad, self.flip, self.seed = files, shape, depth, pad, flip, seed
        self.device = torch.device("cpu") if device is None else device
        widths = sorted({file.width for file in files})
        self.length = widths[0] - 2 * pad
        if len(widths) > 1 or self.length < 1 or self.length % shape.align:
            msg = (
                f"examples are {', '.join(f'{w:,}' for w in widths)} bp with {pad:,} bp of padding on each side; allowed: one width, "
                f"and intervals of a multiple of {shape.align} bp; give the pad they were written with (--pad), or files of one width."
            )
            raise InputError(msg)
        rows = np.array([(k, row) for k, file in enumerate(files) for row in range(file.n)], np.int64)
        if nonzero:
            middle = slice(pad, pad + self.length)
            keep = [file.rows(first, last)[0][:, middle].any(axis=1) for file, first, last in _parts(files)]
            rows = rows[np.concatenate(keep)]
        if not len(rows):
            msg = f"none of the {sum(file.n for file in files):,} examples has noisy coverage; give other files."
            raise InputError(msg)
        if most is not None and len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
        self._rows = rows

    def __len__(self) -> int:
        """Examples."""
        return len(self._rows)

    def batch(self, picks: Sequence[int], *, epoch: int, positions: Sequence[int]) -> Example:
        """See ``nn.denoising.examples.from_tracks.Examples``."""
        flips = [
            self.flip and bool(np.random.default_rng([self.seed, epoch, position]).integers(2))
            for position in positions
        ]
        return self._example([self._rows[pick] for pick in picks], flips)

    def batches(self, name: str, batch_size: int, *, rank: int = 0, world: int = 1) -> Iterator[Example]:
        """See ``nn.denoising.examples.from_tracks.Validation``."""
        del name
        for first in range(rank * batch_size, len(self._rows), world * batch_size):
            rows = list(self._rows[first : first + batch_size])
            yield self._example(rows, [False] * len(rows))

    def _example(self, rows: Sequence[np.ndarray], flips: Sequence[bool]) -> Example:
        found = [self.files[int(k)].rows(int(row), int(row) + 1) for k, row in rows]
        x, y, peak = (torch.from_numpy(np.concatenate(column)) for column in zip(*found, strict=True))
        more = self.shape.halo - self.pad  # negative: the file has more context than the model looks at
        x = torch.nn.functional.pad(x, (more, more))
        middle = slice(self.pad, self.pad + self.length)
        parts = [x, y[:, middle], peak[:, middle]]
        turned = torch.tensor(flips)
        if turned.any():
            parts = [torch.where(turned[:, None], part.flip(-1), part) for part in parts]
        x, y, peak = (part.to(self.device) for part in parts)
        depth = torch.full((len(rows),), self.depth, device=self.device)
        return Example(x[:, None], depth, Batch(y, peak, torch.ones_like(y)))


def _parts(files: Sequence[AtacworksH5], at_once: int = 256) -> Iterator[tuple[AtacworksH5, int, int]]:
    for file in files:
        for first in range(0, file.n, at_once):
            yield file, first, min(first + at_once, file.n)
