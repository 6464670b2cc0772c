"""The stand-in finds the faults that it says it finds, and does what NumPy does otherwise."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp

from .calls import wheels
from .device import GIB
from .ledger import StrictError


@pytest.fixture
def cp(strict):
    import cupy

    return cupy


@pytest.fixture
def sparse(cp):
    import cupyx.scipy.sparse

    return cupyx.scipy.sparse


HOST = np.arange(4.0)


@pytest.mark.parametrize(
    "fault",
    [
        lambda cp, x: x + HOST,
        lambda cp, x: HOST + x,
        lambda cp, x: cp.maximum(x, HOST),
        lambda cp, x: cp.concatenate([x, HOST]),
        lambda cp, x: cp.where(x > 1, x, HOST),
        lambda cp, x: x.clip(HOST, None),
        lambda cp, x: cp.searchsorted(x, HOST),
        lambda cp, x: cp.bincount(x.astype(int), weights=HOST),
        lambda cp, x: cp.repeat(x, np.array([1, 2, 1, 1])),
        lambda cp, x: cp.linalg.norm(HOST),
        lambda cp, x: x.__setitem__(slice(0, 4), HOST),
    ],
)
def test_a_numpy_array_among_device_arrays_is_refused(cp, fault):
    with pytest.raises((TypeError, ValueError, NotImplementedError)):
        fault(cp, cp.arange(4.0))


@pytest.mark.parametrize("fault", [np.asarray, np.array, lambda x: np.concatenate([x, HOST]), lambda x: np.add(HOST, x), list.sort])
def test_a_device_array_does_not_come_to_the_host_unasked(cp, fault):
    with pytest.raises(TypeError):
        fault(cp.arange(4.0))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda cp: cp.zeros(3, kind="f"), TypeError),
        (lambda cp: cp.arange(3).sum(axes=0), TypeError),
        (lambda cp: cp.linalg.eigh(cp.eye(2), uplo="L"), TypeError),
        (lambda cp: cp.sort(cp.arange(3), kind="quicksort"), ValueError),
        (lambda cp: cp.full(3), TypeError),
        (lambda cp: cp.maximum.accumulate(cp.arange(3)), NotImplementedError),
        (lambda cp: cp.add.at(cp.zeros(3, np.int64), cp.zeros(1, int), 1), TypeError),
        (lambda cp: cp.ma, AttributeError),
        (lambda cp: cp.arange(3).itemset(0), AttributeError),
        (lambda cp: cp.array(["chr1"]), ValueError),
        (lambda cp: cp.array([{}]), ValueError),
        (lambda cp: cp.arange(6).reshape(2, 3).T.sort(), NotImplementedError),
    ],
)
def test_what_cupy_lacks_is_refused(cp, fault, error):
    with pytest.raises(error):
        fault(cp)


def test_sparse_matrices_hold_floats_and_sound_indices_alone(cp, sparse):
    ones, column, ptr = cp.ones(2), cp.array([0, 2]), cp.array([0, 1, 2])
    good = sparse.csr_matrix((ones, column, ptr), shape=(2, 3))
    np.testing.assert_array_equal(good.toarray().get(), [[1, 0, 0], [0, 0, 1]])
    assert good.indices.dtype == np.int32
    for parts, shape in (
        ((ones.astype(int), column, ptr), (2, 3)),
        ((ones, column, ptr), (3, 3)),
        ((ones, column, ptr), (2, 2)),
        ((ones, column, ptr + 1), (2, 3)),
        ((np.ones(2), column, ptr), (2, 3)),
        ((ones[:1], column, ptr), (2, 3)),
    ):
        with pytest.raises(ValueError, match=r"ind(ex|ices)|1-D|float32"):
            sparse.csr_matrix(parts, shape=shape)
    with pytest.raises(ValueError, match="float32"):
        sparse.csr_matrix(sp.csr_matrix(np.eye(3, dtype=np.int32)))
    with pytest.raises(TypeError):
        good @ np.ones(3)


def test_products_that_are_slow_are_remarked(strict, cp, sparse):
    matrix = sparse.csr_matrix(cp.eye(3))
    assert (matrix @ cp.ones(3)).get().tolist() == [1, 1, 1]
    assert not strict.ledger.remarks
    assert (matrix.T @ cp.ones(3)).get().tolist() == [1, 1, 1]
    assert [what for what, _ in strict.ledger.remarks] == ["CSC @ dense (cuSPARSE with a transposed operand)"]


def test_a_scatter_of_unlike_values_to_one_place_is_refused(strict, cp):
    x = cp.zeros(4)
    x[cp.array([0, 2])] = cp.array([1.0, 2.0])
    x[cp.array([1, 1])] = 5.0
    assert not strict.ledger.remarks
    with pytest.raises(StrictError, match="1 unlike values"):
        x[cp.array([1, 1])] = cp.array([1.0, 2.0])
    x[cp.array([3, 3])] += cp.ones(2)  # one of the two is lost, on any device
    assert sum(strict.ledger.remarks.values()) == 1
    assert x.get().tolist()[2:] == [2, 1]


@pytest.mark.parametrize("key", [4, -5, [0, 4], (0, 0)])
def test_an_index_out_of_range_is_refused_where_cupy_would_wrap_it(cp, key):
    x = cp.zeros(4)
    key = cp.array(key) if isinstance(key, list) else key
    with pytest.raises(IndexError):
        x[key]
    with pytest.raises(IndexError):
        x[key] = 1.0
    with pytest.raises(IndexError):
        cp.take(x, cp.array([9]))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, np.float32, np.float64, bool])
def test_a_buffer_that_nobody_set_holds_garbage(cp, dtype):
    for made in (cp.empty(5, dtype), cp.empty_like(cp.zeros(5, dtype)), cp.ndarray(5, dtype)):
        values = made.get()
        assert np.isnan(values).all() if values.dtype.kind == "f" else (values != 0).all()


def test_every_crossing_is_counted_where_it_is_caused(strict, cp):
    ledger = strict.ledger
    x = cp.asarray(np.arange(10.0))
    assert (ledger.crossings("H2D"), ledger.bytes("H2D")) == (1, 80)
    x.get()
    int(x[0])
    x.tolist()
    assert (ledger.crossings("D2H"), ledger.bytes("D2H")) == (3, 168)
    x[x > 3]
    cp.flatnonzero(x)
    cp.bincount(x.astype(int))
    assert ledger.crossings("sync") == 4
    assert ledger.crossings(at="test_stand_in.py") == ledger.crossings() == 8
    x[cp.array([1])]
    cp.asarray(x)
    assert ledger.crossings() == 9


def test_bytes_are_live_until_the_last_view_is_gone(strict, cp):
    before = strict.ledger.live
    x = cp.zeros((1000, 10))
    half = x[:500]
    assert strict.ledger.live == before + 80_000
    del x
    assert strict.ledger.live == before + 80_000
    del half
    assert strict.ledger.live == before
    assert strict.ledger.peak >= before + 80_000


def test_memory_ends(strict, cp):
    strict.device.total = strict.device.live + 2**20
    with pytest.raises(MemoryError, match="out of memory allocating 8,000,000 bytes"):
        cp.zeros(1_000_000)
    assert cp.cuda.runtime.memGetInfo() == (2**20, strict.device.total)


def test_a_pool_grows_to_its_maximum_and_holds_what_it_took(strict, cp):
    import rmm

    before = strict.device.live  # arrays that the error of an earlier test holds
    strict.device.total = before + 64 * 2**20
    rmm.reinitialize(pool_allocator=True, initial_pool_size=16 * 2**20, maximum_pool_size=48 * 2**20)
    assert cp.cuda.runtime.memGetInfo()[0] <= 48 * 2**20 + before
    free = cp.cuda.runtime.memGetInfo()[0]
    cp.zeros(2**20)
    assert cp.cuda.runtime.memGetInfo()[0] == free
    with pytest.raises(MemoryError):
        cp.zeros(7 * 2**20)
    with pytest.raises(ValueError, match="256"):
        rmm.reinitialize(pool_allocator=True, initial_pool_size=1000)
    with pytest.raises(TypeError, match="initial_size"):
        rmm.reinitialize(initial_size=1)


def test_arrays_of_another_device_are_refused(cp):
    x = cp.arange(3)
    with cp.cuda.Device(1):
        assert cp.arange(2).device.id == 1
        with pytest.raises(ValueError, match="Array device must be same as the current device"):
            x + 1
    assert (x + 1).get().tolist() == [1, 2, 3]


def test_a_thread_begins_on_the_first_device(cp):
    from threading import Thread

    seen = []
    with cp.cuda.Device(1):
        thread = Thread(target=lambda: seen.append(cp.cuda.runtime.getDevice()))
        thread.start()
        thread.join()
    assert seen == [0]


@pytest.mark.parametrize(
    ("grid", "block", "shared"), [((0,), (32,), 0), ((1,), (2048,), 0), ((2**31,), (32,), 0), ((1,), (32,), 49 * 1024)]
)
def test_launches_that_cuda_refuses_are_refused(cp, grid, block, shared):
    from gpuatac.backend.gpu.launch import source

    kernel = cp.RawModule(code=source("lines"), options=("-std=c++17",)).get_function("count_newlines")
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel(grid, block, (), shared_mem=shared)
    with pytest.raises(RuntimeError, match="not found"):
        cp.RawModule(code=source("lines")).get_function("count_words")


def test_a_kernel_takes_device_arrays_and_numbers_of_a_size(cp):
    from gpuatac.backend.gpu.launch import source

    kernel = cp.RawModule(code=source("lines")).get_function("count_newlines")
    with pytest.raises(TypeError, match="unsupported type"):
        kernel((1,), (32,), (np.zeros(3, np.uint8),))
    with pytest.raises(TypeError, match="unsupported type"):
        kernel((1,), (32,), (7,))


def test_it_is_gone_afterwards(library):
    import strict
    from gpuatac.backend import get, gpu_problem

    before = gpu_problem()
    with strict.installed(library):
        assert gpu_problem() is None
        assert get("gpu").xp is sys.modules["cupy"]
        with strict.installed(library):
            assert gpu_problem() is None
        assert gpu_problem() is None
    assert gpu_problem() == before
    assert "cupy" not in sys.modules


def test_what_the_stand_in_has_the_wheels_have_too(cp, sparse):
    """Public names of its classes are names of the real ones; ``over``, ``on_device`` and ``scipy`` are the tests' own."""
    for key, kind in (
        ("cupy:ndarray", cp.ndarray),
        ("cupy:RawModule", cp.RawModule),
        ("cupyx.scipy.sparse:csr_matrix", sparse.csr_matrix),
        ("cupyx.scipy.sparse:csc_matrix", sparse.csc_matrix),
        ("cupyx.scipy.sparse:coo_matrix", sparse.coo_matrix),
        ("cudf:DataFrame", sys.modules["cudf"].DataFrame),
        ("cudf:Series", sys.modules["cudf"].Series),
        ("cudf:Index", sys.modules["cudf"].Index),
        ("cudf:CategoricalIndex", sys.modules["cudf"].CategoricalIndex),
    ):
        names = {name for name in dir(kind) if not name.startswith("_")} - {"over", "on_device", "scipy"}
        extra = names - set(wheels()[key])
        assert not extra, f"{key} has no {sorted(extra)}"
    for module in ("cudf", "cupy.cuda", "rmm.mr", "rmm.statistics", "cuvs.neighbors.brute_force", "pylibcugraph"):
        names = {name for name, value in vars(sys.modules[module]).items() if name[0] != "_" and not isinstance(value, ModuleType)}
        assert names <= set(wheels()[module]), module


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (lambda cudf, cp: np.asarray(cudf.Series(cp.arange(3))), TypeError),
        (lambda cudf, cp: list(cudf.Series(cp.arange(3))), TypeError),
        (lambda cudf, cp: bool(cudf.Series(cp.arange(3)).isna()), ValueError),
        (lambda cudf, cp: cudf.Series(cp.zeros((2, 2))), ValueError),
        (lambda cudf, cp: cudf.Series(cp.arange(3), kind="i"), TypeError),
        (lambda cudf, cp: cudf.Series(["a", 1]), TypeError),
        (lambda cudf, cp: cudf.Series(cp.arange(3)).cat, AttributeError),
        (lambda cudf, cp: cudf.Series(["a", "b"]).to_cupy(), TypeError),
        (lambda cudf, cp: cudf.Series(cp.array([1.0, np.nan])).to_cupy(), ValueError),
        (lambda cudf, cp: cudf.Series(cp.arange(3)).tolist(), AttributeError),
        (lambda cudf, cp: cudf.DataFrame({"a": cp.arange(3), "b": cp.arange(2)}), ValueError),
        (lambda cudf, cp: cudf.CategoricalIndex.from_codes(cp.zeros(2), ["a"], ordered=False), ValueError),
        (lambda cudf, cp: cudf.CategoricalIndex.from_codes(cp.arange(2), ["a"], ordered=False), IndexError),
        (lambda cudf, cp: cudf.read_parquet("f", column=["a"], dtype=1, sep=","), OSError),
    ],
)
def test_what_cudf_lacks_or_refuses_is_refused(cp, fault, error):
    with pytest.raises(error):
        fault(sys.modules["cudf"], cp)


