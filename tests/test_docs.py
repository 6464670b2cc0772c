"""Documentation is executed: docstring examples, the README's blocks and its table of defaults."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
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


def test_readme_blocks_marked_runnable_run(tmp_path):
    """A Python block runs when the line before it is ``<!-- runnable -->``; all of them in one process, in order."""
    blocks = re.findall(r"<!-- runnable -->\s*```python\n(.*?)```", readme(), re.S)
    if not blocks:
        pytest.skip("README.md marks no block as runnable")
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True,
        text=True, check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_table_of_defaults_has_a_row_for_every_option():
    rows = defaults_table().splitlines()
    assert len(rows) == 2 + len(defaults())
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 4, row
    assert "| `--min-fragments` | 1000 |" in rows[2 + list(defaults()).index("min_fragments")]
