"""Inputs for every primitive that exists on both devices, with what the oracle says of them.

Any backend can be put through them (``run(backend, case)``): the GPU's wrappers over CPU-run kernels, the GPU
itself, the CPU backend.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse

from gpuatac.backend.protocol import STRATEGIES, Csr

from . import oracle, pileup_cases

NAMES = [b"chr1", b"chr2", b"chrM", b"chr10"]
CODES = np.array([0, 1, 3, 2], np.int32)  # by name; the code is the index into SIZES
SIZES = np.array([10_000, 5_000, 2_000_000_000, 300], np.int64)
IS_MITO = np.array([False, True, False, True])  # by code


@dataclass(frozen=True)
class Case:
    """One call of one primitive: ``backend.<part>.<verb>(*arguments, **keywords)``."""

    verb: str
    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.verb}-{self.name}"


def int32(*values) -> np.ndarray:
    return np.array(values, np.int32)


# ---------------------------------------------------------------------------------------------- fragments


def random_fragments(seed: int, n: int = 400, size: int = 5_000, n_rows: int = 7):
    rng = np.random.default_rng(seed)
    start = np.sort(rng.integers(0, size - 1, n)).astype(np.int32)
    length = np.minimum(rng.integers(1, 700, n), size - start)
    return start, (start + length).astype(np.int32), rng.integers(-1, n_rows, n).astype(np.int32)


FRAGMENTS = {
    "none": ((int32(), int32(), int32()), 3),
    "one": ((int32(99), int32(301), int32(1)), 2),
    "one base at the start of the chromosome": ((int32(0), int32(1), int32(0)), 1),
    "up to the end of the chromosome": (
        (int32(0, 4_000, 4_999), int32(5_000, 5_000, 5_000), int32(0, 1, 0)),
        2,
    ),
    "all left out": ((int32(5, 10), int32(50, 60), int32(-1, -1)), 2),
    "duplicates": ((int32(7, 7, 7, 7), int32(107, 107, 107, 500), int32(2, 2, 0, 2)), 3),
    "a cut at every position": (
        (
            np.arange(300, dtype=np.int32),
            np.arange(1, 301, dtype=np.int32),
            np.arange(300, dtype=np.int32) % 3,
        ),
        3,
    ),
    "random": (random_fragments(1), 7),
    "many rows, few fragments": (random_fragments(2, n=30, n_rows=1000), 1000),
}

REGIONS = {
    "none": (int32(), int32()),
    "one": (int32(100), int32(300)),
    "whole chromosome": (int32(0), int32(5_000)),
    "disjoint": (int32(0, 100, 150, 1_000, 4_900), int32(50, 150, 151, 2_000, 5_000)),
    "touching": (int32(0, 500, 1_000), int32(500, 1_000, 1_500)),
}
OVERLAPPING = {
    "equal": (int32(100, 100, 100), int32(300, 300, 300)),
    "nested": (int32(0, 10, 20, 30, 600), int32(5_000, 3_000, 25, 40, 601)),
}


def random_regions(seed: int, n: int, longest: int, *, disjoint: bool):
    rng = np.random.default_rng(seed)
    if disjoint:
        edges = np.sort(rng.choice(5_000, 2 * n, replace=False)).astype(np.int32)
        return edges[::2], edges[1::2]
    start = rng.integers(0, 4_900, n)
    end = np.minimum(start + rng.integers(1, longest, n), 5_000)
    order = np.lexsort((end, start))
    return start[order].astype(np.int32), end[order].astype(np.int32)


def counting_cases():
    disjoint = {**REGIONS, "random": random_regions(3, 40, 300, disjoint=True)}
    overlapping = {
        **disjoint,
        **OVERLAPPING,
        "random overlapping": random_regions(4, 60, 900, disjoint=False),
    }
    for label, (columns, n_rows) in FRAGMENTS.items():
        for strategy in STRATEGIES:
            for bin_size in (1, 500, 5_000) if label != "many rows, few fragments" else (500,):
                yield Case(
                    "tile_counts",
                    f"{label}, {strategy}, {bin_size} bp",
                    columns,
                    {
                        "n_rows": n_rows,
                        "bin_size": bin_size,
                        "n_bins": -(-5_000 // bin_size),
                        "strategy": strategy,
                    },
                )
            for where, (low, high) in overlapping.items():
                keywords = {"n_rows": n_rows, "region_start": low, "region_end": high, "strategy": strategy}
                yield Case("region_counts", f"{label}, {strategy}, regions {where}", columns, keywords)
        for where, (low, high) in disjoint.items():
            for as_insertion in (False, True):
                keywords = {
                    "n_rows": n_rows,
                    "region_start": low,
                    "region_end": high,
                    "as_insertion": as_insertion,
                }
                yield Case("overlap_any", f"{label}, {where}, insertions {as_insertion}", columns, keywords)
        for where, tss, reverse, window in (
            ("no TSS", int32(), np.array([], bool), 50),
            ("off the chromosome start", int32(3, 10), np.array([False, True]), 100),
            ("both strands at one place", int32(100, 100, 4_999), np.array([True, False, True]), 20),
            ("overlapping windows", int32(90, 100, 101, 2_000), np.array([True, False, True, False]), 300),
            ("wider than shared memory", int32(100, 2_500), np.array([False, True]), 7_000),
        ):
            keywords = {
                "n_rows": n_rows,
                "tss": tss,
                "reverse": reverse,
                "window": window,
                "half_center": 5,
                "edge": 10,
            }
            yield Case("tss_counts", f"{label}, {where}", columns, keywords)
        for max_length in (1, 200, 20_000):  # the last does not fit shared memory
            yield Case("length_histogram", f"{label}, {max_length}", columns, {"max_length": max_length})
        for bounds in ((147, 294), (1,), ()):
            yield Case("length_classes", f"{label}, {bounds}", columns, {"n_rows": n_rows, "bounds": bounds})
        row = columns[2]
        yield Case("row_sums", f"{label}, ones", (row, None), {"n_rows": n_rows})
        values = np.random.default_rng(5).integers(1, 2**31 - 1, row.size).astype(np.int32)
        yield Case("row_sums", f"{label}, values", (row, values), {"n_rows": n_rows})


def quality_cases():
    """All measures, each left out in turn; none, one and several region sets; counters in and out of shared memory."""
    some = random_regions(3, 40, 300, disjoint=True)
    every_set = [REGIONS["disjoint"], some, REGIONS["none"], REGIONS["whole chromosome"], REGIONS["touching"]]
    sites = {"tss": int32(90, 100, 101, 2_000, 4_999), "reverse": np.array([1, 0, 1, 0, 1], bool)}
    base = {
        "max_length": 200,
        "bounds": (147, 294),
        **sites,
        "window": 300,
        "half_center": 5,
        "edge": 10,
        "regions": [REGIONS["disjoint"], some],
        "as_insertion": False,
    }
    none = np.array([], bool)
    variants = {
        "all": {},
        "cuts in regions": {"as_insertion": True},
        "no regions": {"regions": []},
        "one set": {"regions": [some]},
        "five sets, one empty": {"regions": every_set},
        "no TSS counting": {"tss": None, "reverse": None},
        "no TSS on the chromosome": {"tss": int32(), "reverse": none},
        "TSSs off the start and at the end": {
            "tss": int32(3, 10, 4_999, 4_999),
            "reverse": np.array([0, 1, 0, 1], bool),
        },
        "lengths alone": {"bounds": (), "tss": None, "reverse": None, "regions": []},
        "nothing but the number of fragments": {
            "max_length": 0, "bounds": (), "tss": None, "reverse": None, "regions": [],
        },
        "longest entry of one": {"max_length": 1, "bounds": (1,)},
        "lengths beyond shared memory": {"max_length": 20_000},
        "profile beyond shared memory": {"window": 7_000, "max_length": 1_000},
        "neither fits": {"window": 7_000, "max_length": 20_000},
    }  # fmt: skip
    for label, (columns, n_rows) in FRAGMENTS.items():
        for name, changed in variants.items():
            yield Case("quality", f"{label}, {name}", columns, {"n_rows": n_rows, **base, **changed})
    columns = random_fragments(36, n=200, n_rows=250)  # 250 x 7 counters: a table that stays in global memory
    yield Case("quality", "random, many rows", columns, {"n_rows": 250, **base})
    start = np.array([0, 1, 5, 2_147_480_000, 2_147_483_646], np.int32)
    end = np.array([2_147_483_647, 5, 2_000_000_000, 2_147_483_647, 2_147_483_647], np.int32)
    top = {
        "tss": int32(0, 2_147_483_646),
        "reverse": np.array([1, 0], bool),
        "regions": [(int32(0, 2_147_483_646), int32(1, 2_147_483_647)), (int32(10), int32(1_999_999_999))],
    }
    for as_insertion in (False, True):
        keywords = {"n_rows": 2, **base, **top, "as_insertion": as_insertion}
        yield Case(
            "quality",
            f"at both ends of int32, cuts {as_insertion}",
            (start, end, int32(0, 1, 1, 0, 0)),
            keywords,
        )


# ---------------------------------------------------------------------------------------------- matrices


def random_counts(seed: int, n_rows: int, n_columns: int, density: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n_rows, n_columns)) < density, rng.integers(1, 9, (n_rows, n_columns)), 0)


def matrix_cases():
    wide = random_counts(6, 5, 120, 0.7)  # rows longer than a warp
    for name, parts in {
        "one part": [random_counts(7, 4, 5, 0.5)],
        "three": [random_counts(8, 9, 5, 0.3), random_counts(9, 9, 3, 0.0), random_counts(10, 9, 40, 0.9)],
        "without columns": [random_counts(11, 3, 0, 0.5), random_counts(12, 3, 4, 0.5)],
        "without rows": [np.zeros((0, 3), int), np.zeros((0, 2), int)],
        "wide": [wide, wide[:, ::-1]],
        "many rows": [random_counts(13, 300, 6, 0.2), random_counts(14, 300, 7, 0.2)],
    }.items():
        yield Case("hstack", name, (parts,))
    for name, dense, group, n_groups in (
        ("one group", random_counts(15, 4, 6, 0.5), [0] * 6, 1),
        ("any order", random_counts(16, 20, 9, 0.4), [3, 0, 3, 1, 1, 0, 4, 3, 0], 5),
        ("empty", np.zeros((3, 4), int), [0, 1, 0, 1], 2),
        ("wide", wide, list(np.arange(120) % 7), 7),
    ):
        yield Case("max_over_groups", name, (dense, np.array(group, np.int32)), {"n_groups": n_groups})


# ---------------------------------------------------------------------------------------------- order


def ordering_cases():
    rng = np.random.default_rng(17)
    n = 500
    many = (
        rng.integers(0, 4, n).astype(np.int16), rng.integers(0, 30, n).astype(np.int32),
        rng.integers(2**31 - 9, 2**31 - 1, n).astype(np.int32), rng.integers(-1, 5, n).astype(np.int32),
        np.arange(n, dtype=np.int32),
    )  # fmt: skip
    nothing = (np.empty(0, np.int16), int32(), int32(), int32(), int32())
    in_order = (np.array([1, 1, 3], np.int16), int32(5, 5, 2), int32(9, 9, 4), int32(1, 0, 1), int32(1, 2, 3))
    strand = rng.integers(-1, 2, n).astype(np.int8)
    yield Case("sort_fragments", "nothing", (*nothing, None), {"n_chroms": 2})
    yield Case("sort_fragments", "sorted by start", (*in_order, None), {"n_chroms": 5})
    yield Case("sort_fragments", "random", (*many, None), {"n_chroms": 4})
    yield Case("sort_fragments", "random with strand", (*many, strand), {"n_chroms": 4})
    yield Case(
        "sort_fragments",
        "all left out",
        (*in_order[:3], int32(-1, -1, -1), in_order[4], None),
        {"n_chroms": 4},
    )


# ---------------------------------------------------------------------------------------------- text

GOOD = b"chr1\t10\t20\tAAAC-1\t3\n"
TEXTS = {
    "nothing": b"",
    "one line": GOOD,
    "no newline at the end": GOOD[:-1],
    "two lines, the last open": GOOD + b"chr2\t0\t5000\tTTTT-1",
    "only newlines": b"\n\n\n",
    "CRLF": b"chr1\t10\t20\tAAAC-1\r\nchr2\t1\t2\tAAAC-1\t2\r\n\r\n# c\r\n",
    "CR at the open end": b"chr1\t10\t20\tAAAC-1\r",
    "two CRs": b"chr1\t10\t20\tAAAC-1\t1\r\r\n",
    "comments and blanks": b"# a\n#\n \t \n\t\n" + GOOD + b"\n#chr1\t1\t2\tA\n",
    "four, five and six columns": (
        b"chr1\t1\t2\tA\nchr1\t1\t2\tA\t7\nchr1\t1\t2\tB\t.\t+\nchr1\t1\t2\tB\t1\t-\nchr1\t1\t2\tC\t1\t.\n"
    ),
    "chromosome ends": (
        b"chr1\t9999\t10000\tA\nchr1\t9999\t10001\tA\nchr10\t1999999999\t2000000000\tB\nchr1\t-1\t5\tA\n"
    ),
    "lengths": b"chr1\t5\t5\tA\nchr1\t6\t5\tA\nchr1\t5\t6\tA\nchr1\t-9\t-8\tA\n",
    "unknown chromosomes": (
        b"chrX\t1\t2\tA\nchr\t1\t2\tA\nchrX\t9\t2\tA\nchr11\t1\t2\tB\nchr1\t1\t2\tB\nchr1 \t1\t2\tA\n"
    ),
    "long numbers": (
        b"chr1\t00000000000000000000000000007\t0009\tA\t0000000000000000002\n"
        b"chr1\t0\t99999999999999999999999999999\tA\n"
    ),
    "barcodes that begin alike": b"".join(b"chr1\t1\t2\t" + b"A" * k + b"\n" for k in (5, 4, 5, 1, 2, 4, 1)),
    "printable barcodes": b"chr1\t1\t2\t a~!#\nchr1\t1\t2\t a~!#\nchr1\t1\t2\t#\n",
    "one long line": b"chr1\t1\t2\t" + b"ACGT" * 700 + b"\n" + GOOD,
    "largest count": b"chr1\t1\t2\tA\t2147483647\n",
}
ERRORS = {
    "three columns": b"chr1\t1\t2\n",
    "one word": b"chr1\n",
    "spaces for tabs": b"chr1 1 2 A\n",
    "seven columns": b"chr1\t1\t2\tA\t1\t+\tx\n",
    "nine columns": b"chr1\t1\t2\tA\t1\t+\tx\ty\tz\n",
    "empty chromosome": b"\t1\t2\tA\n",
    "control byte in the chromosome": b"ch\x01r1\t1\t2\tA\n",
    "no start": b"chr1\t\t2\tA\n",
    "start with a plus": b"chr1\t+1\t2\tA\n",
    "start is a minus": b"chr1\t-\t2\tA\n",
    "start with a point": b"chr1\t1.0\t2\tA\n",
    "end with a space": b"chr1\t1\t2 \tA\n",
    "end is a word": b"chr1\t1\tx\tA\n",
    "no barcode": b"chr1\t1\t2\t\n",
    "no barcode, count follows": b"chr1\t1\t2\t\t1\n",
    "byte above ASCII in the barcode": b"chr1\t1\t2\tA\xc3\x85\n",
    "delete byte in the barcode": b"chr1\t1\t2\tA\x7f\n",
    "no count": b"chr1\t1\t2\tA\t\n",
    "count of zero": b"chr1\t1\t2\tA\t0\n",
    "negative count": b"chr1\t1\t2\tA\t-1\n",
    "count of 2^31": b"chr1\t1\t2\tA\t2147483648\n",
    "two points for a count": b"chr1\t1\t2\tA\t..\n",
    "no strand": b"chr1\t1\t2\tA\t1\t\n",
    "strand of two signs": b"chr1\t1\t2\tA\t1\t+-\n",
    "an error on an unknown chromosome": b"chrX\t1\t2\t\n",
    "a carriage return inside": b"chr1\t1\t2\tA\r\t1\n",
    "errors at start and barcode": b"chr1\tx\t2\t\n",
}


def random_text(seed: int, n: int) -> bytes:
    """Lines of every dropped kind among good ones; barcodes repeat."""
    rng = np.random.default_rng(seed)
    barcodes = [bytes(rng.choice(list(b"ACGT"), rng.integers(1, 20)).astype(np.uint8)) for _ in range(60)]
    lines = []
    for kind in rng.integers(0, 12, n):
        start = int(rng.integers(0, 4_000))
        end = start + int(rng.integers(1, 900))
        barcode = barcodes[int(rng.integers(0, 60))]
        chrom = NAMES[int(rng.integers(0, 2))]
        extra = [b"", b"\t%d" % rng.integers(1, 99), b"\t.\t-", b"\t4\t+"][int(rng.integers(0, 4))]
        if kind == 0:
            lines.append(b"#" + barcode)
        elif kind == 1:
            lines.append(b" " * int(rng.integers(0, 3)))
        else:
            if kind == 2:
                chrom = b"chrUn_%d" % rng.integers(0, 5)
            elif kind == 3:
                end = start
            elif kind == 4:
                end += 9_000
            lines.append(b"%s\t%d\t%d\t%s%s" % (chrom, start, end, barcode, extra))
    return b"".join(line + (b"\r\n" if rng.random() < 0.2 else b"\n") for line in lines)


def parsing_cases():
    for name, text in TEXTS.items():
        yield Case("parse_block", name, (text,), {"bulk": False})
    for name, text in ERRORS.items():
        yield Case("parse_block", f"error: {name}", (text,), {"bulk": False})
        yield Case(
            "parse_block",
            f"error on the third line: {name}",
            (GOOD + b"\n" + text + text + GOOD,),
            {"bulk": False},
        )
    yield Case("parse_block", "random", (random_text(18, 700),), {"bulk": False})
    yield Case("parse_block", "random, open end", (random_text(19, 80)[:-1],), {"bulk": False})
    yield Case(
        "parse_block",
        "random with errors",
        (random_text(20, 300) + ERRORS["no strand"] + GOOD,),
        {"bulk": False},
    )
    many_unknown = b"".join(b"u%d\t1\t2\tA\n" % i for i in [*range(300), *range(10), *range(290, 310)])
    yield Case("parse_block", "more unknown names than are listed", (many_unknown,), {"bulk": False})
    for name, text in {
        "nothing": b"",
        "three columns": b"chr1\t1\t2\nchr2\t3\t4\r\n\n# x\nchrX\t1\t2\nchr1\t5\t5\nchr1\t5\t10001",
        "only dropped": b"chrX\t1\t2\n",
        "four columns": b"chr1\t1\t2\nchr1\t1\t2\tA\n",
        "two columns": b"chr1\t1\n",
    }.items():
        yield Case("parse_block", f"bulk, {name}", (text,), {"bulk": True})
    for changes in (1, 63, 64, 65, 66):  # about the number of runs that a block may have
        lines = (b"%s\t%d\t%d\tA\n" % (NAMES[i % 2], i, i + 5) for i in range(changes + 1))
        yield Case("parse_block", f"{changes} changes of chromosome", (b"".join(lines),), {"bulk": False})


def barcode_cases():
    texts = [random_text(seed, 200) for seed in (41, 42, 43)]
    yield Case("barcodes", "random", (texts,), {"bulk": False})
    yield Case("barcodes", "nothing", ([],), {"bulk": False})
    yield Case("barcodes", "nothing kept", ([b"", b"# x\n", b"chrX\t1\t2\tA\n"],), {"bulk": False})
    many = [b"".join(b"chr2\t1\t2\tB%d\t3\n" % i for i in range(low, low + 3_000)) for low in (0, 1_500, 6_000)]
    yield Case("barcodes", "more names than there were slots", (many,), {"bulk": False})
    alike = [b"".join(b"chr1\t1\t2\t" + b"A" * n + b"\n" for n in lengths) for lengths in ((3, 1, 2), (2, 40, 3, 1))]
    yield Case("barcodes", "names alike", (alike,), {"bulk": False})
    bulk = [b"chr1\t1\t2\nchr2\t3\t4\n", b"", b"chrM\t1\t2\nchrX\t1\t2\n"]
    yield Case("barcodes", "bulk", (bulk,), {"bulk": True})


def neighbour_lists(seed: int, n: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    lists = [rng.choice(np.delete(np.arange(n), i), k, replace=False) for i in range(n)]
    return np.array(lists, np.int32).reshape(n, k)


def linalg_cases():
    for name, dense in (
        ("random", random_counts(31, 30, 50, 0.3)),
        ("an empty row and column", np.pad(random_counts(32, 5, 4, 0.7), 1)),
        ("one row", random_counts(33, 1, 9, 0.9)),
    ):
        weights = np.random.default_rng(34).random(dense.shape[1])
        yield Case("gram", name, (dense, weights))
        yield Case("squared_norms", name, (dense, weights))


def graph_cases():
    yield Case("shared_neighbors", "random", (neighbour_lists(25, 70, 9),))
    yield Case("shared_neighbors", "random, one neighbour", (neighbour_lists(26, 40, 1),))
    yield Case("shared_neighbors", "all others", (neighbour_lists(27, 12, 11),))
    yield Case("shared_neighbors", "a pair", (np.array([[1], [0]], np.int32),))
    yield Case("shared_neighbors", "no neighbours", (np.empty((3, 0), np.int32),))
    for name, dense in (
        ("random", random_counts(28, 50, 80, 0.3)),
        ("rows longer than a warp", random_counts(29, 6, 300, 0.9)),
        ("empty", np.zeros((4, 5), int)),
        ("without rows", np.zeros((0, 5), int)),
    ):
        factors = np.random.default_rng(30).standard_normal(dense.shape[0])
        for data in (np.float32, np.float64):
            for factor in (np.float32, np.float64):
                label = f"{name}, {data.__name__} by {factor.__name__}"
                yield Case("scale_rows", label, (dense.astype(data), factors.astype(factor)))


CASES = [
    *parsing_cases(),
    *barcode_cases(),
    *ordering_cases(),
    *counting_cases(),
    *quality_cases(),
    *matrix_cases(),
    *linalg_cases(),
    *graph_cases(),
    *(Case(*case) for case in pileup_cases.pileup_cases()),
    *(Case(*case) for case in pileup_cases.window_cases()),
    *(Case(*case) for case in pileup_cases.peak_cases()),
    *(Case(*case) for case in pileup_cases.poisson_cases()),
]


# ---------------------------------------------------------------------------------------------- running


def run(bk: Any, case: Case) -> None:
    """Put ``bk`` through ``case`` and compare with the oracle."""
    _RUNNERS.get(case.verb, _run_counts)(bk, case)


def dense_of(bk: Any, counts: Csr, n_columns: int) -> np.ndarray:
    """A dense int64 array of ``counts``, whose form is checked on the way."""
    indptr, indices, data = (bk.to_host(part) for part in counts)
    assert (indptr.dtype, indices.dtype, data.dtype) == (np.int64, np.int32, np.dtype(bk.count_dtype))
    assert indptr[0] == 0
    assert indptr[-1] == indices.size == data.size
    assert (np.diff(indptr) >= 0).all()
    assert (data > 0).all()
    row = np.repeat(np.arange(indptr.size - 1), np.diff(indptr))
    key = row * max(n_columns, 1) + indices
    assert (np.diff(key) > 0).all(), "columns ascend within a row, without duplicates"
    out = np.zeros((indptr.size - 1, n_columns), np.int64)
    out[row, indices] = data.astype(np.int64)
    return out


def csr_of(bk: Any, dense: np.ndarray) -> Csr:
    row, column = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum((dense > 0).sum(1))]).astype(np.int64)
    data = dense[row, column].astype(bk.count_dtype)
    return Csr(bk.asarray(indptr), bk.asarray(column.astype(np.int32)), bk.asarray(data))


def _on(bk: Any, value: Any) -> Any:
    return bk.asarray(value) if isinstance(value, np.ndarray) else value


def _run_counts(bk: Any, case: Case) -> None:
    expected = getattr(oracle, case.verb)(*case.arguments, **case.keywords)
    found = getattr(bk.counting, case.verb)(
        *(_on(bk, a) for a in case.arguments), **{k: _on(bk, v) for k, v in case.keywords.items()}
    )
    if case.verb == "tss_counts":
        for part, wanted in zip(found[:3], expected[:3], strict=True):
            assert bk.to_host(part).dtype == np.int64
            np.testing.assert_array_equal(bk.to_host(part), wanted)
        assert found[3:] == expected[3:]
    elif isinstance(found, Csr):
        np.testing.assert_array_equal(dense_of(bk, found, expected.shape[1]), expected)
    else:
        assert bk.to_host(found).dtype == np.int64
        np.testing.assert_array_equal(bk.to_host(found), expected)


def _run_hstack(bk: Any, case: Case) -> None:
    (parts,) = case.arguments
    found = bk.counting.hstack([csr_of(bk, part) for part in parts], [part.shape[1] for part in parts])
    expected = np.hstack(parts)
    np.testing.assert_array_equal(dense_of(bk, found, expected.shape[1]), expected)


def _run_max_over_groups(bk: Any, case: Case) -> None:
    dense, group = case.arguments
    found = bk.counting.max_over_groups(csr_of(bk, dense), bk.asarray(group), **case.keywords)
    expected = oracle.max_over_groups(dense, group, **case.keywords)
    np.testing.assert_array_equal(dense_of(bk, found, expected.shape[1]), expected)


def _run_sort_fragments(bk: Any, case: Case) -> None:
    ptr, rows, came_sorted = oracle.sort_fragments(*case.arguments, **case.keywords)
    # CPU code may sort in place: it gets copies
    arguments = [a if a is None else bk.asarray(a.copy()) for a in case.arguments]
    found_ptr, *columns, found_sorted = bk.ordering.sort_fragments(*arguments, **case.keywords)
    np.testing.assert_array_equal(found_ptr, ptr)
    assert found_sorted == came_sorted
    assert (columns[-1] is None) == (case.arguments[-1] is None)
    for i, column in enumerate(c for c in columns if c is not None):
        assert bk.to_host(column).tolist() == [row[i + 1] for row in rows]


def _run_parse_block(bk: Any, case: Case) -> None:
    (text,) = case.arguments
    bulk = case.keywords["bulk"]
    expected = oracle.parse_block(text, NAMES, CODES, SIZES, bulk)
    known = bk.parsing.chromosomes(NAMES, CODES, SIZES)
    found = bk.parsing.parse_block(bk.asarray(np.frombuffer(text, np.uint8)), known, bulk=bulk)
    assert found.n_lines == expected.n_lines
    assert (found.error_line, found.error_code) == expected.error
    if found.error_line >= 0:
        return
    table = bk.parsing.barcodes(IS_MITO)
    columns = [bk.to_host(getattr(found, name)) for name in ("chrom", "start", "end", "count", "strand")]
    columns.append(bk.to_host(table.add(found)))
    assert [str(c.dtype) for c in columns] == ["int16", "int32", "int32", "int32", "int8", "int32"]
    numbers, barcodes = oracle.distinct_names([row[-1] for row in expected.rows])
    totals = table.totals()
    assert totals.names(np.arange(totals.n)) == barcodes
    assert columns[-1].tolist() == numbers
    for counted, weights in (
        (totals.rows, None),
        (totals.mito_rows, IS_MITO[columns[0]]),
        (totals.copies, columns[3]),
    ):
        assert counted.dtype == np.int64
        assert counted.tolist() == np.bincount(np.array(numbers, int), weights, len(barcodes)).tolist()
    changes = np.flatnonzero(np.diff(columns[0])) + 1
    if changes.size > 64:
        assert found.runs is None
    else:
        edges = [0, *changes.tolist(), columns[0].size] if columns[0].size else [0]
        assert found.runs == [(int(columns[0][a]), a, b) for a, b in itertools.pairwise(edges)]
    for i, column in enumerate(columns[:-1]):
        assert column.tolist() == [row[i] for row in expected.rows]
    assert isinstance(found.dropped, np.ndarray)
    assert found.dropped.dtype == np.int64
    assert found.dropped.tolist() == [expected.dropped[i] for i in range(6)]
    assert found.has_strand == expected.has_strand
    listed = dict(list(expected.unknown.items())[:256])
    rest = sum(expected.unknown.values()) - sum(listed.values())
    assert found.unknown_chroms == (listed if not rest else {**listed, b"(other names)": rest})
    assert found.n_lines == len(expected.rows) + int(found.dropped.sum())


def _run_barcodes(bk: Any, case: Case) -> None:
    """Blocks one after the other: numbers by first appearance in all of them, and what is counted of each."""
    (texts,) = case.arguments
    bulk = case.keywords["bulk"]
    known, table = bk.parsing.chromosomes(NAMES, CODES, SIZES), bk.parsing.barcodes(IS_MITO)
    rows, found = [], []
    for text in texts:
        rows += oracle.parse_block(text, NAMES, CODES, SIZES, bulk).rows
        block = bk.parsing.parse_block(np.frombuffer(text, np.uint8), known, bulk=bulk)
        found += bk.to_host(table.add(block)).tolist()
    numbers, barcodes = oracle.distinct_names([row[-1] for row in rows])
    totals = table.totals()
    assert found == numbers
    assert totals.names(np.arange(totals.n)) == barcodes
    expected = np.zeros((3, len(barcodes)), np.int64)
    for number, row in zip(numbers, rows, strict=True):
        expected[:, number] += 1, IS_MITO[row[0]], row[3]
    for counted, wanted in zip((totals.rows, totals.mito_rows, totals.copies), expected, strict=True):
        assert counted.tolist() == wanted.tolist()


def _run_shared_neighbors(bk: Any, case: Case) -> None:
    (indices,) = case.arguments
    found = bk.to_host(bk.graph.shared_neighbors(bk.asarray(indices)))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, oracle.shared_neighbors(indices))


def _run_scale_rows(bk: Any, case: Case) -> None:
    dense, factors = case.arguments
    matrix = bk.csr_from_host(scipy.sparse.csr_matrix(dense))
    found = bk.csr_to_host(bk.scale_rows(matrix, bk.asarray(factors)))
    expected = dense * factors[:, None]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.toarray(), expected)
    np.testing.assert_array_equal(bk.csr_to_host(matrix).toarray(), dense)


def _run_linalg(bk: Any, case: Case) -> None:
    dense, weights = case.arguments
    host = scipy.sparse.csr_matrix(dense.astype(np.dtype(bk.count_dtype)))
    matrix = bk.csr_from_host(host)
    found = getattr(bk.linalg, case.verb)(matrix, bk.asarray(weights))
    if case.verb == "gram":
        u = np.random.default_rng(35).standard_normal(dense.shape[0])
        found, expected = found(bk.asarray(u)), dense @ (weights * (dense.T @ u))
    else:
        expected = dense.astype(np.float64) ** 2 @ weights
    assert bk.to_host(found).dtype == np.float64
    np.testing.assert_allclose(bk.to_host(found), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(bk.csr_to_host(matrix).toarray(), dense)


def _run_quality(bk: Any, case: Case) -> None:
    given = {k: _on(bk, v) for k, v in case.keywords.items()}
    given["regions"] = [(bk.asarray(low), bk.asarray(high)) for low, high in given["regions"]]
    found = bk.counting.quality(*(bk.asarray(a) for a in case.arguments), **given)
    lengths, classes, around, in_regions, fragments = oracle.quality(*case.arguments, **case.keywords)
    pairs = [
        (found.lengths, lengths),
        (found.classes, classes),
        (found.in_regions, in_regions),
        (found.fragments, fragments),
    ]
    assert (found.tss is None) == (around is None)
    if around is not None:
        pairs += zip(found.tss[:3], around[:3], strict=True)
        assert found.tss[3:] == around[3:]
        assert [type(n) for n in found.tss[3:]] == [int, int]
    for part, wanted in pairs:
        assert bk.to_host(part).dtype == np.int64
        assert part.shape == wanted.shape
        np.testing.assert_array_equal(bk.to_host(part), wanted)


_RUNNERS = {
    "quality": _run_quality,
    "gram": _run_linalg,
    "squared_norms": _run_linalg,
    "shared_neighbors": _run_shared_neighbors,
    "scale_rows": _run_scale_rows,
    "hstack": _run_hstack,
    "max_over_groups": _run_max_over_groups,
    "sort_fragments": _run_sort_fragments,
    "parse_block": _run_parse_block,
    "barcodes": _run_barcodes,
    **pileup_cases.RUNNERS,
}
