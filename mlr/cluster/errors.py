"""What Dask says of a cluster that is lost, in a line."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager

from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from mlr.errors import MlrError, first_line

_LOST = (KilledWorker, CommClosedError, FutureCancelledError, CancelledError, TimeoutError)


@contextmanager
def as_mlr_errors() -> Iterator[None]:
    """Turn what Dask says of a cluster that is lost into an error of one line.

    Raises
    ------
    MlrError
        If workers have died, or the cluster does not answer any more.
    """
    try:
        yield
    except MlrError:
        raise
    except KilledWorker as error:
        raise MlrError(
            "the cluster gave up: every worker that was given one of the shards has died; they may "
            "need more memory, or smaller shards"
        ) from error
    except _LOST as error:
        raise MlrError(f"the cluster is lost: {first_line(error)}") from error
    except RuntimeError as error:
        if "thread" not in str(error):  # of which the system gives no more
            raise
        raise MlrError(f"the cluster is lost: {first_line(error)}") from error
