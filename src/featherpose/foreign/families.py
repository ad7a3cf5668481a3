"""The families of other projects' models that can be adopted."""

from featherpose.foreign import (
    boxes_scores_labels,
    heatmap,
    movenet,
    nanodet,
    picodet,
    rtmdet,
    rtmo,
    rtmpose,
    yolo_pose,
    yolox,
)
from featherpose.foreign.family import Family

FAMILIES: dict[str, Family] = {
    "rtmpose": rtmpose.FAMILY,
    "heatmap": heatmap.FAMILY,
    "movenet": movenet.FAMILY,
    "yolo-pose": yolo_pose.FAMILY,
    "rtmo": rtmo.FAMILY,
    "rtmdet": rtmdet.FAMILY,
    "yolox": yolox.FAMILY,
    "picodet": picodet.FAMILY,
    "nanodet": nanodet.FAMILY,
    "boxes-scores-labels": boxes_scores_labels.FAMILY,
}
"""Name of a family -> what it is."""
