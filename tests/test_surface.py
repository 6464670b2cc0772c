"""What users of the package see first: names by tab, types, the wheel's files, and how to cite it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import gpuatac as ga

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "gpuatac"
PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())
FACES = ("ex", "io", "metrics", "pl", "pp", "tl", "workflow")
#: Files that are not Python and that the package reads.
DATA = {
    "gpuatac/py.typed",
    "gpuatac/data/denoiser.pt",
    *(f"gpuatac/data/{name}.chrom.sizes" for name in ("hg19", "hg38", "mm10", "mm39")),
}


@pytest.mark.parametrize("face", FACES)
def test_a_user_who_presses_tab_sees_verbs_and_no_modules(face):
    module = getattr(ga, face)
    assert dir(module) == sorted(module.__all__)
    assert not [name for name in dir(module) if type(getattr(module, name)).__name__ == "module"]


def test_rooms_behind_the_verbs_can_be_imported():
    from gpuatac.io.fragments import store
    from gpuatac.workflow.main_job import steps

    assert store.open_fragments is ga.io.open_fragments
    assert steps.STEPS is ga.workflow.STEPS
    assert ga.io.fragments.store is store


@pytest.mark.parametrize("name", [*FACES, "run", "simulate_fragments", "simulate_library", "to_device", "to_host"])
def test_each_lazy_name_is_loaded_when_it_is_asked_for(name):
    assert name in dir(ga)
    assert ga.__getattr__(name).__name__.rpartition(".")[2] == name  # as if nothing had loaded it yet


def test_names_that_load_lazily_are_known_to_type_checkers():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    shown = {
        alias.name
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    defined = {alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(ga.__all__) - defined == shown


def test_readme_calls_only_what_there_is():
    named = set(re.findall(r"\bga((?:\.[a-z_]\w*)+)", (REPO / "README.md").read_text()))
    assert len(named) > 20
    for path in named:
        value = ga
        for name in path.split(".")[1:]:
            value = getattr(value, name)


def test_the_package_says_that_it_is_typed_and_its_data_are_tracked():
    assert {p for p in DATA if not (REPO / p).is_file()} == set()
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["gpuatac"]
    assert not {"exclude", "only-include", "artifacts"} & wheel.keys()
    if (REPO / ".git").exists():
        ignored = subprocess.run(["git", "check-ignore", *sorted(DATA)], cwd=REPO, capture_output=True, text=True, check=False)
        assert ignored.stdout == ""  # what git ignores is not packaged


def test_the_wheel_holds_every_module_the_kernels_and_the_data(tmp_path):
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling")
    code = (
        "import sys; from hatchling.builders.wheel import WheelBuilder\n"
        "print(*WheelBuilder(sys.argv[1]).build(directory=sys.argv[2], versions=['standard']))"
    )
    done = subprocess.run([sys.executable, "-c", code, REPO, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    held = set(zipfile.ZipFile(done.stdout.split()[-1]).namelist())
    modules = {p.relative_to(REPO).as_posix() for p in PACKAGE.rglob("*.py")}
    kernels = {f"gpuatac/_kernels/{p.name}" for p in (REPO / "kernels").glob("*.cu")}
    assert modules | kernels | DATA <= held
    assert not [name for name in held if name.startswith("tests/") or name.endswith(".pyc")]


def test_the_citation_names_this_version_and_licence():
    text = (REPO / "CITATION.cff").read_text()
    told = dict(re.findall(r"^([a-z-]+): +(.+)$", text, re.M))
    assert told["cff-version"] == "1.2.0"
    assert told["version"].strip('"') == ga.__version__
    assert told["license"] == PYPROJECT["project"]["license"]
    assert {"message", "title"} <= told.keys()
    assert told["title"].strip(chr(34)).startswith("gpuatac")
    assert re.search(r"^authors:\n  - name: ", text, re.M)


# ----------------------------------------------------------------------------------------- what runs on each change


def workflow() -> str:
    return (REPO / ".github" / "workflows" / "ci.yml").read_text()


def test_the_workflow_calls_targets_of_make_on_every_python_that_is_named():
    called = set(re.findall(r"run: make (\w+)", workflow()))
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.M))
    assert {"test", "gpu"} <= called <= targets
    tested = re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", workflow())[1])
    named = [c.rpartition(" ")[2] for c in PYPROJECT["project"]["classifiers"] if "Python :: 3." in c]
    assert tested == named


def test_the_workflow_may_only_read_and_its_actions_are_fixed():
    used = re.findall(r"uses: *(\S+)", workflow())
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
    assert re.search(r"^permissions:\n  contents: read\n\n", workflow(), re.M)
    assert "write" not in workflow()


def test_a_bug_report_asks_for_what_gpuatac_info_prints():
    text = (REPO / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text()
    assert {"`gpuatac info`", "`gpuatac info FILE.h5ad`"} <= set(re.findall("`[^`]+`", text))
