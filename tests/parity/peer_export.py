"""Run SnapATAC2 2.9.0 on a case folder of parity_inputs.py and store its arrays as ``peer.npz``.

Runs in the peer's own environment: ``peer_export.py CASE_FOLDER...``. Nothing of gpuatac is imported.
``peer_export.py --differences FOLDER`` stores its answers to the inputs on which the two differ.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import snapatac2 as snap
from anndata import AnnData
from parity_inputs import (
    BAD_ROWS,
    DIFFERENCE_SIZES,
    EARLY_TSS_GENE,
    EARLY_TSS_ROW,
    LAST_BASE_GENE,
    LAST_BASE_ROW,
    PEAKS,
    STRATEGIES,
    TIED_COUNTS,
    coverage_groups,
    coverage_names,
    coverage_options,
    group_peaks,
    peak_options,
    read_rows,
    write_case,
)


def csr_parts(out: dict, name: str, matrix) -> None:
    """Sorted CSR parts and shape of a count matrix, values as int64."""
    m = sp.csr_matrix(matrix).astype(np.int64)
    m.sum_duplicates()
    out[f"{name}/indptr"], out[f"{name}/indices"], out[f"{name}/data"] = m.indptr, m.indices, m.data
    out[f"{name}/shape"] = np.array(m.shape)


def strings(values) -> np.ndarray:
    return np.array([str(v) for v in values])


def export(folder: Path) -> dict:
    case = json.loads((folder / "case.json").read_text())
    sizes = {c: int(n) for c, n in read_rows(folder / "chrom.sizes")}
    regions = [f"{c}:{s}-{e}" for c, s, e in read_rows(folder / "regions.bed")]
    genes = folder / "genes.gtf"
    out: dict = {"version": np.array(snap.__version__)}
    with tempfile.TemporaryDirectory() as tempdir:
        adata = snap.pp.import_fragments(
            case["fragments"],
            chrom_sizes=sizes,
            sorted_by_barcode=False,
            min_num_fragments=case["min_num_fragments"],
            tempdir=tempdir,
            n_jobs=1,
        )
    out["barcodes"] = strings(adata.obs_names)
    for name in ("n_fragment", "frac_dup", "frac_mito"):
        out[name] = adata.obs[name].to_numpy()
    if case.get("only_import"):
        return out

    snap.metrics.frag_size_distr(adata, max_recorded_size=1000)
    out["frag_size_distr"] = np.asarray(adata.uns["frag_size_distr"])
    snap.metrics.tsse(adata, genes, n_jobs=1)
    out["tsse"] = adata.obs["tsse"].to_numpy()
    for name in ("library_tsse", "frac_overlap_TSS", "TSS_profile"):
        out[name] = np.asarray(adata.uns[name])
    snap.metrics.frip(adata, {"frip": list(regions)}, n_jobs=1)
    out["frip"] = adata.obs["frip"].to_numpy()
    snap.metrics.frip(adata, {"frip_cuts": list(regions)}, count_as_insertion=True, n_jobs=1)
    out["frip_cuts"] = adata.obs["frip_cuts"].to_numpy()

    export_tracks(folder, adata)
    export_peaks(folder, adata)
    for strategy in STRATEGIES:
        tiles = snap.pp.add_tile_matrix(adata, counting_strategy=strategy, inplace=False, n_jobs=1)
        csr_parts(out, f"tiles {strategy}", tiles.X)
        peaks = snap.pp.make_peak_matrix(adata, use_rep=regions, counting_strategy=strategy)
        csr_parts(out, f"peaks {strategy}", peaks.X)
    names = tiles.var_names
    picked = np.linspace(0, len(names) - 1, 2000).astype(int)
    out["tile_name_at"], out["tile_names"] = picked, strings(names[picked])
    out["peak_names"] = strings(peaks.var_names)

    domains = {
        "genes": {},
        "genes without body": {"include_gene_body": False},
        "genes +1000 downstream": {"upstream": 500, "downstream": 1000},
        "transcripts": {"id_type": "transcript"},
    }
    for name, domain in domains.items():
        matrix = snap.pp.make_gene_matrix(adata, genes, **domain)
        csr_parts(out, name, matrix.X)
        out[f"{name}/names"] = strings(matrix.var_names)

    snap.pp.add_tile_matrix(adata, n_jobs=1)
    snap.pp.select_features(adata, n_features=case["n_features"], verbose=False)
    selected = adata.var["selected"].to_numpy()
    out["selected"], out["feature_count"] = selected, adata.var["count"].to_numpy()
    snap.tl.spectral(adata)
    out["spectral_eigenvalue"] = np.asarray(adata.uns["spectral_eigenvalue"])
    out["X_spectral"] = np.asarray(adata.obsm["X_spectral"])
    snap.pp.knn(adata, n_neighbors=case["n_neighbors"])
    distances = sp.csr_matrix(adata.obsp["distances"])
    for part in ("indptr", "indices", "data"):
        out[f"knn/{part}"] = getattr(distances, part)
    snap.tl.leiden(adata)
    out["leiden"] = strings(adata.obs["leiden"])

    differential(out, adata, regions, sizes)
    snap.pp.scrublet(adata, verbose=False, n_jobs=1)
    out["doublet_score"] = adata.obs["doublet_score"].to_numpy()
    out["sim_doublet_score"] = np.asarray(adata.uns["scrublet_sim_doublet_score"])
    out["doublet_probability"] = adata.obs["doublet_probability"].to_numpy()
    n = adata.n_obs
    pairs = np.random.RandomState(0).randint(0, n, size=(2 * n, 2))
    x = sp.csr_matrix(adata.X[:, selected])
    merged = AnnData(X=sp.vstack([x, x[pairs[:, 0]] + x[pairs[:, 1]]]).tocsr())
    values, _ = snap.tl.spectral(merged, features=None, n_comps=15, inplace=False)
    out["scrublet_n_comps_kept"] = np.array(len(values))
    return out


def export_tracks(folder: Path, adata) -> None:
    """``coverage/NAME.GROUP.bedgraph`` for every set of options, the default as bigWig too, and ``coverage/GROUP.bed``."""
    groups = coverage_groups(adata.n_obs)
    place = {"out_dir": str(folder / "coverage"), "n_jobs": 2, "tempdir": folder}
    for name in coverage_names(folder):
        options = coverage_options(folder, name)
        snap.ex.export_coverage(adata, groups, prefix=f"{name}.", suffix=".bedgraph", **place, **options)
    snap.ex.export_coverage(adata, groups, suffix=".bw", **place)
    snap.ex.export_fragments(adata, groups, out_dir=str(folder / "coverage"), suffix=".bed", max_frag_length=300)


def export_peaks(folder: Path, adata) -> None:
    """``peaks/NAME.GROUP.tsv`` for every set of options."""
    (folder / "peaks").mkdir(exist_ok=True)
    for name in PEAKS:
        groups, options = peak_options(folder, name, adata.n_obs)
        found = snap.tl.macs3(adata, groupby=groups, n_jobs=1, tempdir=folder, inplace=False, **options)
        for group, frame in found.items():
            frame.write_csv(folder / "peaks" / f"{name}.{group}.tsv", separator="\t")


def differential(out: dict, adata, regions: list, sizes: dict) -> None:
    """Merged peaks, peak counts by fragment length, sums by cluster, marker regions and tests."""
    import polars as pl

    kinds = {"chrom": pl.String, "name": pl.String, "strand": pl.String, "score": pl.UInt16}
    kinds |= dict.fromkeys(("start", "end", "peak"), pl.UInt64)
    kinds |= dict.fromkeys(("signal_value", "p_value", "q_value"), pl.Float64)
    order = ("chrom", "start", "end", "name", "score", "strand", "signal_value", "p_value", "q_value", "peak")
    groups = {}
    for name, (chrom, start, end, offset, p) in group_peaks(sizes, n_groups=12, n=700, seed=8).items():
        n = len(start)
        given = {"chrom": chrom, "start": start, "end": end, "peak": offset, "p_value": p, "q_value": p}
        given |= {"name": ["."] * n, "strand": ["."] * n, "score": [0] * n, "signal_value": [1.0] * n}
        groups[name] = pl.DataFrame({c: pl.Series(c, list(given[c]), dtype=kinds[c]) for c in order})
    merged = snap.tl.merge_peaks(groups, sizes)
    out["merged"] = strings(merged["Peaks"])
    for name in groups:
        out[f"merged/{name}"] = merged[name].to_numpy()
    for low, high in ((100, None), (None, 200), (147, 294)):
        limits = {"min_frag_size": low, "max_frag_size": high}
        csr_parts(out, f"peaks {low}-{high}", snap.pp.make_peak_matrix(adata, use_rep=regions, **limits).X)
    # the tests need features once each, and some cells without them
    peaks = snap.pp.make_peak_matrix(adata, use_rep=list(dict.fromkeys(regions)))
    label = strings(adata.obs["leiden"])
    if len(set(label)) < 2:
        label = strings(np.arange(adata.n_obs) % 2)
    out["label"] = label
    for normalize in (None, "RPM", "RPKM"):
        sums = snap.tl.aggregate_X(peaks, groupby=list(label), normalize=normalize)
        out[f"aggregate {normalize}"], out["aggregate/groups"] = np.asarray(sums.X), strings(sums.obs_names)
    markers = snap.tl.marker_regions(peaks, groupby=list(label), pvalue=0.15)
    out["markers/groups"] = strings(markers)
    for name, features in markers.items():
        out[f"markers/{name}"] = strings(features)
    found = sp.csr_matrix(peaks.X).astype(bool)
    features = np.flatnonzero(np.asarray(found.sum(axis=0)).ravel() < adata.n_obs)
    out["test/features"] = features
    first = np.flatnonzero(label == label[0])
    rest = np.flatnonzero(label != label[0])
    tested = snap.tl.diff_test(peaks, first.tolist(), rest.tolist(), features=features.tolist())
    out["test/name"] = strings(tested["feature name"])
    for part in ("log2(fold_change)", "p-value", "adjusted p-value"):
        out[f"test/{part}"] = tested[part].to_numpy()


def outcome(run) -> str:
    """What the peer answers, or the kind of exception; a Rust panic is no Exception."""
    try:
        return str(run())
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"raises {type(error).__name__}"


def differences(folder: Path) -> dict:
    """The peer's side of every intended difference."""
    folder.mkdir(parents=True, exist_ok=True)

    def load(text: str):
        path = folder / "fragments.tsv"
        path.write_text(text)
        sizes = dict(DIFFERENCE_SIZES)
        return snap.pp.import_fragments(
            path, chrom_sizes=sizes, min_num_fragments=0, sorted_by_barcode=False, tempdir=folder, n_jobs=1
        )

    def tiled_sum(text: str) -> int:
        tiles = snap.pp.add_tile_matrix(load(text), bin_size=100, inplace=False, exclude_chroms=None, n_jobs=1)
        return int(tiles.X.sum())

    out = {"version": snap.__version__, "bad rows": {}}
    for name, text in BAD_ROWS.items():
        out["bad rows"][name] = {
            "n_fragment": outcome(lambda text=text: load(text).obs["n_fragment"].tolist()),
            "tile sum": outcome(lambda text=text: tiled_sum(text)),
        }
    adata = load(LAST_BASE_ROW)
    write_case(folder, fragments=folder / "x", sizes=DIFFERENCE_SIZES, genes=LAST_BASE_GENE, regions=[])
    genes = snap.pp.make_gene_matrix(adata, folder / "genes.gtf")
    out["last base"] = int(genes.X.sum())
    adata = load(EARLY_TSS_ROW)
    write_case(folder, fragments=folder / "x", sizes=DIFFERENCE_SIZES, genes=EARLY_TSS_GENE, regions=[])
    snap.metrics.tsse(adata, folder / "genes.gtf", n_jobs=1)
    out["early TSS"] = np.flatnonzero(np.asarray(adata.uns["TSS_profile"])).tolist()
    tied = AnnData(X=sp.csr_matrix(np.array([TIED_COUNTS], np.float64)))
    mask = snap.pp.select_features(
        tied, n_features=3, filter_lower_quantile=0, filter_upper_quantile=0, inplace=False, verbose=False
    )
    out["ties"] = np.flatnonzero(mask).tolist()
    return out


def main() -> None:
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    if sys.argv[1] == "--differences":
        folder = Path(sys.argv[2])
        found = differences(folder)
        (folder / "differences.json").write_text(json.dumps(found, indent=2) + "\n")
        return
    for folder in map(Path, sys.argv[1:]):
        np.savez_compressed(folder / "peer.npz", **export(folder))
        print(f"{folder.name}: stored", flush=True)


if __name__ == "__main__":
    main()
