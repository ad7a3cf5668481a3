import time
from dataclasses import replace

import numpy as np
import pytest

from featherpose.draw import LOW_SCORE_OPACITY, OUTLINE_COLOR, draw
from featherpose.errors import InputError
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14, MPII16

SQUARE = Size(height=400, width=400)

# A person facing the camera, in a unit square: left keypoints are on the right of the image.
FACING = np.array(
    [(.5, .1), (.53, .08), (.47, .08), (.56, .09), (.44, .09), (.62, .25), (.38, .25), (.7, .4), (.3, .4), (.72, .55),
     (.28, .55), (.58, .55), (.42, .55), (.6, .75), (.4, .75), (.6, .95), (.4, .95)]
)  # fmt: skip


def person(size: float, corner=(0, 0), scores=0.9, image_size=SQUARE) -> Poses:
    keypoints = FACING * size + corner
    box = [[*keypoints.min(axis=0), *keypoints.max(axis=0)]]
    return Poses(keypoints[None], np.broadcast_to(scores, (1, 17)), box, [1], COCO17, image_size)


def canvas(width=400, height=400, level=128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


def test_draw_does_not_modify_the_input():
    image = canvas(400, 300)
    drawn = draw(image, person(280))
    assert (image == 128).all() and drawn.shape == image.shape and drawn.dtype == np.uint8


def test_empty_poses_draw_nothing():
    assert np.array_equal(draw(canvas(), Poses.empty(COCO17, SQUARE)), canvas())


def test_left_is_orange_and_right_is_blue():
    drawn = draw(canvas(), person(390)).astype(int)
    left_shin, right_shin = (np.mean([FACING[a], FACING[b]], axis=0) * 390 for a, b in ((13, 15), (14, 16)))
    red, _, blue = drawn[round(left_shin[1]), round(left_shin[0])]
    assert red > blue + 100, "left is orange"
    red, _, blue = drawn[round(right_shin[1]), round(right_shin[0])]
    assert blue > red + 100, "right is blue"


@pytest.mark.parametrize("level", [0, 60, 128, 200, 255])
@pytest.mark.parametrize("size", [40, 390])
def test_poses_are_visible_on_any_background(level, size):
    image = canvas(level=level)
    drawn = draw(image, person(size)).astype(int)
    apart = np.abs(drawn - level).max(axis=2) > 50
    assert apart.sum() > 0.4 * changed(image, drawn.astype(np.uint8)).sum()
    if level > 100:
        assert drawn.max(axis=2).min() < (60 if size > 100 else level - 25), "a dark outline"
    if level < 100:
        assert drawn.min(axis=2).max() > (200 if size > 100 else 90), "light keypoints"


def line_width(image_side: int, size: float) -> float:
    """Width of the colored part of the left shin, in pixels."""
    image_size = Size(height=image_side, width=image_side)
    drawn = draw(canvas(image_side, image_side, 0), person(size, image_size=image_size)).astype(float)
    x, y = np.mean([FACING[13], FACING[15]], axis=0) * size
    row = drawn[round(y), max(0, round(x) - 60) : round(x) + 60]
    return float((row[:, 0] / 255).sum())


def test_line_width_scales_with_person_and_image():
    assert line_width(3840, 3000) > 2 * line_width(1000, 700) > 3 * line_width(160, 120)
    assert line_width(640, 60) < line_width(640, 140) < line_width(640, 600)
    for side in (160, 640, 3840):
        for share in (0.1, 0.5, 0.9):
            assert 0.001 * side < line_width(side, share * side) < 0.012 * side + 1, (side, share)


def test_line_edges_are_antialiased():
    drawn = draw(canvas(level=0), person(380))
    levels = np.unique(drawn[changed(canvas(level=0), drawn)][:, 0])
    assert len(levels) > 40


def test_low_scores_are_drawn_faint_and_thin():
    scores = np.full(17, 0.9)
    scores[15] = 0.1  # left ankle
    image = canvas(level=0)
    confident, unsure = draw(image, person(390)), draw(image, person(390, scores=scores))
    x, y = np.round(FACING[15] * 390).astype(int)
    around = np.s_[y - 4 : y + 5, x - 4 : x + 5]
    assert 0 < unsure[around].max() <= 255 * LOW_SCORE_OPACITY + 1 < confident[around].max()
    assert 0 < changed(image, unsure)[around].sum() < changed(image, confident)[around].sum()
    elsewhere = np.abs(unsure.astype(int) - confident)[: int(0.7 * 390)]
    assert elsewhere.max() == 0, "the others are unchanged"
    assert np.array_equal(draw(image, person(390, scores=scores), score_threshold=0.05), confident)


def test_interpolated_keypoints_are_drawn_like_unsure_ones():
    scores = np.full(17, 0.9)
    scores[15] = 0.1
    flags = np.zeros((1, 17), bool)
    flags[0, 15] = True
    filled = draw(canvas(), replace(person(390), interpolated=flags))
    assert np.array_equal(filled, draw(canvas(), person(390, scores=scores)))


@pytest.mark.parametrize(("side", "gaps"), [(120, 2), (400, 5), (2000, 5)])
def test_limbs_to_unsure_keypoints_are_dashed(side, gaps):
    """Along the left shin, from the knee to an ankle below the threshold: painted and bare pixels alternate."""
    scores = np.full(17, 0.9)
    scores[15] = 0.1
    image_size = Size(height=side, width=side)
    image = canvas(side, side, 0)
    knee, ankle = FACING[[13, 15]] * 0.97 * side
    xs, ys = np.round(np.linspace(knee, ankle, 400)).astype(int).T
    painted = {}
    for name, shown in (("sure", 0.9), ("unsure", scores)):
        drawn = draw(image, person(0.97 * side, scores=shown, image_size=image_size))
        painted[name] = drawn[ys, xs].max(axis=1) > 40
    assert painted["sure"][60:340].all()
    assert np.count_nonzero(np.diff(painted["unsure"].astype(int)) == -1) >= gaps
    assert not painted["unsure"][340:380].all(), "no dash touches the ankle"


def test_unsure_keypoint_far_outside_is_drawn_fast():
    scores = np.full(17, 0.9)
    scores[15] = 0.1
    far = person(390, scores=scores)
    far.keypoints[0, 15] = (1e9, 1e9)
    start = time.process_time()
    draw(canvas(), far)
    assert time.process_time() - start < 2, "not one dash for every few pixels"


def test_missing_keypoints_are_not_drawn():
    scores = np.full(17, 0.9)
    scores[15] = 0
    poses = person(390, scores=scores)
    poses.keypoints[0, 15] = 0
    nan = person(390)
    nan.keypoints[0, 15] = np.nan
    for one in (poses, nan):
        drawn = draw(canvas(), one)
        assert not changed(canvas(), drawn)[:20, :60].any() and not changed(canvas(), drawn)[360:, 220:].any()
    assert np.array_equal(draw(canvas(), person(390, scores=0)), canvas())


@pytest.mark.parametrize("corner", [(-150, 0), (250, -200), (5000, 0), (-1e8, 1e8)])
def test_persons_outside_the_image_are_clipped(corner):
    drawn = draw(canvas(), person(390, corner))
    assert drawn.shape == (400, 400, 3)
    assert changed(canvas(), drawn).any() == (abs(corner[0]) < 300)


def test_shifted_person_shifts_the_drawing():
    still, moved = draw(canvas(), person(300, (20, 20))), draw(canvas(), person(300, (57, 43)))
    assert np.array_equal(still[:340, :340], moved[23:363, 37:377])


def concatenate_poses(*persons: Poses) -> Poses:
    arrays = [[getattr(one, name) for one in persons] for name in ("keypoints", "scores", "boxes_xyxy", "box_scores")]
    return Poses(*map(np.concatenate, arrays), COCO17, SQUARE)


def test_small_persons_are_drawn_over_large_ones():
    large, small = person(390), person(60, tuple(FACING[5] * 390 - 30))
    both = [concatenate_poses(large, small), concatenate_poses(small, large)]
    assert np.array_equal(draw(canvas(), both[0]), draw(canvas(), both[1]))
    x, y = np.round(np.mean([small.keypoints[0, 13], small.keypoints[0, 15]], axis=0)).astype(int)
    assert np.array_equal(draw(canvas(), both[0])[y, x], draw(draw(canvas(), large), small)[y, x])


@pytest.mark.parametrize("skeleton", [MPII16, LSP14])
def test_other_skeletons_are_drawn(skeleton):
    keypoints = np.random.default_rng(0).uniform(50, 350, (1, skeleton.num_keypoints, 2))
    poses = Poses(keypoints, np.ones((1, skeleton.num_keypoints)), [[50, 50, 350, 350]], [1], skeleton, SQUARE)
    assert changed(canvas(), draw(canvas(), poses)).any()


def test_empty_poses_have_no_boxes_or_labels():
    assert np.array_equal(draw(canvas(), Poses.empty(COCO17, SQUARE), boxes=True, ids=True), canvas())


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("side", [120, 400, 2000])
def test_boxes_are_visible_on_any_background(side, level):
    image = canvas(side, side, level)
    size = Size(height=side, width=side)
    one = person(0.5 * side, (0.25 * side, 0.25 * side), image_size=size)
    drawn = draw(image, one, boxes=True).astype(int)
    left, top, _, bottom = np.rint(one.boxes_xyxy[0]).astype(int)
    edge = max(2, side // 300)
    for strip in (
        drawn[(top + bottom) // 3, left - edge : left + edge],
        drawn[bottom - edge : bottom + edge, left + 9],
    ):
        assert np.abs(strip - level).max() > 100


@pytest.mark.parametrize(
    "box", [(-1e9, -1e9, 1e9, 1e9), (500, 500, 600, 600), (np.nan, 0, 9, 9)], ids=["beyond", "outside", "not a number"]
)
def test_boxes_outside_the_image_are_clipped(box):
    one = replace(person(300), boxes_xyxy=np.array([box]))
    assert np.array_equal(draw(canvas(), one, boxes=True), draw(canvas(), one))


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("corner", [(0, 0), (390, 0), (0, 390), (390, 390), (150, 200), (-1e9, 1e9)])
@pytest.mark.parametrize("size", [(120, 160), (400, 400), (750, 1000)], ids=["thumbnail", "small", "large"])
def test_label_lies_whole_inside_the_image(size, corner, level):
    """A label has the same number of pixels wherever the box is, dark and light ones on any background."""
    height, width = size
    share = np.array([width / 400, height / 400])
    middle, moved = (place(width, height, at * share) for at in (np.array((150, 200)), np.array(corner)))
    labels = [draw(canvas(width, height, level), one, ids=True) for one in (middle, moved)]
    areas = [label_pixels(label) for label in labels]
    assert areas[0].sum() == areas[1].sum() > 200
    ink = labels[1][areas[1]]
    assert ink.min() < 40 and ink.max() > 200


def place(width: int, height: int, corner: np.ndarray) -> Poses:
    """A tracked person without visible keypoints, whose box begins at `corner`."""
    hidden = person(10, scores=0, image_size=Size(height=height, width=width))
    return replace(hidden, boxes_xyxy=np.array([[*corner, *(corner + 9)]]), ids=np.array([17]))


def label_pixels(drawn: np.ndarray) -> np.ndarray:
    """(H, W) whether a pixel lies in the bounds of the label's dark ground."""
    rows, columns = np.nonzero((drawn == OUTLINE_COLOR).all(axis=2))
    area = np.zeros(drawn.shape[:2], bool)
    area[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return area


def test_label_fits_into_a_tiny_image():
    drawn = draw(canvas(12, 10), place(12, 10, np.array((3, 3))), ids=True)
    assert drawn.shape == (10, 12, 3) and changed(canvas(12, 10), drawn).any()


def test_labels_do_not_cover_one_another():
    both = concatenate_poses(*(place(400, 400, np.array((100, 200 + 3 * i))) for i in range(3)))
    both = replace(both, ids=np.array([1, 2, 3]))
    one = label_pixels(draw(canvas(), both[0], ids=True)).sum()
    assert label_pixels(draw(canvas(), both, ids=True)).sum() == 3 * one


def test_label_without_tracking_is_the_score():
    tracked = place(400, 400, np.array((100, 200)))
    score, both = (draw(canvas(), one, ids=True) for one in (replace(tracked, ids=None), tracked))
    assert 0 < label_pixels(score).sum() < label_pixels(both).sum()


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8)])
def test_images_of_other_types_are_refused(image):
    with pytest.raises(InputError, match=r"wanted uint8 \(height, width, 3\)"):
        draw(image, person(9))
