"""Model files are believed only as far as they can be checked."""

import io
import json
import struct
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from mlr import load
from mlr.errors import ModelError
from mlr.io.files import is_folder_name
from mlr.io.npz import read_npz, write_npz

WEIGHTS = np.arange(54, dtype=np.float32).reshape(2, 1, 3, 3, 3)
TAPS = np.array([[0, 0, 0], [0, 0, 1]], dtype=np.int16)
META = {
    "kind": "model",
    "format": 1,
    "version": "0.1.0",
    "expressions": ["happy", "sad"],
    "source": "neutral",
    "recipe": "paper",
    "penalty": 0.4,
    "prior": "zero",
    "pairs": {"happy": 2, "sad": 3},
    "eyes": [[0.3, 0.4], [0.7, 0.4]],
    "digest": "0" * 64,
}

# 3 x 3 px, written out to be independent of the program.
GREY_BMP = (
    b"BM"
    + struct.pack("<IHHI", 90, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 3, 3, 1, 24, 0, 36, 0, 0, 0, 0)
    + bytes(range(36))
)


def model_file(weights=WEIGHTS, taps=TAPS, meta=META, **details):
    """Return a model file as bytes; ``details`` replaces metadata."""
    text = meta if isinstance(meta, str) else json.dumps(meta | details)
    file = io.BytesIO()
    np.savez(file, weights=weights, taps=taps, meta=np.array(text))
    return file.getvalue()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


def refused(path, data):
    """Return the cause for which a model file is refused."""
    path.write_bytes(data)
    with pytest.raises(ModelError) as error:
        load(path)
    prefix, cause = str(error.value).split(": ", 1)
    assert prefix == str(path)
    return cause


def test_good_model_is_read(path):
    path.write_bytes(model_file())
    model = load(path)
    np.testing.assert_array_equal(model.weights, WEIGHTS)
    assert model.expressions == ("happy", "sad")


def test_same_arrays_give_the_same_bytes_and_come_back(tmp_path):
    arrays = {
        "a": np.arange(12).reshape(3, 4),
        "b": np.zeros((0, 2), np.float32),
        "meta": np.array(json.dumps({"kind": "statistics", "format": 1, "x": 5})),
    }
    for name in ("1.npz", "2.npz"):
        with (tmp_path / name).open("wb") as file:
            write_npz(file, arrays)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    again, meta = read_npz(tmp_path / "1.npz", kind="statistics", newest=1)
    assert meta["x"] == 5
    assert again.keys() == {"a", "b"}
    for name, array in again.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype
        assert not array.flags.writeable


def test_model_cut_off_anywhere_is_refused(path):
    data = model_file()
    for length in range(len(data)):
        assert "not a model file, or a damaged one" in refused(path, data[:length])


def test_model_with_any_byte_changed_is_refused_or_the_same(path):
    data = model_file()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            model = load(path)
        except ModelError:
            continue
        np.testing.assert_array_equal(model.weights, WEIGHTS)
        assert model.expressions == ("happy", "sad")


def test_array_header_with_any_byte_changed_is_refused_or_harmless(path):
    good = io.BytesIO()
    np.save(good, WEIGHTS)
    for place in range(128):
        for value in b"\0'({[,L0-\xff":
            header = bytearray(good.getvalue())
            header[place] = value
            with zipfile.ZipFile(path, "w") as archive:
                for name, array in (("taps", TAPS), ("meta", np.array(json.dumps(META)))):
                    with archive.open(f"{name}.npy", "w") as member:
                        np.save(member, array)
                archive.writestr("weights.npy", bytes(header))
            with suppress(ModelError):
                assert load(path).weights.shape == WEIGHTS.shape


def edited(**changes):
    return lambda: model_file(**changes)


def nowhere_finite(value):
    weights = WEIGHTS.copy()
    weights[1, 0, 2, 1, 1] = value
    return weights


WRONG_ARRAYS = {
    "double precision": (edited(weights=WEIGHTS.astype(np.float64)), "float64"),
    "other byte order": (edited(weights=WEIGHTS.astype(">f4")), ">f4"),
    "integers": (edited(weights=WEIGHTS.astype(np.int32)), "int32"),
    "too few axes": (edited(weights=WEIGHTS[0]), r"shape \(1, 3, 3, 3\)"),
    "an expression short": (edited(weights=WEIGHTS[:1]), "do not fit 2 expressions"),
    "a tap short": (edited(weights=WEIGHTS[:, :, 1:]), "do not fit 2 expressions and 2 taps"),
    "two channels": (edited(weights=WEIGHTS.repeat(2, axis=1)), "2 channels"),
    "no pixels": (edited(weights=WEIGHTS[..., :0]), "damaged"),
    "columns first": (edited(weights=np.asfortranarray(WEIGHTS)), "not in C order"),
    "NaN": (edited(weights=nowhere_finite(np.nan)), "not finite"),
    "infinity": (edited(weights=nowhere_finite(np.inf)), "not finite"),
    "pickled weights": (edited(weights=np.array([{}])), "pickled"),
    "pickled taps": (edited(taps=np.array([{}])), "pickled"),
    "wide taps": (edited(taps=TAPS.astype(np.int64)), "taps are int64"),
    "flat taps": (edited(taps=TAPS[:, :2].copy()), "expected int16"),
    "no taps": (edited(taps=TAPS[:0], weights=WEIGHTS[:, :, :1].copy()), "tap"),
}


