"""Settings of a training run: one class per kind of network."""
