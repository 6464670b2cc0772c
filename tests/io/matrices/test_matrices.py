"""Count matrices of other programs."""

from __future__ import annotations

import gzip
import logging

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.io.matrices import feature_names
from gpuatac.io.matrices.count_files import add_coordinates, as_counts, read_10x_h5, read_10x_mtx, read_h5ad

BARCODES = ["AAC-1", "AAG-1", "CCC-1"]
COUNTS = np.array([[0, 2, 1, 0], [3, 0, 0, 0], [0, 0, 5, 1]])  # cells x features
PEAKS = ["chr1:5-90", "chr1:100-200", "chr10:1-2", "chrX:7-8"]
TYPES = ["Gene Expression", "Peaks", "Peaks", "Gene Expression"]


def write_h5(path, *, names=PEAKS, types=None, layout="matrix", counts=COUNTS, drop=()):
    columns = sp.csc_matrix(counts.T)
    with h5py.File(path, "a") as file:
        group = file.create_group(layout)
        group["barcodes"] = np.array(BARCODES, "S")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(columns, key)
        group["shape"] = counts.T.shape
        if layout == "matrix":
            features = {"id": names, "name": names, "genome": ["GRCh38"] * len(names), "feature_type": types}
            for key, values in features.items():
                if values is not None:
                    group[f"features/{key}"] = np.array(values, "S")
        else:
            group["genes"], group["gene_names"] = (
                np.array(["E1", "E2", "E3", "E4"], "S"),
                np.array(names, "S"),
            )
        for key in drop:
            del group[key]
    return path


def write_folder(folder, *, packed=False, prefix="", features="features.tsv", types=None, counts=COUNTS):
    folder.mkdir(exist_ok=True)
    peaks = pd.DataFrame([p.replace(":", "-").split("-") for p in PEAKS])
    if features == "peaks.bed":
        table = "".join("\t".join(row) + "\n" for row in peaks.to_numpy())
    else:
        last = [f"\t{t}" for t in types] if types else [""] * 4
        table = "".join(f"id{i}\t{n}{t}\n" for i, (n, t) in enumerate(zip(PEAKS, last, strict=True)))
    matrix = folder / "m.mtx"
    scipy.io.mmwrite(matrix, sp.coo_matrix(counts.T))
    files = {
        "matrix.mtx": matrix.read_bytes(),
        "barcodes.tsv": "\n".join(BARCODES).encode(),
        features: table.encode(),
    }
    matrix.unlink()
    for name, data in files.items():
        target = folder / f"{prefix}{name}{'.gz' if packed else ''}"
        target.write_bytes(gzip.compress(data) if packed else data)
    return folder


def same(adata, counts=COUNTS, names=PEAKS):
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.int32
    assert adata.X.toarray().tolist() == counts.tolist()
    assert adata.obs_names.tolist() == BARCODES
    assert adata.var_names.tolist() == list(names)
    return True


# --- 10x HDF5 ------------------------------------------------------------------------------------


def test_h5_of_cell_ranger_atac_is_read_with_coordinates(tmp_path):
    adata = read_10x_h5(write_h5(tmp_path / "a.h5", types=["Peaks"] * 4))
    assert same(adata)
    assert adata.var["chrom"].tolist() == ["chr1", "chr1", "chr10", "chrX"]
    assert isinstance(adata.var["chrom"].dtype, pd.CategoricalDtype)
    assert adata.var["end"].tolist() == [90, 200, 2, 8]
    assert adata.var["start"].dtype == adata.var["end"].dtype == np.int32


def test_h5_of_multiome_keeps_the_type_asked_for(tmp_path):
    path = write_h5(tmp_path / "a.h5", types=TYPES, names=["GENE1", "chr1:100-200", "chr10:1-2", "GENE2"])
    peaks = read_10x_h5(path)
    assert peaks.X.toarray().tolist() == COUNTS[:, 1:3].tolist()
    assert peaks.var["start"].tolist() == [100, 1]
    genes = read_10x_h5(path, feature_type="Gene Expression")
    assert genes.var_names.tolist() == ["GENE1", "GENE2"]
    assert "chrom" not in genes.var
    assert read_10x_h5(path, feature_type=None).n_vars == 4
    with pytest.raises(InputError, match=r"no feature of type 'Antibody'.*Gene Expression, Peaks"):
        read_10x_h5(path, feature_type="Antibody")


