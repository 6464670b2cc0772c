"""The house rules that are tests: import contracts, a light import, public names, docstrings, packaging."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import gpuatac

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "gpuatac"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())

#: Layers from the ground up. A part may import what stands on a lower line, itself, and what BESIDE names. ``mm``, ``report`` and
#: ``dist`` are not built yet; their places are kept.
LAYERS = (
    ("_version", "errors", "progress", "options"),
    ("check", "genome", "slots"),
    ("threads", "memory", "fragments"),
    ("backend", "core"),
    ("inplace", "provenance", "device"),
    ("io",),
    ("simulate", "nn"),
    ("pp", "metrics", "pl", "ex", "mm"),
    ("tl",),
    ("workflow", "report", "dist"),
    ("cli",),
    ("__main__",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
RANK["__init__"] = len(LAYERS)
#: ``core`` receives its backend as an argument and knows the contract only; backends share three algorithms.
BESIDE = {
    "core": {"gpuatac.backend.protocol"},
    "gpuatac.backend.cpu.embedding.graph": {"gpuatac.core.embedding.partition"},
    "gpuatac.backend.gpu.embedding.graph": {"gpuatac.core.embedding.partition"},
    "gpuatac.backend.cpu.embedding.linalg": {"gpuatac.core.embedding.lanczos", "gpuatac.core.rows"},
    "gpuatac.backend.gpu.embedding.linalg": {"gpuatac.core.embedding.lanczos", "gpuatac.core.rows"},
    "gpuatac.backend.cpu.embedding.packed": {"gpuatac.core.rows"},
    "gpuatac.backend.gpu.embedding.packed": {"gpuatac.core.rows"},
}
#: Rooms within a part, from the ground up: none reaches into one above it.
ROOMS = (
    ("gpuatac.io.files", "gpuatac.io.tables", "gpuatac.io.genome", "gpuatac.io.fragments", "gpuatac.io.tracks", "gpuatac.io.matrices"),
    ("gpuatac.core.counting", "gpuatac.core.tracks", "gpuatac.core.peaks"),
    ("gpuatac.nn", "gpuatac.nn.denoising.networks", "gpuatac.nn.denoising.examples", "gpuatac.nn.denoising"),
    ("gpuatac.workflow.main_job", "gpuatac.workflow.groups", "gpuatac.workflow.denoiser"),
)
MOST_FILES, MOST_LINES = 15, 450
#: Methods that NamedTuple writes with an underscore so that they clash with no field; they are public.
NAMEDTUPLE_API = {"_asdict", "_fields", "_make", "_replace"}
GPU_LIBRARIES = {
    "cupy",
    "cupyx",
    "cudf",
    "cuml",
    "cugraph",
    "cuvs",
    "pylibcugraph",
    "pylibraft",
    "rmm",
    "rapids_singlecell",
    "numba_cuda",
}
#: Imported by us, installed by a declared dependency that cannot do without it.
THROUGH = {"h5py": "anndata", "llvmlite": "numba", "threadpoolctl": "scikit-learn", "cycler": "matplotlib"}
DISTRIBUTION = {"sklearn": "scikit-learn", "umap": "umap-learn", "pyBigWig": "pybigwig", "cuda": "cuda-bindings"}


class Import(NamedTuple):
    """One import statement: who, what, and whether only the type checker sees it."""

    importer: str
    imported: str
    typing_only: bool


def name_of(path: Path) -> str:
    return ".".join(("gpuatac", *path.relative_to(PACKAGE).with_suffix("").parts))


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, "imports are absolute"
    # `from gpuatac.core import counts` names a module, `from gpuatac.errors import InputError` does not
    inside = [f"{node.module}.{alias.name}" for alias in node.names]
    return [n if is_module(n) else str(node.module) for n in inside]


@cache
def is_module(name: str) -> bool:
    path = REPO.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@cache
def all_imports() -> tuple[Import, ...]:
    found = []
    for path in MODULES:
        tree = ast.parse(path.read_text())
        typing_only: set[ast.AST] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                typing_only.update(inner for statement in node.body for inner in ast.walk(statement))
        for node in ast.walk(tree):
            found += [Import(name_of(path), name, node in typing_only) for name in imported_names(node)]
    return tuple(found)


def allowed(edge: Import) -> bool:
    importer, imported = part_of(edge.importer), part_of(edge.imported)
    if importer == imported or edge.imported == "gpuatac":  # the version and the switches of the package itself
        return True
    beside = BESIDE.get(edge.importer, set()) | BESIDE.get(importer, set())
    return edge.imported in beside or RANK[imported] < RANK[importer]


# ------------------------------------------------------------------------------------------- imports


def test_every_part_of_the_package_has_a_layer():
    assert {part_of(name_of(path)) for path in MODULES} <= set(RANK)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_the_layers_that_are_held(document):
    built = [[part for part in layer if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file()] for layer in LAYERS]
    named = [" ".join(part for part in layer if not part.startswith("_")) for layer in reversed(built)]
    sentence = "Imports go downward only: " + ", ".join(f"`{layer}`" for layer in named if layer) + "."
    assert sentence in " ".join((REPO / document).read_text().split())


def test_imports_go_downward_only():
    inside = [i for i in all_imports() if i.imported.partition(".")[0] == "gpuatac"]
    assert len(inside) > 150
    wrong = [f"{i.importer} imports {i.imported}" for i in inside if not allowed(i)]
    assert wrong == []


@pytest.mark.parametrize(
    "edge",
    [
        Import("gpuatac.core.counting.counts", "gpuatac.io.fragments.store", typing_only=False),
        Import("gpuatac.core.counting.counts", "gpuatac.backend.cpu", typing_only=False),
        Import("gpuatac.backend.cpu.counting.counts", "gpuatac.core.embedding.partition", typing_only=False),
        Import("gpuatac.pp._cells", "gpuatac.tl", typing_only=False),
        Import("gpuatac.errors", "gpuatac.check", typing_only=False),
        Import("gpuatac.io.fragments.store", "gpuatac.pp", typing_only=True),
    ],
    ids=str,
)
def test_import_contract_refuses_an_upward_import(edge):
    assert not allowed(edge)


@cache
def file_edges() -> dict[str, set[str]]:
    """Which module of the package imports which, what only the type checker sees included."""
    found: dict[str, set[str]] = {}
    for edge in all_imports():
        if edge.imported.partition(".")[0] == "gpuatac" and edge.imported != edge.importer:
            found.setdefault(edge.importer.removesuffix(".__init__"), set()).add(edge.imported)
    return found


def circle_in(edges: dict[str, set[str]]) -> list[str]:
    """One circle of the graph, or nothing."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for below in sorted(edges.get(node, ())):
            if found := walk(below, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := walk(node, []))), [])


