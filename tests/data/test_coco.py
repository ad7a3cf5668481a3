"""COCO's format: both layouts are found, errors name what cannot be used."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose import images
from featherpose.data.coco import OTHER_SPELLING, read_coco, splits
from featherpose.errors import DataError, InputError
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14, Skeleton

IMAGE = {"id": 5, "file_name": "a.jpg", "width": 20, "height": 30}
SIZE = Size(height=30, width=20)
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
    assert [(image.name, image.id, image.size) for image in coco.labels.images] == [("a.jpg", 5, SIZE)]
    (person,) = coco.labels.persons
    assert (person.image, person.id, person.crowd, person.area) == (0, 9, False, None)
    assert person.box_xywh.tolist() == [1, 2, 3, 4]
    assert person.keypoints.tolist() == [[1, 2, 2]] * 17
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
        image = IMAGE | {"file_name": f"{split}.jpg"}
        write(tmp_path / f"annotations/person_keypoints_{split}.json", truth(images=[image]))
        (tmp_path / split).mkdir()
    assert read_coco(tmp_path, "train2017").labels.images[0].name == "train2017.jpg"
    with pytest.raises(
        DataError, match=r"no person_keypoints\.json or .*_SPLIT\.json; splits found: train2017, val2017"
    ):
        read_coco(tmp_path)
    with pytest.raises(DataError, match=r"no .*_test2017\.json; splits found: train2017, val2017"):
        read_coco(tmp_path, "test2017")


def test_empty_data_set_is_accepted(root: Path) -> None:
    write(root / "person_keypoints.json", truth(images=[], annotations=[]))
    assert read_coco(root).labels.images == ()


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
    assert (coco.labels.name, coco.labels.category) == ("birds", 1)
    assert read_coco(root).labels.name == root.name


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
    with pytest.raises(
        DataError, match=r"its images \(a\.jpg\) are neither .*images; put them there.* next to it: none"
    ):
        read_coco(tmp_path / "mine.json")
    write(tmp_path / "mine.json", truth(images=[], annotations=[]))
    assert read_coco(tmp_path / "mine.json").images == tmp_path


def test_missing_box_is_computed_from_keypoints(root: Path) -> None:
    keypoints = [0, 0, 0, 10, 20, 2, 30, 24, 1] + [0] * 42
    boxes = [None, [0, 0, 0, 0], [1, 2, 3, 4]]
    annotations = [annotation(id=i, bbox=box, keypoints=keypoints) for i, box in enumerate(boxes)]
    annotations += [annotation(bbox=None, keypoints=unlabeled) for unlabeled in ([0] * 51, None)]
    annotations[1]["image_id"] = 6
    other = IMAGE | {"id": 6, "file_name": "b.jpg"}
    write(root / "person_keypoints.json", truth(annotations=annotations, images=[IMAGE, other]))
    labels = read_coco(root).labels
    made = [7, 17, 26, 10]
    found = [None if person.box_xywh is None else person.box_xywh.tolist() for person in labels.persons]
    assert found == [made, made, [1, 2, 3, 4], None, None]
    filled = "2 boxes missing or without area, taken around the labeled keypoints (first annotations[0])."
    assert filled in labels.counts.sentences()


TWO = [PERSON, DOG | {"keypoints": ["tail"]}]
TAIL = annotation(category_id=2, keypoints=[1, 1, 2])
AT = r"annotations\[0\] \(id 9\): "
BAD: list[tuple[object, str]] = [
    ("{", r"person_keypoints\.json: not JSON"),
    ([], "has no list `images`; wanted a COCO annotation file"),
    ({"images": ["a.jpg"]}, r"images\[0\] is 'a\.jpg', wanted an object"),
    ({"images": []}, "has no list `annotations`"),
    (truth(categories={}), "has no list `categories`"),
    (truth(categories=[DOG]), r"no category lists keypoint names; add \"keypoints\" to categories\[0\]"),
    (truth(categories=TWO, annotations=[annotation(), TAIL]), "several categories have keypoints: person, id 1; dog"),
    (truth(categories=[PERSON | {"keypoints": 17}]), "the keypoints of category person are 17; wanted a list of names"),
    (truth(categories=[PERSON | {"keypoints": ["nose", 2]}]), "wanted a list of names"),
    (truth(categories=[PERSON | {"keypoints": ["tail", "tail"]}]), "lists tail more than once"),
    (truth(categories=[{"name": "dog", "keypoints": ["tail"]}]), r"categories\[0\]\.id is None, wanted a number"),
    (truth(categories=[OWN | {"skeleton": [[0, 3]]}]), r"\[0, 3\] in `skeleton` is not a limb; .* counted from 0 to 2"),
    (truth(categories=[OWN | {"skeleton": [[0, 1], [3, 1]]}]), r"\[3, 1\] in `skeleton` is not a limb"),
    (truth(categories=[OWN | {"skeleton": [[1, 4]]}]), r"\[1, 4\] in `skeleton` is not a limb"),
    (truth(categories=[OWN | {"skeleton": [[1]]}]), r"\[1\] in `skeleton` is not a limb"),
    (truth(categories=[OWN | {"skeleton": 3}]), "3 in `skeleton` is not a limb"),
    (
        truth(categories=[DOG | {"keypoints": ["tail"]}]),
        "none of 1 annotations is of category dog, id 2",
    ),
    (truth(images=[{"id": 5}]), r"images\[0\]\.file_name is None, wanted a name"),
    (truth(images=[IMAGE, IMAGE | {"file_name": "b.jpg"}]), "two images have the same id 5"),
    (truth(images=[IMAGE, IMAGE | {"id": 6, "width": 21}]), r"a\.jpg has 30x21 pixels, in images\[0\] 30x20"),
    (truth(images=[IMAGE | {"width": -1}]), r"images\[0\]\.width is -1, wanted a whole number of pixels; correct or"),
    (truth(annotations=[annotation(bbox="1 2 3 4")]), AT + "bbox is '1 2 3 4', wanted four numbers"),
    (truth(annotations=[annotation(bbox=[1, 2, float("nan"), 4])]), AT + "bbox contains nan"),
    (truth(annotations=[annotation(area=float("nan"))]), AT + "area is nan, wanted a finite number"),
    (truth(annotations=[annotation(area=-1)]), AT + "area is -1"),
    (truth(annotations=[annotation(area=True)]), AT + "area is True"),
    (truth(annotations=[annotation(iscrowd=2)]), AT + "iscrowd is 2, wanted 0 or 1"),
    (truth(annotations=[annotation(image_id=[5])]), r"annotations\[0\]\.image_id is \[5\], wanted a number or a name"),
    (truth(annotations=[annotation(category_id=None)]), r"annotations\[0\] has no category_id, wanted one of person"),
    (truth(annotations=[annotation(keypoints=[1, 2, 2] * 16)]), AT + "keypoints: 48 numbers .* of 17 keypoints"),
    (truth(annotations=[annotation(keypoints=5, bbox=None)]), AT + "keypoints is 5, wanted x, y, v of 17"),
    (truth(annotations=[annotation(keypoints="none")]), AT + "keypoints is 'none', wanted x, y, v"),
    (truth(annotations=[annotation(keypoints=[1, float("nan"), 2] * 17)]), AT + "keypoints contains nan"),
    (truth(annotations=[annotation(keypoints=[1, 10**400, 2] * 17)]), AT + "keypoints contains 10000"),
    (truth(annotations=[annotation(keypoints=[1, 2, 3] * 17)]), AT + r"keypoints is .*, wanted v 0, 1 or 2"),
    (truth(annotations=[annotation(keypoints=["x"] * 51)]), AT + r"keypoints \(v\) contains 'x'"),
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
    with pytest.raises(
        DataError, match=r"There is no file .*nowhere\.json; give the path of a data set\. docs/data\.md says how"
    ):
        read_coco(tmp_path / "nowhere.json")


def test_error_counts_further_wrong_records(root: Path) -> None:
    write(root / "person_keypoints.json", truth(annotations=[annotation(id=i, bbox=[1, 2, 3]) for i in range(4)]))
    with pytest.raises(DataError, match=r"annotations\[0\] .*; correct or remove it \(3 more records are wrong\)"):
        read_coco(root)


def test_splits_recognizes_both_layouts(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "published/annotations/person_keypoints_val2017.json", truth())
    assert splits(root / "person_keypoints.json")
    assert splits(root)
    assert splits(tmp_path / "published")
    assert not splits(root / "images")


def test_name_in_data_folder_is_found(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERPOSE_DATA", str(shared))
    coco = read_coco("coco-test")
    persons, counts = coco.labels.usable()
    assert (len(coco.labels.images), len({person.image for person in persons})) == (390, 360)
    assert (len(persons), counts.used, counts.total) == (1009, 1009, 1467)
    assert all((coco.images / image.name).is_file() for image in coco.labels.images)


@pytest.mark.parametrize("name", ["/data/run 1/a b.jpg", "C:\\data\\a b.jpg", "upload/7/a%20b.jpg", "images/a b.jpg"])
def test_folders_of_other_machines_are_left_out(tmp_path: Path, name: str) -> None:
    images.write(tmp_path / "a b.jpg", np.zeros((*SIZE.shape, 3), np.uint8))
    write(tmp_path / "my.json", truth(images=[{"id": 5, "file_name": name}]))
    coco = read_coco(tmp_path / "my.json")
    (image,) = coco.labels.images
    assert (image.name, image.size) == ("a b.jpg", SIZE)
    assert (
        f"1 file names of which only the last part is here (first images[0], {name})." in coco.labels.counts.sentences()
    )


SPELLINGS = {
    "case": ("A.JPG", "a.jpg"),
    "decomposed letters": (unicodedata.normalize("NFD", "é.jpg"), unicodedata.normalize("NFC", "é.jpg")),
    "case below a folder": ("x/A.jpg", "x/a.jpg"),
    "address": ("https://a.org/b/A.jpg?size=3", "a.jpg"),
}


@pytest.mark.parametrize(("name", "file"), SPELLINGS.values(), ids=SPELLINGS)
def test_names_in_another_spelling_are_found_and_said(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    images.write(tmp_path / file, np.zeros((*SIZE.shape, 3), np.uint8))
    write(tmp_path / "my.json", truth(images=[{"id": 5, "file_name": name}]))
    coco = read_coco(tmp_path / "my.json")
    assert [image.name for image in coco.labels.images] == [file]
    assert f"1 {OTHER_SPELLING} (first images[0], {name})." in coco.labels.counts.sentences()


def test_spelling_of_two_files_says_nothing(tmp_path: Path) -> None:
    for file in ("b.jpg", "c.jpg", "C.jpg"):
        images.write(tmp_path / file, np.zeros((*SIZE.shape, 3), np.uint8))
    names = ["b.jpg", "c.JPG"]
    write(tmp_path / "my.json", truth(images=[IMAGE | {"id": 5 + i, "file_name": n} for i, n in enumerate(names)]))
    assert [image.name for image in read_coco(tmp_path / "my.json").labels.images] == names


@pytest.mark.parametrize("name", ["a\0b.jpg", "\ud83d.jpg", 300 * "x" + ".jpg", "."], ids=ascii)
def test_names_that_no_file_has_are_missing(root: Path, name: str) -> None:
    other = {"id": 6, "file_name": name, **SIZE.to_dict()}
    write(
        root / "person_keypoints.json", truth(images=[IMAGE, other], annotations=[annotation(), annotation(image_id=6)])
    )
    coco = read_coco(root)
    assert coco.labels.images[1].name == name
    with pytest.raises(InputError):
        images.read(coco.images / name)


@pytest.mark.skipif(os.name == "nt", reason="file names are text on Windows")
def test_name_that_is_no_utf8_becomes_text(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9.json")
    write(file, truth())
    (tmp_path / "a.jpg").touch()
    assert read_coco(file).labels.name == r"caf\udce9"


def test_limbs_counted_from_0_are_read_and_said(root: Path) -> None:
    from_0 = OWN | {"skeleton": [[0, 1], [0, 2]]}
    write(root / "person_keypoints.json", truth(categories=[from_0], annotations=[annotation(keypoints=[1, 2, 2] * 3)]))
    labels = read_coco(root).labels
    assert labels.skeleton.limbs == ((0, 1), (0, 2))
    assert "1 `skeleton` counts keypoints from 0 (first categories[0])." in labels.counts.sentences()


def test_category_that_is_listed_twice_is_one(root: Path) -> None:
    write(root / "person_keypoints.json", truth(categories=[PERSON, PERSON]))
    assert read_coco(root).labels.category == 1


def test_ids_of_no_listed_image_show_both_sides(root: Path) -> None:
    write(root / "person_keypoints.json", truth(annotations=[annotation(image_id=71), annotation(image_id=72)]))
    with pytest.raises(
        DataError, match=r"none of 2 annotations .*: their image_id is 71, 72, the ids in `images` are 5"
    ):
        read_coco(root)


def test_last_part_of_two_images_says_nothing(tmp_path: Path) -> None:
    images.write(tmp_path / "a.jpg", np.zeros((*SIZE.shape, 3), np.uint8))
    records = [IMAGE, IMAGE | {"id": 6, "file_name": "x/a.jpg"}, IMAGE | {"id": 7, "file_name": "y\\a.jpg"}]
    write(tmp_path / "my.json", truth(images=records))
    assert [image.name for image in read_coco(tmp_path / "my.json").labels.images] == ["a.jpg", "x/a.jpg", "y\\a.jpg"]


def test_category_is_chosen_by_name_or_id(root: Path) -> None:
    write(root / "person_keypoints.json", truth(categories=TWO, annotations=[annotation(), TAIL]))
    assert [read_coco(root, category=category).labels.category for category in ("DOG", 2, "2", "person")] == [
        2,
        2,
        2,
        1,
    ]
    with pytest.raises(DataError, match="0 categories are called cat; the file lists person, id 1; dog, id 2"):
        read_coco(root, category="cat")
    write(root / "person_keypoints.json", truth(categories=TWO, annotations=[TAIL]))
    assert read_coco(root).labels.category == 2  # the only one in use
