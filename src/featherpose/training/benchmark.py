"""Training throughput of a network on a machine: samples per second with and without data loading.

The step is that of `training.loop`: network, loss, optimizer, EMA weights, and the exchange of gradients where torchrun
started several processes. Throughput is then summed over all processes.
"""

from __future__ import annotations

import copy
import itertools
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featherpose import images
from featherpose.data.cache import Crops
from featherpose.data.folder import find_folder
from featherpose.data.sample import Location, Sample
from featherpose.data.shards import read_index
from featherpose.data.teacher import map_samples
from featherpose.errors import InputError
from featherpose.machine import available_threads, cpu_model
from featherpose.networks import create_network
from featherpose.recipes.pose import PoseRecipe
from featherpose.recipes.reading import from_dict
from featherpose.recipes.schedule import Epoch
from featherpose.size import Size
from featherpose.skeleton import COCO17
from featherpose.training import loop
from featherpose.training.devices import open_device, pick_workers
from featherpose.training.ema import Ema
from featherpose.training.loader import load
from featherpose.training.ranks import Ranks, init_ranks
from featherpose.training.tasks.pose import PoseLoss, codec_of, network_options
from featherpose.training.tasks.pose_training import SampleDataset, TrainingSet, batch_draws, draw_targets
from featherpose.training.train_step import TrainStep

WARMUP_STEPS = 3
"""Warm-up steps that are not measured: memory is allocated, kernels are selected, the loader's queue fills."""
PREFETCHED_BATCHES = 2
"""Batches that a loader worker prefetches."""
MAX_SAMPLES = 1024
"""Maximum number of samples decoded from a folder: throughput can be measured without a whole epoch."""
SYNTHETIC_SAMPLES = 128
"""More crops than fit into a CPU cache."""
INPUT_SIZE = Size(height=256, width=192)
IMAGE_SIZE = Size(height=352, width=264)
"""Size of a synthetic sample's image: 1.5 times the box, as large as the largest of `pose-train`."""

Batch = tuple[Tensor, ...]
Step = Callable[[Batch, bool], bool]
"""Trains on a batch: batch and whether this process requests a stop -> whether all processes stop."""


@dataclass(frozen=True)
class Speed:
    """Samples per second over `steps` consecutive steps; `waiting`: fraction of the time spent waiting for batches."""

    samples_per_s: float
    waiting: float
    steps: int


