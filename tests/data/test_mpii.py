"""MPII's annotations in HRNet's format: the real file, and every kind of error."""

import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.data.mpii import read_mpii
from featherpose.errors import DataError

PERSON = {
    "image": "a.jpg",
    "joints": [[float(j), 2.0 * j] for j in range(16)],
    "joints_vis": [1] * 15 + [0],
    "center": [100.0, 50.0],
    "scale": 0.5,
    "headsize": 20.0,
}


def folder(tmp_path: Path, *records: object) -> Path:
    (tmp_path / "people.json").write_text(json.dumps(records))
    return tmp_path


def test_records_are_read_into_arrays(tmp_path: Path) -> None:
    mpii = read_mpii(folder(tmp_path, PERSON, {**PERSON, "image": "b.jpg", "scale": 1}))
    assert len(mpii) == 2
    assert mpii.image_names == ("a.jpg", "b.jpg")
    assert mpii.images == tmp_path / "images"
    assert mpii.keypoints.shape == (2, 16, 2)
    assert mpii.visible.sum() == 30
    # A square of side 200 x scale around the center, which is moved down by 15 x scale.
    np.testing.assert_allclose(mpii.boxes_xyxy, [[50, 7.5, 150, 107.5], [0, -35, 200, 165]])
    np.testing.assert_allclose(mpii.head_sizes, 20)


def test_real_test_set_is_read_whole(shared: Path) -> None:
    mpii = read_mpii(shared / "data/mpii-test")
    assert len(mpii) == 401
    assert (mpii.counts.used, mpii.counts.left_out, mpii.counts.assumed) == (401, (), ())
    assert len(set(mpii.image_names)) == 337
    assert all((mpii.images / name).is_file() for name in mpii.image_names)
    inside = (mpii.keypoints >= mpii.boxes_xyxy[:, None, :2]) & (mpii.keypoints <= mpii.boxes_xyxy[:, None, 2:])
    assert inside.all(axis=2)[mpii.visible > 0].mean() > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0}, "person 1: scale is 0, wanted a positive number"),
        ({"headsize": -1}, "person 1: headsize is -1"),
        ({"headsize": "big"}, "person 1: headsize is 'big', wanted a finite number"),
        ({"headsize": None}, "person 1 has no headsize"),
        ({"joints": [[0, 0]] * 15}, r"person 1: joints is .*, wanted a list of 16"),
        ({"joints": [[0, float("nan")]] * 16}, "person 1: joints contains nan, wanted finite numbers"),
        ({"joints": [[0]] * 16}, r"person 1: joints contains \[0\], wanted x and y"),
        ({"joints_vis": [1]}, r"person 1: joints_vis is \[1\], wanted a list of 16"),
        ({"center": None}, "person 1 has no center"),
        ({"image": 3}, "person 1: image is 3, wanted a name"),
    ],
)
def test_error_names_the_wrong_record(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_mpii(folder(tmp_path, PERSON, {**PERSON, **change}))


def test_minus_one_means_not_given(tmp_path: Path) -> None:
    joints = [[-1, -1], *PERSON["joints"][1:15], [float("nan"), None]]
    odd = {**PERSON, "joints": joints, "headsize": "20"}
    mpii = read_mpii(folder(tmp_path, odd, {**PERSON, "center": [-1, -1]}, {**PERSON, "scale": -1}))
    assert mpii.visible.tolist() == [[0] + [1] * 14 + [0]]
    assert mpii.counts.sentences() == [
        "1 of 3 persons of people.json used; left out: 2 without a center or a scale (first person 1).",
        "1 keypoints at (-1, -1), taken as not labeled (first person 0, right_ankle).",
    ]
    with pytest.raises(DataError, match=r"0 of 1 persons of people\.json used; left out: 1 without a center"):
        read_mpii(folder(tmp_path, {**PERSON, "center": [-1, -1]}))


def test_error_names_the_missing_key(tmp_path: Path) -> None:
    record = {key: value for key, value in PERSON.items() if key != "headsize"}
    with pytest.raises(DataError, match="person 0 has no headsize"):
        read_mpii(folder(tmp_path, record))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[]", "wanted a list of persons"), ("[3]", "person 0 is 3, wanted an object")],
)
def test_malformed_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "people.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_mpii(tmp_path)


def test_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"people\.json"):
        read_mpii(tmp_path)
