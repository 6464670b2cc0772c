"""Tests of the CUDA kernels and of the wrappers that call them."""
