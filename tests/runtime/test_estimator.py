import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from featherpose import images
from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import gaussian_filter, merge_flipped
from featherpose.crop import Crop
from featherpose.errors import InputError, ModelError
from featherpose.poses import Poses
from featherpose.runtime.estimator import Estimator, check_image
from featherpose.size import Size
from featherpose.skeleton import COCO17
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_manifest, tiny_model

pytest.importorskip("onnx")

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
SPOTS = {0: (61, 52), 1: (90, 80), 2: (75, 118)}  # keypoint -> center of the spot of its color
BOX = (40.0, 30.0, 110.0, 130.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def estimator(model) -> Estimator:
    return Estimator.open(model, "cpu", threads=1)


def make_image(shift=(0, 0), size=(200, 160)) -> np.ndarray:
    """Gray image with a red, a green and a blue spot."""
    image = np.full((size[1], size[0], 3), 128, np.uint8)
    for (x, y), color in zip(SPOTS.values(), (RED, GREEN, BLUE), strict=True):
        x, y = x + shift[0], y + shift[1]
        image[y - 5 : y + 6, x - 5 : x + 6] = color
    return image


def test_keypoints_are_found_at_their_color(estimator):
    poses = estimator(make_image(), [BOX])
    cell = 4 * 125 / 64  # the crop is 125 pixels tall, a heatmap cell 4 of its 64
    assert isinstance(poses, Poses) and len(poses) == 1 and poses.skeleton == COCO17
    for keypoint, spot in SPOTS.items():
        assert np.abs(poses.keypoints[0, keypoint] - spot).max() < cell
        assert poses.scores[0, keypoint] > 0.5
    assert (
        poses.image_size == Size(height=160, width=200)
        and poses.boxes_xyxy.tolist() == [list(BOX)]
        and poses.box_scores.tolist() == [1]
    )


def test_swapping_red_and_blue_changes_result(estimator):
    right, swapped = estimator(make_image(), [BOX]), estimator(make_image()[..., ::-1].copy(), [BOX])
    assert np.allclose(swapped.keypoints[0, 0], right.keypoints[0, 2], atol=8)
    assert not np.allclose(swapped.keypoints[0, 0], right.keypoints[0, 0], atol=20)


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (17, 23), (-30, -20)])
@pytest.mark.parametrize("flip_test", [False, True])
def test_shifted_image_and_box_shift_poses(model, shift, flip_test):
    estimator = Estimator.open(model, "cpu", threads=1, flip_test=flip_test)
    still = estimator(make_image(size=(260, 220)), [BOX])
    moved = estimator(make_image(shift, size=(260, 220)), [np.add(BOX, shift * 2)])
    assert np.abs(moved.keypoints - still.keypoints - shift).max() < 1e-3
    assert np.abs(moved.scores - still.scores).max() < 1e-6


@pytest.mark.parametrize("factor", [2, 3, 5, 8])
def test_scaled_image_and_box_scale_poses(estimator, factor):
    large = np.kron(make_image(), np.ones((factor, factor, 1), np.uint8))
    small = estimator(make_image(), [BOX])
    box = (np.array(BOX) + 0.5) * factor - 0.5  # the center of the first pixel is (0, 0) in both
    found = estimator(large, [box])
    assert np.abs((found.keypoints[0, :3] + 0.5) / factor - 0.5 - small.keypoints[0, :3]).max() <= 4.1 * 125 / 64
    assert np.abs(found.scores - small.scores).max() < 0.05


def test_one_box_and_batch_give_equal_poses(estimator):
    boxes = np.array([np.add(BOX, 3 * i) for i in range(6)], np.float32)
    many = estimator(make_image(), boxes, box_scores=np.linspace(0.1, 1, 6))
    assert type(many) is Poses and len(many) == 6
    assert np.allclose(many.box_scores, np.linspace(0.1, 1, 6))
    for i, box in enumerate(boxes):
        one = estimator(make_image(), [box])
        assert type(one) is Poses
        assert np.abs(one.keypoints - many[i].keypoints).max() < 1e-3


@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), np.zeros((0,), np.float32)])
def test_no_boxes_give_empty_poses(estimator, boxes):
    poses = estimator(make_image(), boxes)
    assert type(poses) is Poses and len(poses) == 0
    assert poses.keypoints.shape == (0, 17, 2) and poses.image_size == Size(height=160, width=200)


