"""Training data: reading data sets, samples (labeled persons), caching, and augmentation of their crops."""
