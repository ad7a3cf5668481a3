"""Every family on a tiny file: its kind, its manifest, batches, opsets, half precision, weights outside, refusals."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from click.testing import CliRunner, Result

import featherpose
from featherpose import examples, images
from featherpose.cli import featherpose as command_line
from featherpose.errors import FeatherposeError, InputError, ModelError
from featherpose.foreign.adopt import adopt, nearest_family
from featherpose.foreign.families import FAMILIES
from featherpose.foreign.original import prefixed, read_original
from featherpose.formats import native
from featherpose.formats.outputs import FORMATS
from featherpose.manifest import Manifest, PoseManifest, read_manifest
from featherpose.runtime.estimator import Estimator
from featherpose.runtime.session import Session
from featherpose.size import Size
from featherpose.skeleton import COCO17, HALPE26, SKELETONS
from tests.foreign import tiny
from tests.foreign.tiny import Output

SQUARE = Size(height=64, width=64)


@dataclass(frozen=True)
class Case:
    """A tiny file and how it is adopted."""

    family: str
    kind: str
    write: Callable[..., Path]
    changes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    input_size: Size | None = None

    def adopt(self, folder: Path) -> tuple[Path, Manifest]:
        file = self.write(folder / "m.onnx", **self.changes)
        return adopt(file, self.family, options=self.options, input_size=self.input_size)


CASES = {
    "rtmpose": Case("rtmpose", "pose", tiny.simcc),
    "rtmpose, batch of 1": Case("rtmpose", "pose", tiny.simcc, {"change": tiny.one_inside}),
    "heatmap": Case("heatmap", "pose", tiny.heatmaps),
    "heatmap, dark": Case("heatmap", "pose", tiny.heatmaps, {}, {"decoding": "dark", "kernel": 3}),
    "heatmap, udp": Case("heatmap", "pose", tiny.heatmaps, {"shape": ("b", 3, 64, 48)}, {"decoding": "udp"}),
    "movenet": Case("movenet", "pose", tiny.movenet),
    "yolo-pose, raw": Case("yolo-pose", "poses", tiny.yolo_pose),
    "yolo-pose, nms": Case("yolo-pose", "poses", tiny.yolo_pose, {"nms": True}),
    "rtmo": Case("rtmo", "poses", tiny.rtmo),
    "rtmdet": Case("rtmdet", "detector", tiny.rtmdet, {}, {}, SQUARE),
    "rtmdet, six maps": Case("rtmdet", "detector", tiny.rtmdet_maps),
    "rtmdet, three maps": Case("rtmdet", "detector", tiny.rtmdet_maps, {"joined": True}),
    "yolox": Case("yolox", "detector", tiny.yolox),
    "picodet": Case("picodet", "detector", tiny.picodet),
    "picodet, anchors first": Case("picodet", "detector", tiny.picodet, {"anchors_first": True}),
    "picodet, nms": Case("picodet", "detector", tiny.picodet_nms),
    "nanodet": Case("nanodet", "detector", tiny.nanodet),
    "nanodet, plus": Case("nanodet", "detector", tiny.nanodet_plus),
    "torchvision": Case("boxes-scores-labels", "detector", tiny.torchvision),
    "rt-detr": Case("boxes-scores-labels", "detector", tiny.rt_detr, {}, {"person": 0}),
    "rf-detr": Case("boxes-scores-labels", "detector", tiny.rf_detr, {}, {"resize": "letterbox"}),
}


def test_every_family_has_a_tiny_file():
    assert {case.family for case in CASES.values()} == set(FAMILIES)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_adopted_file_is_of_its_kind(case: Case, tmp_path: Path):
    out, manifest = case.adopt(tmp_path)
    assert (out.name, manifest.kind) == ("m.featherpose.onnx", case.kind)
    assert read_manifest(out) == manifest  # as JSON, too
    digest = hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert manifest.training == {"source": "m.onnx", "sha256": digest, "terms": []}
    assert manifest.parity["jumps"] == [] and manifest.parity["compared"] > 0
    session = Session.open(out, "cpu", 1)
    sides = manifest.sizes
    black = np.zeros((3 if case.kind == "pose" else 1, sides["H"], sides["W"], 3), np.uint8)
    outputs = session.run(black)
    assert set(outputs) == {output.name for output in manifest.outputs}
    assert all(len(value) == len(outputs["scores"]) for value in outputs.values())
    onnx.checker.check_model(str(out))


@pytest.mark.parametrize("name", ["heatmap, dark", "rtmpose", "rtmpose, batch of 1"])
def test_batch_equals_one_crop_at_a_time(name: str, tmp_path: Path):
    """Of a file for one crop, declared or not, which becomes the body of a loop, and of one for batches."""
    out, manifest = CASES[name].adopt(tmp_path)
    session = Session.open(out, "cpu", 1)
    crops = np.random.default_rng(1).integers(0, 256, (5, 64, 48, 3), np.uint8)
    together = session.run(crops)
    alone = [session.run(crop[None]) for crop in crops]
    for output, values in together.items():
        np.testing.assert_allclose(values, np.concatenate([one[output] for one in alone]), atol=1e-4)
    assert session.run(crops[:0])["keypoints"].shape == (0, 17, 2)
    assert ("heatmaps" in together) == (isinstance(manifest, PoseManifest) and manifest.codec is not None)


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
@pytest.mark.parametrize("name", ["heatmap, dark", "yolox", "nanodet", "rf-detr"])
def test_opsets_from_11_to_21_are_adopted(name: str, opset: int, tmp_path: Path):
    case = CASES[name]
    file = case.write(tmp_path / "m.onnx", opset=opset, ir_version=10 if opset == 21 else 6)
    out, _ = adopt(file, case.family, options=case.options)
    assert onnx.load(str(out)).opset_import[0].version == opset


def test_old_file_with_weights_as_inputs_is_converted(tmp_path: Path):
    """Opset 8 and IR 3, as MXNet wrote Ultralight-SimplePose."""
    file = tiny.heatmaps(tmp_path / "m.onnx", opset=8, ir_version=3)
    out, _ = adopt(file, "heatmap")
    assert onnx.load(str(out)).opset_import[0].version == 17


@pytest.mark.parametrize("name", ["rtmpose", "heatmap", "rtmdet", "yolo-pose, raw"])
def test_half_precision_with_float16_ends(name: str, tmp_path: Path):
    case = CASES[name]
    file = case.write(tmp_path / "m.onnx", dtype="float16", weights="float16")
    out, manifest = adopt(file, case.family, options=case.options, input_size=case.input_size)
    assert manifest.parity["scores"] < 1e-3
    assert {output.type.tensor_type.elem_type for output in onnx.load(str(out)).graph.output} == {1}


def test_half_precision_is_rounded_where_the_original_is(tmp_path: Path):
    """Of a file whose last operator computes, so that onnxruntime could leave the rounding out."""

    def scale_last(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.99, np.float16), "factor"))
        for output in graph.output:
            (last,) = [node for node in graph.node if output.name in node.output]
            last.output[:] = [f"{output.name}/unscaled"]
            graph.node.append(onnx.helper.make_node("Mul", [f"{output.name}/unscaled", "factor"], [output.name]))

    file = tiny.rtmo(tmp_path / "m.onnx", dtype="float16", weights="float16", change=scale_last)
    _, manifest = adopt(file, "rtmo")
    assert max(manifest.parity[name] for name in ("boxes", "keypoints", "scores")) < 1e-6


def test_weights_in_another_file_are_taken_in(tmp_path: Path):
    file = tiny.yolox(tmp_path / "m.onnx", external=True)
    out, _ = adopt(file, "yolox")
    (tmp_path / "m.onnx.data").unlink()
    (tmp_path / "m.onnx").unlink()
    assert Session.open(out, "cpu", 1).manifest.network == "m"


def test_names_in_inner_graphs_are_renamed():
    """An inner graph reads values of the graph around it, so that both get the prefix."""
    text = """
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (bool[1] c, float[2] boxes) => (float[2] scores) {
            scores = If (c) <then_branch = g1 () => (float[2] y) { y = Neg (boxes) },
                             else_branch = g2 () => (float[2] z) { z = Identity (boxes) }>
        }
    """
    renamed = onnx.parser.parse_model(text)
    renamed.graph.CopyFrom(prefixed(renamed.graph))
    onnx.checker.check_model(renamed)
    branch = renamed.graph.node[0].attribute[0].g
    assert list(branch.node[0].input) == ["original/boxes"] and branch.output[0].name.startswith("original/")


@pytest.mark.parametrize("name", ["halpe26", "wholebody133"])
def test_rtmpose_of_more_keypoints(name: str, tmp_path: Path):
    skeleton = SKELETONS[name]
    file = tiny.simcc(tmp_path / "m.onnx", keypoints=skeleton.num_keypoints)
    out, _ = featherpose.adopt(file, "rtmpose", skeleton=name, license="Apache-2.0")
    manifest = read_manifest(out)
    assert isinstance(manifest, PoseManifest) and manifest.skeleton == skeleton
    assert manifest.training["terms"] == ["Apache-2.0"]
    report = featherpose.predict(
        [examples.find("collins.jpg")], whole_image=True, model=out, out=tmp_path / "out", device="cpu"
    )
    assert (tmp_path / "out/collins.jpg").is_file() and report.failures == []
    poses = native.read_file(tmp_path / "out/poses.json")
    assert poses["collins.jpg"].keypoints.shape == (1, skeleton.num_keypoints, 2)
    found = poses["collins.jpg"]
    sizes = {"collins.jpg": found.image_size or SQUARE}
    inside = ((found.keypoints >= 0) & (found.keypoints < sizes["collins.jpg"].xy)).all(axis=2)
    for known in FORMATS.values():
        known.write(tmp_path, poses, skeleton)
        again = known.read(tmp_path, skeleton, sizes)["collins.jpg"]
        np.testing.assert_allclose(again.keypoints[inside], found.keypoints[inside], atol=0.01)


def run(*words: object) -> Result:
    return CliRunner().invoke(command_line, [str(word) for word in words], catch_exceptions=False)


def labeled_example(folder: Path) -> Path:
    """The example image of three people, labeled with their boxes and made-up keypoints, as a COCO file."""
    image = images.read(examples.find("people.jpg"))
    images.write(folder / "people.jpg", image)
    corners = json.loads(examples.find("boxes.json").read_text())["people.jpg"]
    rows = [(left, top, right - left, bottom - top) for left, top, right, bottom in corners]
    people = [
        {
            **{"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17},
            **{"bbox": box, "area": box[2] * box[3], "keypoints": [box[0] + 9, box[1] + 9, 2] * 17},
        }
        for number, box in enumerate(rows, 1)
    ]
    truth = {
        "images": [{"id": 1, "file_name": "people.jpg", "height": image.shape[0], "width": image.shape[1]}],
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoint_names)}],
    }
    (folder / "labels.json").write_text(json.dumps(truth))
    return folder / "labels.json"


def test_adopted_files_run_in_every_command(tmp_path: Path):
    """A detector and a pose file together: predict, evaluate with detected boxes, benchmark, and the original file."""
    pose_file, _ = adopt(tiny.simcc(tmp_path / "p.onnx"), "rtmpose")
    box_file, _ = adopt(tiny.yolox(tmp_path / "d.onnx"), "yolox")
    labels = labeled_example(tmp_path)

    words = ("--model", pose_file, "--detector", box_file, "--device", "cpu")
    done = run("predict", tmp_path / "people.jpg", *words, "--out", tmp_path / "out", "--no-draw")
    (poses,) = native.read_file(tmp_path / "out/poses.json").values()
    assert (done.exit_code, len(poses) > 0) == (0, True)
    assert (poses.box_scores >= 0.3).all()

    done = run("evaluate", "--data", labels, "--boxes", "detector", *words, "--json")
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert facts["num_images"] == 1
    assert {"gt_scores", "difference"} < set(facts)

    done = run("benchmark", "latency", pose_file, box_file, tmp_path / "d.onnx", "--seconds", 0, "--json")
    assert [line["kind"] for line in json.loads(done.stdout)] == ["pose", "detector", ""]


@pytest.mark.parametrize("options", [{"flip_test": True}, {"blur_kernel": 11}], ids=["flip test", "Gaussian filter"])
def test_options_that_need_heatmaps_are_refused(options: dict[str, Any], tmp_path: Path):
    out, _ = adopt(tiny.simcc(tmp_path / "m.onnx"), "rtmpose")
    (name,) = options
    with pytest.raises(InputError, match=f"gives keypoints without heatmaps, which {name} needs"):
        Estimator.open(out, "cpu", 1, **options)


def test_flip_test_runs_on_adopted_heatmaps(tmp_path: Path):
    out, _ = adopt(tiny.heatmaps(tmp_path / "m.onnx"), "heatmap")
    image = images.read(examples.find("collins.jpg"))
    assert len(Estimator.open(out, "cpu", 1, flip_test=True)(image, whole_image=True)) == 1


def garbage(path: Path, **_: Any) -> Path:
    path.write_bytes(b"this is no protobuf \xff\xff" * 9)
    return path


def empty(path: Path, **_: Any) -> Path:
    path.write_bytes(b"")
    return path


def missing(path: Path, **_: Any) -> Path:
    return path


def without_its_data(path: Path, **_: Any) -> Path:
    tiny.yolox(path, external=True)
    path.with_name(f"{path.name}.data").unlink()
    return path


def classifier(path: Path, **_: Any) -> Path:
    return tiny.tiny_file(path, [Output("logits", np.zeros((1, 1000), np.float32))], shape=(1, 3, 224, 224))


def maps_of_text(path: Path, **_: Any) -> Path:
    return tiny.tiny_file(path, [Output("output", np.zeros((1, 17, 7, 5), np.float32))], shape=(1, 3, 64, 48))


BAD = [
    ("no such file", missing, "yolox", {}, r"m\.onnx: no such file"),
    ("empty", empty, "yolox", {}, "not an ONNX file"),
    ("no ONNX file", garbage, "yolox", {}, "not an ONNX file"),
    ("weights missing", without_its_data, "yolox", {}, "its weights lie in another file, which cannot be read"),
    ("family misspelled", tiny.yolox, "yolx", {}, r"no family 'yolx'\. Did you mean 'yolox'"),
    ("option misspelled", tiny.yolox, "yolox", {"options": {"chanels": "rgb"}}, "Did you mean 'channels'"),
    ("word misspelled", tiny.yolox, "yolox", {"options": {"channels": "rbg"}}, r"channels of yolox is 'rbg'\. Did you"),
    ("mean of one number", tiny.yolox, "yolox", {"options": {"mean": 0.5}}, r"is 0\.5, wanted three numbers"),
    ("text for a number", tiny.yolox, "yolox", {"options": {"iou": "x"}}, r"iou of yolox is 'x', wanted a value such"),
    ("true for a number", tiny.yolox, "yolox", {"options": {"conf": True}}, "conf of yolox is True, wanted"),
    ("threshold above 1", tiny.yolox, "yolox", {"options": {"conf": 3}}, r"conf is 3\.0, wanted a score from 0 to 1"),
    ("even kernel", tiny.heatmaps, "heatmap", {"options": {"kernel": 4}}, "kernel is 4, wanted an odd number"),
    ("of another family", tiny.yolox, "rtmpose", {}, r"images float32 \(1, 3, 64, 64\).*Nearest family: yolox"),
    ("of no family", classifier, "heatmap", {}, r"this one has images .* -> logits float32 \(1, 1000\)\. Nearest"),
    ("boxes as heatmaps", tiny.yolo_pose, "heatmap", {}, "wanted an output .* Nearest family: yolo-pose"),
    ("odd heatmaps", maps_of_text, "heatmap", {}, "heatmaps of 7x5 cells do not cover an input of 64x48"),
    ("class missing", tiny.nanodet, "nanodet", {"options": {"person": 80}}, "its 80 classes have no label 80"),
    ("rows of another stride", tiny.yolox, "nanodet", {"changes": {"shape": (1, 3, 96, 96)}}, "wanted one output"),
    ("second class missing", tiny.picodet, "picodet", {"options": {"person": 1}}, r"wanted an output of rows \(n, 6\)"),
    ("rows of another size", tiny.rf_detr, "yolox", {}, "wanted an output .*84, 5"),
    ("any size", tiny.rtmdet, "rtmdet", {}, "takes inputs of any size; give .* as input_size"),
    ("not a square", tiny.rtmdet, "rtmdet", {"input_size": Size(height=64, width=96)}, "wanted a square"),
    (
        "another size",
        tiny.yolox,
        "yolox",
        {"input_size": Size(height=96, width=96)},
        "takes inputs of 64x64, not of 96",
    ),
    ("batch of 8", tiny.simcc, "rtmpose", {"changes": {"shape": (8, 3, 64, 48)}}, "takes 8 images at a time"),
    ("split ratio", tiny.simcc, "rtmpose", {"options": {"split_ratio": 1}}, "96 and 128 bins .* split_ratio 1"),
    ("more keypoints", tiny.simcc, "rtmpose", {"changes": {"keypoints": 26}}, "26 keypoints, .* such as halpe26"),
    ("fewer keypoints", tiny.simcc, "rtmpose", {"skeleton": HALPE26}, "17 keypoints, but skeleton 'halpe26' has 26"),
    (
        "no keypoints of x, y, conf",
        tiny.yolo_pose,
        "yolo-pose",
        {"skeleton": HALPE26},
        r"kpt_shape is \[17, 3\] in its metadata, wanted \[26, 3\]",
    ),
    ("newest opset", tiny.yolox, "yolox", {"changes": {"opset": 22, "ir_version": 10}}, "opset 22, wanted 21 or older"),
    ("not named .onnx", tiny.yolox, "yolox", {"out": "m.pt"}, r"must be named \*\.onnx"),
    ("onto the original", tiny.yolox, "yolox", {"out": "m.onnx"}, "would replace the original"),
    ("out is a folder", tiny.yolox, "yolox", {"out": "f.onnx"}, "is a folder"),
]


@pytest.mark.parametrize(("write", "family", "how", "message"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_bad_file_is_refused_in_one_line(
    write: Callable[..., Path], family: str, how: dict[str, Any], message: str, tmp_path: Path
):
    how = dict(how)
    (tmp_path / "f.onnx").mkdir()
    file = write(tmp_path / "m.onnx", **how.pop("changes", {}))
    before = sorted(tmp_path.iterdir())
    out = tmp_path / how.pop("out", "out.onnx")
    with pytest.raises(FeatherposeError) as error:
        adopt(file, family, out, **how)
    assert re.search(message, str(error.value)) and "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_nearest_family_is_the_right_one(case: Case, tmp_path: Path):
    assert nearest_family(read_original(case.write(tmp_path / "m.onnx", **case.changes))) == case.family


def test_nobody_found_is_no_proof(tmp_path: Path):
    rows = np.zeros((1, 84, 85), np.float32)
    file = tiny.tiny_file(tmp_path / "m.onnx", [Output("output", rows)], opset=11)
    with pytest.raises(ModelError, match="finds nobody in the example images: nothing to compare"):
        adopt(file, "yolox")


@pytest.mark.parametrize("family", FAMILIES)
def test_documentation_has_every_family_and_option(family: str):
    text = (Path(__file__).parents[2] / "docs/adopt.md").read_text(encoding="utf-8")
    section = text.split(f"\n## `{family}`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*) \|$", section, re.MULTILINE)
    options = fields(FAMILIES[family].options)
    wanted = [(o.name, json.dumps(o.default).strip('"'), o.metadata["sentence"]) for o in options]
    assert rows == wanted
    assert section.strip().startswith(FAMILIES[family].sentence)


def test_command_prints_the_proof(tmp_path: Path):
    file = tiny.yolox(tmp_path / "yolox_tiny.onnx")
    words = ["adopt", str(file), "--as", "yolox", "--option", "conf=0.5", "--license", "Apache-2.0"]
    done = CliRunner().invoke(command_line, words)
    assert done.exit_code == 0, done.output
    assert "boxes" in done.stdout and "px, allowed 0.5" in done.stdout and "kind detector" in done.stdout
    done = CliRunner().invoke(command_line, [*words, "--json"])
    facts = json.loads(done.stdout)
    assert facts["manifest"]["conf"] == 0.5 and facts["file"].endswith("yolox_tiny.featherpose.onnx")
    assert facts["manifest"]["options"]["family"] == "yolox"


def test_help_names_every_family():
    text = CliRunner().invoke(command_line, ["adopt", "--help"]).output
    assert all(family in text for family in FAMILIES)
