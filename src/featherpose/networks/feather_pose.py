"""FeatherPose: the body of EfficientNet-Lite0, which ImageNet has taught, and a pyramid over its four resolutions.

`attention=cbam` carries the idea of CBAM-LiteHRNet to it, attention on every resolution before the last layer; it was
measured to earn nothing here (docs/log/2026-11-29-candidates.md).
"""

from __future__ import annotations

from featherpose.errors import ModelError
from featherpose.networks.efficientnet_lite0 import CHANNELS, efficientnet_lite0
from featherpose.networks.fpn import BLOCK, FPNHead, Stages
from featherpose.networks.heads import PoseNetwork


def feather_pose(num_keypoints: int = 17, *, attention: str = "none", head_channels: int = 128) -> PoseNetwork:
    """FeatherPose: 2.0 M parameters; start it from an ImageNet checkpoint of EfficientNet-Lite0.

    `head_channels` is the width of the pyramid, a multiple of 16; ModelError else.
    """
    if head_channels < BLOCK or head_channels % BLOCK:
        raise ModelError(f"head_channels is {head_channels}; wanted a multiple of {BLOCK}, which CPUs like.")
    head = FPNHead(CHANNELS, num_keypoints, hidden=head_channels, attention=attention)
    return PoseNetwork(Stages(efficientnet_lite0()), head)
