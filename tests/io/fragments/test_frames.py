"""Fragments as a data frame and back, on each device: the same rows as from text, and what a GPU shares, copies and moves."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from text_files import same_table

import gpuatac as ga
from gpuatac import Genome
from gpuatac.backend import as_host
from gpuatac.errors import FileFormatError, InputError, MissingExtraError
from gpuatac.fragments import Fragments

GENOME = Genome("g", {"chr1": 1000, "chr2": 500, "chr10": 800, "chrM": 100})
ROWS = [
    ("2", 5, 60, "B-1", 3, "+"),
    ("chr1", 100, 200, "A-1", 1, "-"),
    ("chrX", 1, 2, "A-1", 1, "+"),  # not in the genome
    ("chr1", 50, 90, "C-1", 2, "."),
    ("chr1", 90, 90, "A-1", 1, "+"),  # no length
    ("MT", 0, 100, "A-1", 4, "+"),
    ("MT", 0, 101, "D-1", 1, "+"),  # outside, and the only row of its barcode
    ("chr1", 50, 90, "A-1", 1, "+"),
]
NAMES = ["chrom", "start", "end", "barcode", "count", "strand"]


def table():
    return pd.DataFrame(ROWS, columns=NAMES)


@pytest.fixture
def as_text(tmp_path):
    """The same rows read from a fragment file, on the CPU."""
    file = tmp_path / "f.tsv"
    file.write_text("".join("\t".join(map(str, row)) + "\n" for row in ROWS))
    return ga.io.read_fragments(file, GENOME, device="cpu")


def framed(bk, frame):
    """A pandas frame, or on a GPU a cuDF frame of the same rows."""
    if bk.name == "cpu":
        return frame
    import cudf

    return cudf.DataFrame(frame)


def host(fragments):
    names = ("start", "end", "cell", "count")
    columns = {name: as_host(getattr(fragments, name)) for name in names}
    strand = None if fragments.strand is None else as_host(fragments.strand)
    return replace(fragments, strand=strand, **columns)


def test_a_frame_gives_what_the_same_lines_give(bk, as_text):
    found = ga.io.from_frame(framed(bk, table()), GENOME, device=bk.name)
    same_table(host(found), as_text)
    assert found.barcodes.tolist() == ["A-1", "B-1", "C-1"]
    for name in ("lines", "kept", "dropped", "unknown_chroms", "n_barcodes_seen", "n_columns", "sorted_input"):
        assert getattr(found.summary, name) == getattr(as_text.summary, name), name
    assert found.summary.accounted


def test_fragments_go_to_a_frame_and_come_back(bk, as_text):
    there = as_text.on(bk)
    frame = ga.io.to_frame(there)
    shown = frame if bk.name == "cpu" else frame.to_pandas()
    assert shown.columns.tolist() == NAMES
    assert shown["chrom"].tolist() == ["chr1", "chr1", "chr1", "chr2", "chrM"]
    assert shown["barcode"].tolist() == ["A-1", "C-1", "A-1", "B-1", "A-1"]
    assert shown["start"].dtype == np.int32
    assert isinstance(shown["barcode"].dtype, pd.CategoricalDtype)
    back = ga.io.from_frame(frame, GENOME)
    assert isinstance(back.start, bk.xp.ndarray)
    same_table(host(back), as_text)


def test_rows_of_a_frame_without_count_and_strand_count_once(bk):
    found = ga.io.from_frame(framed(bk, table()[NAMES[:4]]), GENOME, device=bk.name)
    assert as_host(found.count).tolist() == [1] * 5
    assert found.strand is None
    assert found.summary.n_columns == 4


def test_a_frame_without_rows_gives_no_fragments(bk):
    empty = table()[:0].astype({"chrom": "category", "barcode": "category", "strand": "int8"})
    found = ga.io.from_frame(framed(bk, empty), GENOME, device=bk.name)
    assert (len(found), found.n_cells) == (0, 0)
    assert found.summary.notes == ["no fragment was kept"]
    assert len(ga.io.to_frame(found)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": [1.5] * 8}, r"column 'start' is of type float64; give it whole numbers"),
        ({"count": [1, 1, 0, 1, 1, 0, 1, 1]}, r"column 'count' holds 1 values outside \[1, 2147483647\], the first in row 5 \(0\)"),
        ({"strand": ["x"] * 8}, r"column 'strand' holds 'x'; allowed are '\+', '-', '.'"),
        ({"strand": [2] * 8}, r"column 'strand' holds 5 values outside \[-1, 1\], the first in row 0 \(2\)"),
        ({"barcode": ["A", "ä", "A", "A", "A", "A", "A", "A"]}, "column 'barcode' holds 'ä'; barcodes are printable ASCII"),
        ({"barcode": ["A", None] * 4}, "column 'barcode' holds 4 missing values; remove these rows"),
    ],
)
def test_what_a_frame_must_not_hold_is_refused_by_column(bk, change, message):
    with pytest.raises(InputError, match=message):
        ga.io.from_frame(framed(bk, table().assign(**change)), GENOME, device=bk.name)


def test_a_value_in_a_row_that_is_left_out_is_not_looked_at(bk):
    changed = table()
    changed.loc[2, "count"] = -5  # on chrX
    changed.loc[2, "start"] = -(2**40)
    assert len(ga.io.from_frame(framed(bk, changed), GENOME, device=bk.name)) == 5


def test_a_frame_without_a_needed_column_is_refused():
    with pytest.raises(InputError, match=r"lacks 'start', 'barcode' \(its columns: 'chrom', 'end', 'cell'\)"):
        ga.io.from_frame(pd.DataFrame({"chrom": ["1"], "end": [1], "cell": ["A"]}), GENOME, device="cpu")
    with pytest.raises(InputError, match="frame is a list; pass a cuDF or pandas frame"):
        ga.io.from_frame([1], GENOME, device="cpu")


def test_a_polars_frame_is_taken(as_text):
    polars = pytest.importorskip("polars")
    same_table(ga.io.from_frame(polars.from_pandas(table()), GENOME, device="cpu"), as_text)


@pytest.mark.parametrize("split", [False, True])
def test_parquet_that_others_wrote_is_imported(bk, as_text, tmp_path, split):
    path = tmp_path / "pbmc.parquet"
    frame = table()
    frame.to_parquet(path, **({"partition_cols": ["chrom"], "index": False} if split else {}))
    adata = ga.pp.import_fragments(path, GENOME, min_num_fragments=0, out=tmp_path / "out", device=bk.name)
    assert sorted(adata.obs_names) == as_text.barcodes.tolist()
    (kept,) = (ga.io.open_fragments(p, device="cpu") for p in (tmp_path / "out").glob("pbmc.fragments"))
    same_table(kept, as_text)


def test_damaged_parquet_is_refused_by_name(tmp_path):
    path = tmp_path / "f.parquet"
    table().to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileFormatError, match=r"f\.parquet: found damaged data .*allowed: Parquet with the columns chrom"):
        ga.pp.import_fragments(path, GENOME, out=tmp_path / "out", device="cpu")
    table()[["chrom", "start"]].to_parquet(path)
    with pytest.raises(InputError, match=r"f\.parquet: the frame lacks 'end', 'barcode'"):
        ga.pp.import_fragments(path, GENOME, out=tmp_path / "out", device="cpu")


# ------------------------------------------------------------------------------------------ what a GPU moves


def many(bk, n, n_cells):
    """n fragments of n_cells barcodes on the device."""
    rng = np.random.default_rng(n)
    start = np.sort(rng.integers(0, 900, n)).astype(np.int32)
    columns = (start, start + 20, rng.integers(0, n_cells, n).astype(np.int32), np.ones(n, np.int32))
    names = np.array([f"B{i:06d}" for i in range(n_cells)], object)
    return Fragments(GENOME, names, np.array([0, n, n, n, n]), *map(bk.asarray, columns))


def test_a_frame_on_a_gpu_is_the_columns_and_names_alone_come_from_the_host(strict):
    sent = []
    for n in (1_000, 50_000):
        fragments = many(strict.backend, n, 300)
        frame = None
        strict.ledger.reset()
        before = strict.ledger.live
        frame = ga.io.to_frame(fragments)
        assert strict.ledger.crossings("D2H") == 0
        sent.append(strict.ledger.bytes())
        for name in ("start", "end", "count"):
            assert frame[name].to_cupy().data.ptr == getattr(fragments, name).data.ptr
        assert [frame[name]._column.values.dtype for name in ("chrom", "barcode")] == [np.uint8, np.uint16]
        assert strict.ledger.peak - before <= 3 * n  # the codes of chromosomes and barcodes, and nothing beside them
    assert sent[0] == sent[1] < 5_000


def test_codes_of_many_barcodes_are_shared_too(strict):
    fragments = many(strict.backend, 1_000, 65_536)
    codes = ga.io.to_frame(fragments)["barcode"]._column.values
    assert (codes.dtype, codes.data.ptr) == (np.uint32, fragments.cell.data.ptr)


def test_a_cudf_frame_is_taken_where_it_lies(strict):
    moved = []
    for n in (1_000, 50_000):
        frame = ga.io.to_frame(many(strict.backend, n, 300))
        strict.ledger.reset()
        before = strict.ledger.live
        back = ga.io.from_frame(frame, GENOME)
        assert isinstance(back.start, strict.backend.xp.ndarray)
        assert len(back) == n
        moved.append((strict.ledger.bytes("D2H"), strict.ledger.bytes("H2D")))
        assert strict.ledger.peak - before <= 110 * n + 2_000  # most of it the sort's
    assert moved[0] == moved[1]


def test_a_cudf_frame_comes_to_the_cpu_when_asked_and_a_pandas_frame_goes_to_the_gpu(strict, as_text):
    import cudf

    same_table(ga.io.from_frame(cudf.DataFrame(table()), GENOME, device="cpu"), as_text)
    there = ga.io.from_frame(table(), GENOME, device="gpu")
    assert isinstance(there.start, strict.backend.xp.ndarray)
    same_table(host(there), as_text)


def test_more_fragments_than_a_cudf_column_has_rows_are_refused(strict):
    bk = strict.backend
    one = bk.xp.broadcast_to(bk.xp.zeros(1, np.int32), (2**31,))
    fragments = Fragments(GENOME, np.array(["A"], object), np.array([0, 2**31, 2**31, 2**31, 2**31]), one, one, one, one)
    with pytest.raises(InputError, match=r"2,147,483,648 fragments are more than the 2,147,483,647 rows of a cuDF column"):
        ga.io.to_frame(fragments)


def test_without_cudf_the_library_is_named(strict, monkeypatch):
    fragments = many(strict.backend, 10, 3)
    monkeypatch.delitem(sys.modules, "cudf")
    with pytest.raises(MissingExtraError, match=r"io\.to_frame.* needs cuDF \(module cudf\), which is not installed; install gpu"):
        ga.io.to_frame(fragments)
