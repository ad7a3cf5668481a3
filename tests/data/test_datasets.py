"""Every data set in its published layout: recognized, read into the same records, usable for training."""

from pathlib import Path

import numpy as np
import pytest

from featherpose.data.cache import Crops
from featherpose.data.dataset import read_ids
from featherpose.data.datasets import DATASETS, find_dataset, find_place
from featherpose.data.mpii import read_mpii
from featherpose.data.names import DATASET_NAMES
from featherpose.data.samples import labeled_samples, samples_of
from featherpose.errors import DataError
from featherpose.skeleton import COCO17, Skeleton
from tests.data.published import (
    BOX,
    LAYOUTS,
    coco,
    coco_document,
    custom,
    cvat,
    line,
    lsp_json,
    lsp_mat,
    lspet,
    mpii_json,
    mpii_mat,
    write_json,
    yolo,
)


def test_names_without_imports_are_those_of_the_readers() -> None:
    assert tuple(DATASETS) == DATASET_NAMES
    # "custom" is what is left: a file in COCO's format.
    assert {name for name, *_ in LAYOUTS.values()} | {"custom"} == set(DATASETS)


@pytest.mark.parametrize(("name", "write", "skeleton", "count"), LAYOUTS.values(), ids=LAYOUTS)
class TestEveryLayout:
    def test_is_recognized_and_read(self, name, write, skeleton: Skeleton | None, count: int, tmp_path: Path) -> None:
        source = find_dataset(write(tmp_path / name))
        assert source.name == name
        dataset = source.read()
        samples, _ = samples_of(dataset)
        assert len(samples) == count
        assert skeleton in (None, dataset.skeleton)
        assert np.isfinite(samples[0].keypoints).all()

    def test_keypoints_are_where_they_were_put(self, name, write, skeleton, count: int, tmp_path: Path) -> None:
        """All writers put the same points into the same image, whatever their file counts from."""
        samples, _ = labeled_samples(write(tmp_path / name))
        sample = samples[0]
        region = sample.location.region
        seen = sample.visibility > 0
        expected = line(len(seen))[seen]
        np.testing.assert_allclose(sample.keypoints[seen] + [region.left, region.top], expected, atol=2e-3)

    def test_image_of_a_sample_can_be_cached(self, name, write, skeleton, count: int, tmp_path: Path) -> None:
        samples, _ = labeled_samples(write(tmp_path / name))
        assert Crops.build(samples, 64, tmp_path / "cache").usable.all()


@pytest.mark.parametrize("name", ["joints.json", "people.json", "train.json", "person_keypoints.json"])
def test_file_in_coco_format_is_one_whatever_its_name(name: str, tmp_path: Path) -> None:
    """Also beside files of the same names in other forms, and in a folder with them."""
    coco(tmp_path)
    file = tmp_path / name
    (tmp_path / "annotations/person_keypoints_train2017.json").rename(file)
    (tmp_path / "train2017").rename(tmp_path / "images")
    assert find_dataset(file).name == "coco"
    assert len(find_dataset(file).read().labels.images) > 0
    if name != "person_keypoints.json":
        file.with_name("person_keypoints.json").write_bytes(file.read_bytes())
    assert find_dataset(tmp_path).name == "coco"


def test_mpii_box_is_the_square_around_the_lowered_center(tmp_path: Path) -> None:
    """Center (80, 60) from 0 and scale 0.4: lowered by 6, a square with sides of 80."""
    for write in (mpii_json, mpii_mat):
        dataset = find_dataset(write(tmp_path / write.__name__)).read()
        np.testing.assert_allclose(dataset.labels.persons[0].box_xywh, [40, 26, 80, 80], rtol=1e-6)


def test_mpii_file_says_which_keypoints_are_hidden(tmp_path: Path) -> None:
    mpii_mat(tmp_path)
    dataset = find_dataset(tmp_path).read()
    assert dataset.labels.persons[0].keypoints[:, 2].tolist() == [1, *[2] * 15]
    assert dataset.labels.persons[1].keypoints[:, 2].tolist() == [1, *[2] * 14, 0]
    assert dataset.labels.counts.summary() == (
        "2 of 3 persons of mpii_human_pose_v1_u12_1.mat used; left out: 1 without a labeled keypoint"
        " (first annolist(2).annorect(2))."
    )


