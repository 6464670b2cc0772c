"""Kernels compiled ahead: what fits is loaded, and nothing that is stale, damaged or for another GPU ever is."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gpuatac.backend.gpu import cubins, launch, precompile, sources


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A copy of the kernels' folder in the place of the real one."""
    copy = tmp_path / "kernels"
    shutil.copytree(launch.kernel_folder(), copy, ignore=shutil.ignore_patterns("cubins"))
    for module in (sources, cubins, launch):
        monkeypatch.setattr(module, "kernel_folder", lambda: copy)
    sources.source.cache_clear()
    launch.kernels.cache_clear()
    yield copy
    sources.source.cache_clear()
    launch.kernels.cache_clear()


@pytest.fixture
def compiled(kernels, monkeypatch):
    """The same with the file rows.cu compiled for sm_90."""
    if any(importlib.util.find_spec(name) is None for name in ("cuda", "cuda.bindings", "cuda.bindings.nvrtc")):
        pytest.skip("NVRTC is not installed: pip install 'gpuatac[dev]'")
    monkeypatch.setattr(precompile, "kernel_files", lambda: ("rows",))
    precompile.write(("90",))
    return kernels


def test_compiled_kernels_are_found_for_their_architecture_alone(compiled):
    found = cubins.find("rows", "90")
    assert found.read_bytes().startswith(b"\x7fELF")
    assert b"row_sums" in found.read_bytes()
    assert found.parent == compiled / "cubins"
    assert cubins.find("rows", "100") is None
    assert cubins.find("rows", "9") is None
    assert cubins.find("tiles", "90") is None


def test_a_changed_source_or_header_or_option_is_compiled_anew(compiled, monkeypatch):
    for file in ("rows.cu", "common.cuh"):
        path = compiled / file
        before = path.read_text()
        path.write_text(before + "// changed\n")
        sources.source.cache_clear()
        assert cubins.find("rows", "90") is None, file
        path.write_text(before)
        sources.source.cache_clear()
        assert cubins.find("rows", "90") is not None
    monkeypatch.setattr(cubins, "ADDED_BY_CUPY", ("-ftz=false",))
    assert cubins.find("rows", "90") is None


@pytest.mark.parametrize("damage", [lambda code: code[:-1], lambda code: b"", lambda code: code[:99] + b"x" + code[100:]])
def test_damaged_kernels_are_not_loaded(compiled, damage, caplog):
    path = cubins.find("rows", "90")
    path.write_bytes(damage(path.read_bytes()))
    assert cubins.find("rows", "90") is None
    assert "are damaged; the source is compiled instead" in caplog.text


def test_compiling_again_leaves_one_file_of_each(compiled):
    (path,) = (compiled / "cubins").iterdir()
    (compiled / "rows.cu").write_text((compiled / "rows.cu").read_text() + "// changed\n")
    sources.source.cache_clear()
    precompile.write(("90", "100"))
    left = sorted(p.name for p in (compiled / "cubins").iterdir())
    assert len(left) == 2
    assert path.name not in left
    assert cubins.find("rows", "90").name in left


class Gpu:
    """The part of CuPy that loads modules, on a device of some architecture; what it was asked for."""

    def __init__(self, arch):
        self.asked = []
        self.cuda = self.runtime = self
        self.compute_capability = arch

    def getDevice(self):
        return 0

    def Device(self):
        return self

    def compile(self):
        self.asked.append("compile")

    def RawModule(self, **given):
        self.asked.append(given)
        return self

    def get_function(self, name):
        return lambda *_, **__: None


def asked_for(arch):
    gpu = Gpu(arch)
    launch.CudaLauncher(gpu)("row_sums", 3, np.zeros(3, np.int32), None, 3, np.zeros(3, np.int64))
    return gpu.asked


def test_a_launch_takes_what_was_compiled_and_compiles_the_rest(compiled):
    assert asked_for("90") == [{"path": str(cubins.find("rows", "90"))}]
    source = {"code": sources.source("rows"), "options": ("-std=c++17",)}
    assert asked_for("86") == [source, "compile"]
    path = cubins.find("rows", "90")
    path.write_bytes(path.read_bytes()[:-1])
    assert asked_for("90") == [source, "compile"]


def test_without_compiled_kernels_all_is_as_ever(kernels):
    assert asked_for("90") == [{"code": sources.source("rows"), "options": ("-std=c++17",)}, "compile"]


def test_the_step_of_an_image_says_what_it_made_and_refuses_other_words(kernels):
    run = [sys.executable, "-W", "error", "-m", "gpuatac.backend.gpu.precompile", "--arch"]
    wrong = subprocess.run([*run, "sm_90"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "--arch takes compute capabilities without the point, such as 90, got 'sm_90'." in wrong.stderr
