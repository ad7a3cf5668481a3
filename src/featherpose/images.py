"""Reading, writing and warping images. Inside the package an image is RGB, uint8, (H, W, 3)."""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import threading
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from featherpose import files
from featherpose.errors import InputError
from featherpose.letterbox import Letterbox
from featherpose.size import Size

PillowImage = Image.Image

MAX_PIXELS = 100_000_000
"""Larger images are refused before a pixel is decoded: 100 megapixels are already 300 MB of RGB."""

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs", ".tif", ".tiff"),
    *(".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    *(".heic", ".heif", ".hif"),
)
"""Suffixes of the files that are read as images when a folder is searched: all of the formats that `read` knows."""

BITS = (8, 10, 12, 14, 16)
"""Numbers of bits that cameras write into files of 16."""

# Pillow knows more formats; some of them start other programs (EPS) or contain a second image of any size (ICO).
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "HEIF")
_INTERPOLATIONS = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}
_FORMAT_WORDS = "JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, PPM, JPEG 2000"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# What Pillow's decoders raise on damaged files, found by damaging files at random.
_DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, RuntimeError),
    *(struct.error, zlib.error),
)
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_SHORT_MAX = 32766  # OpenCV 4 cannot warp an image that is wider or taller
_pillow_limit = threading.Lock()


def read(
    source: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
    notes: list[str] | None = None,
) -> NDArray[np.uint8]:
    """Path or bytes of an image file -> RGB uint8 (H, W, 3), rotated upright by its EXIF orientation.

    Gray, CMYK and palette images are converted to RGB, transparent ones are composited on white. Pixels of 16 bits are
    scaled to 8 from the smallest of `BITS` that contains the largest of them: cameras of 12 bits write them into 16. Of
    an animation the first frame is read.

    Args:
        name: of an image given as bytes, for messages.
        notes: gets a sentence if the image was not taken as it is.

    Raises:
        InputError: the file is missing, damaged, of an unknown format or larger than `max_pixels`.
    """
    if isinstance(source, bytes):
        return _read_stream(io.BytesIO(source), name or "image given as bytes", len(source), max_pixels, notes)
    path = Path(source)
    with _open(path) as file:
        return _read_stream(file, str(path), os.fstat(file.fileno()).st_size, max_pixels, notes)


def read_size(path: Path) -> Size:
    """Path of an image file -> size of the upright image, from the header alone; InputError as `read`."""
    with _open(path) as file, _opened(file, str(path)) as pil_image:
        width, height = pil_image.size
        try:
            turned = _header_exif(pil_image, file).get(ExifTags.Base.Orientation, 1) in _TURNED
        except _DECODE_ERRORS as error:
            raise InputError(f"{path}: truncated or damaged ({error}). Copy or download it again.") from None
        return Size(height=width, width=height) if turned else Size(height=height, width=width)


def _header_exif(pil_image: Image.Image, file: io.BufferedReader) -> Image.Exif:
    """Image that has been opened, and its file -> its EXIF data, without decoding pixels where that is possible.

    For a PNG, Pillow decodes the pixels to see what comes behind them: hardly any file has something there.
    """
    if pil_image.format != "PNG" or _has_text_behind_pixels(file):
        return pil_image.getexif()
    return Image.Image.getexif(pil_image)


def _has_text_behind_pixels(file: io.BufferedReader) -> bool:
    """PNG file -> whether a chunk that may say how the image is turned comes after the first one with pixels."""
    before = file.tell()
    file.seek(len(b"\x89PNG\r\n\x1a\n"))
    is_behind = False
    found = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        is_behind = is_behind or kind == b"IDAT"
        found = found or (is_behind and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"))
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(before)
    return found


@contextlib.contextmanager
def _open(path: Path) -> Generator[io.BufferedReader]:
    """Path of an image file -> the file; InputError where it cannot be read."""
    # Opening a pipe would wait for a writer.
    if files.is_stream(path):
        raise InputError(f"{path}: a pipe or a device, wanted an image file. Save the image to a file first.")
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder, wanted one image file. Give a file in it.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}). Check the path and its permissions.") from None
    except ValueError:
        raise InputError(f"{path}: no file has a name like this. Check the path.") from None


