"""What a GPU holds, spills and writes: within a small limit everything goes through disk and back to the device, with equal numbers."""

from __future__ import annotations

import gc

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from devices import GPU, on_device

import gpuatac as ga
from gpuatac import device, memory, provenance
from gpuatac.backend import backend_of, get, is_device_array, is_on_disk
from gpuatac.errors import InputError
from gpuatac.io.fragments import attach
from gpuatac.io.fragments.pseudobulk import Pseudobulks
from gpuatac.io.fragments.store import StoredFragments
from gpuatac.io.matrices import from_fragments, h5ad
from gpuatac.io.matrices.canonical import canonical_matrix

pytestmark = pytest.mark.filterwarnings("default")  # warnings of RAPIDS are not ours
GENOME = ga.Genome("g", {"chr1": 50_000, "chr2": 30_000, "chrM": 2_000})


@pytest.fixture(params=[GPU])
def gpu(request):
    with on_device(request) as name:
        yield get(name)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    ga.io.forget()
    yield
    ga.io.forget()
    ga.set_memory(None)


@pytest.fixture
def tiny(monkeypatch):
    """A limit so small that nothing may stay in the device's memory."""

    def apply(size: int = 100_000) -> None:
        ga.io.forget()
        monkeypatch.setitem(memory._state, "given", size)

    return apply


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(1)
    rows = []
    for name, size, n in (("chr1", 49_000, 12_000), ("chr2", 29_000, 6_000), ("chrM", 1_500, 900)):
        for start, cell in zip(np.sort(rng.integers(0, size, n)), rng.integers(0, 40, n), strict=True):
            end = start + int(rng.integers(30, 500))
            rows.append(f"{name}\t{start}\t{end}\tB{cell:02}-1\t{rng.integers(1, 5)}\n")
    path = tmp_path / "f.tsv"
    path.write_text("".join(rows))
    return path


def imported(file, out, device_name="gpu"):
    return ga.pp.import_fragments(file, GENOME, min_num_fragments=0, out=out, device=device_name)


def host(matrix):
    if is_on_disk(matrix):
        return matrix.to_memory()
    return backend_of(matrix).csr_to_host(matrix)


# ---------------------------------------------------------------------------------------------- fragments


def test_an_import_through_disk_equals_one_on_the_device(gpu, tiny, file, tmp_path):
    held = attach.attached(imported(file, None))[0].fragments
    tiny()
    streamed = attach.attached(imported(file, None))[0].fragments
    assert isinstance(held, ga.Fragments)
    assert isinstance(streamed, StoredFragments)
    assert held.barcodes.tolist() == streamed.barcodes.tolist()
    for code, _ in held.chromosomes():
        for left, right in zip(held.columns(code), streamed.columns(code), strict=True):
            assert is_device_array(left) == is_device_array(right) == (left is not None)
            if left is not None:
                np.testing.assert_array_equal(gpu.to_host(left), gpu.to_host(right))


def test_ends_of_groups_that_go_to_disk_come_back_to_the_device(gpu, tiny, file, tmp_path):
    adata = imported(file, tmp_path / "o")
    group = (np.arange(adata.n_obs) % 3).astype(np.int32)

    def held(weighted):
        with Pseudobulks(adata, group, 3, keep=ga.ex._coverage.length_filter(None, None), weighted=weighted) as bulks:
            found = {code: bulks.ends(code) for code in bulks.codes}
            assert all(a is None or is_device_array(a) for ends in found.values() for a in ends[1:])
            on_disk = bulks._scratch is not None
            return on_disk, {c: [e.ptr, *(None if a is None else gpu.to_host(a) for a in e[1:])] for c, e in found.items()}

    for weighted in (False, True):
        ga.set_memory(None)
        in_memory, before = held(weighted)
        tiny()
        on_disk, after = held(weighted)
        memory._state.pop("given")
        assert (in_memory, on_disk) == (False, True)
        assert before.keys() == after.keys()
        for code in before:
            for a, b in zip(before[code], after[code], strict=True):
                assert (a is None) == (b is None)
                np.testing.assert_array_equal(a, b)


def test_peaks_and_tracks_within_a_small_limit_are_the_same(gpu, tiny, file, tmp_path):
    adata = imported(file, tmp_path / "o")
    group = np.where(np.arange(adata.n_obs) % 3 == 0, "a", "b")
    found = []
    for name in ("plenty", "little"):
        if name == "little":
            tiny()
        peaks = ga.tl.call_peaks(adata, group, inplace=False, genome_size=8e4, pvalue=0.2)
        ga.ex.export_coverage(adata, group, out_dir=tmp_path / name, suffix=".bedgraph")
        found.append((peaks, (tmp_path / name / "a.bedgraph").read_bytes(), (tmp_path / name / "b.bedgraph").read_bytes()))
    assert found[0][1:] == found[1][1:]
    assert len(found[0][0]["b"]) > 5
    for name in ("a", "b"):
        pd.testing.assert_frame_equal(found[0][0][name], found[1][0][name])


