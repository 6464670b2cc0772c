"""``gpuatac info``: the machine, or the history of a file."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from gpuatac import check, slots
from gpuatac._version import __version__
from gpuatac.backend import get, gpu_problem
from gpuatac.errors import FileFormatError
from gpuatac.memory import get_memory
from gpuatac.threads import get_threads

LIBRARIES = (
    "numpy",
    "scipy",
    "numba",
    "pandas",
    "anndata",
    "pyarrow",
    "scikit-learn",
    "umap-learn",
    "igraph",
    "harmonypy",
    "isal",
    "matplotlib",
)
GPU_LIBRARIES = (
    "cupy-cuda13x",
    "cudf-cu13",
    "cuml-cu13",
    "cugraph-cu13",
    "cuvs-cu13",
    "rmm-cu13",
    "rapids-singlecell-cu13",
    "torch",
)


def _versions(names: tuple[str, ...]) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found) or "none installed"


def _gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB"


def describe_machine() -> str:
    """Device, versions and memory."""
    host = get("cpu").memory()
    lines = [
        f"gpuatac {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"CPU: {get_threads()} threads, {_gib(host['total'])} memory, {_gib(host['free'])} free",
        f"memory limit: {_gib(get_memory())} (--memory, gpuatac.set_memory)",
        f"libraries: {_versions(LIBRARIES)}",
    ]
    problem = gpu_problem()
    if problem:
        lines.append(f"GPU: not available: {problem}")
    else:
        device = get("gpu").memory()
        limit = _gib(get("gpu").limit())
        lines.append(f"GPU: {_gib(device['total'])} memory, {_gib(device['free'])} free, limit {limit}")
        lines.append(f"GPU libraries: {_versions(GPU_LIBRARIES)}")
    lines.append(f"device taken by --device auto: {'cpu' if problem else 'gpu'}")
    return "\n".join(lines)


def _length(names: Any) -> int:
    """Number of names: of a dataset, or of the values of a nullable string array (anndata 0.13)."""
    return len(names["values"] if "values" in getattr(names, "keys", dict)() else names)


def describe_file(path: Path) -> str:
    """What an .h5ad holds and what was done to it, read without loading its matrices."""
    import h5py
    from anndata.io import read_elem

    check.existing_file(path, "file")
    if not h5py.is_hdf5(path):
        raise FileFormatError(
            path, "a file that is no HDF5", "an .h5ad file", "give a file written by gpuatac or AnnData"
        )
    with h5py.File(path, "r") as file:
        missing = [group for group in ("obs", "var", "uns") if group not in file]
        if missing:
            raise FileFormatError(
                path,
                f"an HDF5 file without {missing[0]!r}",
                "an .h5ad file",
                "give a file written by gpuatac or AnnData",
            )
        uns = read_elem(file["uns"])
        n_obs, n_vars = (_length(file[g][file[g].attrs["_index"]]) for g in ("obs", "var"))
        shown = {
            g: sorted(k for k in file[g] if k != file[g].attrs.get("_index"))
            for g in ("obs", "var", "obsm", "obsp")
            if g in file
        }
    lines = [f"{path.name}: {n_obs:,} cells x {n_vars:,} features"]
    lines += [f"  {group}: {', '.join(keys)}" for group, keys in shown.items() if keys]
    for record in uns.get(slots.FRAGMENTS, {}).get("samples", []):
        sample = json.loads(str(record))
        lines.append(f"  fragments of {sample['sample']}: {sample['path']}")
    history = [json.loads(str(r)) for r in uns.get(slots.HISTORY, [])]
    if not history:
        lines.append("no history: the file was not made by gpuatac")
    else:
        lines.append(f"history ({len(history)} verbs)")
    for r in history:
        given = ", ".join(f"{k}={v!r}" for k, v in r["parameters"].items())
        lines.append(f"  {r['verb']}({given})  [{r['version']}, {r['device']}, {r['seconds']:.2f} s]")
    return "\n".join(lines)


def info(file: str | Path | None = None) -> str:
    """Device, versions and memory; or the history of an .h5ad.

    Parameters
    ----------
    file
        A file written by gpuatac; without it the machine is described.
    """
    return describe_machine() if file is None else describe_file(Path(file))
