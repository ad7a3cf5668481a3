"""From crops to keypoints: the network, the flip test, the Gaussian filter and the codec's decoding. Plain numpy."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from featherpose.codecs.heatmap import Array, Codec, gaussian_filter, merge_flipped


def keypoints_of_crops(
    heatmaps_of: Callable[[NDArray[np.uint8]], Array],
    crops: NDArray[np.uint8],
    codec: Codec,
    flip_order: NDArray[np.int64],
    *,
    flip_test: bool = False,
    blur_kernel: int = 0,
) -> tuple[Array, Array]:
    """Crops (N, H, W, 3) -> keypoints (N, K, 2) in crop pixels and scores (N, K).

    Args:
        heatmaps_of: the network, crops (N, H, W, 3) -> heatmaps (N, K, h, w).
        codec: decodes the heatmaps.
        flip_order: the skeleton's (K,) index array of the mirrored person.
        flip_test: average the heatmaps with those of the mirrored crops.
        blur_kernel: width in cells of the Gaussian filter applied to the heatmaps, odd; 0 for none.
    """
    heatmaps = heatmaps_of(crops)
    if flip_test:
        mirrored = heatmaps_of(np.ascontiguousarray(crops[:, :, ::-1]))
        heatmaps = merge_flipped(heatmaps, mirrored, flip_order, shift=codec.flip_shift)
    if blur_kernel:
        heatmaps = gaussian_filter(heatmaps, blur_kernel)
    return codec.decode(heatmaps)
