"""``.npz`` files that hold named arrays and one JSON string, read without trusting them."""

from __future__ import annotations

import json
import math
import mmap
import struct
import zipfile
from collections.abc import Iterator, Mapping
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
    """Write the bytes that `numpy.savez` does, without loading all of arrays in mapped files.

    The same arrays give the same bytes at any time: members are dated 1980.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            array = np.asarray(array, order="C")
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, npy.header_data_from_array_1_0(array))
                flat = array.reshape(-1)
                step = max(1, _CHUNK // array.itemsize)
                for start in range(0, flat.size, step):
                    member.write(flat[start : start + step].data)
                    release(flat)


def read_npz(
    path: Path, *, kind: str, newest: int, mapped: bool = False
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Read an ``.npz`` file that `write_npz` wrote.

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
        If it cannot be read, is damaged, holds Python objects, or is of another kind or a newer
        version.
    """
    with _opened(path, kind) as (file, archive):
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if mapped else None
        arrays = {
            member.filename.removesuffix(".npy"): _read_array(archive, member, memory)
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
    """Return the metadata of a file, or raise `ModelError` that it is not a ``kind`` file."""
    with _opened(path, kind) as (_, archive):
        return _read_meta(archive)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[tuple[IO[bytes], zipfile.ZipFile]]:
    """Open an ``.npz`` file, and turn whatever is wrong with it into an error that names it."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            # Nothing is compressed, which also bounds the memory that reading takes.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its members are compressed")
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("its members claim to be larger than the file")
            yield file, archive
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever zipfile and the parsers raise for damaged files
        raise ModelError(
            f"{path}: not a {kind} file, or a damaged one: {first_line(error)}"
        ) from error


def _read_meta(archive: zipfile.ZipFile) -> dict[str, Any]:
    if _META not in archive.namelist():
        raise ValueError("it has no metadata")
    meta = json.loads(str(_read_array(archive, archive.getinfo(_META))[()]))
    if not isinstance(meta, dict):
        raise ValueError("its metadata is not a JSON object")
    return meta


def _read_array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, memory: mmap.mmap | None = None
) -> npt.NDArray[Any]:
    """Return an array, left in the mapped file if that is given."""
    data: bytes | mmap.mmap
    with archive.open(info) as member:
        shape, fortran_order, dtype = _HEADER_READERS[npy.read_magic(member)](member)
        start = member.tell()
        while memory is not None and member.read(_CHUNK):
            pass  # until the checksum is verified
    if memory is None:
        data, offset = archive.read(info), start
    else:
        name, extra = struct.unpack_from("<HH", memory, info.header_offset + _LOCAL_LENGTHS)
        data, offset = memory, info.header_offset + _LOCAL_HEADER + name + extra + start
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds pickled Python objects")
    if fortran_order:
        raise ValueError(f"{info.filename} is not in C order")
    found = info.file_size - start
    if found != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{info.filename} says {shape} {dtype} but holds {found} bytes")
    return np.ndarray(shape, dtype, data, offset)
