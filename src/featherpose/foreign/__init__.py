"""Models of other projects (ONNX): each family wraps their graph into a file of featherpose, proven equal."""
