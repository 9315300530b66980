"""``.npz`` files of named arrays and a JSON string, read without trusting their contents."""

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
from mlr.io.files import open_regular, replacing
from mlr.utils.memory import release

#: What reading arrays and metadata of damaged files raises, beside the program's own errors.
DAMAGED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)

_META = "meta.npy"
_CHUNK = 1 << 20  # bytes read or written at a time
_LOCAL_HEADER = 30  # size of a member's header in the archive, in bytes
_LOCAL_LENGTHS = 26  # offset of the lengths of its name and extra field
_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def write_npz(file: IO[bytes], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the same bytes as `numpy.savez`, but load memory-mapped arrays piece by piece."""
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


def save_npz(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], *, force: bool
) -> None:
    """Write arrays and metadata to a file, whole and durable; errors are those of `replacing`."""
    text = np.array(json.dumps(meta, sort_keys=True))
    with replacing(path, force=force, durable=True) as file:
        write_npz(file, {**arrays, "meta": text})


def read_npz(
    path: Path, *, kind: str, newest: int, mapped: bool = False
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the read-only arrays and the metadata of a file that `save_npz` has written.

    ``mapped`` arrays may be unaligned. `ModelError` is raised if the file cannot be read, is
    damaged, is not of this kind, or has a format version above ``newest``.
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
            f"{path}: has format version {version}, expected at most {newest}: update mlr"
        )
    return arrays, meta


def meta_of(path: Path, kind: str = "model or statistics") -> dict[str, Any]:
    """Return the metadata of a file; raise `ModelError` if it is not a ``kind`` file."""
    with _opened(path, kind) as (_, archive):
        return _read_meta(archive)


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[tuple[IO[bytes], zipfile.ZipFile]]:
    """Open an ``.npz`` file, and convert all errors to `ModelError` with its path."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            # Without compression the size of the file bounds the memory for its arrays.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its members are compressed")
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("its members claim to be larger than the file")
            yield file, archive
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile and the parsers raise all kinds for damaged files
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
    """Return an array, as a view of the mapped file if that is given."""
    data: bytes | mmap.mmap
    with archive.open(info) as member:
        shape, fortran_order, dtype = _HEADER_READERS[npy.read_magic(member)](member)
        start = member.tell()
        while memory is not None and member.read(_CHUNK):
            pass  # verifies the checksum at the end
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
        raise ValueError(f"{info.filename} is {dtype} {shape}, but has {found} bytes")
    return np.ndarray(shape, dtype, data, offset)
