"""Networks for depth and motion, and their published checkpoints."""
