"""The mutants of ``make mutants``: what is changed and what is left alone, and that a bug is told from a neutral change."""

from __future__ import annotations

import numpy as np
import plant
import pytest
from changes import changes_of, compiles

MODULE = '''"""A docstring with 1 < 2."""
import logging

logger = logging.getLogger(__name__)


def clamp(x: int = 3, low: "int | 5" = 0) -> int:
    """At least ``low`` > 0."""
    if x < low:
        msg = f"{x + 1} is below {low - 2}"
        logger.info("clamped %d", x + 7)
        assert low > 1, "9"
        raise ValueError(msg)
    return min(x, 10) - 1
'''


def lines_changed(source):
    out = {}
    for change in changes_of(source.encode()):
        after = change.applied(source.encode()).decode().splitlines()
        assert compiles(change.applied(source.encode()))
        differing = [a for a, b in zip(after, source.splitlines(), strict=True) if a != b]
        assert len(differing) == 1
        out.setdefault(change.line, set()).add(differing[0].strip())
    return out


def test_code_is_changed_and_words_are_not():
    found = lines_changed(MODULE)
    assert found.pop(7) == {
        'def clamp(x: int = 4, low: "int | 5" = 0) -> int:',
        'def clamp(x: int = 3, low: "int | 5" = 1) -> int:',
    }
    assert found.pop(9) == {"if x <= low:", "if not (x < low):"}
    assert found.pop(14) == {
        "return max(x, 10) - 1",
        "return min(10, x) - 1",
        "return min(x, 11) - 1",
        "return min(x, 10) + 1",
        "return min(x, 10) - 2",
    }
    assert not found


def test_every_kind_of_change_is_made():
    source = (
        "a = not b and c\nd[0] = -e\nf += g\nh(i, j)\nwhile k:\n    break\nm = n[o:p]\nq = True\nr = 0.5\n"
        "s = t in u\nv = w(x, 'left')\ny = z is not None\n"
    )
    expected = {
        1: {"a = b and c", "a = not b or c"},
        2: {"d[1] = -e", "d[0] = e", "pass"},
        3: {"f -= g", "pass"},
        4: {"h(j, i)", "pass"},
        6: {"pass"},
        7: {"m = n[(o) + 1:p]", "m = n[o:(p) - 1]"},
        8: {"q = False"},
        9: {"r = 0.75"},
        10: {"s = t not in u"},
        11: {"v = w('left', x)", "v = w(x, 'right')"},
        12: {"y = z is None"},
    }
    assert lines_changed(source) == expected


def toy(folder):
    """A package with a compiled kernel whose user is another module, and a test of that user alone."""
    (folder / "toy").mkdir()
    (folder / "tests").mkdir()
    (folder / "toy" / "__init__.py").write_text("")
    (folder / "toy" / "kernel.py").write_text(
        "import numba as nb\n\n\n@nb.njit(cache=True)\ndef twice(x):\n    return 2 * x\n\n\ndef unused():\n    return 5\n"
    )
    (folder / "toy" / "user.py").write_text(
        "import numba as nb\n\nfrom toy.kernel import twice\n\n\n@nb.njit(cache=True)\ndef fourfold(x):\n"
        "    return twice(twice(x))\n\n\ndef endless(x):\n    while x < 3:\n        x += 1\n    return x\n"
    )
    (folder / "tests" / "test_user.py").write_text(
        "from toy.user import endless, fourfold\n\n\ndef test_user():\n    assert fourfold(3) == 12\n\n\n"
        "def test_end():\n    assert endless(0) == 3\n"
    )
    return folder


@pytest.mark.slow
def test_a_bug_is_caught_a_neutral_change_survives_and_the_tree_stays_as_it_was(tmp_path):
    """The bug is in a compiled kernel that another compiled one holds inlined: stale code would hide it."""
    root = toy(tmp_path)
    before = {path: path.read_bytes() for path in root.rglob("*.py")}
    changes = plant.drawn(root, ["toy"], 1000, 0)
    assert len({(change.path, change.line) for change in changes}) == len(changes)
    every = [c for path in ("toy/kernel.py", "toy/user.py") for c in changes_of((root / path).read_bytes(), path)]
    assert set(changes) <= set(every)

    def named(path, line, text):
        (found,) = [c for c in every if (c.path, c.line) == (path, line) and text in plant.line_of(root, c)[1]]
        return found

    chosen = [
        named("toy/kernel.py", 6, "return 3 * x"),
        named("toy/kernel.py", 10, "return 6"),
        named("toy/user.py", 13, "pass"),
        named("toy/kernel.py", 6, "return 2 / x"),
    ]
    told = []
    results = plant.plant(root, "toy", chosen, lambda path: plant.stages_of(root, path), least=8.0, factor=2.0,
                          told=lambda number, result: told.append(number))  # fmt: skip
    assert [result.outcome for result in results] == ["caught", "survived", "timed out", "caught"]
    assert told == [0, 1, 2, 3]
    assert {path: path.read_bytes() for path in root.rglob("*.py")} == before
    assert "-    return 2 * x\n+    return 3 * x\n" in plant.diff_of(root, chosen[0])


def test_tests_that_fail_by_themselves_tell_nothing(tmp_path, capsys):
    root = toy(tmp_path)
    (root / "tests" / "test_user.py").write_text("def test_no():\n    assert not 'toy.kernel'\n")
    results = plant.plant(
        root, "toy", plant.drawn(root, ["toy/kernel.py"], 1, 0), lambda path: plant.stages_of(root, path)
    )
    assert [result.outcome for result in results] == ["not tested"]
    assert "fail without a mutant" in capsys.readouterr().out


def test_draws_follow_the_seed_and_leave_out_what_cannot_run():
    one, again, other = (plant.drawn(plant.REPO, ["gpuatac/backend", "gpuatac/core"], 40, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one) == 40
    assert not any(change.path.startswith("gpuatac/backend/protocol") for change in one)
    assert len({change.kind for change in one}) > 4
    assert np.mean([change.path.startswith("gpuatac/core") for change in one]) > 0.2


def test_tests_of_a_module_come_before_those_of_its_folder_and_most_others():
    stages = plant.stages_of(plant.REPO, "gpuatac/core/peaks/consensus.py")
    assert stages[0] == ["tests/core/test_consensus.py"]
    assert stages[1] == [test for test in plant.TESTS["gpuatac/core/peaks"] if test not in stages[0]]
    assert "tests/workflow" in stages[2]
    assert len(plant.stages_of(plant.REPO, "gpuatac/core/peaks/consensus.py", quick=True)) == 2
    every = {test for tests in plant.TESTS.values() for test in tests} | set(plant.BROAD)
    assert not [test for test in every if not (plant.REPO / test).exists()]
    assert not [path for path in plant.TESTS if not (plant.REPO / path).exists()]