# ----------------------------------------------------------------------------------------------- matrices


@pytest.mark.parametrize("strategy", ["paired-insertion", "fragment"])
def test_matrices_by_parts_and_on_disk_equal_those_on_the_device(gpu, tiny, file, tmp_path, strategy, caplog):
    adata = imported(file, tmp_path / "o")
    streamed = adata.copy()
    ga.pp.add_tile_matrix(adata, bin_size=100, counting_strategy=strategy)
    tiny()
    with caplog.at_level("INFO"):
        ga.pp.add_tile_matrix(streamed, bin_size=100, counting_strategy=strategy)
    assert caplog.text.count("is kept on disk; what is computed on it goes through the GPU by blocks of rows") == 1
    assert is_device_array(adata.X)
    assert is_on_disk(streamed.X)
    assert streamed.X.dtype == np.int32
    assert (host(streamed.X) != host(adata.X)).nnz == 0
    for one in (adata, streamed):
        assert backend_of(canonical_matrix(one)) is gpu
        assert provenance.device_of(one) == "gpu"


def chain(file, folder, device_name):
    genome = ga.Genome("toy", {"chr1": 2_000_000, "chr2": 1_200_000, "chrM": 16_569})
    adata = ga.pp.import_fragments(file, genome, min_num_fragments=50, out=folder, device=device_name)
    ga.pp.add_tile_matrix(adata, bin_size=1000)
    ga.pp.select_features(adata)
    ga.pp.scrublet(adata)
    ga.pp.filter_doublets(adata)
    ga.tl.spectral(adata, n_comps=10)
    return adata


def test_what_no_index_can_hold_goes_through_the_device_by_blocks(gpu, tmp_path, monkeypatch):
    """The bound is lowered from 2^31 - 1; the whole chain up to the embedding runs on the device."""
    made = ga.simulate_fragments(
        tmp_path / "s", n_cells=80, n_types=3, fragments_per_cell=1000, n_genes=60, n_distal_peaks=500,
        genome=ga.Genome("toy", {"chr1": 2_000_000, "chr2": 1_200_000, "chrM": 16_569}),
    )  # fmt: skip
    whole = chain(made.fragments, tmp_path / "a", "gpu")
    ga.io.forget()
    monkeypatch.setattr(from_fragments, "MAX_NNZ", 5_000)
    seen = []
    plain = type(gpu.linalg).pack
    monkeypatch.setattr(type(gpu.linalg), "pack", lambda self, x, *a, **k: seen.append(type(x).__name__) or plain(self, x, *a, **k))
    parts = chain(made.fragments, tmp_path / "b", "gpu")
    assert is_device_array(whole.X)
    assert is_on_disk(parts.X)  # also after cells were removed
    assert set(seen) == {"DiskMatrix"}
    assert all(map(is_device_array, (whole.obsm["X_spectral"], parts.obsm["X_spectral"])))
    assert whole.var["selected"].equals(parts.var["selected"])
    assert whole.obs_names.equals(parts.obs_names)
    np.testing.assert_allclose(whole.obs["doublet_score"], parts.obs["doublet_score"], rtol=1e-9)
    np.testing.assert_allclose(whole.uns["spectral_eigenvalue"], parts.uns["spectral_eigenvalue"], rtol=1e-9)
    assert (host(whole.X) != host(parts.X)).nnz == 0
    # what is written goes on from there, on disk for a device that cannot hold it
    ga.io.write_h5ad(parts, tmp_path / "parts.h5ad")
    assert sp.issparse(h5ad.read_for(tmp_path / "parts.h5ad", "gpu").X)
    monkeypatch.setattr(h5ad, "MAX_NNZ", 5_000)
    assert sp.issparse(ga.io.read_h5ad(tmp_path / "parts.h5ad").X)
    back = h5ad.read_for(tmp_path / "parts.h5ad", "gpu")
    assert is_on_disk(back.X)
    ga.to_device(back)
    assert backend_of(canonical_matrix(back)) is gpu
    ga.tl.spectral(back, n_comps=10, key_added="X_again")
    assert is_device_array(back.obsm["X_again"])
    np.testing.assert_allclose(back.uns["spectral_eigenvalue:X_again"], parts.uns["spectral_eigenvalue"], rtol=1e-9)


