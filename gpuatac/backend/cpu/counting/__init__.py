"""Fragments to counts and quality measures. On a CPU, in NumPy and Numba."""
