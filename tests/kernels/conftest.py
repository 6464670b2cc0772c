"""The backends that the kernel tests run on."""

from __future__ import annotations

import pytest

from .cpu_run import CpuLauncher, CpuRunBackend, build, compiler


@pytest.fixture(scope="session")
def build_folder(request, tmp_path_factory):
    """Where the CPU builds of the kernels are kept from run to run."""
    if compiler() is None:
        pytest.skip("no C++ compiler: the kernels cannot be built for the CPU")
    cache = getattr(request.config, "cache", None)
    return tmp_path_factory.mktemp("kernels") if cache is None else cache.mkdir("kernels")


@pytest.fixture(scope="session")
def library(build_folder):
    return build(build_folder)


@pytest.fixture(scope="session", params=[0, 1, 7], ids=["forward", "backward", "shuffled"])
def bk(request, library):
    """The GPU wrappers on NumPy, with the threads of every block in three orders."""
    return CpuRunBackend(CpuLauncher(library, order=request.param))
