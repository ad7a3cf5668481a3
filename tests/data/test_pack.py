"""Packing: the shards hold what training on the images would see; interrupted runs resume; addresses work."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from featherpose import api, examples, images
from featherpose.cli.data import data as command
from featherpose.codecs.heatmap import Msra
from featherpose.data.cache import Crops
from featherpose.data.pack import FORMATS, Packing, crop_of, pack
from featherpose.data.sample import Location, Sample
from featherpose.data.samples import labeled_samples
from featherpose.data.shards import read_bytes, read_index
from featherpose.data.store import open_store
from featherpose.errors import DataError, InputError
from featherpose.size import Size
from featherpose.skeleton import COCO17
from tests.data.conftest import random_image
from tests.data.published import LAYOUTS, coco, coco_document, custom, write_json

TALL = Size(height=900, width=400)
"""An image with a person of 700 pixels, more than fits a crop of the default height."""


def big_coco(root: Path) -> Path:
    """Three images of 200x120 pixels and one of 400x900, in COCO's layout; the persons have areas."""
    place = coco(root)
    file = root / "annotations/person_keypoints_train2017.json"
    document = json.loads(file.read_text())
    images.write(root / "train2017/tall.jpg", random_image(TALL, 9))
    document["images"].append({"id": 9, "file_name": "tall.jpg", **TALL.to_dict()})
    keypoints = [value for i in range(17) for value in (150.25 + 5 * i, 110.5 + 40 * i, i % 3)]
    tall = {"image_id": 9, "bbox": [140.5, 100.25, 120, 700], "keypoints": keypoints, "area": 41234.5}
    document["annotations"].insert(1, {**document["annotations"][0], "id": 90, **tall})
    write_json(file, document)
    return place


def fields(samples: list[Sample]) -> list[tuple[Any, ...]]:
    """Everything that training uses of samples, but for their keys and where their images are."""
    return [
        (
            *(s.image, s.source, s.skeleton, s.area, s.size, s.scale),
            *(s.keypoints.tolist(), s.visibility.tolist(), s.box_xywh.tolist()),
        )
        for s in samples
    ]


def targets(samples: list[Sample], crops: Crops) -> np.ndarray:
    """Heatmaps (N, K, h, w) of the keypoints in cached pixels."""
    codec = Msra(Size(height=64, width=48))
    points = crops.to_cache(np.array([sample.keypoints for sample in samples])) / 4
    return np.array([codec.encode(p, s.visibility > 0)[0] for p, s in zip(points, samples, strict=True)])


def test_lossless_shards_equal_the_images(tmp_path: Path) -> None:
    place = big_coco(tmp_path / "coco")
    api.pack_data(place, tmp_path / "shards", lossless=True, shard_size=3, threads=2)
    of_images, _ = labeled_samples(place)
    of_shards = read_index(tmp_path / "shards")
    assert fields(of_shards) == fields(of_images)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == [
        "coco-00000.tar",
        "coco-00001.tar",
        "pack.json",
    ]
    caches = [Crops.build(samples, 64, tmp_path / "cache") for samples in (of_images, of_shards)]
    for row in range(len(of_images)):
        np.testing.assert_array_equal(caches[0][row], caches[1][row])
    np.testing.assert_array_equal(targets(of_images, caches[0]), targets(of_shards, caches[1]))
    assert targets(of_images, caches[0]).any()


def example_samples(folder: Path) -> list[Sample]:
    """One sample for each example image, the whole of it; the box is a third of it, so that nothing is scaled down."""
    samples: list[Sample] = []
    for path in sorted(path for path in examples.find("people.jpg").parent.iterdir() if path.suffix == ".jpg"):
        size = images.read_size(path)
        samples.append(
            Sample(
                key=path.name,
                image=path.name,
                source="examples",
                keypoints=np.ones((17, 2), np.float32),
                visibility=np.full(17, 2, np.uint8),
                skeleton=COCO17,
                box_xywh=np.array([9, 9, 100, 150], np.float32),
                area=None,
                size=size,
                scale=1.0,
                location=Location(path, 0, path.stat().st_size),
            )
        )
    return samples


