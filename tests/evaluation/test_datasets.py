"""LSP, CrowdPose and test sets whose annotations are withheld: scores by hand or as published, files to upload."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.io import loadmat

from featherpose import api
from featherpose.cli.evaluate import evaluate
from featherpose.data.datasets import find_dataset
from featherpose.errors import DataError, InputError
from featherpose.evaluation.crowdpose import crowd_scores
from featherpose.evaluation.lsp import evaluate_lsp
from featherpose.formats import coco_labels
from featherpose.poses import Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, CROWDPOSE14, LSP14, MPII16, Skeleton
from tests.data.published import coco, coco_document, crowdpose, line, lsp_json, mpii_json, mpii_mat, write_json
from tests.evaluation.folders import one_by_one
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_manifest, tiny_model

pytest.importorskip("onnx")
pytest.importorskip("faster_coco_eval")

TORSO = float(np.linalg.norm(line(14)[9] - line(14)[2]))  # left shoulder to right hip


def shifted(skeleton: Skeleton, pixels: float, names: tuple[str, ...] = ()) -> object:
    """A predictor of LSP's labels by name, in another order of keypoints, those of `names` moved by some pixels."""

    def predict(image: np.ndarray, boxes: np.ndarray) -> Poses:
        points = np.array([line(14)[LSP14.keypoint_names.index(name)] for name in skeleton.keypoint_names])
        points[[name in names for name in skeleton.keypoint_names]] += (pixels, 0)
        keypoints = np.repeat(points[None], len(boxes), axis=0)
        ones = np.ones(len(boxes))
        size = Size(height=image.shape[0], width=image.shape[1])
        return Poses(keypoints, np.ones(keypoints.shape[:2]), boxes, ones, skeleton, size)

    return one_by_one(predict)


@pytest.mark.parametrize(
    ("share", "mean"),
    [(0.0, 1.0), (0.19, 1.0), (0.21, 12 / 14)],
    ids=["exact", "within 0.2 of the torso", "beyond"],
)
def test_pck_of_lsp_is_relative_to_the_torso(share: float, mean: float, tmp_path: Path) -> None:
    dataset = find_dataset(lsp_json(tmp_path)).read()
    predict = shifted(LSP14, share * TORSO, ("left_wrist", "head_top"))
    scores = evaluate_lsp(dataset, predict, LSP14).scores
    assert scores.mean == pytest.approx(mean)
    assert scores.parts["wrist"] == (1.0 if mean == 1 else 0.5)
    assert scores.parts["head"] == (1.0 if mean == 1 else 0.0)
    assert scores.limbs == pytest.approx(1.0 if mean == 1 else 11 / 12)


def test_model_with_other_keypoints_is_scored_on_limbs(tmp_path: Path) -> None:
    dataset = find_dataset(lsp_json(tmp_path)).read()
    names = [name for name in COCO17.keypoint_names if name in LSP14.keypoint_names]
    skeleton = Skeleton.from_names("limbs", names)
    scores = evaluate_lsp(dataset, shifted(skeleton, 0), skeleton).scores
    assert (scores.mean, scores.limbs, scores.parts["head"], scores.parts["hip"]) == (None, 1.0, None, 1.0)
    with pytest.raises(DataError, match="lacks some of the arm and leg keypoints of lsp14"):
        evaluate_lsp(dataset, shifted(skeleton, 0), Skeleton.from_names("hand", ["left_wrist"]))


def test_person_without_a_torso_does_not_count(tmp_path: Path) -> None:
    lsp_json(tmp_path)
    document = json.loads((tmp_path / "joints.json").read_text())
    for hip in (2, 3):
        document["people"][1]["joints"][hip][2] = 0
    write_json(tmp_path / "joints.json", document)
    evaluation = evaluate_lsp(find_dataset(tmp_path).read(), shifted(LSP14, 0), LSP14)
    assert evaluation.num_instances == 1
    assert evaluation.counts[0].summary().endswith("1 without a labeled torso (first people[1]).")


def test_crowdpose_equals_the_published_evaluation(parity: Path, tmp_path: Path) -> None:
    """The fixture has areas; as in the published evaluation, 0.53 of the box is used in their place."""
    (tmp_path / "crowdpose_val.json").write_bytes((parity / "crowd_gt.json").read_bytes())
    labels = find_dataset(tmp_path / "crowdpose_val.json").read().labels
    published = json.loads((parity / "coco_eval.json").read_text())
    wanted = published["crowd14_xtcocotools_keypoints_crowd_use_area_False"]
    found = list(crowd_scores(labels, json.loads((parity / "crowd_kpt_dets.json").read_text())).to_dict().values())
    assert wanted["names"] == ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard"]
    np.testing.assert_allclose(found[:6], wanted["stats"][:6], atol=1e-12)
    np.testing.assert_allclose(found[6:], wanted["stats"][6:], atol=5e-5)  # rounded there
    assert labels.skeleton.sigmas == tuple(wanted["sigmas"])


def test_levels_without_an_image_have_no_score() -> None:
    labels = coco_labels.from_json(coco_document(["a.jpg"], CROWDPOSE14, crowdIndex=0.2), "crowd")
    keypoints = labels.persons[0].keypoints.ravel().tolist()
    results = [{"image_id": 1, "category_id": 1, "keypoints": keypoints, "score": 1.0}]
    scores = crowd_scores(labels, results).to_dict()
    assert (scores["ap_easy"], scores["ap_medium"], scores["ap_hard"]) == (None, 1.0, None)


