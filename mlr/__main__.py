"""``python -m mlr`` is the same program as ``mlr``."""

import os
import signal
import sys


def main(program: str = "mlr") -> None:
    """Run the program, which was called by this name, and exit."""
    _open_missing_streams()
    # Until the command line handles signals there is nothing to clean up: end silently.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mlr.cli import main

    main(program=program)


def _open_missing_streams() -> None:
    """Open closed streams as /dev/null; else the next file opened would receive stderr's output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest descriptor that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


if __name__ == "__main__":
    main("python -m mlr")
