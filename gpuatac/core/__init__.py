"""Algorithms on arrays: no AnnData, no files, no figures, no device test."""
