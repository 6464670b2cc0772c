"""``make parity``: the same files through SnapATAC2 2.9.0 and gpuatac, one table, exit code 1 if they differ.

    compare.py --peer PEER_PYTHON [--data FOLDER] [--work FOLDER] [--only NAME ...]

The peer runs in its own environment (peer_export.py) and leaves ``peer.npz`` in each case folder. Integers
are compared exactly, floats with the tolerance that stands in the row. What the peer answers where gpuatac
differs on purpose is measured again at the end, against the answers that test_differences.py relies on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import scipy.sparse as sp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import oracles
import parity_inputs as inputs

import gpuatac as ga

HERE = Path(__file__).resolve().parent
PINNED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class Table:
    """Rows of check, peer's value, our value, verdict."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        print(f"{'check':<50} {'SnapATAC2 2.9.0':<34} {'gpuatac':<34} equal?")

    def row(self, name: str, peer, ours, *, same: bool, rule: str = "exact") -> None:
        self.failed += [] if same else [name]
        verdict = f"yes ({rule})" if same else f"NO ({rule})"
        print(f"{name:<50} {brief(peer):<34} {brief(ours):<34} {verdict}", flush=True)

    def exact(self, name: str, peer, ours) -> None:
        """Equal shape and values; a CSR triple counts as one value."""
        if sp.issparse(peer):
            same = peer.shape == ours.shape and (peer != ours).nnz == 0
        else:
            same = np.array_equal(np.asarray(peer), np.asarray(ours))
        self.row(name, peer, ours, same=same)

    def close(self, name: str, peer, ours, tolerance: float) -> None:
        """Largest difference relative to max(1, |peer|) at most ``tolerance``; NaN equals NaN."""
        peer, ours = np.asarray(peer, float), np.asarray(ours, float)
        if peer.shape != ours.shape or not np.array_equal(np.isnan(peer), np.isnan(ours)):
            self.row(name, peer, ours, same=False, rule=f"{tolerance:g}")
            return
        gap = np.nan_to_num(np.abs(peer - ours) / np.maximum(1, np.abs(peer)))
        worst = float(gap.max()) if gap.size else 0.0
        self.row(name, peer, ours, same=worst <= tolerance, rule=f"worst {worst:.1e}, allowed {tolerance:g}")


def brief(value) -> str:
    """A value in at most 34 characters."""
    if sp.issparse(value):
        return f"{value.shape[0]}x{value.shape[1]} nnz {value.nnz} sum {int(value.sum())}"
    if isinstance(value, str | int | float):
        return str(value)[:34]
    value = np.asarray(value)
    if value.ndim == 0:
        return str(value)[:34]
    if value.dtype.kind in "biuf":
        return f"{'x'.join(map(str, value.shape))} sum {np.nansum(value):.10g}"
    return f"{value.size} names, first {value.flat[0] if value.size else '-'}"[:34]


def peer_matrix(peer, name: str) -> sp.csr_matrix:
    """A count matrix of the peer."""
    parts = (peer[f"{name}/data"], peer[f"{name}/indices"], peer[f"{name}/indptr"])
    return sp.csr_matrix(parts, shape=tuple(peer[f"{name}/shape"]))


def our_matrix(matrix) -> sp.csr_matrix:
    """One of ours as int64 CSR."""
    out = sp.csr_matrix(matrix).astype(np.int64)
    out.sum_duplicates()
    return out


def compare_case(folder: Path, table: Table) -> None:
    """Every number of one case."""
    case = json.loads((folder / "case.json").read_text())
    peer = np.load(folder / "peer.npz")
    tag = folder.name
    genome = ga.io.read_genome(folder / "chrom.sizes", genes=folder / "genes.gtf", contigs="all")
    adata = ga.pp.import_fragments(case["fragments"], genome, min_num_fragments=case["min_num_fragments"], device="cpu")
    table.exact(f"{tag}: barcodes and their order", peer["barcodes"], adata.obs_names.to_numpy().astype(str))
    for name in ("n_fragment", "frac_dup", "frac_mito"):
        table.exact(f"{tag}: {name}", peer[name], adata.obs[name])
    compare_qc(tag, folder, peer, adata, genome, table)
    compare_coverage(tag, folder, adata, table)
    compare_peaks(tag, folder, adata, table)
    compare_counts(tag, folder, peer, adata, genome, table)
    compare_differential(tag, folder, peer, adata, table)
    compare_embedding(tag, case, peer, adata, table)


