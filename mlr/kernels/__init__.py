"""Numba kernels: plain loops over arrays that import nothing but NumPy and Numba."""
