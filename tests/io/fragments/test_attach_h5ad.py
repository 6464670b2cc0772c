"""How an AnnData finds its fragments again: written, moved, cut, reordered, of several samples."""

from __future__ import annotations

import json
import os
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from bam_cases import CONTIGS, pair_of, write_bam
from text_files import bgzf

import gpuatac as ga
from gpuatac import Genome
from gpuatac.errors import FileFormatError, InputError, MissingFileError, MissingSlotError, OutputExistsError
from gpuatac.io.fragments import attach

GENOME = Genome("g", {"chr1": 1000, "chr2": 500, "chrM": 100})
#: Cuts of A lie in tiles 0 and 2, of B in 1 and 8 (chr2, tile 3), of C in 9 (chr2, tile 4).
TEXT = "chr1\t10\t250\tA-1\t2\nchr1\t110\t180\tB-1\t1\nchr2\t310\t390\tB-1\t1\nchr2\t410\t420\tC-1\t5\nchrM\t1\t9\tA-1\t1\n"
COUNTS = {
    "A-1": [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "B-1": [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
    "C-1": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
}


def tiles(adata):
    ga.pp.add_tile_matrix(adata, bin_size=100)
    assert sp.isspmatrix_csr(adata.X) or adata.X.format == "csr"
    return dict(zip(adata.obs_names, adata.X.toarray().tolist(), strict=True))


def source(folder, name="s.tsv.gz", text=TEXT):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_bytes(bgzf(text.encode()))
    return folder / name


def imported(folder, **options):
    return ga.pp.import_fragments(source(folder), GENOME, **{"min_num_fragments": 0, "device": "cpu", **options})


def reopened(path):
    """As a new session sees it."""
    ga.io.forget()
    return ga.io.read_h5ad(path)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    ga.io.forget()
    yield
    ga.io.forget()


# ---------------------------------------------------------------------------------------- counting


@pytest.mark.parametrize("stored", [True, False])
def test_counts_come_from_the_data_set_or_the_source(tmp_path, stored):
    adata = imported(tmp_path, out=tmp_path / "out" if stored else None)
    assert tiles(adata) == COUNTS
    assert (tmp_path / "out" / "s.fragments").is_dir() == stored


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("cells", [["C-1", "A-1", "B-1"], ["B-1"], ["C-1", "A-1"]])
def test_cells_may_be_cut_and_reordered(tmp_path, stored, cells):
    adata = imported(tmp_path, out=tmp_path / "out" if stored else None)
    part = adata[cells].copy()
    assert tiles(part) == {c: COUNTS[c] for c in cells}
    ga.io.write_h5ad(part, tmp_path / "part.h5ad")
    assert tiles(reopened(tmp_path / "part.h5ad")) == {c: COUNTS[c] for c in cells}


def test_no_cells_at_all(tmp_path):
    part = imported(tmp_path)[[]].copy()
    assert tiles(part) == {}


def test_threshold_and_whitelist_hold_when_the_source_is_read_again(tmp_path):
    adata = imported(tmp_path, whitelist=["B-1", "C-1"], min_num_fragments=2)
    assert adata.obs_names.tolist() == ["B-1"]
    ga.io.forget()
    assert tiles(adata) == {"B-1": COUNTS["B-1"]}


def test_a_cell_without_fragments_in_the_file_is_an_error(tmp_path):
    adata = imported(tmp_path)
    adata.obs_names = ["A-1", "B-1", "Z-1"]
    with pytest.raises(InputError, match=r"1 of 3 cells of sample 's' have no fragments \(Z-1, \.\.\.\); give the fragment file"):
        tiles(adata)


def test_an_anndata_without_fragments_says_what_to_do():
    with pytest.raises(MissingSlotError, match=r"this data set has no fragments; import them with pp\.import_fragments"):
        attach.attached(anndata.AnnData(np.ones((2, 2), "float32"), uns={"genome": attach_genome()}))
    with pytest.raises(MissingSlotError, match=r"call pp\.import_fragments first"):
        ga.pp.add_tile_matrix(anndata.AnnData(np.ones((2, 2), "float32")))


def attach_genome():
    holder = anndata.AnnData(np.ones((1, 1), "float32"))
    attach.set_genome(holder, GENOME)
    return holder.uns["genome"]


def test_genome_comes_back_from_a_file(tmp_path):
    ga.io.write_h5ad(imported(tmp_path), tmp_path / "a.h5ad")
    assert attach.genome_of(reopened(tmp_path / "a.h5ad")) == GENOME


def test_a_repeated_cell_has_its_counts_in_every_row_or_is_refused(tmp_path):
    adata = imported(tmp_path)
    obs = adata.obs.iloc[[0, 0, 1]].assign(barcode=["A-1", "A-1", "B-1"]).set_axis(["x", "y", "z"])
    twice = anndata.AnnData(obs=obs, uns=dict(adata.uns))
    try:
        got = tiles(twice)
    except InputError:
        return
    assert got == {"x": COUNTS["A-1"], "y": COUNTS["A-1"], "z": COUNTS["B-1"]}


# ----------------------------------------------------------------------------------- written and moved


@pytest.mark.parametrize("stored", [True, False])
def test_a_written_file_refers_to_its_fragments_by_relative_path(tmp_path, stored):
    adata = imported(tmp_path / "a", out=tmp_path / "a" / "out" if stored else None)
    ga.io.write_h5ad(adata, tmp_path / "a" / "b" / "s.h5ad")
    plain = anndata.read_h5ad(tmp_path / "a" / "b" / "s.h5ad")
    record = json.loads(plain.uns["fragments"]["samples"][0])
    assert record["path"] == ("../out/s.fragments" if stored else "../s.tsv.gz")
    assert plain.uns["fragments"]["base"] == ""
    assert str(tmp_path).encode() not in (tmp_path / "a" / "b" / "s.h5ad").read_bytes()


@pytest.mark.parametrize("stored", [True, False])
def test_a_moved_folder_works(tmp_path, stored):
    adata = imported(tmp_path / "a", out=tmp_path / "a" if stored else None)
    ga.io.write_h5ad(adata, tmp_path / "a" / "s.h5ad")
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    assert tiles(reopened(tmp_path / "elsewhere" / "s.h5ad")) == COUNTS


def test_the_working_folder_does_not_matter(tmp_path, monkeypatch):
    source(tmp_path / "a")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    adata = ga.pp.import_fragments("s.tsv.gz", GENOME, min_num_fragments=0, device="cpu")
    ga.io.write_h5ad(adata, "s.h5ad")
    monkeypatch.chdir(tmp_path / "other")
    ga.io.forget()
    assert tiles(adata) == COUNTS  # in this session, from where the file was
    assert tiles(reopened(os.path.relpath(tmp_path / "a" / "s.h5ad"))) == COUNTS


def test_the_anndata_goes_on_working_after_it_was_written(tmp_path):
    adata = imported(tmp_path / "a")
    ga.io.write_h5ad(adata, tmp_path / "b" / "s.h5ad")
    ga.io.forget()
    assert tiles(adata) == COUNTS
    ga.io.write_h5ad(adata, tmp_path / "c" / "d" / "s.h5ad")
    assert tiles(reopened(tmp_path / "c" / "d" / "s.h5ad")) == COUNTS
    assert tiles(reopened(tmp_path / "b" / "s.h5ad")) == COUNTS


def test_a_file_written_again_elsewhere_still_finds_its_fragments(tmp_path):
    ga.io.write_h5ad(imported(tmp_path / "a"), tmp_path / "a" / "s.h5ad")
    again = reopened(tmp_path / "a" / "s.h5ad")
    ga.io.write_h5ad(again, tmp_path / "x" / "y" / "s.h5ad")
    assert tiles(reopened(tmp_path / "x" / "y" / "s.h5ad")) == COUNTS


def test_a_view_can_be_written(tmp_path):
    adata = imported(tmp_path)
    view = adata[["B-1"]]
    ga.io.write_h5ad(view, tmp_path / "v.h5ad")
    assert view.is_view
    assert tiles(reopened(tmp_path / "v.h5ad")) == {"B-1": COUNTS["B-1"]}
    assert tiles(adata) == COUNTS


def test_missing_fragments_are_a_clear_error_and_can_be_told_their_new_place(tmp_path):
    ga.io.write_h5ad(imported(tmp_path / "a"), tmp_path / "a" / "s.h5ad")
    shutil.move(tmp_path / "a" / "s.tsv.gz", tmp_path / "moved.tsv.gz")
    adata = reopened(tmp_path / "a" / "s.h5ad")
    with pytest.raises(MissingFileError, match=r"fragments of sample 's' are not at .*s\.tsv\.gz; .*set_fragments_path"):
        tiles(adata)
    with pytest.raises(InputError, match="sample must be one of 's', got 't'"):
        ga.io.set_fragments_path(adata, tmp_path / "moved.tsv.gz", sample="t")
    ga.io.set_fragments_path(adata, tmp_path / "moved.tsv.gz", sample="s")
    assert tiles(adata) == COUNTS
    ga.io.write_h5ad(adata, tmp_path / "a" / "t.h5ad")
    assert tiles(reopened(tmp_path / "a" / "t.h5ad")) == COUNTS


def test_opened_by_anndata_alone_the_error_says_how_to_open_it(tmp_path, monkeypatch):
    ga.io.write_h5ad(imported(tmp_path / "a"), tmp_path / "a" / "s.h5ad")
    ga.io.forget()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"open it with gpuatac\.io\.read_h5ad"):
        tiles(anndata.read_h5ad(tmp_path / "a" / "s.h5ad"))


def test_a_file_that_is_no_h5ad_and_one_that_is_not_there(tmp_path):
    (tmp_path / "a.h5ad").write_text("text")
    with pytest.raises(FileFormatError, match=r"a\.h5ad"):
        ga.io.read_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(MissingFileError, match="does not exist"):
        ga.io.read_h5ad(tmp_path / "b.h5ad")


# ---------------------------------------------------------------------------------------- the file


def test_an_existing_file_is_refused_unless_told(tmp_path):
    adata = imported(tmp_path)
    path = ga.io.write_h5ad(adata, tmp_path / "s.h5ad")
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="exists already; pass force=True"):
        ga.io.write_h5ad(adata, path)
    assert path.read_bytes() == before
    ga.io.write_h5ad(adata[["A-1"]].copy(), path, force=True)
    assert reopened(path).obs_names.tolist() == ["A-1"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.h5ad", "s.tsv.gz"]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    adata = imported(tmp_path)
    path = ga.io.write_h5ad(adata, tmp_path / "s.h5ad")
    before, uns = path.read_bytes(), dict(adata.uns)
    adata.uns["unwritable"] = {1, 2}
    with pytest.raises(Exception, match="unwritable"):
        ga.io.write_h5ad(adata, path, force=True)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.h5ad", "s.tsv.gz"]
    del adata.uns["unwritable"]
    assert set(adata.uns) == set(uns)
    assert tiles(adata) == COUNTS


def test_anndata_reads_what_was_written(tmp_path):
    adata = imported(tmp_path)
    tiles(adata)
    adata.obsm["X_spectral"] = np.ones((3, 2), np.float32)
    adata.obsp["distances"] = sp.csr_matrix(np.eye(3, dtype="float32"))
    ga.io.write_h5ad(adata, tmp_path / "s.h5ad")
    back = anndata.read_h5ad(tmp_path / "s.h5ad")
    assert back.obs.equals(adata.obs)
    assert back.X.toarray().tolist() == adata.X.toarray().tolist()
    assert back.X.dtype == np.int32
    assert back.var_names[0] == "chr1:0-100"
    assert back.var["start"].dtype == np.int32
    assert back.obsp["distances"].nnz == 3
    assert set(back.uns) == set(adata.uns)


def test_an_anndata_without_fragments_is_written_too(tmp_path):
    path = ga.io.write_h5ad(anndata.AnnData(np.ones((2, 3), "float32")), tmp_path / "new" / "folder" / "a.h5ad")
    assert ga.io.read_h5ad(path).shape == (2, 3)


# -------------------------------------------------------------------------------------- several samples

OTHER = "chr1\t510\t520\tA-1\t1\nchr1\t610\t620\tD-1\t1\n"


def both(folder, **options):
    files = [source(folder, "x.tsv.gz"), source(folder, "y.tsv.gz", OTHER)]
    return ga.pp.import_fragments(files, GENOME, min_num_fragments=0, device="cpu", **options)


def one(tile):
    return [int(i == tile) for i in range(15)]


@pytest.mark.parametrize("stored", [True, False])
def test_samples_that_share_barcodes_keep_their_own_counts(tmp_path, stored):
    adata = both(tmp_path, out=tmp_path / "out" if stored else None)
    expected = {**{f"x#{c}": n for c, n in COUNTS.items()}, "y#A-1": one(5), "y#D-1": one(6)}
    assert tiles(adata) == expected
    ga.io.write_h5ad(adata, tmp_path / "s.h5ad")
    assert tiles(reopened(tmp_path / "s.h5ad")) == expected
    cells = ["y#A-1", "x#B-1", "x#A-1"]
    assert tiles(adata[cells].copy()) == {c: expected[c] for c in cells}
    assert tiles(adata[["y#D-1"]].copy()) == {"y#D-1": one(6)}


def test_the_path_of_one_of_several_samples_can_be_set(tmp_path):
    adata = both(tmp_path)
    (tmp_path / "y.tsv.gz").rename(tmp_path / "z.tsv.gz")
    ga.io.forget()
    with pytest.raises(MissingFileError, match="sample 'y'"):
        tiles(adata)
    ga.io.set_fragments_path(adata, tmp_path / "z.tsv.gz", sample="y")
    assert tiles(adata)["y#A-1"] == one(5)


def test_a_bulk_sample_is_read_again_under_its_name(tmp_path):
    file = source(tmp_path, "liver.bed.gz", "chr1\t10\t20\nchr1\t610\t620\n")
    adata = ga.pp.import_fragments(file, GENOME, sample="S1", device="cpu")
    ga.io.write_h5ad(adata, tmp_path / "s.h5ad")
    assert tiles(reopened(tmp_path / "s.h5ad")) == {"S1": [int(i in (0, 6)) for i in range(15)]}


def bam(folder):
    reads = [read for i in range(4) for read in pair_of(f"r{i}", "chr1", 100 + 50 * i, 300 + 50 * i, barcode="A-1")]
    return write_bam(folder / "r.bam", reads)


def test_every_read_of_a_bam_import_is_accounted_for(tmp_path):
    adata = ga.pp.import_fragments(bam(tmp_path), Genome("g", CONTIGS), min_num_fragments=0, device="cpu")
    summary = ga.pp.read_summaries(adata)["r"]
    assert adata.obs["n_fragment"].tolist() == [4]
    assert summary.lines == 8
    assert summary.accounted, summary.as_text()


def test_a_bam_import_without_a_data_set_is_read_again_in_a_later_session(tmp_path):
    adata = ga.pp.import_fragments(bam(tmp_path), Genome("g", CONTIGS), min_num_fragments=0, device="cpu")
    here = tiles(adata)
    ga.io.write_h5ad(adata, tmp_path / "s.h5ad")
    assert tiles(reopened(tmp_path / "s.h5ad")) == here


# ------------------------------------------------------------------------------------------ the cache


def test_columns_are_kept_for_the_next_use_until_forgotten(tmp_path):
    adata = imported(tmp_path)
    first = attach.attached(adata)[0].fragments
    assert attach.attached(adata)[0].fragments is first
    assert attach.attached(adata[["B-1"]].copy())[0].fragments is first
    ga.io.forget()
    assert attach.attached(adata)[0].fragments is not first


def test_a_changed_source_is_read_again(tmp_path):
    adata = imported(tmp_path)
    assert tiles(adata)["A-1"] == COUNTS["A-1"]
    source(tmp_path, text=TEXT.replace("chr1\t10\t250", "chr1\t510\t950"))
    os.utime(tmp_path / "s.tsv.gz", ns=(1, 1))
    assert tiles(adata)["A-1"] == [int(i in (5, 9)) for i in range(15)]


def test_the_same_file_with_other_cells_or_another_genome_is_another_table(tmp_path):
    first = imported(tmp_path)
    second = ga.pp.import_fragments(
        tmp_path / "s.tsv.gz", Genome("h", {"chr2": 500}), min_num_fragments=0, whitelist=["B-1"], device="cpu"
    )
    assert tiles(second) == {"B-1": [0, 0, 0, 1, 0]}
    assert tiles(first) == COUNTS


def test_more_samples_than_the_cache_holds(tmp_path):
    files = [source(tmp_path, f"s{i}.tsv.gz", f"chr1\t{i * 50}\t{i * 50 + 9}\tA-1\t1\n") for i in range(attach.CACHE_SIZE + 3)]
    adata = ga.pp.import_fragments(files, GENOME, min_num_fragments=0, device="cpu")
    assert tiles(adata) == {f"s{i}#A-1": one(i // 2) for i in range(len(files))}
    assert len(attach._cache) == attach.CACHE_SIZE


def test_a_few_names_of_any_string_type_are_written(tmp_path):
    for dtype in (object, "string[pyarrow]"):
        index = pd.Index(["chr1:0-5", "chr1:5-10", "chr2:0-5"], dtype=dtype)
        made = anndata.AnnData(sp.csr_matrix(np.eye(3, dtype=np.float32)), var=pd.DataFrame({"x": [1, 2, 3]}, index=index))
        made.var.index = index  # whatever AnnData made of it
        ga.io.write_h5ad(made, tmp_path / "few.h5ad", force=True)
        back = ga.io.read_h5ad(tmp_path / "few.h5ad")
        assert back.var_names.tolist() == index.tolist()
        assert back.var["x"].tolist() == [1, 2, 3]
