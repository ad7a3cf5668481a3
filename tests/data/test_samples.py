"""Samples from whole images: each person gets a region of the image; unusable persons are counted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose import images
from featherpose.boxes import xywh_to_xyxy
from featherpose.crop import Crop
from featherpose.data.cache import Crops
from featherpose.data.sample import Sample
from featherpose.data.samples import labeled_samples, with_keypoint_boxes
from featherpose.data.shards import read_index
from featherpose.data.teacher import coco_targets, teacher_labels
from featherpose.errors import DataError
from featherpose.records import Tally
from featherpose.size import Size
from tests.data.conftest import Pack, random_image, record

SIZE, SMALL = Size(height=120, width=200), Size(height=64, width=48)
BIRD = {"id": 3, "name": "bird", "keypoints": ["beak", "left_wing", "right_wing"], "skeleton": [[1, 2], [1, 3]]}
KEYPOINTS = [60, 40, 2, 70, 50, 1, 0, 0, 0]


def bird(number: int, image: int = 1, **changes: Any) -> dict[str, Any]:
    person = {"id": number, "image_id": image, "category_id": 3, "bbox": [50, 30, 30, 40], "keypoints": KEYPOINTS}
    return {**person, "iscrowd": 0, **changes}


def write(
    folder: Path, annotations: list[dict[str, Any]], category: dict[str, Any] = BIRD, num_images: int = 2
) -> Path:
    """Folder and annotations -> birds.json there, next to its images `photo-1.png`, ..."""
    names = {i: f"photo-{i}.png" for i in range(1, num_images + 1)}
    for seed, name in names.items():
        images.write(folder / name, random_image(SIZE, seed))
    listed = [{"id": i, "file_name": name, **SIZE.to_dict()} for i, name in names.items()]
    truth = {"images": listed, "annotations": annotations, "categories": [category, {"id": 4, "name": "nest"}]}
    (folder / "birds.json").write_text(json.dumps(truth))
    return folder / "birds.json"


def test_keypoints_are_in_pixels_of_the_region(tmp_path: Path) -> None:
    file = write(tmp_path, [bird(7, 2, area=500), bird(8), bird(9, bbox=[190, 100, 20, 40])])
    samples, _ = labeled_samples(file)
    assert [(s.key, s.image, s.source, s.area) for s in samples] == [
        ("photo-2.png:7", "photo-2.png", "birds", 500),
        ("photo-1.png:8", "photo-1.png", "birds", None),
        ("photo-1.png:9", "photo-1.png", "birds", None),
    ]
    first, _, corner = samples
    region = first.location.region
    assert region is not None
    # the box is 30 x 40, its center (65, 50): a square of side 1.5 x 40 around it
    assert (region.left, region.top, region.size) == (35, 20, SIZE)
    assert first.size == Size(height=61, width=61)
    np.testing.assert_array_equal(first.keypoints, [[25, 20], [35, 30], [0, 0]])
    np.testing.assert_array_equal(first.visibility, [2, 1, 0])
    np.testing.assert_array_equal(first.box_xywh, [15, 10, 30, 40])
    assert corner.location.region is not None
    assert corner.location.region.left + corner.size.width == SIZE.width, "a region ends at the edge of its image"
    assert corner.location.region.top + corner.size.height == SIZE.height


def test_region_and_image_give_the_same_crop(tmp_path: Path) -> None:
    """Small persons are cached at full resolution, so the network gets the same crop as from the whole image."""
    boxes = [[50, 30, 30, 40], [20, 80, 45, 30], [150, 5, 40, 20], [0, 0, 12, 16]]
    samples, _ = labeled_samples(write(tmp_path, [bird(i, bbox=box) for i, box in enumerate(boxes)]))
    crops, image = Crops.build(samples, 64, tmp_path / "caches"), images.read(tmp_path / "photo-1.png")
    assert crops.usable.all()
    for row, box in enumerate(xywh_to_xyxy(crops.boxes_to_cache([sample.box_xywh for sample in samples]))):
        shown = images.warp(crops[row], Crop.from_box(box, SMALL).matrix, SMALL)
        whole = images.warp(image, Crop.from_box(xywh_to_xyxy(np.array(boxes[row])), SMALL).matrix, SMALL)
        assert np.abs(shown.astype(int) - whole).max() <= 1  # warping rounds positions to 1/32 pixel


def test_persons_of_one_image_get_own_caches(tmp_path: Path) -> None:
    samples, _ = labeled_samples(write(tmp_path, [bird(1), bird(2, bbox=[51, 30, 30, 40])]))
    folders = [Crops.build([sample], 64, tmp_path / "caches").folder for sample in samples]
    assert folders[0] != folders[1]


def test_image_of_wrong_size_is_not_cropped(tmp_path: Path) -> None:
    first, second = labeled_samples(write(tmp_path, [bird(1), bird(2, 2)]))[0]
    assert second.location.region is not None
    region = replace(second.location.region, size=Size(height=120, width=210))
    wrong = replace(second, location=replace(second.location, region=region))
    crops = Crops.build([first, wrong], 64, tmp_path / "caches")
    assert crops.usable.tolist() == [True, False]
    assert crops.broken == ("photo-2.png:2: the image has 120x200 pixels, but is annotated with 120x210.",)


def test_unusable_instances_are_counted(tmp_path: Path) -> None:
    unlabeled = [0] * 9
    annotations = [
        *(bird(1), bird(2, iscrowd=1), bird(3, iscrowd=1, keypoints=unlabeled)),
        *(bird(4, keypoints=None), bird(5, bbox=[50, 30, 0, 40]), bird(6, bbox=[300, 30, 20, 20])),
        {"id": 7, "image_id": 1, "category_id": 3, "bbox": [51, 30, 30, 40]},
        {"id": 8, "image_id": 1, "category_id": 4, "bbox": [50, 30, 30, 40]},
        *(bird(9), bird(10, 99), bird(11, bbox=None, keypoints=[9, 9, 2, *[0] * 6])),
    ]
    samples, notes = labeled_samples(write(tmp_path, annotations))
    assert [sample.key for sample in samples] == ["photo-1.png:1", "photo-1.png:5"]
    assert samples[1].box_xywh[2:].tolist() == [13, 13]
    assert notes[:4] == [
        "birds: 2 instances in 1 images, 3 keypoints (beak, left_wing, right_wing), 1 left-right pair.",
        "2 of 11 annotations of birds (category bird, id 3) used; left out: 1 of category nest (first annotations[7]),"
        " 1 the same record twice (first annotations[8]), 1 of an image that is not listed (first annotations[9],"
        " image_id 99), 2 crowd regions (first annotations[1]), 2 without a labeled keypoint (first annotations[3]),"
        " 1 with a box outside the image (first annotations[5]), 1 without a box and with too few keypoints for one"
        " (first annotations[10]).",
        "3 areas missing or 0, taken as 0.53 of the box (first annotations[0]).",
        "1 boxes missing or without area, taken around the labeled keypoints (first annotations[4]).",
    ]


def test_notes_on_unknown_keypoint_names(tmp_path: Path) -> None:
    odd = BIRD | {"keypoints": ["nose", "left_wing", "right_hip"]}
    notes = labeled_samples(write(tmp_path, [bird(1)], odd))[1]
    assert [
        note for note in notes if note.startswith("Warning: no keypoint of the other side for left_wing, right_hip: ")
    ]
    assert [note for note in notes if note.startswith("No published OKS sigma for left_wing: 0.067 is used")]
    known = BIRD | {"keypoints": ["nose", "left_hip", "right_hip"]}
    assert len(labeled_samples(write(tmp_path, [bird(1, area=9)], known))[1]) == 2


def test_missing_images_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path, [bird(1), bird(2, 2), bird(3, 2, area=3, bbox=[50, 30, 30, 41])])
    (tmp_path / "photo-2.png").unlink()
    samples, notes = labeled_samples(file)
    assert [sample.image for sample in samples] == ["photo-1.png"]
    assert f"left out: 2 with an image that is missing (first annotations[1], {tmp_path / 'photo-2.png'})." in notes[1]
    file.write_text(file.read_text().replace("photo-1", "photo-3"))
    images.write(tmp_path / "photo-4.png", random_image(SIZE, 1))
    with pytest.raises(
        DataError, match=r"its images \(photo-3\.png, photo-2\.png\) are .* next to it: photo-1\.png, photo-4\.png\."
    ):
        labeled_samples(file)


UNUSABLE_IMAGES: dict[str, tuple[Size | None, str]] = {
    "other size": (
        Size(height=120, width=210),
        "2 with an image of another size than annotated (first annotations[1], photo-2.png: the image has 120x210"
        " pixels, but is annotated with 120x200).",
    ),
    "exchanged sides": (Size(height=200, width=120), "The sides are exchanged: by the tool, or because it ignores the"),
    "no image": (None, "2 with an image that cannot be read (first annotations[1], "),
}


@pytest.mark.parametrize(("size", "message"), UNUSABLE_IMAGES.values(), ids=UNUSABLE_IMAGES)
def test_unusable_images_are_counted_at_once(tmp_path: Path, size: Size | None, message: str) -> None:
    file = write(tmp_path, [bird(1), bird(2, 2), bird(3, 2, bbox=[50, 30, 30, 41])])
    if size is None:
        (tmp_path / "photo-2.png").write_bytes(b"no image")
    else:
        images.write(tmp_path / "photo-2.png", random_image(size))
    tally = Tally("records")
    samples, notes = labeled_samples(file, tally=tally)
    assert [sample.image for sample in samples] == ["photo-1.png"]
    assert notes[1].startswith("1 of 3 annotations of birds (category bird, id 3) used; left out: 2 with an image ")
    assert message in notes[1]
    assert (tally.total, tally.left_out) == (3, 2)


NOBODY: list[tuple[str, list[dict[str, Any]], str]] = [
    ("no annotation", [], "0 of 0 annotations of birds"),
    ("crowds", [bird(1, iscrowd=1)], "0 of 1 annotations of birds .* used; left out: 1 crowd regions"),
    ("other category", [bird(1, category_id=4)], "0 of 1 annotations of birds .* used; left out: 1 of category nest"),
]


@pytest.mark.parametrize(("annotations", "message"), [row[1:] for row in NOBODY], ids=[row[0] for row in NOBODY])
def test_data_without_usable_sample_is_refused(tmp_path: Path, annotations: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        labeled_samples(write(tmp_path, annotations))


def test_folder_in_coco_layout_is_read(tmp_path: Path) -> None:
    (tmp_path / "own/images").mkdir(parents=True)
    write(tmp_path / "own/images", [bird(1)]).rename(tmp_path / "own/person_keypoints.json")
    samples, _ = labeled_samples(tmp_path / "own")
    assert (samples[0].source, samples[0].location.path) == ("own", tmp_path / "own/images/photo-1.png")


def test_shards_give_samples_and_a_note(pack: Pack) -> None:
    folder = pack(record("a"), record("b", box_xywh=[0, 0, 0, 0])).parent
    samples, notes = labeled_samples(folder)
    assert [sample.key for sample in samples] == ["a"]
    assert len(notes) == 1
    assert notes[0].startswith(f"{folder}: 1 broken samples left out, first: own-0000.tar: b: box_xywh is")


def test_shards_that_look_wrong_are_said_or_refused(pack: Pack) -> None:
    folder = pack(*(record(key, box_xywh=[0.1, 0.2, 0.5, 0.7]) for key in "abc")).parent
    _, notes = labeled_samples(folder)
    assert notes[0].startswith("Warning: 3 of 3 boxes are between 0 and 1")
    with pytest.raises(DataError, match=r"shards: 3 of 3 boxes are between 0 and 1.*leave out --strict"):
        labeled_samples(folder, strict=True)


def test_folder_with_only_a_json_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [bird(1)])
    with pytest.raises(
        DataError, match=r"it contains birds\.json, .* For a COCO file, give the path of the file itself"
    ):
        labeled_samples(tmp_path)


def test_real_regions_have_the_cached_size(shared: Path, tmp_path: Path) -> None:
    """Regions are cut out around the box, and stored images match their annotated sizes."""
    samples, notes = labeled_samples(shared / "data/coco-test")
    assert len(samples) == 1009
    assert notes[0].startswith("coco-test: 1009 instances in 360 images, 17 keypoints (nose, ")
    assert notes[1].startswith("1009 of 1467 annotations of coco-test used; left out: ")
    assert len(notes) == 2
    chosen = samples[::100]
    crops = Crops.build(chosen, 64, tmp_path)
    assert crops.usable.all()
    for row, sample in enumerate(chosen):
        region, (height, width) = sample.location.region, sample.size.shape
        assert region is not None
        whole = images.read(sample.location.path)
        assert whole.shape[:2] == region.size.shape
        cut = whole[region.top : region.top + height, region.left : region.left + width]
        assert cut.shape[:2] == sample.size.shape
        np.testing.assert_array_equal(crops[row].shape[1::-1], np.round(np.array(sample.size.xy) * crops.factors[row]))


def test_no_samples_have_no_keypoint_boxes() -> None:
    assert with_keypoint_boxes([], ["mpii"]) == []


def mpii_person(key: str, **changes: Any) -> dict[str, Any]:
    """A person of MPII whose keypoints span x 40 to 80 and y 30 to 130 in an image of 120 x 160, head top first."""
    steps = np.linspace(1, 0, 16)
    steps[9] = 0
    keypoints = [[float(40 + 40 * step), float(30 + 100 * step), 2] for step in steps]
    return record(key, "mpii16", source="mpii", keypoints=keypoints, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [33, 26, 87, 139]),
        ({"head": 0}, [33, 16, 87, 139]),
        ({"height": 132}, [33, 26, 87, 132]),
        ({"labeled": 7}, None),
        ({"source": "coco"}, None),
    ],
    ids=["head top", "no head top", "image edge", "few keypoints", "other source"],
)
def test_mpii_box_is_that_of_the_keypoints(changes: dict[str, Any], expected: list[float] | None, pack: Pack) -> None:
    changed = dict(changes)
    person = mpii_person("a")
    if "head" in changed:
        person["keypoints"][9][2] = changed.pop("head")
    for keypoint in person["keypoints"][changed.pop("labeled", 16) :]:
        keypoint[2] = 0
    (sample,) = read_index(pack({**person, **changed}).parent)
    (found,) = with_keypoint_boxes([sample], ["mpii"])
    box = sample.box_xywh if expected is None else np.array(expected, np.float32) - [0, 0, *expected[:2]]
    np.testing.assert_allclose(found.box_xywh, box, atol=1e-3)


def mean_fill(samples: list[Sample], shared: Path) -> float:
    """Mean larger side of the bounds of COCO's keypoints, gaps filled from the teacher, as a fraction of the crop."""
    targets = coco_targets(samples, teacher_labels(shared / "data/pose-train"))
    fills = []
    for sample, keypoints, weights in zip(samples, targets.keypoints, targets.weights, strict=True):
        if np.count_nonzero(weights) >= 8:
            crop = Crop.from_box(xywh_to_xyxy(sample.box_xywh), Size(height=256, width=192))
            fills.append((np.ptp(crop.to_crop(keypoints[weights > 0]), axis=0) / crop.size.xy).max())
    return float(np.mean(fills))


def test_real_shards_give_no_warning(shared: Path) -> None:
    tally = Tally("records")
    samples, notes = labeled_samples(shared / "data/pose-train", strict=True, tally=tally)
    assert (notes, tally.left_out, tally.total) == ([], 0, len(samples))


def test_real_mpii_people_fill_the_crop_as_coco(real_samples: list[Sample], shared: Path) -> None:
    mpii = [sample for sample in real_samples if sample.source == "mpii"]
    coco = [sample for sample in real_samples if sample.source == "coco"][::5]
    assert mean_fill(mpii, shared) < 0.5
    assert mean_fill(with_keypoint_boxes(mpii, ["mpii"]), shared) == pytest.approx(mean_fill(coco, shared), abs=0.02)
