"""Work on other processes and machines, with Dask: the only folder that knows of it.

The engine hands out tasks to workers, which keep the sums. Workers are found, or started here,
forked by a server of ours that has loaded what they need.
"""