def test_no_files_import_each_other_in_a_circle():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert len(file_edges()) > 150
    assert circle_in(file_edges()) == []


def test_no_room_reaches_into_a_room_above_it():
    wrong = []
    for rooms in ROOMS:
        rank = {room: n for n, room in enumerate(rooms)}
        inside = [i for i in all_imports() if i.importer.rpartition(".")[0] in rank]
        assert len(inside) > 10
        wrong += [
            f"{i.importer} imports {i.imported}"
            for i in inside
            if rank.get(i.imported.rpartition(".")[0], -1) > rank[i.importer.rpartition(".")[0]]
        ]
    assert wrong == []


def test_no_room_has_more_files_than_one_sees_at_a_glance():
    files: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        files[str(path.parent)] = files.get(str(path.parent), 0) + 1
    assert {room: n for room, n in files.items() if n > MOST_FILES} == {}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMEDTUPLE_API


def private_names_taken(source: str) -> list[str]:
    """Private names of other modules of the package that ``source`` imports, or reaches through what it imported."""
    nodes = list(ast.walk(ast.parse(source)))
    bound, taken = {}, []  # what a name stands for in this file
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "gpuatac":
            bound.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
        elif isinstance(node, ast.Import):
            ours = [a for a in node.names if a.name.partition(".")[0] == "gpuatac"]
            bound.update({a.asname or "gpuatac": a.name if a.asname else "gpuatac" for a in ours})
    taken += [full for full in bound.values() if is_private(full.rpartition(".")[2]) and not is_module(full)]
    for node in nodes:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            first, _, rest = ast.unparse(node).partition(".")
            full = f"{bound.get(first, '')}.{rest}"
            if first in bound and not is_module(full):
                taken.append(full)
    return taken


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("from gpuatac.a import _b", ["gpuatac.a._b"]),
        ("from gpuatac.io.fragments import store\nstore._kept()", ["gpuatac.io.fragments.store._kept"]),
        ("from gpuatac.io.fragments import store as s\ns.Writer._kept", ["gpuatac.io.fragments.store.Writer._kept"]),
        ("import gpuatac.io as gio\ngio._kept", ["gpuatac.io._kept"]),
        ("import gpuatac\ngpuatac.io._kept", ["gpuatac.io._kept"]),
        ("from gpuatac.fragments import Columns\nColumns._fields", []),  # NamedTuple's own
        ("from gpuatac.pl import _style\n_style.colors_of(2)", []),
        ("from torch import nn\nnn._reduction\nadata._init_as_actual()\nself._own", []),
    ],
)
def test_private_names_are_found_in_imports_and_attributes(source, taken):
    assert private_names_taken(source) == taken


