"""Coverage and cuts along the genome. On a CPU, in NumPy and Numba."""
