"""Tasks: each loads its training data and evaluates a network on the validation set."""
