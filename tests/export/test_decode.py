"""The decoder inside the graph is the codec: in torch and in the engine, exactly, on maps full of ties and borders."""

from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from featherpose.codecs import CODECS, Msra
from featherpose.errors import ModelError
from featherpose.export.decode import TWINS, twin
from featherpose.export.onnx import to_onnx

pytestmark = pytest.mark.torch

SIZES = {"256x192": (192, 256), "384x288": (288, 384)}


def published(shared, tag):
    """(1, 71, h, w): 40 seeded maps and 31 with ties, peaks on borders, nothing above zero."""
    with np.load(shared / "parity" / "codecs.npz") as file:
        return (file[f"dec_{tag}_heatmaps_i16"] / np.float32(4096)).astype(np.float32)[None]


def tied(codec, n=4, joints=9, seed=5):
    """Maps of few different values: ties everywhere, many of them on the border, and maps without a positive cell."""
    width, height = codec.heatmap_size
    maps = np.random.default_rng(seed).integers(-3, 4, (n, joints, height, width)).astype(np.float32)
    maps[:, 0] = -np.abs(maps[:, 0])
    return maps


def in_torch(codec, maps):
    keypoints, scores = twin(codec)(torch.from_numpy(maps))
    return keypoints.numpy(), scores.numpy()


def same(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def test_every_codec_has_a_twin():
    assert set(TWINS) == set(CODECS)


@pytest.mark.parametrize("tag", SIZES)
def test_torch_decodes_the_published_maps_as_the_codec_does(shared, tag):
    codec, maps = Msra(SIZES[tag]), published(shared, tag)
    same(in_torch(codec, maps), codec.decode(maps))


@pytest.mark.parametrize("codec", [Msra((48, 64)), Msra((64, 48), stride=8), Msra((12, 12))], ids=str)
def test_torch_decodes_ties_as_the_codec_does(codec):
    maps = tied(codec)
    same(in_torch(codec, maps), codec.decode(maps))


def test_the_engine_decodes_as_the_codec_does(shared):
    codec, maps = Msra(SIZES["256x192"]), published(shared, "256x192")
    # every map at every place of a batch: 71 maps as one person of 71 joints, then mirrored and upside down
    people = np.concatenate([maps, maps[..., ::-1], maps[..., ::-1, :], tied(codec, 2, 71)])
    file = to_onnx(twin(codec).eval(), torch.from_numpy(people[:2].copy()), "heatmaps", ["keypoints", "scores"])
    engine = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    for n in (1, len(people)):
        same(engine.run(None, {"heatmaps": people[:n]}), codec.decode(people[:n]))


def test_nobody_gives_empty_joints():
    keypoints, scores = in_torch(Msra((48, 64)), np.zeros((0, 17, 16, 12), np.float32))
    assert (keypoints.shape, scores.shape) == ((0, 17, 2), (0, 17))


def test_a_codec_without_a_twin_is_refused():
    @dataclass(frozen=True)
    class Other(Msra):
        name = "msre"

    with pytest.raises(ModelError, match=r"Codec 'msre' has no decoder .* Did you mean 'msra'"):
        twin(Other((48, 64)))
