"""Scores: what a model's poses are worth, by the rules of those who published the data."""
