"""How the memory of a worker is shared out.

Its limit is twice what it is told to take.
"""

SUMS = 0.3  # for making and adding up sums
SHARD = 0.4  # for a shard whose sums are made in bands
WORK = 0.3  # for work on bands of sums; as much again comes and goes while they are sent
KEPT = 0.2  # for what lies there; what is more, Dask writes to the disk
