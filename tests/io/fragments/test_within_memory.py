"""Within a small memory limit everything goes through disk, and gives the same numbers as in memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

import gpuatac as ga
from gpuatac import memory
from gpuatac.backend.cpu.reading.barcodes import BarcodeTable
from gpuatac.errors import FileFormatError, InputError, OutputExistsError
from gpuatac.io.files import atomic
from gpuatac.io.files.scratch import SCRATCH
from gpuatac.io.fragments import attach
from gpuatac.io.fragments.store import StoredFragments
from gpuatac.io.matrices.csr_file import CHUNK, CsrWriter, DiskMatrix, is_on_disk, write_csr

GENOME = ga.Genome("g", {"chr1": 50_000, "chr2": 30_000, "chrM": 2_000})


@pytest.fixture(autouse=True)
def _nothing_remembered():
    ga.io.forget()
    yield
    ga.io.forget()
    ga.set_memory(None)


@pytest.fixture
def tiny(monkeypatch):
    """A limit so small that nothing may stay in memory."""

    def apply(size: int = 100_000) -> None:
        monkeypatch.setitem(memory._state, "given", size)

    return apply


def lines(seed: int, n: int, *, ordered: bool, strand: bool = False) -> str:
    rng = np.random.default_rng(seed)
    chrom = rng.choice(["chr1", "chr2", "chrM"], n, p=[0.6, 0.3, 0.1])
    rows = []
    for c in chrom:
        start = int(rng.integers(0, 1_500 if c == "chrM" else 29_000))
        row = [c, start, start + int(rng.integers(1, 500)), f"B{rng.integers(0, 40):02}-1", int(rng.integers(1, 5))]
        rows.append([*row, "+-."[rng.integers(0, 3)]] if strand else row)
    if ordered:
        rows.sort(key=lambda row: (row[0], row[1]))
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def same_columns(a, b) -> None:
    assert a.barcodes.tolist() == b.barcodes.tolist()
    assert a.chrom_ptr.tolist() == b.chrom_ptr.tolist()
    for code in range(len(a.genome.names)):
        for left, right in zip(a.columns(code), b.columns(code), strict=True):
            assert (left is None) == (right is None)
            if left is not None:
                assert left.dtype == right.dtype
                np.testing.assert_array_equal(left, right)
    for left, right in zip(a.totals, b.totals, strict=True):
        np.testing.assert_array_equal(left, right)


# ---------------------------------------------------------------------------------------- the limit


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 << 30), ("900M", 900 << 20), ("1.5 GB", 3 << 29), ("2GiB", 2 << 30), (1 << 30, 1 << 30)]
)
def test_a_size_may_be_written_in_every_usual_way(text, size):
    ga.set_memory(text)
    assert ga.get_memory() == size


@pytest.mark.parametrize("text", ["", "much", "-1G", "100M", "4X", 0])
def test_a_size_that_is_none_or_too_small_is_refused(text):
    with pytest.raises(InputError, match="memory must be 512M or more"):
        ga.set_memory(text)


def test_the_default_is_below_what_the_machine_has():
    assert 0 < ga.get_memory() <= max(memory.available(), memory.LEAST)


# ------------------------------------------------------------------------------ fragments through disk


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("strand", [True, False])
@pytest.mark.parametrize("out", [True, False])
def test_an_import_through_disk_equals_one_in_memory(tmp_path, tiny, ordered, strand, out):
    file = tmp_path / "f.tsv"
    file.write_text(lines(1, 20_000, ordered=ordered, strand=strand))
    options = {"min_num_fragments": 440, "device": "cpu"}
    whole = ga.pp.import_fragments(file, GENOME, **options)
    held = attach.attached(whole)[0].fragments
    ga.io.forget()
    tiny()
    parts = ga.pp.import_fragments(file, GENOME, **options, **({"out": tmp_path / "out"} if out else {}))
    streamed = attach.attached(parts)[0].fragments
    assert isinstance(streamed, StoredFragments)
    assert isinstance(held, ga.Fragments)
    assert 0 < whole.n_obs < 40
    same_columns(held, streamed)
    assert held.summary == streamed.summary
    assert whole.obs.equals(parts.obs)
    if out:
        same_columns(held, ga.io.open_fragments(tmp_path / "out" / "f.fragments", device="cpu"))
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["f.fragments"]


def test_blocks_with_and_without_strand_go_through_disk_together(tmp_path, tiny, monkeypatch):
    from gpuatac.io.fragments import text

    file = tmp_path / "f.tsv"
    file.write_text(lines(2, 3_000, ordered=True) + lines(3, 3_000, ordered=True, strand=True))
    held = ga.io.read_fragments(file, GENOME, device="cpu")
    plain = text.line_blocks
    monkeypatch.setattr(text, "line_blocks", lambda *a, **k: plain(*a, **{**k, "block_bytes": 20_000}))
    tiny(50_000)
    streamed = attach.attached(ga.pp.import_fragments(file, GENOME, min_num_fragments=0, device="cpu"))[0].fragments
    assert isinstance(streamed, StoredFragments)
    assert streamed.has_strand
    same_columns(held, streamed)


def test_a_stored_data_set_is_streamed_and_cut_as_in_memory(tmp_path, tiny):
    file = tmp_path / "f.tsv"
    file.write_text(lines(4, 20_000, ordered=True))
    ga.pp.import_fragments(file, GENOME, min_num_fragments=0, out=tmp_path / "a", device="cpu")
    store = tmp_path / "a" / "f.fragments"
    options = {"min_num_fragments": 450, "whitelist": [f"B{i:02}-1" for i in range(30)], "device": "cpu"}
    whole = ga.pp.import_fragments(store, GENOME, **options)
    held = attach.attached(whole)[0].fragments
    ga.io.forget()
    tiny()
    parts = ga.pp.import_fragments(store, GENOME, out=tmp_path / "b", **options)
    assert whole.obs.equals(parts.obs)
    assert held.summary.dropped == attach.attached(parts)[0].fragments.summary.dropped
    assert parts.n_obs < 30
    same_columns(
        ga.io.open_fragments(tmp_path / "b" / "f.fragments", device="cpu"), attach.attached(parts)[0].fragments
    )


@pytest.mark.parametrize("strategy", ["paired-insertion", "insertion", "fragment"])
def test_matrices_by_parts_and_on_disk_equal_those_in_memory(tmp_path, tiny, strategy):
    file = tmp_path / "f.tsv"
    file.write_text(lines(5, 20_000, ordered=True))
    adata = ga.pp.import_fragments(file, GENOME, min_num_fragments=0, out=tmp_path / "o", device="cpu")
    streamed = adata.copy()
    peaks = [f"chr1:{i}-{i + 300}" for i in range(0, 40_000, 250)]
    ga.pp.add_tile_matrix(adata, bin_size=100, counting_strategy=strategy)
    counted = ga.pp.make_peak_matrix(adata, peaks, counting_strategy=strategy).X
    ga.io.forget()
    tiny()
    ga.pp.add_tile_matrix(streamed, bin_size=100, counting_strategy=strategy)
    assert is_on_disk(streamed.X)
    assert not is_on_disk(adata.X)
    assert (streamed.X.to_memory() != adata.X).nnz == 0
    assert streamed.X.dtype == adata.X.dtype
    in_peaks = ga.pp.make_peak_matrix(streamed, peaks, counting_strategy=strategy).X
    assert ((in_peaks.to_memory() if is_on_disk(in_peaks) else in_peaks) != counted).nnz == 0


def test_cells_of_a_matrix_on_disk_can_be_removed_and_written(tmp_path, tiny):
    file = tmp_path / "f.tsv"
    file.write_text(lines(6, 20_000, ordered=True))
    adata = ga.pp.import_fragments(file, GENOME, min_num_fragments=0, out=tmp_path / "o", device="cpu")
    whole = adata.copy()
    ga.pp.add_tile_matrix(whole, bin_size=100)
    tiny()
    ga.pp.add_tile_matrix(adata, bin_size=100)
    deep = float(np.median(adata.obs["n_fragment"]))
    ga.pp.filter_cells(adata, min_counts=deep, min_tsse=None)
    kept = (whole.obs["n_fragment"] >= deep).to_numpy()
    assert is_on_disk(adata.X)
    assert (adata.X.to_memory() != whole.X[kept]).nnz == 0
    ga.io.write_h5ad(adata, tmp_path / "o" / "a.h5ad")
    back = anndata.read_h5ad(tmp_path / "o" / "a.h5ad")
    assert (back.X != whole.X[kept]).nnz == 0
    del adata
    assert [p.name for p in (tmp_path / "o").iterdir() if p.name.startswith(SCRATCH)] == []


def test_the_chain_on_disk_gives_what_it_gives_in_memory(small_run, tiny):
    file, genes, genome, out = small_run

    def chain(folder):
        adata = ga.pp.import_fragments(file, genome, min_num_fragments=50, out=folder, device="cpu")
        ga.metrics.qc(adata, genes=genes)
        ga.pp.filter_cells(adata, min_counts=50, min_tsse=0)
        ga.pp.add_tile_matrix(adata, bin_size=1000)
        ga.pp.select_features(adata)
        ga.pp.scrublet(adata)
        ga.tl.spectral(adata, n_comps=10)
        return adata

    whole = chain(out / "a")
    ga.io.forget()
    tiny()
    parts = chain(out / "b")
    assert is_on_disk(parts.X)
    assert whole.var["selected"].equals(parts.var["selected"])
    assert whole.obs["tsse"].equals(parts.obs["tsse"])
    np.testing.assert_allclose(whole.uns["spectral_eigenvalue"], parts.uns["spectral_eigenvalue"], rtol=1e-9)
    np.testing.assert_allclose(whole.obs["doublet_score"], parts.obs["doublet_score"], rtol=1e-9)


@pytest.fixture
def small_run(tmp_path):
    genome = ga.Genome("toy", {"chr1": 2_000_000, "chr2": 1_200_000, "chrM": 16_569})
    made = ga.simulate_fragments(
        tmp_path / "s", n_cells=80, n_types=3, fragments_per_cell=1000, genome=genome, n_genes=60, n_distal_peaks=500
    )
    return made.fragments, made.genes, genome, tmp_path


# ------------------------------------------------------------------------------------- interruption


def start_import(tmp_path, n_lines: int) -> subprocess.Popen:
    if not (tmp_path / "f.tsv").exists():
        (tmp_path / "f.tsv").write_text(lines(7, 50_000, ordered=True) * n_lines)
        (tmp_path / "sizes").write_text("chr1\t50000\nchr2\t30000\nchrM\t2000\n")
    command = [
        sys.executable, "-m", "gpuatac", "run", "f.tsv", "--genome", "sizes", "--out", "out", "--min-fragments", "1",
        "--memory", "512M",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(Path(ga.__path__[0]).parent)}
    return subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(pattern: str, folder: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()[1].decode()[-2000:]
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_import_leaves_nothing_that_reads_and_starts_again(tmp_path, how):
    process = start_import(tmp_path, 20)
    wait_for("out/.f.fragments.partial-*/chrom=chr1", tmp_path, process)
    process.send_signal(how)
    process.communicate()
    assert process.returncode != 0
    assert not (tmp_path / "out" / "f.fragments").exists()
    left = [p for p in (tmp_path / "out").iterdir() if ".partial-" in p.name]
    if how != signal.SIGKILL:
        assert left == []
        assert process.returncode in (130, 143)
    for folder in left:
        with pytest.raises(FileFormatError, match="folder without"):
            ga.io.open_fragments(folder, device="cpu")
    genome = ga.io.read_genome(tmp_path / "sizes")
    adata = ga.pp.import_fragments(tmp_path / "f.tsv", genome, min_num_fragments=0, out=tmp_path / "out", device="cpu")
    assert adata.n_obs == 40
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["f.fragments"]


def test_a_finished_sample_of_an_interrupted_import_is_taken_again(tmp_path, caplog):
    (tmp_path / "f.tsv").write_text(lines(8, 2_000, ordered=True))
    options = {"min_num_fragments": 10, "out": tmp_path / "out", "device": "cpu"}
    first = ga.pp.import_fragments(tmp_path / "f.tsv", GENOME, **options)
    ga.io.forget()
    with pytest.raises(OutputExistsError):
        ga.pp.import_fragments(tmp_path / "f.tsv", GENOME, **options)
    with caplog.at_level("INFO"):
        again = ga.pp.import_fragments(tmp_path / "f.tsv", GENOME, resume=True, **options)
    assert "was finished before" in caplog.text
    assert again.obs.equals(first.obs)
    assert again.uns["read_summary"] == first.uns["read_summary"]
    for changed in ({"min_num_fragments": 20}, {"whitelist": ["B01-1"]}, {"chrM": ["chr2"]}):
        with pytest.raises(OutputExistsError):
            ga.pp.import_fragments(tmp_path / "f.tsv", GENOME, resume=True, **{**options, **changed})
    (tmp_path / "f.tsv").write_text(lines(9, 2_000, ordered=True))
    with pytest.raises(OutputExistsError):
        ga.pp.import_fragments(tmp_path / "f.tsv", GENOME, resume=True, **options)


def test_temporary_names_of_living_processes_and_other_machines_are_left_alone(tmp_path):
    mine = tmp_path / f".x.partial-{atomic.mark()}"
    other = tmp_path / ".x.partial-00000000-1-abc"
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    dead = tmp_path / f".x.partial-{atomic._host()}-{ended.stdout.strip()}-abc"
    for path in (mine, other, dead):
        path.mkdir()
    with atomic.replacing(tmp_path / "x") as partial:
        partial.write_text("done")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([mine.name, other.name, "x"])


# ------------------------------------------------------------------------------- barcodes and matrices


def test_barcodes_of_many_blocks_are_numbered_by_first_appearance():
    rng = np.random.default_rng(0)
    table, known = BarcodeTable(np.zeros(1, bool)), {}
    rows = np.zeros(200_000, np.int64)
    for _ in range(12):
        names = list(dict.fromkeys(b"%x" % v for v in rng.integers(0, 120_000, 30_000)))
        per_name = rng.integers(1, 9, len(names))
        text = np.frombuffer(b"".join(names), np.uint8)
        numbers = table.add_names(text, np.cumsum([0, *map(len, names)]), per_name, per_name // 2, per_name * 3)
        expected = [known.setdefault(name, len(known)) for name in names]
        assert numbers.tolist() == expected
        rows[expected] += per_name
    totals = table.totals()
    assert totals.n == len(known)
    assert totals.names(np.arange(totals.n)) == list(known)
    np.testing.assert_array_equal(totals.rows, rows[: totals.n])
    assert int(totals.copies.sum()) == 3 * int(rows.sum())


@pytest.mark.parametrize("sizes", [[0], [5], [CHUNK], [CHUNK - 1, 1, CHUNK + 1], [10, 0, 3 * CHUNK + 7, 2]])
def test_a_matrix_written_by_parts_reads_back(tmp_path, sizes):
    rng = np.random.default_rng(0)
    blocks = []
    for nnz in sizes:
        indptr = np.array([0, nnz // 3, nnz], np.int64)
        indices = np.concatenate([np.arange(nnz // 3), np.arange(nnz - nnz // 3)]).astype(np.int32)
        blocks.append((indptr, indices, rng.integers(1, 9, nnz).astype(np.int32)))
    n_columns = max(sizes) + 1
    with h5py.File(tmp_path / "m.h5", "w") as file:
        with CsrWriter(file, "X", n_columns, np.int32, canonical=True, most=sum(sizes)) as out:
            for block in blocks:
                out.append(*block)
        found = anndata.io.read_elem(file["X"])
        expected = sp.vstack([sp.csr_matrix((d, i, p), shape=(2, n_columns)) for p, i, d in blocks], format="csr")
        assert found.dtype == np.int32
        assert found.indices.dtype == found.indptr.dtype == np.int32
        assert found.tocoo().nnz == sum(sizes)
        assert (found != expected).nnz == 0
        disk = DiskMatrix(anndata.io.sparse_dataset(file["X"]))
        low = 0
        for block in disk.row_blocks(max_nnz=max(1, sum(sizes) // 3)):
            assert block.low == low
            part = sp.csr_matrix((block.data, block.indices, block.indptr), shape=(block.n_rows, n_columns))
            assert (part != expected[low : low + block.n_rows]).nnz == 0
            low += block.n_rows
        assert low == expected.shape[0]
        write_csr(file, "Y", disk)
        assert (anndata.io.read_elem(file["Y"]) != expected).nnz == 0


def test_a_matrix_that_may_pass_two_billion_entries_has_long_indices(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        with CsrWriter(file, "X", 5, np.int32, canonical=True, most=2.0**31) as out:
            out.append(np.array([0, 2]), np.array([1, 4], np.int32), np.array([3, 1], np.int32))
        found = anndata.io.read_elem(file["X"])
    assert found.indices.dtype == found.indptr.dtype == np.int64
    assert found.toarray().tolist() == [[0, 3, 0, 0, 1]]


def test_a_matrix_of_its_own_file_stays_on_disk_when_it_is_large(tmp_path, tiny):
    (tmp_path / "f.tsv").write_text(lines(3, 20_000, ordered=True))
    genome = ga.Genome("g", {"chr1": 900_000, "chr2": 400_007, "chrM": 2_000})
    adata = ga.pp.import_fragments(tmp_path / "f.tsv", genome, min_num_fragments=0, device="cpu")
    ga.pp.add_tile_matrix(adata, bin_size=1)
    ga.io.write_h5ad(adata, tmp_path / "a.h5ad")
    tiny()
    back = ga.io.read_h5ad(tmp_path / "a.h5ad")
    assert is_on_disk(back.X)
    ga.pp.select_features(back, n_features=1000)
    ga.pp.select_features(adata, n_features=1000)
    assert back.var["count"].tolist() == adata.var["count"].tolist()
    ga.io.write_h5ad(back, tmp_path / "a.h5ad", force=True)
    assert (ga.io.read_h5ad(tmp_path / "a.h5ad").X.to_memory() != adata.X).nnz == 0


def test_millions_of_names_are_written_and_read_back(tmp_path):
    genome = ga.Genome("g", {"chr1": 900_000, "chr2": 400_007})
    (tmp_path / "f.tsv").write_text("chr1\t5\t9\tA\nchr2\t400000\t400007\tB\n")
    adata = ga.pp.import_fragments(tmp_path / "f.tsv", genome, min_num_fragments=0, device="cpu")
    ga.pp.add_tile_matrix(adata, bin_size=1, counting_strategy="insertion")
    assert adata.n_vars == 1_300_007
    assert adata.var_names[[0, 899_999, 900_000, -1]].tolist() == [
        "chr1:0-1", "chr1:899999-900000", "chr2:0-1", "chr2:400006-400007",
    ]  # fmt: skip
    assert adata[:, ["chr1:5-6"]].X.sum() == 1
    ga.io.write_h5ad(adata, tmp_path / "ours.h5ad")
    adata.write_h5ad(tmp_path / "theirs.h5ad")
    for read, name in ((anndata.read_h5ad, "ours.h5ad"), (anndata.read_h5ad, "theirs.h5ad"), (ga.io.read_h5ad, "ours.h5ad")):
        back = read(tmp_path / name)
        assert set(back.uns) == set(adata.uns)
        assert back.obs.equals(adata.obs)
        assert back.var_names[[0, -1]].tolist() == ["chr1:0-1", "chr2:400006-400007"]
        assert back.var.dtypes.astype(str).tolist() == ["category", "int32", "int32"]
        assert (back.X != adata.X).nnz == 0
