"""Fragments to counts and quality measures. On a GPU."""
