"""The Parquet data set of fragments: what was written comes back, other programs read it, nothing is half there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from text_files import frame_of, same_table

import gpuatac as ga
from gpuatac import Genome
from gpuatac.errors import FileFormatError, GpuatacError, MissingFileError, OutputExistsError
from gpuatac.fragments import Fragments, ReadSummary
from gpuatac.io.fragments.store import META, is_store, read_meta

GENOME = Genome("g", {"chr1": 1000, "chr2": 500, "chr10": 800, "chrM": 100})
TEXT = (
    "# header\nchr1\t50\t90\tA-1\t1\t+\nchr1\t100\t200\tB-1\t2\t-\nchr2\t0\t500\tA-1\t3\t.\nchrM\t0\t100\tA-1\t4\t+\n"
    "chrX\t1\t2\tA-1\t1\t+\n"
)


def made(folder, text=TEXT, genome=GENOME):
    folder.mkdir(exist_ok=True)
    (folder / "f.tsv").write_text(text)
    return ga.io.read_fragments(folder / "f.tsv", genome, device="cpu")


def contents(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def stored(tmp_path):
    fragments = made(tmp_path)
    return fragments, ga.io.write_fragments(fragments, tmp_path / "f.fragments")


# ------------------------------------------------------------------------------------------ round trip


def test_what_was_written_comes_back(stored):
    fragments, path = stored
    back = ga.io.open_fragments(path, device="cpu")
    same_table(back, fragments)
    assert back.strand.tolist() == [1, -1, 0, 1]
    assert back.genome == fragments.genome
    assert back.summary == fragments.summary
    assert back.summary.unknown_chroms == {"chrX": 1}
    assert back.summary.dropped["comment"] == 1
    assert is_store(path)


def test_a_table_without_strand_comes_back_without(tmp_path):
    fragments = made(tmp_path, "chr1\t5\t9\tA\n")
    back = ga.io.open_fragments(ga.io.write_fragments(fragments, tmp_path / "x"), device="cpu")
    assert back.strand is None
    same_table(back, fragments)


def test_an_empty_table_comes_back(tmp_path):
    fragments = made(tmp_path, "# nothing\n")
    back = ga.io.open_fragments(ga.io.write_fragments(fragments, tmp_path / "x"), device="cpu")
    same_table(back, fragments)
    assert len(back) == 0
    assert back.genome == GENOME


def test_layout_is_one_part_for_each_chromosome_that_has_fragments(stored):
    _, path = stored
    assert contents(path) == [META, *(f"chrom={c}/part-0.parquet" for c in ("chr1", "chr2", "chrM"))]
    assert read_meta(path)["format"] == 1


def random_fragments(seed, n, genome=GENOME, strand=True):
    rng = np.random.default_rng(seed)
    chrom = np.sort(rng.integers(0, len(genome.names), n))
    start = rng.integers(0, 400, n).astype(np.int32)
    start = start[np.lexsort((start, chrom))]
    barcodes = np.array(sorted(f"bc{i}" for i in range(50)), dtype=object)
    ptr = np.concatenate([[0], np.cumsum(np.bincount(chrom, minlength=len(genome.names)))])
    return Fragments(
        genome, barcodes, ptr, start, (start + rng.integers(1, 90, n)).astype(np.int32), rng.integers(0, 50, n).astype(np.int32),
        rng.integers(1, 2**31 - 1, n).astype(np.int32), rng.integers(-1, 2, n).astype(np.int8) if strand else None,
        ReadSummary(lines=n, kept=n),
    )


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(0, 200), st.booleans())
def test_random_tables_come_back(tmp_path, seed, n, strand):
    fragments = random_fragments(seed, n, strand=strand)
    path = ga.io.write_fragments(fragments, tmp_path / "x", force=True)
    back = ga.io.open_fragments(path, device="cpu")
    same_table(back, fragments)
    assert back.summary == fragments.summary


def test_barcodes_without_a_fragment_keep_their_place(tmp_path):
    fragments = random_fragments(3, 10)
    back = ga.io.open_fragments(ga.io.write_fragments(fragments, tmp_path / "x"), device="cpu")
    assert back.n_cells == 50


def test_more_than_one_row_group(tmp_path):
    fragments = random_fragments(1, 2_300_000, Genome("g", {"chr1": 1000}))
    back = ga.io.open_fragments(ga.io.write_fragments(fragments, tmp_path / "x"), device="cpu")
    assert all(np.array_equal(getattr(back, c), getattr(fragments, c)) for c in ("start", "end", "cell", "count", "strand"))


# ------------------------------------------------------------------------------------- other programs

EXPECTED = pd.DataFrame(
    {
        "chrom": ["chr1", "chr1", "chr2", "chrM"], "start": [50, 100, 0, 0], "end": [90, 200, 500, 100],
        "barcode": ["A-1", "B-1", "A-1", "A-1"], "count": [1, 2, 3, 4], "strand": [1, -1, 0, 1],
    }
)


def check_foreign(frame):
    frame = frame.astype({"chrom": str, "barcode": str}).sort_values(["chrom", "start"]).reset_index(drop=True)
    assert set(frame.columns) == set(EXPECTED.columns)
    assert {c: str(frame[c].dtype) for c in ("start", "end", "count", "strand")} == {
        "start": "int32", "end": "int32", "count": "int32", "strand": "int8",
    }
    assert frame[EXPECTED.columns].values.tolist() == EXPECTED.values.tolist()


def test_pandas_reads_the_folder(stored):
    check_foreign(pd.read_parquet(stored[1]))


def test_pandas_reads_one_chromosome(stored):
    frame = pd.read_parquet(stored[1], filters=[("chrom", "==", "chr2")])
    assert frame.start.tolist() == [0]


def test_pyarrow_reads_the_folder_as_a_hive_data_set(stored):
    table = pyarrow.dataset.dataset(stored[1], partitioning="hive", format="parquet").to_table()
    check_foreign(table.to_pandas())


def test_polars_reads_the_folder(stored):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.scan_parquet(stored[1] / "*" / "*.parquet", hive_partitioning=True).collect()
    check_foreign(pd.DataFrame({c: frame[c].to_list() for c in frame.columns}).astype(
        {"start": "int32", "end": "int32", "count": "int32", "strand": "int8"}
    ))
    assert frame.schema["start"] == polars.Int32


def test_polars_refuses_the_folder_alone_as_our_notes_lie_in_it(stored):
    """Why the documentation gives polars a glob; when this fails, it can read the folder as the others do."""
    polars = pytest.importorskip("polars", reason="polars is not installed")
    with pytest.raises(polars.exceptions.InvalidOperationError, match="different file extensions"):
        polars.read_parquet(stored[1])


def test_duckdb_reads_the_folder_by_a_glob(stored):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    check_foreign(duckdb.sql(f"SELECT * FROM read_parquet('{stored[1]}/*/*.parquet', hive_partitioning = true)").df())


def test_dask_reads_the_folder(stored):
    frame = pytest.importorskip("dask.dataframe", reason="Dask is not installed")
    check_foreign(frame.read_parquet(stored[1]).compute())


ODD = ["HLA-A*01:01:01:01", "a/b", "100%", "chr=1", "x y", "..", ".", "con\\trol", "ü", "chrom=1%2F"]


def test_contig_names_of_any_kind_come_back_and_stay_in_the_folder(tmp_path):
    genome = Genome("g", dict.fromkeys([*ODD, "1", "2"], 100))
    ascii_names = [c for c in genome.names if c.isascii()]
    fragments = made(tmp_path / "in", "".join(f"{c}\t{i}\t{i + 1}\tA\n" for i, c in enumerate(ascii_names)), genome)
    assert fragments.summary.kept == len(ascii_names) == 11
    path = ga.io.write_fragments(fragments, tmp_path / "out" / "odd.fragments")
    same_table(ga.io.open_fragments(path, device="cpu"), fragments)
    assert contents(tmp_path / "out")[0].startswith("odd.fragments")
    assert all(name.startswith("odd.fragments/") and name.count("/") <= 2 for name in contents(tmp_path / "out"))
    assert sorted(pd.read_parquet(path).chrom.astype(str)) == sorted(frame_of(fragments).chrom)


@pytest.mark.parametrize("names", [["1", "2", "10"], ["1", "2", "X"]])
def test_numbered_chromosomes_come_back_as_names(tmp_path, names):
    genome = Genome("g", dict.fromkeys(names, 100))
    fragments = made(tmp_path, "".join(f"{c}\t1\t2\tA\n" for c in names), genome)
    path = ga.io.write_fragments(fragments, tmp_path / "x")
    assert ga.io.open_fragments(path, device="cpu").genome.names == tuple(sorted(names))
    assert sorted(pd.read_parquet(path).chrom.astype(str)) == sorted(names)


# ------------------------------------------------------------------------------------ refused, replaced


def test_an_existing_folder_is_refused_and_stays_as_it_is(stored, tmp_path):
    fragments, path = stored
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(OutputExistsError, match=r"f\.fragments exists already; pass force=True \(--force\) to replace it"):
        ga.io.write_fragments(made(tmp_path / "other", "chr1\t5\t9\tZ\n"), path)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before
    same_table(ga.io.open_fragments(path, device="cpu"), fragments)


def test_force_replaces_the_whole_folder(stored, tmp_path):
    _, path = stored
    (path / "stray.txt").write_text("from before")
    other = made(tmp_path / "other", "chr10\t5\t9\tZ\n")
    ga.io.write_fragments(other, path, force=True)
    same_table(ga.io.open_fragments(path, device="cpu"), other)
    assert contents(path) == [META, "chrom=chr10/part-0.parquet"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.fragments", "f.tsv", "other"]


def test_an_import_refuses_existing_output_before_it_reads(stored, tmp_path):
    ga.io.write_fragments(stored[0], tmp_path / "out" / "f.fragments")
    arguments = {"min_num_fragments": 0, "out": tmp_path / "out", "device": "cpu"}
    with pytest.raises(OutputExistsError, match="exists already"):
        ga.pp.import_fragments(tmp_path / "f.tsv", GENOME, **arguments)
    adata = ga.pp.import_fragments(tmp_path / "f.tsv", GENOME, force=True, **arguments)
    assert adata.n_obs == 2


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path):
    """chr2 has fewer counts than rows, so its part cannot be made while the others can."""
    fragments = made(tmp_path / "in")
    broken = replace(fragments, count=fragments.count[:2])
    with pytest.raises(Exception, match=r"(?i)length"):
        ga.io.write_fragments(broken, tmp_path / "out" / "x.fragments")
    assert contents(tmp_path / "out") == []
    assert list((tmp_path / "out").iterdir()) == []


def test_a_replacement_that_fails_half_way_keeps_what_was_there(stored, tmp_path):
    fragments, path = stored
    with pytest.raises(Exception, match=r"(?i)length"):
        ga.io.write_fragments(replace(fragments, count=fragments.count[:2]), path, force=True)
    same_table(ga.io.open_fragments(path, device="cpu"), fragments)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.fragments", "f.tsv"]


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
@pytest.mark.parametrize("what", ["fragments", "h5ad"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, what):
    """A process that may write files of 4 kB only, as on a full disk."""
    (tmp_path / "f.tsv").write_text("".join(f"chr1\t{i % 900}\t{i % 900 + i % 97 + 1}\tB{i * i % 977}\n" for i in range(20_000)))
    code = (
        "import resource, signal, sys, anndata, pyarrow.parquet, gpuatac as ga\n"
        "fragments = ga.io.read_fragments('f.tsv', ga.Genome('g', {'chr1': 1000}), device='cpu')\n"
        "adata = ga.pp.import_fragments('f.tsv', ga.Genome('g', {'chr1': 1000}), min_num_fragments=0, device='cpu')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"try:\n    {'ga.io.write_fragments(fragments' if what == 'fragments' else 'ga.io.write_h5ad(adata'}, 'out/x')\n"
        "except (OSError, RuntimeError) as error:\n    print('refused', type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ga.__path__[0].rpartition("/")[0]), "PATH": ""},
    )
    assert done.stdout.startswith("refused"), done.stderr[-2000:]
    assert list((tmp_path / "out").iterdir()) == []


# ------------------------------------------------------------------------------------------- damage


def test_other_versions_are_refused(stored):
    path = stored[1]
    meta = json.loads((path / META).read_text())
    (path / META).write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(FileFormatError, match=r"found format version 99; allowed: version 1; import the fragment file again or"):
        ga.io.open_fragments(path, device="cpu")


def test_a_missing_part_is_named(stored):
    path = stored[1]
    shutil.rmtree(path / "chrom=chr2")
    with pytest.raises(MissingFileError, match=r"part of a fragment data set .*chrom=chr2.part-0\.parquet does not exist"):
        ga.io.open_fragments(path, device="cpu")


def test_a_part_with_other_rows_is_refused(stored):
    path = stored[1]
    shutil.copy(path / "chrom=chr2" / "part-0.parquet", path / "chrom=chr1" / "part-0.parquet")
    with pytest.raises(FileFormatError, match="found 1 rows; allowed: 2 rows; import the fragment file again"):
        ga.io.open_fragments(path, device="cpu")


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match=r"fragment data set .* does not exist; check the path"):
        ga.io.open_fragments(tmp_path / "nothing")
    with pytest.raises(FileFormatError, match=f"found a folder without {META}"):
        ga.io.open_fragments(tmp_path)


@pytest.mark.parametrize("damage", ["part cut off", "part is text", "column missing", "unknown barcode", "description cut off"])
def test_a_damaged_data_set_is_refused_with_our_own_error(stored, damage):
    path = stored[1]
    part = path / "chrom=chr1" / "part-0.parquet"
    if damage == "part cut off":
        part.write_bytes(part.read_bytes()[:-10])
    elif damage == "part is text":
        part.write_text("chr1\t1\t2\tA\n")
    elif damage == "description cut off":
        (path / META).write_text((path / META).read_text()[:50])
    else:
        frame = pd.read_parquet(part, partitioning=None)
        frame = frame.drop(columns="end") if damage == "column missing" else frame.assign(barcode="ZZ")
        frame.to_parquet(part)
    try:
        ga.io.open_fragments(path, device="cpu")
    except GpuatacError:
        return
    pytest.fail("the damage went unnoticed")
