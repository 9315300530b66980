"""Work in other processes, here or on other machines: an executor on top of Dask."""

from mlr.cluster.connect import connect

__all__ = ["connect"]
