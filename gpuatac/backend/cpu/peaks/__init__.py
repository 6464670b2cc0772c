"""Peak calling and consensus. On a CPU, in NumPy and Numba."""
