"""Every format in FORMATS: poses survive writing and reading; files that are wrong are refused by name and line."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import InputError
from featherpose.formats.openpose import from_dict
from featherpose.formats.outputs import FORMATS, find_format
from featherpose.poses import MIN_KEYPOINT_SCORE, Poses
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14, Skeleton

UHD = Size(height=2160, width=3840)
ROOT = Path(__file__).parents[2]

KEPT = {
    "json": {"boxes", "box scores", "scores", "ids", "interpolated"},
    "jsonl": {"boxes", "box scores", "scores", "ids", "interpolated"},
    "csv": {"scores", "ids", "interpolated"},
    "coco": {"boxes", "person scores", "scores", "ids"},
    "yolo": {"boxes"},
    "openpose": {"scores", "ids"},
}
PIXELS = 0.01
SCORES = 0.0001


def some_poses(number: int, seed: int = 0, skeleton: Skeleton = COCO17, ids: list[int] | None = None) -> Poses:
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform(0, (3839, 2159), (number, skeleton.num_keypoints, 2))
    boxes = np.concatenate([keypoints.min(axis=1, initial=3839), keypoints.max(axis=1, initial=0)], axis=1)
    scores = rng.uniform(0.05, 1, keypoints.shape[:2])
    track_ids = None if ids is None else np.array(ids, np.int64)
    return Poses(keypoints, scores, boxes, rng.uniform(0.3, 1, number), skeleton, UHD, track_ids)


def unsure() -> Poses:
    """A person whose keypoints are all at or below 0.2."""
    poses = some_poses(1)
    return Poses(poses.keypoints, np.full((1, 17), 0.15), poses.boxes_xyxy, [0.5], COCO17, UHD)


def outside() -> Poses:
    """A person who reaches beyond the left, lower edge of the image."""
    poses = some_poses(1)
    return Poses(poses.keypoints + np.array([-900, 700]), poses.scores, poses.boxes_xyxy, [0.5], COCO17, UHD)


def interpolated() -> Poses:
    """Two tracked persons; of one, two keypoints were filled in."""
    flags = np.zeros((2, 17), bool)
    flags[1, [3, 9]] = True
    return replace(some_poses(2, ids=[4, 2]), interpolated=flags)


SCENES: dict[str, dict[str, Poses]] = {
    "no images": {},
    "no person": {"a.jpg": some_poses(0)},
    "one person": {"a.jpg": some_poses(1)},
    "empty and crowd": {"b.jpg": some_poses(0), "a.jpg": some_poses(5), "c.png": some_poses(2, 1)},
    "unsure": {"a.jpg": unsure()},
    "tracked": {"1.jpg": some_poses(2, ids=[7, 3]), "2.jpg": some_poses(0), "3.jpg": some_poses(1, 1, ids=[7])},
    "outside": {"a.jpg": outside()},
    "interpolated": {"1.jpg": interpolated(), "2.jpg": some_poses(0)},
    "odd names": {
        name: some_poses(1) for name in ("Über uns/Straße 1.jpg", "a/b/c, d.jpg", 'x"y\r\nz.jpg', "日本.png")
    },
    "undecodable name": {"b\udcff.jpg": some_poses(1)},
    "14 keypoints": {"a.jpg": some_poses(2, skeleton=LSP14)},
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("name", FORMATS)
def test_poses_survive_writing_and_reading(name: str, scene: str, tmp_path: Path) -> None:
    before = SCENES[scene]
    skeleton = next((found.skeleton for found in before.values()), COCO17)
    FORMATS[name].write(tmp_path / "new" / "out", before, skeleton, "tiny")
    after = FORMATS[name].read(tmp_path / "new" / "out", skeleton, dict.fromkeys(before, UHD))
    assert list(after) == list(before)
    for image, found in before.items():
        check_same(after[image], found, KEPT[name])
    assert not list(tmp_path.rglob("*.part"))


def check_same(after: Poses, before: Poses, kept: set[str]) -> None:
    assert len(after) == len(before) and after.image_size == before.image_size
    assert after.skeleton == before.skeleton
    inside = ((before.keypoints >= 0) & (before.keypoints <= np.array(UHD.xy) - 1)).all(axis=2)
    if "scores" in kept:
        np.testing.assert_allclose(after.keypoints, before.keypoints, atol=PIXELS)
        np.testing.assert_allclose(after.scores, before.scores, atol=SCORES)
    else:
        np.testing.assert_allclose(after.keypoints[inside], before.keypoints[inside], atol=PIXELS)
        assert np.array_equal(after.scores > MIN_KEYPOINT_SCORE, inside & (before.scores > MIN_KEYPOINT_SCORE))
    if "boxes" in kept:
        np.testing.assert_allclose(after.boxes_xyxy, before.boxes_xyxy, atol=2 * PIXELS)
    else:
        np.testing.assert_allclose(after.boxes_xyxy[:, :2], after.keypoints.min(axis=1, initial=1e9), atol=PIXELS)
    if "box scores" in kept:
        np.testing.assert_allclose(after.box_scores, before.box_scores, atol=SCORES)
    if "person scores" in kept:
        np.testing.assert_allclose(after.person_scores, before.person_scores, atol=SCORES)
    if "interpolated" in kept and len(before):
        assert (after.interpolated is None) == (before.interpolated is None)
        assert np.array_equal(after.interpolated, before.interpolated)
    if "ids" in kept and len(before):
        assert (None if after.ids is None else after.ids.tolist()) == (
            None if before.ids is None else before.ids.tolist()
        )


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_that_are_not_finite(name: str, tmp_path: Path) -> None:
    """They survive in the formats that can say so; in the others such a keypoint is not found."""
    before = some_poses(2)
    before.keypoints[0, 3] = np.nan
    before.keypoints[0, 4, 1] = np.inf
    before.scores[1, 5] = np.nan
    before.boxes_xyxy[1] = np.nan
    before.box_scores[1] = np.nan
    FORMATS[name].write(tmp_path, {"a.jpg": before}, COCO17)
    after = FORMATS[name].read(tmp_path, COCO17, {"a.jpg": UHD})["a.jpg"]
    survive = name in ("json", "jsonl", "csv")
    assert np.isnan(after.keypoints[0, 3:5]).any(axis=1).tolist() == [survive] * 2
    assert survive or not after.keypoints[0, 3:5].any()
    assert np.isnan(after.scores[1, 5]) if survive else after.scores[1, 5] == 0
    assert len(after) == 2 and np.isfinite(after.keypoints[:, 6:]).all() and np.isfinite(after.boxes_xyxy[0]).all()


def one_word(old: str, new: str) -> Callable[[str], str]:
    """Change of a file's text: the first `old` becomes `new`."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def cut(text: str) -> str:
    return text[: len(text) // 2]


def duplicate_last_line(text: str) -> str:
    return text + text.splitlines()[-1] + "\n"


def cut_first_line(text: str) -> str:
    return text[20:]


JSON, JSONL, CSV, COCO = "poses.json", "poses.jsonl", "poses.csv", "coco_results.json"
YOLO, OPENPOSE = "yolo/labels/a.txt", "openpose/a_keypoints.json"
BAD_FILES = [
    ("json", JSON, cut, r"poses\.json: not JSON"),
    ("json", JSON, lambda _: "[]", r"poses\.json: Not poses in featherpose's format"),
    ("json", JSON, one_word('"nose": [', '"nose": ["a", '), r"a\.jpg: instance 0: nose is .* wanted 3 numbers"),
    ("json", JSON, one_word('"nose": [2445.3', '"nose": [NaN'), r"instance 0: nose is \[nan.* wanted 3 numbers"),
    ("json", JSON, one_word('"nose": [2445.3', '"nose": [true'), r"instance 0: nose is \[True.* wanted 3 numbers"),
    ("json", JSON, one_word('"nose": [', '"noze": ['), r"a\.jpg: instance 0: keypoints: lacks the key 'nose'"),
    ("json", JSON, one_word('"nose": [', '"tail": [0, 0, 0], "nose": ['), "instance 0: unknown keypoint 'tail'"),
    ("json", JSON, one_word('"box_score": ', '"box_score": 1e999, "x": '), "box_score is inf, wanted a number"),
    ("json", JSON, one_word('"box_xyxy": [', '"box_xyxy": [1, '), "box_xyxy is .* wanted 4 numbers: left, top"),
    ("json", JSON, one_word('"instances": [{', '"instances": [5, {'), "instance 0: a JSON int, wanted an object"),
    ("json", JSON, one_word('"name": "coco17"', '"name": "other"'), "'coco17', wanted 'other'"),
    ("json", JSON, one_word('"box_s', '"interpolated": 1, "box_s'), "instance 0: interpolated is 1, wanted a list of"),
    ("json", JSON, one_word('"box_s', '"interpolated": ["x"], "box_s'), "interpolated names the unknown keypoint 'x'"),
    ("jsonl", JSONL, cut_first_line, r"poses\.jsonl, line 1: not JSON"),
    ("jsonl", JSONL, one_word('"version": 2', '"version": 9'), r"line 1: Poses of version 9, wanted 2"),
    ("jsonl", JSONL, one_word('"image": ', '"picture": '), r"line 2: An entry of an image lacks its name"),
    ("jsonl", JSONL, one_word('"nose": [', '"nose": [null, '), r"line 2: a\.jpg: instance 0: nose is"),
    ("jsonl", JSONL, lambda text: text[:20], r"poses\.jsonl: no complete line, wanted the header"),
    ("csv", CSV, one_word("x,y", "y,x"), r"line 1: the columns are 'image,person,keypoint,y,x,score', wanted"),
    ("csv", CSV, lambda _: "", r"poses\.csv, line 1: the columns are '', wanted 'image,person,keypoint,x,y,score'"),
    ("csv", CSV, one_word(",nose,", ",nose,1,"), r"poses\.csv, line 2: 7 columns, wanted 6"),
    ("csv", CSV, one_word(",nose,", ",nosy,"), r"line 2: unknown keypoint 'nosy'\. Did you mean 'nose'\?"),
    ("csv", CSV, one_word(",nose,", ",nose,x"), r"line 2: x is 'x.*', wanted a finite number"),
    ("csv", CSV, one_word("nose,2445.30", "nose,nan"), "line 2: x is 'nan', wanted a finite number"),
    ("csv", CSV, one_word("a.jpg,0,", "b.jpg,0,"), r"line 2: the image 'b\.jpg' is not among the given ones"),
    ("csv", CSV, one_word("a.jpg,0,", "a.jpg,first,"), "line 2: person is 'first', wanted a whole number"),
    ("csv", CSV, one_word("a.jpg", '"a.jpg'), "poses.csv, line .*: not CSV"),
    ("csv", CSV, one_word("person", "timestamp,person"), r"poses\.csv, line 2: 6 columns, wanted 7"),
    ("csv", CSV, cut, r"poses\.csv.*(columns, wanted 6|lacks the keypoint|unknown keypoint)"),
    ("csv", CSV, duplicate_last_line, r"line 19: a second right_ankle of person 0 in 'a\.jpg'"),
    ("coco", COCO, cut, r"coco_results\.json: not JSON"),
    ("coco", COCO, lambda _: "{}", r"coco_results\.json: a JSON dict, wanted a list"),
    ("coco", COCO, one_word('"keypoints": [', '"keypoints": [1, '), "keypoints: 52 numbers, wanted 3 x 17 finite"),
    ("coco", COCO, one_word("[2445.2959", "[NaN"), "result 0: keypoints: contains nan, wanted 3 x 17 finite"),
    ("coco", COCO, one_word("[2445.2959", '["left"'), "result 0: keypoints: contains 'left', wanted 3 x 17"),
    ("coco", COCO, one_word('"score": ', '"score": NaN, "x": '), "result 0: score is nan, wanted a finite number"),
    ("coco", COCO, one_word('"bbox": [', '"bbox": [1, '), "result 0: bbox is .* wanted 4 numbers"),
    ("coco", COCO, one_word('"image_id": ', '"picture_id": '), "result 0 lacks the key 'image_id'"),
    ("coco", COCO, one_word('"a.jpg"', '"b.jpg"'), r"image_id 'b\.jpg' is not among the given images"),
    ("yolo", YOLO, one_word("0 ", "0 0.5 "), r"a\.txt, line 1: 57 numbers, wanted 56: class, 4 of the box, 3 for each"),
    ("yolo", YOLO, one_word("0 0.", "0 person0."), r"a\.txt, line 1: number 2 is 'person0.*', wanted a finite number"),
    ("yolo", YOLO, one_word("0 0.", "0 nan0."), r"a\.txt, line 1: number 2 is 'nan0"),
    ("yolo", YOLO, one_word("0 0.", "4 0."), r"a\.txt, line 1: the class is 4, wanted 0 \(person\)"),
    ("yolo", YOLO, one_word(" 2 ", " 3 "), r"a\.txt, line 1: v of a keypoint is 3, wanted 0, 1 or 2"),
    ("yolo", YOLO, cut, r"a\.txt, line 1: \d+ numbers, wanted 56"),
    ("openpose", OPENPOSE, cut, r"a_keypoints\.json: not JSON"),
    ("openpose", OPENPOSE, lambda _: "[]", r'a_keypoints\.json: wanted an object with the list "people"'),
    ("openpose", OPENPOSE, one_word('_2d": [', '_2d": [1, '), "person 0: pose_keypoints_2d: 55 numbers, wanted 3 x 18"),
    ("openpose", OPENPOSE, one_word("2445.3", "NaN"), "pose_keypoints_2d: contains nan, wanted 3 x 18 finite numbers"),
    ("openpose", OPENPOSE, one_word("2445.3", '"left"'), "pose_keypoints_2d: contains 'left', wanted 3 x 18"),
    ("openpose", OPENPOSE, one_word("[-1]", '["a"]'), "person 0: person_id is .* wanted a list of one whole number"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    BAD_FILES,
    ids=[f"{name}: {message[:30]}" for name, _, _, message in BAD_FILES],
)
def test_wrong_files_are_refused_by_line(
    name: str, file: str, change: Callable[[str], str], message: str, tmp_path: Path
) -> None:
    FORMATS[name].write(tmp_path, {"a.jpg": some_poses(1)}, COCO17)
    path = tmp_path / file
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message) as caught:
        FORMATS[name].read(tmp_path, COCO17, {"a.jpg": UHD})
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_missing_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*Wanted"):
        FORMATS[name].read(tmp_path, COCO17, {"a.jpg": UHD})


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_other_skeleton_is_refused_by_file(name: str, tmp_path: Path) -> None:
    FORMATS[name].write(tmp_path, {"a.jpg": some_poses(1)}, COCO17)
    with pytest.raises(InputError, match=r"poses\.json.* skeleton is coco17, wanted lsp14"):
        FORMATS[name].read(tmp_path, LSP14, {"a.jpg": UHD})


@pytest.mark.parametrize("name", ["yolo", "openpose"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        pytest.param(["a.jpg", "a.png"], r"a\.jpg and a\.png: both would be a", id="two suffixes"),
        pytest.param(["x/a.jpg", "x/A.jpg"], r"x/a\.jpg and x/A\.jpg: both would be x/A", id="upper and lower case"),
        pytest.param(["../a.jpg"], r"\.\./a\.jpg: wanted an image name below a folder", id="parent folder"),
        pytest.param(["/a.jpg"], r"/a\.jpg: wanted an image name below a folder", id="absolute"),
    ],
)
def test_image_names_without_file_are_refused(name: str, images: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        FORMATS[name].write(tmp_path / "out", {image: some_poses(0) for image in images}, COCO17)
    assert not (tmp_path / "out").exists()


def test_unknown_format_names_the_nearest() -> None:
    assert find_format("csv") is FORMATS["csv"]
    with pytest.raises(InputError, match=r"Unknown format 'yolov8'\. Did you mean 'yolo'\?"):
        find_format("yolov8")


def test_csv_is_a_tidy_table(tmp_path: Path) -> None:
    poses = {"a,b.jpg": some_poses(2, ids=[7, 3]), "none.jpg": some_poses(0)}
    FORMATS["csv"].write(tmp_path, poses, COCO17)
    with (tmp_path / CSV).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "person", "id", "keypoint", "x", "y", "score"]
    assert len(rows) == 2 * 17 and {row["image"] for row in rows} == {"a,b.jpg"}
    assert (rows[17]["person"], rows[17]["id"], rows[17]["keypoint"]) == ("1", "3", "nose")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param(
            "a.jpg,0,7,left_eye", "a.jpg,0,8,left_eye", "line 3: id is '8', but '7' in another row", id="two ids"
        ),
        pytest.param("a.jpg,0,7,", "a.jpg,0,,", "a.jpg: only some of its persons have an id", id="ids of some"),
        pytest.param("a.jpg,0,7,nose", "a.jpg,0,x,nose", "line 2: id is 'x', wanted a whole number", id="text"),
    ],
)
def test_csv_ids_that_disagree_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    FORMATS["csv"].write(tmp_path, {"a.jpg": some_poses(2, ids=[7, 3])}, COCO17)
    (tmp_path / CSV).write_text((tmp_path / CSV).read_text().replace(old, new))
    with pytest.raises(InputError, match=message):
        FORMATS["csv"].read(tmp_path, COCO17, {"a.jpg": UHD})


