"""The whole chain of verbs on the CPU and on another device gives the same numbers.

Integers are equal, floats agree to the tolerance stated beside them, and what is free up to sign, order or label is
compared as such. The other device is a GPU or the stand-in for one, and the CPU again, which proves that the chain is reproducible.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from devices import DEVICES, on_device
from sklearn.metrics import adjusted_rand_score

import gpuatac as ga
from gpuatac.backend import as_host, backend_of


def host(matrix):
    return backend_of(matrix).csr_to_host(matrix)


def chain(sample, device):
    genome = ga.io.read_genome("hg38", genes=sample.genes)
    adata = ga.pp.import_fragments(sample.fragments, genome, device=device)
    ga.metrics.qc(adata, genes=genome, blacklist=["chr1:1000000-2000000"], regions={"frip": sample.peaks})
    ga.pp.filter_cells(adata, min_counts=500, min_tsse=0)
    ga.pp.add_tile_matrix(adata, bin_size=2000)
    ga.pp.select_features(adata, n_features=150_000)
    ga.pp.scrublet(adata)
    ga.tl.spectral(adata)
    ga.pp.knn(adata)
    ga.tl.umap(adata)
    return adata


@pytest.fixture(scope="module", params=DEVICES)
def pair(request, sample):
    """(CPU, other device) results of the same chain."""
    first = chain(sample, "cpu")
    with on_device(request) as device:
        yield first, chain(sample, device)


def test_cells_and_integer_results_are_equal(pair):
    a, b = pair
    assert a.obs_names.tolist() == b.obs_names.tolist()
    for column in ("n_fragment", "frac_dup", "frac_mito", "frip", "blacklist_fraction", "nucleosome_signal"):
        np.testing.assert_array_equal(a.obs[column], b.obs[column])
    for key in ("TSS_profile", "frag_size_distr"):
        np.testing.assert_array_equal(as_host(a.uns[key]), as_host(b.uns[key]))
    np.testing.assert_array_equal(a.var["selected"], b.var["selected"])
    x, y = host(a.X), host(b.X)
    for part in ("indptr", "indices", "data"):  # float32 on a GPU, exact for these counts
        np.testing.assert_array_equal(getattr(x, part), getattr(y, part))


@pytest.mark.parametrize("strategy", ["insertion", "fragment", "paired-insertion"])
def test_matrices_of_every_strategy_are_equal(pair, sample, strategy):
    for make in (
        lambda adata: ga.pp.add_tile_matrix(adata, bin_size=500, counting_strategy=strategy, inplace=False),
        lambda adata: ga.pp.make_peak_matrix(adata, sample.peaks, counting_strategy=strategy),
        lambda adata: ga.pp.make_gene_matrix(adata, sample.genes, counting_strategy=strategy),
    ):
        x, y = (host(make(adata).X) for adata in pair)
        assert x.nnz > 0
        assert (x.astype(np.int64) != y.astype(np.int64)).nnz == 0


def test_floats_agree(pair):
    a, b = pair
    np.testing.assert_allclose(a.obs["tsse"], b.obs["tsse"], rtol=1e-12)
    np.testing.assert_allclose(a.uns["spectral_eigenvalue"], b.uns["spectral_eigenvalue"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        np.abs(a.uns["spectral"]["depth_correlation"][:4]), np.abs(b.uns["spectral"]["depth_correlation"][:4]), atol=1e-5
    )
    u, v = (as_host(adata.obsm["X_spectral"])[:, :4].astype(np.float64) for adata in pair)  # the separated ones
    cosine = np.abs((u * v).sum(0)) / np.linalg.norm(u, axis=0) / np.linalg.norm(v, axis=0)
    assert cosine.min() > 1 - 1e-5


def test_doublet_scores_agree_in_rank(pair):
    from scipy.stats import spearmanr

    a, b = pair
    assert spearmanr(a.obs["doublet_score"], b.obs["doublet_score"]).statistic > 0.99


def test_neighbours_of_one_embedding_are_found_again(pair):
    a, _ = pair
    points = as_host(a.obsm["X_spectral"])
    lists = []
    for adata in pair:
        bk = backend_of(adata.obsm["X_spectral"])
        lists.append(as_host(bk.graph.knn(bk.asarray(points), 20)[0]))
    shared = [np.intersect1d(x, y).size for x, y in zip(*lists, strict=True)]
    assert np.mean(shared) / 20 >= 0.999


def test_igraph_finds_the_same_clusters_on_either_device(pair):
    a, b = pair
    graph = host(a.obsp["connectivities"])
    b = b.copy()
    b.obsp["connectivities"] = backend_of(b.obsp["connectivities"]).csr_from_host(graph)
    ga.tl.leiden(a, flavor="igraph")
    ga.tl.leiden(b, flavor="igraph")
    assert a.obs["leiden"].tolist() == b.obs["leiden"].tolist()


def test_the_devices_own_leiden_is_as_good_as_igraph(pair):
    a, b = pair
    scores = []
    for seed in range(5):
        ga.tl.leiden(a, flavor="igraph", seed=seed)
        ga.tl.leiden(b, seed=seed)
        assert b.uns["leiden"]["modularity"] >= 0.99 * a.uns["leiden"]["modularity"]
        scores.append(adjusted_rand_score(a.obs["leiden"], b.obs["leiden"]))
    assert np.median(scores) >= 0.85


def test_layout_is_finite_and_a_file_holds_host_arrays(pair, tmp_path):
    _, b = pair
    assert np.isfinite(as_host(b.obsm["X_umap"])).all()
    path = ga.io.write_h5ad(b, tmp_path / "b.h5ad")
    back = ga.io.read_h5ad(path)
    np.testing.assert_array_equal(as_host(b.obsm["X_umap"]), back.obsm["X_umap"])
    assert back.X.dtype in (np.int32, np.float32)


def labels(sample, adata):
    truth = pd.read_csv(sample.cells, sep="\t").set_index("barcode")["cell_type"]
    return truth.reindex(adata.obs_names).astype(str).tolist()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nolambda": True, "call_summits": False, "shift": -75, "extsize": 150},
        {"shift": 10, "extsize": 90, "max_frag_size": 180},
        {"counting_strategy": "fragment", "use_counts": True},
        {"call_broad_peaks": True, "counting_strategy": "fragment"},
    ],
    ids=["cuts", "no lambda", "one-sided", "copies", "broad"],
)
def test_peaks_are_the_same_rows(pair, sample, options):
    found = [ga.tl.call_peaks(adata, labels(sample, adata), inplace=False, **options) for adata in pair]
    assert list(found[0]) == list(found[1])
    assert sum(map(len, found[0].values())) > 50
    for name in found[0]:
        pd.testing.assert_frame_equal(found[0][name], found[1][name])


def test_consensus_markers_and_tests_are_the_same(pair, sample):
    a, _ = pair
    group = labels(sample, a)
    merged = [ga.tl.merge_peaks(ga.tl.call_peaks(x, group, inplace=False), ga.io.read_genome("hg38")) for x in pair]
    pd.testing.assert_frame_equal(*merged)
    x, y = (ga.pp.make_peak_matrix(adata, merged[0]) for adata in pair)
    assert (host(x.X).astype(np.int64) != host(y.X).astype(np.int64)).nnz == 0
    one, two = (ga.tl.marker_regions(m, group, pvalue=0.1) for m in (x, y))
    assert {k: list(v) for k, v in one.items()} == {k: list(v) for k, v in two.items()}
    for method in ("lrt", "wilcoxon"):
        options = {"groupby": group, "method": method, "features": x.var_names[:2000]}
        one, two = (ga.tl.diff_test(m, **options).sort_values(["group1", "feature name"]) for m in (x, y))
        assert one["feature name"].tolist() == two["feature name"].tolist()
        assert len(one) > 20
        np.testing.assert_allclose(np.log10(one["p-value"]), np.log10(two["p-value"]), atol=1e-5)


def test_tracks_and_fragment_files_are_the_same(pair, sample, tmp_path):
    group = labels(sample, pair[0])
    for k, adata in enumerate(pair):
        ga.ex.export_coverage(adata, group, out_dir=tmp_path / str(k), suffix=".bedgraph")
        ga.ex.export_coverage(adata, group, out_dir=tmp_path / str(k), suffix=".s.bedgraph", smooth_base=101)
        ga.ex.export_fragments(adata, group, out_dir=tmp_path / str(k), suffix=".bed")
    names = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert len(names) == 3 * len(set(group))
    for name in names:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
