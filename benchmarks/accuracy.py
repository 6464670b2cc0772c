"""``make accuracy``: how well clusters recover known cell types, gpuatac beside SnapATAC2 in the same run.

    accuracy.py --peer PEER_PYTHON [--data FOLDER] [--only NAME ...]

Six labelled public sets, two from fragments and four from matrices. One set of defaults, no tuning per set;
every cell filter is off on both sides and every labelled cell is scored (one that a side lost counts as a
cluster of its own). The figure is the adjusted Rand index (ARI) of Leiden at resolution 1, mean over 5 seeds;
beside it the normalised mutual information (NMI) and the ARI of k-means at the true k on the same embedding.
Each side runs in a process of its own and hands back labels and embedding; both are scored here.

SnapATAC2 runs with its defaults. Its 50 neighbours leave one cluster where there are fewer than 51 cells;
there it is run with 15 as well, and the better of the two is what gpuatac is compared with.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from vs_snapatac2 import ROOT, commit, machine

SEEDS = range(5)
SMALL = 50  # cells; the peer's number of neighbours
FEWER = 15


class LabelledSet(NamedTuple):
    name: str
    path: str
    labels: str = ""  # table of barcode and cell_type; "" when they are in obs
    genome: str = ""


SETS = (
    LabelledSet(
        "archr_pbsmall",
        "scatac/archr_pbsmall_hg19/PBSmall.tsv.gz",
        "scatac/archr_pbsmall_hg19/labels.tsv",
        "hg19",
    ),
    LabelledSet(
        "c1_39cells",
        "scatac/c1_39cells_hg19/c1_39cells.hg19.fragments.tsv.gz",
        "scatac/c1_39cells_hg19/c1_39cells.labels.tsv",
        "hg19",
    ),
    LabelledSet("granja_BMMC_D5T1", "matrices/granja_BMMC_D5T1.h5ad"),
    LabelledSet("schep", "matrices/schep.h5ad"),
    LabelledSet("forebrain", "matrices/forebrain.h5ad"),
    LabelledSet("leukemia_apec", "matrices/leukemia_apec.h5ad"),
)


def sizes_file(data: Path, one: LabelledSet) -> Path:
    return data / "annotation" / "chrom_sizes" / f"{one.genome}.chrom.sizes"


def truth_of(data: Path, one: LabelledSet):
    """Cell names and types, in the order in which a side's answer is scored."""
    import pandas as pd

    if one.labels:
        table = pd.read_csv(data / one.labels, sep="\t")
        return table["barcode"].astype(str).to_numpy(), table["cell_type"].astype(str).to_numpy()
    obs = read_matrix(data / one.path).obs
    return obs.index.to_numpy().astype(str), obs["cell_type"].astype(str).to_numpy()


def read_matrix(path: Path):
    """A matrix whose cells are named by their number, because names repeat in one of the sets."""
    import anndata as ad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that repeat
        adata = ad.read_h5ad(path)
    adata.obs_names = np.arange(adata.n_obs).astype(str)
    adata.var_names_make_unique()
    return adata


# ------------------------------------------------------------------------------- one side, one process


def run_gpuatac(data: Path, one: LabelledSet, out: Path) -> None:
    """The steps of ``gpuatac run`` with its table of defaults, without cell filters."""
    import gpuatac as ga
    from gpuatac.options import RunOptions
    from gpuatac.workflow.main_job.steps import STEPS

    options = RunOptions()
    if one.labels:
        genome = ga.io.read_genome(sizes_file(data, one), contigs=options.contigs)
        adata = ga.pp.import_fragments(data / one.path, genome, min_num_fragments=0, device="cpu")
        STEPS["tiles"](adata, options, genome)
    else:
        genome = None
        adata = read_matrix(data / one.path)
    STEPS["features"](adata, options, genome)
    answer = {"cells": adata.obs_names.to_numpy().astype(str)}
    for seed in SEEDS:
        for step in ("spectral", "knn", "leiden"):
            STEPS[step](adata, replace(options, seed=seed), genome)
        answer[f"leiden{seed}"] = adata.obs["leiden"].to_numpy().astype(str)
        used = adata.uns["neighbors"]["components"]
        answer[f"embedding{seed}"] = np.asarray(adata.obsm["X_spectral"])[:, used]
    np.savez(out, **answer)


def run_snapatac2(data: Path, one: LabelledSet, out: Path, *, n_neighbors: int) -> None:
    """SnapATAC2 with its defaults, without cell filters."""
    import logging

    import snapatac2 as snap

    logging.getLogger().setLevel(logging.ERROR)
    if one.labels:
        lines = sizes_file(data, one).read_text().split("\n")
        sizes = {name: int(size) for name, size in (x.split("\t")[:2] for x in lines if x)}
        with tempfile.TemporaryDirectory() as scratch:
            adata = snap.pp.import_fragments(
                data / one.path,
                chrom_sizes=sizes,
                sorted_by_barcode=False,
                min_num_fragments=0,
                tempdir=scratch,
            )
        snap.pp.add_tile_matrix(adata)
    else:
        adata = read_matrix(data / one.path)
    snap.pp.select_features(adata, verbose=False)
    answer = {"cells": np.array([str(x) for x in adata.obs_names])}
    for seed in SEEDS:
        snap.tl.spectral(adata, random_state=seed)
        snap.pp.knn(adata, n_neighbors=n_neighbors)
        snap.tl.leiden(adata, resolution=1.0, random_state=seed)
        answer[f"leiden{seed}"] = np.array([str(x) for x in adata.obs["leiden"]])
        answer[f"embedding{seed}"] = np.asarray(adata.obsm["X_spectral"])
    np.savez(out, **answer)


# ------------------------------------------------------------------------------------------ the driver


