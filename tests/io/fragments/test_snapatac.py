"""SnapATAC2's fragment storage, written here from its description and by hand."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gpuatac.errors import FileFormatError, InputError, MissingFileError
from gpuatac.genome import Genome
from gpuatac.io.fragments.snapatac2 import read_snapatac2_fragments

SIZES = {"chr1": 1000, "chr10": 500, "chr2": 300}  # byte order
CELLS = ["TT-1", "AA-1", "GG-1"]
PAIRS = [  # (cell, chrom, start, end)
    (0, "chr10", 5, 60),
    (0, "chr1", 100, 150),
    (0, "chr1", 100, 150),
    (1, "chr2", 290, 300),
    (1, "chr1", 0, 1),
]
SINGLES = [
    (0, "chr1", 100, 150, 1),
    (1, "chr1", 200, 260, -1),
    (2, "chr10", 0, 60, -1),
    (2, "chr10", 490, 500, 1),
]


def write(
    path, *, paired=PAIRS, singles=None, sizes=SIZES, cells=CELLS, index="index", chunks=None, **options
):
    offset = dict(
        zip(sizes, np.concatenate([[0], np.cumsum(list(sizes.values()))[:-1]]).tolist(), strict=True)
    )
    if singles is None:
        key, entries = "fragment_paired", [(c, offset[n] + s, e - s) for c, n, s, e in paired]
    else:
        key = "fragment_single"
        entries = [(c, offset[n] + (s if d > 0 else e - 1), d * (e - s)) for c, n, s, e, d in singles]
    entries.sort()
    column = np.array([e[1] for e in entries], np.int64)
    with h5py.File(path, "w") as file:
        file["obs/" + index] = np.array(cells, h5py.string_dtype())
        file["obs"].attrs["_index"] = index
        reference = file.create_group("uns/reference_sequences")
        reference["reference_seq_name"] = np.array(list(sizes), h5py.string_dtype())
        reference["reference_seq_length"] = np.array(list(sizes.values()), np.uint64)
        group = file.create_group(f"obsm/{key}")
        group["indptr"] = np.searchsorted([e[0] for e in entries], np.arange(len(cells) + 1))
        length = np.array([e[2] for e in entries], np.uint32 if singles is None else np.int32)
        group.create_dataset("indices", data=column, chunks=chunks, **options)
        group.create_dataset("data", data=length, chunks=chunks, **options)
    return path


def rows(frags):
    strand = frags.strand if frags.strand is not None else [0] * len(frags)
    columns = (frags.chrom_codes(), frags.start, frags.end, frags.cell, strand)
    return [
        (frags.genome.names[c], int(s), int(e), frags.barcodes[b], int(d))
        for c, s, e, b, d in zip(*columns, strict=True)
    ]


def test_pairs_come_back_sorted_with_barcodes_in_byte_order(tmp_path):
    frags = read_snapatac2_fragments(write(tmp_path / "a.h5ad"))
    assert list(frags.barcodes) == ["AA-1", "GG-1", "TT-1"]
    assert rows(frags) == [
        ("chr1", 0, 1, "AA-1", 0), ("chr1", 100, 150, "TT-1", 0), ("chr1", 100, 150, "TT-1", 0),
        ("chr10", 5, 60, "TT-1", 0), ("chr2", 290, 300, "AA-1", 0),
    ]  # fmt: skip
    assert frags.chrom_ptr.tolist() == [0, 3, 4, 5]
    assert frags.strand is None
    assert frags.count.tolist() == [1] * 5
    assert {str(c.dtype) for c in (frags.start, frags.end, frags.cell, frags.count)} == {"int32"}
    assert frags.summary.accounted
    assert (frags.summary.lines, frags.genome.name) == (5, "a")


def test_single_reads_of_the_minus_strand_lie_left_of_their_column(tmp_path):
    frags = read_snapatac2_fragments(write(tmp_path / "a.h5ad", singles=SINGLES, index="_index"))
    assert rows(frags) == [
        ("chr1", 100, 150, "TT-1", 1), ("chr1", 200, 260, "AA-1", -1),
        ("chr10", 0, 60, "GG-1", -1), ("chr10", 490, 500, "GG-1", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_random_fragments_come_back(tmp_path, seed):
    rng = np.random.default_rng(seed)
    table = []
    for _ in range(500):
        chrom = str(rng.choice(list(SIZES)))
        start, end = sorted(rng.choice(SIZES[chrom] + 1, 2, replace=False).tolist())
        table.append((int(rng.integers(3)), chrom, start, end))
    frags = read_snapatac2_fragments(
        write(tmp_path / "a.h5ad", paired=table, chunks=(7,), compression="gzip")
    )
    expected = sorted((n, s, e, CELLS[c], 0) for c, n, s, e in table)
    assert rows(frags) == expected


def test_a_genome_chooses_chromosomes_and_codes(tmp_path):
    path = write(tmp_path / "a.h5ad")
    frags = read_snapatac2_fragments(path, Genome("toy", {"2": 300, "10": 500, "7": 9}))
    assert frags.genome.names == ("10", "2", "7")
    assert [r[:3] for r in rows(frags)] == [("10", 5, 60), ("2", 290, 300)]
    assert frags.summary.dropped["unknown chromosome"] == 3
    assert frags.summary.unknown_chroms == {"chr1": 3}
    assert frags.summary.accounted
    with pytest.raises(InputError, match=r"chr1 has 1,000 bp in .* and 999 bp in genome toy"):
        read_snapatac2_fragments(path, Genome("toy", {"chr1": 999}))
    with pytest.raises(InputError, match=r"3 of 3 chromosomes in .* are absent from genome toy"):
        read_snapatac2_fragments(path, Genome("toy", {"chr9": 999}))


def test_fragments_that_stick_out_or_are_empty_are_dropped_and_counted(tmp_path):
    pairs = [(0, "chr1", 990, 1010), (0, "chr2", 5, 5), (1, "chr1", 1, 2)]
    frags = read_snapatac2_fragments(write(tmp_path / "a.h5ad", paired=pairs))
    assert len(frags) == 1
    assert {r: n for r, n in frags.summary.dropped.items() if n} == {
        "zero or negative length": 1,
        "outside the chromosome": 1,
    }


def test_a_file_without_fragments_gives_an_empty_table(tmp_path):
    frags = read_snapatac2_fragments(write(tmp_path / "a.h5ad", paired=[]))
    assert (len(frags), frags.n_cells, frags.chrom_ptr.tolist()) == (0, 3, [0, 0, 0, 0])


def test_a_filter_that_hdf5_does_not_have_is_named_with_its_remedy(tmp_path):
    path = tmp_path / "a.h5ad"
    write(path)
    with h5py.File(path, "a") as file:
        group = file["obsm/fragment_paired"]
        del group["data"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((5,))
        plist.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)  # no such filter: HDF5 then stores the chunk as it is
        space = h5py.h5s.create_simple((5,))
        h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_UINT32, space, plist)
    with pytest.raises(
        InputError, match=r"HDF5 filter filter \(32999\), which is not installed; pip install hdf5plugin"
    ):
        read_snapatac2_fragments(path)


def edited(path, edit):
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def _replace(file, name, values):
    del file[name]
    file[name] = values


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda f: f.move("obsm/fragment_paired", "obsm/X_umap"), "obsm with 'X_umap'"),
        (lambda f: f.pop("uns"), "obsm with 'fragment_paired'"),
        (lambda f: _replace(f, "obsm/fragment_paired/indptr", [0, 1, 1, 9]), "row pointer ends at 9"),
        (lambda f: _replace(f, "obsm/fragment_paired/indices", [0, 1, 2, 3, 1800]), r"outside \[0, 1799\]"),
        (
            lambda f: _replace(f, "uns/reference_sequences/reference_seq_name", ["chr2", "chr1", "chr10"]),
            "byte order",
        ),
        (
            lambda f: _replace(f, "uns/reference_sequences/reference_seq_length", [1, 2]),
            "3 chromosome names, 2 sizes",
        ),
        (lambda f: _replace(f, "obs/index", ["A", "B", "A"]), "barcode A more than once"),
        (lambda f: _replace(f, "obs/index", ["A", "B"]), "2 barcodes"),
    ],
)
def test_other_layouts_are_refused(tmp_path, edit, match):
    with pytest.raises(FileFormatError, match=match):
        read_snapatac2_fragments(edited(write(tmp_path / "a.h5ad"), edit))


def test_files_that_are_no_hdf5_are_refused(tmp_path):
    (tmp_path / "a.h5ad").write_text("text")
    with pytest.raises(FileFormatError, match="no HDF5 file"):
        read_snapatac2_fragments(tmp_path / "a.h5ad")
    with pytest.raises(MissingFileError, match="SnapATAC2 file"):
        read_snapatac2_fragments(tmp_path / "none.h5ad")
