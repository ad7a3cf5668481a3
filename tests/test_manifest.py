import json

import numpy as np
import pytest

from featherpose.codecs.heatmap import Dark, Msra, Udp
from featherpose.errors import ModelError
from featherpose.kinds import KINDS
from featherpose.letterbox import Fit
from featherpose.manifest import (
    MANIFESTS,
    VERSION,
    DetectorManifest,
    Manifest,
    PoseManifest,
    of_kind,
    read_manifest,
)
from featherpose.size import Size
from featherpose.skeleton import COCO17, MPII16
from tests.tiny_model import SIZE, tiny_image_manifest, tiny_manifest, tiny_model

LARGE = Size(height=256, width=192)

FULL = tiny_manifest(
    options={"width": 40},
    recipe={"name": "open", "sha256": "00ff"},
    training={"data": ["COCO"], "terms": "CC BY 4.0, \u00e9 \u4eba"},
    accuracy=({"data": "coco-test", "AP": 50.1},),
    parity={"heatmaps": 1e-6},
)


EXAMPLES = {
    "pose": tiny_manifest(),
    "full": FULL,
    "mpii": tiny_manifest(skeleton=MPII16, input_size=LARGE),
    "detector": tiny_image_manifest("detector"),
    "detector of a skeleton": tiny_image_manifest("detector", skeleton=COCO17),
    "poses": tiny_image_manifest("poses"),
    "bottom_up": tiny_image_manifest("bottom_up"),
    "without heatmaps": tiny_manifest(codec=None, antialias=False),
    "of another letterbox": tiny_image_manifest("detector", letterbox=Fit(shape="square", points="corners")),
}


@pytest.mark.parametrize("manifest", EXAMPLES.values(), ids=EXAMPLES)
def test_manifest_json_roundtrip(manifest):
    back = Manifest.from_json(manifest.to_json())
    assert back == manifest and back.to_json() == manifest.to_json()
    assert type(back) is MANIFESTS[manifest.kind] and isinstance(back.accuracy, tuple)


def test_every_kind_has_a_manifest():
    assert list(MANIFESTS) == list(KINDS)
    assert {kind: manifest.kind for kind, manifest in MANIFESTS.items()} == {kind: kind for kind in KINDS}


def test_fixed_sizes_are_those_of_the_file():
    assert tiny_manifest().sizes == {"H": 64, "W": 48, "K": 17, "h": 16, "w": 12}
    assert [EXAMPLES[kind].sizes for kind in ("detector", "poses", "bottom_up")] == [{}, {"K": 17}, {}]


def test_file_of_version_2_is_read_unchanged():
    """As featherpose 0.1 wrote it, with the keys in its order."""
    values = json.loads(FULL.to_json())
    order = "network skeleton input_size codec crop_mode padding options recipe training accuracy parity kind version"
    back = Manifest.from_json(json.dumps({key: values[key] for key in order.split()}))
    assert type(back) is PoseManifest and back == FULL and isinstance(back.input_size, Size)


def test_added_fields_are_written_where_they_differ():
    fields = [set(json.loads(EXAMPLES[name].to_json())) & {"antialias", "letterbox"} for name in EXAMPLES]
    assert [sorted(found) for found in fields] == [[]] * (len(EXAMPLES) - 2) + [["antialias"], ["letterbox"]]
    assert EXAMPLES["of another letterbox"].sizes == {"H": 96, "W": 96}
    with pytest.raises(ModelError, match="gives keypoints without heatmaps"):
        EXAMPLES["without heatmaps"].make_codec()


def test_codec_is_built_from_parameters():
    manifest = tiny_manifest(input_size=LARGE, codec={"name": "msra", "sigma": 3.0})
    assert manifest.make_codec() == Msra(LARGE, sigma=3.0)
    assert tiny_manifest(codec={"name": "msra"}).make_codec() == Msra(SIZE)
    assert tiny_manifest(codec={"name": "dark"}).make_codec() == Dark(SIZE)
    assert tiny_manifest(codec={"name": "udp", "sigma": 1.5}, crop_mode="udp").make_codec() == Udp(SIZE, sigma=1.5)


def test_the_sides_of_the_input_are_named_in_json():
    values = json.loads(tiny_manifest().to_json())
    assert (values["version"], values["input_size"]) == (2, {"height": 64, "width": 48})


def changed(**changes) -> str:
    return json.dumps(json.loads(FULL.to_json()) | changes)


def changed_skeleton(**changes) -> str:
    return changed(skeleton=json.loads(FULL.to_json())["skeleton"] | changes)


