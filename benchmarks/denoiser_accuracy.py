"""How well the model of any depth denoises real data that it has not seen, beside every smoothing.

    denoiser_accuracy.py --data FOLDER [--work .bench/denoiser] [--seeds 1] [--model FILE] [--held chr2] [--results benchmarks/results]

FOLDER is data/denoise/hsc_5m_to_80m_hg19: 10 Mb of chr1 and chr2 of haematopoietic stem cells at 5 and 80 M reads. A model is
trained by the command line's defaults on chr1, its best epoch chosen on held-out blocks of it; smoothings are tuned on chr1; chr2 is
then judged once, at 5 M reads as measured and at 0.2, 1 and 5 M thinned from 80 M, cuts one by one ("thinned") and by two ("paired").
Differences are the model's minus each smoothing's, with 95 % intervals of a paired bootstrap over 208-kb blocks.

Written: denoiser_accuracy-<machine>-<commit>.md, with seconds of training and of denoising.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
import vs_snapatac2 as bench

from gpuatac.backend import get
from gpuatac.genome import Genome
from gpuatac.io.tracks.atacworks_h5 import AtacworksH5, H5Tracks, Intervals
from gpuatac.io.tracks.denoised_files import DenoisedWriter
from gpuatac.io.tracks.file_tracks import FileTracks
from gpuatac.workflow import TrainingData, train_denoiser
from gpuatac.workflow.denoiser.denoise import denoise
from gpuatac.workflow.denoiser.evaluate import evaluate_denoiser

NAME = "HSC.5M.chr123.10mb.coverage.bw"
BED = "model_latest.24000.{}_intervals.bed"
PARTS = {"chr1": ("train", "training"), "chr2": ("val", "val")}
CLEAN, NOISY = 80e6, 5e6


def files_of(data: Path, chroms) -> dict:
    return {
        "h5": [data / f"{NAME}.{PARTS[c][0]}.h5" for c in chroms],
        "intervals": [data / BED.format(PARTS[c][1]) for c in chroms],
    }


def opened(data: Path) -> H5Tracks:
    """The clean tracks of both chromosomes."""
    genome = Genome.builtin("hg19")
    noisy = FileTracks([data / NAME], genome=genome, depth=[NOISY], device="cpu")
    found = files_of(data, PARTS)
    files = [AtacworksH5.open(path) for path in found["h5"]]
    at = [Intervals.read(file, bed, genome, noisy=noisy) for file, bed in zip(files, found["intervals"], strict=True)]
    return H5Tracks(files, at, what="clean", genome=genome, depth=CLEAN, bk=get("cpu"))


def write_track(source, out: Path) -> None:
    with DenoisedWriter({"all": out}, source.genome, what="signal", form="bigwig", decimals=0, force=True) as writer:
        for code in source.codes:
            for start in range(0, 10_000_000, 2_000_000):
                writer.add(0, code, start, np.nan_to_num(source.coverage(code, start, start + 2_000_000)[0]))


def truth(deep: H5Tracks, work: Path) -> dict:
    """Clean track, its peaks and where it is known, as files."""
    paths = {"clean": work / "clean.bw", "peaks": work / "peaks.bed", "regions": work / "known.bed"}
    write_track(deep, paths["clean"])
    names = deep.genome.names
    known = [
        (names[code], *edges)
        for code in deep.codes
        for edges in np.flatnonzero(np.diff(deep.known(code, 0, 10_000_000), prepend=False, append=False)).reshape(
            -1, 2
        )
    ]
    peaks = [(names[code], *row) for code, rows in deep.peaks().items() for row in rows.tolist()]
    for path, rows in ((paths["regions"], known), (paths["peaks"], peaks)):
        path.write_text("".join(f"{chrom}\t{start}\t{end}\n" for chrom, start, end in rows))
    return paths


def judged(known: dict, work: Path, model: Path, noisy: Path, depth: float, held: str, draws: int):
    """The tables of one noisy track, and seconds of denoising."""
    out = work / noisy.stem
    began = time.perf_counter()
    denoise(
        [noisy], out, model=model, genome="hg19", depth=depth, regions=[f"{held}:1-9984000"], device="cpu", force=True,
        probability_decimals=4,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    files = {kind: next(out.glob(f"*.{kind}.bw")) for kind in ("signal", "probability")}
    result = evaluate_denoiser(
        known["clean"], out / "evaluation", noisy=noisy, denoised=[files["signal"]], probability=[files["probability"]],
        names=["model"], genome="hg19", peaks=known["peaks"], regions=known["regions"], chroms=[held],
        tune_chroms=["chr1"], clean_depth=CLEAN, noisy_depth=depth, bootstrap=draws, device="cpu", force=True,
    )  # fmt: skip
    return result.comparison, seconds


def trained(args, work: Path, seed: int) -> list[str]:
    """Train as ``gpuatac train-denoiser`` does by default; a heading that says how it went."""
    more = {} if args.init is None else {"init": args.init}
    done = train_denoiser(
        work / "model",
        TrainingData(
            genome="hg19", noisy=args.data / NAME, noisy_depth=NOISY, clean_depth=CLEAN, val_fraction=0.2,
            **files_of(args.data, ["chr1"]),
        ),
        seed=seed, device="cpu", force=True, **more,
    )  # fmt: skip
    best = pd.DataFrame(done.history).iloc[done.best_epoch - 1]
    title = (
        f"## Seed {seed}: trained in {done.seconds:.0f} s, best epoch {done.best_epoch} (held-out blocks of chr1: Pearson "
        f"{best['pearson']:.4f}, AUPRC {best['auprc']:.4f})"
    )
    return [title, ""]


def lines_of(title: str, comparison, seconds: float) -> list[str]:
    return [f"### {title} (denoised in {seconds:.0f} s)", "", "```", comparison.text(), "```", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".bench/denoiser"))
    parser.add_argument("--held", default="chr2")
    parser.add_argument("--seeds", type=int, default=1, help="models trained, each with a seed of its own")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--model", type=Path, help="judge this model, trained before, instead of training one")
    parser.add_argument("--init", help="as of gpuatac train-denoiser")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    deep = opened(args.data)
    known = truth(deep, args.work)
    lines = [f"# denoiser_accuracy: trained on chr1, judged on {args.held}", ""]
    for seed in range(1 if args.model else args.seeds):
        work = args.work / f"seed{seed}"
        if args.model:
            lines += [f"## {args.model.parent.name}/{args.model.name}", ""]
        else:
            lines += trained(args, work, seed)
        model = args.model or work / "model" / "model.pt"
        cases = [("measured", args.data / NAME, NOISY)]
        for paired in (False, True):
            for depth in (0.2e6, 1e6, 5e6):
                track = args.work / f"{'paired' if paired else 'thinned'}-{depth / 1e6:g}M.bw"
                write_track(deep.thin(depth / CLEAN, 7, paired=paired), track)
                cases.append(("paired" if paired else "thinned", track, depth))
        for what, track, depth in cases:
            comparison, seconds = judged(known, work, model, track, depth, args.held, args.draws)
            found = lines_of(f"{depth / 1e6:g} M reads, {what}", comparison, seconds)
            print(*found, sep="\n", flush=True)
            lines += found
    path = Path(f"{bench.stem(args.results, 'denoiser_accuracy')}.md")
    path.write_text("\n".join(lines))
    print(path)


if __name__ == "__main__":
    main()