def test_whole_image_shows_one_person(estimator):
    poses = estimator(make_image(), whole_image=True)
    assert poses.boxes_xyxy.tolist() == [[0, 0, 200, 160]] and poses.box_scores.tolist() == [1]
    assert np.array_equal(poses.keypoints, estimator(make_image(), [[0, 0, 200, 160]]).keypoints)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({}, r"There are no boxes: give those of the persons, .* or whole_image=True", id="neither"),
        pytest.param({"boxes_xyxy": [], "whole_image": True}, "contradict each other", id="both"),
    ],
)
def test_boxes_or_whole_image_must_be_given(estimator, options, message):
    with pytest.raises(InputError, match=message) as caught:
        estimator(make_image(), **options)
    assert "\n" not in str(caught.value)


def test_partly_outside_box_is_accepted(estimator):
    image = make_image()[:, 40:]
    poses = estimator(image, [np.subtract(BOX, (60, 0, 60, 0))])
    assert np.abs(poses.keypoints[0, 1] - (50, 80)).max() < 8


def boxes_for(numbers: list[int]) -> list[list[np.ndarray]]:
    """So many different boxes for each image."""
    return [[np.add(BOX, 3 * i) for i in range(number)] for number in numbers]


NUMBERS = {
    "no images": [],
    "nobody": [0, 0],
    "one each": [1] * 9,
    "three each": [3] * 7,
    "nobody in some": [0, 2, 0, 0, 5, 0],
    "many in one": [1, 21, 1],
}
OPTIONS = {"plain": {}, "flip test": {"flip_test": True}, "blurred": {"blur_kernel": 5}, "refined": {"refine": True}}


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_estimate_all_equals_one_image_at_a_time(model, numbers, options):
    estimator = Estimator.open(model, "cpu", threads=1, **options)
    images_of_set = [make_image((2 * i, i), size=(240, 220)) for i in range(len(numbers))]
    boxes = boxes_for(numbers)
    together = list(estimator.estimate_all(iter(images_of_set), iter(boxes)))
    assert [len(found) for found in together] == numbers
    for found, image, of_image in zip(together, images_of_set, boxes, strict=True):
        alone = estimator(image, of_image)
        assert (found.image_size, found.boxes_xyxy.tolist()) == (alone.image_size, alone.boxes_xyxy.tolist())
        np.testing.assert_allclose(found.keypoints, alone.keypoints, atol=1e-3)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)


def test_estimate_all_keeps_the_box_scores(estimator):
    found = estimator.estimate_all([make_image()] * 3, boxes_for([2, 0, 1]), [[0.5, 0.25], [], [1]])
    assert [poses.box_scores.tolist() for poses in found] == [[0.5, 0.25], [], [1]]


def test_estimate_all_of_whole_images(estimator):
    different = [make_image(), make_image(size=(150, 140))]
    found = list(estimator.estimate_all(different, whole_image=True))
    assert [poses.boxes_xyxy.tolist() for poses in found] == [[[0, 0, 200, 160]], [[0, 0, 150, 140]]]


def test_images_share_batches(model, monkeypatch):
    """7 images with 3 people each are run as 9, 9 and 3 crops."""
    estimator = Estimator.open(model, "cpu", threads=1)
    sizes = []
    engine = estimator.session._engine
    monkeypatch.setattr(estimator.session, "_engine", lambda fixed: sizes.append(*fixed) or engine(fixed))
    list(estimator.estimate_all([make_image()] * 7, boxes_for([3] * 7)))
    assert sorted(sizes) == [1, 1, 1, 1, 1, 4, 4, 4, 4]


@pytest.mark.parametrize("number", [0, 1, 3, 40], ids="{} people each".format)
@pytest.mark.parametrize("refine", [False, True])
def test_images_are_taken_when_needed(model, number, refine):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield make_image(size=(240, 220))

    estimator = Estimator.open(model, "cpu", threads=1, refine=refine)
    found = estimator.estimate_all(endless(), itertools.repeat(boxes_for([number])[0]))
    assert taken == []
    for count in range(1, 20):
        assert len(next(found)) == number
        assert len(taken) - count < 2 * estimator.session.batch_size


def test_large_images_are_held_one_at_a_time(estimator, monkeypatch):
    monkeypatch.setattr("featherpose.runtime.estimator.PIXELS_PER_GROUP", 200 * 160)
    taken = []
    found = estimator.estimate_all((taken.append(1) or make_image() for _ in range(5)), boxes_for([1] * 5))
    for count in range(1, 6):
        next(found)
        assert len(taken) == count


