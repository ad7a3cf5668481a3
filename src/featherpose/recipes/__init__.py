"""Training recipes: everything that determines the result of a run. Imports no torch."""
