"""Every sample layout of TIFF and PNG is read right, or refused by its name."""

import io

import numpy as np
import PIL.Image
import pytest

from mlr.errors import ImageError
from mlr.io import tiff
from mlr.io.images import REDUCED, read_header, read_image
from tests.layouts import BLACK, CMYK, PALETTE, RGB, WHITE, YCBCR, Png, Tiff, drawn, pngs, tiffs

LAYOUTS = [*tiffs(), *pngs()]
EXTRA = pytest.param(True, marks=pytest.mark.skipif(not tiff.has_extra(), reason=tiff.EXTRA))
HAS_ZSTD = tiff.has_extra()  # to write files


@pytest.fixture(params=[EXTRA, False], ids=["extra", "plain"])
def extra(request, monkeypatch):
    """Whether the extra is there."""
    monkeypatch.setattr(tiff, "has_extra", lambda: request.param)
    return request.param


def read(folder, data):
    """Return the image of a file, whose header must agree."""
    path = folder / "x"
    path.write_bytes(data)
    image, header = read_image(path), read_header(path)
    assert (header.height, header.width, header.channels) == image.pixels.shape
    assert header.bits == 8 * image.pixels.itemsize
    assert header.loss == image.loss
    return image


def test_there_are_enough_layouts():
    assert len(tiffs()) > 200
    assert len(pngs()) == 52


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_pixels_and_alpha_are_those_of_the_samples(tmp_path, layout, extra):
    if getattr(layout, "compression", "") == "zstd" and not HAS_ZSTD:
        pytest.skip("needs imagecodecs to write the file")
    pixels, alpha = layout.expected()
    try:
        image = read(tmp_path, layout.data())
    except ImageError as error:
        assert not extra
        assert tiff.EXTRA in str(error)
        bits = layout.bits
        assert f" {bits}-bit " in str(error) or "16-bit colours, one of them" in str(error)
        return
    if REDUCED in image.loss:
        assert not extra
        pixels, alpha = pixels >> 8, None if alpha is None else alpha >> 8
        assert pixels.max() > 255 or image.pixels.dtype == np.uint8
    else:
        assert image.pixels.dtype == pixels.dtype
    assert image.pixels.shape == pixels.shape
    # Pillow rounds premultiplied colours otherwise.
    tolerance = 1 if 1 in getattr(layout, "extra", ()) and layout.bits == 8 else 0
    assert np.abs(image.pixels.astype(int) - pixels).max() <= tolerance
    assert (image.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(image.alpha, alpha)
    unread = getattr(layout, "extra", ())
    assert ("neither colour nor alpha" in image.loss) == (len(unread) > any(unread))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_files_are_valid_for_a_decoder_that_is_not_used(layout):
    imagecodecs, tifffile = map(pytest.importorskip, ("imagecodecs", "tifffile"))
    data, array = layout.data(), layout.array()
    if isinstance(layout, Tiff):
        page = tiff.read_page(io.BytesIO(data))
        if page.by_pillow:
            with tifffile.TiffFile(io.BytesIO(data)) as file:
                found = file.pages[0].asarray()
        elif layout.bits in (8, 16):
            found = imagecodecs.tiff_decode(data)
        else:
            return  # libtiff does not unpack these
        if layout.planar == 2 and layout.samples > 1:
            found = np.moveaxis(found, 0, 2)
    elif layout.colour == 3 or layout.key or layout.bits < 8:
        return
    else:
        found = imagecodecs.png_decode(data)
    np.testing.assert_array_equal(found.reshape(array.shape), array)
