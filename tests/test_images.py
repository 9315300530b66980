"""Reading and writing of image files of all kinds, and errors for damaged ones."""

import base64
import io
import struct
import zlib
from contextlib import suppress
from importlib.util import find_spec

import numpy as np
import PIL.Image
import pytest

from mlr._version import install
from mlr.errors import ImageError, OutputExistsError
from mlr.io import tiff
from mlr.io.images import ENCODINGS, REDUCED, read_header, read_image, resized, write_image
from mlr.io.provenance import describe_image
from tests.conftest import draw
from tests.layouts import chunk

RGB, RGBA, GREY = draw(1), draw(1, channels=4), draw(2, channels=1)
GREY_16_BIT = draw(3, channels=1, dtype=np.uint16)
# The transformation of each EXIF orientation.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def png(width, height, bits, colour, scanlines):
    """Return a PNG file with valid checksums."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(scanlines)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def colour_png_of_16_bits(pixels):
    """Return a PNG file with 16 bits for each of the colours."""
    height, width, _ = pixels.shape
    return png(
        width, height, 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    )


def encoded(image, **options):
    """Return an image file as bytes."""
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def pil(pixels, mode=None):
    array = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    image = PIL.Image.fromarray(array)
    return image if mode is None else image.convert(mode)


def animated(kind):
    frames = [pil(draw(seed)) for seed in range(3)]
    return encoded(frames[0], format=kind, save_all=True, append_images=frames[1:])


CMYK = PIL.Image.frombytes("CMYK", (16, 16), RGBA.tobytes())
PALETTE = pil(RGB).quantize(16)
ONE_BIT = pil(GREY, "1")
KINDS = {
    "palette.png": (encoded(PALETTE, format="PNG"), np.asarray(PALETTE.convert("RGB"))),
    "1-bit.png": (encoded(ONE_BIT, format="PNG"), np.asarray(ONE_BIT.convert("L"))[..., None]),
    "1-bit.tif": (encoded(ONE_BIT, format="TIFF"), np.asarray(ONE_BIT.convert("L"))[..., None]),
    "still.gif": (encoded(PALETTE, format="GIF"), np.asarray(PALETTE.convert("RGB"))),
    "16-bit-grey.png": (encoded(pil(GREY_16_BIT), format="PNG"), GREY_16_BIT),
    "16-bit-grey.tif": (encoded(pil(GREY_16_BIT), format="TIFF"), GREY_16_BIT),
    "16-bit-colour.png": (colour_png_of_16_bits(RGB.astype(np.uint16) * 257), RGB),
    "grey.png": (encoded(pil(GREY), format="PNG"), GREY),
    "grey.tif": (encoded(pil(GREY), format="TIFF"), GREY),
    "grey.bmp": (encoded(pil(GREY), format="BMP"), GREY),
    "colour.bmp": (encoded(pil(RGB), format="BMP"), RGB),
    "colour.webp": (encoded(pil(RGB), format="WEBP", lossless=True), RGB),
}


@pytest.fixture(autouse=True)
def without_the_extra(monkeypatch):
    """Reduce 16-bit colour to 8 bits, even if the extra is installed (see test_16_bit.py)."""
    monkeypatch.setattr(tiff, "has_extra", lambda: False)


@pytest.mark.parametrize("name", KINDS)
def test_image_has_exact_pixels_and_the_properties_of_its_header(tmp_path, name):
    data, expected = KINDS[name]
    path = tmp_path / name
    path.write_bytes(data)
    image, header = read_image(path), read_header(path)
    assert image.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.alpha is None
    assert (header.height, header.width, header.channels) == image.pixels.shape
    assert header.bits == 8 * image.pixels.itemsize
    assert header.loss == image.loss
    assert header.loss.startswith(REDUCED) == (name == "16-bit-colour.png")


def test_cmyk_jpeg_is_converted_to_colour(tmp_path):
    path = tmp_path / "cmyk.jpg"
    CMYK.save(path, quality=100)
    expected = np.asarray(CMYK.convert("RGB"))
    difference = read_image(path).pixels.astype(int) - expected
    assert read_header(path).channels == 3
    assert read_header(path).loss == read_image(path).loss
    assert read_image(path).loss.startswith("CMYK colours, which Pillow converts to RGB")
    assert np.abs(difference).mean() < 10


@pytest.mark.parametrize("width", [5, 53, 160])
def test_row_length_of_a_bmp_is_not_mistaken_for_16_bits(tmp_path, width):
    path = tmp_path / "x.bmp"
    write_image(path, np.zeros((3, width, 3), np.uint8))
    assert not read_header(path).loss


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied(tmp_path, suffix, orientation):
    stored = RGB[:10]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x{suffix}"
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}
    PIL.Image.fromarray(stored).save(path, exif=exif, **options.get(suffix, {}))
    expected = UPRIGHT[orientation](stored)
    pixels, header = read_image(path).pixels, read_header(path)
    assert (header.height, header.width) == expected.shape[:2]
    np.testing.assert_allclose(pixels, expected, atol=6 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_applied_in_every_mode(tmp_path, mode, orientation):
    stored = PIL.Image.fromarray(RGBA[:10], "RGBA").convert(mode)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    stored.save(tmp_path / "plain.png")
    turned, plain = read_image(tmp_path / "x.png"), read_image(tmp_path / "plain.png")
    np.testing.assert_array_equal(turned.pixels, UPRIGHT[orientation](plain.pixels))
    assert (turned.alpha is None) == (plain.alpha is None)
    if plain.alpha is not None:
        np.testing.assert_array_equal(turned.alpha, UPRIGHT[orientation](plain.alpha))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_read_separately_and_written_back(tmp_path, suffix, channels):
    pixels, alpha = RGB[:9, ..., :channels], RGBA[:9, :, 3]
    write_image(tmp_path / f"x{suffix}", pixels, alpha)
    image = read_image(tmp_path / f"x{suffix}")
    if suffix == ".bmp":  # stores colours with alpha
        pixels = np.broadcast_to(pixels, image.pixels.shape)
    np.testing.assert_array_equal(image.pixels, pixels)
    np.testing.assert_array_equal(image.alpha, alpha)


@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_tag_that_is_not_needed_is_ignored(tmp_path):
    data = bytearray(KINDS["grey.tif"][0])
    photometric = data.index(struct.pack("<HH", 262, 3))
    struct.pack_into("<I", data, photometric + 4, 2)  # two values instead of one
    (tmp_path / "x.tif").write_bytes(data)
    with PIL.Image.open(tmp_path / "x.tif") as image:
        expected = np.asarray(image)[..., None]
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").pixels, expected)


def test_transparent_colour_of_a_palette_is_alpha(tmp_path):
    PALETTE.save(tmp_path / "x.png", transparency=3)
    image = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image.alpha == 0, np.asarray(PALETTE) == 3)
    np.testing.assert_array_equal(image.pixels, np.asarray(PALETTE.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("pixels", [GREY, RGB, GREY_16_BIT], ids=["grey", "colour", "16-bit"])
def test_lossless_files_preserve_pixels(tmp_path, suffix, pixels):
    path = tmp_path / f"x{suffix}"
    write_image(path, pixels)
    if suffix == ".bmp" and pixels is GREY_16_BIT:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    again = read_image(path).pixels
    assert again.dtype == pixels.dtype
    np.testing.assert_array_equal(again, pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_files_are_close(tmp_path, suffix):
    write_image(tmp_path / f"x{suffix}", RGB)
    again = read_image(tmp_path / f"x{suffix}").pixels.astype(int)
    assert np.abs(again - RGB).mean() < 10


def test_webp_of_quality_100_preserves_pixels_and_alpha(tmp_path):
    write_image(tmp_path / "x.webp", RGB, RGBA[..., 3], quality=100)
    image = read_image(tmp_path / "x.webp")
    np.testing.assert_array_equal(image.pixels, RGB)
    np.testing.assert_array_equal(image.alpha, RGBA[..., 3])


@pytest.mark.parametrize(
    ("pixels", "space", "kept"),
    [(RGB, b"RGB ", True), (RGB, b"CMYK", False), (GREY, b"GRAY", True), (GREY, b"RGB ", False)],
)
def test_colour_profile_is_read_if_it_fits_the_pixels(tmp_path, pixels, space, kept):
    profile = bytes(16) + space + bytes(108)
    pil(pixels).save(tmp_path / "x.png", icc_profile=profile)
    assert read_image(tmp_path / "x.png").icc == (profile if kept else None)


@pytest.mark.parametrize("name", ["x", "x.gif", "x.eps", "x.npz"])
def test_unknown_suffixes_are_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(ImageError, match=r"cannot write.*use \.png"):
        write_image(tmp_path / name, RGB)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_overwritten_only_with_force(tmp_path):
    path = tmp_path / "x.png"
    write_image(path, RGB)
    with pytest.raises(OutputExistsError, match="give --force"):
        write_image(path, GREY)
    np.testing.assert_array_equal(read_image(path).pixels, RGB)
    write_image(path, GREY, force=True)
    np.testing.assert_array_equal(read_image(path).pixels, GREY)
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_is_kept_if_the_new_one_cannot_be_encoded(tmp_path):
    path = tmp_path / "x.jpg"
    write_image(path, RGB)
    before = path.read_bytes()
    with pytest.raises(ImageError, match=r"JPEG files cannot store alpha; use \.png, "):
        write_image(path, RGB, RGBA[..., 3], force=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


BAD = {
    "nothing": (b"", "is empty"),
    "text": (b"no image at all\n" * 50, "is not an image file"),
    "postscript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "is a PostScript file; expected PNG",
    ),
    "GIF of 3 frames": (animated("GIF"), "has 3 frames"),
    "WebP of 3 frames": (animated("WEBP"), "has 3 frames"),
    "TIFF of 3 pages": (animated("TIFF"), "has 3 frames"),
    "30,000 px": (png(30_000, 30_000, 8, 2, b""), "is larger than .* megapixels"),
    "32-bit": (encoded(pil(GREY_16_BIT, "I"), format="TIFF"), "is a 32-bit signed grey TIFF"),
    "floating point": (
        encoded(pil(GREY, "F"), format="TIFF"),
        "is a 32-bit floating-point grey TIFF",
    ),
    "truncated": (KINDS["grey.png"][0][:-40], "is damaged or truncated"),
}


@pytest.mark.parametrize("what", BAD)
def test_unusable_file_raises_an_error_of_one_line(tmp_path, what):
    data, cause = BAD[what]
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=cause) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_header, read_image])
def test_error_names_path_that_cannot_be_opened(tmp_path, read):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere.png")
    for name, cause in (
        ("missing.png", "No such file"),
        ("link.png", "No such file"),
        ("folder.png", "Is a directory"),
    ):
        with pytest.raises(ImageError, match=f"{name}: cannot be read: {cause}"):
            read(tmp_path / name)


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("name", [*KINDS, "cmyk.jpg", "animated.gif"])
def test_damage_anywhere_raises_no_other_error(tmp_path, name):
    extra = {"cmyk.jpg": encoded(CMYK, format="JPEG"), "animated.gif": animated("GIF")}
    data = extra[name] if name in extra else KINDS[name][0]
    random = np.random.default_rng(5)
    path = tmp_path / name
    for trial in range(60):
        damaged = bytearray(data)
        if trial % 3 == 0:
            del damaged[random.integers(len(data)) :]
        else:
            for position in random.integers(min(len(data), [60, 10**6][trial % 2]), size=3):
                damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        for read in (read_header, read_image):
            with suppress(ImageError):
                read(path)


def test_every_encoding_is_tested():
    assert {*ENCODINGS} == {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resizing_preserves_dtype_and_flat_colour(dtype):
    data_range = np.iinfo(dtype).max
    flat = np.full((12, 20, 3), data_range, dtype)
    result = resized(flat, 30, 7)
    assert result.dtype == dtype
    assert result.shape == (30, 7, 3)
    assert (result == data_range).all()
    same = draw(4, dtype=dtype)
    np.testing.assert_array_equal(resized(same, 16, 16), same)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'


def oriented():
    """Return chunks of PNG files that say that the image lies on its side."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    text = exif.tobytes()
    profile = f"\nexif\n{len(text):8}\n{text.hex()}\n".encode()
    return {
        "eXIf": chunk(b"eXIf", text.removeprefix(b"Exif\0\0")),
        "raw profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        "packed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    }


