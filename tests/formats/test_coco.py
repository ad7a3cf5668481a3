import json

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.formats import coco
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14

SIZE = Size(height=90, width=100)


def some_poses(number: int) -> Poses:
    rng = np.random.default_rng(number)
    keypoints, boxes = rng.uniform(0, 99, (number, 17, 2)), rng.uniform(0, 50, (number, 4))
    boxes[:, 2:] += boxes[:, :2]
    return Poses(keypoints, rng.uniform(0, 1, (number, 17)), boxes, rng.uniform(0.1, 1, number), COCO17, SIZE)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_coco_results_roundtrip(number):
    poses = some_poses(number)
    results = json.loads(json.dumps(coco.to_results(poses, 785)))
    assert len(results) == number
    back = coco.from_results(results, COCO17, {785: SIZE})[785]
    assert np.abs(back.keypoints - poses.keypoints).max(initial=0) < 1e-3
    assert np.abs(back.boxes_xyxy - poses.boxes_xyxy).max(initial=0) < 0.02
    assert np.abs(back.box_scores - poses.box_scores).max(initial=0) < 1e-3
    assert np.abs(back.person_scores - poses.person_scores).max(initial=0) < 1e-3


def test_result_has_coco_keys_and_values():
    poses = some_poses(1)
    (result,) = coco.to_results(poses, "a.jpg", category_id=3)
    assert (result["image_id"], result["category_id"]) == ("a.jpg", 3)
    assert len(result["keypoints"]) == 51 and result["keypoints"][3:5] == pytest.approx(poses.keypoints[0, 1], abs=1e-3)
    assert result["score"] == pytest.approx(float(poses.person_scores[0]))
    assert result["bbox"][2] == pytest.approx(poses.boxes_xyxy[0, 2] - poses.boxes_xyxy[0, 0], abs=0.01)


def test_published_results_are_read(parity):
    results = json.loads((parity / "coco_kpt_dets.json").read_text())
    sizes = {image["id"]: Size(height=image["height"], width=image["width"]) for image in
             json.loads((parity / "coco_gt.json").read_text())["images"]}  # fmt: skip
    poses = coco.from_results(results, COCO17, sizes)
    assert sum(len(found) for found in poses.values()) == len(results)
    assert list(poses) == list(sizes) and any(len(found) == 0 for found in poses.values())


def test_missing_bbox_is_keypoint_bounding_box():
    result = coco.to_results(some_poses(1), 1)[0]
    del result["bbox"]
    keypoints = np.array(result["keypoints"]).reshape(-1, 3)[:, :2]
    box = coco.from_results([result], COCO17, {1: SIZE})[1].boxes_xyxy[0]
    assert box.tolist() == pytest.approx([*keypoints.min(axis=0), *keypoints.max(axis=0)])


def test_unconfident_person_keeps_given_score():
    result = coco.to_results(some_poses(1), 1)[0] | {"keypoints": [1.0, 2.0, 0.0] * 17, "score": 0.4}
    assert coco.from_results([result], COCO17, {1: SIZE})[1].box_scores.tolist() == pytest.approx([0.4])


def test_mismatched_results_raise():
    results = coco.to_results(some_poses(2), 1)
    with pytest.raises(InputError, match="image_id 1 is not among"):
        coco.from_results(results, COCO17, {2: SIZE})
    with pytest.raises(InputError, match=r"keypoints: 51 numbers, wanted 3 x 14 finite numbers \(lsp14\)"):
        coco.from_results(results, LSP14, {1: SIZE})
