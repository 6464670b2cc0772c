"""Every case through the GPU wrappers on NumPy arrays, with CPU-run kernels in three thread orders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuatac.backend.gpu import launch
from gpuatac.backend.gpu.counting import counts as gpu_counting
from gpuatac.backend.gpu.reading.parsing import Parsing, hash_bytes
from gpuatac.backend.protocol import STRATEGIES, Csr
from gpuatac.errors import InputError

from . import oracle
from .cases import CASES, NAMES, SIZES, Case, dense_of, random_fragments, random_text, run
from .cpu_run import CpuLauncher, CpuRunBackend, build

VERBS = sorted({case.verb for case in CASES})


@pytest.mark.parametrize("verb", VERBS)
def test_wrapper_and_kernels_agree_with_the_oracle(bk, verb):
    for case in (c for c in CASES if c.verb == verb):
        try:
            run(bk, case)
        except Exception as error:
            error.add_note(f"case: {case}")
            raise


def test_the_cases_launch_every_kernel(library):
    launcher = CpuLauncher(library)
    bk = CpuRunBackend(launcher)
    for case in CASES:
        run(bk, case)
    assert set(launcher.launched) == set(launch.kernels())


@pytest.mark.parametrize(("block", "max_blocks"), [(32, 1), (96, 2), (256, 50), (1024, 1)])
def test_results_do_not_depend_on_the_launch_geometry(library, block, max_blocks):
    bk = CpuRunBackend(CpuLauncher(library, order=5, block=block, max_blocks=max_blocks))
    for case in CASES:
        if "random" in case.name:
            run(bk, case)


@pytest.mark.parametrize("hash_mask", [0, 0b11, 0xFF])
def test_barcodes_with_equal_hashes_stay_apart(library, hash_mask):
    bk = CpuRunBackend(CpuLauncher(library, order=3), hash_mask=hash_mask)
    for case in CASES:
        if case.verb == "barcodes" or (
            case.verb == "parse_block" and any(word in case.name for word in ("random", "alike", "unknown"))
        ):
            run(bk, case)


@pytest.mark.parametrize("chunk", [1, 37, 400])
def test_counting_in_parts_gives_the_same_matrix(library, chunk):
    bk = CpuRunBackend(CpuLauncher(library), chunk=chunk)
    for case in CASES:
        if case.verb in ("tile_counts", "region_counts") and case.name.startswith(
            ("random", "duplicates", "none")
        ):
            run(bk, case)


def test_hash_on_the_host_is_the_hash_of_the_kernel(library):
    launcher = CpuLauncher(library)
    text = b"chr1\t1\t2\tACGTACGT-1\nchr1\t1\t2\t~ \n"
    place = [argument.name for argument in launch.kernels()["parse_lines"].arguments].index("hash")
    seen = {}

    def spy(name, n_threads, *values, shared_bytes=0):
        launcher(name, n_threads, *values, shared_bytes=shared_bytes)
        if name == "parse_lines":
            seen["hash"] = values[place]

    parsing = Parsing(np, spy)
    known = parsing.chromosomes(NAMES, np.arange(4), SIZES)
    parsing.parse_block(np.frombuffer(text, np.uint8), known, bulk=False)
    assert seen["hash"].tolist() == [hash_bytes(b"ACGTACGT-1"), hash_bytes(b"~ ")]


def test_tile_counts_sum_to_twice_the_fragments(bk):
    start, end, row = random_fragments(21)
    counts = bk.counting.tile_counts(start, end, row, n_rows=7, bin_size=100, n_bins=50, strategy="insertion")
    assert counts.data.sum() == 2 * (row >= 0).sum()


def test_keys_beyond_2_to_the_31_reach_their_row_and_column(bk):
    n_rows, n_bins = 3_000_000, 2_000_000
    start = np.array([0, 1_999_999_990], np.int32)
    row = np.array([n_rows - 1, n_rows - 1], np.int32)
    counts = bk.counting.tile_counts(
        start, start + 5, row, n_rows=n_rows, bin_size=1_000, n_bins=n_bins, strategy="fragment"
    )
    assert counts.indptr[[0, n_rows - 1, n_rows]].tolist() == [0, 0, 2]
    assert counts.indices.tolist() == [0, 1_999_999]


def sparse(path, n, dtype):
    """An array that holds nothing but the pages that are written."""
    return np.memmap(path, dtype, "w+", shape=n)


def test_a_table_of_more_than_2_to_the_31_counters_is_counted_at_its_end(library, tmp_path):
    n_rows, n_columns = 400_000_000, 6
    table = sparse(tmp_path / "table", n_rows * n_columns, np.int64)
    launcher = CpuLauncher(library)

    def elsewhere(name, n_threads, *values, shared_bytes=0):
        place = [argument.name for argument in launch.kernels()[name].arguments].index("table")
        values = [*values[:place], table, *values[place + 1 :]]
        launcher(name, n_threads, *values, shared_bytes=shared_bytes)

    class Pages:
        """NumPy, but for the zeros of a table too large to be had."""

        def __getattr__(self, name):
            return getattr(np, name)

        def zeros(self, shape, dtype):
            return (
                np.broadcast_to(np.zeros(1, dtype), shape)
                if isinstance(shape, tuple)
                else np.zeros(shape, dtype)
            )

    start, end, row = (np.array(v, np.int32) for v in ([100, 200], [300, 210], [n_rows - 1, n_rows - 2]))
    regions = [(np.array([205], np.int32), np.array([400], np.int32))]
    gpu_counting.Counting(Pages(), elsewhere).quality(
        start, end, row, n_rows=n_rows, max_length=10, bounds=(147, 294), tss=np.array([100], np.int32),
        reverse=np.array([False]), window=20, half_center=5, edge=10, regions=regions,
    )  # fmt: skip
    assert table[-12:].reshape(2, 6).tolist() == [[1, 0, 0, 0, 0, 1], [0, 1, 0, 1, 0, 1]]


def test_region_sets_beyond_2_to_the_31_are_read_at_their_place(library, tmp_path):
    far = 2**31 + 3
    low, high = sparse(tmp_path / "low", far + 1, np.int32), sparse(tmp_path / "high", far + 1, np.int32)
    low[far], high[far] = 50, 60
    one = np.ones(1, np.int32)
    given = {a.name: None if a.is_array else 0 for a in launch.kernels()["quality"].arguments}
    table = np.zeros((1, 3), np.int64)
    given |= {
        "start": one * 55, "end": one * 70, "row": one * 0, "n": 1, "region_start": low, "region_end": high,
        "set_edge": np.array([far, far, far + 1]), "n_sets": 2, "n_rows": 1, "n_columns": 3,
        "lengths": np.zeros(1, np.int64), "table": table, "n_inside": np.zeros(1, np.int64),
    }  # fmt: skip
    CpuLauncher(library)("quality", 1, *given.values())
    assert table.tolist() == [[1, 0, 1]]


def test_rows_joined_beyond_2_to_the_31_reach_their_place(library, tmp_path):
    far = 2**31 + 5
    indices, data = sparse(tmp_path / "i", far + 9, np.int32), sparse(tmp_path / "d", far + 9, np.float32)
    cursor = np.array([far, far + 4], np.int64)
    part = Csr(np.array([0, 2, 3], np.int64), np.array([1, 2, 3], np.int32), np.array([7, 8, 9], np.float32))
    launcher = CpuLauncher(library)
    launcher("copy_rows", 64, *part, 2, 10, cursor, indices, data)
    assert indices[far : far + 5].tolist() == [11, 12, 0, 0, 13]
    assert data[far : far + 5].tolist() == [7, 8, 0, 0, 9]
    out = Csr(None, np.zeros(5, np.int32), np.zeros(5, np.float32))
    pointer = np.array([far, far + 5], np.int64)
    launcher("copy_rows", 32, pointer, indices, data, 1, 0, np.zeros(1, np.int64), out.indices, out.data)
    assert out.indices.tolist() == [11, 12, 0, 0, 13]


def test_text_positions_beyond_2_to_the_31_are_read(library):
    line = b"chr1\t10\t20\tAAAC-1\t3\n"
    at = 2**31 + 100
    text = np.zeros(at + len(line), np.uint8)  # the system hands out pages as they are touched
    text[0] = ord("#")  # all before the last line is one comment
    text[at:] = np.frombuffer(line, np.uint8)
    parsing = Parsing(np, CpuLauncher(library))
    parsing.line_ends = lambda _: np.array([at - 1, at + len(line) - 1], np.int64)
    found = parsing.parse_block(text, parsing.chromosomes(NAMES, np.arange(4), SIZES), bulk=False)
    table = parsing.barcodes(np.zeros(4, bool))
    table.add(found)
    assert table.totals().names(np.arange(1)) == [b"AAAC-1"]
    assert (found.start.tolist(), found.end.tolist(), found.count.tolist()) == ([10], [20], [3])
    assert found.dropped.tolist() == [0, 1, 0, 0, 0, 0]


def test_a_count_that_float32_cannot_hold_is_refused(library, monkeypatch):
    monkeypatch.setattr(gpu_counting, "MAX_COUNT", 3)
    bk = CpuRunBackend(CpuLauncher(library))
    columns = (np.zeros(4, np.int32), np.full(4, 9, np.int32), np.zeros(4, np.int32))
    with pytest.raises(InputError, match="a matrix entry counts 4"):
        bk.counting.tile_counts(*columns, n_rows=1, bin_size=10, n_bins=1, strategy="fragment")


def test_a_join_wider_than_int32_is_refused(library):
    bk = CpuRunBackend(CpuLauncher(library))
    empty = Csr(np.zeros(2, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    with pytest.raises(InputError, match="at most 2\\^31 - 1"):
        bk.counting.hstack([empty, empty], [2**30, 2**30])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((np.zeros(2, np.int64), None, 2, np.zeros(1, np.int64)), "row_sums, argument row: got int64 array"),
        ((np.zeros(4, np.int32)[::2], None, 2, np.zeros(1, np.int64)), "row_sums, argument row"),
        ((np.zeros(2, np.int32), None, 2.0, np.zeros(1, np.int64)), "argument n: got float"),
        ((np.zeros(2, np.int32), None, 2), "takes 4 arguments, got 3"),
        ((np.zeros(2, np.int32), None, 2, np.zeros(1, np.float64)), "argument sums: got float64 array"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(values, message):
    with pytest.raises(TypeError, match=message):
        launch.kernels()["row_sums"].check(values)


def test_max_over_groups_of_a_tile_matrix(bk):
    start, end, row = random_fragments(22)
    tiles = bk.counting.tile_counts(start, end, row, n_rows=7, bin_size=50, n_bins=100, strategy="insertion")
    group = np.random.default_rng(23).integers(0, 6, 100).astype(np.int32)
    found = bk.counting.max_over_groups(tiles, group, n_groups=6)
    dense = oracle.tile_counts(start, end, row, n_rows=7, bin_size=50, n_bins=100, strategy="insertion")
    np.testing.assert_array_equal(dense_of(bk, found, 6), oracle.max_over_groups(dense, group, n_groups=6))


def test_line_ends_at_every_place_of_a_tile(bk):
    for n in (1, 31, 32, 33, 1_023, 1_024, 1_025, 4_000):
        text = np.full(n, ord("x"), np.uint8)
        text[:: max(1, n // 7)] = ord("\n")
        text[-1] = ord("\n")
        np.testing.assert_array_equal(bk.parsing.line_ends(text), oracle.line_ends(text.tobytes()))
    text = np.frombuffer(random_text(24, 200), np.uint8)
    for offset in range(5):  # a block of text may begin anywhere in memory
        part = text[offset:]
        np.testing.assert_array_equal(bk.parsing.line_ends(part), oracle.line_ends(part.tobytes()))


def test_the_kernels_run_clean_under_address_sanitizer(build_folder):
    """The same cases with every access and every signed sum checked, in a process of its own."""
    if shutil.which("g++") is None:
        pytest.skip("AddressSanitizer is asked for as GCC has it, and there is no g++")
    asked = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    runtime = Path(asked.stdout.strip())
    if not runtime.is_absolute():
        pytest.skip("g++ has no AddressSanitizer")
    library = build(build_folder, sanitize=True)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "kernels.sanitized", str(library)],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "LD_PRELOAD": str(runtime.resolve()),
            "PYTHONPATH": f"{root / 'tests'}:{root}",
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split()[-2:] == ["runs", "clean"]


PIECES = [b"chr1", b"chr2", b"chrX", b"\t", b"\t", b"\n", b"\r\n", b"\r", b"#", b"-", b"+", b".", b" ", b"7"]
LINES = [b"chr1\t1\t9\tAC", b"chr2\t3\t4\tA\t2\n", b"chr2\t3\t4\tAC\t.\t-\n", b"chr1\t5\t6\n", b"\n"]


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES) | st.sampled_from(LINES), max_size=40), bulk=st.booleans())
def test_any_text_is_read_as_the_oracle_reads_it(library, text, bulk):
    bk = CpuRunBackend(CpuLauncher(library, order=2))
    run(bk, Case("parse_block", "drawn", (b"".join(text),), {"bulk": bulk}))


FRAGMENT = st.tuples(st.integers(0, 4_990), st.integers(1, 9), st.integers(-1, 3), st.integers(1, 500))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(FRAGMENT, max_size=40),
    cut=st.integers(0, 40),
    strategy=st.sampled_from(STRATEGIES),
)
def test_counts_of_parts_add_up(library, rows, cut, strategy):
    start, length, row, stretch = np.array(sorted(rows), np.int32).reshape(-1, 4).T
    columns = (start, np.minimum(start + length * stretch, 5_000).astype(np.int32), row)
    bk = CpuRunBackend(CpuLauncher(library))

    def counts(part):
        arguments = [column[part] for column in columns]
        keywords = {"n_rows": 4, "bin_size": 250, "n_bins": 20, "strategy": strategy}
        return dense_of(bk, bk.counting.tile_counts(*arguments, **keywords), 20)

    np.testing.assert_array_equal(counts(slice(0, cut)) + counts(slice(cut, None)), counts(slice(None)))