def test_mpii_head_sizes_come_from_either_file(tmp_path: Path) -> None:
    mpii_json(tmp_path / "json")
    assert read_mpii(tmp_path / "json", "valid").head_sizes.tolist() == [30, 30, 30]
    with pytest.raises(DataError, match=r"person 0 has no head size, which PCKh needs; put HRNet's gt_valid\.mat"):
        read_mpii(tmp_path / "json", "train")
    mpii_mat(tmp_path / "mat")
    assert read_mpii(tmp_path / "mat").head_sizes.tolist() == [30, 30]


def test_mpii_test_people_have_boxes_alone(tmp_path: Path) -> None:
    mpii_mat(tmp_path / "mat")
    hidden = read_mpii(tmp_path / "mat", "test")
    assert hidden.hidden and not hidden.visible.any()
    assert hidden.rectangles == (0, 1)  # the first person of the second image stands close to others
    mpii_json(tmp_path / "json")
    assert read_mpii(tmp_path / "json", "test").hidden
    with pytest.raises(DataError, match="the annotations of this test set are withheld"):
        labeled_samples(tmp_path / "json/test")


def test_json_splits_of_mpii_come_before_those_of_its_own_file(tmp_path: Path) -> None:
    mpii_mat(tmp_path)
    mpii_json(tmp_path)
    assert len(find_dataset(tmp_path / "trainval").read().labels.persons) == 3


def test_lsp_has_boxes_around_its_keypoints(tmp_path: Path) -> None:
    dataset = find_dataset(lsp_mat(tmp_path / "lsp")).read()
    assert [image.name for image in dataset.labels.images][::999] == ["im0001.jpg", "im1000.jpg"]
    first = dataset.labels.persons[0]
    assert first.keypoints[:, 2].tolist() == [1, *[2] * 13]
    # Extents 32 x 64, enlarged by 0.15 x 64 on every side.
    np.testing.assert_allclose(first.box_xywh, [64 - 9.6, 28 - 9.6, 32 + 19.2, 64 + 19.2], rtol=1e-5)
    extended = find_dataset(lspet(tmp_path / "lspet")).read()
    assert extended.labels.persons[0].keypoints[:, 2].tolist() == [*[2] * 10, *[0] * 4]
    assert (dataset.labels.name, extended.labels.name) == ("lsp", "lspet")


def test_yolo_pairs_follow_flip_idx(tmp_path: Path) -> None:
    dataset = find_dataset(yolo(tmp_path / "yolo")).read()
    assert dataset.skeleton.flip_pairs == ((0, 1), (3, 4))
    np.testing.assert_allclose(dataset.labels.persons[0].box_xywh, BOX, rtol=1e-5)
    assert len(dataset.labels.images) == 3  # an image without a label file shows nobody


def test_yolo_names_of_keypoints_are_read(tmp_path: Path) -> None:
    yolo(tmp_path / "yolo")
    file = tmp_path / "yolo/data.yaml"
    names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    file.write_text(f"{file.read_text()}kpt_names:\n  0: [{', '.join(names)}]\n")
    assert find_dataset(file).name == "yolo"
    assert find_dataset(tmp_path / "yolo/val").read().skeleton.keypoint_names == tuple(names)


def test_yolo_without_visibility_leaves_out_the_origin(tmp_path: Path) -> None:
    yolo(tmp_path / "yolo")
    file = tmp_path / "yolo/data.yaml"
    file.write_text(file.read_text().replace("[5, 3]", "[5, 2]"))
    for label in (tmp_path / "yolo/labels").rglob("*.txt"):
        label.write_text("0 0.4 0.5 0.2 0.6 0.4 0.4 0 0 0.4 0.5 -0.1 0.5 0.5 0.5\n")
    labels = find_dataset(tmp_path / "yolo/train").read().labels
    assert labels.persons[0].keypoints[:, 2].tolist() == [2, 0, 2, 0, 2]
    assert labels.counts.sentences()[1].startswith("2 keypoints at (0, 0) without a visibility")