def test_h5_with_one_type_is_kept_whole(tmp_path):
    assert read_10x_h5(write_h5(tmp_path / "a.h5", types=["Gene Expression"] * 4)).n_vars == 4


def test_h5_of_version_2_is_read_by_genome(tmp_path):
    path = write_h5(tmp_path / "a.h5", layout="GRCh38")
    adata = read_10x_h5(path)
    assert same(adata)
    assert adata.var["gene_ids"].tolist() == ["E1", "E2", "E3", "E4"]
    write_h5(path, layout="mm10", counts=COUNTS * 2)
    assert same(read_10x_h5(path, genome="mm10"), COUNTS * 2)
    with pytest.raises(InputError, match=r"genomes GRCh38, mm10.*genome="):
        read_10x_h5(path)


def test_repeated_gene_names_are_made_unique_and_logged(tmp_path, caplog):
    path = write_h5(tmp_path / "a.h5", names=["A", "B", "A", "A-1"])
    with caplog.at_level(logging.WARNING, "gpuatac.io.matrices.count_files"):
        assert read_10x_h5(path).var_names.tolist() == ["A", "B", "A-2", "A-1"]
    assert "not unique" in caplog.text


def test_h5_of_maestro_is_read(data_dir):
    path = data_dir / "scatac" / "pbmc500_chr22_hg38" / "test_peak_count.h5"
    adata = read_10x_h5(path)
    assert adata.shape == (100, 4283)
    assert adata.X.dtype == np.int32
    assert adata.X.sum() == adata.X.nnz == 29_773  # binary
    assert adata.var.iloc[0][["chrom", "start", "end"]].tolist() == ["chr22", 10650302, 10650776]
    with h5py.File(path) as file:
        matrix = file["matrix"]
        column = int(matrix["indptr"][7])
        assert adata.X[7].indices.tolist() == sorted(
            matrix["indices"][column : int(matrix["indptr"][8])].tolist()
        )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"drop": ["indptr", "shape"]}, "without indptr, shape"),
        ({"names": PEAKS[:3]}, "3 barcodes and 3 features for a matrix of 3 x 4"),
    ],
)
def test_h5_files_that_do_not_hold_together_are_refused(tmp_path, change, match):
    with pytest.raises(FileFormatError, match=match):
        read_10x_h5(write_h5(tmp_path / "a.h5", **change))


def test_h5_of_other_kinds_is_named(tmp_path):
    anndata.AnnData(sp.csr_matrix(COUNTS)).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(FileFormatError, match="read it with read_h5ad"):
        read_10x_h5(tmp_path / "a.h5ad")
    (tmp_path / "t.h5").write_text("text")
    with pytest.raises(FileFormatError, match="no HDF5 file"):
        read_10x_h5(tmp_path / "t.h5")
    with h5py.File(tmp_path / "o.h5", "w") as file:
        file["something"] = 1
    with pytest.raises(FileFormatError, match="something"):
        read_10x_h5(tmp_path / "o.h5")
    with pytest.raises(MissingFileError, match="check the path"):
        read_10x_h5(tmp_path / "none.h5")


