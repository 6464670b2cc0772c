"""The benchmark of the networks runs on a CPU, small, and writes what it measured."""

from __future__ import annotations

import csv
import importlib
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the denoiser needs PyTorch (extra nn)")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of this copy", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
benchmark = importlib.import_module("denoiser_forward")


def test_benchmark_times_every_variant_beside_the_plain_network(tmp_path, monkeypatch, capsys):
    n_threads = torch.get_num_threads()
    arguments = ["--mb", "0.004", "--repeats", "1", "--threads", "1", "--device", "cpu", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["denoiser_forward.py", *arguments])
    monkeypatch.setitem(benchmark.TRAINING, "cpu", (1, 400))
    try:
        benchmark.main()
    finally:
        torch.set_num_threads(n_threads)
    assert "| published, fast, float32 |" in capsys.readouterr().out
    (table,) = tmp_path.glob("denoiser_forward-*.csv")
    with table.open() as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert len(rows) == 8
    assert float(rows[benchmark.PLAIN]["ratio_wall"]) == 1
    assert float(rows["published, fast, float32"]["difference"]) <= 1e-5
    assert 1e-5 < float(rows["published, fast, bfloat16"]["difference"]) < 0.05
    assert all(float(row["wall_s_per_mb"]) > 0 for row in rows.values())


def test_flop_count_is_that_of_the_published_network():
    model = benchmark.make_model("denoising_resnet")
    assert benchmark.flop_per_base(model) == 2 * 219_615


def test_share_of_peak_is_of_the_type_and_the_gpu():
    variant = benchmark.Variant("one", lambda: None, 10**6, "one", 989e12, 2)
    (found,) = benchmark.figures([benchmark.Row(variant, 4.0, 4.0, 0.0)], "NVIDIA H200")
    assert found["share_of_peak"] == pytest.approx(0.25)
    assert found["s_per_3.1_gb"] == pytest.approx(12_400)
    (unknown,) = benchmark.figures([benchmark.Row(variant, 4.0, 4.0, 0.0)], "another")
    assert unknown["share_of_peak"] is None
