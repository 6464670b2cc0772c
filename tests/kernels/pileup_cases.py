"""Inputs for the primitives of pileups and peaks, and how a backend is put through them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpuatac.backend.protocol import Cutoffs, Geometry, GroupEnds, Runs

from . import pileup_oracle as oracle

SIZE = 5_000


def int32(*values) -> np.ndarray:
    return np.array(values, np.int32)


def clustered(seed: int, n: int, n_groups: int, *, size: int = SIZE, copies: bool = False, low: int = 0):
    """Fragments, half of them around a few places, of several groups and of none."""
    rng = np.random.default_rng(seed)
    places = rng.integers(low, size, 5)
    start = np.where(rng.random(n) < 0.6, rng.normal(rng.choice(places, n), 90), rng.integers(low, size, n))
    start = np.sort(np.clip(start, low, size - 2)).astype(np.int32)
    end = np.minimum(start + rng.integers(1, 500, n), size).astype(np.int32)
    weight = rng.integers(1, 6, n).astype(np.int32) if copies else None
    return start, end, rng.integers(-1, n_groups, n).astype(np.int32), weight


def short(seed: int, n: int):
    """Fragments of one group, 20 to 89 bp long, half of them around a few places of 3 kb."""
    rng = np.random.default_rng(seed)
    start = clustered(seed, n, 1, size=3_000)[0]
    end = np.minimum(start + rng.integers(20, 90, n), 3_000).astype(np.int32)
    return start, end, np.zeros(n, np.int32), None


#: Beyond what genomes have, for the kernels alone: start, end, group, copies; and the number of groups.
EXTREMES: dict[str, tuple[tuple, int]] = {
    "no group": ((int32(), int32(), int32(), None), 0),
    "at the end of int32": (
        (int32(2_147_470_000, 2_147_482_500), int32(2_147_470_500, 2_147_483_000), int32(0, 0), None), 1,
    ),
}  # fmt: skip
#: The same for every backend.
FRAGMENTS: dict[str, tuple[tuple, int]] = {
    "none": ((int32(), int32(), int32(), None), 2),
    "all left out": ((int32(5, 9), int32(50, 60), int32(-1, -1), int32(3, 4)), 2),
    "one": ((int32(700), int32(850), int32(0), None), 1),
    "one at the start of the chromosome": ((int32(0), int32(60), int32(1), None), 2),
    "windows cut off at the start": ((int32(1, 3, 90, 100), int32(40, 99, 101, 380), int32(0, 0, 0, 0), None), 1),
    "copies at the start": ((int32(30, 31, 95), int32(40, 399, 101), int32(0, 1, 0), int32(2, 7, 1)), 2),
    "duplicates": ((int32(*[400] * 9), int32(*[600] * 5, *[650] * 4), int32(*[0, 1] * 4, 0), None), 2),
    "one ends where the next begins": ((int32(100, 200, 300), int32(200, 300, 350), int32(0, 0, 0), None), 1),
    "an empty group between": ((int32(10, 500, 505, 900), int32(90, 600, 640, 905), int32(0, 2, 0, 2), None), 4),
    "many at three places": (
        (np.repeat(int32(1_000, 1_003, 2_500), 150), np.repeat(int32(1_200, 1_203, 2_900), 150),
         np.arange(450, dtype=np.int32) % 2, np.arange(450, dtype=np.int32) % 7 + 1), 2,
    ),
    "large counts": ((int32(40, 100, 120), int32(300, 200, 301), int32(0, 0, 0), int32(10**5, 10**5, 3)), 1),
    "random": (clustered(1, 300, 3), 3),
    "random with copies": (clustered(2, 200, 2, copies=True, low=1), 2),
}  # fmt: skip
WHOLE = Geometry(whole=True, wide=0)
GEOMETRIES = {
    "as MACS": Geometry(),
    "narrow window": Geometry(wide=301),
    "window within the interval": Geometry(shift=-75, extsize=150, wide=40),
    "no background": Geometry(wide=0),
    "asymmetric": Geometry(shift=-20, extsize=100, wide=1_000),
    "away from the cut": Geometry(shift=40, extsize=90, wide=700),
    "off the start": Geometry(shift=-250, extsize=120, wide=600),
    "whole": Geometry(whole=True),
    "whole, narrow window": Geometry(whole=True, wide=250),
    "whole, no background": WHOLE,
    "whole, unclipped": Geometry(whole=True, clip=False, wide=600),
}


def least_of(chromosomes, geometry: Geometry, n_groups: int, slope: float, base: int = 2) -> list[np.ndarray]:
    """For each group the smallest pileup above a made-up cutoff that rises with the background."""
    tables = []
    pairs = oracle.segment_lengths(chromosomes, geometry, n_groups)
    for g in range(n_groups):
        n = np.arange(1 + max((n for n, _ in pairs[g]), default=0))
        tables.append(np.maximum(g % 2 + base + slope * n, 1).astype(np.int32))
    return tables


def pileup_cases():
    """(verb, name, arguments, keywords)."""
    for label, (columns, n_groups) in FRAGMENTS.items():
        for insertions in (False, True):
            keywords = {"n_groups": n_groups, "insertions": insertions}
            yield "group_ends", f"{label}, insertions {insertions}", columns, keywords
        for bin_size in (1, 7, 100, SIZE):
            yield "coverage", f"{label}, {bin_size} bp", columns, {"n_groups": n_groups, "bin_size": bin_size}


def window_cases():
    rng = np.random.default_rng(9)
    edges = np.sort(rng.choice(400, 60, replace=False)).tolist()
    many = [(a, b, int(v)) for a, b, v in zip(edges[::2], edges[1::2], rng.integers(1, 9, 30), strict=True)]
    touching = [(0, 3, 2), (3, 4, 5), (4, 9, 2), (11, 12, 1)]
    for name, runs in (("none", [[], []]), ("no group", []), ("two groups", [touching, [], many]), ("one", [many])):
        for left, right in ((0, 0), (1, 1), (4, 5), (60, 59)):
            for begin, stop in ((0, 420), (100, 101), (3, 12), (395, 460), (50, 50), (500, 520)):
                keywords = {"left": left, "right": right, "begin": begin, "stop": stop}
                yield "window_sums", f"{name}, {left} and {right} bp, {begin} to {stop}", (runs,), keywords
    large = [[(0, 100_000, 1_000_000)]]
    yield "window_sums", "large", (large,), {"left": 9_999, "right": 0, "begin": 0, "stop": 1}


def passes(fragments: dict[str, tuple[tuple, int]]):
    """(verb, name, arguments, keywords) of every pass over one chromosome, in every geometry."""
    for label, (columns, n_groups) in fragments.items():
        for where, geometry in GEOMETRIES.items():
            keywords: dict[str, Any] = {"n_groups": n_groups, "geometry": geometry}
            name = f"{label}, {where}"
            yield "segment_lengths", name, (columns,), keywords
            yield "above", name, (columns,), {**keywords, "slope": 0.01}
            rules = {"max_gap": 30, "min_length": 60, "subpeaks": True}
            if (
                geometry.clip or (columns[0] > 0).all()
            ):  # a fragment at 0 is open below 0, where MACS3's signal has no place
                yield "summits", name, (columns,), {**keywords, "slope": 0.005, **rules}


def peak_cases():
    """(verb, name, arguments, keywords); ``arguments`` are the fragments of some chromosomes."""
    yield from passes(FRAGMENTS)
    three = (clustered(3, 120, 3), clustered(4, 0, 3), clustered(5, 200, 3))
    for where in ("as MACS", "whole", "no background"):
        keywords = {"n_groups": 3, "geometry": GEOMETRIES[where]}
        yield "segment_lengths", f"random, three chromosomes, {where}", three, keywords
        yield "above", f"random, three chromosomes, {where}", three, {**keywords, "slope": 0.02}
    columns = (int32(40, 100), int32(300, 200), int32(0, 0), int32(2**29, 2**29 - 1))
    for where, geometry in GEOMETRIES.items():
        yield "segment_lengths", f"counts up to 2^31, {where}", (columns,), {"n_groups": 1, "geometry": geometry}
    yield "segment_lengths", "no chromosome", (), {"n_groups": 0, "geometry": Geometry()}
    keywords = {"n_groups": 3, "geometry": GEOMETRIES["whole"], "slope": 0.0, "holes": True}
    yield "above", "random, with holes", three, keywords
    rules = {"max_gap": 5, "min_length": 30, "subpeaks": False}
    yield "summits", "random, with holes", three, {**keywords, **rules}
    dense = (clustered(6, 900, 2), clustered(7, 700, 2, size=2_000))
    for min_length in (1, 20, 150, 200, 333):
        for max_gap in (0, 30):
            for subpeaks in (False, True):
                rules = {"max_gap": max_gap, "min_length": min_length, "subpeaks": subpeaks, "slope": 0.0}
                name = f"random, {min_length} bp, gaps {max_gap}, subpeaks {subpeaks}"
                yield "summits", name, dense, {"n_groups": 2, "geometry": Geometry(wide=1_000), **rules}
    near = Geometry(shift=-40, extsize=80, wide=500)
    for name, columns, geometry, base, rules in (  # found by search: each has a summit that the named rule decides
        ("the first valley's threshold is higher", short(179, 400), near, 1, (100, 100)),
        ("a summit in a gap", short(699, 150), WHOLE, 5, (100, 100)),
        ("a summit 10 bp before the end", short(2129, 150), near, 3, (30, 12)),
    ):
        keywords = {"n_groups": 1, "geometry": geometry, "slope": 0.0, "base": base, "subpeaks": True}
        yield "summits", name, (columns,), {**keywords, "max_gap": rules[0], "min_length": rules[1]}
    rules = {"max_gap": 30, "min_length": 130, "subpeaks": True, "slope": 0.0}
    for name, low, high in (("gap of max_gap", 180, 230), ("gap one wider", 181, 231), ("one base short", 179, 229)):
        columns = (int32(*[100] * 3, *[low] * 3), int32(*[150] * 3, *[high] * 3), int32(*[0] * 6), None)
        yield "summits", f"region, {name}", (columns,), {"n_groups": 1, "geometry": WHOLE, **rules}


def poisson_cases():
    rng = np.random.default_rng(8)
    t = np.concatenate([rng.integers(0, 40, 300), rng.integers(0, 900, 60)]).astype(np.int32)
    rate = np.concatenate([rng.gamma(2, 3, 300) + 0.05, rng.uniform(0.1, 700, 60)]).astype(np.float32)
    yield "poisson_scores", "random", (t, rate.astype(np.float64)), {}
    t, rate = int32(0, 0, 0, 5_000, 3, 20_000), np.array([1e-6, 0.25, 30, 2.5, 12_000, 19_500], np.float32)
    yield "poisson_scores", "far apart", (t, rate.astype(np.float64)), {}
    yield "poisson_scores", "none", (int32(), np.empty(0)), {}


# ---------------------------------------------------------------------------------------------- running


def ends_on(bk: Any, columns: tuple, n_groups: int, *, insertions: bool = False) -> tuple[GroupEnds, list]:
    """The ends that the oracle finds, on the backend, and as the oracle has them."""
    start, end, group, weight = columns
    ends = oracle.group_ends(start, end, group, weight, n_groups=n_groups, insertions=insertions)
    ptr = np.cumsum([0, *(len(part[0]) for part in ends)], dtype=np.int64)
    flat = [np.array([v for part in ends for v in part[k]], np.int32) for k in range(4)]
    if weight is None:
        flat[2:] = [None, None]
    return GroupEnds(ptr, *(None if column is None else bk.asarray(column) for column in flat)), ends


def check_columns(bk: Any, found: Any, rows: list, names: tuple[str, ...]) -> None:
    """The named int32 fields hold the rows."""
    table = np.array(rows, np.int64).reshape(-1, len(names)).T
    for name, wanted in zip(names, table, strict=True):
        column = bk.to_host(getattr(found, name))
        assert column.dtype == np.int32, name
        np.testing.assert_array_equal(column, wanted, err_msg=name)


def check_ptr(found: Any, parts: list) -> None:
    assert isinstance(found.ptr, np.ndarray)
    assert found.ptr.dtype == np.int64
    assert found.ptr.tolist() == np.cumsum([0, *map(len, parts)]).tolist()


def run_group_ends(bk: Any, case: Any) -> None:
    start, end, group, weight = case.arguments
    expected, ends = ends_on(bk, case.arguments, case.keywords["n_groups"], insertions=case.keywords["insertions"])
    given = [bk.asarray(column) for column in (start, end, group)]
    copies = None if weight is None else bk.asarray(weight)
    found = bk.pileup.group_ends(*given, weight=copies, **case.keywords)
    check_ptr(found, [lefts for lefts, *_ in ends])
    for name, wanted in zip(GroupEnds._fields[1:], expected[1:], strict=True):
        column = getattr(found, name)
        assert (column is None) == (wanted is None), name
        if column is not None:
            assert bk.to_host(column).dtype == np.int32, name
            np.testing.assert_array_equal(bk.to_host(column), bk.to_host(wanted), err_msg=name)


def run_coverage(bk: Any, case: Any) -> None:
    bin_size = case.keywords["bin_size"]
    ends, plain = ends_on(bk, case.arguments, case.keywords["n_groups"])
    found = bk.pileup.coverage(ends, bin_size=bin_size, size=SIZE)
    expected = oracle.coverage(plain, bin_size=bin_size, size=SIZE)
    check_ptr(found, expected)
    check_columns(bk, found, [row for runs in expected for row in runs], ("start", "end", "value"))


def run_window_sums(bk: Any, case: Any) -> None:
    (groups,) = case.arguments
    rows = np.array([row for runs in groups for row in runs], np.int32).reshape(-1, 3)
    ptr = np.cumsum([0, *map(len, groups)], dtype=np.int64)
    runs = Runs(ptr, *(bk.asarray(np.ascontiguousarray(column)) for column in rows.T))
    found = bk.pileup.window_sums(runs, **case.keywords)
    expected = oracle.window_sums(groups, **case.keywords)
    check_ptr(found, expected)
    check_columns(bk, found, [row[:2] for runs in expected for row in runs], ("start", "end"))
    assert bk.to_host(found.value).dtype == np.int64
    assert bk.to_host(found.value).tolist() == [row[2] for runs in expected for row in runs]


def run_peaks(bk: Any, case: Any) -> None:
    keywords = dict(case.keywords)
    n_groups, geometry = keywords.pop("n_groups"), keywords.pop("geometry")
    both = [ends_on(bk, columns, n_groups) for columns in case.arguments]
    sources, plain = [lambda ends=ends: ends for ends, _ in both], [ends for _, ends in both]
    if case.verb == "segment_lengths":
        found = bk.peaks.segment_lengths(sources, geometry)
        expected = oracle.segment_lengths(plain, geometry, n_groups)
        check_ptr(found, expected)
        assert isinstance(found.length, np.ndarray)
        assert found.length.dtype == np.int64
        check_columns(bk, found, [pair for pairs in expected for pair in pairs], ("n", "t"))
        assert found.length.tolist() == [length for pairs in expected for length in pairs.values()]
        return
    least = least_of(plain, geometry, n_groups, keywords.pop("slope"), keywords.pop("base", 2))
    table = np.concatenate([np.empty(0, np.int32), *least])
    cutoffs = Cutoffs(np.cumsum([0, *(part.size for part in least)], dtype=np.int64), table)
    holes: list[set] = []
    if keywords.pop("holes", False):  # every fifth pair of the first and the last group
        pairs = oracle.segment_lengths(plain, geometry, n_groups)
        holes = [set(list(pairs[g])[::5] if g != 1 else ()) for g in range(n_groups)]
        codes = tuple(np.array(sorted(n << 32 | t for n, t in own), np.int64) for own in holes)
        cutoffs = cutoffs._replace(holes=codes)
    found = getattr(bk.peaks, case.verb)(sources, geometry, cutoffs, **keywords)
    assert len(found) == len(plain)
    for here, ends in zip(found, plain, strict=True):
        rows = getattr(oracle, case.verb)(ends, geometry, least, holes, **keywords)
        if case.verb == "above":
            rows = [(g, *row) for g, part in enumerate(rows) for row in part]
        else:
            assert all(isinstance(column, np.ndarray) for column in here)
        check_columns(bk, here, rows, here._fields)


def run_poisson_scores(bk: Any, case: Any) -> None:
    found = bk.peaks.poisson_scores(*case.arguments)
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, oracle.poisson_scores(*case.arguments))


RUNNERS = {
    "group_ends": run_group_ends,
    "coverage": run_coverage,
    "window_sums": run_window_sums,
    "segment_lengths": run_peaks,
    "above": run_peaks,
    "summits": run_peaks,
    "poisson_scores": run_poisson_scores,
}
