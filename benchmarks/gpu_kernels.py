"""Time every kernel on a GPU against the copy bandwidth that the same run measures.

    RESULTS=benchmarks/results python benchmarks/gpu_kernels.py [--millions 50] [--repeats 20]

Writes ``gpu_kernels-<GPU>-<commit>.csv`` to the folder RESULTS, line by line: for each kernel the items, the bytes that it has to
move (the traffic of its header; atomics count as 8 bytes), the median and the 20th and 80th percentile of the
time, GB/s, and that rate as a share of the rate of a device-to-device copy. Between repeats a buffer larger
than the L2 cache is written, so that no kernel finds its input there.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from recording import record
from vs_snapatac2 import commit

from gpuatac.backend import gpu_problem
from gpuatac.backend.gpu import launch

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 248_956_422  # bp: chr1 of hg38
BIN = 500  # bp
N_CELLS = 10_000
N_REGIONS = 20_000
K = 50  # neighbours
N_GROUPS = 11  # of cells, for pileups and peaks
WINDOW = 2_000  # bp
COPY_BYTES = 1 << 30  # of the copy that sets the scale
FLUSHED = 1 << 29  # bytes written at least between repeats
BARCODE_LENGTH = 18  # bytes, "-1" included
COLUMNS = ("kernel", "items", "bytes", "median_ms", "p20_ms", "p80_ms", "gb_per_s", "share_of_copy")


def fragments(xp, n: int):
    """n fragments of one chromosome, sorted, of all cells; lengths as in ATAC-seq."""
    rng = np.random.default_rng(0)
    start = np.sort(rng.integers(0, SIZE - 2_000, n)).astype(np.int32)
    length = np.clip(rng.gamma(2.0, 90.0, n), 20, 1_999).astype(np.int32)
    return (
        xp.asarray(start),
        xp.asarray(start + length),
        xp.asarray(rng.integers(0, N_CELLS, n).astype(np.int32)),
    )


def fragment_text(n: int) -> np.ndarray:
    """n lines as 10x writes them."""
    rng = np.random.default_rng(1)
    start = np.sort(rng.integers(0, SIZE - 2_000, n))
    barcodes = ["".join(rng.choice(list("ACGT"), 16)) + "-1" for _ in range(N_CELLS)]
    cell = rng.integers(0, N_CELLS, n)
    text = "".join(
        f"chr1\t{s}\t{s + 180}\t{barcodes[c]}\t1\n" for s, c in zip(start.tolist(), cell.tolist(), strict=True)
    )
    return np.frombuffer(text.encode(), np.uint8)


class Recorder:
    """A launcher that keeps the last arguments of each kernel, so that it can be run again by itself."""

    def __init__(self, launcher) -> None:
        self.launcher = launcher
        self.calls: dict[str, tuple] = {}

    def __call__(self, name: str, n_threads: int, *values, shared_bytes: int = 0) -> None:
        self.calls.setdefault(name, (n_threads, values, shared_bytes))
        self.launcher(name, n_threads, *values, shared_bytes=shared_bytes)


def milliseconds(cupy, work, repeats: int) -> np.ndarray:
    """Times of ``work`` by CUDA events, with a cold L2 cache; the first call is left out.

    Writing the buffer also keeps the GPU busy while the host prepares the launch: only the kernel is timed.
    """
    l2 = cupy.cuda.Device().attributes["L2CacheSize"]
    flush = cupy.empty(max(4 * l2, FLUSHED), np.uint8)
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    times = []
    for _ in range(repeats + 1):
        flush.fill(0)
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end))
    return np.array(times[1:])


def copy_milliseconds(cupy, n_bytes: int, repeats: int) -> np.ndarray:
    """Times of a device-to-device copy: ``n_bytes`` read and as many written."""
    source, target = cupy.zeros(n_bytes, np.uint8), cupy.empty(n_bytes, np.uint8)
    return milliseconds(cupy, lambda: cupy.copyto(target, source), repeats)


def traffic(calls: dict[str, tuple], n_keys: dict[str, int]) -> dict[str, tuple[int, int]]:
    """(items, bytes) of each recorded call, by the formulas of the kernels' headers."""
    n = {name: int(call[0]) for name, call in calls.items()}
    text = int(calls["parse_lines"][1][0].size)
    lines = n["parse_lines"]
    out = {
        "count_newlines": (text, text),
        "find_line_ends": (text, text + 8 * lines),
        "parse_lines": (lines, text + 44 * lines),
        "keep_lines": (lines, 78 * lines),
        "chrom_runs": (lines, 10 * lines),
        "find_names": (n["find_names"], (48 + 2 * BARCODE_LENGTH) * n["find_names"]),
        "first_names": (n["first_names"], 25 * n["first_names"]),
        "keep_names": (n["keep_names"], n["keep_names"] + (56 + 2 * BARCODE_LENGTH) * n_keys["new_names"]),
        "place_names": (n["place_names"], (32 + BARCODE_LENGTH) * n["place_names"]),
        "add_totals": (n["add_totals"], 35 * n["add_totals"]),
        "tile_cut_keys": (n["tile_cut_keys"], 28 * n["tile_cut_keys"]),
        "tile_span_sizes": (n["tile_span_sizes"], 16 * n["tile_span_sizes"]),
        "tile_span_keys": (n["tile_span_keys"], 20 * n["tile_span_keys"] + 8 * n_keys["tile_span_keys"]),
        "region_hit_sizes": (n["region_hit_sizes"], 16 * n["region_hit_sizes"]),
        "region_hit_keys": (n["region_hit_keys"], 20 * n["region_hit_keys"] + 8 * n_keys["region_hit_keys"]),
        "overlap_any": (n["overlap_any"], 12 * n["overlap_any"] + 8 * n_keys["overlap_any"]),
        "tss_counts": (n["tss_counts"], 12 * n["tss_counts"]),
        "length_histogram": (n["length_histogram"], 12 * n["length_histogram"]),
        "length_classes": (n["length_classes"], 20 * n["length_classes"]),
        "quality": (n["quality"], 20 * n["quality"] + 8 * n_keys["quality"]),
        "row_sums": (n["row_sums"], 12 * n["row_sums"]),
    }
    indptr, indices = calls["copy_rows"][1][0], calls["copy_rows"][1][1]
    out["copy_rows"] = (int(indices.size), 16 * int(indices.size) + 24 * int(indptr.size))
    indptr, indices = calls["group_keys"][1][0], calls["group_keys"][1][1]
    out["group_keys"] = (int(indices.size), 12 * int(indices.size) + 8 * int(indptr.size))
    indptr, data = calls["scale_rows"][1][:2]
    out["scale_rows"] = (int(data.size), 16 * int(data.size) + 16 * int(indptr.size))
    k = int(calls["shared_neighbors"][1][3])
    out["shared_neighbors"] = (n["shared_neighbors"], (8 + 4 * (k + 1)) * n["shared_neighbors"])
    out |= peak_traffic(calls, n_keys)
    values = calls["segment_max"][1][0]
    out["segment_max"] = (int(values.size), 12 * int(values.size) + 12 * n["segment_max"])
    return out