@dataclass(frozen=True)
class TrainingSpeed:
    """Training throughput of a network, with everything that determines it."""

    network: str
    options: Mapping[str, Any]
    input_size: Size
    """In px."""
    batch_size: int
    """Samples per step, summed over all processes."""
    processes: int
    threads: int
    """Threads of each process."""
    workers: int
    """Data loading processes of each training process."""
    device: str
    precision: str
    compiled: bool
    data: str
    step: Speed
    """Training on the same batch repeatedly, without data loading."""
    loading: Speed
    """With data loading: crops from the cache, augmented and encoded by the workers."""
    peak_memory: int
    """Bytes of all training processes (on a GPU: GPU memory), without workers; 0 if the system does not report it."""
    machine: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain dict, serializable as JSON."""
        return asdict(self)


def training_speed(
    network: str,
    *,
    options: Mapping[str, Any] | None = None,
    input_size: Size = INPUT_SIZE,
    batch_size: int = 64,
    steps: int | None = None,
    seconds: float = 20.0,
    device: str = "auto",
    workers: int | None = None,
    threads: int | None = None,
    precision: str = "float32",
    compiled: bool = False,
    data: str | Path | None = None,
) -> TrainingSpeed:
    """Name of a network and its input size -> TrainingSpeed: `steps` or `seconds` without data loading,
    then as many steps with it.

    `precision` and `compiled` are those of a run. `data` is a folder of shards; by default, samples are synthetic.
    `threads` remains set for this process. InputError if `batch_size` is not divisible by the number of processes.
    """
    torch_device = open_device(device)
    if threads:
        torch.set_num_threads(threads)
    workers = pick_workers(torch_device) if workers is None else workers
    ranks = init_ranks(torch_device)
    if batch_size % ranks.count:
        raise InputError(f"--batch-size {batch_size} is not divisible by {ranks.count} processes; choose a multiple.")
    stages = [{"input_size": input_size, "batch_size": batch_size}]
    recipe = from_dict({"network": network, "options": options or {}, "stages": stages, "precision": precision})
    assert isinstance(recipe, PoseRecipe)
    # Windows cannot remove the memory-mapped crops while they are open; leftovers are no error.
    with TemporaryDirectory(prefix="featherpose-", ignore_cleanup_errors=True) as scratch:
        samples = open_samples(data, input_size, Path(scratch))
        step, loading = _measure_both(recipe, samples, steps, seconds, workers, torch_device, ranks, compiled)
    return TrainingSpeed(
        network=network,
        options=recipe.options,
        input_size=input_size,
        batch_size=batch_size,
        processes=ranks.count,
        threads=torch.get_num_threads(),
        workers=workers,
        device=str(torch_device),
        precision=precision,
        compiled=compiled,
        data=str(data or "synthetic"),
        step=step,
        loading=loading,
        peak_memory=int(ranks.gather(np.array([peak_memory(torch_device)])).sum()),
        machine=machine(),
    )


def _measure_both(
    recipe: PoseRecipe,
    samples: TrainingSet,
    steps: int | None,
    seconds: float,
    workers: int,
    torch_device: torch.device,
    ranks: Ranks,
    compiled: bool,
) -> tuple[Speed, Speed]:
    """Throughput without data loading for `steps` or `seconds`, then for as many steps with it."""
    stage = recipe.stages[0]
    train = _step(recipe, samples.skeleton.num_keypoints, torch_device, ranks, compiled)
    dataset = SampleDataset(samples, codec_of(recipe, stage), recipe.augmentation, recipe.seed)
    samples_per_rank = stage.batch_size // ranks.count

    def batches(count: int, workers: int) -> Iterable[Batch]:
        # More batches than needed, so that the workers are as busy at the end as in the middle of an epoch.
        num_batches = WARMUP_STEPS + count + PREFETCHED_BATCHES * max(1, workers)
        draws = batch_draws(samples, recipe.seed, Epoch(0, stage, 0, num_batches))
        return load(dataset, draws, workers, ranks, torch_device.type == "cuda")

    first_batch = next(iter(batches(1, 0)))
    same_batch = itertools.repeat(tuple(tensor.to(torch_device) for tensor in first_batch))
    step_only = measure_steps(train, same_batch, samples_per_rank, steps, seconds)
    # As many steps as before, not as many seconds: the number of batches of a loader is fixed.
    loading = measure_steps(train, batches(step_only.steps, workers), samples_per_rank, step_only.steps)
    return _combine_ranks(step_only, ranks), _combine_ranks(loading, ranks)


def _step(recipe: PoseRecipe, num_keypoints: int, torch_device: torch.device, ranks: Ranks, compiled: bool) -> Step:
    """The training step of `loop.train`."""
    torch.manual_seed(recipe.seed)
    network = create_network(recipe.network, num_keypoints, **network_options(recipe))
    network = loop.prepare_network(network, recipe, torch_device)
    ema = Ema(copy.deepcopy(network).eval(), network)
    optimizer = loop.make_optimizer(network, recipe.optimizer)
    loss_of = PoseLoss(recipe.loss)

    def loss(images: Tensor, outputs: Any, targets: Batch) -> Tensor:
        return loss_of(images, outputs, draw_targets(targets))

    train_step = TrainStep(network, loss, torch_device, recipe.precision, compiled)

    def step(batch: Batch, stop: bool) -> bool:
        optimizer.zero_grad()
        train_step(batch)
        stop = ranks.average_gradients(network, stop)
        optimizer.step()
        ema.update(recipe.ema_decay, 0)
        return stop

    return step


def measure_steps(
    step: Step, batches: Iterable[Batch], samples_per_rank: int, steps: int | None = None, seconds: float = 20.0
) -> Speed:
    """Step, batches and samples per batch in this process -> Speed over `steps` steps or, without them, `seconds`."""
    started = time.perf_counter()
    tick = started
    waited = 0.0
    done = -WARMUP_STEPS  # measured steps; negative during the warm-up
    for batch in batches:
        waited += time.perf_counter() - tick
        elapsed = time.perf_counter() - started
        enough = done + 1 >= steps if steps else done >= 0 and elapsed > seconds
        stop = step(batch, enough)
        done += 1
        if stop:
            break
        if done == 0:  # the warm-up is over
            _synchronize()
            started = time.perf_counter()
            waited = 0.0
        tick = time.perf_counter()
    _synchronize()
    elapsed = time.perf_counter() - started
    return Speed(samples_per_rank * done / elapsed, waited / elapsed, done)


def _synchronize() -> None:
    """Wait for the GPU, which runs asynchronously."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _combine_ranks(speed: Speed, ranks: Ranks) -> Speed:
    shares = ranks.gather(np.array([[speed.samples_per_s, speed.waiting]]))  # (processes, 2)
    samples_per_s = float(shares[:, 0].sum())
    waiting = float(shares[:, 1].mean())
    return replace(speed, samples_per_s=samples_per_s, waiting=waiting)


