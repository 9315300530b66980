"""Files written so that a reader only ever sees the old one or the new one, whole."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from mlr.errors import MlrError, OutputExistsError, first_line

LARGEST = 1 << 30  # bytes of an image file or a manifest; real ones are far smaller

Created = TypeVar("Created")

_unfinished: set[Path] = set()  # temporary files and folders
_changing = threading.RLock()  # held while a temporary file or folder is created or deleted

at_end: list[Callable[[], None]] = []  # called before the program is ended by a signal


def is_folder_name(name: str) -> bool:
    """Tell whether a visible folder can have this name on any system."""
    return name.isprintable() and name[:1] not in ("", ".") and not {"/", "\\"} & set(name)


def located(address: str | Path) -> Path:
    """Return a path; of an address of fsspec, as ``s3://bucket/faces``, a `upath.UPath`.

    It has the methods of a path, but is not an instance of `Path`. `MlrError` is raised if the
    address cannot be reached.
    """
    if isinstance(address, Path) or "://" not in str(address):
        return Path(address)
    try:
        from upath import UPath
    except ImportError as error:
        raise MlrError(f"{address}: needs pip install 'mlr[cluster]'") from error
    try:
        path: Path = UPath(address)
        path.exists()  # to fail now
    except Exception as error:  # each file system has errors of its own
        raise MlrError(f"{address}: cannot be reached: {first_line(error)}") from error
    return path


def is_here(path: Path) -> bool:
    """Tell whether a path is on this machine, and not an address."""
    return isinstance(path, Path)


@contextmanager
def open_regular(path: Path, largest: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file to read, but no pipe and no device, which may block or never end.

    `OSError` is raised if it cannot be opened, is not a regular file or has more than ``largest``
    bytes.
    """
    file: IO[bytes]
    if is_here(path):
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    else:
        try:
            file = path.open("rb")
        except OSError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise OSError(errno.EIO, first_line(error)) from error
    with file:
        if is_here(path) and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if largest is not None and file.seek(0, os.SEEK_END) > largest:
            raise OSError(errno.EFBIG, f"larger than {largest >> 20} MiB")
        file.seek(0)
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def lock(file: IO[bytes], *, wait: bool) -> None:
    """Lock an open file until it is closed, if the system can do that.

    While another process has locked it, ``wait``, or raise `BlockingIOError`.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def check_free(path: Path, *, force: bool, folder: bool = False) -> None:
    """Raise unless ``path`` may be written, as a file or as a ``folder``.

    Raises
    ------
    OutputExistsError
        If it exists and ``force`` is false.
    MlrError
        If it is a folder where a file is to be written or the reverse, a device, a name that the
        file system does not allow, or in a folder that may not be written.
    """
    with _writing(path):
        above = path.absolute().parent
        while not above.exists():
            above = above.parent
        if above.is_dir() and not os.access(above, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        if not path.exists():
            return
        if folder and not path.is_dir():
            raise MlrError(f"{path}: is a file, and a folder is to be written there")
        if not folder and path.is_dir():
            raise MlrError(f"{path}: is a folder, and a file is to be written there")
        if not folder and not path.is_file():  # to rename a file to /dev/null would delete that
            raise MlrError(f"{path}: is not a regular file; give another name")
        if not force:
            raise OutputExistsError(f"{path}: exists already; give --force to overwrite it")


@contextmanager
def replacing(path: Path, *, force: bool, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file that is renamed to ``path`` when the block succeeds.

    Missing folders are made. If it is ``durable``, as for results that took long, the bytes are on
    the disk before it is renamed.

    Raises
    ------
    OutputExistsError
        If ``path`` exists and ``force`` is false.
    MlrError
        If it cannot be written; what was there before still is.
    """
    check_free(path, force=force)
    with temporary_beside(path) as temporary, _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _create(lambda: temporary.open("xb")) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        check_free(path, force=force)
        _rename(temporary, path, force=force)


@contextmanager
def replacing_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Make a temporary folder that is renamed to ``path`` when the block succeeds.

    In a folder that exists, if ``force`` allows it, files of the same names are replaced one by
    one, and others stay.

    Raises
    ------
    OutputExistsError
        If it exists and ``force`` is false.
    MlrError
        If it cannot be written.
    """
    check_free(path, force=force, folder=True)
    with temporary_beside(path) as temporary:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(temporary.mkdir)
        yield temporary
        check_free(path, force=force, folder=True)
        with _writing(path):
            if not path.exists():
                temporary.rename(path)
                return
            for file in sorted(temporary.iterdir()):
                file.replace(path / file.name)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is deleted after the block."""
    import tempfile  # as shutil below, not needed to print the help

    with tempfile.TemporaryDirectory(prefix="mlr-") as name:
        _unfinished.add(Path(name))
        try:
            yield Path(name)
        finally:
            _unfinished.discard(Path(name))


def discard_unfinished() -> None:
    """Delete all that is temporary and let nothing new be created: the program ends."""
    for call in list(at_end):
        with suppress(Exception):
            call()
    _changing.acquire(timeout=1)  # not longer, as a thread may hang in a file system
    for path in list(_unfinished):
        _delete(path)


@contextmanager
def temporary_beside(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield a name next to ``path`` for a file or folder, which is deleted after the block."""
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp{suffix}")
    _unfinished.add(temporary)
    try:
        yield temporary
    finally:
        with _changing:
            _delete(temporary)
            _unfinished.discard(temporary)


def _create(create: Callable[[], Created]) -> Created:
    """Create a temporary file or folder, but not after `discard_unfinished`."""
    with _changing:
        return create()


def _delete(path: Path) -> None:
    """Delete a file or folder if it exists."""
    import shutil

    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _rename(temporary: Path, path: Path, *, force: bool) -> None:
    """Rename a file; without ``force`` in a way that fails if the name is taken by now."""
    if not force:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise OutputExistsError(
                f"{path}: exists by now; give --force to overwrite it"
            ) from None
        except (OSError, AttributeError):
            pass  # no links in this file system: `check_free` has just looked
        else:
            return
    temporary.replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one that names the file."""
    try:
        yield
    except OSError as error:
        raise MlrError(f"{path}: cannot be written: {error.strerror or error}") from error
