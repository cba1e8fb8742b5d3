"""Networks for clips: their training and their figures."""
