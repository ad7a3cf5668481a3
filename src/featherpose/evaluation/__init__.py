"""Evaluation metrics of predicted poses, following the protocols published with the data sets."""
