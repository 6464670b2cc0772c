"""200 damaged fragment files: each is read with every line accounted for, or refused with the place."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import subprocess
import sys

import pytest
from mutators import SIZES, expected, make_case

import gpuatac as ga
from gpuatac.errors import GpuatacError

GENOME = ga.Genome("fuzz", SIZES)
SECONDS = 60  # far above what a file of a few kB takes, the first one compiles
N_FILES = 200


@contextlib.contextmanager
def at_most(seconds: int):
    def ring(*_):
        msg = f"no answer within {seconds} s"
        raise TimeoutError(msg)

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def written(tmp_path, case):
    path = tmp_path / f"input{case.suffix}"
    path.write_bytes(case.data)
    return path


def left_behind(tmp_path, path):
    return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p != path)


def check_place(message, wanted):
    """The message names a line, or an offset where the compression is broken."""
    if wanted.lines or wanted.broken:  # an empty file has no line to name
        assert re.search(r"\bline \d+|byte offset \d+", message), f"no place in: {message}"


@pytest.mark.parametrize("seed", range(N_FILES), ids=lambda seed: make_case(seed).name)
def test_damaged_file_is_accounted_for_or_refused_with_its_place(tmp_path, seed):
    case = make_case(seed)
    wanted = expected(case)
    path = written(tmp_path, case)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    adata = refusal = None
    try:
        with at_most(SECONDS):
            adata = ga.pp.import_fragments(
                path, GENOME, min_num_fragments=case.min_num_fragments, out=tmp_path / "out", device="cpu"
            )
    except GpuatacError as error:
        refusal = error
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    if refusal is not None:
        may_be_refused = wanted.broken or wanted.bad_line or wanted.lines == 0 or case.packing_damaged
        assert may_be_refused, f"a file without a fault was refused: {refusal}"
        check_place(str(refusal), wanted)
        if refusal.line is not None and wanted.bad_line is not None:
            assert refusal.line == wanted.bad_line
        assert left_behind(tmp_path, path) == []
        return
    assert not wanted.broken, "broken compression was read as if it were whole"
    assert wanted.bad_line is None, f"line {wanted.bad_line} is no fragment and was not refused"
    (text,) = adata.uns["read_summary"].values()
    summary = json.loads(text)
    assert summary["lines"] == wanted.lines
    assert summary["lines"] == summary["kept"] + sum(summary["dropped"].values())
    assert summary["kept"] == wanted.kept
    assert {reason: n for reason, n in summary["dropped"].items() if n} == wanted.dropped


# A text mutation in each encoding, a compression mutation in each, and an untouched file.
@pytest.mark.parametrize("seed", [1, 4, 14, 18, 22, 47, 92, 112, 132], ids=lambda seed: make_case(seed).name)
def test_damaged_file_on_the_command_line_gives_a_message_and_no_traceback(tmp_path, seed):
    case = make_case(seed)
    wanted = expected(case)
    path = written(tmp_path, case)
    (tmp_path / "fuzz.sizes").write_text("".join(f"{c}\t{n}\n" for c, n in SIZES.items()))
    code = "import sys; from gpuatac.cli import main; sys.exit(main())"
    arguments = [
        "run",
        path,
        "--genome",
        tmp_path / "fuzz.sizes",
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), "--min-fragments", "1"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    if wanted.broken or wanted.bad_line is not None:
        assert done.returncode != 0
        check_place(done.stderr, wanted)
        assert left_behind(tmp_path, path) == ["fuzz.sizes"]
