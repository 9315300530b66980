"""What processes for a cluster have loaded: imported by the server that forks them, alone."""

from contextlib import suppress

import mlr.running.cluster.connecting
import mlr.training  # noqa: F401
from mlr.running.threads import limited
from mlr.running.warmup import compiled, warm_up

with suppress(Exception):  # whoever needs what could not be loaded will say so
    if compiled():
        with limited(1):  # a thread would not be there any more in who is forked
            warm_up()
