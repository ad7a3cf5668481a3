import logging

import numpy as np
import pytest

from featherpose.errors import DeviceError, InputError, ModelError
from featherpose.runtime import session as session_file
from featherpose.runtime.session import Session, run_plain
from featherpose.size import Size
from featherpose.skeleton import MPII16
from tests.tiny_model import tiny_image_manifest, tiny_image_model, tiny_manifest, tiny_model

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    return Session.open(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"), "cpu", threads=1)


def opened(session: Session) -> list[tuple[int, ...]]:
    """The sizes for which a session has engines, in the order in which they were opened."""
    return [sizes for _, sizes in session._engines]


def crops(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (number, 64, 48, 3), np.uint8)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 7, 8, 13])
def test_output_shapes_for_any_batch_size(session, number):
    outputs = session.run(crops(number))
    shapes = {"keypoints": (number, 17, 2), "scores": (number, 17), "heatmaps": (number, 17, 16, 12)}
    assert {name: array.shape for name, array in outputs.items()} == shapes
    assert {array.dtype for array in outputs.values()} == {np.dtype(np.float32)}


def test_result_is_independent_of_batch(session):
    batch = crops(7)
    together = session.run(batch)
    alone = [session.run(batch[i : i + 1]) for i in range(7)]
    for name, output in together.items():
        assert np.abs(output - np.concatenate([outputs[name] for outputs in alone])).max() < 1e-6


def test_batches_are_split_and_engines_lazy(tmp_path):
    fresh = Session.open(tiny_model(tmp_path / "m.onnx"), "cpu", threads=1)
    assert opened(fresh) == [(1,)]
    assert [stop - start for start, stop in fresh._splits(11)] == [4, 4, 1, 1, 1]
    fresh.run(crops(6))
    assert opened(fresh) == [(1,), (4,)]
    for (_, sizes), engine in fresh._engines.items():
        assert engine.get_inputs()[0].shape == [*sizes, 64, 48, 3], "a dynamic batch size would be slow"


def test_mirrored_views_are_accepted(session):
    batch = crops(2)
    view, copy = (session.run(crops)["scores"] for crops in (batch[:, :, ::-1], batch[:, :, ::-1].copy()))
    assert np.array_equal(view, copy)


@pytest.mark.parametrize(
    "wrong",
    [crops(1)[0], crops(1).astype(np.float32), np.zeros((1, 48, 64, 3), np.uint8), np.zeros((1, 3, 64, 48), np.uint8)],
)
def test_invalid_crops_raise(session, wrong):
    with pytest.raises(InputError, match=r"wanted uint8 \(N, 64, 48, 3\)"):
        session.run(wrong)


def test_heatmaps_are_optional(tmp_path):
    plain = Session.open(tiny_model(tmp_path / "m.onnx", heatmaps=False), "cpu", threads=1)
    assert {name: array.shape for name, array in plain.run(crops(0)).items()} == {
        "keypoints": (0, 17, 2),
        "scores": (0, 17),
    }


def image_of(persons: list[tuple[int, int]], height: int = 64, width: int = 96) -> np.ndarray:
    """(1, H, W, 3), gray, with a red square of 32 pixels for each person, given by its left and top."""
    image = np.full((1, height, width, 3), 128, np.uint8)
    for left, top in persons:
        image[0, top : top + 32, left : left + 32] = (255, 0, 0)
    return image


def image_session(folder, kind, **changes) -> Session:
    model = tiny_image_model(folder / "m.onnx", tiny_image_manifest(kind, **changes))
    return Session.open(model, "cpu", threads=1)


PERSONS = [[], [(64, 32)], [(0, 0), (64, 0), (32, 32)]]


@pytest.mark.parametrize("persons", PERSONS, ids=len)
def test_detector_outputs_vary_with_the_image(tmp_path, persons):
    session = image_session(tmp_path, "detector")
    outputs = session.run(image_of(persons))
    assert outputs["boxes_xyxy"].shape == (len(persons), 4) and outputs["scores"].shape == (len(persons),)
    assert outputs["boxes_xyxy"].tolist() == [[x, y, x + 31, y + 31] for x, y in persons]


@pytest.mark.parametrize("persons", PERSONS, ids=len)
def test_poses_outputs_vary_with_the_image(tmp_path, persons):
    session = image_session(tmp_path, "poses")
    number = len(persons)
    shapes = {"boxes_xyxy": (number, 4), "box_scores": (number,), "keypoints": (number, 17, 2), "scores": (number, 17)}
    assert {name: array.shape for name, array in session.run(image_of(persons)).items()} == shapes


