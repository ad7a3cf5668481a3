"""Convolutional Pose Machines against the published code, and the losses of its stages in training."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featherpose.codecs import CODECS
from featherpose.errors import ModelError
from featherpose.networks import NETWORKS, create_network, stride_of
from featherpose.networks.checkpoints import load_weights
from featherpose.networks.cpm import LATER_STAGES
from featherpose.recipes.pose import PoseRecipe, PoseStage
from featherpose.size import Size
from featherpose.training.distill import Teacher
from featherpose.training.losses import LOSSES, on_every_stage
from featherpose.training.tasks.pose import PoseLoss, codec_of
from featherpose.training.train_step import TrainStep

pytestmark = pytest.mark.torch

TOLERANCE = 1e-9  # float64, in standard deviations of the output
SIZE = Size(height=64, width=32)


@pytest.fixture(scope="module")
def record(reference):
    return reference("cpm")


@pytest.fixture(scope="module")
def small():
    """The network for five keypoints."""
    torch.manual_seed(0)
    return create_network("cpm", 5)


def test_state_dict_matches_the_published_one(record):
    with torch.device("meta"):
        model = create_network("cpm")
    assert [[k, list(v.shape)] for k, v in model.state_dict().items()] == record.facts["state_dict"]


@pytest.mark.slow
def test_output_matches_the_published_one(record, make_image):
    with torch.device("meta"):
        model = create_network("cpm")
    model = model.to_empty(device="cpu")
    load_weights(model, record.weights())
    with torch.no_grad():
        output = model.double().eval()(make_image(11, 1, 256, 192)).numpy()
    assert output.shape == (1, 17, 32, 24)
    idx, val = record.values("out_256x192")
    assert np.abs(output.reshape(-1)[idx] - val).max() < TOLERANCE * output.std()
    assert record.max_error_from_float32(output, "out_256x192") < 3e-6


def test_all_stages_in_train_mode_last_in_eval(small):
    image = torch.randn(2, 3, *SIZE.shape)
    with torch.no_grad():
        assert small.train()(image).shape == (1 + LATER_STAGES, 2, 5, 8, 4)
        last, stages = small.eval()(image), small.backbone(image)
    assert torch.equal(last, stages[-1])
    assert not torch.equal(stages[-1], stages[-2])


def test_size_must_be_a_multiple_of_the_stride(small):
    with pytest.raises(ModelError, match=r"60x32 .* multiples of 8, for example 64x32"):
        small(torch.zeros(1, 3, 60, 32))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_mean_over_the_stages(name):
    stages, targets, weights = torch.rand(3, 2, 10, 8, 4), torch.rand(2, 10, 8, 4), torch.rand(2, 10)
    loss = LOSSES[name]
    each = [loss(stage, targets, weights) for stage in stages]
    torch.testing.assert_close(on_every_stage(loss)(stages, targets, weights), sum(each) / 3)
    assert on_every_stage(loss)(stages[0], targets, weights) == each[0]


def batch():
    torch.manual_seed(1)
    crops = torch.randint(0, 256, (2, *SIZE.shape, 3), dtype=torch.uint8)
    return crops, torch.rand(2, 5, 8, 4), torch.ones(2, 5)


def test_every_stage_gets_its_own_gradient(small):
    model = copy.deepcopy(small).train()
    with torch.no_grad():
        for classifier in model.backbone.out_convs[-1]:  # the last stage outputs nothing and passes no gradient back
            classifier.conv.weight.zero_()
    TrainStep(model, PoseLoss("mse"), torch.device("cpu"))(batch())
    assert model.backbone.out_convs[0][1].conv.weight.grad.abs().max() > 0
    assert model.backbone.cpm_stages[-1].model[0].conv.weight.grad.abs().max() == 0


def test_distillation_reaches_every_stage(small):
    loss = PoseLoss("mse", Teacher(copy.deepcopy(small), 1.0))
    train_step = TrainStep(copy.deepcopy(small).train(), loss, torch.device("cpu"))
    crops, targets, weights = batch()
    assert torch.equal(train_step((crops, targets, weights)), train_step((crops, 0 * targets, weights)))


def test_teacher_of_other_stride_is_refused(small):
    teacher = Teacher(create_network("lite_hrnet_18", 5, width=8), 0.5)
    train_step = TrainStep(copy.deepcopy(small).train(), PoseLoss("mse", teacher), torch.device("cpu"))
    with pytest.raises(ModelError, match=r"teacher's heatmaps are \(16, 8\), the student's \(8, 4\)"):
        train_step(batch())


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("network", "stride"), [("cpm", 8), ("cbam_lite_hrnet_18", 4)])
def test_codec_stride_follows_the_network(network, stride, codec):
    found = codec_of(PoseRecipe(network=network, codec=codec), PoseStage(input_size=Size(height=128, width=96)))
    assert (found.stride, found.heatmap_size) == (stride, Size(height=128 // stride, width=96 // stride))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_stride_is_read_from_the_return_type(name):
    assert stride_of(name) == (8 if name == "cpm" else 4)


def test_stride_of_unknown_network_is_refused():
    with pytest.raises(ModelError, match=r"Unknown network 'cmp'\. Did you mean 'cpm'"):
        stride_of("cmp")