def test_a_cudf_column_shares_the_memory_it_was_made_of_until_it_is_cast(strict, cp):
    cudf = sys.modules["cudf"]
    x = cp.arange(300, dtype=np.int32)
    strict.ledger.reset()
    frame = cudf.DataFrame({"x": cudf.Series(x)})
    assert frame["x"].to_cupy().data.ptr == x.data.ptr
    assert frame["x"].to_cupy(copy=True).data.ptr != x.data.ptr
    narrow = cudf.CategoricalIndex.from_codes(x, cp.arange(300), ordered=False)
    assert cudf.Series(narrow)._column.values.dtype == np.uint16
    assert cudf.Series(narrow).cat.codes.dtype == np.int16
    assert strict.ledger.crossings() == 0
    assert frame.to_pandas()["x"].tolist() == list(range(300))
    assert strict.ledger.bytes("D2H") == 1_200


def test_results_are_those_of_numpy(cp):
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 4)), rng.integers(0, 9, (5, 4))
    x, y = cp.asarray(a), cp.asarray(b)
    for ours, numpys in (
        (x + y, a + b), (2 - x, 2 - a), (x @ y.T, a @ b.T), (x.sum(axis=0), a.sum(0)), (-x, -a), (x > 0.5, a > 0.5),
        (cp.where(x > 0.5, x, 0), np.where(a > 0.5, a, 0)), (x[y > 4], a[b > 4]), (cp.cumsum(y), np.cumsum(b)),
        (cp.linalg.norm(x), np.linalg.norm(a)), (x.T.ravel(), a.T.ravel()), (cp.log1p(x), np.log1p(a)),
        (y.astype(np.int8), b.astype(np.int8)), (cp.argsort(x.ravel()), np.argsort(a.ravel())), (x.std(axis=1), a.std(1)),
    ):  # fmt: skip
        np.testing.assert_array_equal(ours.get(), numpys)
        assert ours.dtype == np.asarray(numpys).dtype


def test_a_device_has_the_size_of_an_h200_unless_told(strict):
    assert strict.device.total == 139 * GIB
