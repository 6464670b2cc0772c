"""What the kernels take of a multiprocessor: no kernel spills, and the table of kernels/README.md is true."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from gpuatac.backend.gpu import launch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def tool():
    if any(importlib.util.find_spec(name) is None for name in ("cuda", "cuda.bindings", "cuda.bindings.nvrtc")):
        pytest.skip("NVRTC is not installed: pip install 'gpuatac[dev]'")
    spec = importlib.util.spec_from_file_location("kernel_resources", BENCHMARKS / "kernel_resources.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(tool):
    return {arch: tool.resources(arch) for arch in tool.ARCHITECTURES}


def test_no_kernel_spills_and_all_fit_a_block(found):
    for arch, kernels in found.items():
        assert set(kernels) == set(launch.kernels())
        for name, used in kernels.items():
            assert used.spilled == 0, (arch, name)
            assert 0 < used.registers <= 65_536 // launch.BLOCK, (arch, name)
            assert used.shared + launch.SHARED_BYTES <= 99 << 10, (arch, name)  # what a block may have at most on sm_86


def test_the_table_of_the_readme_is_true(tool, found):
    """Registers are the compiler's choice: another version of it may take others, but not another stack, shared memory or spill."""

    def rows(text):
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]

    made, stated = tool.table(found), tool.written()
    if f"NVRTC {tool.compiler()}," in stated:
        assert stated == made, "run benchmarks/kernel_resources.py --write"
    assert [[row[0], *row[2:5]] for row in rows(stated)] == [[row[0], *row[2:5]] for row in rows(made)]


def test_a_spill_is_read_from_what_the_compiler_says(tool):
    text = (
        "ptxas info    : Compiling entry function 'one' for 'sm_90'\n"
        "ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 28 bytes smem\n"
        "ptxas info    : Compiling entry function 'two' for 'sm_90'\n"
        "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 0 barriers\n"
    )
    assert tool.parsed(text) == {"one": (40, 16, 20, 28), "two": (255, 0, 0, 0)}
    assert (tool.resident(32), tool.resident(33), tool.resident(255)) == (2048, 1536, 256)
