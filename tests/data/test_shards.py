"""Shards: all samples are found, in a stable order; broken samples are counted, truncated shards are refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.data.sample import Location, Sample, is_validation
from featherpose.data.shards import read_bytes, read_index, scan
from featherpose.errors import DataError
from featherpose.size import Size
from featherpose.skeleton import COCO17, LSP14, MPII16
from tests.data.conftest import Pack, encoded, random_image, record, write_shard


def test_samples_are_in_the_order_of_keys(pack: Pack) -> None:
    pack(record("d"), record("b", "lsp14"), name="own-0000")
    folder = pack(record("c", "mpii16"), record("a"), name="own-0001").parent
    index = scan(folder)
    assert [sample.key for sample in index.samples] == ["a", "b", "c", "d"]
    assert [sample.skeleton for sample in index.samples] == [COCO17, LSP14, MPII16, COCO17]
    assert index.broken == []


def test_sample_equals_its_record(pack: Pack) -> None:
    size = Size(height=110, width=90)
    keypoints = [[i + 0.25, -i, i % 3] if i % 3 else [0, 0, 0] for i in range(17)]
    person = record("a", size=size, keypoints=keypoints, area=None)
    (sample,) = read_index(pack(person).parent)
    assert np.array_equal(np.column_stack([sample.keypoints, sample.visibility]), person["keypoints"])
    assert sample.keypoints.dtype == np.float32
    np.testing.assert_allclose(sample.box_xywh, person["box_xywh"], rtol=1e-6)
    assert (sample.image, sample.source, sample.area) == ("a.jpg", "own", None)
    assert (sample.size, sample.scale) == (size, 0.5)


def test_bytes_belong_to_the_samples_image(pack: Pack) -> None:
    records = [record(key) for key in ("b", "a", "c")]
    samples = read_index(pack(*records).parent)
    expected = {person["key"]: encoded(random_image(seed=seed)) for seed, person in enumerate(records)}
    assert {sample.key: read_bytes(sample.location) for sample in samples} == expected


BROKEN = [
    ({"skeleton": "coco18"}, "skeleton 'coco18' is not known. Did you mean 'coco17'?"),
    ({"keypoints": [[0, 0, 0]] * 16}, "keypoints: 48 numbers ([[0, 0, 0], [0,"),
    ({"keypoints": [[0, 0, 0]] * 16 + [[0, 0]]}, "wanted x, y, v of 17 keypoints"),
    ({"keypoints": [[float("nan"), 0, 2]] * 17}, "finite"),
    ({"keypoints": [[1, 1, 3]] * 17}, "wanted v 0, 1 or 2"),
    ({"keypoints": None}, "its record lacks 'keypoints'"),
    ({"box_xywh": [0, 0, 0, 5]}, "box_xywh is [0.0, 0.0, 0.0, 5.0]"),
    ({"box_xywh": [0, 0, 5]}, "box_xywh is"),
    ({"scale": None}, "scale is None, wanted a finite number"),
    ({"height": 0}, "height is 0 and width is 120; wanted whole numbers above 0"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[str(change)[:30] for change, _ in BROKEN])
def test_broken_record_is_reported_and_left_out(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    records = [record("a"), record("b") | change, record("c")]
    files = [(p["key"] + ".json", json.dumps(p).encode()) for p in records]
    write_shard(tmp_path / "own.tar", files + [(p["key"] + ".webp", b"") for p in records])
    index = scan(tmp_path)
    assert [sample.key for sample in index.samples] == ["a", "c"]
    assert len(index.broken) == 1
    assert index.broken[0].startswith("own.tar: b: ")
    assert message in index.broken[0]


LACKING = [
    ([("a.json", b"{}")], "no image"),
    ([("a.webp", b"RIFF")], "no record"),
    ([("a.webp", b"RIFF"), ("a.json", b"{")], "Expecting property name"),
    ([("a.webp", b"RIFF"), ("a.json", b"\xff\xfe{")], "decode"),
    ([("a.webp", b"RIFF"), ("a.json", b"[]")], "the record is a JSON list, wanted an object"),
    ([("a.webp", b"RIFF"), ("a.json", b"{}")], "its record lacks 'skeleton'"),
]


@pytest.mark.parametrize(("files", "message"), LACKING, ids=[message for _, message in LACKING])
def test_incomplete_sample_is_reported(files: list[tuple[str, bytes]], message: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "own.tar", files)
    index = scan(tmp_path)
    assert index.samples == []
    assert len(index.broken) == 1
    assert message in index.broken[0]


def test_duplicate_key_is_reported(pack: Pack) -> None:
    pack(record("a"), name="own-0000")
    index = scan(pack(record("a"), name="own-0001").parent)
    assert index.samples[0].location.path.name == "own-0000.tar"
    assert index.broken == ["own-0001.tar: a: duplicate key, already found in own-0000.tar"]


def test_read_index_warns_about_broken_samples(pack: Pack) -> None:
    folder = pack(record("a"), record("b", box_xywh=[0, 0, 0, 0])).parent
    with pytest.warns(UserWarning, match="1 broken samples left out, first: own-0000.tar: b"):
        assert [sample.key for sample in read_index(folder)] == ["a"]


def test_folder_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(DataError, match=r"no shards \(\*\.tar\) in .*; it contains photo\.jpg"):
        read_index(tmp_path)
    with pytest.raises(DataError, match="is not a folder; wanted a folder with shards"):
        read_index(tmp_path / "nowhere")


def test_truncated_shard_is_refused(pack: Pack) -> None:
    """A tar file does not store its length: truncation between two members must be detected as well."""
    shard = pack(*[record(key) for key in "abc"])
    whole = shard.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in range(0, end, 256):
        shard.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot read shard .*own-0000\.tar after .*copy it again"):
            scan(shard.parent)


def test_damaged_header_is_refused_and_named(pack: Pack) -> None:
    shard = pack(*[record(key) for key in "abc"])
    data = bytearray(shard.read_bytes())
    start = data.index(b"c.webp")
    data[start : start + 512] = b"x" * 512
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"own-0000\.tar after b\.json"):
        scan(shard.parent)


def test_read_bytes_of_changed_shard_is_refused(pack: Pack, tmp_path: Path) -> None:
    shard = pack(record("a"))
    with pytest.raises(DataError, match="ends before byte"):
        read_bytes(Location(shard, shard.stat().st_size - 10, 20))
    with pytest.raises(DataError, match="Index the folder again"):
        read_bytes(Location(tmp_path / "gone.tar", 0, 20))


def test_real_shards_are_indexed_whole(real_samples: list[Sample]) -> None:
    counts = Counter(sample.source for sample in real_samples)
    assert counts == {"coco": 11581, "mpii": 1776, "lsp": 990, "lspet": 3600, "lspetrest": 1500, "voc2012": 1051}
    extra = Counter(sample.source for sample in real_samples if sample.location.path.name.startswith("extra-"))
    assert extra == {"coco": 1031, "lspetrest": 1500, "voc2012": 1051}
    keys = [sample.key for sample in real_samples]
    assert keys == sorted(set(keys))


def test_real_validation_set_is_one_in_twenty(real_samples: list[Sample]) -> None:
    share = np.mean([is_validation(sample.image) for sample in real_samples])
    assert 0.045 < share < 0.06


def test_real_keypoints_are_inside_or_unlabeled(real_samples: list[Sample]) -> None:
    """Unlabeled keypoints are (0, 0); labeled ones outside the image are rare (annotation errors, clipped boxes)."""
    outside = labeled = 0
    for sample in real_samples:
        seen = sample.visibility > 0
        assert not sample.keypoints[~seen].any()
        points = sample.keypoints[seen]
        outside += ((points < -0.5) | (points > np.array(sample.size.xy) - 0.5)).any(1).sum()
        labeled += len(points)
    assert outside < 0.005 * labeled


def test_real_images_have_the_recorded_size(real_samples: list[Sample]) -> None:
    from featherpose import images

    for sample in real_samples[::1000]:
        assert images.read(read_bytes(sample.location)).shape[:2] == sample.size.shape