def of_image(kind: str, **changes) -> str:
    return json.dumps(json.loads(tiny_image_manifest(kind).to_json()) | changes)


def without(key: str) -> str:
    return json.dumps({k: v for k, v in json.loads(FULL.to_json()).items() if k != key})


BAD = [
    ("not JSON", "{", "is not JSON"),
    ("a list", "[]", "not a JSON object"),
    (
        "newer",
        changed(version=VERSION + 1),
        rf"version {VERSION + 1}, this featherpose reads version {VERSION}; type: pip",
    ),
    (
        "of version 1",
        changed(version=1, input_size=[48, 64]),
        rf"version 1, this featherpose reads version {VERSION}; .*export the model again",
    ),
    ("no version", without("version"), "version None"),
    ("missing key", without("padding"), "lacks padding"),
    ("unknown key", changed(paddding=1), r"unknown key 'paddding'\. Did you mean 'padding'"),
    ("kind", changed(kind="detektor"), r"kind 'detektor' is unknown\. Did you mean 'detector'"),
    ("no kind", without("kind"), "kind 'None' is unknown"),
    ("fields of another kind", changed(kind="detector"), r"lacks long_side, conf"),
    ("crop mode", changed(crop_mode="upd"), r"'upd' is unknown\. Did you mean 'udp'"),
    ("codec", changed(codec={"name": "mrsa"}), r"'mrsa' is unknown\. Did you mean 'msra'"),
    ("codec without a name", changed(codec={}), "codec 'None' is unknown"),
    ("codec's parameter", changed(codec={"name": "msra", "sigmma": 2}), "cannot be built"),
    (
        "codec with a size",
        changed(codec={"name": "msra", "size": {"height": 64, "width": 48}}),
        "cannot be built .*'size'",
    ),
    ("codec of another crop mode", changed(crop_mode="udp"), "does not fit .*crop_mode 'udp'"),
    ("crop mode of another codec", changed(codec={"name": "udp"}), "does not fit .*crop_mode 'msra'"),
    ("parameter of another codec", changed(codec={"name": "dark", "unbiased": True}), "cannot be built"),
    ("sides without names", changed(input_size=[48, 64]), "value of a wrong type"),
    ("three sides", changed(input_size={"height": 1, "width": 2, "depth": 3}), "value of a wrong type .*depth"),
    ("one side", changed(input_size={"height": 1}), "value of a wrong type .*width"),
    ("half pixels", changed(input_size={"height": 1.5, "width": 2}), r"height is 1\.5 and width is 2"),
    ("no pixels", changed(input_size={"height": 0, "width": 2}), "height is 0 and width is 2"),
    ("no sides", changed(input_size=7), "value of a wrong type"),
    ("padding", changed(padding=-1), "padding is -1"),
    ("padding", changed(padding="x"), "value of a wrong type"),
    ("skeleton", changed(skeleton={"name": "x"}), "value of a wrong type"),
    ("skeleton is text", changed(skeleton="coco17"), "value of a wrong type"),
    ("network", changed(network=5), r"wrong type \(network: 5\)"),
    ("options", changed(options=[1]), r"wrong type \(options: \[1\]\)"),
    ("recipe", changed(recipe=None), r"wrong type \(recipe: None\)"),
    ("padding is true", changed(padding=True), r"wrong type \(padding: True\)"),
    ("accuracy", changed(accuracy=["46.1"]), r"wrong type \(accuracy: \['46\.1'\]\)"),
    ("stride", changed(codec={"name": "msra", "stride": 0}), "stride is 0, wanted"),
    ("half a stride", changed(codec={"name": "msra", "stride": 2.5}), r"stride is 2\.5, wanted"),
    ("sigma", changed(codec={"name": "msra", "sigma": "x"}), "sigma is 'x', wanted"),
    ("pair of three", changed_skeleton(flip_pairs=[[1, 2, 3]]), r"\(1, 2, 3\) is not a pair of keypoint indices"),
    ("field of a detector", changed(long_side=640), "unknown key 'long_side'"),
    ("skeleton is null", changed(skeleton=None), r"wrong type \(skeleton: None\)"),
    ("antialias", changed(antialias=1), r"wrong type \(antialias: 1\)"),
    ("letterbox", of_image("detector", letterbox={"shape": "sqare"}), r"'sqare'\. Did you mean 'square'"),
    ("part of a letterbox", of_image("detector", letterbox={"size": 3}), "value of a wrong type .*size"),
    ("gray level", of_image("detector", letterbox={"border": 256}), "border of the letterbox is 256"),
    ("long side of a detector", of_image("detector", long_side=100), "long_side is 100, wanted a multiple of 32"),
    ("no long side", of_image("detector", long_side=0), "long_side is 0"),
    ("long side is text", of_image("detector", long_side="640"), r"wrong type \(long_side: '640'\)"),
    ("conf of a detector", of_image("detector", conf=30), "conf is 30, wanted a score from 0 to 1"),
    ("conf below zero", of_image("poses", conf=-0.1), r"conf is -0\.1"),
    ("padding of a detector", of_image("detector", padding=1.25), "unknown key 'padding'"),
    ("poses without a skeleton", of_image("poses", skeleton=None), r"wrong type \(skeleton: None\)"),
    ("codec without maps", of_image("bottom_up", codec={"name": "x"}), "maps of codec 'x' are None"),
    ("no maps", of_image("bottom_up", codec={"name": "x", "maps": []}), r"maps of codec 'x' are \[\]"),
    ("maps twice", of_image("bottom_up", codec={"name": "x", "maps": ["a", "a"]}), "wanted a list of different names"),
    ("maps are text", of_image("bottom_up", codec={"name": "x", "maps": "ab"}), "maps of codec 'x' are 'ab'"),
    ("nameless codec of maps", of_image("bottom_up", codec={"maps": ["a"]}), "has no name"),
    ("color", changed_skeleton(colors=[[9]] * len(COCO17.limbs)), r"\(9,\) is not three numbers"),
]