COMMANDS = {
    "lsp": (lsp_json, MPII16, ["PCK@0.2", "Limbs"]),
    "crowdpose": (crowdpose, CROWDPOSE14, ["AP", "easy", "medium", "hard"]),
    "mpii": (lambda root: mpii_json(root).parent / "valid", MPII16, ["Mean@0.1", "Limbs"]),
}


@pytest.mark.parametrize(("write", "skeleton", "columns"), COMMANDS.values(), ids=COMMANDS)
def test_one_command_evaluates(write, skeleton: Skeleton, columns: list[str], tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx", tiny_manifest(skeleton=skeleton))
    words = ["--model", model, "--data", write(tmp_path / "data"), "--device", "cpu", "--out", tmp_path / "r.json"]
    done = CliRunner().invoke(evaluate, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert set(columns) <= set(done.stdout.splitlines()[0].split())


def test_ids_choose_the_images_to_evaluate(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx", tiny_manifest(skeleton=MPII16))
    mpii_json(tmp_path / "mpii")
    (tmp_path / "list.txt").write_text("000005001.jpg\n")
    evaluation = api.evaluate(model, tmp_path / "mpii/valid", ids=tmp_path / "list.txt", device="cpu")
    assert evaluation.num_images == evaluation.num_instances == 1
    coco_model = tiny_model(tmp_path / "coco.onnx")
    coco(tmp_path / "coco")
    (tmp_path / "list.txt").write_text("1001\n1003\n")
    evaluation = api.evaluate(coco_model, tmp_path / "coco/val2017", ids=tmp_path / "list.txt", device="cpu")
    assert evaluation.num_images == 2


def test_test_dev_gives_the_zip_for_the_server(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx")
    coco(tmp_path / "coco")
    boxes = [
        {"image_id": 2001, "category_id": 1, "bbox": [60, 20, 40, 80], "score": 0.9},
        {"image_id": 2003, "category_id": 1, "bbox": [60, 20, 40, 80], "score": 0.8},
    ]
    write_json(tmp_path / "boxes.json", boxes)
    place, out = tmp_path / "coco/test-dev2017", tmp_path / "out/r.json"
    evaluation = api.evaluate(model, place, boxes=tmp_path / "boxes.json", device="cpu", out=out)
    assert evaluation.scores.to_dict()["ap"] is None
    assert evaluation.submission == str(tmp_path / "out/person_keypoints_test-dev2017_tiny_results.zip")
    with zipfile.ZipFile(evaluation.submission) as archive:
        assert archive.namelist() == ["person_keypoints_test-dev2017_tiny_results.json"]
        results = json.loads(archive.read(archive.namelist()[0]))
    assert [result["image_id"] for result in results] == [2001, 2003]
    assert set(results[0]) == {"image_id", "category_id", "keypoints", "score"}
    assert len(results[0]["keypoints"]) == 51
    with pytest.raises(InputError, match="the annotations of this test set are withheld, its boxes too; type --boxes"):
        api.evaluate(model, place, device="cpu")


def test_test_dev_takes_the_boxes_of_a_detector(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx")
    detector = tiny_image_model(tmp_path / "detector.onnx", tiny_image_manifest("detector"))
    coco(tmp_path / "coco")
    evaluation = api.evaluate(
        model,
        tmp_path / "coco/test-dev2017",
        boxes="detector",
        detector=detector,
        device="cpu",
        out=tmp_path / "r.json",
    )
    assert evaluation.num_images == 3 and evaluation.gt_scores is None
    assert evaluation.submission


def test_mpii_test_people_give_the_file_for_its_evaluation(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx", tiny_manifest(skeleton=MPII16))
    mpii_mat(tmp_path / "mat")
    evaluation = api.evaluate(model, tmp_path / "mat/test", device="cpu", out=tmp_path / "mat/out/r.json")
    assert evaluation.scores.to_dict()["mean"] is None
    assert evaluation.submission == str(tmp_path / "mat/out/pred_keypoints_mpii.mat")
    pred = loadmat(evaluation.submission, struct_as_record=False, squeeze_me=True)["pred"]
    assert len(pred) == 2  # all test images
    point = pred[0].annorect.annopoints.point
    assert [p.id for p in point] == list(range(16))
    x, y = evaluation.results[0]["keypoints"][3]
    assert (point[3].x, point[3].y) == pytest.approx((x + 1, y + 1))
    # Of the second image the second person is asked for; the first has no points.
    assert [np.size(person.annopoints.point) for person in pred[1].annorect] == [0, 16]


def test_mpii_test_people_of_hrnet_give_its_file(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "tiny.onnx", tiny_manifest(skeleton=MPII16))
    mpii_json(tmp_path / "json")
    evaluation = api.evaluate(model, tmp_path / "json/test", device="cpu", out=tmp_path / "json/out/r.json")
    preds = loadmat(evaluation.submission)["preds"]
    assert preds.shape == (3, 16, 2)
    assert preds[1, 0] == pytest.approx(np.array(evaluation.results[1]["keypoints"][0]) + 1)
