"""What a family of other projects' models is: its options, and the candidate that it makes of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from featherpose.errors import InputError, ModelError, did_you_mean
from featherpose.foreign.original import Original
from featherpose.manifest import ImageManifest, PoseManifest
from featherpose.size import Size
from featherpose.skeleton import SKELETONS, Skeleton

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Found:
    """Persons that a model found: boxes (M, 4) xyxy, their scores (M,), keypoints (M, K, 2), their scores (M, K).

    K is 0 for a detector.
    """

    boxes_xyxy: Array
    box_scores: Array
    keypoints: Array
    scores: Array

    @classmethod
    def of_boxes(cls, boxes_xyxy: Array, scores: Array) -> Found:
        """Of a detector."""
        number = len(scores)
        return cls(boxes_xyxy, scores, np.zeros((number, 0, 2), np.float32), np.zeros((number, 0), np.float32))

    def moved(self, move: Callable[[Array], NDArray[np.float64]]) -> Found:
        """The same persons with all points (..., 2) moved."""
        corners = move(self.boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
        points = move(self.keypoints)
        return Found(corners.astype(np.float32), self.box_scores, points.astype(np.float32), self.scores)


@dataclass(frozen=True)
class Placed:
    """An image as the original project feeds it: `canvas` uint8 (S, S, 3) RGB; input = factors * image + padding."""

    canvas: Pixels
    factors: tuple[float, float]
    padding: tuple[float, float] = (0, 0)

    def to_image(self, points: Array) -> NDArray[np.float64]:
        """Input pixels (..., 2) -> image pixels (..., 2), as the original project computes them."""
        return (np.asarray(points, np.float64) - self.padding) / self.factors


@dataclass(frozen=True, eq=False)
class PoseCandidate:
    """A wrapped pose model that is not proven yet.

    `published`: one crop uint8 (H, W, 3) RGB -> keypoints (K, 2) in crop pixels and scores (K,), by the original file
    and the project's own processing in numpy.
    """

    model: onnx.ModelProto
    manifest: PoseManifest
    published: Callable[[Pixels], tuple[Array, Array]]


@dataclass(frozen=True, eq=False)
class ImageCandidate:
    """A wrapped detector or one-stage pose model that is not proven yet.

    `place` puts an image into the input as the original project does; `published`: the canvas -> persons in input
    pixels, by the original file and the project's own processing in numpy.
    """

    model: onnx.ModelProto
    manifest: ImageManifest
    place: Callable[[Pixels], Placed]
    published: Callable[[Pixels], Found]


Candidate = PoseCandidate | ImageCandidate


@dataclass(frozen=True)
class Request:
    """What the user says about a file beside the family's options; `facts` are fields of any manifest."""

    facts: Mapping[str, Any]
    skeleton: Skeleton | None = None
    input_size: Size | None = None


@dataclass(frozen=True)
class Family:
    """A family of models.

    `layouts`: inputs and outputs of known files. `options`: a frozen dataclass of `option` fields. `make`: original,
    values of the options and request -> candidate; ModelError for a file of another layout.
    """

    sentence: str
    layouts: tuple[str, ...]
    options: type[Any]
    make: Callable[[Original, Any, Request], Candidate]


def option(default: Any, sentence: str, choices: Sequence[str] = ()) -> Any:
    """A field of a family's options: its default, what it says, and the words that it takes."""
    return dataclasses.field(default=default, metadata={"sentence": sentence, "choices": tuple(choices)})


def read_options(family: str, options: type[Any], given: Mapping[str, Any]) -> Any:
    """Values by name -> the family's options; InputError for an unknown name or a value of another type."""
    fields = {field.name: field for field in dataclasses.fields(options)}
    for name in given:
        if name not in fields:
            raise InputError(f"Family {family} has no option {name!r}.{did_you_mean(name, fields)}")
    return options(**{name: _read_value(family, fields[name], value) for name, value in given.items()})


def _read_value(family: str, field: dataclasses.Field[Any], value: Any) -> Any:
    default = field.default
    choices = field.metadata["choices"]
    if choices and value not in choices:
        raise InputError(f"Option {field.name} of {family} is {value!r}.{did_you_mean(str(value), choices)}")
    if isinstance(default, tuple):
        numbers = value if isinstance(value, list | tuple) else [value]
        if len(numbers) == 3 and all(_is_number(number) for number in numbers):
            return tuple(float(number) for number in numbers)
        raise InputError(f"Option {field.name} of {family} is {value!r}, wanted three numbers, such as [0, 0, 0].")
    if isinstance(default, float) and _is_number(value):
        return float(value)
    if type(value) is not type(default):
        raise InputError(f"Option {field.name} of {family} is {value!r}, wanted a value such as {default!r}.")
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def skeleton_of(request: Request, keypoints: int, default: Skeleton, original: Original) -> Skeleton:
    """The skeleton that the user names, or the family's; InputError where the file has another number of keypoints."""
    skeleton = request.skeleton or default
    if skeleton.num_keypoints != keypoints:
        fitting = [known.name for known in SKELETONS.values() if known.num_keypoints == keypoints]
        named = f"such as {', '.join(fitting)}" if fitting else "a YAML file"
        raise InputError(
            f"{original.path}: {keypoints} keypoints, but skeleton {skeleton.name!r} has {skeleton.num_keypoints}; name"
            f" the skeleton of its training data, {named}."
        )
    return skeleton


def input_size(original: Original, request: Request, height: int, width: int) -> Size:
    """Axes of height and width of the first input -> the size that the file has, or that the user gives.

    InputError where neither has one, or both differ.
    """
    sides = original.inputs[0].shape[height], original.inputs[0].shape[width]
    fixed = [side for side in sides if isinstance(side, int)]
    given = request.input_size
    if len(fixed) < 2 and given is None:
        raise InputError(f"{original.path}: takes inputs of any size; give the one it was trained for as input_size.")
    size = given if len(fixed) < 2 else Size(height=fixed[0], width=fixed[1])
    if size is None or (given is not None and given != size):
        raise InputError(f"{original.path}: takes inputs of {size}, not of {given}; leave input_size out.")
    return size


def square_side(original: Original, request: Request, height: int, width: int) -> int:
    """As `input_size`, for a model that takes a square: its side in px."""
    size = input_size(original, request, height, width)
    if size.height != size.width or size.height % 32:
        raise ModelError(f"{original.path}: takes inputs of {size}; wanted a square, its side a multiple of 32.")
    return size.width


def planar_input(original: Original) -> str:
    """Name of the only input, (batch, 3, H, W), batch 1 or open; ModelError for other inputs."""
    first = original.inputs[0]
    if len(original.inputs) != 1 or len(first.shape) != 4 or first.shape[1] != 3:
        raise misfit(original, "wanted one input (batch, 3, H, W).")
    one_image_at_a_time(original)
    return first.name


def one_image_at_a_time(original: Original) -> None:
    """ModelError for a file of a fixed batch size above 1."""
    batch = original.inputs[0].shape[0]
    if isinstance(batch, int) and batch != 1:
        raise ModelError(f"{original.path}: takes {batch} images at a time; export it with a batch size of 1.")


def misfit(original: Original, reason: str) -> ModelError:
    """Why a file is not of the family -> the error."""
    return ModelError(f"{original.path}: {reason}")
