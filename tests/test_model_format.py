"""docs/model-format.md: its example gives featherpose's keypoints without featherpose, its schema is the manifest's."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from jsonschema import Draft202012Validator

import featherpose
from featherpose import examples, weights
from featherpose.codecs import CODECS
from featherpose.crop import MODES
from featherpose.errors import ModelError
from featherpose.kinds import KINDS, POSE, Kind
from featherpose.letterbox import Fit
from featherpose.manifest import MANIFESTS, VERSION, Manifest, PoseManifest
from featherpose.size import Size
from featherpose.skeleton import Skeleton
from tests.test_manifest import BAD, EXAMPLES
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_manifest, tiny_model

TEXT = (Path(__file__).parents[1] / "docs/model-format.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)
EXAMPLE = next(block for language, block in BLOCKS if language == "python")
SCHEMA: Any = Draft202012Validator(json.loads(next(block for language, block in BLOCKS if language == "json")))
DEFINITIONS = SCHEMA.schema["$defs"]
POSE_FIELDS = DEFINITIONS["pose"]["properties"]
PRINTED = next(block for _, block in BLOCKS if block.startswith("nose "))

MODEL = weights.find("feather_pose-192x128")
IMAGE = examples.find("people.jpg")
BOXES = [[17, 11, 349, 479], [484, 56, 794, 479], [968, 16, 1369, 479]]
# The example and featherpose start the region at different multiples of the step, so a few crop values are rounded to
# the other gray level. Measured on these boxes: 0.05 px (0.015 px for scores above 0.3) and 0.0002; printing rounds to
# 0.005 px and 0.0005. An error of half an image pixel is 0.5 px; BGR or no averaging moves a keypoint by over 9 px.
PIXELS, SCORE = 0.2, 0.002


def printed_keypoints(text: str) -> tuple[list[str], np.ndarray]:
    """Lines of the example's output -> keypoint names, and (K, 3) x, y, score."""
    rows = [line.rsplit(maxsplit=3) for line in text.splitlines() if line != "..."]
    return [name for name, *_ in rows], np.array([row[1:] for row in rows], np.float64)


def run_example(model: Path, box: list[int]) -> tuple[list[str], np.ndarray]:
    code = "import sys; sys.modules['featherpose'] = None\n" + EXAMPLE
    command = [sys.executable, "-W", "error", "-c", code, str(model), str(IMAGE), *map(str, box)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return printed_keypoints(done.stdout)


def assert_equals_featherpose(model: Path, box: list[int]) -> None:
    names, found = run_example(model, box)
    poses = featherpose.estimate(IMAGE, boxes=[box], model=model, device="cpu")
    assert names == list(poses.skeleton.keypoint_names)
    np.testing.assert_allclose(found[:, :2], poses.keypoints[0], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(found[:, 2], poses.scores[0], rtol=0, atol=SCORE)


@pytest.mark.parametrize("box", BOXES, ids=["left", "middle", "right"])
def test_example_equals_featherpose(box: list[int]):
    assert_equals_featherpose(MODEL, box)


def test_example_equals_featherpose_in_udp(tmp_path: Path):
    pytest.importorskip("onnx")
    model = tiny_model(tmp_path / "udp.onnx", tiny_manifest(codec={"name": "udp"}, crop_mode="udp"))
    assert_equals_featherpose(model, BOXES[0])


def test_example_prints_the_documented_lines():
    command = f"{MODEL.name} {IMAGE.name} {' '.join(map(str, BOXES[0]))}"
    assert command in TEXT
    (names, wanted), (_, found) = printed_keypoints(PRINTED), run_example(MODEL, BOXES[0])
    np.testing.assert_allclose(found[: len(names), :2], wanted[:, :2], rtol=0, atol=0.5)  # JPEG decoders differ, too


def test_example_refuses_another_version(tmp_path: Path):
    pytest.importorskip("onnx")
    text = tiny_manifest().to_json().replace(f'"version": {VERSION}', f'"version": {VERSION + 1}')
    with pytest.raises(AssertionError, match=f"has manifest version {VERSION + 1}"):
        run_example(tiny_model(tmp_path / "new.onnx", metadata=text), BOXES[0])


def test_graph_is_the_documented_one():
    session: Any = onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])
    sizes = {"H": 192, "W": 128, "K": 17, "h": 48, "w": 32}
    declared = [(tensor.name, tensor.dtype, tensor.shape_of(sizes)) for tensor in (POSE.input, *POSE.outputs)]
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    nodes = [*session.get_inputs(), *session.get_outputs()]
    assert declared == [(node.name, types[node.type], node.shape) for node in nodes]
    assert list(session.get_modelmeta().custom_metadata_map) == ["featherpose"]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_documented_tables_are_those_of_the_kinds(kind: Kind):
    section = TEXT.split(f"## Input and outputs of kind `{kind.name}`\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (input|output) \| (\w+) \| \((.*?)\)", section, re.MULTILINE)
    tensors = [("input", kind.input), *(("output", output) for output in kind.outputs)]
    assert rows == [(t.name, side, t.dtype, ", ".join(map(str, t.shape))) for side, t in tensors]


