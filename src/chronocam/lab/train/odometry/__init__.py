"""Networks for depth and motion: their drives, their training and their figures."""
