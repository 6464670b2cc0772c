"""Errors say what was found, what is allowed and what to do; checks at the door raise them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from gpuatac import check, errors
from gpuatac.errors import (
    DeviceUnavailableError,
    FileFormatError,
    GpuatacError,
    InputError,
    MissingFileError,
    MissingSlotError,
    OutputExistsError,
)

ERRORS = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == "gpuatac.errors"]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_a_gpuatac_error_and_documented(error):
    assert issubclass(error, GpuatacError)
    assert error.__doc__


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (InputError, ValueError),
        (FileFormatError, InputError),
        (MissingFileError, FileNotFoundError),
        (OutputExistsError, FileExistsError),
        (MissingSlotError, KeyError),
        (DeviceUnavailableError, RuntimeError),
    ],
)
def test_errors_can_be_caught_as_the_builtin_they_specialise(error, builtin):
    assert issubclass(error, builtin)


@pytest.mark.parametrize(
    ("place", "where"),
    [({"line": 7}, ", line 7"), ({"offset": 4096}, ", byte offset 4096"), ({"offset": 0}, ", byte offset 0"), ({}, "")],
)
def test_file_error_names_file_place_and_its_three_parts(place, where):
    error = FileFormatError("a.tsv", "a letter", "a number", "correct the line", **place)
    assert str(error) == f"a.tsv{where}: found a letter; allowed: a number; correct the line."
    assert (error.path, error.line, error.offset) == ("a.tsv", place.get("line"), place.get("offset"))


def test_missing_slot_message_is_not_quoted_as_other_key_errors_are():
    assert str(MissingSlotError("adata.obs has no 'tsse'; call metrics.tsse first.")) == (
        "adata.obs has no 'tsse'; call metrics.tsse first."
    )
    assert str(MissingSlotError()) == ""


@pytest.mark.parametrize("value", [1, 5, 9, 1.0, np.int32(3), np.float32(2.5)])
def test_between_takes_both_bounds(value):
    check.between("n_comps", value, 1, 9)


@pytest.mark.parametrize("value", [0, 10, -1, 0.999, float("nan"), float("inf")])
def test_between_refuses_what_lies_outside_and_what_is_no_number(value):
    with pytest.raises(InputError, match=r"n_comps must be in \[1, 9\], got "):
        check.between("n_comps", value, 1, 9)


def test_between_without_upper_bound_says_at_least():
    with pytest.raises(InputError, match=r"^min_tsse must be at least 0, got -2\.$"):
        check.between("min_tsse", -2, 0)


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.uint8(3), np.float64(3)])
def test_integer_returns_a_python_int(value):
    got = check.integer("k", value, 0)
    assert (got, type(got)) == (3, int)


@pytest.mark.parametrize(
    "value",
    [True, False, np.True_, 2.5, np.float64("nan"), "3", "abc", None, float("nan"), float("inf"), [3], {}, b"3", 1 + 0j],
    ids=repr,
)
def test_integer_refuses_what_is_no_whole_number_with_our_own_error(value):
    with pytest.raises(InputError, match="k must be a whole number, got "):
        check.integer("k", value, 0)


def test_integer_keeps_the_bounds():
    with pytest.raises(InputError, match=r"k must be in \[1, 5\], got 6"):
        check.integer("k", 6, 1, 5)
    with pytest.raises(InputError, match=r"k must be at least 1, got 0"):
        check.integer("k", 0, 1)
    assert check.integer("k", 2**70, 0) == 2**70


def test_one_of_names_the_choices():
    check.one_of("method", "count", ("count", "variability"))
    with pytest.raises(InputError, match=r"^method must be one of 'count', 'variability', got 'counts'\.$"):
        check.one_of("method", "counts", iter(["count", "variability"]))


def test_none_true_counts_the_bad_ones():
    check.none_true(np.zeros(4, bool), "cells are empty", "filter them")
    check.none_true(np.zeros(0, bool), "cells are empty", "filter them")
    with pytest.raises(InputError, match=r"^2 of 4 cells are empty; filter them\.$"):
        check.none_true(np.array([True, False, True, False]), "cells are empty", "filter them")


def test_existing_file_takes_files_and_folders(tmp_path):
    check.existing_file(tmp_path, "data set")
    (tmp_path / "a").touch()
    check.existing_file(tmp_path / "a", "file")
    with pytest.raises(MissingFileError, match=r"blacklist .*b does not exist; check the path\."):
        check.existing_file(tmp_path / "b", "blacklist")


def test_may_write_refuses_what_exists_unless_told(tmp_path):
    check.may_write(tmp_path / "new", force=False)
    check.may_write(tmp_path, force=True)
    with pytest.raises(OutputExistsError, match=r"exists already; pass force=True \(--force\) to replace it"):
        check.may_write(tmp_path, force=False)
