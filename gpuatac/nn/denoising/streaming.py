"""Denoise a chromosome in long tiles: every base of it, groups together, empty stretches skipped."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from gpuatac import check
from gpuatac.core.track_source import LENGTH_CLASSES, denser
from gpuatac.errors import InputError
from gpuatac.nn.contract import Denoised
from gpuatac.nn.cuda_graphs import captured
from gpuatac.nn.denoising.networks.layers import up_to_multiple
from gpuatac.nn.dlpack import as_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuatac.core.track_source import TrackSource
    from gpuatac.nn.contract import Denoiser

Precision = Literal["float32", "bfloat16"]
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
#: Input positions of one tile, and of all groups that are computed at once. A CPU's caches hold the one, a GPU's memory
#: the other: the published network takes some 300 bytes for each.
TILE_POSITIONS = {"cpu": 1 << 17, "cuda": 1 << 22}
POSITIONS_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 23}
LEAST_SKIPPED = 4096  # input positions; to begin anew costs about one halo


class Stretch(NamedTuple):
    """Denoised tracks of consecutive bases."""

    start: int
    stop: int
    signal: torch.Tensor  # float32 (n_groups, stop - start)
    probability: torch.Tensor  # float32 (n_groups, stop - start)


def denoise_chromosome(
    model: Denoiser,
    source: TrackSource,
    code: int,
    *,
    start: int = 0,
    stop: int | None = None,
    extra: Callable[[int, int, int], Any] | None = None,
    tile: int | None = None,
    precision: Precision = "float32",
    skip_empty: bool = True,
    compiled: bool | Literal["graph", "compile"] = False,
) -> Iterator[Stretch]:
    """The denoised tracks of every group over [start, stop) of a chromosome, in ascending stretches without a gap.

    The chromosome's ends are predicted as if it went on without a cut. What comes out does not depend on ``tile``, nor on
    ``skip_empty``, but for rounding.

    Parameters
    ----------
    model
        A model of ``contract.Denoiser``, used in ``eval`` mode. Tensors are moved to its device.
    source
        The tracks. Arrays pass without a copy where they lie on the model's device.
    code
        The chromosome.
    start, stop
        bp; None for the chromosome's end.
    extra
        Extra input tracks: called with (code, start, stop) inside the chromosome, it returns float32 (model.n_extra, stop - start),
        the same for all groups. Nothing is skipped then.
    tile
        bp that are computed at once, rounded up to what the model goes by; None for what suits the device.
    precision
        "float32", or "bfloat16": faster where the processor has matrix units for it, signal to about 0.5 %.
    skip_empty
        Leave out stretches of 4 kb or more without a cut of any group within the halo: what comes out there is known.
    compiled
        On a GPU True or "graph" captures a tile once and replays it (a CUDA graph); "compile", and True on a CPU, uses
        ``torch.compile``. Tiles then all have one shape.

    Yields
    ------
    Stretches of at most ``tile`` bp, tensors on the model's device. They are the caller's to keep.

    Raises
    ------
    InputError
        When an argument is out of range, or the source lacks what the model reads.

    Cost: one forward pass over what is not empty and two halos for each tile.

    Examples
    --------
    >>> from gpuatac.nn.denoising.networks.resnet import DenoisingResNet
    >>> from gpuatac.nn.denoising.streaming import denoise_chromosome
    >>> for stretch in denoise_chromosome(DenoisingResNet(), source, 0, stop=100_000):  # doctest: +SKIP
    ...     print(stretch.start, stretch.stop, stretch.signal.max())
    """
    size = int(source.genome.sizes[code])
    stop = size if stop is None else stop
    start = check.integer("start", start, 0, max(0, size - 1))
    stop = check.integer("stop", stop, start + 1, size)
    check.one_of("precision", precision, PRECISIONS)
    check.one_of("compiled", compiled, (False, True, "graph", "compile"))
    _fits(model, source, extra)
    device = _device(model)
    if tile is None:
        tile = TILE_POSITIONS[_kind(device)] * model.bin_size
    tile = up_to_multiple(check.integer("tile", tile, 1), _grain(model))
    if not compiled:  # no tile is longer than what is asked for
        tile = min(tile, up_to_multiple(stop - start + start % _grain(model), _grain(model)))
    at_once = min(max(1, POSITIONS_AT_ONCE[_kind(device)] * model.bin_size // tile), max(1, len(source.groups)))
    run = _Run(model, source, code, extra=extra, dtype=PRECISIONS[precision], at_once=at_once, compiled=compiled)
    return _stretches(run, start, stop, tile, skip_empty=skip_empty and extra is None)


def _fits(model: Denoiser, source: TrackSource, extra: Any) -> None:
    """Raise where the source, or the extra tracks, are not what the model reads."""
    if model.inputs == "cuts" and not source.has_cuts:
        msg = (
            f"the tracks hold coverage alone, and a model of kind {model.kind!r} reads cuts; give fragments or a track "
            "of single bases that no one has scaled, or choose a model that reads coverage."
        )
        raise InputError(msg)
    if (model.n_extra > 0) != (extra is not None):
        given = "none was given" if extra is None else "some were given"
        msg = f"the model reads {model.n_extra} extra tracks, and {given}; give those that the model was trained with."
        raise InputError(msg)


def _device(model: Denoiser) -> torch.device:
    return next(iter(model.parameters())).device


def _grain(model: Denoiser) -> int:
    """bp, a multiple of ``align``: tiles that begin on multiples of it add the same numbers in the same order."""
    return int(getattr(model, "grain", model.align))


def _kind(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "cuda"


class _Run:
    """Where tiles come from, and what is done with each."""

    def __init__(
        self,
        model: Denoiser,
        source: TrackSource,
        code: int,
        *,
        extra: Callable[[int, int, int], Any] | None,
        dtype: torch.dtype,
        at_once: int,
        compiled: bool | Literal["graph", "compile"],
    ) -> None:
        self.model, self.source, self.code, self.extra = model, source, code, extra
        self.device, self.dtype, self.at_once = _device(model), dtype, at_once
        self.size = int(source.genome.sizes[code])
        depth = np.asarray(source.depth)
        if model.inputs == "cuts":
            depth = depth * denser(source)
        self.depth = torch.as_tensor(depth, dtype=torch.float32, device=self.device)
        self.by_length = bool(getattr(model, "by_length", False)) and bool(source.has_lengths)
        self.fixed = bool(compiled)
        self.predict = (
            captured(model, self.device, "auto" if compiled is True else compiled) if compiled else model.predict
        )

    @contextmanager
    def mode(self) -> Iterator[None]:
        """No gradients, ``eval``, and the chosen precision (float32 means it: no TF32); undone at the end."""
        training = self.model.training
        with ExitStack() as stack:
            stack.callback(self.model.train, training)
            self.model.eval()
            stack.enter_context(torch.no_grad())
            narrow = self.dtype != torch.float32
            stack.enter_context(torch.autocast(self.device.type, torch.bfloat16, enabled=narrow, cache_enabled=False))
            if self.device.type == "cuda":
                same = torch.backends.cudnn.deterministic
                stack.enter_context(
                    torch.backends.cudnn.flags(
                        enabled=True, benchmark=self.fixed, deterministic=same, allow_tf32=narrow
                    )
                )
            yield

    def inputs(self, start: int, stop: int) -> torch.Tensor:
        """The model's input for [start, stop), which may reach beyond the chromosome on either side."""
        model, bin_size = self.model, self.model.bin_size
        low, high = max(0, start), min(self.size, stop)
        if model.inputs == "cuts":
            high = up_to_multiple(high, bin_size)
            x = self.source.cuts(self.code, low, high, bin_size=bin_size, by_length=self.by_length)
        else:
            x = self.source.coverage(self.code, low, high)[:, None]
        x = as_tensor(x).to(self.device, torch.float32)
        if self.extra is not None:
            tracks = as_tensor(self.extra(self.code, low, high)).to(self.device, torch.float32)
            if tracks.shape != (model.n_extra, high - low):
                msg = (
                    f"the extra tracks of [{low}, {high}) have shape {tuple(tracks.shape)}; the model reads "
                    f"{(model.n_extra, high - low)}; give those that it was trained with."
                )
                raise InputError(msg)
            x = torch.cat([x, tracks.expand(x.shape[0], -1, -1)], 1)
        before, after = (low - start) // bin_size, (stop - high) // bin_size
        return functional.pad(x, (before, after)) if before or after else x

    def tile(self, start: int, length: int) -> Denoised:
        """Outputs of all groups for [start, start + length)."""
        with self.mode():
            x = self.inputs(start - self.model.halo, start + length + self.model.halo)
            parts = []
            for first in range(0, x.shape[0], self.at_once):
                some, depth = x[first : first + self.at_once], self.depth[first : first + self.at_once]
                n = some.shape[0]
                if self.fixed and n < self.at_once:  # one shape for all
                    some = functional.pad(some, (0, 0, 0, 0, 0, self.at_once - n))
                    depth = functional.pad(depth, (0, self.at_once - n), value=1.0)
                out = self.predict(some, depth)
                parts.append(Denoised(out.signal[:n].float(), out.probability[:n].float()))
        if len(parts) == 1:
            return parts[0]
        return Denoised(*(torch.cat(same) for same in zip(*parts, strict=True)))

    def nothing(self) -> Denoised:
        """Outputs of all groups where nothing is, (n_groups, 1)."""
        with self.mode():
            if self.by_length:  # not what comes out where lengths are unknown
                shape = (
                    len(self.depth),
                    len(LENGTH_CLASSES),
                    (2 * self.model.halo + self.model.align) // self.model.bin_size,
                )
                out = self.model.predict(torch.zeros(shape, device=self.device), self.depth)
            else:
                out = self.model.empty_output(self.depth)
            return Denoised(out.signal[:, :1].float(), out.probability[:, :1].float())