def peak_traffic(calls: dict[str, tuple], n_keys: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The same for the kernels of pileups and peaks."""
    given = {
        name: dict(zip((a.name for a in kernel.arguments), calls[name][1], strict=True))
        for name, kernel in launch.kernels().items()
        if kernel.file in ("segments", "poisson", "summits")
    }
    ends = 2 * given["merge_ends"]["n"]
    intervals = int(given["add_segment_lengths"]["opens"].size)
    slots, above = int(given["add_segment_lengths"]["key"].size), int(given["region_signal"]["t"].size)
    bases, chunks = int(given["region_signal"]["signal"].size), given["region_signal"]["n_chunks"]
    maxima, regions = given["find_valleys"]["n_maxima"], given["write_summits"]["n_regions"]
    pairs = given["poisson_scores"]["n"]
    return {
        "merge_ends": (ends, 8 * ends),
        "count_segments_above": (intervals, 16 * intervals),
        "write_segments_above": (intervals, 16 * intervals + 20 * above),
        "add_segment_lengths": (intervals, 16 * intervals + 16 * slots),
        "poisson_scores": (pairs, 24 * pairs),
        "region_signal": (bases, 4 * bases + 12 * above),
        "region_maxima": (bases, 4 * bases + 8 * chunks),
        "list_maxima": (chunks, 16 * chunks + 12 * maxima),
        "find_valleys": (maxima, 20 * maxima + 4 * bases),
        "find_subpeaks": (maxima, 24 * maxima + 4 * bases),
        "write_summits": (regions, 40 * regions + 28 * n_keys["summits"]),
    }


def run_peaks(xp, n: int, start, end, row, recorder: Recorder) -> int:
    """Both passes over cuts of N_GROUPS groups, and the scores of all pairs; the number of summits.

    The cutoff stands three standard deviations above the mean pileup, so that a few per cent of the bases are above it.
    """
    from gpuatac.backend.gpu.peaks.calling import Peaks
    from gpuatac.backend.gpu.tracks.pileup import Pileup
    from gpuatac.backend.protocol import Cutoffs, Geometry

    group = (row % N_GROUPS).astype(np.int32)
    ends = Pileup(xp, recorder).group_ends(start, end, group, n_groups=N_GROUPS)
    geometry, peaks = Geometry(), Peaks(xp, recorder)
    lengths = peaks.segment_lengths([lambda: ends], geometry)
    peaks.poisson_scores(lengths.t, np.maximum(lengths.n * 0.02, 0.1).astype(np.float32).astype(np.float64))
    mean = 2 * n * geometry.extsize / N_GROUPS / SIZE
    table = np.full(N_GROUPS * (int(lengths.n.max()) + 1), np.ceil(mean + 3 * mean**0.5), np.int32)
    cutoffs = Cutoffs(np.arange(N_GROUPS + 1) * (int(lengths.n.max()) + 1), table)
    (found,) = peaks.summits([lambda: ends], geometry, cutoffs, max_gap=30, min_length=200, subpeaks=True)
    return int(found.summit.size)


def run_every_kernel(xp, sparse, n: int, recorder: Recorder) -> dict[str, int]:
    """Call the wrappers once on data of a usual shape; the number of keys that some kernels write."""
    from gpuatac.backend.gpu.arrays import Arrays
    from gpuatac.backend.gpu.counting.counts import Counting
    from gpuatac.backend.gpu.embedding.graph import Graph
    from gpuatac.backend.gpu.reading.parsing import Parsing

    start, end, row = fragments(xp, n)
    parsing = Parsing(xp, recorder)
    known, table = parsing.chromosomes([b"chr1"], np.array([0]), np.array([SIZE])), parsing.barcodes(np.zeros(1, bool))
    block, part = (parsing.parse_block(fragment_text(n // lines), known, bulk=False) for lines in (10, 40))
    table.add(part)
    new_names = table.totals().n
    table.add(block)  # the table grows
    for name in ("find_names", "first_names"):  # run again they must find the table as it is then
        recorder.calls.pop(name)
    table.add(block)
    counting = Counting(xp, recorder)
    n_bins = -(-SIZE // BIN)
    tiles = [
        counting.tile_counts(start, end, row, n_rows=N_CELLS, bin_size=BIN, n_bins=n_bins, strategy=strategy)
        for strategy in ("insertion", "fragment")
    ]
    rng = np.random.default_rng(2)
    edge = np.sort(rng.choice(SIZE // 100, 2 * N_REGIONS, replace=False)).astype(np.int32) * 100
    regions = {"region_start": xp.asarray(edge[::2].copy()), "region_end": xp.asarray(edge[1::2].copy())}
    counts = counting.region_counts(start, end, row, n_rows=N_CELLS, strategy="paired-insertion", **regions)
    hits = counting.overlap_any(start, end, row, n_rows=N_CELLS, as_insertion=False, **regions)
    tss = xp.asarray(np.sort(rng.integers(0, SIZE, 3_000)).astype(np.int32))
    counting.tss_counts(
        start, end, row, n_rows=N_CELLS, tss=tss, reverse=tss % 2 == 0, window=WINDOW, half_center=5, edge=100
    )
    counting.length_histogram(start, end, row, max_length=1_000)
    counting.length_classes(start, end, row, n_rows=N_CELLS, bounds=(147, 294))
    quality = counting.quality(
        start,
        end,
        row,
        n_rows=N_CELLS,
        max_length=1_000,
        bounds=(147, 294),
        tss=tss,
        reverse=tss % 2 == 0,
        window=WINDOW,
        half_center=5,
        edge=100,
        regions=[tuple(regions.values()), (tss[:0], tss[:0])],
    )
    counting.row_sums(row, None, n_rows=N_CELLS)
    counting.hstack(list(tiles), [n_bins, n_bins])  # it empties the list
    group = xp.asarray(rng.integers(0, 2_000, N_REGIONS).astype(np.int32))
    counting.max_over_groups(counts, group, n_groups=2_000)
    arrays = Arrays(xp, sparse, recorder)
    matrix = arrays.csr(counts, (N_CELLS, N_REGIONS)).astype(np.float64)
    arrays.scale_rows(matrix, xp.ones(N_CELLS, np.float64))
    n_points = max(n // 50, 20 * K + 1)
    step = 1 + rng.permutation(20 * K)[:K]  # one pattern for all: distinct neighbours, none the point itself
    neighbours = (np.arange(n_points)[:, None] + step) % n_points
    Graph(xp, recorder).shared_neighbors(xp.asarray(neighbours.astype(np.int32)))
    return {
        "tile_span_keys": int(tiles[1].data.sum()),
        "region_hit_keys": int(counts.data.sum()),
        "overlap_any": int(hits.sum()),
        "quality": int(quality.in_regions.sum()),
        "summits": run_peaks(xp, n, start, end, row, recorder),
        "new_names": new_names,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=50.0, help="fragments, in millions (text: a tenth of it)")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    problem = gpu_problem()
    if problem:
        sys.exit(f"gpu_kernels.py times kernels on a GPU, and none can be used: {problem}.")
    if "RESULTS" not in os.environ:
        sys.exit("gpu_kernels.py: RESULTS is not set; set it to the folder that the CSV is to be written to.")
    folder = Path(os.environ["RESULTS"])
    folder.mkdir(parents=True, exist_ok=True)
    import cupy
    import cupyx.scipy.sparse

    from gpuatac.backend import get

    get("gpu")  # sets up the memory pool
    recorder = Recorder(launch.CudaLauncher(cupy))
    n_keys = run_every_kernel(cupy, cupyx.scipy.sparse, int(arguments.millions * 1e6), recorder)
    assert set(recorder.calls) == set(launch.kernels()), "a kernel is not timed"

    gpu = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode().replace(" ", "-")
    path = folder / f"gpu_kernels-{gpu}-{commit()}.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        for row in timings(cupy, recorder, n_keys, arguments.repeats):
            writer.writerow([row[0], row[1], row[2], *(f"{value:.4g}" for value in row[3:])])
            out.flush()
            print(f"{row[0]:18} {row[3]:9.3f} ms {row[6]:9.1f} GB/s {row[7]:7.1%}", flush=True)
            record("kernel", name=row[0], ms=row[3], gb_per_s=row[6], share=row[7])
    print(f"written: {path}")


def timings(cupy, recorder: Recorder, n_keys: dict[str, int], repeats: int) -> Iterator[tuple]:
    """The copy, then each kernel: its line of the table, as soon as it was timed."""
    copy_ms = float(np.median(copy_milliseconds(cupy, COPY_BYTES, repeats)))
    copy_rate = 2 * COPY_BYTES / copy_ms / 1e6
    yield "copy", COPY_BYTES, 2 * COPY_BYTES, copy_ms, copy_ms, copy_ms, copy_rate, 1.0
    for name, (items, n_bytes) in traffic(recorder.calls, n_keys).items():
        n_threads, values, shared_bytes = recorder.calls[name]

        def work(name=name, n_threads=n_threads, values=values, shared_bytes=shared_bytes):
            recorder.launcher(name, n_threads, *values, shared_bytes=shared_bytes)

        # copy_rows moves its cursor with each call, so that a second one would write past the rows
        cursor = values[5].copy() if name == "copy_rows" else None
        if cursor is not None:
            first = cursor - cupy.diff(values[0])

            def work(first=first, values=values, n_threads=n_threads):
                recorder.launcher("copy_rows", n_threads, *values[:5], first.copy(), *values[6:])

        p20, median, p80 = (float(t) for t in np.percentile(milliseconds(cupy, work, repeats), [20, 50, 80]))
        rate = n_bytes / median / 1e6
        yield name, items, n_bytes, median, p20, p80, rate, rate / copy_rate


if __name__ == "__main__":
    main()
