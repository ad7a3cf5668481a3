"""Custom data sets end to end: training on a COCO file with unusual keypoints, export, evaluation and prediction."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from click.testing import CliRunner
from safetensors.torch import load_file

from featherpose import api, images, weights
from featherpose.cli import featherpose as command
from featherpose.errors import DataError
from featherpose.networks import create_network
from featherpose.networks.checkpoints import load_pretrained, read_facts
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import override
from featherpose.recipes.shipped import get_recipe
from featherpose.skeleton import COCO17
from featherpose.training.tasks.pose_labels import read_labels

pytestmark = pytest.mark.torch
KEYPOINT_NAMES = ["Nose", "LHand", "RHand", "belt", "left_knee"]
"""COCO's nose and left knee, the latter without its counterpart, a pair that COCO lacks, and one between the hips."""
LIMBS = [[1, 4], [4, 5], [2, 3]]


def five_keypoints(keypoints: list[float]) -> list[float]:
    """COCO's 17 keypoints -> the five of `KEYPOINT_NAMES`: wrists as hands, the center of the hips as belt."""
    keypoints_by_name = dict(zip(COCO17.keypoint_names, np.reshape(keypoints, (-1, 3)), strict=True))
    left, right = keypoints_by_name["left_hip"], keypoints_by_name["right_hip"]
    belt = (left + right) / 2 if min(left[2], right[2]) > 0 else np.zeros(3)
    belt[2] = np.floor(belt[2])
    rows = [
        keypoints_by_name["nose"],
        keypoints_by_name["left_wrist"],
        keypoints_by_name["right_wrist"],
        belt,
        keypoints_by_name["left_knee"],
    ]
    return [float(value) for row in rows for value in row]


