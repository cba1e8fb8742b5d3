"""Networks for pictures: their folders, their training with PyTorch and with Keras, their figures."""
