"""COCO's format: both layouts are found, what cannot be used is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from featherpose.data.coco import read_coco
from featherpose.errors import DataError
from featherpose.skeleton import COCO17, LSP14

IMAGE = {"id": 5, "file_name": "a.jpg", "width": 20, "height": 30}
PERSON = {"id": 1, "name": "person", "keypoints": list(COCO17.joints)}
DOG = {"id": 2, "name": "dog"}


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "keypoints": [1, 2, 2] * 17} | changes


def truth(**changes: Any) -> dict[str, Any]:
    return {"images": [IMAGE], "annotations": [annotation()], "categories": [PERSON, DOG]} | changes


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one photo and one person."""
    write(tmp_path / "person_keypoints.json", truth())
    (tmp_path / "images").mkdir()
    return tmp_path


def test_flat_layout(root: Path) -> None:
    coco = read_coco(root)
    assert coco.truth == truth()
    assert coco.images == root / "images"
    assert coco.skeleton is COCO17


@pytest.mark.parametrize("photos", ["val2017", "images/val2017"])
@pytest.mark.parametrize("split", ["val2017", None])
def test_published_layout(tmp_path: Path, photos: str, split: str | None) -> None:
    write(tmp_path / "annotations/person_keypoints_val2017.json", truth())
    (tmp_path / photos).mkdir(parents=True)
    assert read_coco(tmp_path, split).images == tmp_path / photos


def test_two_splits_have_to_be_told_apart(tmp_path: Path) -> None:
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


def test_nobody_is_a_data_set_too(root: Path) -> None:
    write(root / "person_keypoints.json", truth(images=[], annotations=[]))
    assert read_coco(root).truth["images"] == []


def test_skeleton_goes_by_the_names(root: Path) -> None:
    joints = [1, 1, 2] * LSP14.num_joints
    person = PERSON | {"keypoints": list(LSP14.joints)}
    write(root / "person_keypoints.json", truth(categories=[person], annotations=[annotation(keypoints=joints)]))
    assert read_coco(root).skeleton is LSP14


def test_others_than_people_need_no_joints(root: Path) -> None:
    dog = annotation(category_id=2)
    del dog["keypoints"]
    write(root / "person_keypoints.json", truth(annotations=[dog]))
    assert read_coco(root).truth["annotations"] == [dog]


BAD: list[tuple[object, str]] = [
    ("{", r"person_keypoints\.json cannot be read as JSON"),
    ([], "has no list `images`; a COCO annotation file"),
    ({"images": []}, "has no list `annotations`"),
    (truth(categories={}), "has no list `categories`"),
    (truth(categories=[DOG]), "names no joints; wanted the joints of coco17 or mpii16 or lsp14"),
    (truth(categories=[PERSON | {"keypoints": ["nose", "tail"]}]), "names nose, tail; wanted"),
    (truth(categories=[PERSON | {"keypoints": list(COCO17.joints[::-1])}]), "names right_ankle, .* in their order"),
    (truth(images=[{"id": 5}]), r"an image lacks file_name"),
    (truth(images=[IMAGE, IMAGE]), "two images have the same id"),
    (truth(annotations=[annotation(image_id=6)]), "annotation 9 is about image 6, which is not listed"),
    (truth(annotations=[annotation(bbox=None)]), "annotation 9 has the bbox None, wanted x, y, width, height"),
    (truth(annotations=[annotation(bbox=[1, 2, float("nan"), 4])]), "annotation 9 has the bbox"),
    (truth(annotations=[annotation(keypoints=[1, 2, 2] * 16)]), "annotation 9 has keypoints .*, wanted x, y, v of 17"),
    (truth(annotations=[annotation(keypoints=["1"] * 51)]), "annotation 9 has keypoints"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_annotations_that_cannot_be_used(root: Path, content: object, message: str) -> None:
    write(root / "person_keypoints.json", content)
    with pytest.raises(DataError, match=message):
        read_coco(root)


def test_missing_folders(root: Path, tmp_path: Path) -> None:
    (root / "images").rmdir()
    with pytest.raises(DataError, match=r"There is no folder .*images with the photos; put them there"):
        read_coco(root)
    with pytest.raises(DataError, match="There is no folder"):
        read_coco(tmp_path / "nowhere")


def test_name_below_the_data_folder(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERPOSE_DATA", str(shared))
    coco = read_coco("coco-test")
    posed = {a["image_id"] for a in coco.truth["annotations"] if a.get("num_keypoints")}
    assert (len(coco.truth["images"]), len(posed)) == (390, 360)
    assert sum(a.get("num_keypoints", 0) > 0 for a in coco.truth["annotations"]) == 1009
    assert all((coco.images / image["file_name"]).is_file() for image in coco.truth["images"])