def test_h5_with_indices_outside_is_refused(tmp_path):
    path = write_h5(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["matrix/indices"][0] = 99
    with pytest.raises(FileFormatError, match="does not hold together"):
        read_10x_h5(path)


# --- Matrix Market -------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("features", ["features.tsv", "peaks.bed", "genes.tsv"])
def test_folders_of_cell_ranger_are_read(tmp_path, packed, features):
    adata = read_10x_mtx(write_folder(tmp_path / "m", packed=packed, features=features))
    assert same(adata)
    assert adata.var["end"].tolist() == [90, 200, 2, 8]


def test_a_matrix_file_finds_its_companions_by_prefix(tmp_path):
    write_folder(tmp_path, packed=True, prefix="GSM1_", types=TYPES)
    adata = read_10x_mtx(tmp_path / "GSM1_matrix.mtx.gz")
    assert same(adata, COUNTS[:, 1:3], PEAKS[1:3])
    assert read_10x_mtx(tmp_path / "GSM1_matrix.mtx.gz", feature_type=None).n_vars == 4


def test_cells_in_rows_and_square_matrices(tmp_path):
    folder = write_folder(tmp_path / "m")
    scipy.io.mmwrite(folder / "matrix.mtx", sp.coo_matrix(COUNTS))
    assert same(read_10x_mtx(folder))
    (folder / "features.tsv").write_text("a\nb\nc\n")
    square = np.array([[0, 1, 0], [0, 0, 2], [0, 0, 3]])
    scipy.io.mmwrite(folder / "matrix.mtx", sp.coo_matrix(square.T))  # as 10x writes it
    assert same(read_10x_mtx(folder), square, "abc")


def test_missing_and_broken_companions_are_named(tmp_path):
    folder = write_folder(tmp_path / "m")
    (folder / "barcodes.tsv").write_text("A\nB\n")
    with pytest.raises(FileFormatError, match="2 barcodes and 4 features for a matrix of 3 x 4"):
        read_10x_mtx(folder)
    (folder / "barcodes.tsv").write_text("A\nB\nA\n")
    with pytest.raises(FileFormatError, match="barcode A more than once"):
        read_10x_mtx(folder)
    (folder / "matrix.mtx").write_text("no matrix\n")
    with pytest.raises(FileFormatError, match="no readable Matrix Market"):
        read_10x_mtx(folder)
    (folder / "features.tsv").unlink()
    (folder / "matrix.mtx").unlink()
    with pytest.raises(MissingFileError, match=r"matrix.mtx"):
        read_10x_mtx(folder)
    write_folder(folder)
    (folder / "features.tsv").unlink()
    with pytest.raises(MissingFileError, match=r"features.tsv or peaks.bed or genes.tsv"):
        read_10x_mtx(folder)


# --- h5ad ----------------------------------------------------------------------------------------


def test_h5ad_gets_counts_and_coordinates(tmp_path):
    names = ["chr1_5_90", "chr1_100_200", "chr10_1_2", "chrUn_x_7_8"]
    made = anndata.AnnData(
        COUNTS.astype("f4"), var=pd.DataFrame(index=names), obs=pd.DataFrame(index=BARCODES)
    )
    made.write_h5ad(tmp_path / "a.h5ad")
    adata = read_h5ad(tmp_path / "a.h5ad")
    assert same(adata, names=names)
    assert adata.var["chrom"].tolist() == ["chr1", "chr1", "chr10", "chrUn_x"]
    assert str(adata.var["start"].dtype) == "int32"


def test_h5ad_with_values_that_are_not_whole_stays_float32(tmp_path):
    anndata.AnnData(sp.csr_matrix(COUNTS / 2)).write_h5ad(tmp_path / "a.h5ad")
    assert read_h5ad(tmp_path / "a.h5ad").X.dtype == np.float64
    anndata.AnnData(sp.csr_matrix((COUNTS / 2).astype("f4"))).write_h5ad(tmp_path / "b.h5ad")
    assert read_h5ad(tmp_path / "b.h5ad").X.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "shape", "has_coordinates"),
    [
        ("matrices/granja_BMMC_D5T1.h5ad", (3790, 10_000), True),
        ("matrices/schep.h5ad", (600, 5036), True),
        ("matrices/forebrain.h5ad", (1043, 7674), False),
        ("matrices/leukemia_apec.h5ad", (321, 38_673), True),
        ("multiome/muon_pbmc/test_rna.h5ad", (1000, 45), False),
        ("multiome/simba_pbmc/10xpbmc_atac_100x10000.h5ad", (100, 10_000), True),
    ],
)
def test_real_h5ad_files_old_and_new_are_read(data_dir, name, shape, has_coordinates):
    adata = read_h5ad(data_dir / name)
    assert adata.shape == shape
    assert adata.X.dtype == np.int32
    assert ("chrom" in adata.var) == has_coordinates
    if has_coordinates:
        assert adata.var["start"].dtype == adata.var["end"].dtype == np.int32
        assert (adata.var["start"] < adata.var["end"]).all()
    with h5py.File(data_dir / name) as file:
        assert adata.X.sum() == file["X/data"][:].astype(float).sum()


