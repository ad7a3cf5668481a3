"""The door: a trained network leaves as one ONNX file that says what it is and is proven equal, or not at all."""

from featherpose.exporting.onnx import export
from featherpose.exporting.weights import export_weights, open_weights

__all__ = ["export", "export_weights", "open_weights"]