def test_error_comes_after_the_poses_before_it(estimator):
    found = estimator.estimate_all([make_image()] * 4, [[BOX], [], [(0, 0, 0, 9)], [BOX]])
    assert [len(next(found)), len(next(found))] == [1, 0]
    with pytest.raises(InputError, match=r"^Image 2: Box 0 .* has no area"):
        next(found)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        pytest.param([[1]], "Image 1 has no scores", id="fewer scores"),
        pytest.param([[1], [1], []], "scores for more than 2 images", id="more scores"),
        pytest.param([[1], [1, 1]], r"Image 1: box_scores have shape \(2,\), wanted \(1,\)", id="two for a box"),
    ],
)
def test_scores_must_be_given_for_each_box(estimator, scores, message):
    with pytest.raises(InputError, match=message):
        list(estimator.estimate_all([make_image()] * 2, [[BOX]] * 2, scores))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        pytest.param([[BOX]], "Image 1 has no boxes; give a list for each image", id="fewer boxes"),
        pytest.param([[BOX], None], "Image 1 has no boxes", id="none for an image"),
        pytest.param([[BOX]] * 3, "boxes for more than 2 images", id="more boxes"),
        pytest.param([BOX, BOX], r"Image 0: The boxes have shape \(4,\)", id="one box each, not in a list"),
    ],
)
def test_boxes_must_be_given_for_each_image(estimator, boxes, message):
    with pytest.raises(InputError, match=message):
        list(estimator.estimate_all([make_image()] * 2, boxes))


def test_estimate_all_needs_boxes_or_whole_image(estimator):
    with pytest.raises(InputError, match="There are no boxes"):
        estimator.estimate_all([make_image()])


NAN = float("nan")
BAD_BOXES = [
    ("not a number", [BOX, (0, 0, NAN, 9)], r"Box 1 \[0\.0, 0\.0, nan, 9\.0\] is not finite"),
    ("infinite", [(0, 0, float("inf"), 9)], "Box 0 .* is not finite"),
    ("too large for float32", [(0, 0, 1e300, 9)], "Box 0 .* is not finite"),
    ("no width", [BOX, BOX, (5, 5, 5, 9)], "Box 2 .* has no area"),
    ("right of left", [(9, 5, 5, 9)], "Box 0 .* has no area; wanted left < right"),
    ("left of the image", [(-50, 5, 0, 9)], r"Box 0 .* lies outside the image of 160x200"),
    ("below the image", [(5, 160, 9, 170)], "Box 0 .* lies outside"),
    ("one box, not in a list", BOX, r"shape \(4,\), wanted \(N, 4\)"),
    ("with scores", [(*BOX, 0.9)], r"shape \(1, 5\), wanted \(N, 4\)"),
    ("ragged", [BOX, (1, 2)], "not numbers"),
    ("text", [["a", "b", "c", "d"]], "not numbers"),
]


@pytest.mark.parametrize(("boxes", "message"), [pytest.param(*row[1:], id=row[0]) for row in BAD_BOXES])
def test_invalid_boxes_raise_with_index(estimator, boxes, message):
    with pytest.raises(InputError, match=message):
        estimator(make_image(), boxes)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        pytest.param(np.zeros((9, 9), np.uint8), r"uint8 \(9, 9\), wanted uint8 \(height, width, 3\)", id="gray"),
        pytest.param(np.zeros((9, 9, 4), np.uint8), "wanted uint8", id="four channels"),
        pytest.param(np.zeros((9, 9, 3)), "float64 .* wanted uint8", id="floats"),
        pytest.param(np.zeros((0, 9, 3), np.uint8), "wanted uint8", id="no rows"),
        pytest.param("photo.jpg", r"a str, wanted an array; read files with images\.read", id="a path"),
    ],
)
def test_invalid_images_raise(estimator, image, message):
    with pytest.raises(InputError, match=message):
        estimator(image, [(0, 0, 5, 5)])


@pytest.mark.parametrize("scores", [[0.5, 0.5], 0.5, [NAN]])
def test_invalid_box_scores_raise(estimator, scores):
    with pytest.raises(InputError, match=r"box_scores have shape .* wanted \(1,\) finite"):
        estimator(make_image(), [BOX], box_scores=scores)


