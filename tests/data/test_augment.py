"""Augmentation: pixels and keypoints move together, left and right are swapped correctly, draws are deterministic."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from featherpose import images
from featherpose.boxes import jitter_boxes
from featherpose.crop import MODES, Crop
from featherpose.data.augment import Augmentation, augment
from featherpose.data.sample import sample_generator
from featherpose.errors import RecipeError
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14, MPII16, Skeleton
from tests.data.conftest import random_image

SIZE = Size(height=128, width=96)
NONE = Augmentation.none()
MOVED = replace(NONE, flip_prob=0.5, scale=(0.7, 1.3), shift=0.1, rotation_prob=1.0)
LABELED = np.full(17, 2, np.uint8)
# The region of 1.25 x this box is exactly SIZE, at the image's top left: the plain crop is the image itself.
WHOLE = np.array([48 - 38.4, 64 - 51.2, 76.8, 102.4])


def generator(seed: int = 0) -> np.random.Generator:
    return sample_generator(seed, 0, 0)


def random_keypoints(seed: int, skeleton: Skeleton = COCO17) -> NDArray[np.float32]:
    """Keypoints (K, 2) inside WHOLE, all at least 8 pixels apart."""
    cells = np.stack(np.meshgrid(np.arange(16, 80, 12), np.arange(20, 110, 12)), -1).reshape(-1, 2)
    return np.random.default_rng(seed).permutation(cells)[: skeleton.num_keypoints].astype(np.float32)


def image_with_spots(keypoints: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Black image of SIZE with a Gaussian spot of a different gray level at every keypoint."""
    rows, columns = np.indices(SIZE.shape)
    image = np.zeros(SIZE.shape)
    for level, (x, y) in zip(np.linspace(120, 250, len(keypoints)), keypoints, strict=True):
        image += level * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.8**2))
    return np.repeat(np.minimum(image + 0.5, 255).astype(np.uint8)[..., None], 3, 2)


def centroid_near(image: NDArray[np.uint8], point: NDArray[np.float32], reach: int = 4) -> NDArray[np.float64]:
    """Center of mass of the brightness around a point."""
    x, y = np.round(point).astype(int)
    left, top = max(0, x - reach), max(0, y - reach)
    gray = image[top : y + reach + 1, left : x + reach + 1, 0].astype(float)
    rows, columns = np.indices(gray.shape)
    return np.array([left + (gray * columns).sum() / gray.sum(), top + (gray * rows).sum() / gray.sum()])


@pytest.mark.parametrize("mode", MODES)
def test_no_augmentation_equals_plain_crop(mode: str) -> None:
    image, keypoints, box = (
        random_image(Size(height=200, width=150)),
        random_keypoints(0) + 20,
        np.array([30.0, 40, 60, 90]),
    )
    crop, moved, visibility = augment(image, keypoints, LABELED, box, COCO17, SIZE, NONE, generator(), mode)
    plain = Crop.from_box([30, 40, 90, 130], SIZE, mode)
    assert np.array_equal(crop, images.warp(image, plain.matrix, plain.size))
    np.testing.assert_allclose(moved, plain.to_crop(keypoints), atol=1e-4)
    assert np.array_equal(visibility, LABELED)


def test_augment_output_shapes_and_dtypes() -> None:
    weights = np.linspace(0, 1, 17, dtype=np.float32)
    crop, moved, kept = augment(
        random_image(),
        random_keypoints(0).tolist(),
        weights,
        [10, 10, 50, 50],
        COCO17,
        SIZE,
        Augmentation(),
        generator(),
    )
    assert (crop.shape, crop.dtype) == ((128, 96, 3), np.uint8)
    assert (moved.shape, moved.dtype) == ((17, 2), np.float32)
    assert kept.dtype == np.float32
    assert sorted(kept) == sorted(weights)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), mode=st.sampled_from(MODES))
def test_keypoints_move_with_pixels(seed: int, mode: str) -> None:
    """After the warp, the spot drawn at a keypoint is found at the keypoint's new position."""
    keypoints = random_keypoints(seed)
    crop, moved, _ = augment(
        image_with_spots(keypoints), keypoints, LABELED, WHOLE, COCO17, SIZE, MOVED, generator(seed), mode
    )
    inside = ((moved > 6) & (moved < np.array(SIZE.xy) - 7)).all(1)
    assert inside.sum() >= 5
    for point in moved[inside]:
        np.testing.assert_allclose(centroid_near(crop, point), point, atol=0.35)


