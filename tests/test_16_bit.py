"""16-bit colour is preserved with the extra; without it a note names the loss."""

import io
import json
from contextlib import suppress

import numpy as np
import PIL.Image
import pytest

from mlr import load
from mlr.errors import ImageError
from mlr.io import images
from mlr.io.images import Image, read_header, read_image, write_image
from mlr.io.provenance import describe_image
from mlr.io.tiff import EXTRA, has_extra
from mlr.photo.eyes import Eyes
from tests.conftest import draw, draw_pairs
from tests.test_images import UPRIGHT, colour_png_of_16_bits, png
from tests.test_photo import profile, scene, write_table

COLOUR, OPACITY = draw(1, dtype=np.uint16), draw(2, channels=1, dtype=np.uint16)[..., 0]
LARGE = 30_000  # px each way

with_extra = pytest.mark.skipif(not has_extra(), reason=f"needs the extra: {EXTRA}")


def tiff(pixels=COLOUR, **options) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", **({"metadata": None} | options))
    return file.getvalue()


def stored(tmp_path, name: str, data: bytes) -> Image:
    path = tmp_path / name
    path.write_bytes(data)
    image, header = read_image(path), read_header(path)
    assert (header.height, header.width, header.channels) == image.pixels.shape
    assert header.bits == 8 * image.pixels.itemsize
    assert header.loss == image.loss
    return image


@with_extra
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [None, OPACITY], ids=["opaque", "alpha"])
def test_grey_and_alpha_are_preserved(tmp_path, suffix, alpha):
    path, grey = tmp_path / f"x{suffix}", COLOUR[..., :1]
    write_image(path, grey, alpha)
    image, header = read_image(path), read_header(path)
    np.testing.assert_array_equal(image.pixels, grey)
    assert (header.channels, header.bits, header.loss) == (1, 16, "")
    assert (image.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(image.alpha, alpha)


@with_extra
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [None, OPACITY], ids=["opaque", "alpha"])
def test_pixels_alpha_and_profile_are_preserved(tmp_path, suffix, alpha):
    path = tmp_path / f"x{suffix}"
    write_image(path, COLOUR, alpha, icc=profile())
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, COLOUR)
    assert image.pixels.dtype == np.uint16
    assert (image.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(image.alpha, alpha)
    assert (image.icc, image.loss) == (profile(), "")
    with PIL.Image.open(path) as seen:  # with Pillow as well
        assert np.abs(np.asarray(seen)[..., :3].astype(int) - (COLOUR >> 8)).max() <= 1


@with_extra
@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"compression": "lzw", "predictor": True},
        {"compression": "adobe_deflate", "tile": (16, 16)},
        {"rowsperstrip": 3},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_every_layout_of_tiff_is_read(tmp_path, options):
    np.testing.assert_array_equal(stored(tmp_path, "x.tif", tiff(**options)).pixels, COLOUR)


@with_extra
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_orientation_is_applied(tmp_path, suffix, orientation):
    low = COLOUR[:10]
    if suffix == ".tif":
        data = tiff(low, extratags=[(0x0112, 3, 1, orientation, True)])
    else:
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        write_image(tmp_path / "y.png", low, exif=exif)
        data = (tmp_path / "y.png").read_bytes()
    image = stored(tmp_path, f"x{suffix}", data)
    np.testing.assert_array_equal(image.pixels, UPRIGHT[orientation](low))