def test_no_file_takes_private_names_of_another():
    wrong = [f"{name_of(path)} takes {name}" for path in MODULES for name in private_names_taken(path.read_text())]
    assert wrong == []


def test_a_module_with_an_underscore_is_of_its_own_part():
    wrong = {
        f"{i.importer} imports {i.imported}"
        for i in all_imports()
        if any(map(is_private, i.imported.split(".")))
        and part_of(i.importer) != part_of(i.imported)
        and i.imported.partition(".")[0] == "gpuatac"
        and i.imported != "gpuatac._version"  # that of the whole package
    }
    assert wrong == set()


def test_gpu_libraries_are_imported_in_the_backend_only():
    wrong = [
        i
        for i in all_imports()
        if i.imported.partition(".")[0] in GPU_LIBRARIES and not i.importer.startswith("gpuatac.backend.")
    ]
    assert wrong == []


def test_only_the_door_opens_to_the_sides_of_the_backend():
    """Everyone else takes a backend from ``gpuatac.backend`` or as an argument, and the work of the host from ``backend.host``."""
    sides = ("gpuatac.backend.cpu", "gpuatac.backend.gpu")
    inside = [i for i in all_imports() if f"{i.imported}.".startswith(tuple(f"{side}." for side in sides))]
    assert len(inside) > 20
    wrong = [f"{i.importer} imports {i.imported}" for i in inside if not i.importer.startswith("gpuatac.backend.")]
    assert wrong == []


def test_no_import_is_tried_and_caught():
    wrong = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            caught = ast.unparse(node.type) if isinstance(node, ast.ExceptHandler) and node.type else ""
            if "ImportError" in caught or "ModuleNotFoundError" in caught:
                wrong.append(f"{name_of(path)}:{node.lineno}")
    assert wrong == []


def test_what_is_imported_is_declared():
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    declared = {
        re.split(r"[<>=;\[ ]", d)[0].lower() for group in (PYPROJECT["project"]["dependencies"], *extras) for d in group
    }
    used = (
        {i.imported.partition(".")[0] for i in all_imports()}
        - set(sys.stdlib_module_names)
        - {"gpuatac"}
        - GPU_LIBRARIES
    )
    missing = {m for m in used if DISTRIBUTION.get(m, m) not in declared and THROUGH.get(m) not in declared}
    assert missing == set()


