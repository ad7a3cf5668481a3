import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from featherpose import images
from featherpose.crop import Crop
from featherpose.errors import InputError
from featherpose.letterbox import Letterbox
from featherpose.size import Size

RED, WHITE = (255, 0, 0), (255, 255, 255)
SMALL, SMALLER = Size(height=64, width=48), Size(height=32, width=24)


def encoded(pil_image: Image.Image, format: str = "PNG", **options) -> bytes:
    data = io.BytesIO()
    pil_image.save(data, format=format, **options)
    return data.getvalue()


def gray16(values) -> Image.Image:
    return Image.fromarray(np.array(values, np.uint16))


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that declares its size and contains no pixels."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def transparent_palette() -> bytes:
    pil_image = Image.new("P", (2, 1))
    pil_image.putpalette([255, 0, 0, 0, 0, 255])
    pil_image.putpixel((1, 0), 1)
    return encoded(pil_image, transparency=1)


COLORS = [
    ("rgb: red comes first", encoded(Image.new("RGB", (2, 2), RED)), RED),
    ("rgb, webp", encoded(Image.new("RGB", (2, 2), RED), "WEBP", lossless=True), RED),
    ("rgb, bmp", encoded(Image.new("RGB", (2, 2), RED), "BMP"), RED),
    ("rgb, tiff", encoded(Image.new("RGB", (2, 2), RED), "TIFF"), RED),
    ("gray", encoded(Image.new("L", (2, 2), 77)), (77, 77, 77)),
    ("1 bit, white", encoded(Image.new("1", (2, 2), 1)), WHITE),
    ("16 bit: full range to full range", encoded(gray16([[65535]])), WHITE),
    ("16 bit: 100 of 255", encoded(gray16([[25700]])), (100, 100, 100)),
    ("16 bit: rounded", encoded(gray16([[25700 + 129]])), (101, 101, 101)),
    ("16 bit, of which 12 are used: full range", encoded(gray16([[4095]])), WHITE),
    ("16 bit, of which 12 are used: half", encoded(gray16([[2048, 4095]])), (128, 128, 128)),
    ("16 bit, of which 8 are used", encoded(gray16([[100, 200]])), (100, 100, 100)),
    ("16 bit, black", encoded(gray16([[0]])), (0, 0, 0)),
    ("16 bit, tiff", encoded(gray16([[25700]]), "TIFF"), (100, 100, 100)),
    ("16 bit, pgm", b"P5 1 1 65535\n" + struct.pack(">H", 25700), (100, 100, 100)),
    ("transparent is white", encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0))), WHITE),
    ("half transparent red", encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128))), (255, 127, 127)),
    ("gray with alpha", encoded(Image.new("LA", (2, 2), (0, 0))), WHITE),
    ("palette", encoded(Image.new("RGB", (2, 2), RED).convert("P")), RED),
    ("animation: the first frame", encoded(Image.new("RGB", (2, 2), RED), "GIF", save_all=True,
                                           append_images=[Image.new("RGB", (2, 2), WHITE)]), RED),
]  # fmt: skip


@pytest.mark.parametrize(("data", "color"), [pytest.param(*row[1:], id=row[0]) for row in COLORS])
def test_all_pixel_formats_become_rgb(data, color):
    image = images.read(data)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert tuple(image[0, 0]) == color


def test_transparent_palette_entry_is_white():
    assert images.read(transparent_palette()).tolist() == [[list(RED), list(WHITE)]]


def test_cmyk_is_converted_to_rgb():
    image = images.read(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(image.astype(int) - RED).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = Image.new("RGB", (32, 16), WHITE)
    upright.paste(RED, (0, 0, 8, 8))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transpose applied by a camera with this orientation
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = images.read(encoded(stored, "PNG", exif=exif))
    assert np.array_equal(image, np.array(upright))


def test_paths_and_bytes_give_the_same_image(tmp_path):
    data = encoded(Image.new("RGB", (3, 2), RED))
    (tmp_path / "a.png").write_bytes(data)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), data):
        assert images.read(source).shape == (2, 3, 3)


