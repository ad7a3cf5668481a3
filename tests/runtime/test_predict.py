import json

import numpy as np
import pytest

from featherpose import images, weights
from featherpose.errors import InputError, ModelError
from featherpose.formats import native
from featherpose.runtime import predict as predict_file
from featherpose.runtime.predict import find_images, predict
from tests.tiny_model import tiny_model

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def image_file(path, color=(255, 0, 0)):
    """Gray image, 60 x 80, with a spot at (30, 20)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((80, 60, 3), 128, np.uint8)
    image[14:27, 24:37] = color
    images.write(path, image)
    return path


def names(image_files):
    return [(one.name, one.drawn_name) for one in image_files]


def test_folders_are_searched_recursively_in_order(tmp_path):
    for name in ("b.jpg", "a.PNG", "sub/deep/c.webp", "sub/a.jpg"):
        image_file(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.jpg").write_text("")
    (tmp_path / "folder.jpg").mkdir()
    found, failures = find_images([tmp_path], tmp_path / "out")
    assert [one.name for one in found] == ["a.PNG", "b.jpg", "sub/a.jpg", "sub/deep/c.webp"] and failures == []


def test_results_of_earlier_run_are_skipped(tmp_path):
    image_file(tmp_path / "a.jpg"), image_file(tmp_path / "out" / "a.jpg")
    assert names(find_images([tmp_path], tmp_path / "out")[0]) == [("a.jpg", "a.jpg")]


def test_same_image_names_get_separate_results(tmp_path):
    for name in ("x/img.jpg", "y/img.jpg", "z/IMG.JPG", "z/img.heic", "z/img.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    sources = [tmp_path / "x/img.jpg", tmp_path / "y", tmp_path / "z", tmp_path / "x" / "img.jpg"]
    found, _ = find_images(sources, tmp_path / "out")
    assert names(found) == [
        ("img.jpg", "img.jpg"),
        ("img-2.jpg", "img-2.jpg"),
        ("IMG-3.JPG", "IMG-3.JPG"),
        ("img-4.heic", "img-4.jpg"),
        ("img-5.tif", "img-5.jpg"),
    ]


def test_empty_folder_is_listed_as_failure(tmp_path):
    image_files, failures = find_images([tmp_path], tmp_path / "out")
    assert image_files == [] and len(failures) == 1 and f"{tmp_path}: no image in this folder" in failures[0]


def test_images_and_json_are_written(tmp_path, model):
    image_file(tmp_path / "in" / "a.jpg"), image_file(tmp_path / "in" / "sub" / "b.png", (0, 255, 0))
    calls = []
    report = predict(
        [tmp_path / "in"], model=model, whole_image=True, out=tmp_path / "out", device="cpu",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert list(report.poses) == ["a.jpg", "sub/b.png"] and report.failures == []
    assert calls == [(0, 2), (1, 2), (2, 2)]
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a.jpg", "poses.json", "sub/b.png"]
    drawn, original = images.read(tmp_path / "out/sub/b.png"), images.read(tmp_path / "in/sub/b.png")
    assert drawn.shape == original.shape and not np.array_equal(drawn, original)
    document = json.loads((tmp_path / "out" / "poses.json").read_text())
    assert document == json.loads(json.dumps(report.document)) and document["model"] == "tiny"
    back = native.from_document(document)
    assert np.abs(back["a.jpg"].keypoints - report.poses["a.jpg"].keypoints).max() < 0.01
    assert np.abs(back["a.jpg"].keypoints[0, 0] - (30, 20)).max() < 9
    assert np.abs(back["sub/b.png"].keypoints[0, 1] - (30, 20)).max() < 9


def test_bad_images_are_listed_good_ones_done(tmp_path, model):
    good = image_file(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(good.read_bytes()[:300])
    (tmp_path / "c.jpg").write_text("")
    sources = [good, tmp_path / "b.jpg", tmp_path / "none.jpg", tmp_path / "c.jpg"]
    report = predict(sources, model=model, whole_image=True, out=tmp_path / "out", device="cpu")
    assert list(report.poses) == ["a.jpg"]
    assert [line.split(": ")[0] for line in report.failures] == [str(path) for path in sources[1:]]
    assert [entry["image"] for entry in report.document["images"]] == ["a.jpg"]


BOX = [10.0, 5.0, 55.0, 75.0]


@pytest.mark.parametrize(
    ("boxes", "counts"),
    [
        pytest.param({"a.jpg": [BOX, BOX], "b.jpg": []}, [2, 0], id="plain"),
        pytest.param([{"image_id": "b", "bbox": BOX, "score": 0.5}], [0, 1], id="detections"),
    ],
)
def test_boxes_from_file_or_value(tmp_path, model, boxes, counts):
    image_files = [image_file(tmp_path / "in/a.jpg"), image_file(tmp_path / "in/b.jpg")]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = {"model": model, "out": tmp_path / "out", "device": "cpu", "draw_images": False}
    report = predict(image_files, boxes=tmp_path / "boxes.json", **options)
    assert [len(found) for found in report.poses.values()] == counts
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["poses.json"]
    if isinstance(boxes, dict):
        assert predict(image_files, boxes=boxes, **options).document == report.document
    else:
        assert report.poses["b.jpg"].box_scores.tolist() == [0.5]


def test_same_image_names_do_not_share_boxes(tmp_path, model):
    image_files = [image_file(tmp_path / "x/a.jpg"), image_file(tmp_path / "y/a.jpg")]
    options = {"model": model, "out": tmp_path / "out", "device": "cpu"}
    report = predict(image_files, boxes={"a.jpg": [BOX]}, **options)
    assert [len(found) for found in report.poses.values()] == [1]
    assert f'{image_files[1]}: no entry in the boxes. Add "a-2.jpg": []' in report.failures[0]
    whole = {image_files[0].as_posix(): [BOX], image_files[1].as_posix(): [BOX, BOX]}
    assert [len(found) for found in predict(image_files, boxes=whole, **options).poses.values()] == [1, 2]
    assert len(predict(image_files, boxes=[{"image_id": "a", "bbox": BOX}], **options).failures) == 2


def test_missing_entry_and_bad_box_name_image(tmp_path, model):
    image_files = [image_file(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    report = predict(
        image_files, boxes={"a.jpg": [BOX], "c.jpg": [[9, 9, 9, 9]]}, model=model, out=tmp_path / "o", device="cpu"
    )
    assert len(report.poses) == 1 and not (tmp_path / "o" / "c.jpg").exists()
    assert [line[: len(str(image_files[1]))] for line in report.failures] == [str(image_files[1]), str(image_files[2])]
    assert "no entry" in report.failures[0] and "Box 0 [9.0, 9.0, 9.0, 9.0] has no area" in report.failures[1]


def bad_options(folder):
    a, spoilt = folder / "a.jpg", folder / "spoilt.json"
    return [
        ({}, "no person detector: type --boxes FILE.*--whole-image"),
        ({"whole_image": True, "boxes": {}}, "contradict each other"),
        ({"boxes": folder / "none.json"}, r"none\.json: cannot be read"),
        ({"boxes": spoilt}, r"spoilt\.json: not JSON"),
        ({"boxes": {"a.jpg": [1]}}, "a box is not four numbers"),
        ({"whole_image": True, "out": a}, r"a\.jpg: is a file, wanted a folder"),
        ({"whole_image": True, "out": folder}, "would overwrite the input image"),
        ({"whole_image": True, "json_file": a}, "would overwrite the input image"),
    ]


@pytest.mark.parametrize("row", range(8))
def test_invalid_options_raise_before_writing(tmp_path, model, row):
    image_file(tmp_path / "a.jpg")
    (tmp_path / "spoilt.json").write_text("{")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    options, message = bad_options(tmp_path)[row]
    with pytest.raises(InputError, match=message):
        predict([tmp_path], model=model, device="cpu", **{"out": tmp_path / "out"} | options)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_unknown_model_raises(tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        predict([image_file(tmp_path / "a.jpg")], model="none.onnx", whole_image=True, out=tmp_path / "out")


def test_model_name_is_looked_up_in_shipped_models(tmp_path, model, monkeypatch):
    monkeypatch.setattr(weights, "find", lambda name: model if name == "small" else None)
    assert (
        len(predict([image_file(tmp_path / "a.jpg")], model="small", whole_image=True, out=tmp_path / "out").poses) == 1
    )


def test_interrupt_keeps_finished_results(tmp_path, model, monkeypatch):
    image_files = [image_file(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    read = images.read

    def interrupted(path, **options):
        if path == image_files[2]:
            raise KeyboardInterrupt
        return read(path, **options)

    monkeypatch.setattr(predict_file.images, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(image_files, model=model, whole_image=True, out=tmp_path / "out", device="cpu")
    done = native.from_document(json.loads((tmp_path / "out" / "poses.json").read_text()))
    assert list(done) == ["a.jpg", "b.jpg"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg", "poses.json"]