def test_csv_rows_may_be_sorted_differently(tmp_path: Path) -> None:
    poses = some_poses(2)
    FORMATS["csv"].write(tmp_path, {"a.jpg": poses}, COCO17)
    lines = (tmp_path / CSV).read_text().splitlines()
    (tmp_path / CSV).write_text("\ufeff" + "\r\n".join([lines[0], *sorted(lines[1:], reverse=True)]) + "\r\n")
    check_same(FORMATS["csv"].read(tmp_path, COCO17, {"a.jpg": UHD})["a.jpg"], poses, KEPT["csv"])


@pytest.mark.parametrize("scene", ["tracked", "interpolated"])
def test_json_lines_follow_the_schema(scene: str, tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs/poses.schema.json").read_text())
    FORMATS["jsonl"].write(tmp_path, SCENES[scene], COCO17, "tiny")
    lines = [json.loads(line) for line in (tmp_path / JSONL).read_text().splitlines()]
    for kind, line in zip(["header", *["image"] * len(SCENES[scene])], lines, strict=True):
        validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
        assert list(validator.iter_errors(line)) == []
    FORMATS["json"].write(tmp_path, SCENES[scene], COCO17, "tiny")
    assert {**lines[0], "images": lines[1:]} == json.loads((tmp_path / JSON).read_text())


def test_yolo_keypoints_outside_are_unlabeled(tmp_path: Path) -> None:
    FORMATS["yolo"].write(tmp_path, {"a.jpg": outside()}, COCO17)
    values = [float(word) for word in (tmp_path / YOLO).read_text().split()]
    x, y, v = np.array(values[5:]).reshape(-1, 3).T
    beyond = (outside().keypoints[0] < -0.5).any(axis=1) | (outside().keypoints[0] > np.array(UHD.xy) - 0.5).any(axis=1)
    assert 0 < beyond.sum() < 17
    assert not x[beyond].any() and not y[beyond].any() and not v[beyond].any()
    assert min(values) >= 0 and max(values[1:5]) <= 1 and x.max() <= 1 and y.max() <= 1


def test_yolo_data_file_describes_the_keypoints(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    FORMATS["yolo"].write(tmp_path, {}, COCO17)
    values = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert values["kpt_shape"] == [17, 3] and values["names"] == {0: "person"}
    assert values["flip_idx"] == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert values["kpt_names"] == {0: list(COCO17.keypoint_names)}


def test_openpose_coco_model_has_a_neck(tmp_path: Path) -> None:
    poses = some_poses(1)
    FORMATS["openpose"].write(tmp_path, {"a.jpg": poses}, COCO17)
    values = json.loads((tmp_path / OPENPOSE).read_text())
    assert values["version"] == 1.3 and values["people"][0]["person_id"] == [-1]
    points = np.array(values["people"][0]["pose_keypoints_2d"]).reshape(18, 3)
    left, right = poses.keypoint("left_shoulder")[0], poses.keypoint("right_shoulder")[0]
    assert points[1].tolist() == pytest.approx([*(left + right)[:2] / 2, min(left[2], right[2])], abs=PIXELS)
    assert points[2].tolist() == pytest.approx(right.tolist(), abs=PIXELS), "right shoulder"
    for place, name in ((14, "right_eye"), (15, "left_eye"), (16, "right_ear"), (17, "left_ear")):
        assert points[place].tolist() == pytest.approx(poses.keypoint(name)[0].tolist(), abs=PIXELS)


def test_openpose_undetected_keypoints_have_no_part_in_boxes() -> None:
    """OpenPose writes 0, 0, 0 for a keypoint that it did not find."""
    values = [0.0, 0.0, 0.0] * 18
    values[:3] = [100, 200, 0.9]
    values[9:12] = [150, 260, 0.8]
    person = {"person_id": [-1], "pose_keypoints_2d": values}
    assert from_dict({"people": [person]}, COCO17, UHD).boxes_xyxy.tolist() == [[100, 200, 150, 260]]


@pytest.mark.parametrize(
    ("images", "ids", "meaning"),
    [
        pytest.param(["val2017/000000000785.jpg", "9.png"], [785, 9], "the number", id="numbers"),
        pytest.param(["COCO_val2014_000000000785.jpg"], [785], "the number", id="COCO 2014"),
        pytest.param(["785.jpg", "a.jpg"], ["785.jpg", "a.jpg"], "the image name", id="one without a number"),
        pytest.param(["x/7.jpg", "y/007.jpg"], ["x/7.jpg", "y/007.jpg"], "the image name", id="one number twice"),
        pytest.param(["IMG_2034.jpg"], ["IMG_2034.jpg"], "the image name", id="a camera's number"),
    ],
)
def test_coco_image_id_by_names(images: list[str], ids: list[int | str], meaning: str, tmp_path: Path) -> None:
    said = FORMATS["coco"].write(tmp_path, {image: some_poses(1) for image in images}, COCO17)
    assert f"image_id: {meaning}" in said
    assert [result["image_id"] for result in json.loads((tmp_path / COCO).read_text())] == ids


def test_documented_table_lists_every_format() -> None:
    page = (ROOT / "docs/outputs.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {found.sentence} | {found.lost} |" for name, found in FORMATS.items()]
