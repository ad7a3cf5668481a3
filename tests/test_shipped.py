"""The shipped models: they match their model cards and detect poses in photographs."""

import hashlib
import json

import numpy as np
import pytest

import featherpose
from featherpose import examples, weights
from featherpose.cli.predict import predict
from featherpose.evaluation.calibration import SHOWN
from featherpose.evaluation.coco import keypoint_ap
from featherpose.formats import coco_labels
from featherpose.manifest import read_manifest

POSE_MODELS = [card["name"] for card in weights.shipped_cards()]


def test_shipped_files_are_complete():
    assert weights.shipped() == weights.shipped(".safetensors") == weights.shipped(".json")
    assert "cbam_lite_hrnet_18" in POSE_MODELS


@pytest.mark.parametrize("name", weights.shipped())
class TestEveryModel:
    def test_file_digests_match_the_model_card(self, name):
        card = json.loads(weights.find(name, ".json").read_text())
        for entry in card["files"]:
            content = weights.find(name).with_name(entry["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]

    def test_manifest_matches_the_model_card(self, name):
        card, manifest = json.loads(weights.find(name, ".json").read_text()), read_manifest(weights.find(name))
        assert card["name"] == name
        assert manifest.network == name.partition("-")[0]
        assert list(manifest.accuracy) == card["accuracy"]
        assert manifest.training["terms"] == card["training"]["terms"]
        for what, allowed in manifest.parity.get("allowed", {"heatmaps": 1e-4}).items():
            assert manifest.parity[what] <= allowed


@pytest.mark.parametrize("name", POSE_MODELS)
class TestEveryPoseModel:
    def test_noses_are_above_shoulders_on_example(self, name):
        boxes = json.loads(examples.find("boxes.json").read_text())["people.jpg"]
        poses = featherpose.estimate(examples.find("people.jpg"), boxes=boxes, model=name)
        nose, shoulders = poses.keypoints[:, 0, 1], poses.keypoints[:, 5:7, 1].mean(axis=1)
        assert len(poses) == 3
        assert (nose < shoulders).all()

    def test_ap50_on_real_images_matches_card(self, name, shared):
        """On a tenth of the test set, AP50 is close to the value in the model card."""
        card = json.loads(weights.find(name, ".json").read_text())
        wanted = next(entry["percent"]["ap50"] for entry in card["accuracy"] if entry["data"] == "coco-test")
        truth = json.loads((shared / "data/coco-test/person_keypoints.json").read_text())
        image_ids = {image["id"] for image in truth["images"][::10]}
        truth["images"] = [image for image in truth["images"] if image["id"] in image_ids]
        truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in image_ids]
        labels = coco_labels.from_json(truth, "coco-test")
        found = keypoint_ap(labels, coco_results(truth, shared / "data/coco-test/images", name))
        assert abs(100 * found.ap50 - wanted) < 20


def test_help_states_the_share_of_right_keypoints_of_the_card():
    """Where the threshold of drawn keypoints is named, so is what it means."""
    card = json.loads(weights.find("default", ".json").read_text())["keypoint_scores"]
    (option,) = (option for option in predict.params if option.name == "score_threshold")
    assert option.default == card["threshold"] == SHOWN
    assert f"At {card['threshold']}, {100 * card['right']:.0f} % of the visible keypoints" in option.help


@pytest.mark.parametrize("name", POSE_MODELS)
def test_every_card_says_what_keypoint_scores_mean(name):
    card = json.loads(weights.find(name, ".json").read_text())["keypoint_scores"]
    assert sum(b["number"] for b in card["bins"]) == card["number"] > 1000
    assert card["command"].endswith(name)


def coco_results(truth, folder, name):
    """COCO results for all persons with labeled keypoints, from ground-truth boxes."""
    results = []
    for image in truth["images"]:
        annotations = [a for a in truth["annotations"] if a["image_id"] == image["id"] and a.get("num_keypoints")]
        boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in annotations if not a["iscrowd"])])
        if len(boxes):
            poses = featherpose.estimate(folder / image["file_name"], boxes=boxes, model=name)
            keypoints = np.dstack([poses.keypoints, poses.scores]).reshape(len(poses), -1).tolist()
            results += [
                {"image_id": image["id"], "category_id": 1, "keypoints": k, "score": float(s)}
                for k, s in zip(keypoints, poses.person_scores, strict=True)
            ]
    return results