def from_pillow(
    pil_image: PillowImage,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str = "Pillow image",
    notes: list[str] | None = None,
) -> NDArray[np.uint8]:
    """Pillow image of any mode -> RGB uint8 (H, W, 3), converted and rotated as by `read`; InputError as there."""
    _check_size(pil_image.size, name, max_pixels)
    try:
        pil_image.load()
        return _to_rgb(_upright(pil_image), name, notes)
    except _DECODE_ERRORS as error:
        raise InputError(f"{name}: truncated or damaged ({error}). Copy or download it again.") from None


def _read_stream(
    file: io.BufferedReader | io.BytesIO, name: str, nbytes: int, max_pixels: int, notes: list[str] | None
) -> NDArray[np.uint8]:
    if nbytes == 0:
        raise InputError(f"{name}: the file is empty (0 bytes). Copy or download it again.")
    with _opened(file, name) as pil_image:
        is_deep = _is_16_bit_color(pil_image)
        rgb = from_pillow(pil_image, max_pixels=max_pixels, name=name, notes=notes)
        # Pillow keeps the upper 8 bits of 16 alone: of 12 bits, nothing but 4.
        if is_deep and rgb.max(initial=0) < 1 << BITS[-2] - 8:
            return _from_16_bit_color(file, rgb, notes)
        return rgb


@contextlib.contextmanager
def _opened(file: io.BufferedReader | io.BytesIO, name: str) -> Generator[Image.Image]:
    head = file.read(512)
    file.seek(0)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and b"avif" not in head[:40]:
        _register_heic(name)
    try:
        with _without_pillow_limit():
            Image.init()
            pil_image = Image.open(file, formats=[known for known in _FORMATS if known in Image.OPEN])
    except _DECODE_ERRORS:
        if mistaken := files.mistaken_content(head):
            raise InputError(f"{name}: not an image, but {mistaken}.") from None
        hint = "Convert it: magick FILE image.jpg"
        raise InputError(f"{name}: not an image in a known format ({_FORMAT_WORDS}). {hint}") from None
    with pil_image:
        yield pil_image


@contextlib.contextmanager
def _without_pillow_limit() -> Generator[None]:
    """Pillow's own limit warns or raises while the header is read; `_check_size` replaces it."""
    with _pillow_limit:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _register_heic(name: str) -> None:
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]  (optional)
    except ImportError:
        hint = "pip install pillow-heif, or convert it: heif-convert FILE image.jpg"
        raise InputError(f"{name}: a HEIC image, which needs one more package. Type: {hint}") from None
    pillow_heif.register_heif_opener()  # pyright: ignore[reportUnknownMemberType]


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"{name}: the image is {height}x{width} pixels. Copy or export it again.")
    if width * height > max_pixels:
        raise InputError(
            f"{name}: {height}x{width} is {width * height / 1e6:.1f} megapixels, at most {max_pixels / 1e6:g} are "
            "read. Resize it (magick FILE -resize 50% smaller.jpg) or raise the limit "
            f"(--max-megapixels {math.ceil(width * height / 1e6)}, in Python max_pixels={width * height})."
        )


def _upright(pil_image: Image.Image) -> Image.Image:
    """Image rotated by its EXIF orientation; the image itself, not a copy, where there is none."""
    orientation = pil_image.getexif().get(ExifTags.Base.Orientation, 1)
    return pil_image if orientation == 1 else ImageOps.exif_transpose(pil_image)


def _is_16_bit_color(pil_image: Image.Image) -> bool:
    tiles: list[Any] = getattr(pil_image, "tile", [])
    return pil_image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in tiles)