class Score(NamedTuple):
    ari: float
    ari_least: float
    ari_most: float
    nmi: float
    ari_kmeans: float
    n_clusters: float
    n_missing: int


def in_order(cells, values, wanted) -> list:
    """``values`` of the wanted cells; None for a cell that is not there."""
    value_of = dict(zip(cells, values, strict=True))
    return [value_of.get(cell) for cell in wanted]


def with_lost_cells(labels: list) -> list[str]:
    """Labels in which every lost cell is a cluster of its own."""
    return [f"lost {i}" if x is None else f"found {x}" for i, x in enumerate(labels)]


def score(answer, cells, types) -> Score:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    ari, nmi, kmeans, n_clusters = [], [], [], []
    n_missing = len(set(cells) - set(answer["cells"]))
    for seed in SEEDS:
        labels = with_lost_cells(in_order(answer["cells"], answer[f"leiden{seed}"], cells))
        ari.append(adjusted_rand_score(types, labels))
        nmi.append(normalized_mutual_info_score(types, labels))
        n_clusters.append(len(set(labels)) - n_missing)
        model = KMeans(len(set(types)), n_init=10, random_state=seed)
        groups = in_order(answer["cells"], model.fit_predict(answer[f"embedding{seed}"]), cells)
        kmeans.append(adjusted_rand_score(types, with_lost_cells(groups)))
    means = [float(np.mean(x)) for x in (nmi, kmeans, n_clusters)]
    return Score(float(np.mean(ari)), min(ari), max(ari), *means, n_missing)


def run_side(python: str, side: str, data: Path, one: LabelledSet, out: Path, n_neighbors: int):
    """A side's answer for one set."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if side == "gpuatac":
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    job = {"side": side, "data": str(data), "set": one, "out": str(out), "n_neighbors": n_neighbors}
    command = [python, str(Path(__file__).resolve()), "--job", json.dumps(job)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed on {one.name}: {done.stderr[-2000:]}")
    return np.load(out)


def do_job(job: dict) -> None:
    warnings.simplefilter("ignore")
    one, data, out = LabelledSet(*job["set"]), Path(job["data"]), Path(job["out"])
    if job["side"] == "gpuatac":
        run_gpuatac(data, one, out)
    else:
        run_snapatac2(data, one, out, n_neighbors=job["n_neighbors"])


def compare(one: LabelledSet, data: Path, peer: str, scratch: Path) -> dict[str, Score]:
    """Score by side; "snapatac2" is the better of the runs that it was given."""
    cells, types = truth_of(data, one)
    ours = run_side(sys.executable, "gpuatac", data, one, scratch / "ours.npz", 0)
    scores = {"gpuatac": score(ours, cells, types)}
    runs = {"snapatac2": SMALL} | ({f"snapatac2, {FEWER} neighbours": FEWER} if len(cells) <= SMALL else {})
    for name, n_neighbors in runs.items():
        theirs = run_side(peer, "snapatac2", data, one, scratch / "theirs.npz", n_neighbors)
        scores[name] = score(theirs, cells, types)
    return scores


def best_peer(scores: dict[str, Score]) -> Score:
    return max((s for name, s in scores.items() if name != "gpuatac"), key=lambda s: s.ari)


def report(results: dict[str, dict[str, Score]]) -> list[str]:
    """A Markdown table and the verdict of the two rules."""
    lines = [
        "| set | side | ARI Leiden (5 seeds) | least-most | NMI | ARI k-means | clusters | lost cells |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, scores in results.items():
        for side, s in scores.items():
            lines.append(
                f"| {name} | {side} | {s.ari:.3f} | {s.ari_least:.3f}-{s.ari_most:.3f} | {s.nmi:.3f} | "
                f"{s.ari_kmeans:.3f} | {s.n_clusters:.1f} | {s.n_missing} |"
            )
    gaps = {name: scores["gpuatac"].ari - best_peer(scores).ari for name, scores in results.items()}
    ours = np.mean([scores["gpuatac"].ari for scores in results.values()])
    default = np.mean([scores["snapatac2"].ari for scores in results.values()])
    best = np.mean([best_peer(scores).ari for scores in results.values()])
    lines += [
        "",
        f"Mean ARI: gpuatac {ours:.3f}, SnapATAC2 {default:.3f} at its defaults, {best:.3f} at its better.",
        f"Gap of the means to the better: {ours - best:+.3f} (wanted: at least +0.03).",
        f"Worst single gap: {min(gaps.values()):+.3f} on {min(gaps, key=gaps.get)} (wanted: at least -0.03).",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python that has snapatac2 2.9.0")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GPUATAC_TEST_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="*", help="names of the sets to run")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        do_job(args.job)
        return
    if not args.peer:
        parser.error("--peer is needed: a Python that has snapatac2 2.9.0")
    if not (args.data / "matrices").is_dir():
        parser.error(f"{args.data} holds no folder 'matrices'; give the data folder by --data or GPUATAC_TEST_DATA")
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for one in SETS:
            if not args.only or one.name in args.only:
                results[one.name] = compare(one, args.data.resolve(), args.peer, Path(scratch))
                print("\n".join(report({one.name: results[one.name]})[2:-4]), flush=True)
    lines = report(results)
    print("\n" + "\n".join(lines))
    if args.only:
        return
    args.results.mkdir(parents=True, exist_ok=True)
    stem = args.results / f"accuracy-{machine()}-{commit()}"
    stem.with_name(stem.name + ".md").write_text("\n".join(lines) + "\n")
    with stem.with_name(stem.name + ".csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["set", "side", *Score._fields])
        for name, scores in results.items():
            for side, s in scores.items():
                writer.writerow([name, side, *(f"{x:.4f}" if isinstance(x, float) else x for x in s)])


if __name__ == "__main__":
    main()
