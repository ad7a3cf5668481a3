"""Training recipes: everything that decides the outcome of a run. No torch."""
