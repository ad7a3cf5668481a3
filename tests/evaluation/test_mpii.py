"""PCKh on MPII's annotations: models with MPII's and COCO's keypoints, unreadable images, and real data."""

from pathlib import Path

import numpy as np
import pytest

from featherpose import images
from featherpose.data.mpii import Mpii, read_mpii
from featherpose.errors import DataError
from featherpose.evaluation.mpii import LIMBS, evaluate_mpii
from featherpose.poses import Poses
from featherpose.records import Counts
from featherpose.skeleton import COCO17, LSP14, MPII16, Skeleton
from tests.evaluation.folders import one_by_one

HEAD = 10.0


@pytest.fixture
def samples(tmp_path: Path) -> Mpii:
    """Three persons on two images, all keypoints labeled."""
    for name in ("a.png", "b.png"):
        images.write(tmp_path / name, np.zeros((60, 80, 3), np.uint8))
    keypoints = np.random.default_rng(0).uniform(5, 55, (3, 16, 2))
    boxes = np.float32([[10, 0, 60, 50], [0, 0, 50, 50], [5, 5, 45, 45]])
    image_names = ("a.png", "b.png", "a.png")
    return Mpii(
        tmp_path, image_names, keypoints, np.ones((3, 16), np.int64), boxes, np.full(3, HEAD), Counts("persons", 3)
    )


def lookup_predictor(samples: Mpii, skeleton: Skeleton, shift: float = 0.0):
    """A predictor that looks persons up by their box; keypoints lie `off` head sizes to the right of their labels."""

    def predict(image: np.ndarray, boxes: np.ndarray) -> Poses:
        rows = [int(np.flatnonzero((samples.boxes_xyxy == box).all(axis=1))[0]) for box in boxes]
        keypoints = np.zeros((len(rows), skeleton.num_keypoints, 2), np.float32)
        for at, keypoint in enumerate(skeleton.keypoint_names):
            if keypoint in MPII16.keypoint_names:
                keypoints[:, at] = samples.keypoints[rows, MPII16.keypoint_names.index(keypoint)] + (shift * HEAD, 0)
        ones = np.ones(keypoints.shape[:2], np.float32)
        return Poses(keypoints, ones, boxes, ones[:, 0], skeleton, (80, 60))

    return one_by_one(predict)


def test_perfect_predictions_score_one(samples: Mpii) -> None:
    progress_calls: list[tuple[int, int]] = []
    found = evaluate_mpii(
        samples, lookup_predictor(samples, MPII16), MPII16, lambda done, total: progress_calls.append((done, total))
    )
    assert set(found.scores.to_dict().values()) == {1.0}
    assert (found.num_images, found.num_instances, found.broken) == (2, 3, ())
    assert progress_calls == [(0, 2), (1, 2), (2, 2)]
    for result, image_name, keypoints in zip(found.results, samples.image_names, samples.keypoints, strict=True):
        assert result["image"] == image_name
        np.testing.assert_allclose(result["keypoints"], keypoints, atol=0.006)


def test_error_of_third_head_by_threshold(samples: Mpii) -> None:
    scores = evaluate_mpii(samples, lookup_predictor(samples, MPII16, shift=0.33), MPII16).scores
    assert (scores.mean, scores.mean_at_01, scores.limbs) == (1, 0, 1)
    assert evaluate_mpii(samples, lookup_predictor(samples, MPII16, shift=0.51), MPII16).scores.mean == 0


def test_coco_model_is_scored_on_arms_and_legs(samples: Mpii) -> None:
    found = evaluate_mpii(samples, lookup_predictor(samples, COCO17), COCO17)
    scores = found.scores
    assert (scores.mean, scores.mean_at_01, scores.parts["head"]) == (None, None, None)
    assert (scores.limbs, scores.parts["hip"]) == (1, 1)
    known = [keypoint is not None for keypoint in found.results[0]["keypoints"]]
    assert [keypoint for keypoint, has in zip(MPII16.keypoint_names, known, strict=True) if has] == [
        keypoint for keypoint in MPII16.keypoint_names if keypoint in LIMBS
    ]


def test_unlabeled_keypoints_do_not_count(samples: Mpii) -> None:
    samples.visible[:, MPII16.keypoint_names.index("left_wrist")] = 0
    samples.keypoints[:, MPII16.keypoint_names.index("left_wrist")] = -1000
    assert evaluate_mpii(samples, lookup_predictor(samples, LSP14), LSP14).scores.limbs == 1


def test_unreadable_image_counts_as_missed(samples: Mpii) -> None:
    (samples.images / "a.png").write_bytes(b"no picture")
    found = evaluate_mpii(samples, lookup_predictor(samples, MPII16), MPII16)
    assert found.scores.mean == pytest.approx(1 / 3)
    assert (found.num_images, found.num_instances) == (1, 1)
    assert len(found.broken) == 1
    assert "a.png" in found.broken[0]
    assert found.results[0]["keypoints"] == [None] * 16
    assert found.by_image is not None
    assert [found.by_image.scores(np.array(images)).mean for images in ([0], [1], [1, 0])] == [0, 1, found.scores.mean]
    (samples.images / "b.png").unlink()
    with pytest.raises(DataError, match="None of the 2 images could be used"):
        evaluate_mpii(samples, lookup_predictor(samples, MPII16), MPII16)


def test_model_without_legs_raises(samples: Mpii) -> None:
    upper = Skeleton.from_names("upper", ["nose", "left_wrist"])
    with pytest.raises(DataError, match=r"upper lacks some of the arm and leg keypoints of mpii16"):
        evaluate_mpii(samples, lookup_predictor(samples, upper), upper)


def test_real_labels_score_one(shared: Path) -> None:
    """The labels used as predictions are correct on every image of the data set."""
    all_samples = read_mpii(shared / "data/mpii-test")
    assert evaluate_mpii(all_samples, lookup_predictor(all_samples, MPII16), MPII16).scores.mean == 1
