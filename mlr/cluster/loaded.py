"""What processes for a cluster have loaded: imported by the server that forks them, alone."""

from contextlib import suppress

import mlr.cluster.connecting
import mlr.training.train  # noqa: F401
from mlr.training.warmup import compiled, warm_up
from mlr.utils.threads import limited

with suppress(Exception):  # whoever needs what could not be loaded will say so
    if compiled():
        with limited(1):  # a thread would not be there any more in who is forked
            warm_up()