def compare_peaks(tag, folder, adata, table) -> None:
    """Called peaks, every set of options: places, summits and scores; fold change, p and q to 1e-9."""
    for name in inputs.PEAKS:
        groups, options = inputs.peak_options(folder, name, adata.n_obs)
        for group, ours in ga.tl.call_peaks(adata, groups, inplace=False, **options).items():
            path = folder / "peaks" / f"{name}.{group}.tsv"
            theirs = pd.read_csv(path, sep="\t") if path.exists() else ours.iloc[:0]
            whole = ["chrom", "start", "end", "score", *(["peak"] if "peak" in theirs else [])]
            rows = [frame[whole].astype(str).agg(" ".join, axis=1).to_numpy(str) for frame in (theirs, ours)]
            table.exact(f"{tag}: peaks, {name}, {group}", *rows)
            for part in ("signal_value", "p_value", "q_value"):
                table.close(f"{tag}: peaks, {name}, {group}, {part}", theirs[part], ours[part].astype(float), 1e-9)


def compare_differential(tag, folder, peer, adata, table) -> None:
    """Merged peaks, counts by fragment length, sums, markers and tests of the peer's clusters."""
    sizes = {c: int(n) for c, n in inputs.read_rows(folder / "chrom.sizes")}
    groups = {}
    for name, columns in inputs.group_peaks(sizes, n_groups=12, n=700, seed=8).items():
        groups[name] = pd.DataFrame(dict(zip(("chrom", "start", "end", "peak", "p_value"), columns, strict=True)))
    merged = ga.tl.merge_peaks(groups, sizes)
    table.exact(f"{tag}: merged peaks and their order", peer["merged"], merged["Peaks"].to_numpy().astype(str))
    theirs = np.array([peer[f"merged/{name}"] for name in groups])
    table.exact(f"{tag}: groups of merged peaks", theirs, merged[list(groups)].to_numpy().T)
    regions = [f"{c}:{s}-{e}" for c, s, e in inputs.read_rows(folder / "regions.bed")]
    for low, high in ((100, None), (None, 200), (147, 294)):
        ours = ga.pp.make_peak_matrix(adata, regions, min_frag_size=low, max_frag_size=high)
        name = f"peaks {low}-{high}"
        table.exact(f"{tag}: {name} bp", peer_matrix(peer, name), our_matrix(ours.X))
    peaks = ga.pp.make_peak_matrix(adata, list(dict.fromkeys(regions)))
    label = peer["label"]
    for normalize in (None, "RPM", "RPKM"):
        sums = ga.tl.aggregate(peaks, label, normalize=normalize)
        table.close(f"{tag}: sums by cluster, {normalize}", peer[f"aggregate {normalize}"], sums.X, 1e-12)
    table.exact(f"{tag}: order of the clusters", peer["aggregate/groups"], sums.obs_names.to_numpy().astype(str))
    markers = ga.tl.marker_regions(peaks, label, pvalue=0.15)
    table.exact(f"{tag}: clusters with markers", peer["markers/groups"], np.array(list(markers), str))
    for name, features in markers.items():
        table.exact(f"{tag}: markers of {name}", peer[f"markers/{name}"], features.to_numpy().astype(str))
    tested = ga.tl.diff_test(
        peaks, label == label[0], cell_group2=label != label[0], features=peer["test/features"]
    ).set_index("feature name")
    table.exact(f"{tag}: tested features", np.sort(peer["test/name"]), np.sort(tested.index.to_numpy().astype(str)))
    tested = tested.loc[peer["test/name"]]
    fold = "log2(fold_change)"
    table.close(f"{tag}: fold changes", peer[f"test/{fold}"], tested[fold], 1e-12)
    for part in ("p-value", "adjusted p-value"):  # the peer's solver stops at a gradient of 1e-4
        gap = np.abs(np.log10(peer[f"test/{part}"]) - np.log10(tested[part].to_numpy()))
        rule = f"median {np.median(gap):.0e}, worst {gap.max():.3f} in log10, allowed 0.02"
        table.row(f"{tag}: {part}", peer[f"test/{part}"], tested[part], same=gap.max() <= 0.02, rule=rule)