@pytest.mark.parametrize("blur_kernel", [-1, 2])
def test_blur_kernel_must_be_odd(model, blur_kernel):
    with pytest.raises(InputError, match=f"blur_kernel is {blur_kernel}, wanted 0"):
        Estimator.open(model, "cpu", blur_kernel=blur_kernel)


@pytest.mark.parametrize("kind", ["detector", "poses", "bottom_up"])
def test_model_of_another_kind_is_refused(tmp_path, kind):
    model = tiny_image_model(tmp_path / "m.onnx", tiny_image_manifest(kind))
    with pytest.raises(ModelError, match=rf"m\.onnx: tiny_{kind} is a model of kind {kind}, wanted one of kind pose"):
        Estimator.open(model, "cpu", threads=1)


def test_flip_test_without_heatmaps_is_refused(tmp_path):
    model = tiny_model(tmp_path / "m.onnx", heatmaps=False)
    assert len(Estimator.open(model, "cpu", threads=1)(make_image(), [BOX])) == 1
    with pytest.raises(ModelError, match=r"m\.onnx: gives no heatmaps, which flip_test and blur_kernel need"):
        Estimator.open(model, "cpu", threads=1, flip_test=True)(make_image(), [BOX])


class FakeSession:
    """What an Estimator needs of a session beside its manifest and `run`."""

    path = Path("fake.onnx")
    batch_size = 4


class LeftRightSession(FakeSession):
    """A network that tells left from right: the spot on the right of the crop is left_eye (1), the other one 2."""

    def __init__(self, codec):
        kind = CODECS[codec]
        self.manifest = tiny_manifest(codec={"name": codec}, crop_mode=kind.crop_mode)

    def run(self, crops):
        heatmaps = np.zeros((len(crops), 17, 16, 12), np.float32)
        for i, crop in enumerate(crops):
            spots = crop[2::4, 2::4].max(axis=2) > 200
            ys, xs = np.nonzero(spots)
            for keypoint, column in ((1, xs.max()), (2, xs.min())):
                heatmaps[i, keypoint, ys[xs == column][0], column] = 1
        return {"heatmaps": heatmaps}


@pytest.mark.parametrize("name", CODECS)
def test_flip_test_swaps_sides_and_averages(name):
    image = np.zeros((64, 48, 3), np.uint8)
    image[20:24, 4:8] = image[20:24, 28:32] = 255
    box = (4.8, 6.4, 43.2, 57.6)  # padded by 1.25, the crop is the whole image
    estimator = Estimator(LeftRightSession(name), flip_test=True)
    poses = estimator(image, [box])
    codec = estimator.manifest.make_codec()
    crop = Crop.from_box(box, Size(height=64, width=48), codec.crop_mode)
    crops = images.warp(image, crop.matrix, crop.size)[None]
    merged = merge_flipped(
        *(estimator.session.run(side)["heatmaps"] for side in (crops, crops[:, :, ::-1])),
        COCO17.flip_order,
        codec.flip_shift,
    )
    keypoints, scores = codec.decode(merged)
    assert np.abs(poses.keypoints[0] - crop.to_image(keypoints[0])).max() < 1e-4 and np.array_equal(
        poses.scores, scores
    )
    assert poses.keypoints[0, 1, 0] > poses.keypoints[0, 2, 0] + 16, "left keypoints stay left"


class PerfectSession(FakeSession):
    """A perfect network: the codec's Gaussians at the centroid of the bright pixels of the crop."""

    def __init__(self, codec):
        kind = CODECS[codec]
        self.manifest = tiny_manifest(
            codec={"name": codec, "sigma": 1}, crop_mode=kind.crop_mode, input_size=Size(height=128, width=96)
        )

    def run(self, crops):
        weights = np.where(crops[..., 0] > 20, crops[..., 0], 0).astype(float)
        weights /= weights.sum(axis=(1, 2), keepdims=True)
        spots = [(weights.sum(axis=1 + axis) * np.arange(crops.shape[2 - axis])).sum(axis=1) for axis in (0, 1)]
        keypoints = np.repeat(np.stack(spots, axis=-1)[:, None], 17, axis=1)
        heatmaps, scores = self.manifest.make_codec().encode(keypoints, np.ones((len(crops), 17)))
        return {"keypoints": keypoints.astype(np.float32), "scores": scores, "heatmaps": heatmaps}


