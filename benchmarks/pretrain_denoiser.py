"""Train the weights that ship with the package, on simulated libraries alone.

    pretrain_denoiser.py [--work .bench/pretrain] [--out gpuatac/data/denoiser.pt] [--epochs 8] [--threads 2]

A library of ``simulate_library`` (24 chromosomes of 10 Mb, peaks of every shape) is thinned to 0.1 to 20 M reads on the fly; two
chromosomes choose the best epoch. The same call is ``gpuatac train-denoiser`` with the options below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gpuatac as ga
from gpuatac.nn.checkpoints import load_model, save_model
from gpuatac.simulate import simulate_library
from gpuatac.threads import set_threads
from gpuatac.workflow import TrainingData, train_denoiser

CHROMOSOMES, HELD = 24, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(".bench/pretrain"))
    parser.add_argument("--out", type=Path, default=Path("gpuatac/data/denoiser.pt"))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    set_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    made = simulate_library(args.work / "library", n_chroms=CHROMOSOMES, seed=1, force=True)
    groups = args.work / "groups.tsv"
    groups.write_text("library\tlibrary\n")
    names = [f"sim{k + 1}" for k in range(CHROMOSOMES)]
    done = train_denoiser(
        args.work / "model",
        TrainingData(
            inputs=made.fragments,
            genome=made.chrom_sizes,
            groups=groups,
            clean_depth=made.depth,
            target_depth=50e6,
            train_chroms=names[:-HELD],
            val_chroms=names[-HELD:],
            holdout_chroms=[],
        ),
        init="none",
        model_options={"by_length": True},
        recipe={
            "epochs": args.epochs, "steps_per_epoch": 250, "batch_size": 8, "interval": 32_768, "depth": (0.1e6, 20e6),
            "lr": 2e-3, "schedule": "one-cycle", "warmup": 0.1, "ema": 0.995,
        },
        val_intervals=60,
        force=not args.resume,
        resume=args.resume,
        device="cpu",
    )  # fmt: skip
    model, card = load_model(done.files["model.pt"])
    card = card._replace(
        trained_on="simulated libraries", genome="", license=f"BSD-3-Clause, with gpuatac {ga.__version__}"
    )
    save_model(args.out, model, card, force=True)
    print(f"{args.out}: best epoch {done.best_epoch} of {args.epochs}, {done.seconds:.0f} s")


if __name__ == "__main__":
    main()