@pytest.mark.parametrize("image_format", FORMATS)
def test_default_quality_is_within_two_gray_levels(image_format: str, tmp_path: Path) -> None:
    samples = example_samples(tmp_path)
    pack(samples, open_store(str(tmp_path / "shards")), Packing(image_format))
    for before, after in zip(samples, read_index(tmp_path / "shards"), strict=True):
        exact = images.read(before.location.path).astype(int)
        assert 0 < np.abs(images.read(read_bytes(after.location)) - exact).mean() <= 2


def test_tall_persons_are_scaled_down_with_their_labels(tmp_path: Path) -> None:
    sample = labeled_samples(big_coco(tmp_path / "coco"))[0][1]
    image, record = crop_of(sample, 346)
    factor = 346 / (1.25 * 700)
    assert 1.25 * record["box_xywh"][3] == pytest.approx(346, rel=2e-3)
    assert image.shape[:2] == (record["height"], record["width"])
    assert record["scale"] == pytest.approx(factor)
    assert record["area"] == pytest.approx(41234.5 * factor**2, rel=4e-3)
    seen = sample.visibility > 0
    np.testing.assert_allclose(
        np.array(record["keypoints"])[seen, :2], (sample.keypoints[seen] + 0.5) * factor - 0.5, atol=0.5
    )
    assert not np.array(record["keypoints"])[~seen].any()


