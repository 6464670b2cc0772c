"""Which bases a model is trained on, which it is chosen by, and which it never sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from gpuatac import check
from gpuatac.errors import InputError
from gpuatac.genome import MITO_NAMES, SEX_NAMES_Y

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpuatac.genome import Genome

Part = Literal["train", "validation", "holdout"]
BLOCK = 208_000  # bp of a held-out block: 26 kb x 8, longer than any model looks
LEAST_BLOCKS = 10  # of a chromosome
SEX_NAMES_X = ("chrX", "X")


@dataclass(frozen=True)
class Split:
    """Parts of a genome, disjoint.

    Attributes
    ----------
    train, validation, holdout
        Codes of chromosomes, ascending.
    blocks
        By code of a training chromosome, the stretches held out of it for validation: int64 (n, 2), ascending.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    holdout: tuple[int, ...] = ()
    blocks: Mapping[int, np.ndarray] = field(default_factory=dict)

    def codes(self, part: Part) -> tuple[int, ...]:
        """Chromosomes that hold bases of ``part``."""
        if part == "validation":
            return tuple(sorted({*self.validation, *(code for code, held in self.blocks.items() if len(held))}))
        return self.train if part == "train" else self.holdout

    def inside(self, part: Part, code: int, start: int, stop: int) -> np.ndarray:
        """Which of the bases [start, stop) belong to ``part``: host bool (stop - start,)."""
        whole = {"train": self.train, "validation": self.validation, "holdout": self.holdout}[part]
        out = np.full(stop - start, code in whole)
        held = self.blocks.get(code)
        if held is not None and len(held) and part != "holdout" and code in self.train:
            first, last = np.searchsorted(held[:, 1], start, "right"), np.searchsorted(held[:, 0], stop, "left")
            for a, b in held[first:last]:
                out[max(a - start, 0) : b - start] = part == "validation"
        return out


def split_genome(
    genome: Genome,
    codes: Sequence[int],
    *,
    train: Sequence[str] | None = None,
    validation: Sequence[str] | None = None,
    holdout: Sequence[str] | None = None,
    fraction: float | None = None,
    block: int = BLOCK,
    extents: Mapping[int, tuple[int, int]] | None = None,
    seed: int = 0,
) -> Split:
    """Split the chromosomes that have data into training, validation and holdout.

    Parameters
    ----------
    genome, codes
        The genome, and its chromosomes that have data.
    train, validation, holdout
        Names of chromosomes. None: as AtacWorks chr20 and chr10 of a human genome, chr11 and chr10 of a mouse genome, where
        those have data, and the other autosomes to train on (all others where there is none).
    fraction
        Hold this share (0-0.9) of the training chromosomes out for validation, in blocks, instead of whole chromosomes.
    block
        bp of a block, at most a tenth of its chromosome.
    extents
        By code the first base with data and the last's end, between which blocks are drawn; None: whole chromosomes.
    seed
        Of the draw of blocks.

    Raises
    ------
    InputError
        When a name has no data or is in two parts, or no chromosome is left to train on or to choose by.

    Examples
    --------
    >>> from gpuatac import Genome
    >>> from gpuatac.nn.denoising.examples.splits import split_genome
    >>> genome = Genome.builtin("hg38")
    >>> split = split_genome(genome, range(25))
    >>> [genome.names[code] for code in split.validation + split.holdout]
    ['chr20', 'chr10']
    """
    present = sorted(set(map(int, codes)))
    if fraction is not None:
        check.between("validation fraction", fraction, 0.001, 0.9)
        if validation is not None:
            msg = (
                "both a validation fraction and validation chromosomes are given; allowed: one of them; leave one out."
            )
            raise InputError(msg)
    check.integer("block", block, 1)
    held = _codes_of(genome, present, holdout, "holdout") if holdout is not None else _default(genome, present, "chr10")
    if fraction is not None:
        chosen: list[int] = []
        if holdout is None and not set(present) - set(held):
            held = []
    elif validation is not None:
        chosen = _codes_of(genome, present, validation, "validation")
    else:
        chosen = _default(genome, present, "chr20" if _is_human(genome) else "chr11")
    if train is not None:
        own = _codes_of(genome, present, train, "training")
        if holdout is None:
            held = [code for code in held if code not in own]
        if validation is None:
            chosen = [code for code in chosen if code not in own]
    else:
        rest = [code for code in present if code not in {*held, *chosen}]
        others = {*MITO_NAMES, *SEX_NAMES_X, *SEX_NAMES_Y}
        own = [code for code in rest if genome.names[code] not in others] or rest
    _check_disjoint(genome, {"training": own, "validation": chosen, "holdout": held})
    blocks = {} if fraction is None else _blocks(genome, own, fraction, block, extents or {}, seed)
    if not own or not (chosen or any(map(len, blocks.values()))):
        lacking = "train on" if not own else "choose the best epoch by"
        msg = (
            f"no chromosome is left to {lacking}: the data are on {_shown(genome, present)}, validation {_shown(genome, chosen)}, "
            f"holdout {_shown(genome, held)}; name validation and holdout chromosomes (--val-chroms, --holdout-chroms), or hold "
            "out a share of the training ones (--val-fraction)."
        )
        raise InputError(msg)
    return Split(tuple(own), tuple(chosen), tuple(held), blocks)


def _is_human(genome: Genome) -> bool:
    return "chr20" in genome.code


def _default(genome: Genome, present: list[int], name: str) -> list[int]:
    code = genome.code.get(name, -1)
    return [code] if code in present else []


def _codes_of(genome: Genome, present: list[int], names: Sequence[str], part: str) -> list[int]:
    codes = [genome.code.get(str(name), -1) for name in names]
    absent = [str(name) for name, code in zip(names, codes, strict=True) if code not in present]
    if absent:
        msg = (
            f"{len(absent)} of {len(codes)} {part} chromosomes have no data ({', '.join(absent[:5])}); allowed: "
            f"{_shown(genome, present)}; correct the names."
        )
        raise InputError(msg)
    return sorted(set(codes))


def _shown(genome: Genome, codes: Sequence[int]) -> str:
    names = [genome.names[code] for code in codes]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") if names else "none"


def _check_disjoint(genome: Genome, parts: Mapping[str, list[int]]) -> None:
    seen: dict[int, str] = {}
    for part, codes in parts.items():
        for code in codes:
            if code in seen:
                msg = f"{genome.names[code]} is in {seen[code]} and in {part}; allowed: one part; leave it out of one."
                raise InputError(msg)
            seen[code] = part


def _blocks(
    genome: Genome, codes: Sequence[int], fraction: float, block: int, extents: Mapping[int, tuple[int, int]], seed: int
) -> dict[int, np.ndarray]:
    """Random blocks of each chromosome, as near to ``fraction`` of it as whole blocks go, at least one and not all."""
    rng = np.random.default_rng([seed, 0x5B11])
    out = {}
    for code in codes:
        low, high = extents.get(code, (0, int(genome.sizes[code])))
        width = min(block, -(-(high - low) // LEAST_BLOCKS))
        n = -(-(high - low) // width)
        take = min(max(1, round(fraction * n)), n - 1)
        number = np.sort(rng.permutation(n)[:take]).astype(np.int64)
        out[code] = np.stack([low + number * width, np.minimum(low + (number + 1) * width, high)], axis=1)
    return out