@pytest.mark.parametrize("skeleton", [COCO17, MPII16, LSP14], ids=lambda skeleton: skeleton.name)
def test_flipping_twice_is_the_identity(skeleton: Skeleton) -> None:
    always = replace(NONE, flip_prob=1.0)
    image, keypoints = random_image(SIZE, 3), random_keypoints(3, skeleton)
    visibility = np.arange(skeleton.num_keypoints) % 3
    once = augment(image, keypoints, visibility, WHOLE, skeleton, SIZE, always, generator())
    twice = augment(*once, WHOLE, skeleton, SIZE, always, generator())
    assert np.array_equal(once[0], image[:, ::-1])
    assert np.array_equal(twice[0], image)
    np.testing.assert_allclose(twice[1], keypoints, atol=1e-4)
    assert np.array_equal(twice[2], visibility)


def test_flip_swaps_left_and_right_keypoints() -> None:
    left, right, nose = (COCO17.keypoint_names.index(name) for name in ("left_wrist", "right_wrist", "nose"))
    keypoints, weights = random_keypoints(1), np.arange(17, dtype=np.float32)
    _, moved, kept = augment(
        random_image(SIZE), keypoints, weights, WHOLE, COCO17, SIZE, replace(NONE, flip_prob=1.0), generator()
    )
    np.testing.assert_allclose(moved[left], [95 - keypoints[right, 0], keypoints[right, 1]], atol=1e-4)
    assert kept[left] == weights[right]
    np.testing.assert_allclose(moved[nose], [95 - keypoints[nose, 0], keypoints[nose, 1]], atol=1e-4)


def everything() -> Augmentation:
    return Augmentation(
        **{field.name: 1.0 for field in fields(Augmentation) if field.name.endswith("_prob")} | {"gray_prob": 0.3}
    )


def test_crop_is_determined_by_the_generator() -> None:
    def crop(seed: int, epoch: int, index: int) -> tuple[Any, ...]:
        rng = sample_generator(seed, epoch, index)
        return augment(random_image(SIZE), random_keypoints(0), LABELED, WHOLE, COCO17, SIZE, everything(), rng)

    first, again = crop(1, 2, 3), crop(1, 2, 3)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (crop(2, 2, 3), crop(1, 3, 3), crop(1, 2, 4)):
        assert not np.array_equal(first[0], other[0])
        assert not np.allclose(first[1], other[1])


def test_inputs_are_not_modified() -> None:
    image, keypoints, visibility, box = random_image(SIZE), random_keypoints(0), LABELED.copy(), WHOLE.copy()
    image.flags.writeable = False  # images of the cache are read-only
    for seed in range(20):
        augment(image, keypoints, visibility, box, COCO17, SIZE, everything(), generator(seed))
    assert np.array_equal(keypoints, random_keypoints(0))
    assert np.array_equal(visibility, LABELED)
    assert np.array_equal(box, WHOLE)


@pytest.mark.parametrize("name", ["color_prob", "gray_prob", "blur_prob", "noise_prob", "occlusion_prob"])
def test_color_changes_keep_keypoints(name: str) -> None:
    image, keypoints = random_image(SIZE), random_keypoints(0)
    changed = replace(NONE, **{name: 1.0})
    crop, moved, visibility = augment(image, keypoints, LABELED, WHOLE, COCO17, SIZE, changed, generator(5))
    assert not np.array_equal(crop, image)
    np.testing.assert_allclose(moved, keypoints, atol=1e-4)
    assert np.array_equal(visibility, LABELED)


def test_occlusion_is_a_uniform_rectangle() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    covers = replace(NONE, occlusion_prob=1.0, occlusion=(0.2, 0.3))
    for seed in range(20):
        crop, _, _ = augment(image, random_keypoints(0), LABELED, WHOLE, COCO17, SIZE, covers, generator(seed))
        rows, columns = np.nonzero((crop != image).any(2))
        width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert 0.2 * 96 - 1 <= width <= 0.3 * 96 + 2
        assert 0.2 * 128 - 1 <= height <= 0.3 * 128 + 2
        assert len(np.unique(crop[rows, columns], axis=0)) == 1


