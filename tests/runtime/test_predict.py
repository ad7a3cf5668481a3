import json
import os
import threading
import weakref

import numpy as np
import pytest

from featherpose import images, weights
from featherpose.api import predict
from featherpose.errors import InputError, ModelError
from featherpose.formats import native
from featherpose.formats.outputs import FORMATS
from featherpose.runtime import predict as predict_file
from featherpose.size import Size
from featherpose.skeleton import COCO17
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_model

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
    assert written == [".poses.run.json", "a.jpg", "poses.json", "sub/b.png"]
    drawn, original = images.read(tmp_path / "out/sub/b.png"), images.read(tmp_path / "in/sub/b.png")
    assert drawn.shape == original.shape and not np.array_equal(drawn, original)
    document = json.loads((tmp_path / "out" / "poses.json").read_text())
    assert document["model"] == "tiny"
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
    assert list(native.from_document(json.loads(report.json_file.read_text()))) == ["a.jpg"]


BOX = [10.0, 5.0, 55.0, 75.0]
SECOND = [12.0, 5.0, 55.0, 75.0]


@pytest.mark.parametrize(
    ("boxes", "counts"),
    [
        pytest.param({"a.jpg": [BOX, SECOND, BOX], "b.jpg": []}, [2, 0], id="plain, one box twice"),
        pytest.param([{"image_id": "b", "bbox": BOX, "score": 0.5}], [0, 1], id="detections"),
    ],
)
def test_boxes_from_file_or_value(tmp_path, model, boxes, counts):
    image_files = [image_file(tmp_path / "in/a.jpg"), image_file(tmp_path / "in/b.jpg")]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = {"model": model, "out": tmp_path / "out", "device": "cpu", "draw_images": False}
    report = predict(image_files, boxes=tmp_path / "boxes.json", **options)
    assert [len(found) for found in report.poses.values()] == counts
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".poses.run.json", "poses.json"]
    if isinstance(boxes, dict):
        content = report.json_file.read_bytes()
        assert predict(image_files, boxes=boxes, overwrite=True, **options).json_file.read_bytes() == content
    else:
        assert report.poses["b.jpg"].box_scores.tolist() == [0.5]


def test_same_image_names_do_not_share_boxes(tmp_path, model):
    image_files = [image_file(tmp_path / "x/a.jpg"), image_file(tmp_path / "y/a.jpg")]
    options = {"model": model, "out": tmp_path / "out", "device": "cpu"}
    report = predict(image_files, boxes={"a.jpg": [BOX]}, **options)
    assert [len(found) for found in report.poses.values()] == [1]
    assert f'{image_files[1]}: no entry in the boxes. Add "a-2.jpg": []' in report.failures[0]
    whole = {image_files[0].as_posix(): [BOX], image_files[1].as_posix(): [BOX, SECOND]}
    assert [len(found) for found in predict(image_files, boxes=whole, **options).poses.values()] == [1, 2]
    with pytest.raises(InputError, match=r"the entries are of images a, the images are a\.jpg, a-2\.jpg"):
        predict(image_files, boxes=[{"image_id": "a", "bbox": BOX}], **options)


