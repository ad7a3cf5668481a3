"""Every branch of the iterative head does its part: attention that closes would leave some without effect."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from featherpose.data.augment import Augmentation
from featherpose.networks import create_network
from featherpose.networks.preprocess import Normalize
from featherpose.recipes.pose import PoseData, PoseRecipe, PoseStage
from featherpose.size import Size
from featherpose.training.losses import mse
from featherpose.training.tasks.pose import PoseTask
from featherpose.training.tasks.pose_training import SampleDataset, draw_targets

pytestmark = [pytest.mark.torch, pytest.mark.slow]

CROPS, BATCH, STEPS = 64, 16, 60
OPTIONS = {"head": "iterative", "open_gates": True}


@pytest.fixture(scope="module")
def crops(shared: Path):
    """Normalized crops of photographs, target heatmaps, weights."""
    data = PoseData(folder=str(shared / "data/pose-train"), labels="ground_truth", sources=("coco",), keypoint_boxes=())
    recipe = PoseRecipe(stages=(PoseStage(input_size=Size(height=128, width=96), sigma=1.5),), data=data)
    stage = PoseTask(recipe, torch.device("cpu")).prepare(recipe.stages[0])
    dataset = SampleDataset(stage.training_set, stage.codec, Augmentation.none(), seed=0)
    images, *profiles = (torch.stack(part) for part in zip(*(dataset[0, i] for i in range(CROPS)), strict=True))
    return Normalize()(images), *draw_targets(tuple(profiles))


def test_no_branch_can_be_left_out(crops) -> None:
    images, heatmaps, weights = crops
    torch.manual_seed(0)
    network = create_network("cbam_lite_hrnet_18", **OPTIONS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for step in range(STEPS):
        batch = torch.arange(step * BATCH, (step + 1) * BATCH) % CROPS
        optimizer.zero_grad()
        mse(network(images[batch]), heatmaps[batch], weights[batch]).backward()
        optimizer.step()
    network.eval()

    def loss_without(branch: int | None) -> float:
        def silence(_, inputs):
            (maps,) = inputs
            return ([x * (number != branch) for number, x in enumerate(maps)],)

        hook = network.backbone.head_layer.register_forward_pre_hook(silence)
        with torch.no_grad():
            loss = mse(network(images), heatmaps, weights).item()
        hook.remove()
        return loss

    complete = loss_without(None)
    assert complete < 4e-3
    assert min(loss_without(branch) for branch in range(4)) > 1.02 * complete