def standing_keypoints() -> NDArray[np.float32]:
    """A narrow person, COCO's keypoints from the head (row 20) down to the ankles (row 100)."""
    steps = np.arange(17)
    return np.column_stack([40 + 6 * (steps % 3), 20 + 5 * steps]).astype(np.float32)


HALVES = replace(NONE, half_body_prob=1.0)
UPPER = np.arange(17) < 11


def shown_half(visibility: NDArray[np.uint8], seed: int) -> str:
    """Name of the half whose mean is the center of the crop and whose bounds, x 1.5, fill it; else "whole"."""
    keypoints = standing_keypoints()
    shown = augment(random_image(SIZE), keypoints, visibility, WHOLE, COCO17, SIZE, HALVES, generator(seed))[1]
    for name, half in (("upper", UPPER), ("lower", ~UPPER)):
        points = keypoints[half & (visibility > 0)]
        if not len(points):
            continue
        width, height = 1.5 * np.ptp(points, axis=0)
        zoom = SIZE.height / max(height, width * SIZE.height / SIZE.width)
        expected = (keypoints - points.mean(axis=0)) * zoom + np.array(SIZE.xy) / 2
        if np.allclose(shown, expected, atol=1e-3):
            return name
    np.testing.assert_allclose(shown, keypoints, atol=1e-4)
    return "whole"


def labeled(rows: Any) -> NDArray[np.uint8]:
    visibility = np.zeros(17, np.uint8)
    visibility[list(rows)] = 2
    return visibility


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((), {"whole"}),
        (range(8), {"whole"}),
        (range(9), {"upper"}),
        ((*range(7), 11, 12), {"upper"}),
        ((0, 1, *range(11, 17)), {"whole"}),
        ((0, 1, 2, *range(11, 17)), {"upper", "lower"}),
        (range(17), {"upper", "lower"}),
    ],
    ids=["nobody", "eight", "no lower", "two lower", "two upper, eight", "three upper", "all"],
)
def test_half_body_crop_is_hrnets(rows: Any, expected: set[str]) -> None:
    assert {shown_half(labeled(rows), seed) for seed in range(12)} == expected


def test_half_without_upper_keypoints_is_lower() -> None:
    """A skeleton whose upper half has two keypoints: the lower one is shown, whatever is drawn."""
    names = (
        "nose",
        "neck",
        *(f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "toe")),
    )
    legs = Skeleton.from_names("legs", names)
    keypoints = np.column_stack([np.linspace(30, 60, 10), np.linspace(20, 100, 10)]).astype(np.float32)
    shown = [
        augment(random_image(SIZE), keypoints, np.ones(10), WHOLE, legs, SIZE, HALVES, generator(seed))[1]
        for seed in range(8)
    ]
    center = np.array(SIZE.xy) / 2
    assert all(np.allclose(points[2:].mean(axis=0), center, atol=1e-3) for points in shown)


def test_upper_half_is_drawn_with_hrnets_probability() -> None:
    halves = [shown_half(LABELED, seed) for seed in range(400)]
    assert halves.count("upper") / len(halves) == pytest.approx(0.69, abs=0.07)


def test_scale_sigma_draws_a_clipped_normal() -> None:
    pair = Skeleton("pair", ("a", "b"), (), (), (0.1,) * 2, ())
    points = np.array([[48.0, 64], [58, 64]], np.float32)
    normal = replace(NONE, scale=(0.65, 1.35), scale_sigma=0.35)
    grown = []
    for seed in range(400):
        a, b = augment(random_image(SIZE), points, np.ones(2), WHOLE, pair, SIZE, normal, generator(seed))[1]
        grown.append(10 / (b - a)[0])
    clipped = np.isclose(grown, 0.65, atol=1e-3) | np.isclose(grown, 1.35, atol=1e-3)
    assert min(grown) >= 0.65 - 1e-3
    assert max(grown) <= 1.35 + 1e-3
    assert clipped.mean() == pytest.approx(0.317, abs=0.07), "beyond one deviation on either side"
    assert np.mean(grown) == pytest.approx(1, abs=0.05)


