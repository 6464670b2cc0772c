"""The denoising networks: seconds of a forward pass and of a training step, plain and fast, in one process.

    denoiser_forward.py [--mb 1] [--threads 2] [--repeats 3] [--compiled] [--results FOLDER]

Models are the published residual network with its default options, plain (layer by layer on single bases, as it was published) and
on interleaved tracks, and the multiscale one; weights are random, input is Poisson. Variants take turns, so that a busy
machine is as busy for all; medians are given. ``ratio`` is the plain float32 time by a variant's, wall (and CPU where there
is no GPU); ``difference`` is max |d| / max |plain| of the signal. TFLOP/s count the published network's own 439 kFLOP per base, and
three times as many in a training step, whatever a variant really computes; a share is of the peak that the maker states for
dense products of that type. On a GPU the variants also are TF32, bfloat16 with other numbers of rows in one,
``torch.compile`` and CUDA graphs; the column ``s per 3.1 Gb`` extrapolates to a human genome.

Written: ``denoiser_forward-<machine>-<commit>.csv`` and ``.md``.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).parent))
import vs_snapatac2 as bench
from recording import record

from gpuatac.nn.checkpoints import make_model
from gpuatac.nn.contract import Batch, LossWeights
from gpuatac.nn.cuda_graphs import captured
from gpuatac.nn.denoising.networks.interleaved import Interleaved, Stacks
from gpuatac.nn.denoising.networks.layers import CoverageModel

if TYPE_CHECKING:
    from collections.abc import Callable

GENOME = 3.1e9  # bp
TILE = {"cpu": 1 << 17, "cuda": 1 << 22}  # bp
TRAINING = {"cpu": (2, 50_000), "cuda": (64, 50_000)}  # intervals and their bp
PLAIN = "published, plain, float32"
STEP = "training step, plain, float32"
#: TFLOP/s of dense products, by a part of the GPU's name: float32, TF32, bfloat16.
PEAKS = {"H200": (67, 495, 989), "H100": (67, 495, 989), "A100": (19.5, 156, 312), "L40S": (91.6, 183, 362)}
COLUMNS = ("variant", "wall_s_per_mb", "cpu_s_per_mb", "ratio_wall", "ratio_cpu", "difference", "s_per_3.1_gb")
COLUMNS += ("tflop_per_s", "share_of_peak", "repeats", "threads", "device", "torch")


class Variant(NamedTuple):
    """Something to time."""

    name: str
    run: Callable[[], torch.Tensor | None]
    bases: int
    of: str  # the variant that it is compared with
    flop: float  # the published network's, 0: not counted
    kind: int | None = None  # place in PEAKS


class Row(NamedTuple):
    """Medians of one variant."""

    variant: Variant
    wall: float
    cpu: float
    difference: float


def flop_per_base(model: torch.nn.Module) -> float:
    """Two for each weight of a convolution."""
    return 2.0 * sum(p.numel() for p in model.parameters() if p.ndim == 3)


def forward_variants(device: torch.device, bases: int, compiled: bool) -> list[Variant]:
    """Every way of computing ``bases`` bases of one track."""
    torch.manual_seed(0)
    model = make_model("denoising_resnet").to(device).eval()
    model.regressor.conv_layer.weight.data.abs_()  # so that there is a signal
    cells = 1 if device.type == "cpu" else max(1, bases // TILE[device.type])
    tile = min(bases, TILE[device.type]) // model.align * model.align
    x = torch.poisson(torch.full((cells, 1, tile + 2 * model.halo), 0.3)).to(device)
    tiles = [x] if cells > 1 else [x] * max(1, bases // tile)
    done = sum(t.shape[0] for t in tiles) * tile
    flop = flop_per_base(model) * done

    def repeated(outputs: Callable[[torch.Tensor], tuple]) -> Callable[[], torch.Tensor]:
        return lambda: [outputs(t)[0] for t in tiles][-1]

    def predict(narrow: bool, call: Callable | None = None) -> Callable[[torch.Tensor], tuple]:
        depth = torch.ones(cells, device=device)
        call = call or model.predict

        def one(t: torch.Tensor) -> tuple:
            with torch.autocast(device.type, torch.bfloat16, enabled=narrow, cache_enabled=False):
                return call(t, depth)

        return one

    def variant(name: str, outputs: Callable, kind: int, of: str = PLAIN) -> Variant:
        return Variant(name, repeated(outputs), done, of, flop, kind)

    out = [
        variant(PLAIN, lambda t: CoverageModel.outputs(model, t), 0),
        variant("published, fast, float32", predict(narrow=False), 0),
        variant("published, fast, bfloat16", predict(narrow=True), 2),
    ]
    if device.type == "cuda":
        out.append(variant("published, fast, TF32", with_tf32(predict(narrow=False)), 1))
        for rows in (1, 2, 4, 5, 8, 10):
            net = Interleaved(model, torch.bfloat16, Stacks(rows, rows))
            out.append(variant(f"published, bfloat16, {rows} rows in one", lambda t, n=net: n(t, model.halo), 2))
        graph = captured(model, device, "graph")
        out.append(variant("published, fast, bfloat16, CUDA graph", predict(narrow=True, call=graph), 2))
    if compiled:
        code = captured(model, device, "compile")
        out.append(variant("published, fast, bfloat16, compiled", predict(narrow=True, call=code), 2))
    return out + multiscale_variants(device, cells, tile, len(tiles))


def with_tf32(outputs: Callable) -> Callable:
    def one(t: torch.Tensor) -> tuple:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            return outputs(t)

    return one


def multiscale_variants(device: torch.device, cells: int, tile: int, n_tiles: int) -> list[Variant]:
    """The project's own model over the same bases."""
    torch.manual_seed(0)
    model = make_model("multiscale").to(device).eval()
    tile = max(1, tile // model.align) * model.align
    cuts = torch.poisson(torch.full((cells, 1, (tile + 2 * model.halo) // model.bin_size), 0.02)).to(device)
    depth = torch.full((cells,), 5e6, device=device)

    def runs(narrow: bool, call: Callable) -> Callable:
        def run() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=narrow, cache_enabled=False):
                for _ in range(n_tiles):
                    call(cuts, depth)

        return run

    calls = [("float32", False, model.predict), ("bfloat16", True, model.predict)]
    if device.type == "cuda":
        calls.append(("bfloat16, CUDA graph", True, captured(model, device, "graph")))
    return [
        Variant(f"multiscale, {name}", runs(narrow, call), cells * tile * n_tiles, PLAIN, 0.0)
        for name, narrow, call in calls
    ]


def training_variants(device: torch.device) -> list[Variant]:
    """One step of Adam on the published loss."""
    n, length = TRAINING[device.type]
    out = []
    for name, plain, narrow in (
        (STEP, True, False),
        ("training step, fast, float32", False, False),
        ("training step, fast, bfloat16", False, True),
    ):
        torch.manual_seed(0)
        model = make_model("denoising_resnet").to(device).train()
        if plain:
            model.outputs = lambda t, model=model: CoverageModel.outputs(model, t)
        x = torch.poisson(torch.full((n, 1, length + 2 * model.halo), 0.3)).to(device)
        clean = 16 * x[:, 0, model.halo : -model.halo]
        batch = Batch(clean, (clean > 16).float(), torch.ones_like(clean))
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-4)

        def run(model=model, x=x, batch=batch, optimiser=optimiser, narrow=narrow) -> None:
            with torch.enable_grad():
                optimiser.zero_grad()
                with torch.autocast(device.type, torch.bfloat16, enabled=narrow):
                    model.loss(x, torch.ones(n, device=device), batch, LossWeights()).total.backward()
                optimiser.step()

        flop = 3 * flop_per_base(model) * n * length
        out.append(Variant(name, run, n * length, STEP, flop, 2 if narrow else 0))
    return out


def timed(variants: list[Variant], device: torch.device, repeats: int) -> list[Row]:
    """Medians over ``repeats`` rounds in which every variant has its turn, after one that is not counted."""

    def once(variant: Variant) -> tuple[float, float, torch.Tensor | None]:
        wall, cpu = time.perf_counter(), time.process_time()
        out = variant.run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - wall, time.process_time() - cpu, out

    signals, times = {}, {v.name: [] for v in variants}
    for i in range(repeats + 1):
        for variant in variants:
            wall, cpu, out = once(variant)
            if i:
                times[variant.name].append((wall, cpu))
            elif out is not None:
                signals[variant.name] = out.float().cpu()
    rows = []
    for variant in variants:
        wall, cpu = (statistics.median(x) for x in zip(*times[variant.name], strict=True))
        difference = float("nan")
        if variant.name in signals:
            plain = signals[variant.of]
            difference = float((signals[variant.name] - plain).abs().max() / plain.abs().max())
        rows.append(Row(variant, wall, cpu, difference))
    return rows


def figures(rows: list[Row], gpu: str) -> list[dict]:
    """What is written of each variant, by column."""
    by_name = {row.variant.name: row for row in rows}
    peaks = next((numbers for name, numbers in PEAKS.items() if name in gpu), None)
    out = []
    for row in rows:
        v, plain = row.variant, by_name[row.variant.of]
        per_base = row.wall / v.bases
        rate = v.flop / row.wall / 1e12 if v.flop else None
        out.append({
            "variant": v.name,
            "wall_s_per_mb": per_base * 1e6,
            "cpu_s_per_mb": row.cpu / v.bases * 1e6,
            "ratio_wall": plain.wall / plain.variant.bases / per_base,
            "ratio_cpu": plain.cpu / plain.variant.bases / (row.cpu / v.bases),
            "difference": row.difference,
            "s_per_3.1_gb": per_base * GENOME,
            "tflop_per_s": rate,
            "share_of_peak": rate / peaks[v.kind] if rate and peaks else None,
        })  # fmt: skip
    return out


def shown(value: float | str | None) -> str:
    if value is None or value != value:  # NaN
        return ""
    return value if isinstance(value, str) else f"{value:.3g}" if abs(value) < 1e4 else f"{value:.0f}"


def lines_of(table: list[dict], title: str, *, on_gpu: bool) -> list[str]:
    """A Markdown table, without the columns that mean nothing on the device."""
    hidden = {"cpu_s_per_mb", "ratio_cpu"} if on_gpu else {"share_of_peak"}
    columns = [c for c in table[0] if c not in hidden]
    head = f"| {' | '.join(c.replace('_', ' ') for c in columns)} |"
    rows = [f"| {' | '.join(shown(row[c]) for c in columns)} |" for row in table]
    return [f"# {title}", "", head, f"|---|{'---:|' * (len(columns) - 1)}", *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=float, help="million bases of a forward pass (default: 1, on a GPU 32)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compiled", action="store_true", help="also torch.compile, which takes a minute to compile")
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--results", type=Path, default=bench.ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    gpu = torch.cuda.get_device_name(device) if on_gpu else ""
    bases = int((args.mb or (32 if on_gpu else 1)) * 1e6)
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
    with exact, torch.no_grad():
        rows = timed(forward_variants(device, bases, args.compiled), device, args.repeats)
        if not args.no_training:
            rows += timed(training_variants(device), device, args.repeats)
    table = figures(rows, gpu)
    for row in table:
        record("network", **row)
    where = f"{gpu or bench.machine()}, commit {bench.commit()}, {args.threads} threads, median of {args.repeats}"
    lines = lines_of(table, f"Denoising networks: {where}", on_gpu=on_gpu)
    print("\n".join(lines))
    path = bench.stem(args.results, f"denoiser_forward{'-' + gpu.replace(' ', '-') if gpu else ''}")
    path.with_name(path.name + ".md").write_text("\n".join(lines) + "\n")
    with path.with_name(path.name + ".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        shared = {"repeats": args.repeats, "threads": args.threads, "device": gpu or "cpu", "torch": torch.__version__}
        writer.writerows({k: v if isinstance(v, str) else shown(v) for k, v in row.items()} | shared for row in table)
    print(f"written: {path.name}.csv and .md (load {os.getloadavg()[0]:.1f})")


if __name__ == "__main__":
    main()
