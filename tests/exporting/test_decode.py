"""The in-graph decoder equals the codec, in torch and in onnxruntime, on maps with ties and peaks on borders.

Bit-equal where it only compares values, to float32 precision where it computes.
"""

from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from featherpose.codecs import CODECS
from featherpose.codecs.heatmap import Dark, Msra, Udp
from featherpose.errors import ModelError
from featherpose.exporting.decode import GRAPH_DECODERS, graph_decoder
from featherpose.exporting.onnx import to_onnx
from featherpose.exporting.parity import slack
from featherpose.size import Size

pytestmark = pytest.mark.torch

SIZES = {tag: Size.of(tag) for tag in ("256x192", "384x288")}


def published(parity, tag):
    """(1, 71, h, w): 40 seeded maps and 31 with ties, peaks on borders or no cell above zero."""
    with np.load(parity / "codecs.npz") as file:
        return (file[f"dec_{tag}_heatmaps_i16"] / np.float32(4096)).astype(np.float32)[None]


def tied(codec, n=4, keypoints=9, seed=5):
    """Maps with few distinct values: many ties, also on the border, and maps without a positive cell."""
    height, width = codec.heatmap_size.shape
    maps = np.random.default_rng(seed).integers(-3, 4, (n, keypoints, height, width)).astype(np.float32)
    maps[:, 0] = -np.abs(maps[:, 0])
    return maps


def decode_in_torch(codec, maps):
    keypoints, scores = graph_decoder(codec)(torch.from_numpy(maps))
    return keypoints.numpy(), scores.numpy()


CODEC = {"msra": Msra, "dark": Dark, "udp": Udp}
"""All codecs in the order of the tests; the first test checks that none is missing."""


def gaussians(codec, keypoints=71, seed=6):
    """(1, K, h, w): Gaussians anywhere on the map and slightly outside, some weak, all with noise."""
    rng, (height, width) = np.random.default_rng(seed), codec.heatmap_size.shape
    places = rng.uniform((-3, -3), (width + 2, height + 2), (keypoints, 2)) * codec.cell
    maps = codec.encode(places, np.ones(keypoints))[0] * rng.uniform(0.05, 1, (keypoints, 1, 1))
    return (maps + 0.001 * rng.standard_normal(maps.shape)).astype(np.float32)[None]


def assert_equals_codec(codec, got, wanted, heatmaps):
    """msra only compares: bit-equal. The others compute in float32: within the tolerance of the parity check."""
    assert got[0].dtype == wanted[0].dtype == np.float32
    np.testing.assert_array_equal(got[1], wanted[1])
    assert (np.abs(got[0] - wanted[0]).max(axis=-1) <= slack(codec, heatmaps)).all()


def test_every_codec_has_graph_decoder():
    assert set(GRAPH_DECODERS) == set(CODECS.values()) == set(CODEC.values())


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize("kind", CODEC.values(), ids=CODEC)
def test_torch_equals_codec_on_published_maps(parity, tag, kind):
    codec, maps = kind(SIZES[tag]), published(parity, tag)
    got, wanted = decode_in_torch(codec, maps), codec.decode(maps)
    assert_equals_codec(codec, got, wanted, maps)
    steep = np.ptp(maps, axis=(2, 3)) > 0
    assert np.abs(got[0] - wanted[0])[steep].max() < 1e-4, "float32 precision unless the map is flat"


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize(
    ("kind", "form", "tolerance"),
    [(Msra, "quarter_hrnet", 0), (Dark, "dark_darkpose", 1e-4), (Udp, "udp_udppose_k11", 1e-3)],
    ids=CODEC,
)
def test_torch_equals_published_decoding(parity, tag, kind, form, tolerance):
    with np.load(parity / "codecs.npz") as file:
        wanted = file[f"dec_{tag}_{form}_heatmap"]
    codec, maps = kind(SIZES[tag]), published(parity, tag)
    usual = (maps.max(axis=(2, 3)) > 0) & (np.ptp(maps, axis=(2, 3)) > 0)  # elsewhere, UDP's code reads outside the map
    found = decode_in_torch(codec, maps)[0] / codec.cell
    np.testing.assert_allclose(found[usual], wanted[usual[0]], rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [Size(height=64, width=48), Size(height=128, width=96)], ids=str)
@pytest.mark.parametrize("kind", CODEC.values(), ids=CODEC)
def test_torch_equals_codec_on_ties_and_borders(kind, size):
    codec = kind(size)
    for maps in (tied(codec), gaussians(codec)):
        assert_equals_codec(codec, decode_in_torch(codec, maps), codec.decode(maps), maps)


@pytest.mark.parametrize(
    "codec",
    [
        Msra(Size(height=48, width=64), stride=8),
        Msra(Size(height=12, width=12)),
        Dark(Size(height=48, width=64), stride=8),
    ],
    ids=str,
)
def test_torch_equals_codec_on_small_maps(codec):
    maps = tied(codec)
    assert_equals_codec(codec, decode_in_torch(codec, maps), codec.decode(maps), maps)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("kind", CODEC.values(), ids=CODEC)
def test_nonpositive_map_decodes_to_origin(kind, value):
    keypoints, scores = decode_in_torch(kind(Size(height=64, width=48)), np.full((2, 3, 16, 12), value, np.float32))
    np.testing.assert_array_equal(keypoints, 0)
    np.testing.assert_array_equal(scores, value)


@pytest.mark.parametrize("kind", CODEC.values(), ids=CODEC)
def test_onnxruntime_equals_codec(parity, kind):
    codec, maps = kind(SIZES["256x192"]), published(parity, "256x192")
    # 71 maps as one person with 71 keypoints, then mirrored and upside down, at every position of a batch
    batch = np.concatenate([maps, maps[..., ::-1], maps[..., ::-1, :], tied(codec, 2, 71), gaussians(codec), 0 * maps])
    file = to_onnx(graph_decoder(codec).eval(), torch.from_numpy(batch[:2].copy()), "heatmaps", ["keypoints", "scores"])
    engine = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, len(batch)):
        got, wanted = engine.run(None, {"heatmaps": batch[:n]}), codec.decode(batch[:n])
        assert_equals_codec(codec, got, wanted, batch[:n])
        assert np.median(np.abs(got[0] - wanted[0])) < 2e-5
    assert_float32_and_int64_only(file)


def assert_float32_and_int64_only(file):
    kinds = {value.type.tensor_type.elem_type for value in (*file.graph.value_info, *file.graph.output)}
    kinds |= {constant.data_type for constant in file.graph.initializer}
    assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL}


@pytest.mark.parametrize("kind", CODEC.values(), ids=CODEC)
def test_empty_batch_gives_empty_keypoints(kind):
    keypoints, scores = decode_in_torch(kind(Size(height=64, width=48)), np.zeros((0, 17, 16, 12), np.float32))
    assert (keypoints.shape, scores.shape) == ((0, 17, 2), (0, 17))


def test_codec_without_graph_decoder_raises():
    @dataclass(frozen=True)
    class Other(Msra):
        name = "msre"

    with pytest.raises(ModelError, match=r"Codec 'msre' has no decoder .* Did you mean 'msra'"):
        graph_decoder(Other(Size(height=64, width=48)))
