"""The methods that masked regression is compared with, one file each.

To add a rival, add a file here that defines a subclass of `base.Rival` and lists it in ``RIVALS``;
nothing else has to know of it. `python -m benchmarks.comparison --help` tells how to compare.
"""
