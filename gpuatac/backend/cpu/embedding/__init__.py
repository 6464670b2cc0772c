"""Linear algebra, the neighbour graph, layout and clusters. On a CPU, in NumPy and Numba."""
