"""What the GPU backend calls in CuPy and RAPIDS exists there, under the names that we pass. Needs the wheels,
no GPU.

Cython classes without a signature are held by the first lines of their sources' documentation or by their
attributes.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import operator
from types import SimpleNamespace

import pytest

from gpuatac.backend.gpu import cubins, launch

pytestmark = [
    pytest.mark.contract,
    pytest.mark.filterwarnings("default"),
]  # warnings of the wheels are not ours

#: module:attribute -> keyword names that we pass
CALLS = {
    "cuvs.neighbors.brute_force:build": {"dataset", "metric"},
    "cuvs.neighbors.brute_force:search": {"index", "queries", "k"},
    "cuml.manifold:UMAP": {
        "n_neighbors",
        "n_components",
        "min_dist",
        "spread",
        "n_epochs",
        "init",
        "random_state",
        "precomputed_knn",
        "output_type",
    },
    "pylibcugraph:leiden": {
        "resource_handle",
        "random_state",
        "graph",
        "max_level",
        "resolution",
        "theta",
        "do_expensive_check",
    },
    "rapids_singlecell.pp:harmony_integrate": {
        "adata",
        "key",
        "basis",
        "adjusted_basis",
        "flavor",
        "n_clusters",
        "max_iter_harmony",
        "theta",
        "sigma",
        "rng",
        "dtype",
    },
    "cudf:Series": {"data", "dtype"},
    "cudf:DataFrame": {"data"},
    "cudf:CategoricalIndex.from_codes": {"codes", "categories", "ordered"},
    "cudf:Series.astype": {"dtype"},
    "cudf:Series.to_cupy": set(),
    "cudf:Series.isna": set(),
    "cudf:Index.to_arrow": set(),
    "cudf:DataFrame.to_pandas": set(),
    "cudf:read_parquet": set(),
    "rmm:reinitialize": {"pool_allocator", "initial_pool_size", "devices"},
    "rmm.statistics:enable_statistics": set(),
    "rmm.statistics:get_statistics": set(),
    "rmm.mr:get_current_device_resource": set(),
    "cupy:argsort": {"axis", "kind"},
    "cupy:searchsorted": {"side"},
    "cupy:bincount": {"weights", "minlength"},
    "cupy:cumsum": {"dtype"},
    "cupy:ascontiguousarray": {"dtype"},
    "cupy:take_along_axis": {"axis"},
    "cupy:flatnonzero": set(),
    "cupy:maximum": set(),
    "cupy.linalg:eigh": set(),
    "cupy.cuda:set_allocator": set(),
    "cupy.cuda.runtime:memGetInfo": set(),
    "cupy.cuda.runtime:getDevice": set(),
}
#: module:class without a signature -> attributes that we use
CLASSES = {
    "cupy:RawModule": {"get_function"},
    "cupy:ndarray": {"tolist", "tobytes", "sort", "get", "flags"},
    "cupyx.scipy.sparse:csr_matrix": {"get", "dot"},
    "pylibcugraph:ResourceHandle": set(),
    "pylibcugraph:GraphProperties": set(),
    "pylibcugraph:SGGraph": set(),
    "rmm.mr:CudaMemoryResource": set(),
    "rmm.mr:PoolMemoryResource": {"pool_size"},
    "rmm.mr:StatisticsResourceAdaptor": {"upstream_mr"},
}


def resolve(path: str):
    module, _, attribute = path.partition(":")
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        pytest.skip(f"{top} is not installed (it comes with gpuatac[cuda13])")
    return operator.attrgetter(attribute)(importlib.import_module(module))


def keywords(callable_) -> set[str] | None:
    try:
        return set(inspect.signature(callable_).parameters)
    except ValueError:
        return None


@pytest.mark.parametrize("path", CALLS)
def test_keyword_names_exist(path):
    callable_ = resolve(path)
    found = keywords(callable_)
    if found is None or found <= {
        "args",
        "kwargs",
    }:  # a C function or ufunc: that it is there is all one can see
        assert callable(callable_)
        return
    missing = CALLS[path] - found
    assert not missing, f"{path} has no {sorted(missing)}; it takes {sorted(found)}"


@pytest.mark.parametrize("path", CLASSES)
def test_class_has_what_we_use(path):
    cls = resolve(path)
    assert isinstance(cls, type)
    missing = {name for name in CLASSES[path] if not hasattr(cls, name)}
    assert not missing, f"{path} has no {sorted(missing)}"


def test_graph_takes_csr_and_weights():
    doc = resolve("pylibcugraph:SGGraph").__doc__
    for name in ("src_or_offset_array", "dst_or_index_array", "weight_array", "store_transposed", "renumber"):
        assert name in doc
    assert "CSR: arrays represent offset_array and index_array" in doc


def test_graph_properties_are_those_we_set():
    properties = resolve("pylibcugraph:GraphProperties")(is_symmetric=True, is_multigraph=False)
    assert properties.is_symmetric
    assert not properties.is_multigraph


def test_precomputed_neighbours_include_the_point_itself():
    doc = " ".join(resolve("cuml.manifold:UMAP").__doc__.split())
    assert "A tuple (indices, distances) of dense arrays" in doc
    assert "Self references should be included" in doc


def test_umap_accepts_our_arguments():
    umap = resolve("cuml.manifold:UMAP")
    umap(
        n_neighbors=16,
        n_components=2,
        min_dist=0.3,
        spread=1.0,
        n_epochs=None,
        init="spectral",
        random_state=0,
        precomputed_knn=None,
        output_type="cupy",
    )
    assert {"X"} <= keywords(umap.fit_transform)


def test_leiden_returns_vertices_clusters_and_modularity():
    assert (
        "hierarchical clustering vertices, clusters and\nmodularity" in resolve("pylibcugraph:leiden").__doc__
    )


def test_argsort_of_cupy_is_stable():
    assert "stable sorting" in resolve("cupy:argsort").__doc__


def test_rmm_allocators_exist():
    assert callable(resolve("rmm.allocators.cupy:rmm_cupy_allocator"))
    resolve("rmm.allocators.torch:rmm_torch_allocator")  # None without a CUDA PyTorch


def test_raw_module_takes_our_options():
    module = resolve("cupy:RawModule")
    for file in launch.kernel_files():
        module(code=launch.source(file), options=cubins.OPTIONS)  # compiled at get_function only


def test_without_a_gpu_the_reason_is_said():
    cupy = resolve("cupy:cuda")
    if cupy.is_available():
        pytest.skip("this machine has a GPU")
    from gpuatac.backend import gpu_problem

    assert "no CUDA device" in gpu_problem()


def test_stand_in_knows_the_wheels_that_are_installed():
    """``tests/strict/manifest.json`` is what these wheels have; where they differ write it anew (tests/strict/manifest.py)."""
    from strict.calls import wheels
    from strict.manifest import MODULES, installed

    for module in MODULES:
        resolve(f"{module}:__name__")
    now = installed()
    assert set(now) == set(wheels())
    for module, names in wheels().items():
        differ = sorted(name for name in names.keys() | now[module].keys() if names.get(name) != now[module].get(name))
        assert not differ, f"{module}: {differ[:20]}"


def test_cupy_passes_the_options_that_kernels_are_compiled_with_here(monkeypatch, tmp_path):
    """Its own way from source to NVRTC, up to the loading of the code, which needs a driver."""
    resolve("cupy:RawModule")
    compiler, core = importlib.import_module("cupy.cuda.compiler"), importlib.import_module("cupy._core.core")
    seen = []

    class Program(compiler._NVRTCProgram):
        def compile(self, options=(), log_stream=None):
            seen.append(options)
            return super().compile(options, log_stream)

    class LoadedError(Exception):
        pass

    class Module:
        def _set_mapping(self, mapping):
            pass

        def load(self, code):
            assert code.startswith(b"\x7fELF")
            raise LoadedError

    monkeypatch.setattr(compiler, "_NVRTCProgram", Program)
    monkeypatch.setattr(compiler, "function", SimpleNamespace(Module=Module))
    monkeypatch.setattr(compiler, "_get_arch", lambda: "90")
    monkeypatch.setattr(compiler, "_get_arch_for_options_for_nvrtc", lambda arch=None: (f"-arch=sm_{arch}", "cubin"))
    monkeypatch.setattr(compiler, "_kernel_cache_backend", compiler._DiskKernelCacheBackend(str(tmp_path)))
    with pytest.raises(LoadedError):
        core.compile_with_cache(launch.source("rows"), cubins.OPTIONS, prepend_cupy_headers=False)
    passed = [option for option in seen[-1] if not option.startswith("-I")]
    assert sorted(passed) == sorted(cubins.options_for("90"))


@pytest.mark.parametrize(("n", "width"), [(255, 1), (256, 2), (65_535, 2), (65_536, 4)])
def test_cudf_keeps_codes_as_narrow_as_we_say(n, width):
    resolve("cudf:CategoricalDtype")
    from cudf.utils.dtypes import min_unsigned_type

    assert min_unsigned_type(n).itemsize == width
    assert min_unsigned_type(n).kind == "u"