BAD_YOLO = {
    "flip_idx": ("[1, 0, 2, 4, 3]", "[1, 2, 0, 4, 3]", r"flip_idx is \[1, 2, 0, 4, 3\], wanted 0 to 4"),
    "kpt_shape": ("[5, 3]", "[5, 4]", r"kpt_shape is \[5, 4\], wanted"),
    "numbers": ("[5, 3]", "[5, 2]", r"a\.txt, line 1: 20 numbers, wanted 15: class, 4 of the box, 2 for each of 5"),
    "no folder": ("images/train", "images/trian", "'images/trian' is neither a folder nor a file in"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD_YOLO.values(), ids=BAD_YOLO)
def test_wrong_yolo_data_set_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    yolo(tmp_path / "yolo")
    file = tmp_path / "yolo/data.yaml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        find_dataset(tmp_path / "yolo/train").read()


def test_skeleton_file_names_the_keypoints(tmp_path: Path) -> None:
    skeleton = find_dataset(custom(tmp_path)).read().skeleton
    assert skeleton.keypoint_names == ("helmet", "left_glove", "right_glove", "belt")
    assert (skeleton.flip_pairs, skeleton.limbs) == (((1, 2),), ((0, 3), (1, 3)))
    assert skeleton.sigmas[0] == 0.05
    (tmp_path / "skeleton.yaml").unlink()
    with pytest.raises(DataError, match="no category lists keypoint names"):
        find_dataset(tmp_path / "mine.json").read()


BAD_SKELETONS = {
    "unknown key": ("keypoints: [a, b]\nlims: []\n", "unknown key 'lims'"),
    "unknown limb": (
        "keypoints: [nose, tail]\nlimbs: [[nose, tial]]\n",
        "'tial' is not among the keypoints. Did you mean",
    ),
    "no names": ("keypoints: 4\n", "keypoints is 4, wanted a list of names"),
}


@pytest.mark.parametrize(("text", "message"), BAD_SKELETONS.values(), ids=BAD_SKELETONS)
def test_wrong_skeleton_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    place = custom(tmp_path)
    (tmp_path / "skeleton.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        find_dataset(place).read()


def test_test_dev_has_images_and_no_annotations(tmp_path: Path) -> None:
    coco(tmp_path)
    dataset = find_dataset(tmp_path / "test-dev2017").read()
    assert dataset.labels.hidden and dataset.skeleton is COCO17
    assert dataset.images == tmp_path / "test2017"
    assert len(dataset.labels.images) == 3 and not dataset.labels.persons


def test_cvat_area_of_zero_is_taken_from_the_box(tmp_path: Path) -> None:
    dataset = find_dataset(cvat(tmp_path)).read()
    assert dataset.images == tmp_path / "images/default"
    assert dataset.labels.counts.sentences()[1].startswith("2 areas missing or 0, taken as 0.53 of the box")


def test_list_of_ids_keeps_these_images(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    (tmp_path / "list.txt").write_text("# two images\n3\n\n000000000001.jpg\n")
    ids = read_ids(tmp_path / "list.txt")
    dataset = find_dataset(tmp_path / "coco/train2017").read(ids=ids)
    assert [image.id for image in dataset.labels.images] == [1, 3]
    assert [person.id for person in dataset.labels.persons] == [10, 30]
    assert dataset.labels.images[dataset.labels.persons[1].image].id == 3
    assert dataset.labels.counts.total == 2
    with pytest.raises(DataError, match="1 of 1 images are not in coco: 9"):
        find_dataset(tmp_path / "coco/train2017").read(ids={"9"})
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match=r"list\.txt: lists no image"):
        read_ids(tmp_path / "list.txt")


def test_data_are_found_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coco(tmp_path / "root/data/coco")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATHERPOSE_DATA", str(tmp_path / "root"))
    assert find_dataset("coco/val2017").place == tmp_path / "root/data/coco"
    assert find_place("coco/val2017").parent == tmp_path / "root/data/coco"
    monkeypatch.delenv("FEATHERPOSE_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = tmp_path / "home/.cache/featherpose/data"
    with pytest.raises(DataError, match=f"There is no folder coco and no {home}/coco; .* docs/data.md says how to get"):
        find_place("coco")
    coco(home / "coco")
    assert find_dataset("coco/train2017").place == home / "coco"


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    lsp_json(tmp_path / "lsp")
    with pytest.raises(DataError, match=r"lsp: not a data set of the form mpii; docs/data\.md says"):
        find_dataset(tmp_path / "lsp", "mpii")
    with pytest.raises(DataError, match=r"images: not a data set; docs/data\.md says"):
        find_dataset(tmp_path / "lsp/images")
    write_json(tmp_path / "list.json", [])
    assert find_dataset(tmp_path / "list.json").name == "mpii"
    write_json(tmp_path / "object.json", coco_document([], COCO17))
    assert find_dataset(tmp_path / "object.json").name == "coco"
    with pytest.raises(DataError, match=r"Did you mean 'coco'"):
        find_dataset(tmp_path / "object.json", "cocoo")
