"""Compiled loops over arrays; they import nothing but NumPy, Numba and its llvmlite."""