@pytest.mark.parametrize(("text", "message"), [pytest.param(*row[1:], id=row[0]) for row in BAD])
def test_invalid_manifests_raise(text, message, tmp_path):
    with pytest.raises(ModelError, match=message) as caught:
        Manifest.from_json(text)
    assert "\n" not in str(caught.value)
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: .*" + message):
        read_manifest(tiny_model(tmp_path / "m.onnx", metadata=text))


def test_model_of_another_kind_is_refused():
    assert of_kind(FULL, PoseManifest, "m.onnx") is FULL
    with pytest.raises(
        ModelError, match=r"^m\.onnx: tiny is a model of kind pose, wanted one of kind detector; choose another --d"
    ):
        of_kind(FULL, DetectorManifest, "m.onnx")


def test_manifest_is_read_without_engine(tmp_path):
    pytest.importorskip("onnx")
    assert read_manifest(tiny_model(tmp_path / "m.onnx", FULL)) == FULL
    assert read_manifest(str(tmp_path / "m.onnx")).skeleton == COCO17


def test_metadata_before_graph_is_found(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_model(tmp_path / "m.onnx", FULL))
    graph, metadata = onnx.ModelProto(), onnx.ModelProto()
    graph.CopyFrom(model)
    del graph.metadata_props[:]
    metadata.metadata_props.extend(model.metadata_props)
    (tmp_path / "m.onnx").write_bytes(metadata.SerializeToString() + graph.SerializeToString())
    assert read_manifest(tmp_path / "m.onnx") == FULL


def test_other_onnx_file_has_no_manifest(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match=r"m\.onnx: not a featherpose model: no manifest.*featherpose export"):
        read_manifest(tiny_model(tmp_path / "m.onnx", metadata=""))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"PK\x03\x04" + bytes(40), "not a complete ONNX file", id="zip"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + b"x" * 90, "not a complete ONNX file", id="png"),
        pytest.param(b"hello, this is text\n" * 9, "not a complete ONNX file", id="text"),
        pytest.param(bytes(64), "an invalid field at byte 0", id="zeros"),
        pytest.param(b"\xff" * 64, "an invalid number", id="ones"),
        pytest.param(b"\x08\x08", "it contains no graph", id="no graph"),
        pytest.param(b"\x3a\xff\xff\xff\xff\x7f", "bytes are missing at the end", id="huge length"),
        pytest.param(b"\x08", "ends in the middle of a number", id="half a field"),
    ],
)
def test_malformed_files_raise_in_one_line(tmp_path, data, message):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=rf"m\.onnx: .*{message}.*featherpose export") as caught:
        read_manifest(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_raise(tmp_path):
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read \(No such file"):
        read_manifest(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        read_manifest(tmp_path)


def test_damaged_file_raises_only_model_error(tmp_path):
    pytest.importorskip("onnx")
    whole = tiny_model(tmp_path / "m.onnx").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(0, len(data))] = rng.integers(0, 256)
        cut = bytes(data[: rng.integers(0, len(data))]) if rng.random() < 0.5 else bytes(data)
        (tmp_path / "d.onnx").write_bytes(cut)
        try:
            read_manifest(tmp_path / "d.onnx")
        except ModelError as error:
            assert "\n" not in str(error)