@pytest.mark.parametrize(("name", "cells"), [("dark", 0.125), ("udp", 0)])
def test_flip_test_keeps_keypoint_location(name, cells):
    """A dot on an image twice as large as the crop: exact for "udp"; for "msra" the mirrored maps are off by a quarter
    cell, which averaging halves."""
    image = np.zeros((256, 192, 3), np.uint8)
    image[120:131, 80:91] = 255
    box = (19.2, 25.6, 172.8, 230.4)  # padded by 1.25, the crop is the whole image
    found = Estimator(PerfectSession(name), flip_test=True)(image, [box]).keypoints[0]
    assert np.abs(found - (85, 125)).max() == pytest.approx(8 * cells, abs=0.2)  # a cell is 8 image pixels


@pytest.mark.parametrize("name", ["dark", "udp"])
def test_blur_with_blurring_codec_raises(name):
    with pytest.raises(InputError, match=f"blur_kernel is 11, but this model's codec, {name}, smooths heatmaps itself"):
        Estimator(LeftRightSession(name), blur_kernel=11)
    assert Estimator(LeftRightSession(name), blur_kernel=0).blur_kernel == 0


def test_blur_is_applied_before_decoding(model):
    plain, blurred = (Estimator.open(model, "cpu", threads=1, blur_kernel=blur_kernel) for blur_kernel in (0, 5))
    image = make_image()
    image[120:122, 50:52] = RED  # a small bright speck
    expected = gaussian_filter(plain.session.run(np.zeros((1, 64, 48, 3), np.uint8) + 9)["heatmaps"], 5)
    assert expected.shape == (1, 17, 16, 12)
    keypoints = [estimator(image, [BOX]).keypoints[0, 0] for estimator in (plain, blurred)]
    assert all(np.abs(keypoint - SPOTS[0]).max() < 8 for keypoint in keypoints)
    assert not np.array_equal(*keypoints), "the numpy codec adds the quarter offset, the plain graph does not"


class RecordingSession(FakeSession):
    """Predicts a person's true keypoints in any crop and records the extents of the crops.

    Red and green of the image encode the position of each pixel; `scores` are the keypoint scores.
    """

    def __init__(self, keypoints, scores):
        self.manifest, self.keypoint_names, self.scores = (
            tiny_manifest(input_size=Size(height=128, width=96)),
            keypoints,
            scores,
        )
        self.extents = []

    def run(self, crops):
        found = np.zeros((len(crops), 17, 2), np.float32)
        for i, crop in enumerate(crops.astype(float)):
            columns, rows = (2 * crop[64, :, 0], 2 * crop[:, 48, 1])
            self.extents.append([columns[0], rows[0], columns[-1], rows[-1]])
            found[i, :, 0] = np.interp(self.keypoint_names[:, 0], columns, np.arange(96))
            found[i, :, 1] = np.interp(self.keypoint_names[:, 1], rows, np.arange(128))
        return {"keypoints": found, "scores": np.tile(self.scores, (len(crops), 1)).astype(np.float32)}


def position_image() -> np.ndarray:
    """500 x 500 pixels that encode their position: red is half of x, green half of y."""
    half = np.arange(500) // 2
    return np.stack([*np.meshgrid(half, half), np.zeros((500, 500))], axis=-1).astype(np.uint8)


GRID = np.stack([np.linspace(180, 240, 17), np.linspace(200, 300, 17)], axis=-1)  # keypoints span 100 px in y, 60 in x
BAD_BOX = (120.0, 130.0, 260.0, 330.0)


def test_refine_crops_around_keypoints():
    session = RecordingSession(GRID, np.full(17, 0.5))
    poses = Estimator(session, refine=True)(position_image(), [BAD_BOX])
    first, second = session.extents
    np.testing.assert_allclose(first, [190 - 125 * 0.75, 230 - 125, 190 + 125 * 0.75, 230 + 125], atol=4)
    left, top, right, bottom = 180 - 7, 200 - 14, 240 + 7, 300 + 9  # 123 tall, 92.25 wide at 3:4; padded by 1.25
    middle, half = ((left + right) / 2, (top + bottom) / 2), (1.25 * 92.25 / 2, 1.25 * (bottom - top) / 2)
    np.testing.assert_allclose(second, [*np.subtract(middle, half), *np.add(middle, half)], atol=4)
    assert poses.boxes_xyxy.tolist() == [list(BAD_BOX)]
    np.testing.assert_allclose(poses.keypoints[0], GRID, atol=4)


