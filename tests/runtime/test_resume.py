"""A second run skips what is done and unchanged, and gives the same file as one run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose import images
from featherpose.api import predict
from featherpose.formats.outputs import FORMATS
from featherpose.runtime import predict as predict_file
from featherpose.runtime import results
from featherpose.runtime.predict import Report
from featherpose.skeleton import LSP14
from tests.runtime.test_predict import image_file
from tests.tiny_model import tiny_manifest, tiny_model

pytest.importorskip("onnx")

Run = Callable[..., tuple[Report, list[str]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Predicts poses in four images -> the report, and the names of the images that were read."""
    tiny_model(tmp_path / "tiny.onnx")
    (tmp_path / "in").mkdir()
    for index in range(4):
        # Random blocks: the scores of red, green and blue keypoints are not round, and rounding them twice shows.
        blocks = np.random.default_rng(index).integers(0, 256, (5, 4, 3), np.uint8)
        images.write(tmp_path / f"in/{index}.jpg", np.kron(blocks, np.ones((16, 15, 1), np.uint8)))
    done: list[str] = []
    read = images.read

    def recorded(path: Path, **options: Any) -> np.ndarray:
        done.append(path.name)
        return read(path, **options)

    monkeypatch.setattr(predict_file.images, "read", recorded)

    def call(**options: Any) -> tuple[Report, list[str]]:
        done.clear()
        defaults = {"model": tmp_path / "tiny.onnx", "whole_image": True, "out": tmp_path / "out", "device": "cpu"}
        report = predict([tmp_path / "in"], **defaults | options)
        return report, list(done)

    return call


ALL = ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def touched(folder: Path) -> None:
    facts = (folder / "in/2.jpg").stat()
    os.utime(folder / "in/2.jpg", ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))


def with_record(folder: Path, **changes: Any) -> None:
    record = folder / "out/.poses.run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))


CHANGES: list[tuple[str, Callable[[Path], Any], list[str]]] = [
    ("nothing", lambda folder: None, []),
    ("an image", lambda folder: image_file(folder / "in/1.jpg", (0, 0, 255)), ["1.jpg"]),
    ("the time of an image", touched, ["2.jpg"]),
    ("a new image", lambda folder: image_file(folder / "in/1b.jpg"), ["1b.jpg"]),
    ("an image is missing", lambda folder: (folder / "in/1.jpg").unlink(), []),
    ("a drawn image is missing", lambda folder: (folder / "out/3.jpg").unlink(), ["3.jpg"]),
    ("another model", lambda folder: tiny_model(folder / "tiny.onnx", tiny_manifest(padding=1.0)), ALL),
    ("another skeleton", lambda folder: tiny_model(folder / "tiny.onnx", tiny_manifest(skeleton=LSP14)), ALL),
    ("poses.json", lambda folder: (folder / "out/poses.json").write_text("{}"), ALL),
    ("no poses.json", lambda folder: (folder / "out/poses.json").unlink(), ALL),
    ("no record", lambda folder: (folder / "out/.poses.run.json").unlink(), ALL),
    ("record is no JSON", lambda folder: (folder / "out/.poses.run.json").write_text("{"), ALL),
    ("record of another kind", lambda folder: (folder / "out/.poses.run.json").write_text("[]"), ALL),
    ("another version", lambda folder: with_record(folder, settings={}), ALL),
    ("record names images otherwise", lambda folder: with_record(folder, images={"0.jpg": 1}), ALL),
]


@pytest.mark.parametrize(("change", "redone"), [pytest.param(*row[1:], id=row[0]) for row in CHANGES])
def test_changed_images_are_done_again(
    run: Run, tmp_path: Path, change: Callable[[Path], Any], redone: list[str]
) -> None:
    run()
    change(tmp_path)
    report, done = run()
    assert done == redone
    content = report.json_file.read_bytes()
    assert list(report.poses) == [entry["image"] for entry in json.loads(content)["images"]]
    assert list(report.poses) == sorted(path.name for path in (tmp_path / "in").iterdir())
    assert report.num_resumed == len(report.poses) - len(redone)
    assert run(overwrite=True)[0].json_file.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "redone"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"max_megapixels": 1}, [], id="limit of pixels"),
        pytest.param({"save": ["csv", "jsonl"]}, [], id="other formats"),
        pytest.param({"overwrite": True}, ALL, id="overwrite"),
        pytest.param({"flip_test": True}, ALL, id="flip test"),
        pytest.param({"refine": True}, ALL, id="refine"),
        pytest.param({"score_threshold": 0.5}, ALL, id="drawn otherwise"),
        pytest.param({"draw_boxes": True}, ALL, id="boxes drawn"),
        pytest.param({"draw_ids": True}, ALL, id="ids drawn"),
        pytest.param({"draw_images": False}, ALL, id="not drawn"),
        pytest.param({"json_file": "other.json"}, ALL, id="another file"),
        pytest.param({"shard": "1/1"}, ALL, id="shard"),
        pytest.param({"whole_image": False, "boxes": {f"{i}.jpg": [] for i in range(4)}}, ALL, id="boxes"),
    ],
)
def test_other_options_do_all_again(
    run: Run, options: dict[str, Any], redone: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run()
    assert run(**options)[1] == redone
    assert run(**options | {"overwrite": False})[1] == []


def files_in(folder: Path) -> dict[str, bytes]:
    """Content by name of all files with poses."""
    paths = [path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".csv", ".txt", ".yaml")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name[0] != "."}


def test_interrupted_run_is_resumed_to_the_same_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(out=tmp_path / "whole", save=list(FORMATS))
    read = predict_file.images.read

    def interrupted(path: Path, **options: Any) -> np.ndarray:
        if path.name == "2.jpg":
            raise KeyboardInterrupt
        return read(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(predict_file.images, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(save=list(FORMATS))
    assert len((tmp_path / "out/poses.jsonl").read_text().splitlines()) == 3, "an interrupt leaves all formats"
    assert run(save=list(FORMATS))[1] == ["2.jpg", "3.jpg"]
    assert len(files_in(tmp_path / "whole")) == 4 + 2 * 4 + 1
    assert files_in(tmp_path / "out") == files_in(tmp_path / "whole")


def test_results_are_written_during_a_long_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed run leaves: here the file is looked at before each image."""
    monkeypatch.setattr(results, "WRITE_SECONDS", 0.0)
    counts: list[int] = []

    def look(done: int, total: int) -> None:
        path = tmp_path / "out/poses.json"
        counts.append(len(json.loads(path.read_text())["images"]) if path.exists() else 0)

    monkeypatch.setattr("featherpose.runtime.results.time.monotonic", lambda: 0.0)
    run(progress=look)
    assert counts == [0, 1, 2, 3, 4]


def test_failed_images_are_tried_again(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in/1.jpg").write_bytes(b"no image")
    assert len(run()[0].failures) == 1
    report, done = run()
    assert done == ["1.jpg"] and len(report.failures) == 1
    image_file(tmp_path / "in/1.jpg")
    assert run()[1] == ["1.jpg"] and run()[1] == []