@pytest.fixture(scope="module")
def annotation_file(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mine.json with the annotations of 24 images, which are in the same folder."""
    root, source = tmp_path_factory.mktemp("own"), shared / "data/coco-test"
    truth = json.loads((source / "person_keypoints.json").read_text())
    annotated_ids = {a["image_id"] for a in truth["annotations"] if a["num_keypoints"] > 8}
    image_records = [record for record in truth["images"] if record["id"] in annotated_ids][:24]
    for image_record in image_records:
        (root / image_record["file_name"]).write_bytes((source / "images" / image_record["file_name"]).read_bytes())
    kept = {image_record["id"] for image_record in image_records}
    annotations: list[dict[str, Any]] = [
        {key: person[key] for key in ("id", "image_id", "bbox", "iscrowd")}
        | {"category_id": 1, "keypoints": five_keypoints(person["keypoints"])}
        for person in truth["annotations"]
        if person["image_id"] in kept
    ]
    categories = [{"id": 1, "name": "worker", "keypoints": KEYPOINT_NAMES, "skeleton": LIMBS}]
    data_set = {"images": image_records, "annotations": annotations, "categories": categories}
    (root / "mine.json").write_text(json.dumps(data_set))
    return root / "mine.json"


def recipe(annotation_file: Path, **changes: Any) -> PoseRecipe:
    short = [
        "stages=[{input_size: 64x64, epochs: 2, batch_size: 16, sigma: 1.5}]",
        "validation.interval=1",
        "schedule.warmup=2",
    ]
    custom = [
        "skeleton=data",
        "data.labels=ground_truth",
        "data.val_fraction=0.2",
        f"data.folder={annotation_file}",
        "pretrained=default",
    ]
    return override(get_recipe("custom-feather_pose"), [*short, *custom, *(f"{k}={v}" for k, v in changes.items())])


def run_command(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(word) for word in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_custom_data_from_labels_to_images(
    annotation_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outcome = api.train(recipe(annotation_file), tmp_path / "run", device="cpu", workers=0)
    stderr = capfd.readouterr().err
    assert f"5 keypoints ({', '.join(KEYPOINT_NAMES)}), 1 left-right pair." in stderr
    assert "Warning: no keypoint of the other side for left_knee: " in stderr
    assert "No published OKS sigma for LHand, RHand, belt: 0.067 is used" in stderr
    assert outcome.finished
    assert 0 <= outcome.best["oks_accuracy"] <= 100, "OKS is computed for custom data sets too"

    best = tmp_path / "run/best.safetensors"
    path, manifest = api.export(best)
    assert manifest.skeleton.keypoint_names == tuple(KEYPOINT_NAMES)
    assert manifest.skeleton.flip_pairs == ((1, 2),)
    assert manifest.skeleton.limbs == ((0, 3), (3, 4), (1, 2))
    assert "mine: terms unknown" in manifest.training["terms"]

    scores = json.loads(
        run_command("evaluate", "--model", path, "--data", annotation_file, "--out", tmp_path / "r.json", "--json")
    )
    truth = json.loads(annotation_file.read_text())
    labeled = [a for a in truth["annotations"] if any(a["keypoints"][2::3]) and not a["iscrowd"]]
    assert scores["num_instances"] == len(labeled)
    assert scores["broken"] == []
    assert 0 <= scores["scores"]["ap"] <= 1

    image_path = annotation_file.parent / truth["images"][0]["file_name"]
    run_command("predict", image_path, "--boxes", annotation_file, "--model", path, "--out", tmp_path / "poses")
    found = json.loads((tmp_path / "poses/poses.json").read_text())
    assert list(found["images"][0]["instances"][0]["keypoints"]) == KEYPOINT_NAMES
    assert images.read(tmp_path / "poses" / image_path.name).shape == images.read(image_path).shape
    assert not np.array_equal(images.read(tmp_path / "poses" / image_path.name), images.read(image_path))


@pytest.mark.slow
def test_evaluating_other_keypoints_raises(annotation_file: Path) -> None:
    with pytest.raises(
        DataError, match=r"The model predicts the 17 keypoints of coco17, the data set labels the 5 of mine"
    ):
        api.evaluate("default", annotation_file)


def test_keypoints_of_same_name_keep_weights() -> None:
    path = weights.find("default", ".safetensors")
    network, before = create_network(read_facts(path)["network"], len(KEYPOINT_NAMES)), load_file(path)
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    report = load_pretrained(network, path, KEYPOINT_NAMES)
    assert report.fresh == []
    last = [name for name in before if "final_layer" in name]
    assert last
    for name in last:
        rows = network.state_dict()[name]
        assert torch.equal(rows[0], before[name][COCO17.keypoint_names.index("nose")])
        assert torch.equal(rows[4], before[name][COCO17.keypoint_names.index("left_knee")])
        assert torch.equal(rows[1:4], initial[name][1:4])


def test_training_labels_are_in_image_pixels(annotation_file: Path) -> None:
    labeled = read_labels(recipe(annotation_file))
    truth = json.loads(annotation_file.read_text())
    keypoints_by_id = {f"{a['id']}": np.reshape(a["keypoints"], (-1, 3)) for a in truth["annotations"]}
    assert {sample.image for sample in labeled.samples} == {record["file_name"] for record in truth["images"]}
    for row, sample in enumerate(labeled.samples):
        region, wanted = sample.location.region, keypoints_by_id[sample.key.rpartition(":")[2]]
        assert region is not None
        labeled_mask = labeled.weights[row, 0] > 0
        assert np.array_equal(labeled_mask, wanted[:, 2] > 0)
        found = labeled.keypoints[row, 0] + (region.left, region.top)
        np.testing.assert_allclose(found[labeled_mask], wanted[labeled_mask, :2], atol=1e-3)
    sides = [{labeled.samples[row].image for row in rows} for rows in (labeled.training_rows, labeled.validation_rows)]
    assert not sides[0] & sides[1], "an image is in the training or the validation set, never in both"


def test_too_few_images_raise_with_suggestion(annotation_file: Path, tmp_path: Path) -> None:
    truth = json.loads(annotation_file.read_text())
    few = {**truth, "images": [{**truth["images"][0], "id": i, "file_name": f"{i}.jpg"} for i in range(7)]}
    few["annotations"] = [{**truth["annotations"][0], "image_id": i, "keypoints": [9, 9, 2] * 5} for i in range(7)]
    for i in range(7):
        (tmp_path / f"{i}.jpg").write_bytes((annotation_file.parent / truth["images"][0]["file_name"]).read_bytes())
    (tmp_path / "few.json").write_text(json.dumps(few))
    with pytest.raises(
        DataError,
        match=r"all 7 images fall into the same split with data\.val_fraction=0\.05; set data\.val_fraction=0\.333\.",
    ):
        read_labels(recipe(tmp_path / "few.json", **{"data.val_fraction": 0.05}))
    assert len(read_labels(recipe(tmp_path / "few.json", **{"data.val_fraction": 0.333})).validation_rows) == 3
    few["images"], few["annotations"] = few["images"][:1], few["annotations"][:1]
    (tmp_path / "few.json").write_text(json.dumps(few))
    with pytest.raises(DataError, match=r"all 1 images fall into the same split with .*; annotate more images\."):
        read_labels(recipe(tmp_path / "few.json"))


def test_pseudo_labels_reject_custom_keypoints(annotation_file: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"data\.labels=ground_truth\+pseudo supports COCO's keypoints only; "
        r"skeleton mine needs data\.labels=ground_truth and",
    ):
        read_labels(recipe(annotation_file, **{"data.labels": "ground_truth+pseudo"}))