def test_example_refuses_other_kinds(tmp_path: Path):
    pytest.importorskip("onnx")
    with pytest.raises(AssertionError, match="is a model of kind detector, this program runs kind pose"):
        run_example(tiny_image_model(tmp_path / "m.onnx", tiny_image_manifest("detector")), BOXES[0])


def names_of(cls: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


@pytest.mark.parametrize(("kind", "manifest"), MANIFESTS.items(), ids=MANIFESTS)
def test_schema_has_the_fields_of_every_kind(kind: str, manifest: type[Manifest]):
    common = SCHEMA.schema["properties"]
    own = DEFINITIONS[kind]["properties"]
    assert set(common) == set(SCHEMA.schema["required"]) == names_of(Manifest) | {"kind"}
    assert set(own) - {"kind"} == names_of(manifest) - names_of(Manifest)
    assert set(DEFINITIONS[kind]["required"]) == set(own) - {"kind"} - manifest.added
    assert own["kind"]["const"] == kind
    for field in (*common.values(), *own.values()):
        shared = DEFINITIONS.get(field.get("$ref", "").removeprefix("#/$defs/"), {})
        assert "description" in field | shared or "const" in field


def test_schema_has_the_values_of_the_manifest():
    assert SCHEMA.schema["properties"]["version"]["const"] == VERSION
    assert [entry["$ref"].removeprefix("#/$defs/") for entry in SCHEMA.schema["oneOf"]] == list(KINDS)
    assert set(DEFINITIONS["skeleton"]["properties"]) == names_of(Skeleton)
    letterbox = {name: field["default"] for name, field in DEFINITIONS["letterbox"]["properties"].items()}
    assert letterbox == dataclasses.asdict(Fit())
    assert POSE_FIELDS["antialias"]["default"] is PoseManifest.antialias
    assert set(POSE_FIELDS["input_size"]["properties"]) == names_of(Size)
    assert POSE_FIELDS["crop_mode"]["enum"] == list(MODES)
    parameters = set().union(*map(names_of, CODECS.values())) - {"size"}
    assert set(POSE_FIELDS["codec"]["properties"]) == {"name", *parameters}
    assert POSE_FIELDS["codec"]["properties"]["name"]["enum"] == list(CODECS)


def test_schema_has_the_defaults_of_the_codecs():
    parameters = POSE_FIELDS["codec"]["properties"]
    for codec in CODECS.values():
        for field in dataclasses.fields(codec):
            assert field.name == "size" or parameters[field.name]["default"] == field.default


@pytest.mark.parametrize("name", weights.shipped())
def test_schema_accepts_shipped_manifests(name: str):
    session: Any = onnxruntime.InferenceSession(str(weights.find(name)), providers=["CPUExecutionProvider"])
    assert SCHEMA.is_valid(json.loads(session.get_modelmeta().custom_metadata_map["featherpose"]))


@pytest.mark.parametrize(
    "manifest",
    [
        tiny_manifest(),
        tiny_manifest(codec={"name": "msra"}),
        tiny_manifest(codec={"name": "dark", "sigma": 3.0}),
        tiny_manifest(codec={"name": "udp"}, crop_mode="udp"),
    ],
    ids=["msra", "without parameters", "dark", "udp"],
)
def test_schema_accepts_every_codec(manifest: PoseManifest):
    assert SCHEMA.is_valid(json.loads(manifest.to_json()))


@pytest.mark.parametrize("manifest", EXAMPLES.values(), ids=EXAMPLES)
def test_schema_accepts_every_kind(manifest: Manifest):
    assert SCHEMA.is_valid(json.loads(manifest.to_json()))


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text, _ in BAD if name != "not JSON"])
def test_schema_refuses_invalid_manifests(text: str):
    with pytest.raises(ModelError):
        Manifest.from_json(text)
    assert not SCHEMA.is_valid(json.loads(text))
