"""The Keras engine, on TensorFlow, JAX and PyTorch."""
