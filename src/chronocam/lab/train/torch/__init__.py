"""Training with PyTorch and Lightning: batches, the loop, weights to start from."""
