"""``.npz`` files that hold named arrays and one JSON string, read without trusting them."""

from __future__ import annotations

import io
import json
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from mlr.errors import ModelError, first_line
from mlr.io.files import open_regular
from mlr.utils.mapped import release

_META = "meta.npy"
_CHUNK = 1 << 20  # bytes read or written at a time
_LOCAL_HEADER, _LOCAL_LENGTHS = 30, 26  # of a member: its size, and where the name's length is
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def write_npz(file: IO[bytes], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays as an uncompressed ``.npz`` whose bytes depend on the arrays alone."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            # ZipInfo's own date, 1980-01-01: the same arrays give the same bytes at any time.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                _write_array(member, np.asanyarray(array))


def _write_array(file: IO[bytes], array: npt.NDArray[Any]) -> None:
    """Write an array as `numpy.save` does, a chunk at a time, for it may not fit in memory."""
    if not array.flags.c_contiguous or array.nbytes <= _CHUNK:
        npy.write_array(file, array, allow_pickle=False)
        return
    npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
    flat = array.reshape(-1)
    step = _CHUNK // array.itemsize
    for start in range(0, flat.size, step):
        file.write(flat[start : start + step].data)
        if start % (4 * step) == 0:
            release(flat)


def read_npz(
    path: Path, *, kind: str, newest: int, mapped: bool = False
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read an ``.npz`` file of ours.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        What its metadata must call it: "model" or "statistics".
    newest : int
        Newest format version that the caller understands.
    mapped : bool
        Leave the arrays in the file, to be read when they are used.

    Returns
    -------
    arrays : dict of str to ndarray
        All arrays but the metadata; read-only. Mapped ones may not be aligned.
    meta : dict
        The metadata.

    Raises
    ------
    ModelError
        If it cannot be read, is damaged or incomplete, holds Python objects, or is of another kind
        or a newer version.
    """
    with _opened(path, kind) as archive:
        read = _mapped_members(path) if mapped else _read_member
        arrays = {
            member.filename.removesuffix(".npy"): read(archive, member)
            for member in archive.infolist()
            if member.filename != _META
        }
        meta = _read_meta(archive)
        found, version = meta.get("kind"), meta.get("format")
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"its format version is {version!r}")
    if found != kind:
        raise ModelError(f"{path}: is a {found!r} file, expected a {kind!r} file")
    if version > newest:
        raise ModelError(
            f"{path}: has format version {version}, this program reads up to {newest}: update mlr"
        )
    return arrays, meta


def meta_of(path: Path, kind: str = "model or statistics") -> dict[str, Any]:
    """Return the metadata of an ``.npz`` file of ours, in which ``kind`` says what it is.

    Raises
    ------
    ModelError
        If it cannot be read or is damaged.
    """
    with _opened(path, kind) as archive:
        return _read_meta(archive)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[zipfile.ZipFile]:
    """Open an ``.npz`` file, and turn whatever is wrong with it into an error that names it."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            # Nothing of ours is compressed, so this also bounds the memory that reading takes.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its members are compressed")
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("its members claim to be larger than the file")
            yield archive
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        TypeError,
        EOFError,
        RuntimeError,  # if it is encrypted, or (NotImplementedError) packed in an unknown way
        MemoryError,
    ) as error:
        raise ModelError(f"{path}: not a {kind} file, or a damaged one: {error}") from error


def _read_meta(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the metadata."""
    if _META not in archive.namelist():
        raise ValueError("it has no metadata")
    meta = json.loads(str(_read_member(archive, archive.getinfo(_META))[()]))
    if not isinstance(meta, dict):
        raise ValueError("its metadata is not a JSON object")
    return meta


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Return one array; its checksum is verified before anything in it is believed."""
    data = archive.read(info)
    return _array(info, data, io.BytesIO(data), 0, len(data))


def _mapped_members(
    path: Path,
) -> Callable[[zipfile.ZipFile, zipfile.ZipInfo], npt.NDArray[Any]]:
    """Return a function like `_read_member` that leaves the numbers in the file."""
    with open_regular(path) as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
        with archive.open(info) as member:
            start = io.BytesIO(member.read(_CHUNK))
            while member.read(_CHUNK):  # at the end the checksum is verified
                pass
        local = info.header_offset
        name, extra = struct.unpack_from("<HH", memory, local + _LOCAL_LENGTHS)
        first = local + _LOCAL_HEADER + name + extra
        return _array(info, memory, start, first, info.file_size)

    return read


def _array(
    info: zipfile.ZipInfo, data: bytes | mmap.mmap, start: IO[bytes], first: int, size: int
) -> npt.NDArray[Any]:
    """Return the array of a member that is ``size`` bytes of ``data``, from ``first`` on."""
    try:
        shape, fortran_order, dtype = _HEADER_READERS[npy.read_magic(start)](start)
    except Exception as error:  # whatever Python's own parser raises, for a header is an expression
        cause = first_line(error)
        raise ValueError(f"{info.filename} has no header that can be read: {cause}") from error
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds pickled Python objects")
    if fortran_order:
        raise ValueError(f"{info.filename} is not in C order")
    found, count = size - start.tell(), math.prod(shape)
    if found != count * dtype.itemsize:
        raise ValueError(f"{info.filename} says {shape} {dtype} but holds {found} bytes")
    if count == 0:
        data, first = b"", -start.tell()
    return np.frombuffer(data, dtype, count, first + start.tell()).reshape(shape)