def test_missing_entry_fails_and_bad_boxes_are_counted(tmp_path, model):
    image_files = [image_file(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    boxes = {"a.jpg": [BOX, [900, 9, 999, 99]], "c.jpg": [[9, 9, 9, 9]], "d.jpg": [BOX]}
    report = predict(image_files, boxes=boxes, model=model, out=tmp_path / "o", device="cpu")
    assert {name: len(found) for name, found in report.poses.items()} == {"a.jpg": 1, "c.jpg": 0}
    (failure,) = report.failures
    assert failure.startswith(f"{image_files[1]}: no entry in the boxes")
    files, counts = report.counts
    assert files.summary().startswith("2 of 3 files used; left out: 1 that could not be used (first ")
    assert counts.summary() == (
        "1 of 4 boxes of the boxes used; left out: 1 without a box that has an area (first c.jpg[0]), 1 of no image"
        " among the images (first d.jpg[0], image d.jpg), 1 with a box outside the image (first a.jpg[1])."
    )


def test_boxes_of_other_images_are_refused(tmp_path, model):
    image_files = [image_file(tmp_path / name) for name in ("IMG_A.jpg", "IMG_B.jpg")]
    detections = [{"image_id": number, "bbox": BOX, "score": 0.9} for number in (1, 2)]
    with pytest.raises(InputError, match=r"the entries are of images 1, 2, the images are IMG_A\.jpg, IMG_B\.jpg"):
        predict(image_files, boxes=detections, model=model, out=tmp_path / "o", device="cpu")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_boxes_from_a_pipe_are_read_once(tmp_path, model):
    os.mkfifo(tmp_path / "boxes")
    write = threading.Thread(target=(tmp_path / "boxes").write_text, args=(json.dumps({"a.jpg": [BOX]}),))
    write.start()
    options = {"model": model, "out": tmp_path / "o", "device": "cpu"}
    report = predict([image_file(tmp_path / "a.jpg")], boxes=tmp_path / "boxes", **options)
    write.join()
    assert [len(found) for found in report.poses.values()] == [1]
    other = predict([tmp_path / "a.jpg"], boxes={"a.jpg": [BOX, SECOND]}, **options)
    assert other.num_resumed == 0
    assert predict([tmp_path / "a.jpg"], boxes={"a.jpg": [BOX, SECOND]}, **options).num_resumed == 1


def test_boxes_outside_all_images_are_refused(tmp_path, model):
    boxes = {"a.jpg": [[9000, 9000, 9100, 9100]]}
    with pytest.raises(
        InputError, match=r"none of 1 boxes is inside its image \(first a\.jpg\[0\]: .* Are they of other"
    ):
        predict([image_file(tmp_path / "a.jpg")], boxes=boxes, model=model, out=tmp_path / "o", device="cpu")


def test_images_of_other_shards_are_counted(tmp_path, model):
    image_files = [image_file(tmp_path / name) for name in ("a.jpg", "b.jpg")]
    options = {"model": model, "out": tmp_path / "o", "device": "cpu", "whole_image": True}
    report = predict(image_files, shard="3/3", **options)
    assert report.counts[0].summary() == "0 of 2 files used; left out: 2 of other shards (first a.jpg)."


def test_links_in_a_circle_are_no_crash(tmp_path, model):
    (tmp_path / "loop").symlink_to("loop")
    options = {"model": model, "device": "cpu", "whole_image": True}
    report = predict([tmp_path / "loop"], out=tmp_path / "o", **options)
    assert "loop: cannot be opened (Too many levels of symbolic links)" in report.failures[0]
    report = predict([image_file(tmp_path / "a.jpg")], out=tmp_path / "loop", **options)
    assert "loop: cannot be created (File exists)" in report.failures[0]


def test_output_below_a_link_to_a_new_folder(tmp_path, model):
    (tmp_path / "o").symlink_to("new")
    report = predict([image_file(tmp_path / "a.jpg")], out=tmp_path / "o", model=model, device="cpu", whole_image=True)
    assert (tmp_path / "new/poses.json").is_file() and len(report.poses) == 1


def bad_options(folder):
    a, spoilt = folder / "a.jpg", folder / "spoilt.json"
    return [
        ({"detector": None}, "Nothing says where the people are: give --detector FILE, --boxes FILE or --whole-image"),
        ({"whole_image": True, "boxes": {}}, "boxes and whole_image contradict each other"),
        ({"boxes": {}, "conf": 0.5}, "boxes and conf contradict each other"),
        ({"whole_image": True, "shard": "3/2"}, "The shard is '3/2', wanted I/N"),
        ({"boxes": folder / "none.json"}, r"none\.json: cannot be read"),
        ({"boxes": spoilt}, r"spoilt\.json: not JSON"),
        ({"boxes": {"a.jpg": [1]}}, "a box is not four numbers"),
        ({"whole_image": True, "save": ["yolov8"]}, "Unknown format 'yolov8'"),
        ({"whole_image": True, "save": ["yolo"], "shard": "1/2"}, r"a\.jpg and a\.png: both would be a"),
        ({"whole_image": True, "draw_images": False, "draw_ids": True}, "Boxes and ids are drawn on images"),
        ({"whole_image": True, "out": a}, r"a\.jpg: is a file, wanted a folder"),
        ({"whole_image": True, "out": folder}, "would overwrite the input image"),
        ({"whole_image": True, "json_file": a}, "would overwrite the input image"),
    ]


@pytest.mark.parametrize("row", range(13))
def test_invalid_options_raise_before_writing(tmp_path, model, row):
    image_file(tmp_path / "a.jpg"), image_file(tmp_path / "a.png")
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


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """Finds a person in each red cell of 32 x 32 pixels of an image whose longer side is 96."""
    return tiny_image_model(tmp_path_factory.mktemp("model") / "d.onnx", tiny_image_manifest("detector"))


def people_file(path, number):
    """Black image, 96 x 64, with up to six people."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    for person in range(number):
        y, x = divmod(person, 3)
        pixels[32 * y : 32 * y + 32, 32 * x : 32 * x + 32, 0] = 255
    images.write(path, pixels)
    return path


def test_detector_finds_the_people_by_itself(tmp_path, model, detector):
    sources = [people_file(tmp_path / f"{number}.png", number) for number in (0, 1, 6, 3)]
    report = predict(sources, model=model, detector=detector, out=tmp_path / "out", device="cpu")
    assert [len(found) for found in report.poses.values()] == [0, 1, 6, 3]
    assert (report.detector, report.conf, report.num_resumed) == (detector, pytest.approx(0.3), 0)
    assert set(report.seconds) == {"reading", "detection", "poses", "writing"}
    assert not np.array_equal(images.read(tmp_path / "out/3.png"), images.read(sources[3]))


def test_missing_detector_ends_before_anything_is_written(tmp_path, model, monkeypatch):
    monkeypatch.setattr(weights, "DETECTORS", {"default": "none_shipped"})
    with pytest.raises(ModelError, match="This version ships no person detector; give --detector FILE, --boxes FILE"):
        predict([image_file(tmp_path / "a.jpg")], model=model, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_thousand_images_of_which_thirty_are_broken(tmp_path, model, detector):
    content = [people_file(tmp_path / "one.png", number).read_bytes() for number in (0, 1)]
    broken = set(range(5, 1000, 33)[:30])
    (tmp_path / "in").mkdir()
    for index in range(1000):
        (tmp_path / f"in/{index:04}.png").write_bytes(b"no image" if index in broken else content[index % 10 == 0])
    options = {"model": model, "detector": detector, "out": tmp_path / "out", "device": "cpu", "draw_images": False}
    report = predict([tmp_path / "in"], **options)
    assert len(report.poses) == 970 and len(report.failures) == 30
    assert [line.split(": ")[0] for line in report.failures] == [
        str(tmp_path / f"in/{index:04}.png") for index in sorted(broken)
    ]
    assert all(len(found) == (name[3] == "0") for name, found in report.poses.items())


def test_pixels_are_held_for_a_few_images_only(tmp_path, model, detector, monkeypatch):
    path = people_file(tmp_path / "a.png", 1)
    for index in range(60):
        (tmp_path / f"{index}.png").write_bytes(path.read_bytes())
    given = []
    held = []
    read = images.read

    def counted(path, **options):
        held.append(sum(pixels() is not None for pixels in given))
        pixels = read(path, **options)
        given.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr(predict_file.images, "read", counted)
    options = {"model": model, "out": tmp_path / "out", "device": "cpu"}
    assert len(predict([tmp_path], detector=detector, **options).poses) == 61
    assert len(predict([tmp_path], whole_image=True, **options).poses) == 61
    assert len(held) == 122 and max(held) <= 9  # two batches of four, and the one that is drawn


@pytest.mark.parametrize("number", [0, 2, 7])
def test_shards_together_are_the_whole_run(tmp_path, model, number):
    (tmp_path / "in").mkdir()
    sources = [image_file(tmp_path / f"in/{index}.png") for index in range(number)]
    options = {"model": model, "whole_image": True, "out": tmp_path / "out", "device": "cpu", "draw_images": False}
    reports = [predict(sources, shard=f"{index}/3", **options) for index in (1, 2, 3)]
    assert [report.json_file.name for report in reports] == [f"poses-{index}-of-3.json" for index in (1, 2, 3)]
    assert all(report.json_file.exists() for report in reports)
    found = [name for report in reports for name in report.poses]
    assert len(found) == number and set(found) == set(predict(sources, **options).poses)


@pytest.mark.parametrize("name", FORMATS)
def test_shards_of_every_format_are_the_whole_run(tmp_path, model, name):
    sources = [image_file(tmp_path / f"in/{number}.png") for number in (1, 2, 3)]
    options = {"model": model, "whole_image": True, "out": tmp_path / "out", "device": "cpu", "draw_images": False}
    predict(sources, save=[name], **options)
    sizes = dict.fromkeys(("1.png", "2.png", "3.png"), Size(height=80, width=60))
    whole = FORMATS[name].read(tmp_path / "out", COCO17, sizes)
    found = {}
    for shard in ("1/2", "2/2"):
        report = predict(sources, save=[name], shard=shard, **options)
        own_sizes = {image: sizes[image] for image in report.poses}
        found |= FORMATS[name].read(tmp_path / "out", COCO17, own_sizes, shard=shard)
    assert {image: poses.to_dict() for image, poses in found.items()} == {
        image: whole[image].to_dict() for image in ("1.png", "3.png", "2.png")
    }


def test_coco_image_ids_are_decided_by_all_images(tmp_path, model):
    """Not by those of the shard, and not by those that can be read."""
    sources = [image_file(tmp_path / f"{name}.png") for name in ("1", "2", "x")]
    sources[2].write_bytes(b"no image")
    predict(sources, model=model, whole_image=True, out=tmp_path / "out", device="cpu", save=["coco"], shard="2/2")
    results = json.loads((tmp_path / "out/coco_results-2-of-2.json").read_text())
    assert [result["image_id"] for result in results] == ["2.png"]


def test_stream_gets_the_document_once_and_no_record(tmp_path, model, monkeypatch):
    monkeypatch.setattr("featherpose.runtime.results.WRITE_SECONDS", 0.0)
    (tmp_path / "log").touch()
    with (tmp_path / "log").open("ab") as log:
        options = {"model": model, "out": tmp_path / "out", "device": "cpu", "json_file": f"/dev/fd/{log.fileno()}"}
        sources = [image_file(tmp_path / name) for name in ("a.jpg", "b.jpg")]
        predict(sources, whole_image=True, **options)
    assert len(native.from_document(json.loads((tmp_path / "log").read_text()))) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg"]


def test_failure_of_all_keeps_earlier_results(tmp_path, model):
    options = {"model": model, "whole_image": True, "out": tmp_path / "out", "device": "cpu"}
    json_file = predict([image_file(tmp_path / "a.jpg")], **options).json_file
    before = json_file.read_bytes()
    for source in ("none.jpg", "https://a.org/b.jpg"):
        assert len(predict([source], **options).failures) == 1
        assert json_file.read_bytes() == before
