"""What files are that are not images which the program reads."""

from __future__ import annotations

import re

from mlr._version import install

HEIC = f"a HEIC image, which needs {install('heic')}"
#: First bytes of files, and what they are.
_STARTS = {
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF file",
    b"%!PS": "a PostScript file",
    b"\0\0\1\0": "an icon",
    b"icns": "an icon",
    b"qoif": "a QOI image",
    b"v/1\1": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance HDR image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"DDS ": "a DDS image",
    b"SIMPLE  =": "a FITS image",
    b"gimp xcf": "a GIMP file",
    b"FUJIFILMCCD-RAW": "a camera raw file",
    b"II\x55\0": "a camera raw file",
    b"P4": "a PBM image",
    b"P5": "a PGM image",
    b"P6": "a PPM image",
    b"<svg": "an SVG image",
    b"<?xml": "an XML file",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS; fetch the file with git lfs pull",
    b"\x93NUMPY": "a NumPy array",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"\x1aE\xdf\xa3": "a clip (WebM or Matroska)",
}
#: Brands of files in the ISO base media format; others are of clips.
_BRANDS = dict.fromkeys((b"avif", b"avis"), "an AVIF image, damaged or too new for this Pillow")
_BRANDS |= {b"crx ": "a camera raw file"}
_BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), HEIC)
_BRANDS |= dict.fromkeys((b"hevc", b"hevx", b"hevm", b"hevs"), HEIC)
_UNREAD = """
.psd .psb .xcf .kra .ora .jxl .jp2 .j2k .jpx .jpf .jxr .wdp .hdp .tga .pcx .ppm .pgm .pbm .pnm .exr
.hdr .dds .fits .fit .qoi .dcm .bpg .flif .mng .jng .heics .heifs .hif .avcs .insp .dng .cr2 .cr3
.crw .nef .nrw .arw .srf .sr2 .raf .orf .rw2 .rwl .pef .srw .x3f .3fr .fff .iiq .mrw .mos .kdc .dcr
.erf .mef .raw .gpr .rm .rmvb .swf .braw .r3d .insv .y4m .yuv
"""
#: Suffixes of images and clips that are not read; those in folders fail.
UNREAD = frozenset(_UNREAD.split())
_JPEG_HEADER = re.compile(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf])\x00.(.)", re.DOTALL)


def what_is(data: bytes) -> str:
    """Return what a file is from its first 64 KiB, with its article, or "" if unknown."""
    if data[4:8] == b"ftyp":
        brand = b"avif" if b"avif" in data[16:64] else data[8:12]
        return _BRANDS.get(brand, "a clip")
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "a clip (AVI)"
    if data[:2] == b"\xff\xd8":
        for frame, bits in _JPEG_HEADER.findall(data):
            if ord(bits) != 8 or ord(frame) in (0xC3, 0xC7, 0xCB, 0xCF):
                return f"a JPEG of {ord(bits)} bits{'' if ord(frame) < 0xC3 else ', lossless'}"
    return next((what for start, what in _STARTS.items() if data.startswith(start)), "")
