"""FeatherPose: the body of EfficientNet-Lite0, which ImageNet has taught, with attention on four resolutions.

The head carries the idea of CBAM-LiteHRNet: attention on every resolution before the last layer.
"""

from __future__ import annotations

from featherpose.networks.efficientnet_lite0 import CHANNELS, efficientnet_lite0
from featherpose.networks.heads import PoseNetwork
from featherpose.networks.pyramid import PyramidHead, Stages

HEAD_CHANNELS = 48


def feather_pose(num_keypoints: int = 17, *, attention: str = "cbam") -> PoseNetwork:
    """FeatherPose: 1.9 M parameters; start it from an ImageNet checkpoint of EfficientNet-Lite0."""
    head = PyramidHead(CHANNELS, num_keypoints, hidden=HEAD_CHANNELS, attention=attention)
    return PoseNetwork(Stages(efficientnet_lite0()), head)
