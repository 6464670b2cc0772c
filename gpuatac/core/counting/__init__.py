"""Fragments to counts and quality measures."""
