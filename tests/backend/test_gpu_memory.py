"""Memory and devices of the GPU backend, on the stand-in: who takes how much, what goes which way, and on which device threads are."""

from __future__ import annotations

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import strict as stand_in
from strict import device as devices

import gpuatac as ga
from gpuatac import memory
from gpuatac.backend import backend_of, get, resolve
from gpuatac.backend.gpu import memory as pools
from gpuatac.backend.gpu.embedding import packed as gpu_packed
from gpuatac.cli.information import describe_machine
from gpuatac.errors import DeviceUnavailableError

TESTS = Path(__file__).resolve().parents[1]
GENOME = ga.Genome("g", {"chr1": 50_000, "chr2": 30_000, "chrM": 2_000})


@pytest.fixture(autouse=True)
def _limits(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # other tests load it, and the pool is then a half
    ga.io.forget()
    gc.collect()  # arrays of earlier tests take room on a small device
    yield
    ga.io.forget()
    ga.set_memory(None)


def counts(seed=0, n=500, m=400, density=0.1):
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, m)) < density, rng.integers(1, 5, (n, m)), 0).astype(np.float32)


# ------------------------------------------------------------------------------------------------ the pool


def in_a_new_process(library, code):
    """What a process prints that has the stand-in in place and has loaded nothing else."""
    program = f"from pathlib import Path\nimport sys, strict\nwith strict.installed(Path({str(library)!r})) as state:\n"
    program += "".join(f"    {line}\n" for line in code.splitlines())
    env = {"PYTHONPATH": ":".join(p for p in (str(TESTS), str(TESTS.parent), *sys.path) if p), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_pool_leaves_a_tenth_to_libraries_and_half_to_a_network(library):
    said = "import gpuatac.backend as b; b.get('gpu')\nprint(state.device.pool_limit / state.device.total, 'torch' in sys.modules)"
    share, loaded = in_a_new_process(library, said)
    assert (round(float(share), 6), loaded) == (0.9, "False")
    share, loaded = in_a_new_process(library, "import torch\n" + said)
    assert (round(float(share), 6), loaded) == (0.5, "True")


def test_a_gpu_job_without_a_network_never_loads_pytorch(library, tmp_path):
    (tmp_path / "f.tsv").write_text("".join(f"chr1\t{i}\t{i + 90}\tB{i % 7}\t1\n" for i in range(10, 9000, 30)))
    job = f"""import gpuatac as ga
genome = ga.Genome("g", {{"chr1": 50_000}})
adata = ga.pp.import_fragments({str(tmp_path / "f.tsv")!r}, genome, min_num_fragments=0, device="gpu")
ga.pp.add_tile_matrix(adata, bin_size=500)
ga.tl.spectral(adata, n_comps=3, features=None)
ga.pp.knn(adata, n_neighbors=3)
print(type(adata.X).__module__, "torch" in sys.modules)"""
    module, loaded = in_a_new_process(library, job)
    assert module.startswith("cupyx")
    assert loaded == "False"


def test_what_is_free_counts_the_unused_part_of_the_pool_and_what_it_may_grow_by(strict):
    strict.device.total = 64 << 20
    bk = strict.backend
    most = strict.device.pool_limit
    assert bk.memory() == {"total": strict.device.total, "free": most, "peak": strict.ledger.peak}
    held = bk.xp.zeros(most // 8 * 5 // 8)  # beyond the initial size: the pool has grown
    assert strict.device.free() < strict.device.total // 2
    assert bk.memory()["free"] == most - held.nbytes
    del held
    assert bk.memory()["free"] == most
    strict.device.others = strict.device.total - strict.device.pool  # another process has the rest
    assert bk.memory()["free"] == strict.device.pool


def test_a_network_gets_its_half_from_a_pool_that_holds_nothing_yet(strict, caplog):
    bk = strict.backend
    assert strict.device.pool_limit == pools.pool_sizes(strict.device.total, beside_networks=False)[1]
    bk.make_room()
    half = pools.pool_sizes(strict.device.total, beside_networks=True)
    assert (strict.device.pool, strict.device.pool_limit) == half
    assert bk.limit() == half[1]
    bk.make_room()  # nothing to do
    assert not caplog.records or all(record.levelname != "WARNING" for record in caplog.records)
    assert bk.memory()["peak"] == strict.ledger.peak  # statistics are on


def test_a_pool_in_use_stays_and_the_log_says_what_a_network_has(strict, caplog):
    bk = strict.backend
    held = bk.xp.zeros(1000)
    before = strict.device.pool_limit
    bk.make_room()
    assert strict.device.pool_limit == before
    assert "may grow to 125.1 GiB of the GPU's 139.0, and a network has what is outside it (76.5 GiB now)" in caplog.text
    assert held.sum() == 0


def test_an_allocator_of_the_callers_is_kept(strict):
    import rmm

    rmm.mr.set_current_device_resource(rmm.mr.CudaAsyncMemoryResource())
    bk = strict.backend
    assert strict.device.pool_limit is None
    bk.make_room()
    assert strict.device.pool_limit is None
    assert bk.limit() == int(strict.device.total * pools.LIMIT_SHARE)
    assert bk.memory()["free"] == strict.device.free()


# ------------------------------------------------------------------------------------------------ the limit


def test_the_limit_of_a_cpu_is_that_of_the_host():
    assert get("cpu").limit() == ga.get_memory()
    ga.set_memory("3G")
    assert get("cpu").limit() == 3 << 30


def test_the_limit_of_a_gpu_is_what_was_given_unless_the_gpu_has_less(strict):
    bk = strict.backend
    most = min(int(strict.device.total * 0.8), strict.device.pool_limit)
    ga.get_memory()  # the default of the host is not given
    assert bk.limit() == most
    ga.set_memory("3G")
    assert bk.limit() == 3 << 30
    ga.set_memory("2T")
    assert bk.limit() == most
    ga.set_memory(None)
    assert bk.limit() == most


def test_the_description_of_the_machine_names_both_limits(strict):
    ga.set_memory("3G")
    text = describe_machine()
    assert "memory limit: 3.0 GiB" in text
    assert f"GPU: {strict.device.total / 2**30:.1f} GiB memory, " in text
    assert text.count("limit 3.0 GiB") == 1


# ------------------------------------------------------------------------------------- wide, narrow, on the host


def held_as(packed):
    return {"host" if b.on_host else "wide" if b.transposed is not None else "narrow" for b in packed._blocks}


def check_products(bk, packed, dense):
    rng = np.random.default_rng(1)
    weights, u = rng.random(dense.shape[1]), rng.standard_normal((dense.shape[0], 4))
    left, right = rng.integers(0, dense.shape[0], (2, 60))
    put, get_ = bk.asarray, bk.to_host
    np.testing.assert_allclose(
        get_(packed.gram(put(weights))(put(u))), dense @ (weights[:, None] * (dense.T @ u)), rtol=1e-11
    )
    np.testing.assert_allclose(get_(packed.transposed_times(put(u[:, 0].copy()))), dense.T @ u[:, 0], atol=1e-11)
    np.testing.assert_array_equal(get_(packed.document_frequency()), (dense > 0).sum(0))
    np.testing.assert_array_equal(get_(packed.row_sums()), dense.sum(1))
    np.testing.assert_allclose(get_(packed.squared_norms(put(weights))), dense**2 @ weights, rtol=1e-12)
    found = get_(packed.pair_products(put(left), put(right), put(weights)))
    np.testing.assert_allclose(found, (dense[left] * dense[right]) @ weights, rtol=1e-12)
    union = ((dense[left] > 0) | (dense[right] > 0)).sum(0)
    np.testing.assert_array_equal(get_(packed.union_frequency(put(left), put(right))), union)


@pytest.mark.parametrize(("bytes_per_entry", "way"), [(1000, "wide"), (50, "narrow"), (20, "host")])
@pytest.mark.parametrize("chosen", [False, True])
def test_a_matrix_is_held_as_the_room_allows_and_gives_the_same(strict, monkeypatch, bytes_per_entry, way, chosen):
    monkeypatch.setattr(gpu_packed, "PIECE_NNZ", 300)
    monkeypatch.setattr(gpu_packed, "BLOCK_NNZ", 3_000)
    table = counts()
    columns = np.ones(400, bool)
    if chosen:
        columns[:20] = False
    nnz = int(np.count_nonzero(table))
    strict.device.total = nnz * bytes_per_entry
    bk = strict.backend
    x = bk.csr_from_host(sp.csr_matrix(table))
    strict.device.total += 64 << 20  # for the vectors of the test; what is packed is settled by then
    monkeypatch.setattr(strict.device, "pool_limit", strict.device.total)
    packed = bk.linalg.pack(x, bk.asarray(columns) if chosen else None)
    assert held_as(packed) == {way}
    check_products(bk, packed, table[:, columns].astype(np.float64))
    assert not [what for what, _ in strict.ledger.remarks if "CSC" in what]


def test_a_pool_that_holds_most_of_the_device_is_room_for_the_wide_way(strict):
    table = counts()
    nnz = int(np.count_nonzero(table))
    strict.device.total = 80 * nnz
    bk = strict.backend
    big = bk.xp.zeros(strict.device.pool_limit // 8 - 100)  # the pool grows to its maximum, and keeps it
    del big
    assert strict.device.free() < 24 * nnz // 2  # what cudaMemGetInfo sees
    packed = bk.linalg.pack(bk.csr_from_host(sp.csr_matrix(table)))
    assert held_as(packed) == {"wide"}


def test_a_limit_that_is_given_is_kept_to(strict, monkeypatch):
    table = counts()
    bk = strict.backend
    x = bk.csr_from_host(sp.csr_matrix(table))
    assert held_as(bk.linalg.pack(x)) == {"wide"}
    monkeypatch.setitem(memory._state, "given", 30 * x.nnz)
    assert held_as(bk.linalg.pack(x)) == {"narrow"}
    monkeypatch.setitem(memory._state, "given", 10 * x.nnz)
    assert held_as(bk.linalg.pack(x)) == {"host"}


def test_pairs_of_deep_cells_are_taken_by_their_entries(strict, monkeypatch):
    monkeypatch.setattr(gpu_packed, "PAIR_NNZ", 1 << 16)
    bk, table = strict.backend, counts(2, n=50, m=4000, density=0.5)
    packed = bk.linalg.pack(bk.csr_from_host(sp.csr_matrix(table)))
    left, right = np.random.default_rng(3).integers(0, 50, (2, 4000))
    sizes = np.count_nonzero(table, axis=1)
    together = [int((sizes[left[s]] + sizes[right[s]]).sum()) for s, _, _ in packed._pairs(left, right)]
    assert len(together) > 200
    assert max(together) <= 1 << 16
    there, weights = (bk.asarray(left), bk.asarray(right)), np.random.default_rng(4).random(4000)
    strict.ledger.reset()
    before = strict.ledger.live
    found = packed.pair_products(*there, bk.asarray(weights))
    union = packed.union_frequency(*there)
    assert strict.ledger.peak - before < gpu_packed.PAIR_BYTES * (1 << 16) + (1 << 17)
    dense = table.astype(np.float64)
    np.testing.assert_allclose(bk.to_host(found), ((dense[left] * dense[right]) * weights).sum(1), rtol=1e-12)
    np.testing.assert_array_equal(bk.to_host(union), ((table[left] > 0) | (table[right] > 0)).sum(0))


# ------------------------------------------------------------------------------------------------- devices


def current():
    return devices.current().number


def test_threads_begin_on_the_first_device_and_use_puts_them_on_the_backends(strict):
    devices.use(1)
    bk = strict.backend
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(current).result() == 0
    with ThreadPoolExecutor(1, initializer=bk.use) as pool:
        assert pool.submit(current).result() == 1
    with ThreadPoolExecutor(1, initializer=get("cpu").use) as pool:
        assert pool.submit(current).result() == 0


def test_a_second_device_is_refused_with_what_to_do(strict):
    bk = strict.backend
    there = bk.xp.zeros(3)
    devices.use(1)
    with pytest.raises(DeviceUnavailableError, match=r"on GPU 1, .* on GPU 0; .*Device\(0\)\.use\(\).*CUDA_VISIBLE_DEVICES=1"):
        resolve("gpu")
    with pytest.raises(DeviceUnavailableError, match="one GPU a process"):
        backend_of(there)
    assert resolve("cpu").name == "cpu"
    bk.use()
    assert resolve("gpu") is bk


def test_a_job_on_the_second_device_leaves_the_first_alone(strict, tmp_path):
    rng = np.random.default_rng(5)
    rows = [(c, int(s), int(s) + 120, f"B{b:02}") for c, size in (("chr1", 49_000), ("chr2", 29_000))
            for s, b in zip(np.sort(rng.integers(0, size, 2000)), rng.integers(0, 12, 2000), strict=True)]  # fmt: skip
    (tmp_path / "f.tsv").write_text("".join(f"{c}\t{s}\t{e}\t{b}\t1\n" for c, s, e, b in rows))
    strict.device.others = strict.device.total  # not a byte is left there
    devices.use(1)
    group = np.array(["a", "b"] * 6)

    def job(device):
        adata = ga.pp.import_fragments(
            tmp_path / "f.tsv", GENOME, min_num_fragments=0, out=tmp_path / device, device=device
        )
        ga.pp.add_tile_matrix(adata, bin_size=500)
        ga.tl.spectral(adata, n_comps=3, features=None)
        ga.ex.export_coverage(adata, group, out_dir=tmp_path / device, suffix=".bedgraph")
        ga.ex.export_fragments(adata, group, out_dir=tmp_path / device, suffix=".bed")
        ga.io.write_h5ad(adata, tmp_path / device / "a.h5ad")
        fragments = ga.io.open_fragments(tmp_path / device / "f.fragments", device=device)
        ga.io.write_fragments(fragments, tmp_path / device / "again.fragments")
        return adata

    there = job("gpu")
    assert strict.backend.device == 1
    assert stand_in.DEVICES[1].live > 0
    here = job("cpu")
    assert (strict.backend.csr_to_host(there.X) != here.X).nnz == 0
    for name in ("a.bedgraph", "b.bedgraph", "a.bed", "b.bed"):
        assert (tmp_path / "gpu" / name).read_bytes() == (tmp_path / "cpu" / name).read_bytes()
