"""Claims about maps of video networks."""
