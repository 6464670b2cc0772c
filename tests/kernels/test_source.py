"""The kernel sources: they compile for every GPU we name, and say what STYLE asks of them."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shutil

import numpy as np
import pytest

from gpuatac.backend import gpu, protocol
from gpuatac.backend.gpu import GpuBackend, cubins, launch, precompile, sources
from gpuatac.backend.gpu.arrays import Arrays
from gpuatac.backend.gpu.counting.counts import Counting
from gpuatac.backend.protocol import STRATEGIES

from .cpu_run import waiting_kernels

ARCHITECTURES = ("75", *precompile.ARCHITECTURES)
HEADINGS = ("Inputs", "Traffic", "Order", "Overflow", "Oracle", "Bandwidth")


@pytest.fixture(scope="module")
def nvrtc():
    """The compiler, as CuPy calls it."""
    if any(importlib.util.find_spec(name) is None for name in ("cuda", "cuda.bindings", "cuda.bindings.nvrtc")):
        pytest.skip("NVRTC is not installed: pip install 'gpuatac[dev]'")
    return cubins.compile_file


@pytest.mark.parametrize("file", launch.kernel_files())
def test_kernel_file_compiles_for_every_architecture_with_the_options_of_cupy(nvrtc, file):
    for arch in ARCHITECTURES:
        code, _ = nvrtc(file, arch)
        assert code.startswith(b"\x7fELF"), arch
        for kernel in launch.kernels().values():
            if kernel.file == file:
                assert kernel.name.encode() in code


def test_a_compiler_message_names_the_file_and_its_own_line(nvrtc, monkeypatch):
    text = sources.source("rows").replace("if (row[i] >= 0)", "if (rwo[i] >= 0)")
    broken = (sources.kernel_folder() / "rows.cu").read_text(encoding="utf-8").splitlines()
    line = next(i for i, t in enumerate(broken, 1) if "if (row[i] >= 0)" in t)
    monkeypatch.setattr(cubins, "source", lambda _: text)
    with pytest.raises(RuntimeError, match=rf'rows\.cu\({line}\): error: identifier "rwo"'):
        nvrtc("rows", "90")


def test_flushing_of_tiny_float32_changes_no_kernel_that_could_meet_one(nvrtc):
    """CuPy compiles with -ftz=true. Where it matters values are whole numbers, at least 1, or roots and sums of such."""
    differ = {
        file
        for file in launch.kernel_files()
        if nvrtc(file, "90")[0] != nvrtc(file, "90", "-ftz=false")[0]
    }
    assert "summits" in differ
    assert differ <= {"csr", "poisson", "summits"}


@pytest.mark.parametrize("file", launch.kernel_files())
def test_kernel_file_opens_with_the_header_of_the_style_guide(file):
    text = (launch.kernel_folder() / f"{file}.cu").read_text(encoding="utf-8")
    header = text.partition("#include")[0]
    assert all(line.startswith("//") for line in header.splitlines())
    for heading in HEADINGS:
        assert re.search(rf"^// {heading} ", header, re.MULTILINE), heading
    assert re.search(r"^// One (thread|warp) ", header, re.MULTILINE)
    for kernel in launch.kernels().values():
        if kernel.file == file:
            assert kernel.name in header


def test_every_kernel_has_a_row_in_the_readme():
    readme = (launch.kernel_folder() / "README.md").read_text(encoding="utf-8")
    for name in launch.kernels():
        assert f"| `{name}` |" in readme


def test_signatures_are_read_from_the_source():
    kernel = launch.kernels()["row_sums"]
    assert [(a.name, a.is_array) for a in kernel.arguments] == [
        ("row", True), ("values", True), ("n", False), ("sums", True),
    ]  # fmt: skip
    assert [a.dtype for a in kernel.arguments] == [np.int32, np.int32, np.int64, np.uint64]
    files = (launch.kernel_folder() / f"{f}.cu" for f in launch.kernel_files())
    declared = sum(path.read_text(encoding="utf-8").count("__global__") for path in files)
    assert len(launch.kernels()) == declared


def test_strategies_are_numbered_as_in_the_region_kernels():
    text = (launch.kernel_folder() / "regions.cu").read_text(encoding="utf-8")
    for number, strategy in enumerate(STRATEGIES):
        assert f"strategy {number} ({strategy})" in text


def test_kernels_with_barriers_are_known_to_wait():
    waiting = set()
    for file in launch.kernel_files():
        waiting |= waiting_kernels((launch.kernel_folder() / f"{file}.cu").read_text(encoding="utf-8"))
    assert waiting == {
        "count_newlines", "find_line_ends", "parse_lines", "tss_counts", "length_histogram", "copy_rows",
        "quality",
    }  # fmt: skip


def test_constants_of_the_parser_are_those_of_the_protocol():
    from gpuatac.backend.gpu.reading import parsing
    from gpuatac.backend.protocol import reading

    text = (launch.kernel_folder() / "fragments.cu").read_text(encoding="utf-8")
    defined = dict(re.findall(r"#define (\w+) (\d+)", text))
    for name in ("KEPT", "COMMENT", "BLANK", "UNKNOWN_CHROM", "BAD_LENGTH", "OUTSIDE", "LAST_DROP"):
        assert int(defined[name]) == getattr(reading, name)
    for name in (n for n in vars(reading) if n.startswith("ERR_")):
        assert int(defined[name]) == getattr(reading, name)
    for name in ("WITH_STRAND", "FIRST_ERROR"):
        assert int(defined[name]) == getattr(parsing, name)
    tile = (launch.kernel_folder() / "lines.cu").read_text(encoding="utf-8")
    assert f"#define TILE {parsing.TILE}\n" in tile


def test_kernels_are_found_in_a_wheel_as_in_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "site" / "gpuatac"
    shutil.copytree(launch.kernel_folder(), package / "_kernels")
    monkeypatch.setattr(sources, "__file__", str(package / "backend" / "gpu" / "sources.py"))
    assert launch.kernel_folder.__wrapped__() == package / "_kernels"
    shutil.rmtree(package / "_kernels")
    with pytest.raises(FileNotFoundError, match="the CUDA kernels are missing"):
        launch.kernel_folder.__wrapped__()


class StandInCupy:
    """Takes the place of CuPy where a launch hands its arguments over; keeps what it was given."""

    def __init__(self):
        self.launches = []
        self.compiled = []
        self.cuda = self
        self.runtime = self

    def compile(self):
        pass

    def getDevice(self):
        return 0

    def RawModule(self, *, code, options):
        self.compiled.append((code, options))
        return self

    def get_function(self, name):
        return lambda grid, block, passed, shared_mem: self.launches.append((name, grid, block, passed, shared_mem))


def test_a_launch_passes_numbers_of_the_declared_width_and_a_null_pointer():
    cupy = StandInCupy()
    run = launch.CudaLauncher(cupy)
    row, sums = np.zeros(2_000_000, np.int32), np.zeros(3, np.int64)
    for _ in range(2):
        run("row_sums", row.size, row, None, row.size, sums)
    name, grid, block, passed, shared_mem = cupy.launches[1]
    assert (name, grid, block, shared_mem) == ("row_sums", (4096,), (256,), 0)
    assert passed[0] is row
    assert passed[3] is sums
    assert [type(value) for value in passed[1:3]] == [np.uint64, np.int64]
    assert passed[1:3] == (0, row.size)
    assert cupy.compiled == [(launch.source("rows"), ("-std=c++17",))]


def test_nothing_is_launched_for_no_threads():
    cupy = StandInCupy()
    launch.CudaLauncher(cupy)("row_sums", 0, None, None, 0, None)
    assert not cupy.launches


def test_dynamic_shared_memory_is_asked_for_where_it_is_used():
    cupy = StandInCupy()
    empty = np.empty(0, np.int32)
    counting = Counting(np, launch.CudaLauncher(cupy))
    column = np.zeros(5, np.int32)
    for max_length in (1_000, 20_000):
        counting.length_histogram(column, column + 9, column, max_length=max_length)
    for window in (2_000, 7_000):
        counting.tss_counts(
            column,
            column + 9,
            column,
            n_rows=1,
            tss=empty,
            reverse=empty > 0,
            window=window,
            half_center=5,
            edge=100,
        )
    assert [shared_mem for *_, shared_mem in cupy.launches] == [4 * 1_001, 0, 4 * 4_001, 0]
    place = [argument.name for argument in launch.kernels()["tss_counts"].arguments].index("privatise")
    assert [passed[place] for *_, passed, _ in cupy.launches[2:]] == [1, 0]


@pytest.mark.parametrize(
    ("n_rows", "max_length", "window", "shared"),
    [
        (1, 1_000, 2_000, 4 * (1_001 + 4_001 + 6)),  # bulk: the table as well
        (171, 1_000, 2_000, 4 * (1_001 + 4_001)),  # 171 x 6 counters are more than a small table has
        (1, 20_000, 2_000, 4 * (4_001 + 6)),
        (1, 1_000, 7_000, 4 * (1_001 + 6)),
        (1, 12_280, 2_000, 4 * (12_281 + 6)),  # the lengths leave seven counters
    ],
)
def test_the_fused_kernel_is_given_the_shared_memory_that_it_divides(n_rows, max_length, window, shared):
    cupy = StandInCupy()
    column = np.zeros(5, np.int32)
    given = {"tss": column, "reverse": column > 0, "half_center": 5, "edge": 100, "bounds": (147, 294)}
    Counting(np, launch.CudaLauncher(cupy)).quality(
        column,
        column + 9,
        column,
        n_rows=n_rows,
        max_length=max_length,
        window=window,
        regions=[(column, column)],
        **given,
    )
    ((_, _, _, passed, shared_mem),) = cupy.launches
    assert shared_mem == shared <= launch.SHARED_BYTES
    value = dict(zip((a.name for a in launch.kernels()["quality"].arguments), passed, strict=True))
    kept = value["shared_lengths"] * (max_length + 1) + value["shared_profile"] * (2 * window + 1)
    assert 4 * (kept + value["shared_table"] * n_rows * value["n_columns"]) == shared
    assert value["n_columns"] == 6


def methods(cls) -> dict[str, list]:
    """The public methods of a class and their parameters."""
    found = {name: member for name, member in vars(cls).items() if inspect.isfunction(member) and name[0] != "_"}
    return {name: list(inspect.signature(member).parameters.values()) for name, member in found.items()}


def test_the_gpu_backend_has_every_method_of_the_protocol():
    found = methods(Arrays) | methods(GpuBackend)
    for name, parameters in methods(protocol.Backend).items():
        assert found[name] == parameters, name


@pytest.mark.parametrize("part", ["Parsing", "Ordering", "Counting", "Linalg", "Graph", "Pileup", "Peaks", "Matrices"])
def test_the_gpu_side_has_every_primitive_with_the_same_arguments(part):
    found = methods(getattr(gpu, part))
    for name, parameters in methods(getattr(protocol, part)).items():
        assert found[name] == parameters, name
