"""Training with Keras: batches, checkpoints, weights to start from."""