def test_other_hdf5_files_are_told_apart_from_h5ad(tmp_path, data_dir):
    with pytest.raises(FileFormatError, match="read it with read_10x_h5"):
        read_h5ad(write_h5(tmp_path / "a.h5"))
    with h5py.File(tmp_path / "s.h5ad", "w") as file:
        file["obsm/fragment_paired/data"] = [1]
    with pytest.raises(FileFormatError, match="read_snapatac2_fragments"):
        read_h5ad(tmp_path / "s.h5ad")
    with h5py.File(tmp_path / "o.h5ad", "w") as file:
        file["obs"] = 1
    with pytest.raises(FileFormatError, match="with obs"):
        read_h5ad(tmp_path / "o.h5ad")
    (tmp_path / "t.h5ad").write_text("text")
    with pytest.raises(FileFormatError, match="no HDF5 file"):
        read_h5ad(tmp_path / "t.h5ad")


# --- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1.0, 2.0], "int32"),
        ([1.5, 2.0], "float32"),
        ([3e9, 1.0], "float32"),
        ([np.nan, 1.0], "float32"),
        ([], "int32"),
    ],
)
def test_whole_values_become_int32(values, dtype):
    matrix = sp.csr_matrix((np.array(values, "f4"), np.arange(len(values)), [0, len(values)]), shape=(1, 4))
    assert str(as_counts(matrix).dtype) == dtype


def test_unsorted_and_repeated_entries_are_put_in_order():
    made = as_counts(sp.csr_matrix((np.array([1, 2, 3], "f4"), [2, 0, 2], [0, 3]), shape=(1, 3)))
    assert (made.indices.tolist(), made.data.tolist()) == ([0, 2], [2, 4])


def test_columns_win_over_names_and_wrong_columns_leave_var_alone():
    var = pd.DataFrame({"chr": ["1"], "start": ["5"], "end": ["7"]}, index=["chr9:1-2"])
    assert add_coordinates(var)[["chrom", "start", "end"]].to_numpy().tolist() == [["1", 5, 7]]
    wrong = pd.DataFrame({"chrom": ["1"], "start": ["x"], "end": ["7"]}, index=["chr9:1-2"])
    assert add_coordinates(wrong).equals(wrong)
    mixed = pd.DataFrame(index=["chr1:1-2", "GENE"])
    assert list(add_coordinates(mixed)) == []


# -------------------------------------------------------------------------------------------- names of features


def test_names_of_fixed_width_come_back_without_their_padding():
    names = ["chr1:0-500", "a", "chrUn_KI270442v1:12-345", "", "µ"]
    found = feature_names.from_fixed_width(np.array([name.encode() for name in names]))
    assert found.tolist() == names
    assert feature_names.from_fixed_width(np.empty(0, "S4")).tolist() == []


def test_names_are_python_strings_up_to_a_million_and_arrow_strings_above():
    most = 1_048_576  # as coordinate_names says
    text = np.resize(np.array([b"a", b"bcd", b"e"]), most + 1)
    few, many = feature_names.from_fixed_width(text[:most]), feature_names.from_fixed_width(text)
    assert few.dtype == object
    assert many.dtype != object
    assert many[-2:].tolist() == [text[-2].decode(), text[-1].decode()]
    assert few[:3].tolist() == many[:3].tolist() == ["a", "bcd", "e"]
