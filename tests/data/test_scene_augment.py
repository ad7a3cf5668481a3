"""Augmentation of scenes: labels move with the pixels, poor boxes are ignored, draws are deterministic."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from featherpose.data.sample import Location, sample_generator
from featherpose.data.scene import IGNORED, PERSON, Scene
from featherpose.data.scene_augment import SceneAugmentation, SceneLabels, augment_scene, letterbox, mosaic, place
from featherpose.errors import RecipeError
from featherpose.size import Size
from featherpose.skeleton import COCO17

SIZE = Size(height=192, width=256)
IMAGE = Size(height=240, width=320)
NONE = SceneAugmentation.none()
MOVED = replace(NONE, flip_prob=0.5, scale=(0.7, 2.0), shift=1.0)
LARGE = Size(height=960, width=1280)
LEVELS = np.linspace(120, 250, 17)
BLACK = np.zeros((*IMAGE.shape, 3), np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return sample_generator(seed, 0, 0)


def labels_of(boxes_xyxy: Any, keypoints: Any = None, kinds: Any = None) -> SceneLabels:
    boxes = np.array(boxes_xyxy, np.float32).reshape(-1, 4)
    points = np.zeros((len(boxes), 17, 2), np.float32) if keypoints is None else np.array(keypoints, np.float32)
    return SceneLabels(
        boxes,
        np.full(len(boxes), PERSON, np.int8) if kinds is None else np.array(kinds, np.int8),
        points,
        np.full((len(boxes), 17), 0 if keypoints is None else 2, np.uint8),
        np.full(len(boxes), 100, np.float32),
    )


def spotted(seed: int) -> tuple[NDArray[np.uint8], SceneLabels]:
    """Black image of IMAGE with 17 spots, at least 45 pixels apart: the keypoints of one person, who fills the image.

    The gray level of a spot tells its number. The area is 100 in the original, so it tells the scaling.
    """
    cells = np.stack(np.meshgrid(np.arange(25, 310, 45), np.arange(25, 230, 45)), -1).reshape(-1, 2)
    keypoints = np.random.default_rng(seed).permutation(cells)[:17].astype(np.float32)
    rows, columns = np.indices(IMAGE.shape)
    image = np.zeros(IMAGE.shape)
    for level, (x, y) in zip(LEVELS, keypoints, strict=True):
        image += level * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))
    rgb = np.repeat(np.minimum(image + 0.5, 255).astype(np.uint8)[..., None], 3, 2)
    return rgb, labels_of([[0, 0, *IMAGE.xy]], [keypoints])


def check_spots(image: NDArray[np.uint8], labels: SceneLabels) -> int:
    """Compare the keypoints with the centers of mass of the spots that are whole -> number of spots compared."""
    compared = 0
    for box, keypoints, visibility, area in zip(
        labels.boxes_xyxy, labels.keypoints, labels.visibility, labels.areas, strict=True
    ):
        reach = int(np.ceil(9 * np.sqrt(area / 100)))
        is_whole = ((keypoints > box[:2] + reach + 1) & (keypoints < box[2:] - reach - 2)).all(axis=1)
        assert (visibility[is_whole] == 2).all()
        for point in keypoints[is_whole]:
            x, y = np.round(point).astype(int)
            gray = image[y - reach : y + reach + 1, x - reach : x + reach + 1, 0].astype(float)
            rows, columns = np.indices(gray.shape) - reach
            found = np.array([x + (gray * columns).sum() / gray.sum(), y + (gray * rows).sum() / gray.sum()])
            np.testing.assert_allclose(found, point, atol=0.3)
            compared += 1
    return compared


@pytest.mark.parametrize("flip_prob", [0.0, 1.0], ids=["plain", "flipped"])
def test_keypoints_move_with_pixels(flip_prob: float) -> None:
    """After the warp, the spot drawn at a keypoint is where its label says, and the box ends where the image does."""
    compared = 0
    for seed in range(30):
        image, labels = spotted(seed)
        settings = replace(MOVED, flip_prob=flip_prob)
        pixels, moved = augment_scene(image, labels, SIZE, settings, generator(seed))
        assert (pixels.shape, pixels.dtype) == ((*SIZE.shape, 3), np.uint8)
        compared += check_spots(pixels, moved)
        left, top, right, bottom = np.round(moved.boxes_xyxy[0]).astype(int)
        for outside in (pixels[: max(0, top - 2)], pixels[bottom + 2 :], pixels[:, right + 2 :]):
            assert (outside == 114).all()
        assert (pixels[:, : max(0, left - 2)] == 114).all()
    assert compared > 150


def test_mosaic_keypoints_move_with_pixels() -> None:
    compared = 0
    for seed in range(5):
        pixels, labels = mosaic([spotted(4 * seed + part) for part in range(4)], LARGE, MOVED, generator(seed))
        assert pixels.shape == (*LARGE.shape, 3)
        assert len(labels) == 4
        compared += check_spots(pixels, labels)
    assert compared > 100


def test_mosaic_quadrants_meet_at_one_point() -> None:
    """Four images of one gray level each, enlarged until they cover their quadrants."""
    covers = replace(NONE, scale=(3.0, 3.0))
    whole = labels_of([[0, 0, *IMAGE.xy]])
    centers = set()
    for seed in range(20):
        parts = [(np.full_like(BLACK, 40 * part), whole) for part in range(4)]
        pixels, labels = mosaic(parts, SIZE, covers, generator(seed))
        x, y = labels.boxes_xyxy[0, 2:].astype(int)
        assert 0.29 * SIZE.width < x < 0.71 * SIZE.width
        assert 0.29 * SIZE.height < y < 0.71 * SIZE.height
        assert labels.boxes_xyxy.tolist() == [[0, 0, x, y], [x, 0, 256, y], [0, y, x, 192], [x, y, 256, 192]]
        levels = [np.unique(part).tolist() for part in (pixels[:y, :x], pixels[:y, x:], pixels[y:, :x], pixels[y:, x:])]
        assert levels == [[0], [40], [80], [120]]
        centers.add((x, y))
    assert len(centers) > 15


def test_flip_swaps_left_and_right_keypoints() -> None:
    image, spots = spotted(0)
    labels = replace(spots, visibility=np.arange(17, dtype=np.uint8)[None] % 3)
    pixels, flipped = augment_scene(image, labels, IMAGE, replace(NONE, flip_prob=1.0), generator())
    assert np.array_equal(flipped.visibility, labels.visibility[:, COCO17.flip_order])
    assert np.array_equal(pixels, image[:, ::-1])
    columns, rows = flipped.keypoints[0].astype(int).T
    np.testing.assert_allclose(pixels[rows, columns, 0], LEVELS[COCO17.flip_order], atol=1)


def test_letterbox_keypoints_move_with_pixels() -> None:
    image, labels = spotted(0)
    for long_side in (160, 320, 448):
        pixels, moved, factor = letterbox(image, labels, long_side)
        assert factor == long_side / 320
        assert check_spots(pixels, moved) == 17
        # At the top left the corner of the first pixel stays at (-0.5, -0.5), so 0 becomes (factor - 1) / 2.
        start = (factor - 1) / 2
        expected = [start, start, 320 * factor + start, 240 * factor + start]
        np.testing.assert_allclose(moved.boxes_xyxy[0], expected, atol=1e-4)


def test_scene_without_people_stays_empty() -> None:
    nobody = labels_of([])
    results = [
        augment_scene(BLACK, nobody, SIZE, SceneAugmentation(), generator())[1],
        mosaic([(BLACK, nobody)] * 4, SIZE, SceneAugmentation(), generator())[1],
        letterbox(BLACK, nobody, 320)[1],
    ]
    for labels in results:
        assert [labels.boxes_xyxy.shape, labels.kinds.shape, labels.areas.shape] == [(0, 4), (0,), (0,)]
        assert [labels.keypoints.shape, labels.visibility.shape] == [(0, 17, 2), (0, 17)]


# In an input of 192x256: what remains of a box, and as which kind.
CLIPPED = [
    ("inside", [10, 10, 50, 90], PERSON, (PERSON, [10, 10, 50, 90])),
    ("a quarter remains", [-30, 10, 10, 90], PERSON, (PERSON, [0, 10, 10, 90])),
    ("less than a quarter remains", [-31, 10, 10, 90], PERSON, (IGNORED, [0, 10, 10, 90])),
    ("cut at a corner", [236, 172, 276, 212], PERSON, (PERSON, [236, 172, 256, 192])),
    ("outside", [-50, 10, 0, 90], PERSON, None),
    ("4 px wide", [10, 10, 14, 90], PERSON, (PERSON, [10, 10, 14, 90])),
    ("less than 4 px wide", [10, 10, 13.9, 90], PERSON, (IGNORED, [10, 10, 13.9, 90])),
    ("less than 4 px high", [10, 10, 50, 13.9], PERSON, (IGNORED, [10, 10, 50, 13.9])),
    ("ignored region", [-10, -10, 300, 300], IGNORED, (IGNORED, [0, 0, 256, 192])),
    ("ignored region outside", [256, 10, 300, 90], IGNORED, None),
]


@pytest.mark.parametrize(("box", "kind", "expected"), [row[1:] for row in CLIPPED], ids=[row[0] for row in CLIPPED])
def test_clipped_box_is_kept_ignored_or_dropped(box: list[float], kind: int, expected: Any) -> None:
    labels = labels_of([[20, 20, 40, 40], box], kinds=[PERSON, kind]).clipped(SIZE, 0.25)
    assert len(labels) == (1 if expected is None else 2)
    if expected:
        assert (labels.kinds[1], pytest.approx(labels.boxes_xyxy[1].tolist())) == expected


def test_keypoints_outside_the_input_are_unlabeled() -> None:
    keypoints = np.full((1, 17, 2), 20.0)
    keypoints[0, :6] = [[-0.5, 0], [-0.6, 0], [255.4, 191.4], [255.6, 0], [0, 191.6], [0, -0.6]]
    labels = labels_of([[10, 10, 50, 90]], keypoints).clipped(SIZE, 0.25)
    assert labels.visibility[0].tolist() == [2, 0, 2, 0, 0, 0] + [2] * 11


def test_areas_are_scaled_with_the_image() -> None:
    labels = labels_of([[10, 10, 50, 90]])
    _, moved = augment_scene(BLACK, labels, Size(height=480, width=640), NONE, generator())
    assert moved.areas.tolist() == pytest.approx([400])


def test_labels_of_scene_are_in_cached_pixels() -> None:
    scene = Scene(
        key="a",
        image="a.jpg",
        source="own",
        split="",
        size=IMAGE,
        scale=1.0,
        location=Location(Path("own.tar"), 0, 0),
        boxes_xywh=np.array([[9.5, 19.5, 40, 80]], np.float32),
        kinds=np.array([PERSON], np.int8),
        keypoints=np.full((1, 17, 2), 29.5, np.float32),
        visibility=np.full((1, 17), 2, np.uint8),
        areas=np.array([100], np.float32),
        negative_weight=1.0,
    )
    labels = SceneLabels.of(scene, (0.5, 0.25))
    assert labels.boxes_xyxy.tolist() == [[4.5, 4.5, 24.5, 24.5]]
    assert labels.keypoints[0, 0].tolist() == [14.5, 7.0]
    assert labels.areas.tolist() == [12.5]
    assert np.array_equal(SceneLabels.of(scene).keypoints, scene.keypoints)


def test_scale_and_position_stay_within_ranges() -> None:
    """The image lies inside the input or covers it, in x and y; the logarithm of the factor is drawn uniformly."""
    factors = []
    for seed in range(400):
        crop = place(IMAGE, SIZE, MOVED, generator(seed))
        corners = crop.to_crop([(-0.5, -0.5), np.subtract(IMAGE.xy, 0.5)])
        low, high = corners.min(axis=0) + 0.5, corners.max(axis=0) + 0.5
        inside = (low >= -1e-6) & (high <= np.array(SIZE.xy) + 1e-6)
        covers = (low <= 1e-6) & (high >= np.array(SIZE.xy) - 1e-6)
        assert (inside | covers).all()
        factors.append((high - low)[0] / SIZE.width)
    assert 0.7 <= min(factors) < 0.72
    assert 1.95 < max(factors) <= 2.0
    assert np.median(factors) == pytest.approx(np.sqrt(0.7 * 2), rel=0.05)


def test_no_augmentation_centers_the_image() -> None:
    pixels, _ = augment_scene(BLACK, labels_of([]), Size(height=260, width=320), NONE, generator())
    assert np.array_equal(pixels[10:250], BLACK)
    assert (pixels[:10] == 114).all()
    assert (pixels[250:] == 114).all()


def test_same_generator_gives_the_same_input() -> None:
    settings = SceneAugmentation()
    parts = [spotted(seed) for seed in range(4)]
    first, second = (mosaic(parts, SIZE, settings, generator(7)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1].keypoints, second[1].keypoints)
    assert not np.array_equal(first[0], mosaic(parts, SIZE, settings, generator(8))[0])


BAD = [
    ({"flip_prob": 1.5}, "flip_prob is 1.5; wanted a probability"),
    ({"color_prob": -1}, "color_prob is -1"),
    ({"scale": (0, 1)}, r"scale is \(0, 1\); wanted \(smallest, largest\)"),
    ({"scale": (2.0, 0.7)}, "scale is"),
    ({"shift": 1.1}, "shift is 1.1; wanted a fraction from 0 to 1"),
    ({"min_visible": -0.1}, "min_visible is -0.1"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:12] for _, message in BAD])
def test_invalid_scene_augmentation_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SceneAugmentation(**change)