def test_bottom_up_gives_the_maps_of_its_codec(tmp_path):
    session = image_session(tmp_path, "bottom_up")
    outputs = session.run(image_of([(64, 32)], height=96))
    assert {name: array.shape for name, array in outputs.items()} == {
        "heatmaps": (1, 17, 24, 24),
        "tags": (1, 17, 24, 24),
    }
    assert np.argwhere(outputs["heatmaps"][0, 0] > 0.9).min(axis=0).tolist() == [8, 16]


def test_engines_of_recent_image_sizes_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(session_file, "MAX_ENGINES", 4)
    session = image_session(tmp_path, "detector", long_side=640)
    assert opened(session) == [(480, 640)], "the size of most photographs is opened first"
    for height in (32, 64, 96):
        session.run(image_of([], height=height))
    session.run(image_of([], height=480, width=640))  # used again: the oldest is now 32 x 96
    session.run(image_of([], height=128))
    assert opened(session) == [(480, 640), (64, 96), (96, 96), (128, 96)]
    for (_, sizes), engine in session._engines.items():
        assert engine.get_inputs()[0].shape == [1, *sizes, 3], "free sides would be slow"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(image_of([])[0], id="no batch"),
        pytest.param(np.repeat(image_of([]), 2, axis=0), id="two images"),
        pytest.param(image_of([]).astype(np.float32), id="floats"),
        pytest.param(image_of([], height=65), id="height"),
        pytest.param(image_of([], width=0), id="no columns"),
    ],
)
def test_invalid_images_raise(tmp_path, wrong):
    session = image_session(tmp_path, "detector")
    with pytest.raises(InputError, match=r"input image is .*, wanted uint8 \(1, H, W, 3\), H and W multiples of 32"):
        session.run(wrong)


def test_unknown_device_raises(session):
    with pytest.raises(DeviceError, match=r"Device 'gpu' is unknown, wanted one of auto, cpu, cuda"):
        Session.open(session.path, "gpu")


def test_unavailable_cuda_raises(session, monkeypatch):
    monkeypatch.setattr(session_file.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"built for the CPU only; type: .*pip install onnxruntime-gpu"):
        Session.open(session.path, "cuda")


class FallbackSession:
    """An engine that falls back from CUDA to the CPU, as onnxruntime-gpu does without its libraries."""

    def __init__(self, *args, **options):
        pass

    def get_providers(self):
        return ["CPUExecutionProvider"]


