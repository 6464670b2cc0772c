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


def test_compiling_without_remarks_leaves_the_bytes_of_python_as_they_are(compiled):
    code, remarks = cubins.compile_file("rows", "90")
    assert remarks == ""
    assert code.startswith(b"\x7fELF")
    assert bytes([32])[0] == 32


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


def loaded(strict):
    """Run a kernel through a new launcher: the module that it made."""
    xp = strict.backend.xp
    launcher = launch.CudaLauncher(xp)
    sums = xp.zeros(3, np.int64)
    launcher("row_sums", 4, xp.array([0, 2, 2, -1], np.int32), None, 4, sums)
    assert sums.tolist() == [1, 0, 2]
    (module,) = launcher._modules.values()
    return module


def test_a_launch_takes_what_was_compiled_and_compiles_the_rest(strict, compiled):
    assert loaded(strict).file_path == str(cubins.find("rows", "90"))  # the stand-in's device has this architecture
    path = cubins.find("rows", "90")
    path.write_bytes(path.read_bytes()[:-1])
    module = loaded(strict)
    assert (module.file_path, module.code) == (None, sources.source("rows"))
    precompile.write(("86",))
    path.unlink()
    assert loaded(strict).file_path is None
    precompile.write(("90",))
    assert loaded(strict).file_path == str(cubins.find("rows", "90"))


def test_without_compiled_kernels_the_source_is_compiled(strict, kernels):
    module = loaded(strict)
    assert (module.file_path, module.code, module.options) == (None, sources.source("rows"), ("-std=c++17",))


def test_the_step_of_an_image_says_what_it_made_and_refuses_other_words(kernels):
    run = [sys.executable, "-W", "error", "-m", "gpuatac.backend.gpu.precompile", "--arch"]
    wrong = subprocess.run([*run, "sm_90"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "--arch takes compute capabilities without the point, such as 90, got 'sm_90'." in wrong.stderr
