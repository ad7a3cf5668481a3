"""In-graph decoders, the counterparts of `codecs`: heatmaps -> keypoints in standard ONNX operators.

Decoding is implemented twice, in numpy for the runtime and here for the exported file. `parity.check_parity` compares
the two for every exported file, and the tests compare them on maps with ties and peaks on borders.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from featherpose.codecs.heatmap import NEIGHBORS, Codec, Dark, Msra, Newton, Udp, blur_matrix
from featherpose.errors import ModelError, did_you_mean


class Decode(nn.Module):
    """Heatmaps (N, K, h, w) to keypoints (N, K, 2) in crop pixels and scores (N, K).

    The first maximum in row-major order is used, and (0, 0) where no cell is above zero; `offset` gives the keypoint's
    distance from it.
    """

    cell: Tensor

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.height, self.width = codec.heatmap_size.shape
        self.register_constant("cell", codec.cell)

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        flat = heatmaps.flatten(2)  # (N, K, h * w)
        scores = flat.amax(dim=2, keepdim=True)  # (N, K, 1)
        # Times 0 where no cell is above 0, which gives cell (0, 0).
        index = flat.argmax(dim=2, keepdim=True) * (scores > 0)  # (N, K, 1)
        x = index % self.width  # (N, K, 1)
        y = index // self.width  # (N, K, 1)
        peak = torch.cat((x, y), dim=2).to(heatmaps.dtype)  # (N, K, 2)
        keypoints = (peak + self.offset(heatmaps, x, y)) * self.cell  # (N, K, 2)
        return keypoints, scores.squeeze(2)

    def offset(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Heatmaps and the columns and rows (N, K, 1) of their largest cells -> offsets (N, K, 2) in cells."""
        raise NotImplementedError

    def register_constant(self, name: str, values: ArrayLike) -> None:
        """Register an array as a constant of the graph, int64 or float32."""
        array = np.asarray(values)
        if array.dtype != np.int64:
            array = array.astype(np.float32)
        self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def around(self, maps: Tensor, x: Tensor, y: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
        """Maps, cells (N, K, 1) and offsets (n,) from them -> values (N, K, n); border cells are replicated."""
        row_starts = (y + dy).clamp(0, self.height - 1) * self.width  # (N, K, n)
        columns = (x + dx).clamp(0, self.width - 1)  # (N, K, n)
        index = row_starts + columns
        return maps.flatten(2).gather(2, index)

    def has_margin(self, x: Tensor, y: Tensor, before: int, after: int) -> Tensor:
        """1.0 where a cell has `before` cells left of and above it, `after` cells right of and below it; else 0.0."""
        # A factor of 0 or 1 instead of a condition, which would split the graph.
        inside = (x >= before) & (x < self.width - after) & (y >= before) & (y < self.height - after)
        return inside.to(self.cell.dtype)


class DecodeMsra(Decode):
    """A quarter cell by the sign of the central difference, as in the official HRNet code (`get_final_preds`).

    Only for cells with at least two cells to the left and above and one to the right and below.
    """

    dx: Tensor
    dy: Tensor

    def __init__(self, codec: Msra) -> None:
        super().__init__(codec)
        self.register_constant("dx", NEIGHBORS[:, 0])
        self.register_constant("dy", NEIGHBORS[:, 1])

    def offset(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        right, left, below, above = self.around(heatmaps, x, y, self.dx, self.dy).chunk(4, dim=2)  # (N, K, 1) each
        slopes = torch.cat((right - left, below - above), dim=2)  # (N, K, 2)
        return 0.25 * torch.sign(slopes) * self.has_margin(x, y, 2, 1)


class DecodeNewton(Decode):
    """A Newton step on the logarithm of the blurred map, with the settings of DARK or UDP; see `codecs.heatmap.Newton`.

    The blur is one matrix product from the left and one from the right; the matrices include the border mode.
    """

    down: Tensor
    across: Tensor
    dx: Tensor
    dy: Tensor
    derivatives: Tensor

    def __init__(self, codec: Newton) -> None:
        super().__init__(codec)
        self.register_constant("down", blur_matrix(self.height, codec.kernel, codec.border))
        self.register_constant("across", blur_matrix(self.width, codec.kernel, codec.border).T)
        self.register_constant("dx", codec.square[:, 0])
        self.register_constant("dy", codec.square[:, 1])
        self.register_constant("derivatives", codec.derivatives.T)
        self.rescales = codec.rescales
        self.bounds = codec.bounds
        self.epsilon = codec.epsilon
        self.static_border = codec.static_border

    def offset(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        blurred = self.down @ heatmaps @ self.across  # (N, K, h, w)
        values = self.around(blurred, x, y, self.dx, self.dy)  # (N, K, n)
        # Rescaled after picking: n values of each map instead of h * w.
        if self.rescales:
            values = values * self._gain(heatmaps, blurred)
        low, high = self.bounds
        step = self._step(values.clamp(low, high).log())  # (N, K, 2)
        return step * self.has_margin(x, y, self.static_border, self.static_border)

    def _gain(self, before: Tensor, after: Tensor) -> Tensor:
        """Maps before and after the blur -> factors (N, K, 1) that restore the maxima."""
        maximum_before = before.flatten(2).amax(dim=2, keepdim=True)  # (N, K, 1)
        maximum_after = after.flatten(2).amax(dim=2, keepdim=True)  # (N, K, 1)
        return maximum_before / torch.where(maximum_after == 0, 1, maximum_after)

    def _step(self, logarithms: Tensor) -> Tensor:
        """Logarithms (N, K, n) -> step (N, K, 2); 0 where the determinant is 0."""
        x, y, xx, xy, yy = (logarithms @ self.derivatives).chunk(5, dim=2)  # (N, K, 1) each
        xx = xx + self.epsilon
        yy = yy + self.epsilon
        determinant = xx * yy - xy * xy  # (N, K, 1)
        step = torch.cat((xy * y - yy * x, xy * x - xx * y), dim=2)  # (N, K, 2)
        return torch.where(determinant == 0, 0, step / torch.where(determinant == 0, 1, determinant))


GRAPH_DECODERS: Mapping[type[Codec], Callable[[Any], nn.Module]] = {
    Msra: DecodeMsra,
    Dark: DecodeNewton,
    Udp: DecodeNewton,
}


def graph_decoder(codec: Codec) -> nn.Module:
    """Codec -> the in-graph counterpart of `codec.decode`, a module: heatmaps -> keypoints, scores."""
    if type(codec) not in GRAPH_DECODERS:
        raise ModelError(
            f"Codec {codec.name!r} has no decoder for the exported graph."
            f"{did_you_mean(codec.name, [known.name for known in GRAPH_DECODERS])}"
        )
    return GRAPH_DECODERS[type(codec)](codec)
