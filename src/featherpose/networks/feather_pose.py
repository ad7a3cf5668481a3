"""FeatherPose: an EfficientNet-Lite0 backbone, pretrained on ImageNet, and an FPN over its four resolutions.

`attention=cbam` applies the idea of CBAM-LiteHRNet, attention on every resolution before the last layer; measurements
showed no gain here (docs/log/2026-11-29-candidates.md).
"""

from __future__ import annotations

from featherpose.networks.efficientnet_lite0 import CHANNELS, efficientnet_lite0
from featherpose.networks.fpn import FPNHead, Stages, check_channels
from featherpose.networks.heads import PoseNetwork


def feather_pose(num_keypoints: int = 17, *, attention: str = "none", head_channels: int = 128) -> PoseNetwork:
    """FeatherPose: 2.0 M parameters; initialize it from an ImageNet checkpoint of EfficientNet-Lite0.

    `head_channels` is the width of the FPN, a multiple of 16; otherwise ModelError.
    """
    check_channels("head_channels", head_channels)
    head = FPNHead(CHANNELS, num_keypoints, hidden=head_channels, attention=attention)
    return PoseNetwork(Stages(efficientnet_lite0()), head)
