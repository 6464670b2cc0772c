"""Cuts matched to fragments."""

from __future__ import annotations

import numpy as np

from gpuatac.core.tracks.cut_pairs import LENGTHS, TOLERANCES, fragments_of, partners


def test_every_cut_has_one_partner_at_most_and_lengths_are_those_of_fragments():
    rng = np.random.default_rng(0)
    position = np.sort(rng.integers(0, 200_000, 8_000))
    fragment = partners(position, seed=1)
    order = np.argsort(fragment, kind="stable")
    number, first, times = np.unique(fragment[order], return_index=True, return_counts=True)
    assert times.max() == 2
    twice = first[times == 2]
    length = position[order][twice + 1] - position[order][twice]
    assert (length > 0).all()
    assert length.max() <= LENGTHS[-1] + TOLERANCES[-1]
    assert 2 * twice.size > 0.9 * position.size
    assert number.size == twice.size + (times == 1).sum()


def test_lone_cuts_stand_alone():
    position = np.array([0, 100_000, 200_000])
    np.testing.assert_array_equal(partners(position), [0, 1, 2])
    assert partners(np.zeros(0, np.int64)).size == 0


def test_the_same_seed_gives_the_same_fragments():
    position = np.sort(np.random.default_rng(1).integers(0, 5_000, 500))
    np.testing.assert_array_equal(partners(position, seed=3), partners(position, seed=3))
    assert not np.array_equal(partners(position, seed=3), partners(position, seed=4))


def test_lengths_follow_their_quantiles_where_cuts_are_dense():
    position = np.sort(np.random.default_rng(2).integers(0, 100_000, 40_000))
    fragment = partners(position)
    order = np.argsort(fragment, kind="stable")
    same = np.flatnonzero(np.diff(fragment[order]) == 0)
    length = position[order][same + 1] - position[order][same]
    middle = np.median(length)
    assert LENGTHS[3] < middle < LENGTHS[5]


def test_counts_and_fragments_go_together(bk):
    position, count = np.array([10, 60, 5_000]), np.array([2, 1, 1], np.int32)
    before, fragment = (bk.to_host(a) for a in fragments_of(bk, bk.asarray(position), bk.asarray(count)))
    np.testing.assert_array_equal(before, [0, 2, 3, 4])
    np.testing.assert_array_equal(fragment, partners(np.array([10, 10, 60, 5_000])))