def _from_16_bit_color(
    file: io.BufferedReader | io.BytesIO, rgb: NDArray[np.uint8], notes: list[str] | None
) -> NDArray[np.uint8]:
    """Image file with 16 bits per color, and Pillow's upper 8 of them -> all of its bits, scaled to 8.

    The upper 8 where OpenCV reads another image from the file.
    """
    file.seek(0)
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    deep = cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags)
    if deep is None or deep.dtype != np.uint16:
        return rgb
    if deep.ndim == 3 and deep.shape[2] == 4 and (deep[..., 3] == 65535).all():
        deep = deep[..., :3]
    if deep.shape != rgb.shape:
        return rgb
    return _to_8_bits(deep[..., ::-1].astype(np.int64), notes)


def _to_8_bits(wide: NDArray[np.int64], notes: list[str] | None) -> NDArray[np.uint8]:
    """Values from 0 to 65535 -> 0 to 255: full range to full range of the smallest of `BITS` that contains them."""
    high = int(wide.max(initial=0))
    bits = next(bits for bits in BITS if high < 1 << bits)
    full = (1 << bits) - 1
    if bits < BITS[-1] and notes is not None:
        notes.append(f"{bits} of 16 bits are used; brightened, as if {full} were white")
    return ((wide * 255 + full // 2) // full).astype(np.uint8)


def _to_rgb(pil_image: Image.Image, name: str, notes: list[str] | None) -> NDArray[np.uint8]:
    if pil_image.mode == "F":
        raise InputError(f"{name}: pixels are floating point of unknown range. Convert them to 8 or 16 bits.")
    if pil_image.mode.startswith("I"):
        return _from_16_bit(np.asarray(pil_image), name, notes)
    if pil_image.has_transparency_data:
        above = pil_image.convert("RGBA")
        pil_image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    # Pillow copies an image even where there is nothing to convert.
    return np.array(pil_image if pil_image.mode == "RGB" else pil_image.convert("RGB"))


def _from_16_bit(gray: NDArray[np.generic], name: str, notes: list[str] | None) -> NDArray[np.uint8]:
    wide = gray.astype(np.int64)
    low, high = int(wide.min()), int(wide.max())
    if low < 0 or high > 65535:
        raise InputError(f"{name}: gray values from {low} to {high}, wanted 0 to 65535. Convert it to 8 or 16 bits.")
    return np.repeat(_to_8_bits(wide, notes)[:, :, None], 3, axis=2)


def write(path: str | os.PathLike[str], image: NDArray[np.uint8], *, quality: int = 92) -> None:
    """RGB uint8 (H, W, 3) -> a file in the format of its suffix, written atomically; InputError when that fails."""
    path = Path(path)
    known = Image.registered_extensions()
    format = known.get(path.suffix.lower(), "")
    if format not in _FORMATS:
        raise InputError(f"{path}: cannot write an image named *{path.suffix}. Name it *.jpg, *.png or *.webp.")
    files.replace(path, encode(image, format, quality=quality))


def encode(image: NDArray[np.uint8], format: str, *, quality: int = 92, lossless: bool = False) -> bytes:
    """RGB uint8 (H, W, 3), name of a format and quality 0 to 100 -> content of a file; `lossless`: of WebP alone.

    Color is stored at full resolution where the format allows it (JPEG, AVIF).
    """
    options: dict[str, int | str] = {"quality": quality}
    # Thin colored lines smear when color is stored at half resolution.
    if format == "JPEG":
        options["subsampling"] = 0
    if format == "AVIF":
        options["subsampling"] = "4:4:4"
    if lossless:
        options = {"lossless": True}
    data = io.BytesIO()
    Image.fromarray(image).save(data, format=format, **options)
    return data.getvalue()


def warp(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: Size, border: int = 0, *, antialias: bool = False
) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3), matrix (2, 3) image -> result pixels, size (h, w) of the result -> uint8 (h, w, 3).

    Bilinear; `border` is the gray level outside the image. With `antialias` an image of at least twice the result's
    resolution is first averaged down by an integer factor; plain bilinear interpolation reads four pixels for each
    pixel of the result and ignores the others.
    """
    step = 1
    if antialias:  # image pixels per result pixel, in the direction with the fewest
        step = max(1, int(1e-6 + 1 / np.linalg.norm(matrix[:, :2], axis=0).max()))
        # Of a box that is far larger than the image only the image is seen: no memory for the rest.
        step = min(step, *image.shape[:2])
    if step > 1 or max(image.shape[:2]) > _SHORT_MAX:
        image, matrix = _covered_region(image, matrix, size, step, border)
    edge = (border, border, border)
    warped = cv2.warpAffine(
        image, matrix, size.xy, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=edge
    )
    return warped.astype(np.uint8, copy=False)


def _covered_region(
    image: NDArray[np.uint8], matrix: NDArray[np.float64], size: Size, step: int, border: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Image and matrix -> the region that the result shows, averaged over step x step pixels, and its own matrix."""
    back = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))
    corners = np.array([(x, y, 1) for x in (-1, size.width) for y in (-1, size.height)]) @ back[:2].T
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(corners.min(axis=0)) - step, -1e9, 1e9).astype(np.int64)
    high = np.clip(np.ceil(corners.max(axis=0)) + step + 1, 1, limit).astype(np.int64)
    # Steps start at the result's edge, not at the image's: the same person gives the same crop at any position.
    start = np.minimum(low + np.maximum(-low, 0) // step * step, limit - 1)
    steps = np.maximum(-(-(high - start) // step), 1)
    (left, top), (right, bottom) = start, start + steps * step
    part = image[max(top, 0) : bottom, max(left, 0) : right]
    below, beside = max(int(bottom - limit[1]), 0), max(int(right - limit[0]), 0)
    edge = (border, border, border)
    part = cv2.copyMakeBorder(
        part, max(int(-top), 0), below, max(int(-left), 0), beside, cv2.BORDER_CONSTANT, value=edge
    )
    part = cv2.resize(part, (int(steps[0]), int(steps[1])), interpolation=cv2.INTER_AREA) if step > 1 else part
    linear = matrix[:, :2]
    offset = matrix[:, 2] + linear @ (start + (step - 1) / 2)
    return part.astype(np.uint8, copy=False), np.column_stack([linear * step, offset])


def shrink(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Image uint8 (H, W, ...) and new pixels per old pixel, 0 < factor <= 1 -> the image averaged down by area.

    Sides are rounded (at least 1 pixel). A point moves as (x + 0.5) * new_width / width - 0.5.
    """
    if not 0 < factor <= 1:
        raise InputError(f"shrink by {factor}: wanted more than 0 and at most 1.")
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if size == (width, height):
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def letterbox(image: NDArray[np.uint8], place: Letterbox) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) and its letterbox -> the network's input, uint8 (h, w, 3), padded with gray.

    The image is averaged down by area or enlarged bilinearly, unless the letterbox's fit says otherwise. InputError
    when the image is not of `image_size`.
    """
    if image.shape[:2] != place.image_size.shape:
        height, width = image.shape[:2]
        raise InputError(f"The image is {height}x{width} pixels, its letterbox is for {place.image_size}.")
    padded = np.full((*place.size.shape, 3), place.fit.border, np.uint8)
    height, width = place.scaled_size.shape
    interpolation = place.fit.interpolation
    if interpolation == "area" and place.factor >= 1:
        interpolation = "linear"
    scaled = resize(image, place.scaled_size, interpolation)
    padded[place.top : place.top + height, place.left : place.left + width] = scaled
    return padded


def resize(image: NDArray[np.uint8], size: Size, interpolation: str = "linear") -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3) and another size -> uint8 (h, w, 3).

    `interpolation`: "linear" and "cubic" read the neighbors of each point, "area" averages all pixels of the region.
    """
    how = _INTERPOLATIONS[interpolation]
    return cv2.resize(image, (size.width, size.height), interpolation=how).astype(np.uint8, copy=False)


def use_one_thread() -> None:
    """Restrict OpenCV to the calling thread, for the whole process: crops are too small to parallelize, and the cores
    are used by the inference engine or by the loader's workers."""
    cv2.setNumThreads(1)