def _stretches(run: _Run, start: int, stop: int, tile: int, *, skip_empty: bool) -> Iterator[Stretch]:
    align, grain = run.model.align, _grain(run.model)
    first, last = start // grain * grain, up_to_multiple(stop, align)
    skipped = _skippable(run, first, last) if skip_empty else []
    nothing = run.nothing() if skipped else None
    at = first
    for low, high in [*skipped, (last, last)]:
        if at < low:
            pieces = -(-(low - at) // tile)
            length = tile if run.fixed else up_to_multiple(-(-(low - at) // pieces), grain)
            for piece in range(at, low, length):
                this = length if run.fixed else min(length, low - piece)
                out = run.tile(piece, this)
                a, b = max(piece, start), min(piece + this, low, stop)
                yield Stretch(a, b, *(values[:, a - piece : b - piece] for values in out))
        for piece in range(low, high, tile):
            a, b = max(piece, start), min(piece + tile, high, stop)
            yield Stretch(a, b, *(value.repeat(1, b - a) for value in nothing or ()))
        at = high


def _skippable(run: _Run, first: int, last: int) -> list[tuple[int, int]]:
    """Parts of [first, last) whose whole halo is empty: they begin on multiples of ``align`` and end on those of the grain."""
    halo, align, grain, size = run.model.halo, run.model.align, _grain(run.model), run.size
    least = max(LEAST_SKIPPED * run.model.bin_size, halo)
    low, high = max(0, first - halo), min(size, last + halo)
    out = []
    for a, b in np.asarray(run.source.empty(run.code, low, high)).reshape(-1, 2).tolist():
        begin = first if a == 0 else max(first, up_to_multiple(a + halo, align))
        end = last if b == size else min(last, (b - halo) // grain * grain)
        at_edge = begin == first or end == last
        if end - begin >= (1 if at_edge else least):
            out.append((begin, end))
    return out
