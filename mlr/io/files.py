"""Opening files safely, and writing them atomically."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mlr._version import install
from mlr.errors import MlrError, OutputExistsError, first_line

LARGEST = 1 << 30  # maximum size of an image file or a manifest, in bytes

_unfinished: set[Path] = set()  # temporary files and folders
#: Held while one is created or deleted, and by `discard_unfinished` until the program ends.
_changing = threading.RLock()

at_end: list[Callable[[], None]] = []  # called before a signal ends the program


def is_folder_name(name: str) -> bool:
    """Return whether a name is valid for a visible folder on every system."""
    return name.isprintable() and name[:1] not in ("", ".") and not {"/", "\\"} & set(name)


def located(address: str | Path) -> Path:
    """Return a path or, for an fsspec address such as ``s3://bucket/faces``, a `upath.UPath`.

    This has the methods of a `Path`. `MlrError` is raised if the address cannot be reached.
    """
    if isinstance(address, Path) or "://" not in str(address):
        return Path(address)
    try:
        from upath import UPath
    except ImportError as error:
        raise MlrError(f"{address}: needs {install('cluster')}") from error
    try:
        path: Path = UPath(address)
        path.exists()  # fails now if it cannot be reached
    except Exception as error:  # file systems raise various errors
        raise MlrError(f"{address}: cannot be reached: {first_line(error)}") from error
    return path


def is_here(path: Path) -> bool:
    """Return whether a path is local, rather than an fsspec address."""
    return isinstance(path, Path)


@contextmanager
def open_regular(path: Path, largest: int | None = None) -> Iterator[IO[bytes]]:
    """Open a regular file of at most ``largest`` bytes; raise `OSError` for anything else.

    Pipes and devices are refused since reading them may block or never end.
    """
    try:
        file = _open_here(path) if is_here(path) else path.open("rb")
    except OSError:
        raise
    except Exception as error:  # file systems raise various errors
        raise OSError(errno.EIO, first_line(error)) from error
    with file:
        if is_here(path) and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if largest is not None and file.seek(0, os.SEEK_END) > largest:
            raise OSError(errno.EFBIG, f"larger than {largest >> 20} MiB")
        file.seek(0)
        yield file


def _open_here(path: Path) -> IO[bytes]:
    """Open a file; a pipe without a writer does not block."""
    non_blocking = getattr(os, "O_NONBLOCK", 0)
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | non_blocking))


def file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, 64 hexadecimal digits, or None if it cannot be read."""
    try:
        with open_regular(path, LARGEST) as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def lock(file: IO[bytes], *, wait: bool) -> None:
    """Lock an open file until it is closed, where the system has locks.

    If another process holds the lock, wait for it or raise `BlockingIOError`.
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
    """Raise an error unless a file, or a ``folder``, can be written to a path.

    `OutputExistsError` is raised if it exists and ``force`` is false, `MlrError` if it cannot be.
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
            raise MlrError(f"{path}: is a file; expected a folder to write to")
        if not folder and path.is_dir():
            raise MlrError(f"{path}: is a folder; expected a file to write to")
        if not folder and not path.is_file():  # renaming a file to /dev/null would replace it
            raise MlrError(f"{path}: is not a regular file; give another name")
        if not force:
            raise OutputExistsError(f"{path}: exists already; give --force to overwrite it")


@contextmanager
def replacing(path: Path, *, force: bool, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file that is renamed to ``path`` when the block succeeds.

    Parent folders are created, and errors are those of `check_free`. A ``durable`` file is on the
    disk before it is renamed.
    """
    check_free(path, force=force)
    with temporary_path(path) as temporary, _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _changing:
            created = temporary.open("xb")
        with created as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        check_free(path, force=force)
        _rename(temporary, path, force=force)


@contextmanager
def replacing_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Create a temporary folder that is renamed to ``path`` when the block succeeds.

    If ``path`` exists and ``force`` is true, its files of the same names are replaced one by one.
    """
    check_free(path, force=force, folder=True)
    with temporary_path(path) as temporary:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _changing:
                temporary.mkdir()
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
    """Create a folder that is deleted after the block."""
    import tempfile  # here, since printing the help does not need it

    with temporary_path(Path(tempfile.gettempdir()) / "mlr") as path:
        path.mkdir(mode=0o700)
        yield path


def discard_unfinished() -> None:
    """Delete all temporary files and block the creation of new ones, before the program ends."""
    for call in list(at_end):
        with suppress(Exception):
            call()
    _changing.acquire(timeout=1)  # a thread may hang in a file system
    for path in list(_unfinished):
        _delete(path)


@contextmanager
def temporary_path(path: Path, suffix: str = "") -> Iterator[Path]:
    """Yield the path of a temporary file or folder next to ``path``; delete it after the block."""
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp{suffix}")
    _unfinished.add(temporary)
    try:
        yield temporary
    finally:
        with _changing:
            _delete(temporary)
            _unfinished.discard(temporary)


def _delete(path: Path) -> None:
    import shutil

    with suppress(OSError):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _rename(temporary: Path, path: Path, *, force: bool) -> None:
    """Rename a file; without ``force``, fail if another process has created ``path``."""
    try:
        if not force:
            os.link(temporary, path)  # never replaces a file, unlike a rename
            return
    except FileExistsError:
        raise OutputExistsError(f"{path}: exists now; give --force to overwrite it") from None
    except (OSError, AttributeError):
        pass  # a file system without links
    temporary.replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Convert errors of the file system to `MlrError` with the path."""
    try:
        yield
    except MlrError:
        raise
    except OSError as error:
        raise MlrError(f"{path}: cannot be written: {error.strerror or error}") from error