@pytest.mark.parametrize("name", oriented())
@pytest.mark.parametrize("late", [False, True], ids=["before the pixels", "after"])
@pytest.mark.parametrize("pixels", [RGB[:10], GREY_16_BIT[:10]], ids=["colour", "16-bit"])
def test_orientation_is_read_wherever_a_png_has_it(tmp_path, name, late, pixels):
    data = encoded(pil(pixels), format="PNG")
    at = len(data) - 12 if late else 33
    text = chunk(b"tEXt", b"date:create\0" + bytes(200))  # of ImageMagick, at the end
    path = tmp_path / "x.png"
    path.write_bytes(data[:at] + text * late + oriented()[name] + data[at:])
    found, header = read_image(path), read_header(path)
    np.testing.assert_array_equal(found.pixels, UPRIGHT[6](pixels))
    assert header.size == found.pixels.shape[:2] == (16, 10)
    assert header.bits == 8 * pixels.itemsize
    assert describe_image(path)["size"] == "10x16"


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
def test_orientation_of_xmp_is_applied(tmp_path, suffix):
    pil(RGB[:10]).save(tmp_path / f"x.{suffix}", xmp=XMP)
    assert read_header(tmp_path / f"x.{suffix}").size == (16, 10)
    assert read_image(tmp_path / f"x.{suffix}").pixels.shape == (16, 10, 3)
    assert describe_image(tmp_path / f"x.{suffix}")["size"] == "10x16"


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_invalid_orientation_is_ignored(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    pil(RGB[:10]).save(tmp_path / "x.png", exif=exif)
    assert read_header(tmp_path / "x.png").size == (10, 16)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").pixels, RGB[:10])


def bmp(pixels, mask):
    """Return a BMP file of 32 bits with a mask of alpha, or without."""
    height, width, _ = pixels.shape
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, mask)
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, 0, 0, 0, 0, 0) + masks
    body = np.ascontiguousarray(pixels[::-1, :, [2, 1, 0, 3]]).tobytes()
    head = head.ljust(108, b"\0")
    return b"BM" + struct.pack("<IHHI", 122 + len(body), 0, 0, 122) + head + body