def test_missing_cuda_libraries_raise(session, monkeypatch):
    monkeypatch.setattr(session_file.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(session_file.onnxruntime, "InferenceSession", FallbackSession)
    monkeypatch.setattr(session_file.onnxruntime, "preload_dlls", lambda: None, raising=False)
    with pytest.raises(DeviceError, match=r"libraries could not be loaded\. Type: pip install 'onnxruntime-gpu\[cuda"):
        Session.open(session.path, "cuda")


def test_cuda_driver_failure_raises(session, monkeypatch):
    def engine(*args, **options):
        raise session_file.engine_errors.EPFail("CUDA failure 35: driver version is insufficient\nand more")

    monkeypatch.setattr(session_file.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(session_file.onnxruntime, "InferenceSession", engine)
    monkeypatch.setattr(session_file.onnxruntime, "preload_dlls", lambda: None, raising=False)
    with pytest.raises(
        DeviceError, match=r"does not work here \(CUDA failure 35: driver version is insufficient\)\. Type"
    ):
        Session.open(session.path, "cuda")


def test_auto_falls_back_to_cpu_and_logs_once(session, monkeypatch, caplog):
    real = session_file.onnxruntime.InferenceSession

    def engine(path, options, providers):
        return FallbackSession() if providers == ["CUDAExecutionProvider"] else real(path, options, providers=providers)

    monkeypatch.setattr(session_file.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(session_file.onnxruntime, "InferenceSession", engine)
    monkeypatch.setattr(session_file.onnxruntime, "preload_dlls", lambda: None, raising=False)
    session_file._log_once.cache_clear()
    with caplog.at_level(logging.INFO, "featherpose"):
        opened = [Session.open(session.path, "auto", threads=3) for _ in range(2)]
    assert [one.device for one in opened] == ["cpu", "cpu"]
    assert [record.message for record in caplog.records] == ["running on cpu, 3 threads"]


def test_threads_default_to_available(session, monkeypatch):
    monkeypatch.setattr(session_file, "available_threads", lambda: 1)
    assert Session.open(session.path, "cpu").threads == 1
    assert Session.open(session.path, "cpu", threads=2).threads == 2


def damaged(path, where: bytes, by: bytes):
    data = path.read_bytes()
    assert where in data
    path.write_bytes(data.replace(where, by))
    return path


def image_model(path, kind, **changes):
    """The graph of a kind, with a changed manifest."""
    whole = tiny_image_manifest(kind)
    return tiny_image_model(path, whole, metadata=tiny_image_manifest(kind, **changes).to_json())


def with_manifest(**changes):
    """A function that writes the same graph with a changed manifest."""
    return lambda path: tiny_model(path, metadata=tiny_manifest(**changes).to_json())


BROKEN = [
    ("an unknown operator", lambda p: damaged(tiny_model(p), b"AveragePool", b"AveragePoor"), "cannot load it"),
    ("a cut file", lambda p: p.write_bytes(tiny_model(p).read_bytes()[:-9]) and p, "not a complete ONNX file"),
    ("no manifest", lambda p: tiny_model(p, metadata=""), "no manifest"),
    (
        "another output name",
        lambda p: damaged(tiny_model(p), b"heatmaps", b"heatmapz"),
        r"heatmapz \(float32\); a model of kind pose has crops \(uint8\) -> keypoints, scores, heatmaps \(float32\)",
    ),
    (
        "manifest of another kind",
        lambda p: tiny_model(p, metadata=tiny_image_manifest("detector").to_json()),
        r"has crops \(uint8\), .*; a model of kind detector has image \(uint8\) -> boxes_xyxy, scores \(float32\)",
    ),
    (
        "maps that the codec does not name",
        lambda p: image_model(p, "bottom_up", codec={"name": "tiny", "maps": ["heatmaps"]}),
        r"tags \(float32\); a model of kind bottom_up has image \(uint8\) -> heatmaps \(float32\)",
    ),
    (
        "keypoints of another skeleton in an image",
        lambda p: image_model(p, "poses", skeleton=MPII16),
        r"keypoints is \['M', 17, 2\] in the graph, wanted \['M', 16, 2\]",
    ),
    (
        "manifest with another skeleton",
        with_manifest(skeleton=MPII16),
        r"\[1, 17, 2\] in the graph, wanted \[1, 16, 2\] by its manifest",
    ),
    (
        "manifest with another input size",
        with_manifest(input_size=Size(height=64, width=64)),
        r"wanted \[1, 64, 64, 3\] by its manifest",
    ),
    ("a fixed batch size", lambda p: tiny_model(p, batch=8), r"\[8, 64, 48, 3\] in the graph"),
    ("missing file", lambda p: p, "cannot be read"),
]


@pytest.mark.parametrize(("make", "message"), [pytest.param(*row[1:], id=row[0]) for row in BROKEN])
def test_broken_models_raise_in_one_line(tmp_path, make, message, capfd):
    with pytest.raises(ModelError, match=r"m\.onnx: .*" + message) as caught:
        Session.open(make(tmp_path / "m.onnx"), "cpu")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == "", "onnxruntime must not print its own log lines"


def test_plain_run_needs_no_manifest(tmp_path):
    path = tiny_model(tmp_path / "m.onnx", metadata="")
    outputs = run_plain(path, {"crops": crops(2)})
    wanted = Session.open(tiny_model(tmp_path / "with.onnx"), "cpu", threads=1).run(crops(2))
    assert outputs.keys() == wanted.keys()
    np.testing.assert_allclose(outputs["heatmaps"], wanted["heatmaps"], atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "inference failed .*crops"),
        ({"crops": crops(1)[:, :9]}, "inference failed"),
        ({"crops": crops(1).astype(np.float32)}, "inference failed"),
        ({"crop": crops(1)}, "inference failed"),
    ],
    ids=["nothing", "size", "type", "name"],
)
def test_plain_run_names_inputs_that_do_not_fit(inputs, message, tmp_path):
    with pytest.raises(ModelError, match=rf"m\.onnx: {message}"):
        run_plain(tiny_model(tmp_path / "m.onnx", metadata=""), inputs)


def test_plain_run_names_a_file_that_is_none(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"m\.onnx: onnxruntime cannot load it"):
        run_plain(tmp_path / "m.onnx", {})
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        run_plain(tmp_path / "none.onnx", {})
