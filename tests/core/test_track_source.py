"""How dense reads lie, which models of any depth go by."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from gpuatac.core.track_source import HUMAN, denser
from gpuatac.genome import Genome


def source(size: int, depth, held=None):
    made = SimpleNamespace(
        genome=Genome("toy", {"chr1": size}), groups=["a"] * len(depth), depth=np.array(depth, float)
    )
    if held is not None:
        made.cuts_held = np.array(held, float)
    return made


def test_reads_of_a_small_genome_lie_as_dense_as_those_of_a_deep_human_library():
    yeast = source(12_000_000, [1e6, 2e6], [1e6, 2e6])
    np.testing.assert_allclose(denser(yeast), HUMAN / 12e6)


def test_large_genomes_are_human_ones():
    mouse = source(2_000_000_000, [1e6], [1e6])
    np.testing.assert_array_equal(denser(mouse), [1.0])


def test_a_part_of_a_large_genome_is_as_dense_as_the_whole():
    """10 Mb that hold their share of a library of 5 M reads, on chromosomes cut to 10 Mb, or as long as they are."""
    share = 5e6 * 10e6 / HUMAN
    np.testing.assert_array_equal(denser(source(10_000_000, [5e6], [1.5 * share])), [1.0])
    np.testing.assert_array_equal(denser(source(248_000_000, [5e6], [share])), [1.0])


def test_what_is_not_known_counts_as_large():
    np.testing.assert_array_equal(denser(source(1_000_000, [1e6, 0])), [1.0, 1.0])
    np.testing.assert_array_equal(denser(source(1_000_000, [0.0], [0.0])), [1.0])
