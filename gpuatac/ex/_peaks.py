"""Peaks as narrowPeak, broadPeak, gappedPeak or BED files."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gpuatac import check, slots
from gpuatac.errors import InputError
from gpuatac.io.fragments.attach import genome_of
from gpuatac.io.genome.peak_rows import BLOCKS, LONGEST_NAME, NUMBERED, genome_given, line_name, within
from gpuatac.io.tracks import outputs
from gpuatac.provenance import records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

FORMATS = ("narrowPeak", "broadPeak", "gappedPeak", "bed")
COLUMNS = ("chrom", "start", "end", "score", "strand", "signal_value", "p_value", "q_value")
ROWS = 100_000  # written at a time
MOST_SCORE = 1000
LETTERS = 26


@records("ex.export_peaks")
def export_peaks(
    peaks: AnnData | pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    key: str = slots.PEAKS,
    selections: Sequence[str] | None = None,
    out_dir: str | Path = "./",
    prefix: str = "",
    suffix: str | None = None,
    output_format: Literal["narrowPeak", "broadPeak", "gappedPeak", "bed"] | None = None,
    raw_scores: bool = False,
    chrom_sizes: Any = None,
) -> dict[str, str]:
    """Write the peaks of each group to a file of its own, as MACS3 writes them and as UCSC's tools take them.

    Reads   uns[key], or the frames given: what ``tl.call_peaks`` makes.
    Writes  {out_dir}/{prefix}{group}{suffix}; a file that is there is replaced.

    narrowPeak has the columns chrom, start, end, name, score, strand, fold change, -log10 p, -log10 q and the summit's offset;
    broadPeak lacks the last; gappedPeak has the blocks of broad regions; BED is the first six. The score is 10 x -log10 q, or of p
    where ``pvalue`` bounds the peaks: a whole number, 1000 at most. Rows end with their chromosome, and summits lie in their rows.

    Parameters
    ----------
    peaks
        An AnnData with called peaks, their frame, or {group: frame}.
    key
        Where in uns the peaks are.
    selections
        Groups to write; by default all.
    out_dir, prefix, suffix
        Make the file names. What a file system may refuse in a group's name becomes "_" ("/", ":", a dot in front, ...), and of
        names that differ only in case the later ones get a number. By default the suffix is "." and the format.
    output_format
        By default what the suffix says, else narrowPeak, or broadPeak where there are no summits.
    raw_scores
        Scores without the bound of 1000, as MACS3 writes them. UCSC's tools refuse such files.
    chrom_sizes
        A Genome, or a dict of sizes in bp, at which rows are cut; an AnnData brings its own.

    Returns
    -------
    dict
        {group: path}.

    Raises
    ------
    InputError
        When there are no such peaks, no blocks for gappedPeak, or no raw scores where they are asked for.

    Examples
    --------
    >>> import gpuatac as ga
    >>> ga.ex.export_peaks(adata, out_dir="peaks")  # doctest: +SKIP
    """
    frames = _frames(peaks, key)
    genome = None if chrom_sizes is None else genome_given(chrom_sizes)
    if genome is None and slots.GENOME in getattr(peaks, "uns", ()):
        genome = genome_of(peaks)
    if selections is not None:
        wanted = [selections] if isinstance(selections, str) else list(selections)
        unknown = [name for name in wanted if name not in frames]
        if unknown:
            msg = f"selections names {', '.join(map(repr, unknown))}; the groups are {', '.join(frames)}."
            raise InputError(msg)
        frames = {name: frame for name, frame in frames.items() if name in wanted}
    told = next((name for name in FORMATS if suffix is not None and suffix.lower().endswith("." + name.lower())), None)
    if output_format is None:
        output_format = told  # type: ignore[assignment]
    if output_format is None:
        broad = any("block_sizes" in frame for frame in frames.values())
        output_format = "broadPeak" if broad else "narrowPeak"
    check.one_of("output_format", output_format, FORMATS)
    if told not in (None, "bed", output_format):
        outputs.refuse_contradiction(suffix, told, "output_format", output_format)
    if output_format == "gappedPeak" and any("block_sizes" not in frame for frame in frames.values()):
        msg = "gappedPeak needs the blocks of broad regions, and these peaks have none; call them with call_broad_peaks=True."
        raise InputError(msg)
    if raw_scores and (capped := [name for name, frame in frames.items() if _is_capped(frame)]):
        msg = (
            f"the peaks of {capped[0]!r} have scores of {MOST_SCORE}, which may be cut, and no raw_score; call the peaks anew, or "
            "leave raw_scores out."
        )
        raise InputError(msg)
    names = outputs.file_names(list(frames), prefix, f".{output_format}" if suffix is None else suffix)
    paths = outputs.targets(out_dir, names)
    with ExitStack() as stack:
        for (group, frame), path in zip(frames.items(), outputs.partials(stack, paths), strict=True):
            kept = frame if genome is None else within(frame, genome)
            named = kept.assign(name=peak_names(kept, group), score=_scores(kept, raw=raw_scores))
            with path.open("w", encoding="utf-8", newline="\n") as out:
                for at in range(0, len(named), ROWS):
                    out.write(_text(named.iloc[at : at + ROWS], output_format))
    return {group: str(path) for group, path in zip(frames, paths, strict=True)}


def _frames(peaks: Any, key: str) -> dict[str, pd.DataFrame]:
    """{group: frame}, whatever was given."""
    if not isinstance(peaks, pd.DataFrame) and not hasattr(peaks, "items"):
        peaks = slots.uns_of(peaks, key, writer="tl.call_peaks")
    if isinstance(peaks, pd.DataFrame):
        groups = peaks["group"] if "group" in peaks else pd.Series(np.repeat("all", len(peaks)), index=peaks.index)
        categories = pd.Categorical(groups).categories
        peaks = {str(name): peaks[(groups == name).to_numpy()] for name in categories}
    frames = {str(name): frame for name, frame in peaks.items()}
    for name, frame in frames.items():
        missing = [column for column in COLUMNS if column not in frame]
        if missing:
            msg = f"the peaks of {name!r} lack the columns {', '.join(missing)}; give what tl.call_peaks makes."
            raise InputError(msg)
    return frames


def _is_capped(frame: pd.DataFrame) -> bool:
    """Whether scores of a table of an earlier version may have been higher."""
    return "raw_score" not in frame and bool((frame["score"] >= MOST_SCORE).any())


def _scores(frame: pd.DataFrame, *, raw: bool) -> np.ndarray:
    """Whole numbers of at least 0, and 1000 at most unless ``raw``."""
    found = frame["raw_score"] if raw and "raw_score" in frame else frame["score"]
    whole: np.ndarray = np.nan_to_num(found.to_numpy(np.float64)).astype(np.int64)
    return whole.clip(0, None if raw else MOST_SCORE)


def peak_names(frame: pd.DataFrame, group: str) -> np.ndarray:
    """``<group>_peak_<n>``, with a letter where a region has several rows, as MACS3 names peaks: object (n,)."""
    new = np.ones(len(frame), bool)
    chrom, end = frame["chrom"].to_numpy(), frame["end"].to_numpy()
    new[1:] = (chrom[1:] != chrom[:-1]) | (end[1:] != end[:-1])
    number = np.cumsum(new)
    several = np.bincount(number)[number] > 1 if number.size else new
    sub = np.arange(new.size) - np.flatnonzero(new)[number - 1]
    letter = np.array([_letters(k) for k in range(int(sub.max(initial=0)) + 1)], dtype=object)
    group = line_name(group, LONGEST_NAME - NUMBERED)
    out = np.array([f"{group}_peak_{k}" for k in number.tolist()], dtype=object)
    out[several] += letter[sub[several]]
    return out


def _letters(k: int) -> str:
    """a, b, ..., z, ba, bb, ...: as MACS3 counts subpeaks."""
    return chr(97 + k) if k < LETTERS else _letters(k // LETTERS) + chr(97 + k % LETTERS)


def _text(frame: pd.DataFrame, output_format: str) -> str:
    """Lines of one block of rows."""
    where = [frame[name] for name in ("chrom", "start", "end", "name", "score")]
    values = [[f"{x:.6g}" for x in frame[c].to_numpy().tolist()] for c in ("signal_value", "p_value", "q_value")]
    if output_format == "bed":
        columns = [*where, frame["strand"].astype(str)]
    elif output_format == "gappedPeak":
        count = [text.count(",") + 1 for text in frame["block_sizes"]]
        zeros = np.zeros(len(frame), np.int64)
        blocks = [count, frame["block_sizes"], frame["block_starts"]]
        columns = [*where, frame["strand"].astype(str), zeros, zeros, zeros, *blocks, *values]
    else:
        columns = [*where, frame["strand"].astype(str), *values]
        if output_format == "narrowPeak":
            columns.append(_summits(frame))
    return "".join("\t".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def _summits(frame: pd.DataFrame) -> np.ndarray:
    """Offsets in [0, length) of the row, as -1 stands for no summit; -1 where the regions have none."""
    found = frame["peak"].to_numpy(np.int64)
    length = (frame["end"].to_numpy(np.int64) - frame["start"].to_numpy(np.int64)).clip(1)
    within_row: np.ndarray = found if set(BLOCKS) <= set(frame) else np.clip(found, 0, length - 1)
    return within_row
