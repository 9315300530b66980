"""Every sample layout of TIFF and PNG is read right, or refused by its name."""

import io

import numpy as np
import PIL.Image
import pytest
from skimage.color import lab2rgb

from mlr.errors import ImageError
from mlr.io import tiff
from mlr.io.images import REDUCED, read_header, read_image
from mlr.io.provenance import describe_image
from tests.layouts import CMYK, PALETTE, RGB, YCBCR, Tiff, drawn, pngs, tiffs
from tests.test_images import UPRIGHT

LAYOUTS = [*tiffs(), *pngs()]
EXTRA = pytest.param(True, marks=pytest.mark.skipif(not tiff.has_extra(), reason=tiff.EXTRA))
HAS_ZSTD = tiff.has_extra()  # to write files


@pytest.fixture(params=[EXTRA, False], ids=["extra", "plain"])
def extra(request, monkeypatch):
    """Whether the extra is there."""
    monkeypatch.setattr(tiff, "has_extra", lambda: request.param)
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all, since there are a thousand tests."""
    return tmp_path_factory.mktemp("layouts")


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
def test_pixels_and_alpha_are_those_of_the_samples(folder, layout, extra):
    if getattr(layout, "compression", "") == "zstd" and not HAS_ZSTD:
        pytest.skip("needs imagecodecs to write the file")
    pixels, alpha = layout.expected()
    cause = ""
    try:
        image = read(folder, layout.data())
    except ImageError as error:
        cause = str(error)
    if cause:
        assert not extra
        assert tiff.EXTRA in cause
        assert f" {layout.bits}-bit " in cause or "16-bit colours, one of them" in cause
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


def page_of(layout, **tags):
    """Return a page of a layout with further tags, such as that of its kind."""
    return layout.page(more={int(tag[1:]): (4, [value]) for tag, value in tags.items()})


SMALL = Tiff(rows=5), drawn(8, 1, 3, (5, 4))
REDUCED_PAGE = SMALL[0].page(SMALL[1], {254: (4, [1])})
OLD_REDUCED_PAGE = SMALL[0].page(SMALL[1], {255: (3, [2])})


@pytest.mark.parametrize("layout", [Tiff(), Tiff(RGB, 16, 3, order=">"), Tiff(bits=12)], ids=str)
@pytest.mark.parametrize("pages", ["small first", "small last", "old", "both"])
def test_page_of_full_resolution_is_read(tmp_path, layout, pages):
    if not tiff.has_extra() and layout.bits != 8:
        pytest.skip(f"needs {tiff.EXTRA}")
    full, small = layout.page(), REDUCED_PAGE
    order = {
        "small first": [small, full],
        "small last": [full, small],
        "both": [small, full, small],
    }
    data = layout.data(*order.get(pages, [full, OLD_REDUCED_PAGE]))
    np.testing.assert_array_equal(read(tmp_path, data).pixels, layout.expected()[0])
    assert describe_image(tmp_path / "x").items() >= {"frames": 1, "size": "19x21"}.items()


def test_mask_is_not_read_and_other_pages_are_refused(tmp_path):
    layout = Tiff(RGB, 8, 3)
    mask = Tiff(bits=1).page(more={254: (4, [4])})
    image = read(tmp_path, layout.data(layout.page(), mask))
    assert image.loss == "a transparency mask, which is not read"
    for pages, cause in (
        ([layout.page(), layout.page()], "has 2 frames; expected a still image"),
        ([REDUCED_PAGE], "is a TIFF of a preview alone, such as camera raw"),
        ([page_of(layout, _50706=1)], "is a TIFF of a preview alone, such as camera raw"),
    ):
        with pytest.raises(ImageError, match=cause):
            read(tmp_path, layout.data(*pages))


REFUSED = {
    "a 32-bit floating-point grey TIFF (uncompressed)": Tiff(bits=32, kind=3),
    "a 16-bit floating-point RGB TIFF (uncompressed)": Tiff(RGB, 16, 3, kind=3),
    "a 64-bit floating-point grey TIFF (deflate": Tiff(bits=64, kind=3, compression="deflate"),
    "a 16-bit signed grey TIFF (uncompressed)": Tiff(bits=16, kind=2),
    "an 8-bit signed RGB TIFF (uncompressed, in planes)": Tiff(RGB, 8, 3, planar=2, kind=2),
    "a 24-bit grey TIFF (uncompressed)": Tiff(bits=24),
    "a 32-bit RGB TIFF (uncompressed)": Tiff(RGB, 32, 3),
    "an 8-bit camera raw TIFF (uncompressed)": Tiff(32803),
    "an 8-bit photometric 4 TIFF (uncompressed)": Tiff(4),
    "an 8-bit YCbCr TIFF (lzw)": Tiff(YCBCR, 8, 3, compression="lzw"),
    "an 8-bit RGB TIFF (compression 34712)": Tiff(RGB, 8, 3, tags={259: (3, [34712])}),
    "a 5+6+5-bit RGB TIFF (uncompressed)": Tiff(RGB, 8, 3, tags={258: (3, [5, 6, 5])}),
    "an 8-bit RGB TIFF (uncompressed)": Tiff(RGB, 8, 2),
    "a 4-bit grey TIFF (uncompressed, predictor 2)": Tiff(bits=4, tags={317: (3, [2])}),
    "an 8-bit grey TIFF (uncompressed, predictor 3)": Tiff(tags={317: (3, [3])}),
    "an 8-bit palette TIFF (uncompressed, premultiplied": Tiff(PALETTE, 8, 2, extra=(1,)),
    "a 12-bit CMYK TIFF (uncompressed, packed)": Tiff(CMYK, 12, 4),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_layouts_are_refused_by_name(tmp_path, name, extra):
    with pytest.raises(ImageError, match="which is not supported; convert it to 8 or 16") as error:
        read(tmp_path, REFUSED[name].data())
    assert f"is {name}" in str(error.value).replace("adobe_", "")


def test_missing_strips_are_damage(tmp_path):
    if not tiff.has_extra():
        pytest.skip(f"needs {tiff.EXTRA}")
    layout = Tiff(bits=12, rows=4)
    tags, chunks = layout.page()
    chunks[2] = b""
    with pytest.raises(ImageError, match="is damaged: strips or tiles are missing"):
        read(tmp_path, layout.data((tags, chunks)))


@pytest.mark.parametrize("orientation", [*UPRIGHT, 0, 9, 6000, None])
@pytest.mark.parametrize("layout", [Tiff(), Tiff(RGB, 16, 3), Tiff(bits=12)], ids=str)
def test_orientation_of_a_page_is_applied_once(tmp_path, layout, orientation):
    if not tiff.has_extra() and layout.bits != 8:
        pytest.skip(f"needs {tiff.EXTRA}")
    xmp = b'<x tiff:Orientation="8"/>'  # has no say in TIFF files
    tags = {} if orientation is None else {274: (3, [orientation])}
    page = layout.page(more={**tags, 700: (1, list(xmp))})
    pixels = UPRIGHT.get(orientation, UPRIGHT[1])(layout.expected()[0])
    np.testing.assert_array_equal(read(tmp_path, layout.data(page)).pixels, pixels)
    height, width = pixels.shape[:2]
    assert describe_image(tmp_path / "x")["size"] == f"{width}x{height}"


def test_palette_of_8_bits_is_not_black(tmp_path):
    if not tiff.has_extra():
        pytest.skip(f"needs {tiff.EXTRA}")
    layout = Tiff(PALETTE)
    page = layout.page(more={320: (3, list(layout.colours().T.ravel() >> 8))})
    np.testing.assert_array_equal(read(tmp_path, layout.data(page)).pixels, layout.expected()[0])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_in_tiff_is_the_same_as_jpeg(tmp_path, mode):
    ramp = np.add.outer(np.arange(40), np.arange(32)) * 3
    source = PIL.Image.fromarray(np.dstack([ramp, ramp[::-1], ramp]).astype(np.uint8)).convert(mode)
    source.save(tmp_path / "x.tif", compression="jpeg", quality=95)
    source.save(tmp_path / "x.jpg", quality=95, subsampling=0)
    found, expected = read_image(tmp_path / "x.tif"), read_image(tmp_path / "x.jpg")
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() < 12
    assert found.loss == expected.loss


def test_cmyk_and_lab_are_those_of_their_definitions(tmp_path):
    cmyk = Tiff(CMYK, 8, 4)
    array = cmyk.array().astype(int)
    ink = 255 - array[..., :3]
    expected = ink * (255 - array[..., 3:]) / 255
    for layout in (cmyk, Tiff(CMYK, 8, 4, planar=2, compression="deflate")):
        assert np.abs(read(tmp_path, layout.data()).pixels - expected).max() <= 1
    lab = Tiff(8, 8, 3)
    values = lab.array()
    values[..., 0] = 60 * 255 // 100
    values[..., 1:] = (values[..., 1:] % np.uint64(40)).astype(np.uint64)  # within sRGB
    expected = lab2rgb(np.dstack([np.full(values.shape[:2], 60.0), values[..., 1:].astype(float)]))
    found = read(tmp_path, lab.data(lab.page(values))).pixels
    assert np.abs(found - expected * 255).max() < 8  # skimage has another white


def test_libtiff_says_nothing(tmp_path, capfd):
    data = bytearray(Tiff(RGB, 8, 3, compression="lzw", rows=4).data())
    data[40:60] = b"\xff" * 20
    with pytest.raises(ImageError, match="is damaged or truncated"):
        read(tmp_path, bytes(data))
    assert capfd.readouterr().err == ""
