"""The shipped models: they match their model cards and detect poses in photographs."""

import hashlib
import json

import numpy as np
import pytest

import featherpose
from featherpose import examples, images, weights
from featherpose.boxes import iou
from featherpose.cli.predict import predict
from featherpose.data.coco import read_coco
from featherpose.evaluation.calibration import SHOWN
from featherpose.evaluation.coco import keypoint_ap
from featherpose.evaluation.detector import evaluate_detector
from featherpose.formats import coco_labels
from featherpose.kinds import DETECTOR
from featherpose.manifest import read_manifest
from featherpose.runtime.detector import Detector
from featherpose.size import Size

POSE_MODELS = [card["name"] for card in weights.shipped_cards()]
DETECTORS = [card["name"] for card in weights.shipped_cards(DETECTOR.name)]
BOXES = json.loads(examples.find("boxes.json").read_text())


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


def tenth_of_coco_test(shared):
    """The content of its annotation file, with every tenth image."""
    truth = json.loads((shared / "data/coco-test/person_keypoints.json").read_text())
    truth["images"] = truth["images"][::10]
    image_ids = {image["id"] for image in truth["images"]}
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in image_ids]
    return truth


@pytest.mark.parametrize("name", POSE_MODELS)
class TestEveryPoseModel:
    def test_noses_are_above_shoulders_on_example(self, name):
        poses = featherpose.estimate(examples.find("people.jpg"), boxes=BOXES["people.jpg"], model=name)
        nose, shoulders = poses.keypoints[:, 0, 1], poses.keypoints[:, 5:7, 1].mean(axis=1)
        assert len(poses) == 3
        assert (nose < shoulders).all()

    def test_ap50_on_real_images_matches_card(self, name, shared):
        """On a tenth of the test set, AP50 is close to the value in the model card."""
        card = json.loads(weights.find(name, ".json").read_text())
        wanted = next(entry["percent"]["ap50"] for entry in card["accuracy"] if entry["data"] == "coco-test")
        truth = tenth_of_coco_test(shared)
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


@pytest.fixture
def detector(name):
    return Detector.open(weights.find_detector(name), "cpu")


def cameraman(height):
    """A man 451 pixels tall in an image of 512x512 -> the image scaled so that he has this height, and his box."""
    pixels = images.read(examples.find("cameraman.jpg"))
    factor = height / (BOXES["cameraman.jpg"][0][3] - BOXES["cameraman.jpg"][0][1])
    side = round(512 * factor)
    return images.resize(pixels, Size(height=side, width=side), "area"), factor * np.array(BOXES["cameraman.jpg"][0])


@pytest.mark.parametrize("name", DETECTORS)
class TestEveryDetector:
    @pytest.mark.parametrize("image", BOXES)
    def test_everybody_in_the_examples_is_found(self, name, detector, image):
        """And nobody else: none where nobody is."""
        found, _ = detector(images.read(examples.find(image)))
        assert len(found) == len(BOXES[image])
        assert all(iou(np.array([box]), found).max() > 0.6 for box in BOXES[image])

    @pytest.mark.parametrize("left", [0, 37, 200, 275])
    def test_person_of_40_pixels_is_found(self, name, left):
        """In an image of the detector's own size, as the one with the best score; the default threshold is higher."""
        small, box = cameraman(40)
        image = np.full((240, 320, 3), 114, np.uint8)
        image[100 : 100 + len(small), left : left + len(small)] = small
        found, _ = Detector.open(weights.find_detector(name), "cpu", conf=0.3)(image)
        place = np.array((left, 100))
        assert iou((box + np.tile(place, 2))[None], found[:1]).max(initial=0) > 0.5

    @pytest.mark.parametrize(
        ("cut", "overlap"), [((256, 0, 512, 600), 0.6), ((0, 0, 256, 600), 0.6), ((0, 0, 512, 300), 0.5)]
    )
    def test_person_cut_by_the_border_is_found(self, name, detector, cut, overlap):
        """Half of the portrait is beyond the left, right or lower edge. In the last, the box lacks the shoulders."""
        left, top, right, bottom = cut
        image = images.read(examples.find("hopper.jpg"))[top:bottom, left:right]
        box = np.clip(BOXES["hopper.jpg"], (left, top) * 2, (right, bottom) * 2) - (left, top) * 2
        found, _ = detector(image)
        assert iou(box, found[:1]).max(initial=0) > overlap

    def test_ap50_on_real_images_matches_card(self, name, detector, shared, tmp_path):
        """On a tenth of the test set, AP50 is close to the value in the model card."""
        card = json.loads(weights.find(name, ".json").read_text())
        wanted = next(entry["percent"]["ap50"] for entry in card["accuracy"] if entry["data"] == "coco-test")
        truth = tenth_of_coco_test(shared)
        (tmp_path / "person_keypoints.json").write_text(json.dumps(truth))
        (tmp_path / "images").symlink_to(shared / "data/coco-test/images")
        detector.conf = 0.0
        found = evaluate_detector(read_coco(tmp_path), detector, card["conf"])
        assert abs(100 * found.scores.ap50 - wanted) < 15
