"""Documentation is executed: docstring examples and the README's table of defaults (its blocks: ``docs/test_readme.py``)."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from gpuatac.options import defaults, defaults_table

REPO = Path(__file__).resolve().parents[1]
README = REPO / "README.md"
MODULES = sorted(
    ".".join(p.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
    for p in (REPO / "gpuatac").rglob("*.py")
    if p.name != "__main__.py"
)


def source_of(module: str) -> Path:
    path = REPO.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def modules_with_examples() -> list[str]:
    return [m for m in MODULES if ">>> " in source_of(m).read_text()]


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.startswith("gpuatac.backend.gpu"):
        pytest.importorskip("cupy", reason="GPU modules need CuPy")
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
    assert sum(len(test.examples) for test in found) > 0
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
    assert list(tmp_path.iterdir()) == [], "an example leaves files in the working folder"


def readme() -> str:
    if not README.exists():
        pytest.skip("README.md is not written yet")
    return README.read_text()


def test_readme_table_of_defaults_is_the_one_of_the_code():
    text = readme()
    assert defaults_table() in text, "paste gpuatac.options.defaults_table() into README.md"


def test_table_of_defaults_has_a_row_for_every_option():
    rows = defaults_table().splitlines()
    assert len(rows) == 2 + len(defaults())
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 4, row
    assert "| `--min-fragments` | 1000 |" in rows[2 + list(defaults()).index("min_fragments")]
