"""From text and BAM records to sorted columns. On a CPU, in NumPy and Numba."""
