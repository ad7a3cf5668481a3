"""Inference without torch: a session runs an exported model, an estimator predicts keypoints in person boxes."""
