"""Boxes of persons inside a graph and, for the proof, in numpy: one function each, of the same name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featherpose import nms
from featherpose.foreign.family import Array
from featherpose.foreign.graph import Nodes


class BoxNodes:
    """Nodes on boxes (P, 4) and scores (P,) of a graph."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    def corners(self, centers: str, sides: str) -> str:
        """Centers (P, 2) and widths and heights (P, 2) -> boxes (P, 4) left, top, right, bottom."""
        half = self.nodes.add("Mul", sides, self.nodes.constant("half", 0.5))
        low = self.nodes.add("Sub", centers, half)
        high = self.nodes.add("Add", centers, half)
        return self.nodes.add("Concat", low, high, axis=1)

    def around(self, points: str, distances: str) -> str:
        """Points (P, 2) and distances (P, 4) to left, top, right, bottom -> boxes (P, 4)."""
        low = self.nodes.add("Sub", points, self.nodes.columns(distances, 0, 2, 1))
        high = self.nodes.add("Add", points, self.nodes.columns(distances, 2, 4, 1))
        return self.nodes.add("Concat", low, high, axis=1)

    def person_scores(self, classes: str, person: int) -> str:
        """Class scores (P, C) -> scores (P,) of persons, 0 where another class has a higher score."""
        best = self.nodes.maximum(classes, 1)
        column = self.nodes.columns(classes, person, person + 1, 1)
        is_best = self.nodes.cast(self.nodes.add("Equal", column, best), np.float32)
        return self.nodes.reshape(self.nodes.add("Mul", column, is_best), -1)

    def of_label(self, scores: str, labels: str, person: int, dtype: type[np.generic] = np.float32) -> str:
        """Scores and labels of `dtype`, P of each in any shape -> scores (P,), 0 where the label is not a person's."""
        of_person = self.nodes.add("Equal", labels, self.nodes.constant("person", person, dtype))
        return self.nodes.reshape(self.nodes.add("Mul", scores, self.nodes.cast(of_person, np.float32)), -1)

    def kept(self, scores: str) -> str:
        """Scores (P,) -> indices (M,) of those above the score of every graph, in their order."""
        return self.nodes.rows(self.nodes.add("Greater", scores, self.nodes.constant("score_limit", nms.MIN_SCORE)))

    def suppressed(self, boxes: str, scores: str, iou: float) -> str:
        """Boxes (P, 4) and scores (P,) -> indices (M,) after NMS, best first."""
        nodes = self.nodes
        limits = [
            nodes.integers(nms.MAX_BOXES),
            nodes.constant("iou_limit", [iou]),
            nodes.constant("score_limit", [nms.MIN_SCORE]),
        ]
        in_batch = nodes.reshape(boxes, 1, -1, 4)
        of_class = nodes.reshape(scores, 1, 1, -1)
        chosen = nodes.add("NonMaxSuppression", in_batch, of_class, *limits)
        return nodes.reshape(nodes.columns(chosen, 2, 3, 1), -1)

    def give(self, value: str, rows: str, output: str) -> None:
        """The rows of a value as an output of the graph."""
        self.nodes.add("Gather", value, rows, output=output, axis=0)

    def give_detections(self, boxes: str, scores: str, rows: str) -> None:
        """The rows of boxes (P, 4) and scores (P,) as the outputs of a detector."""
        self.give(boxes, rows, "boxes_xyxy")
        self.give(scores, rows, "scores")

    def give_poses(self, boxes: str, scores: str, keypoints: str, number: int, rows: str) -> None:
        """The rows of boxes (P, 4), their scores (P,) and keypoints (P, K, 3), x, y and score of `number` K, as the
        outputs of kind poses."""
        self.give(boxes, rows, "boxes_xyxy")
        self.give(scores, rows, "box_scores")
        self.give(self.nodes.columns(keypoints, 0, 2, 2), rows, "keypoints")
        self.give(self.nodes.reshape(self.nodes.columns(keypoints, 2, 3, 2), -1, number), rows, "scores")


def corners(centers: Array, sides: Array) -> Array:
    """As `BoxNodes.corners`."""
    half = sides * np.float32(0.5)
    return np.concatenate([centers - half, centers + half], axis=1).astype(np.float32)


def around(points: Array, distances: Array) -> Array:
    """As `BoxNodes.around`."""
    return np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)


def person_scores(classes: Array, person: int) -> Array:
    """As `BoxNodes.person_scores`."""
    return np.where(classes[:, person] >= classes.max(axis=1), classes[:, person], np.float32(0))


def kept(scores: Array) -> NDArray[np.int64]:
    """As `BoxNodes.kept`."""
    return np.flatnonzero(scores > nms.MIN_SCORE)


def suppressed(boxes: Array, scores: Array, iou: float) -> NDArray[np.int64]:
    """As `BoxNodes.suppressed`."""
    confident = kept(scores)
    return confident[nms.nms(boxes[confident], scores[confident], iou)[: nms.MAX_BOXES]]


def sigmoid(logits: Array) -> Array:
    """Logits (...) -> probabilities (...)."""
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def cell_corners(side: int, stride: int) -> Array:
    """Side of the input and stride of a map -> (P, 2) x, y of the top-left corner of each cell, row by row."""
    cells = math.ceil(side / stride)
    down, across = np.indices((cells, cells))
    return (np.stack([across, down], axis=-1).reshape(-1, 2) * stride).astype(np.float32)


def cells(side: int, strides: Sequence[int]) -> tuple[Array, Array]:
    """Side of the input and strides -> (P, 2) corners of the cells of all strides, and the stride of each, (P, 1)."""
    corners = [cell_corners(side, stride) for stride in strides]
    counts = [len(of_stride) for of_stride in corners]
    return np.concatenate(corners), np.repeat(np.array(strides, np.float32), counts)[:, None]
