"""Memory of neighbours and doublets does not grow with the cells, and libraries are imported beside the reading: on the stand-in."""

from __future__ import annotations

import sys
import threading

import numpy as np

from gpuatac.backend.gpu import libraries
from gpuatac.core.embedding import doublets

# ------------------------------------------------------------------------------------------ blocks of neighbours


def peak_of_neighbours(strict, n: int, k: int) -> int:
    """Bytes beside the points while the neighbours of ``n`` points are counted."""
    points = strict.backend.asarray(np.random.default_rng(n).standard_normal((n, 6)))
    strict.ledger.reset()
    before = strict.ledger.live
    near = sum(int(indices.shape[0]) for _, indices, _ in strict.backend.graph.neighbour_blocks(points, k))
    assert near == n
    return strict.ledger.peak - before


def test_neighbours_of_more_points_take_no_more_than_a_block(strict, monkeypatch):
    budget = 2 << 20
    monkeypatch.setattr(strict.backend.graph, "_block_bytes", budget)
    of_points = 6 * (8 + 4 + 8)  # centred copies of a point
    peaks = [peak_of_neighbours(strict, n, 60) for n in (1_000, 2_000, 4_000)]
    assert [peak < budget + of_points * n for peak, n in zip(peaks, (1_000, 2_000, 4_000), strict=True)] == [True] * 3
    assert min(peaks) > budget // 8  # a block is full


def test_points_all_at_one_place_take_no_more_than_a_block(strict, monkeypatch):
    budget = 2 << 20
    monkeypatch.setattr(strict.backend.graph, "_block_bytes", budget)
    points = strict.backend.asarray(np.ones((3_000, 4)))
    strict.ledger.reset()
    before = strict.ledger.live
    for low, indices, _ in strict.backend.graph.neighbour_blocks(points, 5):
        first = indices.get()[:7]
        if low == 0:
            assert first.tolist() == [[j for j in range(6) if j != i][:5] for i in range(7)]
    assert strict.ledger.peak - before < budget + 3_000 * 4 * (8 + 4 + 8)


def test_doublets_of_more_cells_take_no_more_than_a_block(strict, monkeypatch):
    budget = 1 << 20
    monkeypatch.setattr(strict.backend.graph, "_block_bytes", budget)
    for n in (600, 1_200):
        points = strict.backend.asarray(np.random.default_rng(n).standard_normal((3 * n, 5)))
        strict.ledger.reset()
        before = strict.ledger.live
        observed, simulated = doublets.scores(strict.backend, points, n, expected_rate=0.1)
        assert (observed.size, simulated.size) == (n, 2 * n)
        assert strict.ledger.peak - before < budget + 3 * n * (5 * 20 + 8 + 8)


# ---------------------------------------------------------------------------------------------------- imports


def test_libraries_of_later_steps_are_imported_beside_what_goes_on(strict, tmp_path, monkeypatch):
    (tmp_path / "wanted_later.py").write_text("import threading\nthread = threading.current_thread().name\n")
    (tmp_path / "broken_later.py").write_text("raise ImportError('no driver')\n")
    monkeypatch.syspath_prepend(tmp_path)
    began = []
    thread = libraries.load_ahead(("absent_later", "broken_later", "wanted_later"), lambda: began.append(1))
    thread.join()
    assert began == [1]
    assert sys.modules.pop("wanted_later").thread == thread.name == "gpuatac-imports"
    assert "broken_later" not in sys.modules
    assert set(libraries.LATER) >= {"cuml.manifold", "pylibcugraph"}
    strict.backend.load_ahead()
    next((t for t in threading.enumerate() if t.name == "gpuatac-imports"), thread).join()