def compare_qc(tag, folder, peer, adata, genome, table) -> None:
    ga.metrics.frag_size_distr(adata)
    table.exact(f"{tag}: fragment sizes", peer["frag_size_distr"], adata.uns["frag_size_distr"])
    ga.metrics.tsse(adata, genome)
    table.close(f"{tag}: TSSe per cell", peer["tsse"], adata.obs["tsse"], 1e-9)
    table.close(f"{tag}: TSSe of the library", peer["library_tsse"], adata.uns["library_tsse"], 1e-9)
    table.close(f"{tag}: share of cuts near a TSS", peer["frac_overlap_TSS"], adata.uns["frac_overlap_TSS"], 1e-12)
    table.exact(f"{tag}: TSS profile", peer["TSS_profile"], adata.uns["TSS_profile"])
    ga.metrics.frip(adata, {"frip": folder / "regions.bed"})
    table.close(f"{tag}: FRiP", peer["frip"], adata.obs["frip"], 1e-12)


def compare_coverage(tag, folder, adata, table) -> None:
    """Tracks of three groups of cells; the peer divides by bases where its documentation says reads."""
    groups = inputs.coverage_groups(adata.n_obs)
    theirs, ours = folder / "coverage", folder / "our coverage"
    for name in inputs.coverage_names(folder):
        options = inputs.coverage_options(folder, name)
        ga.ex.export_coverage(
            adata, groups, denominator="bases", out_dir=ours, prefix=f"{name}.", suffix=".bedgraph", **options
        )
        for group in sorted(set(groups)):
            file = f"{name}.{group}.bedgraph"
            tracks_close(f"{tag}: coverage, {name}, {group}", bedgraph(theirs / file), bedgraph(ours / file), table)
    found = ga.ex.export_coverage(adata, groups, denominator="bases", out_dir=ours)
    for group, path in found.items():
        a, b = pyBigWig.open(str(theirs / f"{group}.bw")), pyBigWig.open(path)
        rows = [
            pd.DataFrame([(c, *run) for c in sorted(t.chroms()) for run in t.intervals(c) or ()]).set_axis(
                BEDGRAPH, axis=1
            )
            for t in (a, b)
        ]
        tracks_close(f"{tag}: bigWig, {group}", *rows, table)
        levels = [t.header()["nLevels"] for t in (a, b)]
        table.row(f"{tag}: bigWig, {group}, zoom levels", *levels, same=levels[1] >= levels[0], rule="no fewer")
    ga.ex.export_fragments(adata, groups, out_dir=ours, suffix=".bed", max_frag_length=300)
    for group in found:
        rows = [sorted(tuple(r[:4]) for r in inputs.read_rows(f / f"{group}.bed")) for f in (theirs, ours)]
        table.exact(f"{tag}: fragments of {group}", *(np.array(["\t".join(r) for r in part]) for part in rows))
    for place in (theirs, ours):  # hundreds of megabytes
        shutil.rmtree(place)


BEDGRAPH = ["chrom", "start", "end", "value"]