def test_transform_stays_within_ranges() -> None:
    """Scale, shift and rotation of the region over many draws, recovered from three transformed points."""
    corners = np.array([[48, 64], [58, 64], [48, 74]], np.float32)
    triangle = Skeleton("triangle", ("a", "b", "c"), (), (), (0.1,) * 3, ())
    moves = replace(NONE, scale=(0.8, 1.25), shift=0.1, rotation_prob=0.5, rotation=30.0)
    drawn = np.array([
        augment(random_image(SIZE), corners, np.ones(3), WHOLE, triangle, SIZE, moves, generator(seed))[1]
        for seed in range(400)
    ])  # fmt: skip
    axis = drawn[:, 1] - drawn[:, 0]
    zoom, turn = np.hypot(*axis.T) / 10, np.rad2deg(np.arctan2(axis[:, 1], axis[:, 0]))
    assert 0.8 - 1e-3 <= zoom.min() < 0.85
    assert 1.2 < zoom.max() <= 1.25 + 1e-3
    assert np.abs(turn).max() <= 30 + 1e-2
    assert 0.4 < (np.abs(turn) < 1e-3).mean() < 0.6
    away = np.abs(drawn[:, 0] - corners[0])
    assert (away.max(0) <= np.array(SIZE.xy) * 0.1 * 1.25 * 1.42).all()


def test_box_errors_equal_scale_and_shift() -> None:
    """A detector's errors change only size and center of a crop, not its aspect ratio."""
    rng = np.random.default_rng(0)
    for sides in ((60, 90), (90, 60), (30, 200), (75, 100)):
        box = np.array([[40, 30, 40 + sides[0], 30 + sides[1]]])
        plain, off = Crop.from_box(box[0], SIZE), Crop.from_box(jitter_boxes(box, 0.2, rng)[0], SIZE)
        grown = np.divide(off.extent, plain.extent)
        assert grown[0] == pytest.approx(grown[1])
        moved = replace(plain, center=off.center, extent=(plain.extent[0] * grown[0], plain.extent[1] * grown[0]))
        np.testing.assert_allclose(moved.matrix, off.matrix, rtol=1e-9)


def test_default_ranges_cover_detector_box_errors() -> None:
    """Spread of size (its logarithm) and of center, as a fraction of the region, for narrow, usual and wide boxes."""
    rng, pair = np.random.default_rng(0), Skeleton("pair", ("a", "b"), (), (), (0.1,) * 2, ())
    boxes = np.repeat([[0.0, 0, 40, 120], [0, 0, 90, 120], [0, 0, 160, 120]], 400, axis=0)
    plain = [Crop.from_box(box, SIZE) for box in boxes]
    off = [Crop.from_box(box, SIZE) for box in jitter_boxes(boxes, 0.1, rng)]
    errors = [
        (np.log(b.extent[0] / a.extent[0]), *np.subtract(b.center, a.center) / a.extent)
        for a, b in zip(plain, off, strict=True)
    ]
    usual = replace(NONE, scale=Augmentation().scale, shift=Augmentation().shift)
    points, middle = np.array([[48.0, 64], [49, 64]], np.float32), np.array([47.5, 63.5])
    draws = []
    for seed in range(400):
        a, b = augment(random_image(SIZE), points, np.ones(2), WHOLE, pair, SIZE, usual, generator(seed))[1]
        grown = 1 / (b - a)[0]
        draws.append((np.log(grown), *(middle - a + (points[0] - middle) / grown) * grown / SIZE.xy))
    assert (np.std(draws, axis=0) > 0.85 * np.std(errors, axis=0)).all()


BAD = [
    ({"flip_prob": 1.5}, "flip_prob is 1.5; wanted a probability from 0 to 1"),
    ({"noise_prob": -0.1}, "noise_prob is -0.1"),
    ({"scale": (0, 1)}, r"scale is \(0, 1\); wanted \(smallest, largest\)"),
    ({"scale": (1.2, 0.8)}, "scale is"),
    ({"scale_sigma": -0.1}, "scale_sigma is -0.1; wanted a deviation above 0"),
    ({"occlusion": (0.2, 1.2)}, "occlusion is"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_invalid_augmentation_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Augmentation(**change)
