"""How well doublets are told from single cells: projected simulation beside SnapATAC2's joint embedding.

    python benchmarks/doublets.py [--results benchmarks/results]

Samples of known doublets (5 %) from ``gpuatac.simulate_fragments``, cells alone, every filter off; prints and writes
doublets.md: area under the ROC curve of the score, cells called, true ones among them, and seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score

import gpuatac as ga

SAMPLES = (
    {"n_cells": 300, "n_types": 8, "fragments_per_cell": 8000, "seed": 3},
    {"n_cells": 500, "n_types": 6, "fragments_per_cell": 5000, "seed": 0},
    {"n_cells": 1500, "n_types": 8, "fragments_per_cell": 3000, "seed": 0},
    {"n_cells": 2000, "n_types": 8, "fragments_per_cell": 10000, "seed": 7},
)


def rows(folder: Path):
    genome = ga.Genome.builtin("hg38")
    for options in SAMPLES:
        made = ga.simulate_fragments(folder / "sample", force=True, **options)
        truth = pd.read_csv(made.cells, sep="\t", index_col="barcode")
        adata = ga.pp.import_fragments(
            made.fragments, genome, whitelist=truth.index[truth["is_cell"] == 1], min_num_fragments=0
        )
        ga.pp.add_tile_matrix(adata, bin_size=2000)
        ga.pp.select_features(adata)
        is_doublet = truth["is_doublet"].reindex(adata.obs_names).to_numpy().astype(bool)
        for simulation in ("projected", "joint"):
            began = time.perf_counter()
            ga.pp.scrublet(adata, simulation=simulation)
            seconds = time.perf_counter() - began
            called = adata.obs["doublet_probability"].to_numpy() > 0.5
            area = roc_auc_score(is_doublet, adata.obs["doublet_score"])
            yield (
                f"| {options['n_cells']:,} x {options['fragments_per_cell']:,} | {simulation} | {area:.3f} | {called.sum()} | "
                f"{(called & is_doublet).sum()} of {is_doublet.sum()} | {seconds:.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    lines = ["| cells x fragments | simulation | AUC | called | true | seconds |", "|---|---|---|---|---|---|"]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        for line in rows(Path(folder)):
            print(line, flush=True)
            lines.append(line)
    (args.results / "doublets.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