@pytest.mark.parametrize("what", WRONG_ARRAYS)
def test_wrong_array_is_refused_with_what_is_wrong(path, what):
    make, cause = WRONG_ARRAYS[what]
    path.write_bytes(make())
    with pytest.raises(ModelError, match=cause):
        load(path)


@pytest.mark.parametrize("missing", ["weights", "taps", "meta"])
def test_missing_array_is_named(path, missing):
    arrays = {"weights": WEIGHTS, "taps": TAPS, "meta": np.array(json.dumps(META))}
    del arrays[missing]
    file = io.BytesIO()
    np.savez(file, **arrays)
    assert missing in refused(path, file.getvalue())


@pytest.mark.parametrize(
    ("meta", "cause"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[1, 2]", "not a JSON object"),
        ("5", "not a JSON object"),
        ("[" * 100_000, "damaged"),
        (META | {"kind": "statistics"}, "is a 'statistics' file, expected a 'model' file"),
        (META | {"kind": None}, "expected a 'model' file"),
        (META | {"format": None}, "format version is None"),
        (META | {"format": "1"}, "format version is '1'"),
        (META | {"format": 0}, "format version is 0"),
        (META | {"format": 9}, "has format version 9, expected at most 3: update mlr"),
        (META | {"expressions": 3}, "damaged"),
        (META | {"expressions": None}, "damaged"),
        (META | {"expressions": []}, "do not fit 0 expressions"),
    ],
)
def test_wrong_metadata_is_refused_with_what_is_wrong(path, meta, cause):
    assert cause in refused(path, model_file(meta=meta))


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", ".hidden", "", "a\0b"])
def test_expression_that_could_lead_out_of_the_folder_is_refused(path, name):
    assert not is_folder_name(name)
    assert "cannot be the name of a folder" in refused(
        path, model_file(expressions=["happy", name])
    )


@pytest.mark.parametrize("name", ["happy", "très heureux", "笑", "a.b", "a-b_c 1"])
def test_ordinary_expressions_are_allowed(path, name):
    assert is_folder_name(name)
    path.write_bytes(model_file(expressions=["happy", name] if name != "happy" else ["x", name]))
    assert name in load(path).expressions


def test_compressed_model_is_refused_since_its_size_has_no_bound(path):
    file = io.BytesIO()
    zeros = np.zeros((2, 1, 3, 500, 500), np.float32)
    np.savez_compressed(file, weights=zeros, taps=TAPS, meta=np.array(json.dumps(META)))
    assert "its members are compressed" in refused(path, file.getvalue())


def test_compressed_member_that_says_to_be_small_is_not_unpacked(path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.npy", bytes(100 << 20))
    data = bytearray(file.getvalue())
    for header, size in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", data, data.rfind(header) + size, 100)
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(ModelError, match="its members are compressed"):
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20


def test_absurd_size_in_the_archive_is_refused_before_memory_is_taken(path):
    data = bytearray(model_file())
    entry = data.index(b"PK\x01\x02")  # first entry of the directory; its size is at byte 24
    data[entry + 24 : entry + 28] = struct.pack("<I", 0xFFFFFFF0)
    assert "larger than the file" in refused(path, bytes(data))


@pytest.mark.parametrize("shape", ["(99999999999, 9, 9, 9, 9)", "(-1, -54)", "(54,)", "()"])
def test_absurd_shape_of_an_array_is_refused_before_memory_is_taken(path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode() + WEIGHTS.tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights.npy", member)
        for name, array in (("taps", TAPS), ("meta", np.array(json.dumps(META)))):
            with archive.open(f"{name}.npy", "w") as file:
                np.save(file, array)
    with pytest.raises(ModelError, match=r"model\.npz: "):
        load(path)


@pytest.mark.parametrize("data", [b"", b"PK", b"no model at all", b"\x93NUMPY\x01\x00"])
def test_other_file_is_refused(path, data):
    assert "not a model file" in refused(path, data)


def test_path_that_cannot_be_opened_is_named(tmp_path):
    for path, cause in ((tmp_path / "missing.npz", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ModelError, match=f"cannot be read: {cause}"):
            load(path)


ODD_DETAILS = [
    {name: value}
    for name in sorted(META.keys() - {"kind", "format", "expressions"})
    for value in (None, 5, "x\n\x1b[31m\ud800", [], {"a": [{}]}, [None], True)
] + [
    {"expressions": value}
    for value in (3, None, "happy", {"a": 1}, [["a"], {}], ["a", "a"], ["happy", "x\ny"])
]


@pytest.mark.parametrize("details", ODD_DETAILS, ids=lambda d: json.dumps(d)[:40])
def test_odd_metadata_never_ends_in_a_traceback(run, path, tmp_path, details):
    path.write_bytes(model_file(**details))
    for expression in ("neutral", "happy", "sad"):
        folder = tmp_path / "faces" / expression
        folder.mkdir(parents=True)
        (folder / "x.bmp").write_bytes(GREY_BMP)
    for command in (
        ["info", path],
        ["info", path, "--json"],
        ["synthesize", path, tmp_path / "faces" / "neutral", "-o", tmp_path / "out"],
        ["evaluate", path, tmp_path / "faces"],
    ):
        result = run(*command)
        assert result.code in (0, 1)
        if result.code:
            assert len(result.lines) <= 3
            assert result.lines[0].startswith("mlr: ")
        assert result.err.isascii()
        assert "\x1b" not in result.out + result.err
