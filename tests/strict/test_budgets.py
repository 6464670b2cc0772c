"""Budgets of the GPU side, counted on the stand-in: transfers, bytes, and what a GPU does badly.

A budget is what is taken now, with little to spare. Whoever comes below one lowers it here.
"""

from __future__ import annotations

import numpy as np
import pytest

import gpuatac as ga
from gpuatac.io.files.bgzf import BgzfWriter
from gpuatac.io.fragments import text

from .main_job import STEPS, main_job

TOY = ga.Genome("toy", {"chr1": 50_000_000, "chr2": 30_000_000, "chrM": 16_000})

# ---------------------------------------------------------------------------------------- transfers of a block

#: Transfers of a block of text. The second number is what it was when barcodes came to the host with each block.
PER_BLOCK = {"sorted": (4, 27.7), "any order": (5, 33.0), "unknown chromosomes": (8, 42.0)}


def lines(kind: str, n: int) -> bytes:
    rng = np.random.default_rng(n)
    chrom = rng.choice(["chr1", "chr2", "chrM", "chrUn"][: 4 if kind == "unknown chromosomes" else 3], n)
    start = np.where(chrom == "chrM", rng.integers(0, 15_000, n), rng.integers(0, 29_000_000, n))
    if kind == "sorted":
        order = np.lexsort((start, chrom))
        chrom, start = chrom[order], start[order]
    barcode = rng.integers(0, 500, n).tolist()
    columns = zip(chrom.tolist(), start.tolist(), barcode, strict=True)
    return "".join(f"{c}\t{s}\t{s + 200}\tAC{b:06}-1\t2\n" for c, s, b in columns).encode()


@pytest.mark.parametrize("kind", PER_BLOCK)
def test_a_block_of_text_takes_a_few_transfers_whatever_its_size(strict, tmp_path, monkeypatch, kind):
    monkeypatch.setitem(text.BLOCK_BYTES, "gpu", 100_000)
    monkeypatch.setattr(text, "LEAST_BLOCK", 1)
    blocks = []
    plain = text.line_blocks
    monkeypatch.setattr(text, "line_blocks", lambda *a, **k: (blocks.append(1) or b for b in plain(*a, **k)))
    taken = []
    for n in (20_000, 60_000):
        with BgzfWriter(tmp_path / f"{n}.tsv.gz") as out:
            out.write(lines(kind, n))
        blocks.clear()
        strict.ledger.reset()
        ga.io.read_fragments(tmp_path / f"{n}.tsv.gz", TOY, device="gpu")
        taken.append((len(blocks), strict.ledger.crossings()))
    (few, a), (many, b) = taken
    assert many > 2 * few > 8
    now, before = PER_BLOCK[kind]
    assert b - a == now * (many - few)
    assert 5 * now <= before


# -------------------------------------------------------------------------------- transfers and bytes of the steps

#: Transfers of a step: once, for each of the 25 chromosomes, and for each turn of the eigen-solver (25 of a block of 8).
ONCE, PER_CHROMOSOME = 20, 2
CROSSINGS = {}


def test_show(strict, sample):
    for step, adata in main_job(strict.ledger, sample, ga.Genome.builtin("hg38")):
        print(step, adata.shape)
        print(strict.ledger.table(6))
    assert 0
