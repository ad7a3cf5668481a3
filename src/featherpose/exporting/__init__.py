"""Export of a trained network to one ONNX file with its manifest, written only if the parity check passes."""

from featherpose.exporting.onnx import export
from featherpose.exporting.weights import export_weights, open_weights

__all__ = ["export", "export_weights", "open_weights"]