@with_extra
@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_damaged_file_raises_an_error_of_one_line(tmp_path, suffix, capfd):
    path = tmp_path / f"x{suffix}"
    data = colour_png_of_16_bits(COLOUR) if suffix == ".png" else tiff(compression="lzw")
    path.write_bytes(data[: len(data) // 2] if suffix == ".png" else data[:-200])
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    random = np.random.default_rng(7)
    for trial in range(150):
        damaged = bytearray(data)
        if trial % 3 == 0:
            del damaged[random.integers(len(data)) :]
        for position in random.integers(min(len(data), [60, 10**6][trial % 2]), size=3):
            if position < len(damaged):
                damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        for read in (read_header, read_image):
            with suppress(ImageError):
                read(path)
    assert capfd.readouterr().err == ""


@with_extra
def test_huge_image_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_decode_16_bit", None)
    (tmp_path / "x.png").write_bytes(png(LARGE, LARGE, 16, 2, b""))
    for read in (read_header, read_image):
        with pytest.raises(ImageError, match=r"is larger than .* megapixels"):
            read(tmp_path / "x.png")


@with_extra
def test_decoding_is_limited_to_the_size_in_the_header():
    data = colour_png_of_16_bits(COLOUR)
    for size, channels in (((15, 16), 3), ((16, 8), 3), ((16, 16), 4)):
        with pytest.raises((ValueError, RuntimeError)):
            images._decode_16_bit(data, size, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["x.jpg", "x.bmp", "x.webp"])
def test_formats_of_8_bits_store_the_upper_bits(tmp_path, name, channels):
    write_image(tmp_path / name, COLOUR[..., :channels], quality=100)
    found = read_image(tmp_path / name).pixels[..., :channels]
    assert found.dtype == np.uint8
    expected = np.rint(COLOUR[..., :channels] / 257)
    assert np.abs(found - expected).max() <= (8 if name == "x.jpg" else 0)


def test_note_tells_that_an_output_stores_8_bits(run, model, tmp_path):
    write_image(tmp_path / "x.png", draw(3, channels=1, dtype=np.uint16))
    for suffix, said in ((".webp", True), (".png", False)):
        result = run("synthesize", model, tmp_path / "x.png", "-o", tmp_path / f"out{suffix}")
        assert result.code == 0
        note = "note: 1 image holds 16 bits per channel, of which the output stores 8"
        assert (note in result.lines) == said
    assert read_image(tmp_path / "out.webp").pixels.mean() < 250


@with_extra
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_train_synthesize_and_evaluate_preserve_all_bits(run, tmp_path, suffix):
    folder = draw_pairs(tmp_path / "faces", dtype=np.uint16)
    if suffix == ".tif":
        for path in folder.rglob("*.png"):
            write_image(path.with_suffix(".tif"), read_image(path).pixels)
            path.unlink()
    model = tmp_path / "model.npz"
    assert run("train", folder, "-o", model, "--recipe", "paper").code == 0
    face = folder / "neutral" / f"1{suffix}"
    pixels = read_image(face).pixels
    for strength in (0, 1):
        out = tmp_path / f"out-{strength}{suffix}"
        result = run("synthesize", model, face, "-o", out, "--strength", strength)
        assert result.code == 0
        assert "8 bits" not in result.err
        expected = load(model).synthesize(pixels, "happy", strength) if strength else pixels
        np.testing.assert_array_equal(read_image(out).pixels, expected)
        assert describe_image(out)["strength"] == strength
    assert len(np.unique(read_image(out).pixels)) > 256
    assert np.any(read_image(out).pixels % 257)
    result = run("evaluate", model, folder, "--json")
    assert result.code == 0
    assert "8 bits" not in result.err
    assert json.loads(result.out)


@with_extra
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_photograph_keeps_16_bits_outside_the_face(run, model, tmp_path, suffix):
    photo, out = tmp_path / f"x{suffix}", tmp_path / f"out{suffix}"
    pixels = scene(dtype=np.uint16)
    alpha = scene(channels=1, dtype=np.uint16)[..., 0]
    write_image(photo, pixels, alpha, icc=profile())
    eyes = write_table(tmp_path / "eyes.csv", {photo.name: [Eyes(120 + 100j, 160 + 95j)]})
    for strength in (0, 1):
        command = ("synthesize", model, photo, "-o", out, "--eyes", eyes, "--force")
        assert run(*command, "--strength", strength).code == 0
        image = read_image(out)
        changed = np.any(image.pixels != pixels, axis=2)
        assert changed.any() == bool(strength)
        assert not changed[:20].any()
        np.testing.assert_array_equal(image.alpha, alpha)
        assert image.icc == profile()


def test_note_names_the_missing_extra(run, model, tmp_path, monkeypatch):
    monkeypatch.setattr("mlr.io.tiff.has_extra", lambda: False)
    face = tmp_path / "x.png"
    face.write_bytes(colour_png_of_16_bits(COLOUR))
    result = run("synthesize", model, face, "-o", tmp_path / "out.png", "--strength", 0)
    assert result.code == 0
    (note,) = (line for line in result.lines if line.startswith("note:"))
    assert note.endswith(f"to 8 bits; to keep 16 bits: {EXTRA}")
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").pixels, COLOUR >> 8)
    needs = r"(or alpha )?needs pip install 'masked-linear-regression\[deep\]'"
    with pytest.raises(ImageError, match=needs):
        write_image(tmp_path / "y.png", COLOUR)
