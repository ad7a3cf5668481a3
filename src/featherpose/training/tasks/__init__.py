"""What is learnt: a task makes people into batches and judges a network on the validation part."""
