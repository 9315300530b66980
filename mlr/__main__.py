"""``python -m mlr`` is the same program as ``mlr``."""

from mlr.cli import main

if __name__ == "__main__":
    main(prog_name="mlr")