def test_a_matrix_on_disk_goes_to_either_device_and_back(gpu, tmp_path, monkeypatch):
    table = sp.csr_matrix(np.random.default_rng(2).poisson(0.4, (40, 60)).astype(np.int32))
    ga.io.write_h5ad(anndata.AnnData(table), tmp_path / "a.h5ad")
    monkeypatch.setitem(memory._state, "given", 4)
    adata = ga.io.read_h5ad(tmp_path / "a.h5ad")
    memory._state.pop("given")
    assert is_on_disk(adata.X)
    assert backend_of(adata.X).name == "cpu"
    ga.to_device(adata)
    assert backend_of(adata.X) is backend_of(canonical_matrix(adata)) is gpu
    on_device = gpu.to_host(gpu.linalg.column_sums(canonical_matrix(adata)))
    ga.to_host(adata)
    assert backend_of(adata.X).name == "cpu"
    np.testing.assert_array_equal(on_device, table.sum(0).A1)


@pytest.mark.usefixtures("gpu")
def test_a_matrix_in_memory_that_no_device_can_index_is_refused_with_what_to_do(monkeypatch):
    adata = anndata.AnnData(sp.csr_matrix(np.ones((3, 4), np.float32)))
    monkeypatch.setattr(device, "MAX_NNZ", 11)
    with pytest.raises(InputError, match=r"12 non-zeros .* takes 11 at most .* leave it on disk"):
        ga.to_device(adata)
    monkeypatch.setattr(device, "MAX_NNZ", 12)
    ga.to_device(adata)
    assert is_device_array(adata.X)


# -------------------------------------------------------------------------------------------------- files


def contents(path):
    """Every data set of an HDF5 file with its type, and the attributes."""
    found = {}

    def visit(name, item):
        found[name] = (item.dtype, item[()]) if isinstance(item, h5py.Dataset) else sorted(map(str, item.attrs.items()))

    with h5py.File(path) as opened:
        opened.visititems(visit)
    return found


def test_a_file_does_not_tell_on_which_device_it_was_made(gpu, file, tmp_path):
    for name in ("cpu", "gpu"):
        adata = imported(file, tmp_path / name, name)
        ga.pp.add_tile_matrix(adata, bin_size=100)
        adata.obsm["other"] = adata.X[:, :5].copy()
        adata.obsp["distances"] = backend_of(adata.X).csr_from_host(sp.eye_array(adata.n_obs, format="csr", dtype="float32"))
        ga.io.write_h5ad(adata, tmp_path / f"{name}.h5ad")
        assert is_device_array(adata.X) == (name == "gpu")
        assert h5ad._is_own(tmp_path / f"{name}.h5ad")
    cpu, there = (contents(tmp_path / f"{name}.h5ad") for name in ("cpu", "gpu"))
    assert cpu.keys() == there.keys()
    for name, values in cpu.items():
        if name.startswith("uns/"):
            continue  # provenance names the device
        if isinstance(values, tuple):
            assert values[0] == there[name][0], name
            np.testing.assert_array_equal(values[1], there[name][1])
        else:
            assert values == there[name], name
    assert there["X/data"][0] == there["obsm/other/data"][0] == np.int32
    assert there["obsp/distances/data"][0] == np.float32
    a, b = (ga.io.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("cpu", "gpu"))
    assert a.X.dtype == b.X.dtype == np.int32
    assert (a.X != b.X).nnz == 0


def test_writing_takes_no_second_copy_of_the_matrix_on_the_device(strict, file, tmp_path):
    adata = imported(file, tmp_path / "o")
    ga.pp.add_tile_matrix(adata, bin_size=20)
    gc.collect()
    strict.ledger.reset()
    before = strict.ledger.live
    ga.io.write_h5ad(adata, tmp_path / "a.h5ad")
    assert strict.ledger.peak - before < adata.X.data.nbytes // 2


@pytest.mark.parametrize("kind", ["whole", "parts", "negative"])
def test_a_float32_matrix_of_ours_is_read_as_the_general_reader_reads_it(tmp_path, kind, monkeypatch):
    table = np.random.default_rng(3).poisson(0.5, (30, 20)).astype(np.float32)
    table = {"whole": table, "parts": table * 0.5, "negative": -table}[kind]
    adata = anndata.AnnData(sp.csr_matrix(table))
    adata.var_names = [f"chr1:{i}-{i + 5}" for i in range(20)]
    ga.io.write_h5ad(adata, tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad") as opened:
        assert opened["X/data"].dtype == np.float32
    assert h5ad._is_own(tmp_path / "a.h5ad")
    ours, general = ga.io.read_h5ad(tmp_path / "a.h5ad"), h5ad.count_files.read_h5ad(tmp_path / "a.h5ad")
    assert ours.X.dtype == general.X.dtype == (np.float32 if kind == "parts" else np.int32)
    assert (ours.X != general.X).nnz == 0
    pd.testing.assert_frame_equal(ours.var, general.var)
    pd.testing.assert_frame_equal(ours.obs, general.obs)