def bedgraph(path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", header=None, names=BEDGRAPH, dtype={"chrom": str})


def tracks_close(name: str, peer: pd.DataFrame, ours: pd.DataFrame, table: Table) -> None:
    """The values of every base; those of the peer's that stand for 0 after rounding count as 0."""
    worst, n_bases = 0.0, 0
    least = 1e-9 * peer["value"].max()
    for chrom in sorted({*peer["chrom"], *ours["chrom"]}):
        rows = [frame[frame["chrom"] == chrom] for frame in (peer, ours)]
        edges = np.unique(np.concatenate([row[column].to_numpy() for row in rows for column in ("start", "end")]))
        a, b = (values_at(row, edges[:-1]) for row in rows)
        worst = max(worst, float((np.abs(a - b) / (np.abs(a) + least)).max(initial=0)))
        n_bases += int(np.diff(edges)[a > least].sum())
    sums = [f"{len(f)} rows, {n_bases} bases" for f in (peer, ours)]
    table.row(name, *sums, same=worst <= 1e-6, rule=f"worst {worst:.1e}, allowed 1e-06")


def values_at(rows: pd.DataFrame, at: np.ndarray) -> np.ndarray:
    """The value at each position, 0 outside the rows."""
    if rows.empty:
        return np.zeros(at.size)
    i = np.searchsorted(rows["start"].to_numpy(), at, side="right") - 1
    inside = (i >= 0) & (at < rows["end"].to_numpy()[i])
    return np.where(inside, rows["value"].to_numpy()[i], 0.0)


def compare_counts(tag, folder, peer, adata, genome, table) -> None:
    regions = [f"{c}:{s}-{e}" for c, s, e in inputs.read_rows(folder / "regions.bed")]
    for strategy in inputs.STRATEGIES:
        ga.pp.add_tile_matrix(adata, bin_size=500, counting_strategy=strategy)
        table.exact(f"{tag}: tiles, {strategy}", peer_matrix(peer, f"tiles {strategy}"), our_matrix(adata.X))
        peaks = ga.pp.make_peak_matrix(adata, regions, counting_strategy=strategy)
        table.exact(f"{tag}: peaks, {strategy}", peer_matrix(peer, f"peaks {strategy}"), our_matrix(peaks.X))
    table.exact(f"{tag}: tile names (2,000 of them)", peer["tile_names"], adata.var_names[peer["tile_name_at"]])
    table.exact(f"{tag}: peak names", peer["peak_names"], peaks.var_names)
    domains = {
        "genes": {},
        "genes without body": {"include_gene_body": False},
        "genes +1000 downstream": {"upstream": 500, "downstream": 1000},
        "transcripts": {"id_type": "transcript"},
    }
    for name, domain in domains.items():
        genes = ga.pp.make_gene_matrix(adata, genome, interval_rule="snapatac2", **domain)
        table.exact(f"{tag}: {name}, names", peer[f"{name}/names"], genes.var_names)
        table.exact(f"{tag}: {name}, counts", peer_matrix(peer, name), our_matrix(genes.X))


def compare_embedding(tag, case, peer, adata, table) -> None:
    ga.pp.add_tile_matrix(adata, bin_size=500)
    ga.pp.select_features(adata, n_features=case["n_features"])
    selected, count = peer["selected"], peer["feature_count"]
    ours = adata.var["selected"].to_numpy()
    table.exact(f"{tag}: counts of the features", count, adata.var["count"])
    table.exact(f"{tag}: counts of the selected features", np.sort(count[selected]), np.sort(count[ours]))
    in_order = oracles.select_features(count, n_features=case["n_features"])
    table.exact(f"{tag}: our mask against the stated tie rule", in_order, ours)

    adata.var["of_peer"] = selected
    ga.tl.spectral(adata, features="of_peer", seed=0)
    eigenvalues = peer["spectral_eigenvalue"]
    k = len(eigenvalues)
    table.close(f"{tag}: eigenvalues ({k} of 30)", eigenvalues, adata.uns["spectral_eigenvalue"][:k], 1e-8)
    cosine = np.abs(cosines(peer["X_spectral"], np.asarray(adata.obsm["X_spectral"], float)[:, :k]))
    table.close(f"{tag}: |cosine| of eigenvectors", np.ones(k), cosine, 1e-5)

    adata.obsm["X_of_peer"] = peer["X_spectral"]
    n_neighbors = min(case["n_neighbors"], adata.n_obs - 1)
    ga.pp.knn(adata, n_neighbors=n_neighbors, use_rep="X_of_peer", weights="count")
    compare_neighbors(tag, peer, adata, table)
    compare_doublets(tag, peer, adata, table)


def cosines(a, b):
    return (a * b).sum(axis=0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)


def compare_neighbors(tag, peer, adata, table) -> None:
    n = adata.n_obs
    theirs = sp.csr_matrix((peer["knn/data"], peer["knn/indices"], peer["knn/indptr"]), shape=(n, n))
    ours = sp.csr_matrix(adata.obsp["distances"])
    same = theirs.astype(bool).multiply(ours.astype(bool)).nnz
    table.close(f"{tag}: neighbours in common", 1.0, same / theirs.nnz, 0.0)
    rows = (np.sort(theirs[i].data) for i in range(n)), (np.sort(ours[i].data) for i in range(n))
    table.close(f"{tag}: distances to them", *(np.concatenate(list(r)) for r in rows), 1e-5)


def compare_doublets(tag, peer, adata, table) -> None:
    """Scores from the same pairs.

    The pairs (i, i) that are drawn lie exactly on cell i, so "the k-th neighbour" can be a tie between a cell
    and a simulated doublet, which either side may break either way. Both scores must then be among those that
    the tie allows; where there is no tie they must agree to 1e-6.
    """
    n = adata.n_obs
    pairs = oracles.simulated_pairs(n)
    kept = int(peer["scrublet_n_comps_kept"])
    ga.pp.scrublet(adata, features="of_peer", sim_pairs=pairs, simulation="joint")
    ours, theirs = adata.obs["doublet_score"].to_numpy(), peer["doublet_score"]
    x = sp.csr_matrix(adata.X)[:, peer["selected"]].astype(float)
    low, high = attainable_scores(sp.vstack([x, x[pairs[:, 0]] + x[pairs[:, 1]]]).tocsr(), n, kept)
    tied = high - low > 1e-9
    name = f"{tag}: doublet scores ({kept} comps, {int(tied.sum())} cells tied)"
    table.close(name, theirs[~tied], ours[~tied], 1e-6)
    inside = [bool(np.all((s >= low - 1e-6) & (s <= high + 1e-6))) for s in (theirs, ours)]
    table.exact(f"{tag}: doublet scores within what ties allow", [True, True], inside)


def attainable_scores(merged, n_cells, n_comps):
    """Least and greatest score of each cell over all ways to break ties at the k-th neighbour."""
    _, points = oracles.spectral(merged.toarray(), n_comps)
    n_sim = len(points) - n_cells
    k = oracles.scrublet_neighbors(n_cells, n_sim)
    bounds = []
    for i in range(n_cells):
        distance = np.sqrt(((points - points[i]) ** 2).sum(axis=1))
        distance[i] = np.inf
        edge = np.partition(distance, k - 1)[k - 1]
        slack = 1e-6 * max(edge, 1e-3)
        sure, open_ = distance < edge - slack, np.abs(distance - edge) <= slack
        places, open_sim = k - sure.sum(), open_[n_cells:].sum()
        open_cells = open_.sum() - open_sim
        certain = sure[n_cells:].sum()
        bounds.append((certain + max(places - open_cells, 0), certain + min(places, open_sim)))
    q = (np.array(bounds, float) + 1) / (k + 2)
    rho, r = 0.1, n_sim / n_cells
    return (q * rho / r / (1 - rho - q * (1 - rho - rho / r))).T


def compare_oracles(folder: Path, table: Table) -> None:
    """The oracles of the test suite against the peer, on the smallest case."""
    case = json.loads((folder / "case.json").read_text())
    peer = np.load(folder / "peer.npz")
    sizes = {c: int(n) for c, n in inputs.read_rows(folder / "chrom.sizes")}
    rows = [(c, int(s), int(e), b, int(n)) for c, s, e, b, n in inputs.read_rows(Path(case["fragments"]))]
    found = oracles.import_fragments(rows, sizes, min_num_fragments=case["min_num_fragments"])
    table.exact("oracle: barcodes and their order", peer["barcodes"], found.barcodes)
    for name in ("n_fragment", "frac_dup", "frac_mito"):
        table.exact(f"oracle: {name}", peer[name], getattr(found, name))
    fragments, barcodes = found.fragments, found.barcodes
    table.exact("oracle: fragment sizes", peer["frag_size_distr"], oracles.frag_size_distr(fragments))
    transcripts = []
    for row in inputs.read_rows(folder / "genes.gtf"):
        names = dict(re.findall(r'(\w+) "([^"]*)"', row[8]))
        ids = (names["transcript_id"], names["gene_id"], names["gene_name"])
        transcripts.append(oracles.Transcript(row[0], int(row[3]) - 1, int(row[4]), row[6], *ids))
    tss = oracles.tss_enrichment(fragments, barcodes, transcripts)
    table.close("oracle: TSSe per cell", peer["tsse"], tss.score, 1e-12)
    table.exact("oracle: TSS profile", peer["TSS_profile"], tss.profile)
    regions = [(c, int(s), int(e)) for c, s, e in inputs.read_rows(folder / "regions.bed")]
    for strategy in inputs.STRATEGIES:
        tiles = oracles.tile_counts(fragments, barcodes, sizes, strategy=strategy)
        table.exact(f"oracle: tiles, {strategy}", peer_matrix(peer, f"tiles {strategy}"), our_matrix(tiles))
        peaks = oracles.region_counts(fragments, barcodes, regions, strategy=strategy)
        table.exact(f"oracle: peaks, {strategy}", peer_matrix(peer, f"peaks {strategy}"), our_matrix(peaks))
    for name, domain in {"genes": {}, "genes without body": {"include_gene_body": False}}.items():
        _, genes = oracles.gene_counts(fragments, barcodes, transcripts, rule="snapatac2", **domain)
        table.exact(f"oracle: {name}", peer_matrix(peer, name), our_matrix(genes))
    table.close("oracle: FRiP", peer["frip"], oracles.frip(fragments, barcodes, regions), 1e-12)
    x = peer_matrix(peer, "tiles paired-insertion")[:, peer["selected"]].toarray()
    values, _ = oracles.spectral(x, 30)
    k = len(peer["spectral_eigenvalue"])
    table.close("oracle: eigenvalues", peer["spectral_eigenvalue"], values[:k], 1e-8)
    neighbors, _ = oracles.knn(peer["X_spectral"], case["n_neighbors"])
    table.exact("oracle: neighbours", peer["knn/indices"], np.sort(neighbors, axis=1).ravel())


def compare_differences(found: dict, table: Table) -> None:
    """What the peer does today against the stored answers that tests/parity/test_differences.py relies on."""
    stored = json.loads((HERE / "differences.json").read_text())
    print("\nIntended differences: the peer's answers, stored and measured again (ours: test_differences.py)")
    table.exact("version of the peer", stored["version"], found["version"])
    for name, answers in stored["bad rows"].items():
        for what, answer in answers.items():
            table.exact(f"{name}: {what}", answer, found["bad rows"][name][what])
    table.exact("cut on the last base of a gene", stored["last base"], found["last base"])
    table.exact("TSS profile near the chromosome start", stored["early TSS"], found["early TSS"])
    # Which of the tied features the peer takes depends on the sort that NumPy has for this processor.
    table.exact("ties: number of features taken", len(stored["ties"]), len(found["ties"]))


def peer_run(peer: str, *arguments: str | Path) -> None:
    """peer_export.py in the peer's environment; a Rust panic prints to stderr although it is expected."""
    command = [peer, str(HERE / "peer_export.py"), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **PINNED}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the peer failed ({done.returncode}): {done.stderr[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="a Python that has snapatac2 2.9.0")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GPUATAC_TEST_DATA", "../shared/data")))
    parser.add_argument("--work", type=Path, default=None, help="where the cases are kept; default: a temporary folder")
    parser.add_argument("--only", nargs="*", help="names of the cases to run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        cases = inputs.simulated_cases(work)
        if (args.data / "scatac").is_dir():
            cases += inputs.real_cases(work, args.data)
        else:
            print(f"no folder {args.data / 'scatac'}: the real files are left out; set GPUATAC_TEST_DATA")
        cases = [c for c in cases if not args.only or c.name in args.only]
        table = Table()
        for folder in cases:
            peer_run(args.peer, folder)
            if folder.name == "tiny":
                compare_oracles(folder, table)
            compare_case(folder, table)
        peer_run(args.peer, "--differences", work / "differences")
        compare_differences(json.loads((work / "differences" / "differences.json").read_text()), table)
    if table.failed:
        sys.exit(f"\n{len(table.failed)} differences: " + "; ".join(table.failed))
    print("\nno difference")


if __name__ == "__main__":
    main()