def test_import_loads_numpy_and_nothing_else_and_takes_less_than_a_second():
    code = (
        "import time, sys, json; before = set(sys.modules); began = time.process_time()\n"  # .pth files may load some
        "import gpuatac; took = time.process_time() - began\n"
        "import logging\n"
        "loaded = {m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(json.dumps([took, sorted(m for m in loaded if not m.startswith('_')), len(logging.getLogger().handlers)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    took, loaded, handlers = json.loads(done.stdout)
    assert set(loaded) - {"gpuatac", "numpy"} == set()
    assert took < 1.0
    assert handlers == 0  # the application configures logging


# -------------------------------------------------------------------------------------- public names

PUBLIC = (
    "gpuatac", "gpuatac.pp", "gpuatac.tl", "gpuatac.metrics", "gpuatac.pl", "gpuatac.ex", "gpuatac.io", "gpuatac.workflow",
)  # fmt: skip
#: Functions whose three first values say what is asked, as SnapATAC2's of the same name take them.
THREE_POSITIONAL: set[str] = {"regions", "diff_test"}


def public_functions() -> list[pytest.param]:
    out = {}
    for name in PUBLIC:
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            if inspect.isfunction(value):
                out.setdefault(inspect.unwrap(value), f"{name}.{public}")
    return [pytest.param(function, id=label) for function, label in out.items()]


@pytest.mark.parametrize("name", PUBLIC)
def test_all_names_every_public_name_and_each_resolves(name):
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(set(module.__all__))
    assert [n for n in module.__all__ if not hasattr(module, n)] == []
    assert set(module.__all__) <= set(dir(module))
    defined = {
        n
        for n, v in vars(module).items()
        if not n.startswith("_") and not inspect.ismodule(v) and getattr(v, "__module__", "").startswith("gpuatac")
    }
    assert defined - set(module.__all__) == set()


def test_unknown_name_of_the_package_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'gpuatac' has no attribute 'nonsense'"):
        _ = gpuatac.nonsense


@pytest.mark.parametrize("function", public_functions())
def test_public_function_has_at_most_two_positional_parameters(function):
    parameters = inspect.signature(function).parameters.values()
    positional = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
    ]
    assert len(positional) <= (3 if function.__name__ in THREE_POSITIONAL else 2), positional


@pytest.mark.parametrize("function", public_functions())
def test_public_docstring_is_a_contract(function):
    text = inspect.getdoc(function) or ""
    first = text.partition("\n\n")[0]
    assert first.endswith("."), "one sentence of purpose"
    parameters = list(inspect.signature(function).parameters.values())
    if function.__name__ not in ("get_threads", "quiet", "forget"):  # a switch needs no example
        assert "Examples\n--------" in text
    if parameters and parameters[0].name == "adata":
        assert re.search(r"^\s*(Reads|Writes|Returns|Reads and writes)\b", text, re.M) or "adata\n    " in text


# ---------------------------------------------------------------------------------- text and packaging


def product_text() -> list[Path]:
    folders = [REPO / name for name in ("gpuatac", "kernels", "tests", "benchmarks")]
    suffixes = {".py", ".md", ".cu", ".cuh", ".h", ".json"}
    return [p for folder in folders for p in folder.rglob("*") if p.suffix in suffixes] + sorted(REPO.glob("*.md"))


def test_no_text_names_a_path_of_one_machine():
    roots = "|".join(("work", "home", "root", "tmp"))
    pattern = re.compile(rf"(?<![\w.>}}]){re.escape('/')}(?:{roots})/")
    wrong = [
        f"{p.relative_to(REPO)}:{n}"
        for p in product_text()
        for n, line in enumerate(p.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert wrong == []


def test_what_the_architecture_section_names_is_there():
    section = (REPO / "README.md").read_text().partition("## Architecture")[2]
    named = {n for n in re.findall(r"`([\w/*.]+?(?:\.py|/))`", section) if n != "gpuatac/"}
    assert len(named) > 40
    roots = (REPO, PACKAGE, *(p for p in PACKAGE.rglob("*") if p.is_dir()))
    assert [n for n in sorted(named) if not any(list(root.glob(n)) for root in roots)] == []


def test_no_module_is_longer_than_450_lines():
    long = {name_of(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert long == {}


def test_kernels_are_packaged_with_the_wheel_and_the_source():
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"kernels": "gpuatac/_kernels"}
    assert "kernels" in PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert len(list((REPO / "kernels").glob("*.cu"))) >= 5


def test_version_is_the_same_everywhere():
    assert gpuatac.__version__ == PYPROJECT["project"]["version"]
    changelog = REPO / "CHANGELOG.md"
    if changelog.exists():
        assert gpuatac.__version__ in changelog.read_text()


def test_command_of_the_package_resolves():
    module, _, function = PYPROJECT["project"]["scripts"]["gpuatac"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
