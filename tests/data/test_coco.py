"""COCO's format: both layouts are found, errors name what cannot be used."""

import json
from pathlib import Path
from typing import Any

import pytest

from featherpose.data.coco import is_coco, read_coco
from featherpose.errors import DataError
from featherpose.skeleton import COCO17, LSP14, Skeleton

IMAGE = {"id": 5, "file_name": "a.jpg", "width": 20, "height": 30}
PERSON = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}
DOG = {"id": 2, "name": "dog"}
OWN = {"id": 1, "name": "bird", "keypoints": ["beak", "LWing", "RWing"], "skeleton": [[1, 2], [1, 3]]}


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2] * 17} | changes


def truth(**changes: Any) -> dict[str, Any]:
    return {"images": [IMAGE], "annotations": [annotation()], "categories": [PERSON, DOG]} | changes


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the annotations of one image and one person."""
    write(tmp_path / "person_keypoints.json", truth())
    (tmp_path / "images").mkdir()
    return tmp_path


def test_flat_folder_layout_is_read(root: Path) -> None:
    coco = read_coco(root)
    assert coco.truth == truth()
    assert coco.images == root / "images"
    assert coco.skeleton is COCO17


@pytest.mark.parametrize("image_folder", ["val2017", "images/val2017"])
@pytest.mark.parametrize("split", ["val2017", None])
def test_published_folder_layout_is_read(tmp_path: Path, image_folder: str, split: str | None) -> None:
    write(tmp_path / "annotations/person_keypoints_val2017.json", truth())
    (tmp_path / image_folder).mkdir(parents=True)
    assert read_coco(tmp_path, split).images == tmp_path / image_folder


def test_several_splits_require_a_choice(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        write(tmp_path / f"annotations/person_keypoints_{split}.json", truth(info=split))
        (tmp_path / split).mkdir()
    assert read_coco(tmp_path, "train2017").truth["info"] == "train2017"
    with pytest.raises(
        DataError, match=r"no person_keypoints\.json or .*_SPLIT\.json; splits found: train2017, val2017"
    ):
        read_coco(tmp_path)
    with pytest.raises(DataError, match=r"no .*_test2017\.json; splits found: train2017, val2017"):
        read_coco(tmp_path, "test2017")


def test_empty_data_set_is_accepted(root: Path) -> None:
    write(root / "person_keypoints.json", truth(images=[], annotations=[]))
    assert read_coco(root).truth["images"] == []


def test_skeleton_is_matched_by_keypoint_names(root: Path) -> None:
    keypoints = [1, 1, 2] * LSP14.num_keypoints
    person = PERSON | {"keypoints": list(LSP14.keypoint_names)}
    write(root / "person_keypoints.json", truth(categories=[person], annotations=[annotation(keypoints=keypoints)]))
    assert read_coco(root).skeleton is LSP14


def test_custom_keypoints_make_a_skeleton(root: Path) -> None:
    birds = truth(categories=[OWN], annotations=[annotation(keypoints=[1, 1, 2] * 3)])
    write(root / "birds.json", birds)
    write(root / "person_keypoints.json", birds)
    (root / "a.jpg").touch()
    coco = read_coco(root / "birds.json")
    assert coco.skeleton == Skeleton.from_names("birds", ["beak", "LWing", "RWing"], [(0, 1), (0, 2)])
    assert coco.skeleton.flip_pairs == ((1, 2),)
    assert (coco.name, coco.category) == ("birds", 1)
    assert read_coco(root).name == root.name


def test_category_without_skeleton_has_no_limbs(root: Path) -> None:
    dots = {key: value for key, value in OWN.items() if key != "skeleton"}
    write(root / "person_keypoints.json", truth(categories=[dots], annotations=[]))
    assert read_coco(root).skeleton.limbs == ()


@pytest.mark.parametrize("place", ["a.jpg", "images/a.jpg", "mine/a.jpg"])
def test_images_are_found_from_file_path(tmp_path: Path, place: str) -> None:
    write(tmp_path / "mine.json", truth())
    write(tmp_path / place, "")
    (tmp_path / "images").mkdir(exist_ok=True)  # an empty folder is not used as the image folder
    assert read_coco(tmp_path / "mine.json").images / "a.jpg" == tmp_path / place


@pytest.mark.parametrize("place", ["train2017/a.jpg", "images/train2017/a.jpg", "images/a.jpg", "annotations/a.jpg"])
def test_images_are_found_from_annotations_folder(tmp_path: Path, place: str) -> None:
    file = tmp_path / "annotations/person_keypoints_train2017.json"
    write(file, truth())
    write(tmp_path / place, "")
    assert read_coco(file).images / "a.jpg" == tmp_path / place


def test_file_without_images_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "mine.json", truth())
    with pytest.raises(DataError, match=r"its images \(a\.jpg, \.\.\.\) are neither next to it nor in .*images"):
        read_coco(tmp_path / "mine.json")
    write(tmp_path / "mine.json", truth(images=[], annotations=[]))
    assert read_coco(tmp_path / "mine.json").images == tmp_path


def test_missing_box_is_computed_from_keypoints(root: Path) -> None:
    keypoints = [0, 0, 0, 10, 20, 2, 30, 24, 1] + [0] * 42
    annotations = [annotation(bbox=box, keypoints=keypoints) for box in (None, [], [1, 2, 3, 4])]
    annotations += [annotation(bbox=None, keypoints=unlabeled) for unlabeled in ([0] * 51, None)]
    del annotations[0]["bbox"]
    write(root / "person_keypoints.json", truth(annotations=annotations))
    coco = read_coco(root)
    made = [7, 17, 26, 10]
    assert [person["bbox"] for person in coco.truth["annotations"]] == [made, made, [1, 2, 3, 4], [0] * 4, [0] * 4]
    assert coco.num_computed_boxes == 2


def test_other_categories_need_no_keypoints(root: Path) -> None:
    dog = annotation(category_id=2)
    del dog["keypoints"]
    write(root / "person_keypoints.json", truth(annotations=[dog]))
    assert read_coco(root).truth["annotations"] == [dog]


BAD: list[tuple[object, str]] = [
    ("{", r"person_keypoints\.json: not JSON"),
    ([], "has no list `images` of records; wanted a COCO annotation file"),
    ({"images": ["a.jpg"]}, "has no list `images` of records"),
    ({"images": []}, "has no list `annotations`"),
    (truth(categories={}), "has no list `categories`"),
    (truth(categories=[DOG]), r"no category lists keypoint names; add \"keypoints\" to categories\[0\]"),
    (truth(categories=[PERSON, DOG | {"keypoints": ["tail"]}]), r"several categories have keypoints \(person, dog\)"),
    (truth(categories=[PERSON | {"keypoints": 17}]), "the keypoints of category person are 17; wanted a list of names"),
    (truth(categories=[PERSON | {"keypoints": ["nose", 2]}]), "wanted a list of names"),
    (truth(categories=[PERSON | {"keypoints": ["tail", "tail"]}]), "lists tail more than once"),
    (truth(categories=[{"name": "dog", "keypoints": ["tail"]}]), "category dog has no id"),
    (truth(categories=[OWN | {"skeleton": [[0, 1]]}]), r"\[0, 1\] in `skeleton` is not a limb; .* counted from 1 to 3"),
    (truth(categories=[OWN | {"skeleton": [[1, 4]]}]), r"\[1, 4\] in `skeleton` is not a limb"),
    (truth(categories=[OWN | {"skeleton": [[1]]}]), r"\[1\] in `skeleton` is not a limb"),
    (truth(categories=[OWN | {"skeleton": 3}]), "3 in `skeleton` is not a limb"),
    (truth(images=[{"id": 5}]), r"an image lacks file_name"),
    (truth(images=[IMAGE, IMAGE]), "two images have the same id"),
    (truth(annotations=[annotation(image_id=6)]), "annotation 9 refers to image 6, which is not listed"),
    (truth(images=[IMAGE | {"width": 0}]), r"image a\.jpg has width 0 and height 30; correct or remove it"),
    (truth(images=[IMAGE | {"height": "30"}]), r"image a\.jpg has width 20 and height 30"),
    (truth(annotations=[annotation(bbox=None)]), "annotation 9 has no bbox and fewer than two labeled keypoints to"),
    (truth(annotations=[annotation(bbox="1 2 3 4")]), "annotation 9 has the bbox 1 2 3 4, wanted x, y, width, height"),
    (truth(annotations=[annotation(area=float("nan"))]), "annotation 9 has the area nan, wanted square pixels"),
    (truth(annotations=[annotation(area=-1)]), "annotation 9 has the area -1"),
    (truth(annotations=[annotation(bbox=[1, 2, float("nan"), 4])]), "annotation 9 has the bbox"),
    (truth(annotations=[annotation(keypoints=[1, 2, 2] * 16)]), "annotation 9 has 48 numbers for keypoints, .* of 17"),
    (truth(annotations=[annotation(keypoints=5, bbox=None)]), "annotation 9 has 5 numbers for keypoints"),
    (truth(annotations=[annotation(keypoints="none")]), "annotation 9 has none numbers for keypoints"),
    (truth(annotations=[annotation(keypoints=[1, float("nan"), 2] * 17)]), "wanted finite x and y, and v 0, 1 or 2"),
    (truth(annotations=[annotation(keypoints=[1, 2, 3] * 17)]), "annotation 9 has keypoints .* and v 0, 1 or 2"),
    (truth(annotations=[annotation(keypoints=["1"] * 51)]), "annotation 9 has keypoints"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_invalid_annotations_are_refused(root: Path, content: object, message: str) -> None:
    write(root / "person_keypoints.json", content)
    with pytest.raises(DataError, match=message):
        read_coco(root)


def test_missing_folders_and_files_are_refused(root: Path, tmp_path: Path) -> None:
    (root / "images").rmdir()
    with pytest.raises(DataError, match=r"There is no image folder .*images; put the images there"):
        read_coco(root)
    with pytest.raises(DataError, match="There is no folder"):
        read_coco(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"There is no file .*nowhere\.json; give the path of a COCO keypoints file"):
        read_coco(tmp_path / "nowhere.json")


def test_error_counts_further_wrong_records(root: Path) -> None:
    write(root / "person_keypoints.json", truth(annotations=[annotation(id=i, bbox=[1, 2, 3]) for i in range(4)]))
    with pytest.raises(DataError, match=r"annotation 0 has .*; correct or remove it \(3 more records are wrong\)"):
        read_coco(root)


def test_is_coco_recognizes_both_layouts(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "published/annotations/person_keypoints_val2017.json", truth())
    assert is_coco(root / "person_keypoints.json")
    assert is_coco(root)
    assert is_coco(tmp_path / "published")
    assert not is_coco(root / "images")


def test_name_in_data_folder_is_found(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERPOSE_DATA", str(shared))
    coco = read_coco("coco-test")
    posed = {a["image_id"] for a in coco.truth["annotations"] if a.get("num_keypoints")}
    assert (len(coco.truth["images"]), len(posed)) == (390, 360)
    assert sum(a.get("num_keypoints", 0) > 0 for a in coco.truth["annotations"]) == 1009
    assert all((coco.images / image["file_name"]).is_file() for image in coco.truth["images"])