JPEG = encoded(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")
BAD = [
    ("empty", b"", r"a\.jpg: the file is empty \(0 bytes\)"),
    ("text", b"this is no picture at all", r"not an image in a known format \(JPEG.*magick"),
    ("truncated", JPEG[: len(JPEG) // 2], r"truncated or damaged.*again"),
    ("only a header", JPEG[:30], r"a\.jpg: "),
    ("damaged", encoded(Image.new("RGB", (9, 9)))[:-20] + b"x" * 20, r"truncated or damaged"),
    ("no area", b"P6 0 5 255\n", r"a\.jpg: "),
    ("gif of width 0", b"GIF89a" + struct.pack("<HHBBB", 0, 5, 0, 0, 0) + b"\x3b", r"a\.jpg: "),
    ("floats", encoded(Image.new("F", (2, 2), 0.5), "TIFF"), r"floating point.*8 or 16 bits"),
    ("32 bit", encoded(Image.new("I", (2, 2), 70000), "TIFF"), r"70000, wanted 0 to 65535"),
    ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"not an image in a known format"),
    (
        "200 megapixels",
        header_only_png(20000, 10000),
        r"10000x20000 is 200\.0 megapixels, at most 100 .*--max-megapixels 200, .*max_pixels=200000000",
    ),
]


@pytest.mark.parametrize(("data", "message"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_bad_files_are_refused_in_one_line(tmp_path, data, message):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        images.read(tmp_path / "a.jpg")
    assert "\n" not in str(caught.value) and str(tmp_path / "a.jpg") in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.jpg: no such file"):
        images.read(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="this is a folder, wanted one image file"):
        images.read(tmp_path)
    with pytest.raises(InputError, match="cannot be opened"):
        images.read(tmp_path / ("n" * 300 + ".jpg"))


def test_bytes_are_named_in_messages():
    with pytest.raises(InputError, match="image given as bytes: the file is empty"):
        images.read(b"")
    with pytest.raises(InputError, match=r"coco-1\.tar/a\.webp: "):
        images.read(b"x", name="coco-1.tar/a.webp")


def test_pixel_limit_keeps_pillows_own_limit():
    data = encoded(Image.new("RGB", (20, 10), RED))
    with pytest.raises(InputError, match=r"10x20 is 0\.0 megapixels"):
        images.read(data, max_pixels=199)
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, 100
    try:
        assert images.read(data, max_pixels=200).shape == (10, 20, 3)
        assert Image.MAX_IMAGE_PIXELS == 100
    finally:
        Image.MAX_IMAGE_PIXELS = before


def test_heic_without_package_gives_install_hint(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"IMG\.heic: a HEIC.*pip install pillow-heif.*heif-convert FILE"):
        images.read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", name="IMG.heic")
    with pytest.raises(InputError, match="not an image in a known format"):  # AVIF may have the same first brand
        images.read(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", name="IMG.avif")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns about invalid metadata
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_random_damage_gives_image_or_input_error(format):
    if format == "AVIF" and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    rng = np.random.default_rng(0)
    good = encoded(Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)), format)
    for _ in range(40):
        data = bytearray(good)
        for _ in range(rng.integers(1, 10)):
            data[rng.integers(0, len(data))] = rng.integers(0, 256)
        try:
            assert images.read(bytes(data), max_pixels=1_000_000).shape[2] == 3
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".PNG"])
def test_written_images_keep_their_colors(tmp_path, suffix):
    image = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    images.write(tmp_path / f"a{suffix}", image)
    assert np.abs(images.read(tmp_path / f"a{suffix}").astype(int) - image).max() <= (0 if suffix == ".png" else 4)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"], "no other file is left"


def test_write_refuses_bad_suffix_or_folder(tmp_path):
    with pytest.raises(InputError, match=r"cannot write an image named \*\.xyz.*\*\.jpg"):
        images.write(tmp_path / "a.xyz", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match="could not be written"):
        images.write(tmp_path / "none" / "a.png", np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("mode", ["official", "udp"])
def test_warped_crops_equal_published_pixels(parity, mode):
    import cv2

    numbers = np.load(parity / "codecs.npz")
    expected = numbers[f"crop_{mode}_cv5"].astype(int)
    if cv2.__version__ < "5":
        expected = expected + numbers[f"crop_{mode}_cv4_minus_cv5"]
    for matrix, wanted in zip(numbers[f"tf_256x192_matrix_{mode}"], expected, strict=True):
        assert np.array_equal(images.warp(numbers["image_u8"], matrix, Size(height=256, width=192)), wanted)


def spot_at(width: int, height: int, center: tuple[float, float], sigma: float) -> np.ndarray:
    """A smooth white spot on black."""
    y, x = np.mgrid[:height, :width]
    gray = 255 * np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.round(gray).astype(np.uint8)[:, :, None], 3, axis=2)


def centroid(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("extent", [40, 96, 200, 333, 700, 1500])
def test_warped_spot_is_where_the_matrix_maps_it(extent, antialias):
    spot = (501.3, 388.6)
    image = spot_at(1000, 800, spot, extent / 24)
    crop = Crop((490.0, 395.0), (float(extent), extent * 4 / 3), SMALL)
    warped = images.warp(image, crop.matrix, crop.size, antialias=antialias)
    assert warped.shape == (64, 48, 3)
    assert np.abs(centroid(warped) - crop.to_crop([spot])[0]).max() < 0.03


def test_antialias_averages_skipped_pixels():
    stripes = np.zeros((800, 600, 3), np.uint8)
    stripes[::4] = 252  # a quarter of the rows are white
    crop = Crop((300.0, 400.0), (384.0, 512.0), SMALL)
    plain, averaged = (images.warp(stripes, crop.matrix, crop.size, antialias=flag) for flag in (False, True))
    assert np.ptp(averaged) <= 6 and abs(float(averaged.mean()) - 63) < 3
    assert abs(float(plain.mean()) - 63) > 20


def test_crops_outside_the_image_are_filled():
    image = np.full((40, 30, 3), 200, np.uint8)
    for antialias in (False, True):
        for center in ((0.0, 0.0), (29.0, 39.0), (-500.0, 20.0), (500.0, 900.0)):
            crop = Crop(center, (120.0, 160.0), SMALLER)
            warped = images.warp(image, crop.matrix, crop.size, border=7, antialias=antialias)
            inside = (crop.to_image([[0, 0], [23, 31]]) >= 0).any() and abs(center[0]) < 100
            assert warped.min() == 7 and (warped.max() == 200) == inside


def test_image_wider_than_opencv_limit_is_warped():
    image = np.zeros((30, 40_000, 3), np.uint8)
    image[:, 39_000:] = 90
    warped = images.warp(image, Crop((39_000.0, 15.0), (30.0, 40.0), SMALLER).matrix, SMALLER)
    assert warped[16, 2, 0] == 0 and warped[16, 20, 0] == 90


def test_shrink_averages_and_rounds_size():
    image = np.zeros((40, 30, 3), np.uint8)
    image[:, ::2] = 200
    half = images.shrink(image, 0.5)
    assert half.shape == (20, 15, 3) and (half == 100).all()
    assert images.shrink(image, 0.001).shape == (1, 1, 3)
    assert images.shrink(image, 1) is image
    for factor in (0, 1.5, float("nan")):
        with pytest.raises(InputError, match="wanted more than 0 and at most 1"):
            images.shrink(image, factor)


def test_letterbox_averages_and_pads_with_gray():
    stripes = np.zeros((60, 80, 3), np.uint8)
    stripes[:, ::4] = 200  # bilinear interpolation between columns 1 and 2 of each four would miss them
    padded = images.letterbox(stripes, Letterbox.of(Size(height=60, width=80), 20))
    assert padded.shape == (32, 32, 3)
    assert np.unique(padded[:15, :20]).tolist() == [50]
    padded[:15, :20] = 114
    assert np.unique(padded).tolist() == [114]


def test_letterbox_of_another_image_is_refused():
    with pytest.raises(InputError, match="The image is 10x20 pixels, its letterbox is for 20x10"):
        images.letterbox(np.zeros((10, 20, 3), np.uint8), Letterbox.of(Size(height=20, width=10), 32))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize(("high", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14), (65535, 16)])
def test_bits_of_16_that_are_used_fill_the_range(suffix: str, high: int, bits: int) -> None:
    deep = np.zeros((4, 4, 3), np.uint16)
    deep[0, 0] = (high, high // 2, 0)  # red, green, blue
    content = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
    notes: list[str] = []
    pixels = images.read(content, notes=notes)
    assert np.abs(pixels[0, 0].astype(int) - (255, 127, 0)).max() <= 1
    assert pixels[1:].max() == 0
    assert notes == ([] if bits == 16 else [f"{bits} of 16 bits are used; brightened, as if {2**bits - 1} were white"])


@pytest.mark.parametrize("side", [1e4, 1e6, 1e9, 1e20])
def test_box_far_larger_than_the_image_needs_no_memory(side: float) -> None:
    image = np.full((48, 64, 3), 200, np.uint8)
    box = np.array([-side, -side, side, side], np.float32)
    tracemalloc.start()
    warped = images.warp(image, Crop.from_box(box, SMALLER).matrix, SMALLER, antialias=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert warped.shape == (*SMALLER.shape, 3)
    assert peak < 2e6


def test_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (32, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert images.read_size(tmp_path / "a.jpg") == Size(height=32, width=16)
    assert images.read(tmp_path / "a.jpg").shape[:2] == (32, 16)
    with pytest.raises(InputError, match="no such file"):
        images.read_size(tmp_path / "b.jpg")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("place", ["none", "before the pixels", "behind the pixels"])
def test_size_of_turned_png_is_that_of_its_pixels(tmp_path, place):
    """Read without decoding, wherever the orientation stands."""
    data = io.BytesIO()
    Image.new("RGB", (7, 5)).save(data, "PNG")
    content = data.getvalue()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    pixels = content.index(b"IDAT") - 4
    end = content.index(b"IEND") - 4
    at = {"none": None, "before the pixels": pixels, "behind the pixels": end}[place]
    (tmp_path / "a.png").write_bytes(content if at is None else content[:at] + turned + content[at:])
    pixels_shape = images.read(tmp_path / "a.png").shape[:2]
    assert images.read_size(tmp_path / "a.png").shape == pixels_shape == ((5, 7) if at is None else (7, 5))


def test_dark_pixels_below_an_opaque_alpha_are_brightened(tmp_path):
    dark = np.full((4, 5, 4), 3000, np.uint16)
    dark[..., 3] = 65535
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", dark)[1].tobytes())
    notes = []
    assert images.read(tmp_path / "a.png", notes=notes).tolist() == np.full((4, 5, 3), 187).tolist()
    assert notes == ["12 of 16 bits are used; brightened, as if 4095 were white"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "not an image, but a pointer of Git LFS"),
     (b"<!doctype html>", "not an image, but a web page"), (b"\x1f\x8b\x08", "not an image, but compressed by gzip")],
    ids=["pointer", "page", "compressed"],
)  # fmt: skip
def test_what_is_no_image_is_called_by_its_name(content, message):
    with pytest.raises(InputError, match=message):
        images.read(content)
