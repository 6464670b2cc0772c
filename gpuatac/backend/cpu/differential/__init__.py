"""Groups of cells compared. On a CPU, in NumPy and Numba."""
