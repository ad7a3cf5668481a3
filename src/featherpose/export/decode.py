"""The twins of `codecs`: heatmaps to joints inside the graph, in operators that every ONNX engine has.

Decoding is written twice, in numpy for the runtime and here for the file; `parity.prove` compares the two on every
exported file and the tests compare them on maps full of ties and borders, so neither can drift.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from featherpose.codecs import Msra
from featherpose.errors import ModelError, did_you_mean


class DecodeMsra(nn.Module):
    """Heatmaps (N, K, h, w) to keypoints (N, K, 2) in crop pixels and scores (N, K): arg-max and a quarter of a cell.

    The rule of the official HRNet code (`get_final_preds`): the first maximum in row-major order wins; it moves by a
    quarter of a cell by the sign of the central difference if it has two cells of room to the left and above and one
    to the right and below; where nothing is above zero the joint is (0, 0).
    """

    last: Tensor

    def __init__(self, codec: Msra) -> None:
        super().__init__()
        self.width, self.height = codec.heatmap_size
        self.stride = float(codec.stride)
        self.register_buffer("last", torch.tensor([self.width - 1.0, self.height - 1.0]), persistent=False)

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        cells = heatmaps.flatten(2)
        index = cells.argmax(dim=2, keepdim=True)
        scores = cells.amax(dim=2, keepdim=True)
        peak = torch.cat((index % self.width, index // self.width), dim=2).to(heatmaps.dtype)
        peak = peak * (scores > 0).to(heatmaps.dtype)
        return (peak + 0.25 * self._slope(cells, index, peak)) * self.stride, scores.squeeze(2)

    def _slope(self, cells: Tensor, index: Tensor, peak: Tensor) -> Tensor:
        """Signs of the central differences in x and y (N, K, 2) at the peaks (N, K, 2); zero at the border."""
        steps = (index + 1, index + self.width, index - 1, index - self.width)
        # A neighbour outside the map is never used (see `inside`); the clamp only keeps its address valid.
        neighbours = cells.gather(2, torch.cat(steps, dim=2).clamp(0, self.width * self.height - 1))
        ahead, behind = neighbours.chunk(2, dim=2)
        inside = ((peak > 1) & (peak < self.last)).to(cells.dtype)
        return torch.sign(ahead - behind) * inside.amin(dim=2, keepdim=True)


TWINS: Mapping[str, Callable[[Msra], nn.Module]] = {"msra": DecodeMsra}


def twin(codec: Msra) -> nn.Module:
    """The module that decodes inside the graph as `codec.decode` does outside: heatmaps -> keypoints, scores."""
    if codec.name not in TWINS:
        raise ModelError(
            f"Codec {codec.name!r} has no decoder for the exported graph.{did_you_mean(codec.name, TWINS)}"
        )
    return TWINS[codec.name](codec)
