"""The methods that masked regression is compared with, one file each.

To add a rival, add a file that defines a subclass of `base.Rival` and lists it in ``RIVALS``.
"""