def open_samples(data: str | Path | None, size: Size, scratch: Path) -> TrainingSet:
    """Folder of shards, or None for synthetic samples, and the network's input size -> training set.

    Synthetic images and crops are written to the folder `scratch`, crops of a data set to the cache.
    """
    samples = _subsample(read_index(find_folder(data))) if data else synthetic_samples(scratch)
    crops = Crops.build(samples, size.height, None if data else scratch)
    # As in training: one skeleton is kept, several are mapped to COCO's.
    skeletons = {sample.skeleton for sample in samples}
    skeleton = skeletons.pop() if len(skeletons) == 1 else COCO17
    keypoints, visible = map_samples(samples, skeleton)
    boxes = np.array([sample.box_xywh for sample in samples], np.float32)
    rows = np.flatnonzero(crops.usable)
    weights = (visible[rows, None] > 0).astype(np.float32)
    keypoints_in_cache = crops.to_cache(keypoints)[rows, None]
    boxes_in_cache = crops.boxes_to_cache(boxes)[rows]
    return TrainingSet(crops, rows, keypoints_in_cache, weights, boxes_in_cache, skeleton)


def _subsample(samples: list[Sample]) -> list[Sample]:
    """At most `MAX_SAMPLES`, evenly spaced over the folder."""
    step = -(-len(samples) // MAX_SAMPLES)  # rounded up
    return samples[::step]


def synthetic_samples(folder: Path, count: int = SYNTHETIC_SAMPLES) -> list[Sample]:
    """Folder and count -> samples with COCO's keypoints at random positions, all in one image of colored squares."""
    rng = np.random.default_rng(0)
    size = np.array(IMAGE_SIZE.xy)
    squares = rng.integers(0, 256, (IMAGE_SIZE.height // 8, IMAGE_SIZE.width // 8, 3), np.uint8)
    file = folder / "squares.png"
    images.write(file, squares.repeat(8, axis=0).repeat(8, axis=1))
    box = np.concatenate([size / 6, size / 1.5]).astype(np.float32)
    keypoints = size * rng.uniform(1 / 6, 5 / 6, (count, COCO17.num_keypoints, 2))
    return [
        _synthetic_sample(f"synthetic-{i}", file, box, points.astype(np.float32)) for i, points in enumerate(keypoints)
    ]


def _synthetic_sample(key: str, file: Path, box: NDArray[np.float32], keypoints: NDArray[np.float32]) -> Sample:
    return Sample(
        key=key,
        image=key,
        source="synthetic",
        keypoints=keypoints,
        visibility=np.full(len(keypoints), 2, np.uint8),
        skeleton=COCO17,
        box_xywh=box,
        area=None,
        size=IMAGE_SIZE,
        scale=1.0,
        location=Location(file, 0, file.stat().st_size),
    )


def machine() -> dict[str, Any]:
    """Hardware and software that throughput depends on."""
    return {
        "cpu": cpu_model(),
        "cores": available_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def peak_memory(torch_device: torch.device) -> int:
    """Device -> peak memory of this process there so far, in bytes; 0 where the system does not report it."""
    if torch_device.type == "cuda":
        return torch.cuda.max_memory_allocated(torch_device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