@pytest.mark.parametrize(("name", "write", "skeleton", "count"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_data_set_can_be_packed(name, write, skeleton, count: int, tmp_path: Path) -> None:
    place = write(tmp_path / name)
    packed, notes = api.pack_data(place, tmp_path / "shards")
    assert (packed.num_samples, packed.broken) == (count, [])
    assert fields(read_index(tmp_path / "shards")) == fields(labeled_samples(place)[0])
    assert notes[0].split(":")[1].startswith(f" {count} instances in ")


def test_skeleton_of_a_custom_data_set_is_kept(tmp_path: Path) -> None:
    api.pack_data(custom(tmp_path / "own"), tmp_path / "shards")
    (skeleton,) = {sample.skeleton for sample in read_index(tmp_path / "shards")}
    assert skeleton.keypoint_names == ("helmet", "left_glove", "right_glove", "belt")
    assert (skeleton.flip_pairs, skeleton.sigmas[0]) == (((1, 2),), 0.05)


def test_packs_in_folders_side_by_side_are_read_together(tmp_path: Path) -> None:
    coco(tmp_path / "coco")
    for split in ("train2017", "val2017"):
        api.pack_data(tmp_path / "coco" / split, tmp_path / "shards" / split)
    samples, notes = labeled_samples(tmp_path / "shards")
    assert sorted(int(Path(sample.image).stem) for sample in samples) == [1, 2, 3, 1001, 1002, 1003]
    assert notes == []


class Stopped(Exception):
    pass


def stop_after(number: int) -> Any:
    """Progress that stops a run when so many samples are done."""

    def progress(done: int, total: int) -> None:
        if done > number:
            raise Stopped

    return progress


def test_interrupted_run_resumes_with_the_same_shards(tmp_path: Path) -> None:
    place = big_coco(tmp_path / "coco")
    api.pack_data(place, tmp_path / "whole", shard_size=1)
    with pytest.raises(Stopped):
        api.pack_data(place, tmp_path / "parts", shard_size=1, progress=stop_after(2))
    assert sorted(path.name for path in (tmp_path / "parts").glob("*.tar")) == ["coco-00000.tar", "coco-00001.tar"]
    packed, _ = api.pack_data(place, tmp_path / "parts", shard_size=1)
    assert (packed.num_shards, packed.num_skipped) == (4, 2)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()


def test_shards_of_other_data_or_options_are_not_mixed(tmp_path: Path) -> None:
    place = big_coco(tmp_path / "coco")
    api.pack_data(place, tmp_path / "shards")
    with pytest.raises(DataError, match=r"other options \(packing differ\); write to another place, or .* --overwrite"):
        api.pack_data(place, tmp_path / "shards", quality=50)
    with pytest.raises(DataError, match=r"\(samples, labels differ\)"):
        (tmp_path / "list.txt").write_text("9\n")
        api.pack_data(place, tmp_path / "shards", ids=tmp_path / "list.txt")
    packed, _ = api.pack_data(place, tmp_path / "shards", quality=50, overwrite=True)
    assert packed.num_skipped == 0


def test_broken_image_is_listed_and_left_out(tmp_path: Path) -> None:
    place = big_coco(tmp_path / "coco")
    file = tmp_path / "coco/train2017/tall.jpg"
    file.write_bytes(file.read_bytes()[:2000])  # its header is whole
    for _ in range(2):  # the second run skips the shard and still says it
        packed, _ = api.pack_data(place, tmp_path / "shards")
        assert len(packed.broken) == 1 and packed.broken[0].startswith("tall.jpg:90: ")
    assert len(read_index(tmp_path / "shards")) == 3
    done = CliRunner().invoke(command, ["pack", str(place), "--out", str(tmp_path / "shards")])
    assert done.exit_code == 1
    assert done.stdout.startswith("3 of 4 samples in 1 shards, 1 of them were there: ")
    assert "tall.jpg:90" in done.stderr


def test_packing_to_an_address(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    place = coco(tmp_path / "coco")
    api.pack_data(place, "memory://bucket/coco", lossless=True)
    api.pack_data(place, tmp_path / "shards", lossless=True)
    memory = fsspec.filesystem("memory")
    for path in (tmp_path / "shards").iterdir():
        assert memory.cat_file(f"/bucket/coco/{path.name}") == path.read_bytes()
    assert api.pack_data(place, "memory://bucket/coco", lossless=True)[0].num_skipped == 1
    with pytest.raises(InputError, match=r"nowhere://x: cannot be opened \(.*\)\. Check the address"):
        api.pack_data(place, "nowhere://x")


BAD = {
    "format": ({"image_format": "gif"}, "image_format is 'gif', wanted webp, jpeg, avif"),
    "lossless jpeg": ({"image_format": "jpeg", "lossless": True}, "jpeg is not lossless here"),
    "quality of lossless": ({"lossless": True, "quality": 90}, "quality has no effect with lossless"),
    "quality": ({"quality": 101}, "quality is 101, wanted 0 to 100"),
    "shard size": ({"shard_size": 0}, "shard_size must be at least 1"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Packing(**options)


def test_split_is_that_of_training_and_can_be_packed(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(40)]
    (tmp_path / "own").mkdir()
    for name in names:
        Image.new("RGB", (200, 120)).save(tmp_path / "own" / name)
    write_json(tmp_path / "own/my.json", coco_document(names, COCO17))
    words = ["split", str(tmp_path / "own/my.json"), "--out", str(tmp_path / "lists")]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    val = (tmp_path / "lists/val.txt").read_text().split()
    train = (tmp_path / "lists/train.txt").read_text().split()
    assert done.stdout.startswith(f"{len(train)} images for training, {len(val)} for validation: ")
    assert sorted(train + val) == sorted(names)
    # The names whose sha1sum, as a number, is divisible by 5: as training holds out with val_fraction 0.2.
    assert val == ["10.png", "22.png", "23.png", "24.png", "32.png"]
    api.pack_data(tmp_path / "own/my.json", tmp_path / "shards", ids=tmp_path / "lists/val.txt")
    assert sorted({sample.image for sample in read_index(tmp_path / "shards")}) == val
    # Of the shards the same split is made, and another seed makes another one.
    assert api.split_data(tmp_path / "own/my.json", tmp_path / "lists", seed=1)[1] != val
    with pytest.raises(DataError, match=r"All 5 images fall into one part with a validation fraction of 0\.2"):
        api.split_data(tmp_path / "shards", tmp_path / "lists")