def test_without_refine_one_crop_per_box():
    session = RecordingSession(GRID, np.full(17, 0.5))
    Estimator(session)(position_image(), [BAD_BOX])
    assert len(session.extents) == 1


@pytest.mark.parametrize(
    ("confident", "level", "kept"), [(8, 0.5, True), (9, 0.5, False), (17, 0.2, True), (17, 0.21, False)]
)
def test_refine_keeps_box_if_unconfident(confident, level, kept):
    session = RecordingSession(GRID, np.where(np.arange(17) < confident, level, 0.1))
    Estimator(session, refine=True)(position_image(), [BAD_BOX])
    assert (session.extents[0] == session.extents[1]) == kept


def test_refine_is_per_person_and_accepts_no_box():
    session = RecordingSession(GRID, np.full(17, 0.5))
    estimator = Estimator(session, refine=True)
    poses = estimator(position_image(), [BAD_BOX, (150, 170, 270, 330)], [0.3, 0.9])
    assert len(session.extents) == 4
    np.testing.assert_allclose(session.extents[2], session.extents[3], atol=8)
    np.testing.assert_allclose(poses.box_scores, [0.3, 0.9])
    assert len(estimator(position_image(), [])) == 0 and len(session.extents) == 4


@pytest.mark.parametrize("box", [(-20, -20, 180, 190), (-60, -60, 220, 230), (-80, 20, 150, 140)])
def test_refine_improves_keypoints_in_bad_box(model, box):
    """Box too large or off to one side: the second crop is closer than the first."""
    image = np.full((160, 200, 3), 128, np.uint8)
    for (x, y), color in zip(SPOTS.values(), (RED, GREEN, BLUE), strict=True):
        image[y - 10 : y + 11, x - 10 : x + 11] = color
    results = [Estimator.open(model, "cpu", threads=1, refine=refine)(image, [box]) for refine in (False, True)]
    plain, refined = (np.abs(poses.keypoints[0, :3] - list(SPOTS.values())).max() for poses in results)
    assert refined < 10 < 15 < plain
    assert results[1].boxes_xyxy.tolist() == results[0].boxes_xyxy.tolist() == [list(box)]


def test_open_sets_opencv_to_one_thread(model):
    import cv2

    cv2.setNumThreads(2)
    Estimator.open(model, "cpu", threads=1)
    assert cv2.getNumThreads() == 1


def test_padding_scales_crop_width():
    widths = {}
    for padding in (None, 1.0, 1.25, 1.5):
        session = RecordingSession(GRID, np.full(17, 0.5))
        Estimator(session, padding=padding)(position_image(), [BAD_BOX])
        left, _, right, _ = session.extents[0]
        widths[padding] = right - left
    assert widths[None] == widths[1.25]
    assert widths[1.5] / widths[1.0] == pytest.approx(1.5, abs=0.05)


@pytest.mark.parametrize("padding", [0, -1.0, float("nan")])
def test_nonpositive_padding_raises(padding):
    with pytest.raises(InputError, match=r"padding is .*, wanted a factor above 0"):
        Estimator(RecordingSession(GRID, np.ones(17)), padding=padding)


GRAY = np.zeros((8, 6), np.uint8)


@pytest.mark.parametrize(
    ("image", "remedy"),
    [
        (GRAY, "gray: np.repeat(gray.reshape(*gray.shape[:2], 1), 3, 2)"),
        (GRAY[..., None], "gray: np.repeat(gray.reshape(*gray.shape[:2], 1), 3, 2)"),
        (np.zeros((8, 6, 3), np.float32), "from floats of 0 to 1: (image * 255).round().astype(np.uint8)"),
        (np.zeros((8, 6, 4), np.uint8), "with transparency: image[..., :3]"),
        (np.zeros((3, 8, 6), np.uint8), "channels first: np.moveaxis(image, 0, 2)"),
        (np.zeros((8, 6, 3), np.uint16), "16 bits: (image >> 8).astype(np.uint8)"),
    ],
    ids=["gray", "one channel", "float", "transparent", "channels first", "16 bits"],
)
def test_array_that_is_no_image_names_the_conversion(image: np.ndarray, remedy: str) -> None:
    """What the message says to type gives an image."""
    with pytest.raises(InputError, match=re.escape(remedy)):
        check_image(image)
    converted = eval(remedy.partition(": ")[2], {"np": np, "image": image, "gray": image})
    check_image(converted)
