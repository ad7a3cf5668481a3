"""PCKh on MPII's annotations: models with MPII's and COCO's keypoints, unreadable images, and real data."""

from pathlib import Path

import numpy as np
import pytest

from featherpose import images
from featherpose.data.mpii import Mpii, read_mpii
from featherpose.errors import DataError
from featherpose.evaluation.mpii import LIMBS, evaluate_mpii
from featherpose.poses import Poses
from featherpose.skeleton import COCO17, LSP14, MPII16, Skeleton

HEAD = 10.0


@pytest.fixture
def people(tmp_path: Path) -> Mpii:
    """Three persons on two images, all keypoints labeled."""
    for name in ("a.png", "b.png"):
        images.write(tmp_path / name, np.zeros((60, 80, 3), np.uint8))
    keypoints = np.random.default_rng(0).uniform(5, 55, (3, 16, 2))
    boxes = np.float32([[10, 0, 60, 50], [0, 0, 50, 50], [5, 5, 45, 45]])
    photos = ("a.png", "b.png", "a.png")
    return Mpii(tmp_path, photos, keypoints, np.ones((3, 16), np.int64), boxes, np.full(3, HEAD))


def finder(people: Mpii, skeleton: Skeleton, off: float = 0.0):
    """A predictor that looks persons up by their box; keypoints lie `off` head sizes to the right of their labels."""

    def predict(image: np.ndarray, boxes: np.ndarray) -> Poses:
        rows = [int(np.flatnonzero((people.boxes_xyxy == box).all(axis=1))[0]) for box in boxes]
        keypoints = np.zeros((len(rows), skeleton.num_keypoints, 2), np.float32)
        for at, keypoint in enumerate(skeleton.keypoint_names):
            if keypoint in MPII16.keypoint_names:
                keypoints[:, at] = people.keypoints[rows, MPII16.keypoint_names.index(keypoint)] + (off * HEAD, 0)
        ones = np.ones(keypoints.shape[:2], np.float32)
        return Poses(keypoints, ones, boxes, ones[:, 0], skeleton, (80, 60))

    return predict


def test_every_joint_right(people: Mpii) -> None:
    told: list[tuple[int, int]] = []
    found = evaluate_mpii(people, finder(people, MPII16), MPII16, lambda done, total: told.append((done, total)))
    assert set(found.scores.to_dict().values()) == {1.0}
    assert (found.num_images, found.num_instances, found.broken) == (2, 3, ())
    assert told == [(0, 2), (1, 2), (2, 2)]
    for result, photo, keypoints in zip(found.results, people.image_names, people.keypoints, strict=True):
        assert result["image"] == photo
        np.testing.assert_allclose(result["keypoints"], keypoints, atol=0.006)


def test_a_third_of_a_head_is_right_at_a_half_and_wrong_at_a_tenth(people: Mpii) -> None:
    scores = evaluate_mpii(people, finder(people, MPII16, off=0.33), MPII16).scores
    assert (scores.mean, scores.mean_at_01, scores.limbs) == (1, 0, 1)
    assert evaluate_mpii(people, finder(people, MPII16, off=0.51), MPII16).scores.mean == 0


def test_a_model_of_coco_is_judged_by_arms_and_legs(people: Mpii) -> None:
    found = evaluate_mpii(people, finder(people, COCO17), COCO17)
    scores = found.scores
    assert (scores.mean, scores.mean_at_01, scores.parts["head"]) == (None, None, None)
    assert (scores.limbs, scores.parts["hip"]) == (1, 1)
    known = [keypoint is not None for keypoint in found.results[0]["keypoints"]]
    assert [keypoint for keypoint, has in zip(MPII16.keypoint_names, known, strict=True) if has] == [
        keypoint for keypoint in MPII16.keypoint_names if keypoint in LIMBS
    ]


def test_unlabelled_joints_do_not_count(people: Mpii) -> None:
    people.visible[:, MPII16.keypoint_names.index("left_wrist")] = 0
    people.keypoints[:, MPII16.keypoint_names.index("left_wrist")] = -1000
    assert evaluate_mpii(people, finder(people, LSP14), LSP14).scores.limbs == 1


def test_people_of_a_photo_that_cannot_be_read_are_missed(people: Mpii) -> None:
    (people.images / "a.png").write_bytes(b"no picture")
    found = evaluate_mpii(people, finder(people, MPII16), MPII16)
    assert found.scores.mean == pytest.approx(1 / 3)
    assert (found.num_images, found.num_instances) == (1, 1)
    assert len(found.broken) == 1
    assert "a.png" in found.broken[0]
    assert found.results[0]["keypoints"] == [None] * 16
    (people.images / "b.png").unlink()
    with pytest.raises(DataError, match="None of the 2 images could be used"):
        evaluate_mpii(people, finder(people, MPII16), MPII16)


def test_a_model_without_legs_is_refused(people: Mpii) -> None:
    upper = Skeleton.from_names("upper", ["nose", "left_wrist"])
    with pytest.raises(DataError, match=r"upper lacks some of MPII's arm and leg keypoints"):
        evaluate_mpii(people, finder(people, upper), upper)


def test_real_people_in_their_photos(shared: Path) -> None:
    """The labels used as predictions are correct on every image of the data set."""
    all_samples = read_mpii(shared / "data/mpii-test")
    assert evaluate_mpii(all_samples, finder(all_samples, MPII16), MPII16).scores.mean == 1
