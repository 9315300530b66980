"""Writing files so that a reader only ever sees the old one or the new one, whole."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from mlr.errors import MlrError, OutputExistsError, first_line

LARGEST = 1 << 30  # bytes of an image file or a manifest; those that subjects have are far smaller

_unfinished: set[Path] = set()  # temporary files and folders in use
_beginning = threading.RLock()  # held while one is added to them, or taken off

at_end: list[Callable[[], None]] = []  # to be called before the program ends at once


def is_folder_name(name: str) -> bool:
    """Tell whether a folder in plain sight can be called so, in any other folder and system."""
    return name.isprintable() and name[:1] not in ("", ".") and not {"/", "\\"} & set(name)


def located(place: str | Path) -> Path:
    """Return the path of a place: a file or folder here, or behind an address of fsspec.

    Addresses, as ``s3://bucket/faces``, become a `upath.UPath`, which does what a path does but is
    none: it has no place in this file system.

    Raises
    ------
    MlrError
        If the address is of no kind that can be reached.
    """
    if isinstance(place, Path) or "://" not in str(place):
        return Path(place)
    try:
        from upath import UPath
    except ImportError as error:
        raise MlrError(f"{place}: needs pip install 'mlr[cluster]'") from error
    try:
        path: Path = UPath(place)
        path.exists()  # whoever cannot be reached, says so now
    except Exception as error:  # each kind of place has errors of its own
        raise MlrError(f"{place}: cannot be reached: {first_line(error)}") from error
    return path


def is_here(path: Path) -> bool:
    """Tell whether a path is one of this file system, and not behind an address."""
    return isinstance(path, Path)


@contextmanager
def open_regular(path: Path, largest: int | None = None) -> Iterator[IO[bytes]]:
    """Open a file to read, but no pipe and no device: they may keep us waiting, or never end.

    Parameters
    ----------
    path : Path
        The file, or a link to it.
    largest : int, optional
        Bytes that it may have.

    Raises
    ------
    OSError
        If it cannot be opened, is not a regular file or is larger than that.
    """
    if not is_here(path):
        with _open_there(path, largest) as file:
            yield file
        return
    with open(path, "rb", opener=_open_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if largest is not None and found.st_size > largest:
            raise OSError(errno.EFBIG, f"larger than {largest >> 20} MiB")
        yield file


@contextmanager
def _open_there(path: Path, largest: int | None) -> Iterator[IO[bytes]]:
    """Open a file behind an address."""
    with ExitStack() as stack:
        try:
            if largest is not None and path.stat().st_size > largest:
                raise OSError(errno.EFBIG, f"larger than {largest >> 20} MiB")
            file = stack.enter_context(path.open("rb"))
        except OSError:
            raise
        except Exception as error:  # each kind of place has errors of its own
            raise OSError(errno.EIO, first_line(error)) from error
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, 64 hexadecimal digits, or None if it cannot be read."""
    try:
        with open_regular(path, LARGEST) as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None


def lock(file: IO[bytes], *, wait: bool) -> None:
    """Lock a file until it is closed, where that can be done.

    Parameters
    ----------
    file : file
        Open.
    wait : bool
        Until nobody else has locked it.

    Raises
    ------
    BlockingIOError
        If somebody else has, without ``wait``.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if isinstance(error, BlockingIOError):
            raise  # otherwise, it is a file system without locks


def check_free(path: Path, *, force: bool) -> None:
    """Raise unless ``path`` may be written.

    Raises
    ------
    OutputExistsError
        If it exists and ``force`` is false.
    MlrError
        If it is a folder, a device or a name that no file can have, or where nothing may be
        written.
    """
    with _writing(path):
        _check_above(path)
        if path.is_dir():
            raise MlrError(f"{path}: is a folder, and a file is to be written there")
        if not path.exists():
            return
        if not path.is_file():  # renaming a file over /dev/null would do away with it
            raise MlrError(f"{path}: is not a regular file; give another name")
        if not force:
            raise OutputExistsError(f"{path}: exists already; give --force to overwrite it")


@contextmanager
def replacing(path: Path, *, force: bool, durable: bool = False) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that takes its place when the block succeeds.

    Parameters
    ----------
    path : Path
        Where the file shall be. Missing folders are made.
    force : bool
        Replace an existing file.
    durable : bool
        Wait until the bytes are on the disk before renaming: for results that took long.

    Raises
    ------
    OutputExistsError
        If the file exists and ``force`` is false.
    MlrError
        If it cannot be written; what was there before still is.
    """
    check_free(path, force=force)
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp")
    try:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _begun(temporary) as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            check_free(path, force=force)
            _rename(temporary, path, force=force)
    finally:
        with _beginning:
            with suppress(OSError):  # gone after success, never made where the folder is read-only
                temporary.unlink()
            _unfinished.discard(temporary)


def _check_above(path: Path) -> None:
    """Raise PermissionError unless the folder for ``path``, or one for that, may be written to."""
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if above.is_dir() and not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def check_free_folder(path: Path, *, force: bool) -> None:
    """Raise unless a folder ``path`` of outputs may be written.

    Raises
    ------
    OutputExistsError
        If it exists and ``force`` is false.
    MlrError
        If it is a file or a name that no folder can have, or where nothing may be written.
    """
    with _writing(path):
        _check_above(path)
        if not path.exists():
            return
        if not path.is_dir():
            raise MlrError(f"{path}: is a file, and a folder is to be written there")
        if not force:
            raise OutputExistsError(f"{path}: exists already; give --force to overwrite it")


@contextmanager
def replacing_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Make a temporary folder beside ``path`` that takes its place when the block succeeds.

    In a folder that exists, if ``force`` allows it, files of the same names are replaced one by
    one, and others stay.

    Raises
    ------
    OutputExistsError
        If it exists and ``force`` is false.
    MlrError
        If it cannot be written.
    """
    import shutil  # here, for every help would wait for it

    check_free_folder(path, force=force)
    temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp")
    try:
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _beginning:
                _unfinished.add(temporary)
                temporary.mkdir()
        yield temporary
        check_free_folder(path, force=force)
        with _writing(path):
            if not path.exists():
                temporary.rename(path)
                return
            for file in sorted(temporary.iterdir()):
                file.replace(path / file.name)
    finally:
        with _beginning:
            shutil.rmtree(temporary, ignore_errors=True)
            _unfinished.discard(temporary)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder for the time of the block."""
    import tempfile  # here, for every help would wait for it

    with tempfile.TemporaryDirectory(prefix="mlr-") as name:
        _unfinished.add(Path(name))
        try:
            yield Path(name)
        finally:
            _unfinished.discard(Path(name))


def discard_unfinished() -> None:
    """Delete all that is temporary, and let nothing be begun: the program ends at once."""
    import shutil

    for call in list(at_end):
        with suppress(Exception):
            call()
    _beginning.acquire(timeout=1)  # a thread that hangs in a file system may keep its own file
    for path in list(_unfinished):
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _begun(path: Path) -> IO[bytes]:
    """Create a file that `discard_unfinished` knows of."""
    with _beginning:
        _unfinished.add(path)
        return path.open("xb")


def _rename(temporary: Path, path: Path, *, force: bool) -> None:
    """Give a file its name; without ``force`` in a way that fails if another one has it by now."""
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
    """Turn what the file system says into an error that names the file."""
    try:
        yield
    except MlrError:
        raise
    except OSError as error:
        raise MlrError(f"{path}: cannot be written: {error.strerror or error}") from error