def test_alpha_of_bmp_and_gif_is_read(tmp_path):
    (tmp_path / "x.bmp").write_bytes(bmp(RGBA, 0xFF000000))
    image = read_image(tmp_path / "x.bmp")
    np.testing.assert_array_equal(image.pixels, RGBA[..., :3])
    np.testing.assert_array_equal(image.alpha, RGBA[..., 3])
    (tmp_path / "x.bmp").write_bytes(bmp(RGBA, 0))
    assert read_image(tmp_path / "x.bmp").alpha is None
    ramp = pil(np.arange(256, dtype=np.uint8).reshape(16, 16, 1))
    for source in (PALETTE, ramp):  # Pillow stores the ramp as grey
        source.save(tmp_path / "x.gif", transparency=3)
        image = read_image(tmp_path / "x.gif")
        np.testing.assert_array_equal(image.alpha == 0, np.asarray(source) == 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_never_lost_silently(tmp_path, channels):
    with pytest.raises(ImageError, match=r"JPEG files cannot store alpha; use \.png"):
        write_image(tmp_path / "x.jpg", RGB[..., :channels], RGBA[..., 3])
    assert list(tmp_path.iterdir()) == []


def twelve_bits():
    """Return a JPEG file whose header says 12 bits."""
    data = bytearray(encoded(pil(RGB), format="JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def ftyp(brand, *others):
    return struct.pack(">I4s4sI", 16 + 4 * len(others), b"ftyp", brand, 0) + b"".join(others)


WHAT = {
    "a JPEG of 12 bits": twelve_bits(),
    "a JPEG of 8 bits, lossless": b"\xff\xd8\xff\xc3\0\x0b\x08\0\x10\0\x10\1\1\x11\0",
    f"a HEIC image, which needs {install('heic')}": ftyp(b"heic", b"mif1", b"heic"),
    "an AVIF image, damaged": ftyp(b"avif", b"mif1") + bytes(99),
    "a camera raw file": ftyp(b"crx ", b"crx ", b"isom"),
    "a clip": ftyp(b"isom", b"mp42"),
    "a clip (WebM or Matroska)": b"\x1aE\xdf\xa3" + bytes(50),
    "a JPEG XL image": b"\xff\x0a" + bytes(50),
    "a Photoshop file": b"8BPS" + bytes(50),
    "a web page": b"<!DOCTYPE html><html></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "a ZIP archive": b"PK\3\4" + bytes(50),
}


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("what", WHAT)
def test_error_tells_what_the_file_is(tmp_path, what):
    path = tmp_path / "x.jpg"
    path.write_bytes(WHAT[what])
    with pytest.raises(ImageError) as error:
        read_image(path)
    cause = str(error.value).removeprefix(f"{path}: ")
    assert cause.startswith(f"is {what}")
    assert cause.endswith("; expected PNG, JPEG, BMP, TIFF, WebP, GIF or AVIF")


def test_avif_is_read_under_any_name(tmp_path):
    for name in ("x.avif", "x.jpg", "x.heic"):
        pil(RGB).save(tmp_path / name, "AVIF", quality=100, subsampling="4:4:4")
        image = read_image(tmp_path / name)
        assert np.abs(image.pixels.astype(int) - RGB).mean() < 3
        assert image.loss == ""
        assert describe_image(tmp_path / name)["format"] == "AVIF"


#: A HEIC file of 32x16 px, orange on the left and blue on the right.
HEIC = (
    "eNpjYGCQSSupLMhIzUxmAILczDRDEDs3MzGNgYGxJje1JJEBAhQzUnKKoGyGgszkEgY0oJSZkw82xMWBgREIgYBx"
    "AYQGghlArJyZmZcG5oFERYGcVCYoL6Ms2RDE5CvILMmFK/mTWVBUAKTvZBYk5wPpUqAyZ0ZmkNAEsCK5Dwx//v74"
    "wcDAz5wA1CHhwMjD+P8/SAEzSAUzCMntYnJIBEpqOjEyosksUGhknfZq3axnDxQXHGhgYOBpAAm3JAFVs7kwHiw+"
    "2Am0Qzg5P6coLzmnAijKy8AGVMIgkllckAr1mAMUayTnJIIcpgB1uwCI/v///wMgzQSkL4BokHhBZkUmSCMzBwcH"
    "kJLILMiFhTEw2FgbmZhZW4DsBbkpiaAwnqLBuJ7zRPqKLkvl8Pr/fdH1f5uOtb/WlFj7v+fM7x+83/+/X9L/1Oq/"
    "w8lVeofUHxSviJOaGCZ5k+3EvOA8vjuTrlZc4tuZue+04mfvD5ui1y5sjny1gmVr2sqpzdXZxzQ3RTPJ+XA0v3vK"
    "N2ueE7vms8OHGlxcdav65yuIhdcGmD98ZCKw7otCptfjOzfT2XdGRjw9rCXktajjfRQABOubMw=="
)


def test_heic_is_read_with_the_extra(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(zlib.decompress(base64.b64decode(HEIC)))
    if find_spec("pi_heif") is None:
        with pytest.raises(
            ImageError,
            match=r"is a HEIC image, which needs pip install 'masked-linear-regression\[heic",
        ):
            read_image(path)
        pytest.skip("needs the extra heic")
    assert read_header(path).size == (16, 32)
    pixels = read_image(path).pixels.astype(int)
    assert np.abs(pixels[:, :14] - (200, 80, 40)).max() < 5
    assert np.abs(pixels[:, 18:] - (20, 120, 220)).max() < 5
